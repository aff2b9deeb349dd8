//! DESCRIBE as the server answers it: lists, and statements that make the schema again, in the
//! words of Cassandra 5.

mod create_statement;
mod identifier;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use cql_parser::ast::{Describe, DescribeTarget, QualifiedName};
use cql_types::CqlType;
use cql_types::collection::CollectionWriter;

use crate::database::{Database, Outcome, OutcomeKind, QueryParameters, Rows, Session};
use crate::error::{Error, Result};
use crate::metadata::{ColumnSpec, ResultMetadata};
use crate::schema::{Keyspace, Schema, Table};
use crate::system::cells::{self, Cell};
use crate::system::is_system_keyspace;
use create_statement::{keyspace_statement, table_statement, type_statement};
pub(crate) use identifier::identifier;

/// Bytes of a paging state: the row to go on with.
const PAGING_STATE_BYTES: usize = 8;

/// Columns of the answer.
pub(crate) fn metadata(describe: &Describe, session: &Session) -> Arc<ResultMetadata> {
    let text = |name: &'static str| (name, CqlType::Text);
    let columns = match &describe.target {
        DescribeTarget::Cluster => {
            let mut columns = vec![text("cluster"), text("partitioner"), text("snitch")];
            if shows_ranges(session) {
                let owners = CqlType::List(Arc::new(CqlType::Text)).frozen();
                columns.push((
                    "range_ownership",
                    CqlType::Map(Arc::new(CqlType::Text), Arc::new(owners)),
                ));
            }
            columns
        }
        DescribeTarget::Keyspaces
        | DescribeTarget::Tables
        | DescribeTarget::Types
        | DescribeTarget::Functions
        | DescribeTarget::Aggregates => vec![text("keyspace_name"), text("type"), text("name")],
        _ => vec![text("keyspace_name"), text("type"), text("name"), text("create_statement")],
    };
    let columns = columns
        .into_iter()
        .map(|(name, ty)| ColumnSpec {
            keyspace: "system".into(),
            table: "describe".into(),
            name: name.into(),
            ty,
        })
        .collect();
    Arc::new(ResultMetadata { columns })
}

fn shows_ranges(session: &Session) -> bool {
    session.keyspace.as_deref().is_some_and(|keyspace| !is_system_keyspace(keyspace))
}

/// Answers DESCRIBE, one page of it when the client asks for pages.
///
/// # Errors
/// Invalid, in Cassandra's words, for what there is not.
pub(crate) fn describe(
    database: &Database,
    describe: &Describe,
    parameters: &QueryParameters<'_>,
    session: &Session,
) -> Result<Outcome> {
    let rows = all_rows(database, describe, session)?;
    let start = match parameters.paging_state {
        None => 0,
        Some(state) => start_of_page(state)?,
    };
    let page =
        parameters.page_size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let end = page.map_or(rows.len(), |page| start.saturating_add(page).min(rows.len()));
    let shown = rows.get(start..end).unwrap_or_default();
    let mut content = BytesMut::new();
    for cell in shown.iter().flatten() {
        put_cell(&mut content, cell);
    }
    let next = u64::try_from(end).map_err(|_| Error::Server("too many rows".into()))?;
    let kind = OutcomeKind::Rows(Rows {
        metadata: metadata(describe, session),
        count: u32::try_from(shown.len()).map_err(|_| Error::Server("too many rows".into()))?,
        content: content.freeze(),
        paging_state: (end < rows.len()).then(|| Bytes::copy_from_slice(&next.to_be_bytes())),
    });
    Ok(kind.into())
}

fn start_of_page(state: &[u8]) -> Result<usize> {
    let state: [u8; PAGING_STATE_BYTES] = state
        .try_into()
        .map_err(|_| Error::Protocol("Invalid value for the paging state".into()))?;
    usize::try_from(u64::from_be_bytes(state))
        .map_err(|_| Error::Protocol("Invalid value for the paging state".into()))
}

fn put_cell(content: &mut BytesMut, cell: &Cell) {
    match cell.as_ref().and_then(|value| Some((value, i32::try_from(value.len()).ok()?))) {
        Some((value, length)) => {
            content.put_i32(length);
            content.extend_from_slice(value);
        }
        None => content.put_i32(-1),
    }
}

fn all_rows(database: &Database, describe: &Describe, session: &Session) -> Result<Vec<Vec<Cell>>> {
    let schema = database.schema();
    let printer =
        Printer { database, schema: &schema, session, internals: describe.with_internals };
    match &describe.target {
        DescribeTarget::Cluster => Ok(vec![printer.cluster()]),
        DescribeTarget::Keyspaces => Ok(printer.keyspaces()),
        DescribeTarget::Tables => {
            Ok(printer.list("table", |keyspace| keyspace.tables.keys().collect()))
        }
        DescribeTarget::Types => {
            Ok(printer.list("type", |keyspace| keyspace.schema.types.keys().collect()))
        }
        DescribeTarget::Functions | DescribeTarget::Aggregates => Ok(Vec::new()),
        DescribeTarget::Schema { full } => Ok(printer.schema(*full)),
        DescribeTarget::Keyspace { name, only } => {
            let name = printer.keyspace_name(name.as_deref())?;
            Ok(printer.keyspace(printer.present(&name)?, *only))
        }
        DescribeTarget::Table(name) => printer.table(name),
        DescribeTarget::Type(name) => printer.user_type(name),
        DescribeTarget::Index(name) => printer.nothing(name, |name, keyspace| {
            format!("Table for existing index '{name}' not found in '{keyspace}'")
        }),
        DescribeTarget::MaterializedView(name) => printer.nothing(name, |name, keyspace| {
            format!("Materialized view '{name}' not found in '{keyspace}'")
        }),
        DescribeTarget::Function(name) => printer.nothing(name, |name, keyspace| {
            format!("User defined function '{name}' not found in '{keyspace}'")
        }),
        DescribeTarget::Aggregate(name) => printer.nothing(name, |name, keyspace| {
            format!("User defined aggregate '{name}' not found in '{keyspace}'")
        }),
        DescribeTarget::Any(name) => printer.any(name),
    }
}

struct Printer<'a> {
    database: &'a Database,
    schema: &'a Schema,
    session: &'a Session,
    internals: bool,
}

impl Printer<'_> {
    fn keyspace_name(&self, name: Option<&str>) -> Result<String> {
        name.or(self.session.keyspace.as_deref())
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid("No keyspace specified and no current keyspace"))
    }

    fn present(&self, name: &str) -> Result<&Keyspace> {
        self.schema
            .keyspace(name)
            .map(|keyspace| &**keyspace)
            .ok_or_else(|| Error::Invalid(format!("'{name}' not found in keyspaces")))
    }

    fn cluster(&self) -> Vec<Cell> {
        let options = self.database.options();
        let mut row = vec![
            cells::text(&options.cluster_name),
            cells::text("Murmur3Partitioner"),
            cells::text("SimpleSnitch"),
        ];
        if shows_ranges(self.session) {
            let mut writer = CollectionWriter::map();
            for token in crate::system::tokens() {
                writer.push(token.as_bytes());
                writer.push(&cells::texts([options.listen.to_string()]).unwrap_or_default());
            }
            row.push(Some(writer.finish()));
        }
        row
    }

    fn keyspaces(&self) -> Vec<Vec<Cell>> {
        let names = self.schema.keyspaces.keys();
        names.map(|name| row(name, "keyspace", name, None)).collect()
    }

    /// Names of one kind, of the session's keyspace when there is one.
    fn list<'s>(
        &'s self,
        kind: &str,
        names: impl Fn(&'s Keyspace) -> Vec<&'s String>,
    ) -> Vec<Vec<Cell>> {
        let chosen = self.session.keyspace.as_deref();
        let keyspaces = self.schema.keyspaces.iter();
        keyspaces
            .filter(|(name, _)| chosen.is_none_or(|chosen| chosen == name.as_str()))
            .flat_map(|(keyspace, present)| {
                let mut names = names(present);
                names.sort_by_key(|name| name.to_lowercase());
                names.into_iter().map(|name| row(keyspace, kind, name, None)).collect::<Vec<_>>()
            })
            .collect()
    }

    fn schema(&self, full: bool) -> Vec<Vec<Cell>> {
        let keyspaces = self.schema.keyspaces.values();
        keyspaces
            .filter(|keyspace| full || !keyspace.is_system)
            .flat_map(|keyspace| self.keyspace(keyspace, false))
            .collect()
    }

    fn keyspace(&self, keyspace: &Keyspace, only: bool) -> Vec<Vec<Cell>> {
        let name = &keyspace.schema.name;
        let mut rows = vec![row(name, "keyspace", name, Some(keyspace_statement(keyspace)))];
        if only {
            return rows;
        }
        // a type comes after those it is made of
        for user_type in create_statement::types_in_order(keyspace) {
            rows.push(row(name, "type", &user_type.name, Some(type_statement(user_type))));
        }
        for (table_name, table) in &keyspace.tables {
            rows.push(row(name, "table", table_name, Some(self.statement(table))));
        }
        rows
    }

    fn statement(&self, table: &Table) -> String {
        let catalog = self.database.engine().catalog();
        let entry = catalog.tables.get(&table.schema.id);
        table_statement(&table.schema, entry.map(|entry| &*entry.key), self.internals)
    }

    fn table(&self, name: &QualifiedName) -> Result<Vec<Vec<Cell>>> {
        let keyspace = self.keyspace_name(name.keyspace.as_deref())?;
        let table = self.present(&keyspace)?.tables.get(&name.name).ok_or_else(|| {
            Error::Invalid(format!("Table '{}' not found in keyspace '{keyspace}'", name.name))
        })?;
        Ok(vec![row(&keyspace, "table", &name.name, Some(self.statement(table)))])
    }

    fn user_type(&self, name: &QualifiedName) -> Result<Vec<Vec<Cell>>> {
        let keyspace = self.keyspace_name(name.keyspace.as_deref())?;
        let types = &self.present(&keyspace)?.schema.types;
        let user_type = types.get(&name.name).ok_or_else(|| {
            Error::Invalid(format!("User defined type '{}' not found in '{keyspace}'", name.name))
        })?;
        Ok(vec![row(&keyspace, "type", &name.name, Some(type_statement(user_type)))])
    }

    fn nothing(
        &self,
        name: &QualifiedName,
        message: impl Fn(&str, &str) -> String,
    ) -> Result<Vec<Vec<Cell>>> {
        let keyspace = self.keyspace_name(name.keyspace.as_deref())?;
        self.present(&keyspace)?;
        Err(Error::Invalid(message(&name.name, &keyspace)))
    }

    fn any(&self, name: &QualifiedName) -> Result<Vec<Vec<Cell>>> {
        if name.keyspace.is_none()
            && let Some(keyspace) = self.schema.keyspace(&name.name)
        {
            return Ok(self.keyspace(keyspace, false));
        }
        let chosen = name.keyspace.as_deref().or(self.session.keyspace.as_deref());
        let Some(chosen) = chosen else {
            return Err(Error::Invalid(format!("'{}' not found in keyspaces", name.name)));
        };
        match self.present(chosen)?.tables.get(&name.name) {
            Some(table) => Ok(vec![row(chosen, "table", &name.name, Some(self.statement(table)))]),
            None => {
                Err(Error::Invalid(format!("'{}' not found in keyspace '{chosen}'", name.name)))
            }
        }
    }
}

fn row(keyspace: &str, kind: &str, name: &str, statement: Option<String>) -> Vec<Cell> {
    let mut row =
        vec![cells::text(&identifier(keyspace)), cells::text(kind), cells::text(&identifier(name))];
    if let Some(statement) = statement {
        row.push(cells::text(&statement));
    }
    row
}
