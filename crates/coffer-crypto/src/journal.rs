//! Sealed journals: files of records that are written once, from the start to the end, in order.
//!
//! ```text
//! magic       8  "COFRJRN\0"
//! format      2  FORMAT_VERSION, big endian
//! kind        1
//! number      8  of the file among the journals of its directory, big endian
//! previous   32  link of the last record of the file before this one, zeros in the first file
//! commitment 32  to the data key in this header
//! root key   16  id of the root key
//! data key   60  nonce, key under the root key's derived key, tag
//! records        each a sealed head (length of the body, 1 for the last record; 5 bytes and a tag)
//!                and a sealed body (and a tag)
//! ```
//!
//! Each record is bound to its file, its number in the file and the *link* of what stands before
//! it: the SHA-256 of the whole chain so far. The next file names the link of this one's last
//! record. So a record that was changed, left out, repeated or moved is named, and so is a file
//! that was cut or left out, unless it is the newest: a crash cuts that one too. A cut can be told
//! from a change because the head is sealed on its own, so a length is never a lie.
//!
//! The root key may be replaced: what wraps the data key is no part of the chain
//! ([`rewrap_header`]).

use crate::{
    Component, DataKey, Error, FORMAT_VERSION, FileIdentity, NewDataKey, Opener, Place, Result,
    RootKey, Sealer, TAG_LEN, WRAPS_PER_KEY_MAX,
    commitment::{commitment, equal},
    secret::Secret,
    wrap::SEALED_KEY_LEN,
};
use ring::digest::{SHA256, digest};
use std::fmt;
use zeroize::Zeroizing;

const MAGIC: [u8; 8] = *b"COFRJRN\0";
/// Magic, format, kind, number, previous link: what the seals are bound to.
const PREFIX_LEN: usize = 8 + 2 + 1 + 8 + 32;
const HEAD_LEN: usize = 5;
const SEALED_HEAD_LEN: usize = HEAD_LEN + TAG_LEN;
/// A file that was growing when the machine stopped may end in zeros from a sector on.
const SECTOR_LEN: usize = 512;

/// Length of the header of a journal file in bytes.
pub const JOURNAL_HEADER_LEN: usize = PREFIX_LEN + 32 + 16 + SEALED_KEY_LEN;
/// Longest record in bytes.
pub const JOURNAL_RECORD_LEN_MAX: usize = 16 << 20;

/// What a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum JournalKind {
    /// The audit trail of a KMS.
    KmsAudit = 1,
    /// Changes of the store of a KMS.
    KmsStore = 2,
    /// The audit trail of a database.
    DatabaseAudit = 3,
}

/// The SHA-256 of a chain of records up to one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JournalLink([u8; 32]);

impl JournalLink {
    /// What the first file of all names as its predecessor.
    pub const NONE: Self = Self([0; 32]);

    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn after(self, record: &[u8]) -> Self {
        Self::of(&[self.0.as_slice(), record].concat())
    }

    fn of(bytes: &[u8]) -> Self {
        let mut link = [0; 32];
        link.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(link)
    }
}

impl fmt::Debug for JournalLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Seals the records of one new journal file.
pub struct JournalWriter {
    sealer: Sealer,
    link: JournalLink,
    number: u64,
}

impl JournalWriter {
    /// A writer with a fresh data key, and the header, which must be written first. `previous` is
    /// the link of the last record of file `number - 1`.
    ///
    /// # Errors
    /// [`Error::WrapLimit`] when `number` is past [`WRAPS_PER_KEY_MAX`], [`Error::Randomness`].
    pub fn create(
        root: &RootKey,
        kind: JournalKind,
        number: u64,
        previous: JournalLink,
    ) -> Result<(Self, Vec<u8>)> {
        if number > WRAPS_PER_KEY_MAX {
            return Err(Error::WrapLimit);
        }
        let data_key = NewDataKey::generate()?;
        let mut header = Vec::with_capacity(JOURNAL_HEADER_LEN);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        header.push(kind as u8);
        header.extend_from_slice(&number.to_be_bytes());
        header.extend_from_slice(&previous.0);
        let commitment = commitment(&data_key.0, b"coffer-journal-commit-v1", &header);
        header.extend_from_slice(&commitment);
        let link = JournalLink::of(&header);
        header.extend_from_slice(&wrapped(root, kind, &data_key.0, &header)?);
        let sealer = Sealer::new(data_key, &identity(kind, number))?;
        Ok((Self { sealer, link, number }, header))
    }

    /// Appends the bytes of the next record to `out`, which must be written in this order, and
    /// returns the link up to it.
    ///
    /// # Errors
    /// [`Error::SealLimit`] past the limits of the data key, [`Error::Malformed`] for a record
    /// longer than [`JOURNAL_RECORD_LEN_MAX`]. `out` then holds what must not be written, and the
    /// file can take no more records.
    pub fn append(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<JournalLink> {
        self.seal(record, Place::Inner, out)
    }

    /// Appends the last record, which is empty: a file that was closed cannot be cut unnoticed.
    ///
    /// # Errors
    /// [`Error::SealLimit`].
    pub fn close(mut self, out: &mut Vec<u8>) -> Result<JournalLink> {
        self.seal(&[], Place::Last, out)
    }

    /// The link up to the last record so far.
    #[must_use]
    pub fn link(&self) -> JournalLink {
        self.link
    }

    /// The number of the file.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    fn seal(&mut self, record: &[u8], place: Place, out: &mut Vec<u8>) -> Result<JournalLink> {
        let len = u32::try_from(record.len())
            .ok()
            .filter(|_| record.len() <= JOURNAL_RECORD_LEN_MAX)
            .ok_or(Error::Malformed { what: "journal record" })?;
        let start = out.len();
        out.extend_from_slice(&len.to_be_bytes());
        out.push(u8::from(place == Place::Last));
        let extra = self.link.0;
        self.sealer.seal_in_place(Component::JournalHead, Place::Inner, &extra, out, start)?;
        let body = out.len();
        out.extend_from_slice(record);
        self.sealer.seal_in_place(Component::JournalRecord, place, &extra, out, body)?;
        self.link = self.link.after(out.get(start..).unwrap_or_default());
        Ok(self.link)
    }
}

/// How a journal file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalEnd {
    /// With its last record; nothing is missing.
    Closed,
    /// After a whole record: it is being written, or its writer was stopped.
    Open,
    /// Inside a record, which begins at this offset. Its writer was stopped while it wrote, or the
    /// file was cut.
    Torn {
        /// Bytes before the torn record.
        offset: usize,
    },
}

/// Verifies and opens the records of one journal file, in order.
pub struct JournalReader<'a> {
    opener: Opener,
    bytes: &'a [u8],
    offset: usize,
    block: u64,
    link: JournalLink,
    number: u64,
    previous: JournalLink,
    end: Option<JournalEnd>,
}

impl<'a> JournalReader<'a> {
    /// Reads the header of `bytes`, a whole file or as much of it as there is yet.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no journal of this kind or shorter than a header,
    /// [`Error::UnknownVersion`], [`Error::WrongKey`] under another root key, [`Error::Tampered`].
    pub fn open(root: &RootKey, kind: JournalKind, bytes: &'a [u8]) -> Result<Self> {
        let header = Header::parse(kind, bytes)?;
        let secret = header.unwrap_key(root, kind)?;
        Ok(Self {
            opener: Opener::new(&DataKey(secret), &identity(kind, header.number))?,
            bytes,
            offset: JOURNAL_HEADER_LEN,
            block: 0,
            link: JournalLink::of(header.chained),
            number: header.number,
            previous: header.previous,
            end: None,
        })
    }

    /// The number of the file.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The link of the last record of the file before this one.
    #[must_use]
    pub fn previous(&self) -> JournalLink {
        self.previous
    }

    /// The link up to the record that was read last.
    #[must_use]
    pub fn link(&self) -> JournalLink {
        self.link
    }

    /// The next record, `None` at the end of the file.
    ///
    /// # Errors
    /// [`Error::Tampered`] when the record is not what was written here, or when something follows
    /// the last record; the records after it cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let bytes = self.bytes;
        let rest = bytes.get(self.offset..).unwrap_or_default();
        if rest.is_empty() {
            self.end = Some(JournalEnd::Open);
            return Ok(None);
        }
        let Some((head, rest)) = rest.split_at_checked(SEALED_HEAD_LEN) else {
            return Ok(self.torn());
        };
        let (len, place) = match self.open_head(head) {
            Ok(head) => head,
            Err(_) if self.ends_in_zeros_before(SEALED_HEAD_LEN) => return Ok(self.torn()),
            Err(error) => return Err(error),
        };
        let Some(body) = rest.get(..len.saturating_add(TAG_LEN)) else {
            return Ok(self.torn());
        };
        let record_len = SEALED_HEAD_LEN.saturating_add(body.len());
        let mut record = Zeroizing::new(body.to_vec());
        let component = Component::JournalRecord;
        let opened =
            self.opener.open_in_place(component, self.block, place, &self.link.0, &mut record);
        match opened {
            Ok(_) => record.truncate(len),
            Err(_) if self.ends_in_zeros_before(record_len) => return Ok(self.torn()),
            Err(error) => return Err(error),
        }
        let end = self.offset.saturating_add(record_len);
        self.link = self.link.after(bytes.get(self.offset..end).unwrap_or_default());
        self.offset = end;
        self.block = self.block.saturating_add(1);
        if place == Place::Last {
            if end != bytes.len() || len != 0 {
                return Err(Error::Tampered);
            }
            self.end = Some(JournalEnd::Closed);
            return Ok(None);
        }
        Ok(Some(record))
    }

    /// How the file ends; `None` before [`Self::next_record`] has returned `None`.
    #[must_use]
    pub fn end(&self) -> Option<JournalEnd> {
        self.end
    }

    fn open_head(&self, sealed: &[u8]) -> Result<(usize, Place)> {
        let mut head = sealed.to_vec();
        let component = Component::JournalHead;
        let head = self.opener.open_in_place(
            component,
            self.block,
            Place::Inner,
            &self.link.0,
            &mut head,
        )?;
        let (len, place) = head.split_first_chunk::<4>().ok_or(Error::Tampered)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| Error::Tampered)?;
        if len > JOURNAL_RECORD_LEN_MAX {
            return Err(Error::Tampered);
        }
        match place {
            [0] => Ok((len, Place::Inner)),
            [1] => Ok((len, Place::Last)),
            _ => Err(Error::Tampered),
        }
    }

    /// Whether the record at hand, whose first `len` bytes were looked at, is nothing but zeros to
    /// the end of the file, or reaches into zeros that go from the start of a sector to the end.
    fn ends_in_zeros_before(&self, len: usize) -> bool {
        let written = self.bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let zeros_from = written.next_multiple_of(SECTOR_LEN);
        if written <= self.offset {
            return true;
        }
        zeros_from < self.bytes.len() && self.offset.saturating_add(len) > zeros_from
    }

    fn torn(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.end = Some(JournalEnd::Torn { offset: self.offset });
        None
    }
}

/// The header of a file with its data key under another root key; the rest of the file stays as it
/// is. `bytes` begin with the old header.
///
/// # Errors
/// As [`JournalReader::open`]; [`Error::Randomness`].
pub fn rewrap_header(
    old: &RootKey,
    new: &RootKey,
    kind: JournalKind,
    bytes: &[u8],
) -> Result<Vec<u8>> {
    let header = Header::parse(kind, bytes)?;
    let secret = header.unwrap_key(old, kind)?;
    let mut renewed = header.chained.to_vec();
    renewed.extend_from_slice(&wrapped(new, kind, &secret, header.chained)?);
    Ok(renewed)
}

/// The fields of a header that is not verified yet.
struct Header<'a> {
    number: u64,
    previous: JournalLink,
    /// Prefix and commitment.
    chained: &'a [u8],
    prefix: &'a [u8],
    commitment: &'a [u8; 32],
    root_id: &'a [u8; 16],
    wrapped: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(kind: JournalKind, bytes: &'a [u8]) -> Result<Self> {
        let malformed = || Error::Malformed { what: "journal" };
        let bytes = bytes.get(..JOURNAL_HEADER_LEN).ok_or_else(malformed)?;
        let (chained, key) = bytes.split_at_checked(PREFIX_LEN + 32).ok_or_else(malformed)?;
        let (prefix, commitment) = chained.split_last_chunk::<32>().ok_or_else(malformed)?;
        let (root_id, wrapped) = key.split_first_chunk::<16>().ok_or_else(malformed)?;
        let rest = prefix.strip_prefix(&MAGIC).ok_or_else(malformed)?;
        let (format, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
        let format = u16::from_be_bytes(*format);
        if format != FORMAT_VERSION {
            return Err(Error::UnknownVersion { version: format });
        }
        let (&found, rest) = rest.split_first().ok_or_else(malformed)?;
        if found != kind as u8 {
            return Err(malformed());
        }
        let (number, previous) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
        let previous = JournalLink(previous.try_into().map_err(|_| malformed())?);
        let number = u64::from_be_bytes(*number);
        Ok(Self { number, previous, chained, prefix, commitment, root_id, wrapped })
    }

    fn unwrap_key(&self, root: &RootKey, kind: JournalKind) -> Result<Secret> {
        if *self.root_id != root.id() {
            return Err(Error::WrongKey);
        }
        let aad = [self.chained, self.root_id.as_slice()].concat();
        let secret = Secret::from_slice(&wrapping_key(root, kind).open(&aad, self.wrapped)?)?;
        let expected = commitment(&secret, b"coffer-journal-commit-v1", self.prefix);
        if equal(&expected, self.commitment) { Ok(secret) } else { Err(Error::WrongKey) }
    }
}

fn wrapping_key(root: &RootKey, kind: JournalKind) -> crate::WrappingKey {
    root.derive(b"coffer-journal-v1", &[kind as u8])
}

/// Root key id and data key, as they end a header whose other bytes are `chained`.
fn wrapped(root: &RootKey, kind: JournalKind, key: &Secret, chained: &[u8]) -> Result<Vec<u8>> {
    let aad = [chained, root.id().as_slice()].concat();
    let sealed = wrapping_key(root, kind).seal(&aad, key.bytes())?;
    Ok([root.id().as_slice(), &sealed].concat())
}

fn identity(kind: JournalKind, number: u64) -> FileIdentity {
    let mut file_id = [0; 16];
    let (low, high) = file_id.split_at_mut(8);
    low.copy_from_slice(&number.to_be_bytes());
    high.copy_from_slice(b"journal\0");
    FileIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: [0; 16],
        table_id: [kind as u8; 16],
        file_id,
    }
}

#[cfg(test)]
mod tests;
