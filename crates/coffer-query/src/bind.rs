//! Bind markers: their names and types when a statement is prepared, their values when it runs.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use coffer_model::TableSchema;
use cql_parser::ast::BindMarker;
use cql_types::{BoundValue, CqlType};

use crate::database::{Database, QueryParameters};
use crate::error::{Error, Result};
use crate::metadata::{BindMetadata, ColumnSpec};

/// The markers of a statement while it is prepared.
#[derive(Debug)]
pub(crate) struct Markers {
    keyspace: Arc<str>,
    table: Arc<str>,
    names: Vec<Option<String>>,
    specs: Vec<Option<ColumnSpec>>,
    /// For each marker, the column it gives the whole value of.
    targets: Vec<Option<String>>,
    calls_left: Cell<u32>,
}

/// How often functions may be resolved for one statement. A call is resolved again for each type
/// its callers try, so the work grows exponentially with the nesting of calls.
const CALLS_MAX: u32 = 100_000;

impl Markers {
    /// As many markers as the parser found.
    pub(crate) fn new(names: Vec<Option<String>>) -> Markers {
        let count = names.len();
        Markers {
            keyspace: Arc::from(""),
            table: Arc::from(""),
            names,
            specs: vec![None; count],
            targets: vec![None; count],
            calls_left: Cell::new(CALLS_MAX),
        }
    }

    /// Counts one resolution of a function. False when the statement has had too many.
    pub(crate) fn may_resolve(&self) -> bool {
        let left = self.calls_left.get();
        self.calls_left.set(left.saturating_sub(1));
        left > 0
    }

    /// Markers seen from now on belong to this table.
    pub(crate) fn enter(&mut self, table: &TableSchema) {
        self.keyspace = Arc::from(table.keyspace.as_str());
        self.table = Arc::from(table.name.as_str());
    }

    /// A marker stands for a value of this name and type.
    pub(crate) fn bind(&mut self, marker: BindMarker, name: &str, ty: &CqlType) -> usize {
        let index = usize::from(marker.index);
        let name = match self.names.get(index) {
            Some(Some(given)) => given.as_str(),
            _ => name,
        };
        let spec = ColumnSpec {
            keyspace: Arc::clone(&self.keyspace),
            table: Arc::clone(&self.table),
            name: Arc::from(name),
            ty: ty.clone(),
        };
        if let Some(slot) = self.specs.get_mut(index) {
            *slot = Some(spec);
        }
        index
    }

    /// The marker is the whole value of a column.
    pub(crate) fn target(&mut self, index: usize, column: &str) {
        if let Some(slot) = self.targets.get_mut(index) {
            *slot = Some(column.to_owned());
        }
    }

    /// Metadata for the client; the key indexes are of `table`, the last marker of a column counts.
    pub(crate) fn finish(self, table: Option<&TableSchema>) -> Result<BindMetadata> {
        let columns = self
            .specs
            .into_iter()
            .collect::<Option<Vec<ColumnSpec>>>()
            .ok_or_else(|| Error::Server("a bind marker was given no type".to_owned()))?;
        let place = |name: &str| {
            let marker = self.targets.iter().rposition(|target| target.as_deref() == Some(name))?;
            u16::try_from(marker).ok()
        };
        let partition_key_indexes = table
            .and_then(|table| {
                table.partition_key().iter().map(|column| place(&column.name)).collect()
            })
            .unwrap_or_default();
        Ok(BindMetadata { columns, partition_key_indexes })
    }
}

/// A value while a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Unset,
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Value<'a> {
    pub(crate) fn owned(bytes: impl Into<Vec<u8>>) -> Value<'a> {
        Value::Bytes(Cow::Owned(bytes.into()))
    }
}

impl<'a> From<&'a BoundValue> for Value<'a> {
    fn from(bound: &'a BoundValue) -> Value<'a> {
        match bound {
            BoundValue::Null => Value::Null,
            BoundValue::Unset => Value::Unset,
            BoundValue::Value(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
        }
    }
}

/// What terms are evaluated with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evaluation<'a> {
    pub(crate) database: &'a Database,
    pub(crate) values: &'a [BoundValue],
}

/// The values in the order of the markers.
///
/// # Errors
/// When a name is missing or there are too few or too many values.
pub(crate) fn arrange<'a>(
    bind: &BindMetadata,
    parameters: &QueryParameters<'a>,
) -> Result<Cow<'a, [BoundValue]>> {
    let Some(names) = parameters.names else {
        check_count(parameters.values, bind)?;
        return Ok(Cow::Borrowed(parameters.values));
    };
    let mut values = Vec::with_capacity(bind.columns.len());
    for spec in &bind.columns {
        let place = names.iter().position(|name| **name == *spec.name);
        let value = place.and_then(|place| parameters.values.get(place));
        values.push(value.cloned().ok_or_else(wrong_count)?);
    }
    Ok(Cow::Owned(values))
}

/// Checks that there are as many values as markers.
pub(crate) fn check_count(values: &[BoundValue], bind: &BindMetadata) -> Result<()> {
    if values.len() == bind.columns.len() { Ok(()) } else { Err(wrong_count()) }
}

fn wrong_count() -> Error {
    Error::invalid("Invalid amount of bind variables")
}
