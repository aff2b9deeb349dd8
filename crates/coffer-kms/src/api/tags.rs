//! Tags.

use super::{request, shape};

shape!(
#[derive(Debug, PartialEq, Eq)]
Tag {
    pub tag_key: String,
    pub tag_value: String,
});

request!("TagResource", TagResourceRequest {
    pub key_id: String,
    pub tags: Vec<Tag>,
} -> ());

request!("UntagResource", UntagResourceRequest {
    pub key_id: String,
    pub tag_keys: Vec<String>,
} -> ());

request!("ListResourceTags", ListResourceTagsRequest {
    pub key_id: String,
    pub limit: Option<i64>,
    pub marker: Option<String>,
} -> ListResourceTagsResponse);

shape!(ListResourceTagsResponse {
    pub tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    pub truncated: bool,
});
