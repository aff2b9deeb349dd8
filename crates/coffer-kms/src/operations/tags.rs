//! Tags of keys.

use super::Perform;
use crate::{
    KmsException,
    api::{
        ListResourceTagsRequest, ListResourceTagsResponse, Tag, TagResourceRequest,
        UntagResourceRequest,
    },
    call::Call,
    paging::Page,
    validation::Validation,
};
use std::collections::BTreeSet;

type Result<T> = std::result::Result<T, KmsException>;

const TAGS_MAX: usize = 50;

/// # Errors
/// `ValidationException`, `TagException`.
pub(super) fn check(tags: &[Tag]) -> Result<()> {
    let mut names = BTreeSet::new();
    for tag in tags {
        Validation::default()
            .text("tagKey", &tag.tag_key, 128)
            .length("tagValue", Some(&tag.tag_value), 0, 256)
            .finish()?;
        if tag.tag_key.starts_with("aws:") {
            return Err(tag_exception("Tags beginning with aws: are reserved"));
        }
        if !names.insert(&tag.tag_key) {
            return Err(tag_exception("Duplicate tag keys"));
        }
    }
    Ok(())
}

/// # Errors
/// `LimitExceededException`.
pub(super) fn check_count(count: usize) -> Result<()> {
    if count > TAGS_MAX {
        return Err(KmsException::limit("Too many tags"));
    }
    Ok(())
}

fn tag_exception(message: &str) -> KmsException {
    KmsException::new("TagException", message)
}

impl Perform for TagResourceRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        check(&self.tags)?;
        let key = call.authorized(&self.key_id)?;
        call.check_not_pending_deletion(&key)?;
        call.change_key(&key, |key| {
            let tags = self.tags.iter().map(|tag| (tag.tag_key.clone(), tag.tag_value.clone()));
            key.tags.extend(tags);
            check_count(key.tags.len())
        })
    }
}

impl Perform for UntagResourceRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let key = call.authorized(&self.key_id)?;
        call.check_not_pending_deletion(&key)?;
        call.change_key(&key, |key| {
            key.tags.retain(|name, _| !self.tag_keys.contains(name));
            Ok(())
        })
    }
}

impl Perform for ListResourceTagsRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ListResourceTagsResponse> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let page = Page::parse(self.limit, self.marker.as_deref(), 50, 50)?;
        let key = call.authorized(&self.key_id)?;
        let (tags, next_marker) = page.cut(key.tag_list(), |tag| &tag.tag_key);
        Ok(ListResourceTagsResponse { tags, truncated: next_marker.is_some(), next_marker })
    }
}
