//! The syntax tree. Names are folded to lower case unless they were quoted; nothing is checked against a schema.

mod ddl;
mod dml;
mod permission;
mod term;
mod types;

pub use ddl::*;
pub use dml::*;
pub use permission::*;
pub use term::*;
pub use types::*;

/// One whole statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it does.
    pub kind: StatementKind,
    /// The bind markers in the order of the text: the name of `:name`, nothing for `?`.
    pub bind_markers: Vec<Option<String>>,
}

/// `[keyspace.]name`
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    /// The keyspace, if the statement named one.
    pub keyspace: Option<String>,
    /// The name.
    pub name: String,
}

/// What a statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum StatementKind {
    Select(Box<Select>),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Batch(Batch),
    /// `USE keyspace`
    Use(String),
    /// `TRUNCATE [TABLE] t`
    Truncate(QualifiedName),
    CreateKeyspace(CreateKeyspace),
    AlterKeyspace(AlterKeyspace),
    DropKeyspace {
        name: String,
        if_exists: bool,
    },
    CreateTable(CreateTable),
    CreateTableLike(CreateTableLike),
    AlterTable(AlterTable),
    DropTable {
        name: QualifiedName,
        if_exists: bool,
    },
    RestoreTable(RestoreTable),
    CreateType(CreateType),
    AlterType(AlterType),
    DropType {
        name: QualifiedName,
        if_exists: bool,
    },
    CreateIndex(CreateIndex),
    DropIndex {
        name: QualifiedName,
        if_exists: bool,
    },
    CreateMaterializedView(CreateMaterializedView),
    AlterMaterializedView {
        name: QualifiedName,
        if_exists: bool,
        properties: Vec<Property>,
    },
    DropMaterializedView {
        name: QualifiedName,
        if_exists: bool,
    },
    CreateFunction(CreateFunction),
    DropFunction(DropFunction),
    CreateAggregate(CreateAggregate),
    DropAggregate(DropFunction),
    CreateTrigger(CreateTrigger),
    DropTrigger {
        name: String,
        table: QualifiedName,
        if_exists: bool,
    },
    CreateRole(CreateRole),
    AlterRole(AlterRole),
    /// `DROP ROLE` and `DROP USER`
    DropRole {
        name: String,
        if_exists: bool,
    },
    GrantPermissions(ChangePermissions),
    RevokePermissions(ChangePermissions),
    GrantRole {
        role: String,
        grantee: String,
    },
    RevokeRole {
        role: String,
        revokee: String,
    },
    ListPermissions(ListPermissions),
    ListRoles {
        of: Option<String>,
        recursive: bool,
    },
    ListUsers,
    ListSuperUsers,
    AddIdentity {
        identity: String,
        role: String,
        if_not_exists: bool,
    },
    DropIdentity {
        identity: String,
        if_exists: bool,
    },
    Describe(Describe),
}
