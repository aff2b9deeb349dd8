//! Tail files: log records of one table, set aside unchanged because the table's key is away, so
//! that the shared log can be freed.
//!
//! ```text
//! file    magic 8 "COFRTAL\0", format u16, table 16, number of parts u32, part*
//! part    file identity 50 (of the log file, for this table), wrapped data key 108,
//!         number of groups u32, (lsn u64, block u64, length u32, ciphertext and tag)*
//! ```
//! Integers are big endian. The catalog holds length and SHA-256 of the file, so nothing in it can be
//! changed unnoticed; the groups are sealed as they were in the log.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coffer_crypto::{DataKeySource, FORMAT_VERSION, FileIdentity, Opener, TAG_LEN, WrappedDataKey};
use coffer_model::TableId;
use sha2::{Digest as _, Sha256};

use super::record::{open_group, take};
use super::replay::FileRecords;
use crate::Lsn;
use crate::catalog::TailRecord;
use crate::error::{Error, Result};
use crate::vfs::{UnpublishedFile, Vfs};

pub(super) const MAGIC: [u8; 8] = *b"COFRTAL\0";

/// Writes and publishes a tail file with these records.
pub(crate) fn write_tail(
    vfs: &Arc<dyn Vfs>,
    directory: &Path,
    table: TableId,
    files: &[FileRecords],
) -> Result<TailRecord> {
    let id: [u8; 16] = coffer_crypto::random_array()
        .map_err(|error| Error::sealed(directory, "tail id", error))?;
    let path = TailRecord::path_of(directory, id);
    let mut out = TailWriter { file: UnpublishedFile::create(vfs, &path)?, hash: Sha256::new() };
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
    header.extend_from_slice(&table.0);
    header.extend_from_slice(&count(files.len()).to_be_bytes());
    out.append(&header)?;
    let mut last = Lsn(0);
    for file in files {
        write_part(vfs.as_ref(), &mut out, file)?;
        last = file.records.groups.last().map_or(last, |group| group.lsn);
    }
    let length = out.file.length();
    let sha256 = out.hash.finalize().into();
    out.file.publish()?;
    let table_keys = files.iter().map(|file| file.records.wrapped.table_key_id).collect();
    Ok(TailRecord {
        id,
        length,
        sha256,
        last,
        table_keys,
        table,
        committed_millis: (0, 0),
        read_until_millis: None,
    })
}

struct TailWriter {
    file: UnpublishedFile,
    hash: Sha256,
}

impl TailWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file.append(bytes)
    }
}

fn write_part(vfs: &dyn Vfs, out: &mut TailWriter, file: &FileRecords) -> Result<()> {
    let reader = vfs.open(&file.path).map_err(|error| Error::io("open log", &file.path, error))?;
    let groups = &file.records.groups;
    let mut header = file.identity.to_bytes().to_vec();
    header.extend_from_slice(&file.records.wrapped.to_bytes());
    header.extend_from_slice(&count(groups.len()).to_be_bytes());
    out.append(&header)?;
    for group in groups {
        let mut sealed = vec![0; group.length as usize + TAG_LEN];
        let read = reader.read_at(group.offset, &mut sealed);
        let read = read.map_err(|error| Error::io("read log", &file.path, error))?;
        if read != sealed.len() || !sealed.ends_with(&group.tag) {
            return Err(Error::tampered(&file.path, format!("frame {}", group.lsn.0)));
        }
        let mut clear = group.lsn.0.to_be_bytes().to_vec();
        clear.extend_from_slice(&group.block.to_be_bytes());
        clear.extend_from_slice(&group.length.to_be_bytes());
        out.append(&clear)?;
        out.append(&sealed)?;
    }
    Ok(())
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Hands the plaintext of each group of a tail file to `apply`, in order.
pub(crate) fn read_tail(
    vfs: &dyn Vfs,
    keys: &dyn DataKeySource,
    directory: &Path,
    table: TableId,
    tail: &TailRecord,
    apply: &mut dyn FnMut(Lsn, &Bytes) -> Result<()>,
) -> Result<()> {
    let path = tail.path(directory);
    let bytes = vfs.read(&path, tail.length).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::tampered(&path, "tail file is missing"),
        std::io::ErrorKind::FileTooLarge => Error::tampered(&path, "length"),
        _ => Error::io("read tail", &path, error),
    })?;
    if bytes.len() as u64 != tail.length || <[u8; 32]>::from(Sha256::digest(&bytes)) != tail.sha256
    {
        return Err(Error::tampered(&path, "length or hash"));
    }
    let malformed = || Error::corrupt(&path, "tail file");
    let mut rest = bytes.as_slice();
    let parts = header(&mut rest).filter(|(owner, _)| *owner == table).ok_or_else(malformed)?.1;
    for _ in 0..parts {
        let (identity, wrapped, groups) = part(&mut rest).ok_or_else(malformed)?;
        let opener = keys
            .unwrap_data_key(table.as_bytes(), &wrapped, &identity)
            .and_then(|key| Opener::new(&key, &identity))
            .map_err(|error| Error::sealed(&path, "wrapped data key", error))?;
        for _ in 0..groups {
            let (lsn, block, sealed) = group(&mut rest).ok_or_else(malformed)?;
            let mut sealed = sealed.to_vec();
            let opened = open_group(&opener, lsn, block, &mut sealed).map(|plain| plain.len());
            let length = opened.map_err(|_| Error::tampered(&path, format!("frame {}", lsn.0)))?;
            sealed.truncate(length);
            apply(lsn, &Bytes::from(sealed))?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(malformed()) }
}

/// The table and the number of parts.
pub(super) fn header(rest: &mut &[u8]) -> Option<(TableId, u32)> {
    if take(rest)? != MAGIC || take(rest)? != FORMAT_VERSION.to_be_bytes() {
        return None;
    }
    Some((TableId(take(rest)?), u32::from_be_bytes(take(rest)?)))
}

/// The head of a part: identity, key, number of groups.
pub(super) fn part(rest: &mut &[u8]) -> Option<(FileIdentity, WrappedDataKey, u32)> {
    let identity = FileIdentity::from_bytes(&take::<{ FileIdentity::LEN }>(rest)?).ok()?;
    let wrapped = WrappedDataKey::from_bytes(&take::<{ WrappedDataKey::LEN }>(rest)?).ok()?;
    Some((identity, wrapped, u32::from_be_bytes(take(rest)?)))
}

/// A group: frame, block, ciphertext and tag.
pub(super) fn group<'a>(rest: &mut &'a [u8]) -> Option<(Lsn, u64, &'a [u8])> {
    let lsn = Lsn(u64::from_be_bytes(take(rest)?));
    let block = u64::from_be_bytes(take(rest)?);
    let length = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    let (sealed, back) = rest.split_at_checked(length.checked_add(TAG_LEN)?)?;
    *rest = back;
    Some((lsn, block, sealed))
}
