//! From a text to a plan.

use std::sync::Arc;

use cql_parser::ast::{Batch, Describe, Modification, QualifiedName, Select, StatementKind};
use md5::{Digest, Md5};

use crate::bind::Markers;
use crate::database::{Database, Session};
use crate::error::{Error, Result};
use crate::execute::schema_change::SchemaChangePlan;
use crate::metadata::{BindMetadata, ResultMetadata};
use crate::plan::batch::{self, BatchPlan};
use crate::plan::modification::{self, ModificationPlan};
use crate::plan::select::{self, SelectPlan};
use crate::plan::term::TermContext;
use crate::schema::{Schema, Table};

/// Longest statement text, in bytes.
const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// A parsed, checked and planned statement.
#[derive(Debug)]
pub struct Prepared {
    /// MD5 of keyspace and text, as Cassandra.
    pub id: [u8; 16],
    /// Bind markers.
    pub bind: BindMetadata,
    /// Result columns; `None` when the statement returns no rows.
    pub result: Option<Arc<ResultMetadata>>,
    pub(crate) plan: Plan,
}

/// What a statement does.
#[derive(Debug)]
pub(crate) enum Plan {
    Select(Arc<SelectPlan>),
    Modification(Box<ModificationPlan>),
    Batch(BatchPlan),
    Use(String),
    Describe(Describe),
    /// The statement and its text.
    SchemaChange(Box<StatementKind>, Box<str>),
}

impl Prepared {
    /// The tables that the plan was made for.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        let (one, many) = match &self.plan {
            Plan::Select(plan) => (Some(&plan.table), &[][..]),
            Plan::Modification(plan) => (Some(&plan.table), &[][..]),
            Plan::Batch(plan) => (None, &plan.modifications[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().map(|plan| &plan.table))
    }
}

fn statement_id(cql: &str, session: &Session) -> [u8; 16] {
    let mut digest = Md5::new();
    digest.update(session.keyspace.as_deref().unwrap_or_default().as_bytes());
    digest.update(cql.as_bytes());
    digest.finalize().into()
}

/// Parses and plans a statement.
pub(crate) fn parse_and_prepare(
    database: &Database,
    cql: &str,
    session: &Session,
) -> Result<Arc<Prepared>> {
    if cql.len() > STATEMENT_BYTES_MAX {
        return Err(Error::invalid(format!(
            "statement is too long, bytes={} limit={STATEMENT_BYTES_MAX}",
            cql.len()
        )));
    }
    let statement = cql_parser::parse_statement(cql)
        .map_err(|error| Error::Syntax(error.message().to_owned()))?;
    let schema = database.schema();
    let id = statement_id(cql, session);
    let mut preparation =
        Preparation { schema: &schema, session, markers: Markers::new(statement.bind_markers) };
    let (plan, result) = match statement.kind {
        StatementKind::Select(select) => {
            let plan = Arc::new(preparation.select(&select)?);
            let result = Arc::clone(&plan.metadata);
            (Plan::Select(plan), Some(result))
        }
        StatementKind::Insert(insert) => preparation.modify(Modification::Insert(insert))?,
        StatementKind::Update(update) => preparation.modify(Modification::Update(update))?,
        StatementKind::Delete(delete) => preparation.modify(Modification::Delete(delete))?,
        StatementKind::Batch(batch) => (Plan::Batch(preparation.batch(&batch)?), None),
        StatementKind::Use(keyspace) => (Plan::Use(keyspace), None),
        StatementKind::Describe(describe) => {
            let metadata = crate::describe::metadata(&describe, session);
            (Plan::Describe(describe), Some(metadata))
        }
        other => {
            // Refuses at once what is not executed at all.
            SchemaChangePlan::new(&other, cql, session)?;
            (Plan::SchemaChange(Box::new(other), cql.into()), None)
        }
    };
    let key_table = match &plan {
        Plan::Select(plan) => Some(Arc::clone(&plan.table)),
        Plan::Modification(plan) => Some(Arc::clone(&plan.table)),
        Plan::Batch(plan) => plan.modifications.first().map(|plan| Arc::clone(&plan.table)),
        _ => None,
    };
    let bind = preparation.markers.finish(key_table.as_ref().map(|table| &*table.schema))?;
    Ok(Arc::new(Prepared { id, bind, result, plan }))
}

/// A statement while it is prepared.
struct Preparation<'a> {
    schema: &'a Schema,
    session: &'a Session,
    markers: Markers,
}

impl Preparation<'_> {
    fn table(&self, name: &QualifiedName) -> Result<Arc<Table>> {
        let keyspace = name.keyspace.as_deref().or(self.session.keyspace.as_deref()).ok_or_else(
            || {
                Error::invalid(
                    "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
                )
            },
        )?;
        if self.schema.keyspace(keyspace).is_none() {
            return Err(Error::invalid(format!("keyspace {keyspace} does not exist")));
        }
        let table = self
            .schema
            .table(keyspace, &name.name)
            .ok_or_else(|| Error::invalid(format!("table {} does not exist", name.name)))?;
        Ok(Arc::clone(table))
    }

    fn select(&mut self, select: &Select) -> Result<SelectPlan> {
        let table = self.table(&select.from)?;
        self.markers.enter(&table.schema);
        let mut context =
            TermContext { schema: self.schema, table: &table.schema, markers: &mut self.markers };
        select::plan(&mut context, &table, select)
    }

    fn modification(&mut self, modification: &Modification) -> Result<ModificationPlan> {
        let table = self.table(modification::table_of(modification))?;
        self.markers.enter(&table.schema);
        let mut context =
            TermContext { schema: self.schema, table: &table.schema, markers: &mut self.markers };
        modification::plan(&mut context, &table, modification)
    }

    fn modify(
        &mut self,
        modification: Modification,
    ) -> Result<(Plan, Option<Arc<ResultMetadata>>)> {
        Ok((Plan::Modification(Box::new(self.modification(&modification)?)), None))
    }

    fn batch(&mut self, batch: &Batch) -> Result<BatchPlan> {
        batch::check(batch)?;
        let timestamp = match (&batch.using.timestamp, batch.statements.first()) {
            (Some(term), Some(first)) => {
                let table = self.table(modification::table_of(first))?;
                self.markers.enter(&table.schema);
                let mut context = TermContext {
                    schema: self.schema,
                    table: &table.schema,
                    markers: &mut self.markers,
                };
                Some(batch::timestamp(&mut context, term)?)
            }
            _ => None,
        };
        let mut modifications = Vec::with_capacity(batch.statements.len());
        for statement in &batch.statements {
            modifications.push(self.modification(statement)?);
        }
        Ok(BatchPlan { timestamp, modifications })
    }
}
