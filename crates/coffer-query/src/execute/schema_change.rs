//! Statements that change the schema.

/// What a schema change did, for RESULT and EVENT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChangeEvent {
    /// `CREATED`, `UPDATED` or `DROPPED`.
    pub change: &'static str,
    /// `KEYSPACE`, `TABLE` or `TYPE`.
    pub target: &'static str,
    /// Keyspace.
    pub keyspace: String,
    /// Table or type; empty for a keyspace.
    pub name: String,
}

/// A schema change that is checked and may wait for the KMS.
#[derive(Debug)]
pub struct SchemaChangePlan {}
