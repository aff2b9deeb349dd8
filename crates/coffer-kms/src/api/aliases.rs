//! Aliases.

use super::{request, shape};

request!("CreateAlias", CreateAliasRequest {
    pub alias_name: String,
    pub target_key_id: String,
} -> ());

request!("UpdateAlias", UpdateAliasRequest {
    pub alias_name: String,
    pub target_key_id: String,
} -> ());

request!("DeleteAlias", DeleteAliasRequest {
    pub alias_name: String,
} -> ());

request!("ListAliases", ListAliasesRequest {
    pub key_id: Option<String>,
    pub limit: Option<i64>,
    pub marker: Option<String>,
} -> ListAliasesResponse);

shape!(ListAliasesResponse {
    pub aliases: Vec<AliasListEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    pub truncated: bool,
});

shape!(AliasListEntry {
    pub alias_name: String,
    pub alias_arn: String,
    pub target_key_id: String,
    pub creation_date: f64,
    pub last_updated_date: f64,
});
