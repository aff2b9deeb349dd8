//! Small whole files under the root key: each version of the catalog, the store of the KMS.
//!
//! ```text
//! magic       8  "COFRDOC\0"
//! format      2  FORMAT_VERSION, big endian
//! kind        1
//! version     8  of the document, big endian
//! root key   16  id of the root key
//! data key   60  nonce, key under the root key's derived key, tag
//! commitment 32  to the data key in this header
//! chunks         64 KiB of plaintext each and a tag; the last one is shorter or says that it is last
//! ```
//!
//! Every version is sealed anew with a fresh data key. The version is also the count of wraps under
//! the derived key.

use crate::{
    Component, DataKey, Error, FORMAT_VERSION, FileIdentity, NewDataKey, Opener, Place, Result,
    RootKey, RootKeys, Sealer, TAG_LEN, WRAPS_PER_KEY_MAX,
    commitment::{commitment, equal},
    secret::Secret,
    wrap::SEALED_KEY_LEN,
};
use zeroize::Zeroizing;

const MAGIC: [u8; 8] = *b"COFRDOC\0";
const CHUNK_LEN: usize = 64 * 1024;
/// Magic, format, kind, version, root key id: what the seals are bound to.
const PREFIX_LEN: usize = 8 + 2 + 1 + 8 + 16;
const HEADER_LEN: usize = PREFIX_LEN + SEALED_KEY_LEN + 32;

/// What a sealed document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DocumentKind {
    /// A version of the catalog.
    Catalog = 1,
    /// The keys of the embedded KMS.
    KmsStore = 2,
}

/// A document that was opened.
pub struct OpenedDocument {
    /// The version it was sealed as.
    pub version: u64,
    /// The contents, wiped when dropped.
    pub plaintext: Zeroizing<Vec<u8>>,
}

/// Seals and opens documents: bytes in, bytes out.
pub struct SealedDocument;

impl SealedDocument {
    /// The bytes of a file that holds `plaintext` as version `version`.
    ///
    /// # Errors
    /// [`Error::WrapLimit`] when `version` is past [`WRAPS_PER_KEY_MAX`], [`Error::Randomness`].
    pub fn seal(
        root: &RootKey,
        kind: DocumentKind,
        version: u64,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        if version > WRAPS_PER_KEY_MAX {
            return Err(Error::WrapLimit);
        }
        let chunks = plaintext.len() / CHUNK_LEN + 1;
        let mut bytes = Vec::with_capacity(HEADER_LEN + plaintext.len() + chunks * TAG_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.push(kind as u8);
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&root.id());
        let prefix = bytes.clone();

        let data_key = NewDataKey::generate()?;
        let wrapping = root.derive(b"coffer-document-v1", &[kind as u8]);
        bytes.extend_from_slice(&wrapping.seal(&prefix, data_key.0.bytes())?);
        bytes.extend_from_slice(&commitment(&data_key.0, b"coffer-commit-v1", &prefix));

        let mut sealer = Sealer::new(data_key, &identity(kind, version))?;
        let mut rest = plaintext;
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(CHUNK_LEN));
            let place = if after.is_empty() { Place::Last } else { Place::Inner };
            let start = bytes.len();
            bytes.extend_from_slice(chunk);
            sealer.seal_in_place(Component::Document, place, &prefix, &mut bytes, start)?;
            if after.is_empty() {
                return Ok(bytes);
            }
            rest = after;
        }
    }

    /// As [`Self::open`], with the root key that the file names.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::WrongKey`] when it names neither.
    pub fn open_with(roots: &RootKeys, kind: DocumentKind, bytes: &[u8]) -> Result<OpenedDocument> {
        let id = bytes.get(PREFIX_LEN - 16..PREFIX_LEN).and_then(|id| id.try_into().ok());
        let named = id.and_then(|id| roots.with_id(id));
        Self::open(named.unwrap_or_else(|| roots.current()), kind, bytes)
    }

    /// Verifies and opens the bytes of a whole file.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no document of this kind, [`Error::UnknownVersion`],
    /// [`Error::WrongKey`] under another root key, [`Error::Tampered`] when anything was changed or
    /// cut off.
    pub fn open(root: &RootKey, kind: DocumentKind, bytes: &[u8]) -> Result<OpenedDocument> {
        let malformed = || Error::Malformed { what: "sealed document" };
        let (prefix, rest) = bytes.split_at_checked(PREFIX_LEN).ok_or_else(malformed)?;
        let (wrapped, rest) = rest.split_at_checked(SEALED_KEY_LEN).ok_or_else(malformed)?;
        let (expected, body) = rest.split_first_chunk::<32>().ok_or_else(malformed)?;
        let version = parse_prefix(root, kind, prefix)?;

        let wrapping = root.derive(b"coffer-document-v1", &[kind as u8]);
        let secret = Secret::from_slice(&wrapping.open(prefix, wrapped)?)?;
        if !equal(&commitment(&secret, b"coffer-commit-v1", prefix), expected) {
            return Err(Error::WrongKey);
        }
        let opener = Opener::new(&DataKey(secret), &identity(kind, version))?;
        let mut plaintext = Zeroizing::new(Vec::with_capacity(body.len()));
        let mut chunk = Zeroizing::new(Vec::with_capacity(CHUNK_LEN + TAG_LEN));
        let mut rest = body;
        let mut block = 0;
        loop {
            let (sealed, after) = rest.split_at(rest.len().min(CHUNK_LEN + TAG_LEN));
            let place = if after.is_empty() { Place::Last } else { Place::Inner };
            chunk.clear();
            chunk.extend_from_slice(sealed);
            let text =
                opener.open_in_place(Component::Document, block, place, prefix, &mut chunk)?;
            plaintext.extend_from_slice(text);
            if after.is_empty() {
                return Ok(OpenedDocument { version, plaintext });
            }
            rest = after;
            block += 1;
        }
    }
}

fn parse_prefix(root: &RootKey, kind: DocumentKind, prefix: &[u8]) -> Result<u64> {
    let malformed = || Error::Malformed { what: "sealed document" };
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
    let (version, root_id) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
    if root_id != root.id() {
        return Err(Error::WrongKey);
    }
    Ok(u64::from_be_bytes(*version))
}

fn identity(kind: DocumentKind, version: u64) -> FileIdentity {
    let mut file_id = [0; 16];
    let (number, _) = file_id.split_at_mut(8);
    number.copy_from_slice(&version.to_be_bytes());
    FileIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: [0; 16],
        table_id: [kind as u8; 16],
        file_id,
    }
}

#[cfg(test)]
mod tests;
