//! Tail files: log records of one table, copied unchanged: set aside because the table's key is away,
//! so that the shared log can be freed, or kept in a snapshot or for point-in-time recovery.
//!
//! ```text
//! file    magic 8 "COFRTAL\0", format u16, table 16, number of parts u32, part*
//! part    file identity 50 (of the log file, for this table), wrapped data key 108,
//!         number of groups u32, group*
//! group   lsn u64, commit time i64 (milliseconds), block u64, length u32, ciphertext and tag
//! ```
//! Integers are big endian. The catalog holds length and SHA-256 of the file, so nothing in it can be
//! changed unnoticed; the groups are sealed as they were in the log.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coffer_crypto::{DataKeySource, FileIdentity, Opener, TAG_LEN, WrappedDataKey};
use coffer_model::TableId;
use sha2::{Digest as _, Sha256};

use super::record::{open_group, take};
use super::replay::FileRecords;
use crate::Lsn;
use crate::catalog::TailRecord;
use crate::error::{Error, Result};
use crate::vfs::{UnpublishedFile, Vfs};

pub(super) const MAGIC: [u8; 8] = *b"COFRTAL\0";
/// Groups have their commit times since version 2.
const TAIL_VERSION: u16 = 2;

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
    header.extend_from_slice(&TAIL_VERSION.to_be_bytes());
    header.extend_from_slice(&table.0);
    header.extend_from_slice(&count(files.len()).to_be_bytes());
    out.append(&header)?;
    for file in files {
        write_part(vfs.as_ref(), &mut out, file)?;
    }
    let groups = || files.iter().flat_map(|file| &file.records.groups);
    let committed = groups().map(|group| group.commit_millis);
    let length = out.file.length();
    let sha256 = out.hash.finalize().into();
    out.file.publish()?;
    let mut table_keys: Vec<_> =
        files.iter().map(|file| file.records.wrapped.table_key_id).collect();
    table_keys.dedup();
    Ok(TailRecord {
        id,
        length,
        sha256,
        last: groups().map(|group| group.lsn).max().unwrap_or_default(),
        table_keys,
        table,
        committed_millis: (
            committed.clone().min().unwrap_or_default(),
            committed.max().unwrap_or_default(),
        ),
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
        clear.extend_from_slice(&group.commit_millis.to_be_bytes());
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

/// Hands the plaintext of each group of a tail file to `apply`, in order, but for groups that were
/// committed after what the catalog's line says. `table` is the one it belongs to, whose keys open it.
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
    let until = tail.read_until_millis.unwrap_or(i64::MAX);
    let mut rest = bytes.as_slice();
    let (birth, parts) = header(&mut rest).map_err(|what| Error::corrupt(&path, what))?;
    if birth != tail.table {
        return Err(Error::tampered(&path, "tail file of another table"));
    }
    for _ in 0..parts {
        let (identity, wrapped, groups) = part(&mut rest).ok_or_else(malformed)?;
        if identity.table_id != birth.0 {
            return Err(Error::tampered(&path, "records of another table"));
        }
        let opener = keys
            .unwrap_data_key(table.as_bytes(), &wrapped, &identity)
            .and_then(|key| Opener::new(&key, &identity))
            .map_err(|error| Error::sealed(&path, "wrapped data key", error))?;
        for _ in 0..groups {
            let group = group(&mut rest).ok_or_else(malformed)?;
            if group.commit_millis > until {
                continue;
            }
            let (lsn, mut sealed) = (group.lsn, group.sealed.to_vec());
            let opened =
                open_group(&opener, lsn, group.block, &mut sealed).map(|plain| plain.len());
            let length = opened.map_err(|_| Error::tampered(&path, format!("frame {}", lsn.0)))?;
            sealed.truncate(length);
            apply(lsn, &Bytes::from(sealed))?;
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(malformed()) }
}

/// The table whose log records they are, and the number of parts.
pub(super) fn header(rest: &mut &[u8]) -> std::result::Result<(TableId, u32), String> {
    let cut = || "header of a tail file".to_owned();
    if take(rest) != Some(MAGIC) {
        return Err(cut());
    }
    let version = u16::from_be_bytes(take(rest).ok_or_else(cut)?);
    if version != TAIL_VERSION {
        return Err(format!(
            "tail file of format version {version}, this server reads version {TAIL_VERSION}"
        ));
    }
    let table = TableId(take(rest).ok_or_else(cut)?);
    Ok((table, u32::from_be_bytes(take(rest).ok_or_else(cut)?)))
}

/// The head of a part: identity, key, number of groups.
pub(super) fn part(rest: &mut &[u8]) -> Option<(FileIdentity, WrappedDataKey, u32)> {
    let identity = FileIdentity::from_bytes(&take::<{ FileIdentity::LEN }>(rest)?).ok()?;
    let wrapped = WrappedDataKey::from_bytes(&take::<{ WrappedDataKey::LEN }>(rest)?).ok()?;
    Some((identity, wrapped, u32::from_be_bytes(take(rest)?)))
}

/// What a frame of the log had of the table.
pub(super) struct TailGroup<'a> {
    pub(super) lsn: Lsn,
    pub(super) commit_millis: i64,
    pub(super) block: u64,
    /// Ciphertext and tag.
    pub(super) sealed: &'a [u8],
}

pub(super) fn group<'a>(rest: &mut &'a [u8]) -> Option<TailGroup<'a>> {
    let lsn = Lsn(u64::from_be_bytes(take(rest)?));
    let commit_millis = i64::from_be_bytes(take(rest)?);
    let block = u64::from_be_bytes(take(rest)?);
    let length = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    let (sealed, back) = rest.split_at_checked(length.checked_add(TAG_LEN)?)?;
    *rest = back;
    Some(TailGroup { lsn, commit_millis, block, sealed })
}
