//! Statements on the schema, and DESCRIBE.

use super::{Constant, QualifiedName, Relation, Selection, Term, TypeName};

/// `name = value` after WITH. Names are in lower case unless quoted; they may repeat, which is for the caller to refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// For example `gc_grace_seconds`, `custom_properties`, `id`.
    pub name: String,
    /// The value.
    pub value: PropertyValue,
}

/// The right side of a property. Maps nest for the Keyspaces forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyValue {
    /// A constant.
    Constant(Constant),
    /// A bare word, which must be one of the unreserved keywords.
    Keyword(String),
    /// `{'key': value}`, keys unique.
    Map(Vec<(Constant, PropertyValue)>),
}

impl PropertyValue {
    /// The raw text of a constant or word; nothing for a map.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Constant(constant) => Some(constant.text()),
            Self::Keyword(word) => Some(word),
            Self::Map(_) => None,
        }
    }

    /// The entries of a map.
    #[must_use]
    pub fn map(&self) -> Option<&[(Constant, Self)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }
}

/// `CREATE KEYSPACE`; `TAGS` are among the properties.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateKeyspace {
    pub name: String,
    pub if_not_exists: bool,
    pub properties: Vec<Property>,
}

/// `ALTER KEYSPACE`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AlterKeyspace {
    pub name: String,
    pub if_exists: bool,
    pub change: KeyspaceChange,
}

/// What ALTER KEYSPACE changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyspaceChange {
    /// `WITH ...`
    Properties(Vec<Property>),
    /// `ADD TAGS {...}`
    AddTags(PropertyValue),
    /// `DROP TAGS {...}`
    DropTags(PropertyValue),
}

/// `CREATE TABLE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// The table.
    pub name: QualifiedName,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// In order; names may repeat, which is for the caller to refuse.
    pub columns: Vec<ColumnDefinition>,
    /// Each `PRIMARY KEY` that was written, inline or as a clause, in order. Exactly one is right; none or more is for the
    /// caller to refuse.
    pub primary_keys: Vec<PrimaryKey>,
    /// `WITH ...` except the two below.
    pub properties: Vec<Property>,
    /// `CLUSTERING ORDER BY`: the column, and whether descending.
    pub clustering_order: Vec<(String, bool)>,
    /// `COMPACT STORAGE`
    pub compact_storage: bool,
}

/// A column of CREATE TABLE and ALTER TABLE ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TypeName,
    /// `STATIC`
    pub is_static: bool,
    /// `MASKED WITH ...`
    pub mask: Option<Mask>,
}

/// `MASKED WITH f(args)`; `MASKED WITH DEFAULT` is `mask_default()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// The masking function.
    pub function: QualifiedName,
    /// Its arguments after the column.
    pub arguments: Vec<Term>,
}

/// `PRIMARY KEY ((a, b), c)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// At least one.
    pub partition_key: Vec<String>,
    /// May be empty.
    pub clustering: Vec<String>,
}

/// `CREATE TABLE a LIKE b`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateTableLike {
    pub name: QualifiedName,
    pub source: QualifiedName,
    pub if_not_exists: bool,
    /// `WITH INDEXES`
    pub indexes: bool,
    pub properties: Vec<Property>,
}

/// `ALTER TABLE`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AlterTable {
    pub name: QualifiedName,
    pub if_exists: bool,
    pub change: TableChange,
}

/// What ALTER TABLE changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TableChange {
    /// `ALTER c TYPE t`
    AlterType { column: String, ty: TypeName },
    /// `ALTER c MASKED WITH ..`, `ALTER c DROP MASKED`
    AlterMask { column: String, if_exists: bool, mask: Option<Mask> },
    /// `ADD ..`
    AddColumns { if_not_exists: bool, columns: Vec<ColumnDefinition> },
    /// `DROP ..`; the timestamp is the text of the integer.
    DropColumns { if_exists: bool, columns: Vec<String>, timestamp: Option<String> },
    /// `RENAME a TO b AND ..`
    RenameColumns { if_exists: bool, renames: Vec<(String, String)> },
    /// `DROP COMPACT STORAGE`
    DropCompactStorage,
    /// `WITH ..`
    Properties(Vec<Property>),
    /// `ADD TAGS {..}`
    AddTags(PropertyValue),
    /// `DROP TAGS {..}`
    DropTags(PropertyValue),
}

/// `RESTORE TABLE a FROM TABLE b [WITH ..]`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RestoreTable {
    pub name: QualifiedName,
    pub source: QualifiedName,
    pub properties: Vec<Property>,
}

/// `CREATE TYPE`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateType {
    pub name: QualifiedName,
    pub if_not_exists: bool,
    pub fields: Vec<(String, TypeName)>,
}

/// `ALTER TYPE`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AlterType {
    pub name: QualifiedName,
    pub if_exists: bool,
    pub change: TypeChange,
}

/// What ALTER TYPE changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TypeChange {
    AlterField { field: String, ty: TypeName },
    AddField { if_not_exists: bool, field: String, ty: TypeName },
    RenameFields { if_exists: bool, renames: Vec<(String, String)> },
}

/// `CREATE [CUSTOM] INDEX`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateIndex {
    pub custom: bool,
    pub if_not_exists: bool,
    /// None: the server names it.
    pub name: Option<String>,
    pub table: QualifiedName,
    pub targets: Vec<IndexTarget>,
    /// `USING '..'`
    pub using: Option<String>,
    pub properties: Vec<Property>,
}

/// What an index indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexTarget {
    /// The column.
    pub column: String,
    /// Which part of it.
    pub part: IndexedPart,
}

/// Which part of a column is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IndexedPart {
    /// No word: the value, or a collection's values.
    Simple,
    Values,
    Keys,
    Entries,
    Full,
}

/// `CREATE MATERIALIZED VIEW`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateMaterializedView {
    pub name: QualifiedName,
    pub if_not_exists: bool,
    pub selection: Selection,
    pub base: QualifiedName,
    pub where_clause: Vec<Relation>,
    pub primary_key: PrimaryKey,
    pub properties: Vec<Property>,
    pub clustering_order: Vec<(String, bool)>,
}

/// `CREATE FUNCTION`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateFunction {
    pub name: QualifiedName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub arguments: Vec<(String, TypeName)>,
    /// `CALLED ON NULL INPUT`
    pub called_on_null_input: bool,
    pub returns: TypeName,
    /// In lower case.
    pub language: String,
    pub body: String,
}

/// `DROP FUNCTION` and `DROP AGGREGATE`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct DropFunction {
    pub name: QualifiedName,
    pub if_exists: bool,
    /// None when no parentheses were written.
    pub argument_types: Option<Vec<TypeName>>,
}

/// `CREATE AGGREGATE`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateAggregate {
    pub name: QualifiedName,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub argument_types: Vec<TypeName>,
    pub state_function: String,
    pub state_type: TypeName,
    pub final_function: Option<String>,
    pub initial_condition: Option<Term>,
}

/// `CREATE TRIGGER`
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CreateTrigger {
    pub name: String,
    pub table: QualifiedName,
    pub class: String,
    pub if_not_exists: bool,
}

/// `DESCRIBE` or `DESC`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    /// What is described.
    pub target: DescribeTarget,
    /// `WITH INTERNALS`
    pub with_internals: bool,
}

/// What DESCRIBE names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DescribeTarget {
    Cluster,
    Schema {
        full: bool,
    },
    Keyspaces,
    /// None: the current keyspace.
    Keyspace {
        name: Option<String>,
        only: bool,
    },
    Tables,
    Table(QualifiedName),
    Index(QualifiedName),
    MaterializedView(QualifiedName),
    Types,
    Type(QualifiedName),
    Functions,
    Function(QualifiedName),
    Aggregates,
    Aggregate(QualifiedName),
    /// A bare name: keyspace, table, index or view, whichever there is.
    Any(QualifiedName),
}
