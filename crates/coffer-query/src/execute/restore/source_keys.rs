//! Opens the keys of the files that a table or a backup is made of: with the rights that there are, or
//! else through a temporary grant, which is announced in the catalog before it is made.

use std::collections::HashSet;

use coffer_crypto::{KeyRecord, TableKeyId};
use coffer_keys::{GrantNames, KeySource, SourceAccess, SourceKeys, TableName};

use super::super::key_change::Failed;
use super::source_grant_name;
use crate::database::Database;
use crate::error::{Error, Result};

/// Files whose keys are to be opened.
pub(super) struct Files<'a> {
    /// What their key record is bound to.
    pub(super) table: TableName,
    pub(super) record: &'a KeyRecord,
    pub(super) needed: HashSet<TableKeyId>,
    pub(super) is_live: bool,
}

impl<'a> Files<'a> {
    pub(super) fn source<'b>(&'b self, temporary_grant: Option<&'b str>) -> KeySource<'b> {
        let access = if self.is_live {
            SourceAccess::Live
        } else {
            SourceAccess::Dropped { temporary_grant }
        };
        KeySource { table: &self.table, record: self.record, needed: &self.needed, access }
    }

    /// Whether a grant may help against this.
    pub(super) fn may_need_grant(&self, failed: &Failed) -> bool {
        !self.is_live && matches!(*failed.error, Error::KeyRefused(_))
    }

    /// The key that is announced with the change: that for which a temporary grant may be made, as long
    /// as its keys are not opened.
    pub(super) fn granted(&self, opened: Option<&SourceKeys>) -> Option<&'a KeyRecord> {
        opened.is_none().then_some(self.record)
    }
}

impl Database {
    /// Opens keys with the rights that there are; `None` when a temporary grant may help.
    pub(super) async fn open_with_rights(&self, files: &Files<'_>) -> Result<Option<SourceKeys>> {
        let opened = self.keyring().open_source(files.source(None)).await;
        match opened.map_err(Failed::from) {
            Err(failed) if !files.may_need_grant(&failed) => Err(*failed.error),
            opened => Ok(opened.ok()),
        }
    }

    /// The keys that were opened, or else opens them through the temporary grant of a change that is
    /// announced and has these names.
    pub(super) async fn open_announced(
        &self,
        files: &Files<'_>,
        opened: Option<SourceKeys>,
        names: &GrantNames,
    ) -> Result<SourceKeys, Failed> {
        match opened {
            Some(opened) => Ok(opened),
            None => {
                let temporary = source_grant_name(names);
                Ok(self.keyring().open_source(files.source(Some(&temporary))).await?)
            }
        }
    }
}
