//! Tables of other nodes; there are none.

use super::definition::{C, P, R, SystemTable, Type, no_rows};

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![
        SystemTable {
            name: "peers",
            comment: "information about known peers in the cluster",
            columns: &[
                ("peer", P, Type::Inet),
                ("data_center", R, Type::Text),
                ("host_id", R, Type::Uuid),
                ("preferred_ip", R, Type::Inet),
                ("rack", R, Type::Text),
                ("release_version", R, Type::Text),
                ("rpc_address", R, Type::Inet),
                ("schema_version", R, Type::Uuid),
                ("tokens", R, Type::SetText),
            ],
            rows: no_rows,
        },
        SystemTable {
            name: "peers_v2",
            comment: "information about known peers in the cluster",
            columns: &[
                ("peer", P, Type::Inet),
                ("peer_port", C, Type::Int),
                ("data_center", R, Type::Text),
                ("host_id", R, Type::Uuid),
                ("native_address", R, Type::Inet),
                ("native_port", R, Type::Int),
                ("preferred_ip", R, Type::Inet),
                ("preferred_port", R, Type::Int),
                ("rack", R, Type::Text),
                ("release_version", R, Type::Text),
                ("schema_version", R, Type::Uuid),
                ("tokens", R, Type::SetText),
            ],
            rows: no_rows,
        },
    ]
}
