//! Sealed journals: changes of the embedded KMS's store, and audit trails.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use coffer_crypto::{Error, JournalEnd, JournalKind, JournalReader, RootKey};
use serde_json::{Value, json};

use super::{KMS_STORE_BYTES_MAX, Place, Proof, Report, kms_root_key};
use crate::error::{CommandError, Result};

/// What every journal begins with.
pub(super) const MAGIC: &[u8] = b"COFRJRN\0";

/// Opens every record of a journal.
pub(super) fn journal(path: &Path, place: &Place, kind: Option<u8>) -> Result<Report> {
    const KINDS: [(JournalKind, &str); 3] = [
        (JournalKind::KmsStore, "journal of the embedded KMS"),
        (JournalKind::KmsAudit, "audit log of the embedded KMS"),
        (JournalKind::DatabaseAudit, "audit log of the database"),
    ];
    let found = KINDS.into_iter().find(|(known, _)| Some(*known as u8) == kind);
    let Some((kind, name)) = found else {
        let what = "kind of journal".to_owned();
        return Ok(Report::new("journal", json!({}), Proof::Tampered(what)));
    };
    let root = match kind {
        JournalKind::DatabaseAudit => place.root_key(),
        JournalKind::KmsStore | JournalKind::KmsAudit => kms_root_key(path, place),
    };
    let root = match root {
        Ok(root) => root,
        Err(reason) => return Ok(Report::new(name, json!({}), Proof::NoKey(reason))),
    };
    let failed = || CommandError::io(format!("read {}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed())?;
    file.take(KMS_STORE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed())?;
    Ok(match read(&root, kind, &bytes) {
        Ok(fields) => Report::new(name, fields, Proof::Verified),
        Err(error @ Error::WrongKey) => {
            Report::new(name, json!({}), Proof::NoKey(error.to_string()))
        }
        Err(error) => Report::new(name, json!({}), Proof::Tampered(error.to_string())),
    })
}

fn read(root: &RootKey, kind: JournalKind, bytes: &[u8]) -> coffer_crypto::Result<Value> {
    let mut reader = JournalReader::open(root, kind, bytes)?;
    let mut records = 0_u64;
    while reader.next_record()?.is_some() {
        records += 1;
    }
    let ended = match reader.end() {
        Some(JournalEnd::Closed) => "closed",
        Some(JournalEnd::Torn { .. }) => "inside a record",
        Some(JournalEnd::Open) | None => "open",
    };
    let root = hex::encode(root.id());
    Ok(json!({
        "number": reader.number(),
        "records": records,
        "ended": ended,
        "wrapped_under_root_key": root,
    }))
}
