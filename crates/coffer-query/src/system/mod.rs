//! Keyspaces whose tables are computed: what drivers, cqlsh and operators ask the server about
//! itself.

pub(crate) mod cells;
mod definition;
mod events;
mod keys;
mod local;
mod multiregion;
mod peers;
mod schema;
mod schema_mcs;
mod snapshots;
pub(crate) mod traces;
mod virtual_schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Result;
use crate::schema::Keyspace;

pub(crate) use local::tokens;
pub(crate) use schema::latest_dropped;
pub(crate) use virtual_schema::KEYSPACE as VIRTUAL_KEYSPACE;

/// What the class of a replication strategy is written with.
pub(crate) const LOCATOR: &str = "org.apache.cassandra.locator.";

/// All system keyspaces by name.
pub(crate) fn keyspaces() -> Result<BTreeMap<String, Arc<Keyspace>>> {
    let mut system = local::tables();
    system.extend(local::empty_tables());
    system.extend(peers::tables());
    let mut system_coffer = keys::tables();
    system_coffer.push(events::events());
    system_coffer.extend(snapshots::tables());
    [
        ("system", system),
        ("system_schema", schema::tables()),
        ("system_schema_mcs", schema_mcs::tables()),
        ("system_multiregion_info", multiregion::tables()),
        (virtual_schema::KEYSPACE, virtual_schema::tables()),
        ("system_traces", traces::tables()),
        ("system_coffer", system_coffer),
    ]
    .into_iter()
    .map(|(name, tables)| Ok((name.to_owned(), Arc::new(definition::keyspace(name, &tables)?))))
    .collect()
}

/// Whether no statement may change this keyspace.
pub(crate) fn is_system_keyspace(name: &str) -> bool {
    SYSTEM_KEYSPACES.contains(&name)
}

/// Names that are the server's own, also those it has no tables for.
const SYSTEM_KEYSPACES: [&str; 11] = [
    "system",
    "system_auth",
    "system_coffer",
    "system_distributed",
    "system_multiregion_info",
    "system_schema",
    "system_schema_mcs",
    "system_traces",
    "system_views",
    "system_virtual_schema",
    "system_metrics",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_keyspace_is_refused_to_users() {
        for name in keyspaces().unwrap().keys() {
            assert!(is_system_keyspace(name), "{name}");
        }
    }

    #[test]
    fn tables_that_drivers_read_are_there_with_their_columns() {
        let all = keyspaces().unwrap();
        let local = &all["system"].tables["local"].schema;
        assert_eq!(local.columns.len(), 20);
        assert_eq!(local.column("tokens").unwrap().ty.to_string(), "set<text>");
        assert_eq!(local.column("truncated_at").unwrap().ty.to_string(), "map<uuid, blob>");
        let tables = &all["system_schema"].tables["tables"].schema;
        assert_eq!(tables.column("extensions").unwrap().ty.to_string(), "frozen<map<text, blob>>");
        assert_eq!(tables.clustering()[0].name, "table_name");
        assert!(all["system"].tables.contains_key("IndexInfo"));
    }
}
