//! `system.local`: what this node says about itself, and tables of `system` that tools ask for.

use std::net::IpAddr;

use uuid::Builder;

use super::cells::{inet, int, text, texts, uuid};
use super::definition::{C, P, R, SystemTable, Type, no_rows};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::table_source::VirtualRow;

/// Version of Cassandra whose CQL and system tables these are.
pub(crate) const RELEASE_VERSION: &str = "4.1.8";
/// Version of CQL.
pub(crate) const CQL_VERSION: &str = "3.4.6";
/// Class of the partitioner.
pub(crate) const PARTITIONER: &str = "org.apache.cassandra.dht.Murmur3Partitioner";
/// Tokens of the one node: they cut the ring into ranges for tools that read in parallel.
const TOKENS: u64 = 16;

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![SystemTable {
        name: "local",
        comment: "information about the local node",
        columns: &[
            ("key", P, Type::Text),
            ("bootstrapped", R, Type::Text),
            ("broadcast_address", R, Type::Inet),
            ("broadcast_port", R, Type::Int),
            ("cluster_name", R, Type::Text),
            ("cql_version", R, Type::Text),
            ("data_center", R, Type::Text),
            ("gossip_generation", R, Type::Int),
            ("host_id", R, Type::Uuid),
            ("listen_address", R, Type::Inet),
            ("listen_port", R, Type::Int),
            ("native_protocol_version", R, Type::Text),
            ("partitioner", R, Type::Text),
            ("rack", R, Type::Text),
            ("release_version", R, Type::Text),
            ("rpc_address", R, Type::Inet),
            ("rpc_port", R, Type::Int),
            ("schema_version", R, Type::Uuid),
            ("tokens", R, Type::SetText),
            ("truncated_at", R, Type::MapUuidBlob),
        ],
        rows: local,
    }]
}

/// Tables that tools ask for and find empty.
pub(crate) fn empty_tables() -> Vec<SystemTable> {
    vec![
        SystemTable {
            name: "IndexInfo",
            comment: "built column indexes",
            columns: &[
                ("table_name", P, Type::Text),
                ("index_name", C, Type::Text),
                ("value", R, Type::Blob),
            ],
            rows: no_rows,
        },
        SystemTable {
            name: "built_views",
            comment: "built views",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("view_name", C, Type::Text),
                ("status_replicated", R, Type::Boolean),
            ],
            rows: no_rows,
        },
        SystemTable {
            name: "size_estimates",
            comment: "per-table primary range size estimates",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("table_name", C, Type::Text),
                ("range_start", C, Type::Text),
                ("range_end", C, Type::Text),
                ("mean_partition_size", R, Type::BigInt),
                ("partitions_count", R, Type::BigInt),
            ],
            rows: no_rows,
        },
        SystemTable {
            name: "prepared_statements",
            comment: "prepared statements",
            columns: &[
                ("prepared_id", P, Type::Blob),
                ("logged_keyspace", R, Type::Text),
                ("query_string", R, Type::Text),
            ],
            rows: no_rows,
        },
    ]
}

fn local(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let options = database.options();
    let address = client_address(options.listen.ip());
    let port = i32::from(options.listen.port());
    Ok(vec![vec![
        text("local"),
        text("COMPLETED"),
        inet(address),
        int(7000),
        text(&options.cluster_name),
        text(CQL_VERSION),
        text(&options.data_center),
        int(1),
        uuid(host_id(database)),
        inet(address),
        int(7000),
        text("4"),
        text(PARTITIONER),
        text(&options.rack),
        text(RELEASE_VERSION),
        inet(address),
        int(port),
        uuid(database.schema().version),
        texts(tokens()),
        None,
    ]])
}

/// Drivers build the node's address from what is told here, so an address of "all interfaces"
/// would lead them nowhere.
fn client_address(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(address) if address.is_unspecified() => [127, 0, 0, 1].into(),
        IpAddr::V6(address) if address.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The same for the life of the data directory.
fn host_id(database: &Database) -> uuid::Uuid {
    let cluster = database.engine().catalog().cluster_id;
    Builder::from_random_bytes(cluster.0).into_uuid()
}

/// Tokens in the order of a set of text.
pub(crate) fn tokens() -> Vec<String> {
    let step = u64::MAX / TOKENS;
    let mut tokens: Vec<String> = (0..TOKENS)
        .map(|index| i64::MIN.wrapping_add_unsigned(step.wrapping_mul(index) + 1).to_string())
        .collect();
    tokens.sort();
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_distinct_integers_in_text_order() {
        let tokens = tokens();
        assert_eq!(tokens.len(), 16);
        assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(tokens.iter().all(|token| token.parse::<i64>().is_ok()));
    }

    #[test]
    fn listening_on_all_interfaces_tells_loopback() {
        assert_eq!(client_address([0, 0, 0, 0].into()).to_string(), "127.0.0.1");
        assert_eq!(client_address([10, 0, 0, 1].into()).to_string(), "10.0.0.1");
    }
}
