//! `system_multiregion_info`: where the tables of keyspaces with several regions are. One node
//! holds them all, so every replica is as active as the table.

use super::cells::text;
use super::definition::{C, P, R, SystemTable, Type, no_rows};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::schema::Keyspace;
use crate::table_source::VirtualRow;

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![
        SystemTable {
            name: "keyspaces",
            comment: "replication status of keyspaces by region",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("region", C, Type::Text),
                ("status", R, Type::Text),
                ("tables_replication_progress", R, Type::Text),
            ],
            rows: keyspace_rows,
        },
        SystemTable {
            name: "tables",
            comment: "replication status of tables by region",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("table_name", C, Type::Text),
                ("region", C, Type::Text),
                ("status", R, Type::Text),
            ],
            rows: table_rows,
        },
        SystemTable {
            name: "autoscaling",
            comment: "autoscaling settings by region",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("table_name", C, Type::Text),
                ("region", C, Type::Text),
                ("provisioned_read_capacity_autoscaling_update", R, Type::FrozenMapTextText),
                ("provisioned_write_capacity_autoscaling_update", R, Type::FrozenMapTextText),
            ],
            rows: no_rows,
        },
        SystemTable {
            name: "types",
            comment: "replication status of user types by region",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("type_name", C, Type::Text),
                ("region", C, Type::Text),
                ("status", R, Type::Text),
            ],
            rows: type_rows,
        },
    ]
}

/// Data centres of a keyspace that names several.
fn regions(keyspace: &Keyspace) -> Vec<&str> {
    let named: Vec<&str> = keyspace
        .schema
        .replication
        .keys()
        .map(String::as_str)
        .filter(|key| !matches!(*key, "class" | "replication_factor"))
        .collect();
    if named.len() > 1 { named } else { Vec::new() }
}

fn keyspace_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    let rows = schema.keyspaces.iter().flat_map(|(name, keyspace)| {
        regions(keyspace)
            .into_iter()
            .map(move |region| vec![text(name), text(region), text("ACTIVE"), text("100")])
    });
    Ok(rows.collect())
}

fn table_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    let mut rows = Vec::new();
    for (name, keyspace) in &schema.keyspaces {
        for region in regions(keyspace) {
            for table in keyspace.tables.keys() {
                rows.push(vec![text(name), text(table), text(region), text("ACTIVE")]);
            }
        }
    }
    Ok(rows)
}

fn type_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    let mut rows = Vec::new();
    for (name, keyspace) in &schema.keyspaces {
        for region in regions(keyspace) {
            for user_type in keyspace.schema.types.keys() {
                rows.push(vec![text(name), text(user_type), text(region), text("ACTIVE")]);
            }
        }
    }
    Ok(rows)
}
