//! What is told of an erase: what was destroyed, what remains, and what is beyond this server.

use coffer_storage::Erased;
use cql_types::time::format_timestamp;
use serde_json::{Value, json};

/// Files that an event names.
const FILES_MAX: usize = 50;
/// Files that the audit log names, whose records have an end.
const FILES_AUDITED_MAX: usize = 10_000;

/// Why something was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its time was over.
    Expired,
    /// An operator said so.
    Operator,
    /// The point-in-time recovery of the table was switched off.
    HistoryDisabled,
    /// What it was made for is over.
    Needless,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "its time was over",
            Self::Operator => "an operator erased it",
            Self::HistoryDisabled => "point_in_time_recovery was switched off",
            Self::Needless => "what it was made for is over",
        }
    }
}

/// The certificate of one erase.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    pub(super) erased: &'a Erased,
    pub(super) cause: Cause,
    /// Wall clock of keys.
    pub(super) at_millis: i64,
}

impl Certificate<'_> {
    /// All of it.
    pub(super) fn whole(&self) -> Value {
        self.with_files(usize::MAX)
    }

    /// As much as fits in a record of the audit log.
    pub(super) fn for_audit(&self) -> Value {
        self.with_files(FILES_AUDITED_MAX)
    }

    /// As much as fits in an event.
    pub(super) fn short(&self) -> Value {
        self.with_files(FILES_MAX)
    }

    fn with_files(&self, most: usize) -> Value {
        let erased = self.erased;
        let files = erased.unlinked.iter().take(most).map(|(path, bytes, sha256)| {
            let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"file": path, "bytes": bytes, "sha256": sha256})
        });
        let held = erased
            .still_held
            .iter()
            .map(|(key, table)| json!({"table_key": key.to_string(), "table": table}));
        json!({
            "cause": self.cause.as_str(),
            "erased_at": format_timestamp(self.at_millis),
            "keyspace": erased.keyspace,
            "table": erased.name,
            "table_id": erased.table.to_string(),
            "key_arn": erased.key_arn,
            "erased_snapshots": texts(&erased.snapshots),
            "was_history_erased": erased.was_archive_erased,
            "destroyed_table_keys": texts(&erased.destroyed_table_keys),
            "unlinked": files.collect::<Vec<_>>(),
            "unlinked_count": erased.unlinked.len(),
            "unlinked_at_next_start": erased.left,
            "missing": erased.missing,
            "remains": {
                "table": erased.is_live,
                "snapshots": texts(&erased.remaining_snapshots),
                "history": erased.has_archive,
                "table_keys_held_by_other_tables": held.collect::<Vec<_>>(),
            },
            "beyond": [
                "what flash and copy-on-write media keep of unlinked files",
                "older copies of the data directory",
                "exported backups",
                "tables that were restored from it, here or elsewhere",
            ],
        })
    }

    /// What is left of the table: `ACTIVE` when it is there, `KEPT` when something can still be
    /// restored, `PURGED` otherwise.
    pub(super) fn state(&self) -> &'static str {
        if self.erased.is_live {
            "ACTIVE"
        } else if self.erased.has_archive || !self.erased.remaining_snapshots.is_empty() {
            "KEPT"
        } else {
            "PURGED"
        }
    }
}

fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
