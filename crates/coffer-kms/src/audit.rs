//! The audit trail: CloudTrail-shaped records in a sealed, hash-chained log that only grows.
//!
//! A log is a directory of files `<number>.audit`, each a [`coffer_crypto::JournalWriter`] file:
//! written once from start to end, a new one at each start and at [`FILE_LEN_MAX`], each bound to
//! the end of the one before. Each record also carries the SHA-256 of the record before it, so that
//! an export can be verified without the keys.
//!
//! Changed, missing, repeated or moved records and files are named by [`AuditReader`]. What cannot
//! be told from a crash is a cut at the end of the newest file, unless it was closed; and oldest
//! files may be removed on purpose, so a log says at which file it begins. Whoever keeps an
//! [`AuditPosition`] elsewhere is told of any cut before it: [`AuditReader::expecting`] names it, and
//! [`AuditLog::expect`] leaves a record of it.
//!
//! Durability: [`AuditLog::record`] of an event that changes something returns when the record is
//! on disk, one `fdatasync` for all that wait; other records are on disk within a second. While the
//! log cannot be written, changing calls must fail ([`AuditLog::record`] and [`AuditLog::check`]
//! say so) and reading calls go on; the log heals by itself with a new file.

mod event;
mod files;
mod filter;
mod kms_call;
mod log;
mod position;
mod reader;

pub use event::{AuditEvent, DatabaseEvent, ServiceEvent};
pub use filter::{AuditFilter, parse_time};
pub use kms_call::{KmsCall, Parameters, is_mutating};
pub use log::{AuditLog, AuditOptions};
pub use position::{AuditPosition, NoPosition};
pub use reader::{AuditProblem, AuditReader, AuditRecord, AuditSummary};

use std::path::{Path, PathBuf};

/// A file that is longer gets a successor.
pub const FILE_LEN_MAX: u64 = 16 << 20;

/// Why the log cannot be written or read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {reason}, path={}", path.display())]
pub struct AuditError {
    /// What was tried.
    pub action: &'static str,
    /// The file or directory in question.
    pub path: PathBuf,
    /// Why it failed.
    pub reason: String,
}

impl AuditError {
    fn new(action: &'static str, path: &Path, reason: impl ToString) -> Self {
        Self { action, path: path.to_owned(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests;
