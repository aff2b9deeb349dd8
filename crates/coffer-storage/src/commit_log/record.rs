//! The bytes of a commit log file: header, frames, and the directory of each frame.
//!
//! ```text
//! file    header sector, frame*, zeros up to the length that the header says
//! header  magic 8 "COFRLOG\0", format u16, mode u8, cluster 16, number u64, file id 16, length u64,
//!         root key id 16, log key id 16, log key under the root key 60, data key under the log key
//!         108, zeros up to 512
//! frame   magic u32 "CFRM", kind u8, zeros 3, directory length u32, body length u32, lsn u64,
//!         number u64, commit time i64 (milliseconds), durable lsn u64, version of the catalog u64
//!         (56 bytes), tag 16: seal of nothing under the file's own data key, number 2n, additional
//!         data: the 56 bytes
//!         body: for each group ciphertext and tag
//!         directory, sealed with the file's own data key, number 2n+1; additional data: the 56 bytes
//!         0xFF up to the next multiple of 512
//! directory  u32 n, n * (table 16, wrapped data key 108): keys that are first used in this frame
//!            u32 n, n * (table 16, block u64, mutations u32, length u32, tag 16): groups in order
//! group   sealed with the data key of (file, table); plaintext: (u32 length, mutation)*;
//!         additional data: the lsn
//! ```
//! The head of a frame has its own tag, so that a changed length is not taken for a frame that a
//! crash left unfinished. Integers are big endian. All but the groups verifies with the root key alone, so a file can be
//! checked for structure while every table key is away.

use coffer_crypto::{
    Component, FORMAT_VERSION, FileIdentity, NewDataKey, Opener, Place, RootKey, Sealer, TAG_LEN,
    TableKey, TableKeyId, WRAP_OVERHEAD, WrappedDataKey,
};
use coffer_model::TableId;

use crate::Lsn;
use crate::ids::ClusterId;

pub(crate) const SECTOR: usize = 512;
/// Bytes of the header of a file.
pub(crate) const HEADER_LEN: usize = SECTOR;
/// Bytes of a frame before its body.
pub(crate) const FRAME_HEADER_LEN: usize = FRAME_CLEAR_LEN + TAG_LEN;
/// What a frame's tags authenticate.
const FRAME_CLEAR_LEN: usize = 56;
/// What a key costs in a directory.
pub(crate) const KEY_ENTRY_LEN: usize = 16 + WrappedDataKey::LEN;
/// What a group costs in a directory and as tag in the body.
pub(crate) const GROUP_ENTRY_LEN: usize = 16 + 8 + 4 + 4 + TAG_LEN;
/// Bytes of a frame without groups and keys, before padding.
pub(crate) const FRAME_OVERHEAD: usize = FRAME_HEADER_LEN + 8 + TAG_LEN;

pub(super) const FILE_MAGIC: [u8; 8] = *b"COFRLOG\0";
const FRAME_MAGIC: u32 = u32::from_be_bytes(*b"CFRM");
const WRAPPED_LOG_KEY_LEN: usize = 32 + WRAP_OVERHEAD;
/// Padding is not zero, so that no sector of a finished frame is all zeros.
pub(crate) const PADDING: u8 = 0xff;

/// Why bytes are not what they should be; the caller adds the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Changed after it was written.
    Tampered(&'static str),
    /// Under another root key.
    WrongKey,
}

/// What the header of a log file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) cluster: ClusterId,
    pub(crate) number: u64,
    pub(crate) file_id: [u8; 16],
    pub(crate) length: u64,
    /// Whether frames are acknowledged before they are synced.
    pub(crate) periodic: bool,
}

impl FileHeader {
    /// Identity of the file for its own data key: number, mode and length stand where a table would.
    fn identity(&self) -> FileIdentity {
        let mut subject = [0; 16];
        let (number, length) = subject.split_at_mut(8);
        number.copy_from_slice(&self.number.to_be_bytes());
        let mode = u64::from(self.periodic) << 63;
        length.copy_from_slice(&(self.length | mode).to_be_bytes());
        self.identity_of(subject)
    }

    /// Identity of the file for the data key of a table.
    pub(crate) fn table_identity(&self, table: TableId) -> FileIdentity {
        self.identity_of(table.0)
    }

    fn identity_of(&self, table_id: [u8; 16]) -> FileIdentity {
        FileIdentity {
            format_version: FORMAT_VERSION,
            cluster_id: self.cluster.0,
            table_id,
            file_id: self.file_id,
        }
    }

    /// A header sector with a fresh key, and the sealer of the file's directories.
    pub(crate) fn create(&self, root: &RootKey) -> coffer_crypto::Result<(Vec<u8>, Sealer)> {
        let log_key = TableKey::generate()?;
        let data_key = NewDataKey::generate()?;
        let identity = self.identity();
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&FILE_MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.push(u8::from(self.periodic));
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.file_id);
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes.extend_from_slice(&root.id());
        bytes.extend_from_slice(&log_key.id().0);
        bytes.extend_from_slice(&root.wrap_table_key(&self.file_id, &log_key)?);
        bytes.extend_from_slice(&log_key.wrap_data_key(&data_key, &identity)?.to_bytes());
        bytes.resize(HEADER_LEN, 0);
        Ok((bytes, Sealer::new(data_key, &identity)?))
    }

    /// What a header sector says, without checking it: for reports on a file whose root key is away.
    pub(crate) fn describe(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        Self::take(&mut rest).map(|(header, _)| header)
    }

    fn take(rest: &mut &[u8]) -> Option<(Self, [u8; 16])> {
        if take::<8>(rest)? != FILE_MAGIC || take(rest)? != FORMAT_VERSION.to_be_bytes() {
            return None;
        }
        let [mode] = take(rest)?;
        let header = Self {
            periodic: mode == 1,
            cluster: ClusterId(take(rest)?),
            number: u64::from_be_bytes(take(rest)?),
            file_id: take(rest)?,
            length: u64::from_be_bytes(take(rest)?),
        };
        (mode <= 1).then_some((header, take(rest)?))
    }

    /// Verifies a header sector; the opener is that of the file's directories.
    pub(crate) fn open(bytes: &[u8], root: &RootKey) -> Result<(Self, Opener), Refusal> {
        let damaged = Refusal::Tampered("header");
        let mut rest = bytes;
        let (header, root_id) = Self::take(&mut rest).ok_or(damaged)?;
        if root_id != root.id() {
            return Err(Refusal::WrongKey);
        }
        let log_key_id = TableKeyId(take(&mut rest).ok_or(damaged)?);
        let wrapped_log_key: [u8; WRAPPED_LOG_KEY_LEN] = take(&mut rest).ok_or(damaged)?;
        let wrapped: [u8; WrappedDataKey::LEN] = take(&mut rest).ok_or(damaged)?;
        if rest.iter().any(|byte| *byte != 0) || bytes.len() != HEADER_LEN {
            return Err(damaged);
        }
        let log_key = root
            .unwrap_table_key(&header.file_id, log_key_id, &wrapped_log_key)
            .map_err(|_| damaged)?;
        let identity = header.identity();
        let opener = WrappedDataKey::from_bytes(&wrapped)
            .and_then(|wrapped| log_key.unwrap_data_key(&wrapped, &identity))
            .and_then(|key| Opener::new(&key, &identity))
            .map_err(|_| damaged)?;
        Ok((header, opener))
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Mutations.
    Data = 1,
    /// The end of a file after which the next one goes on.
    Continued = 2,
    /// The end of the log at a clean stop.
    Stopped = 3,
    /// Nothing but what every frame says: the version of the catalog.
    Witness = 4,
}

/// The clear part of a frame, authenticated by its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    /// Length of the directory as plaintext.
    pub(crate) directory_len: u32,
    pub(crate) body_len: u32,
    pub(crate) lsn: Lsn,
    /// Place of the frame in its file, from 0.
    pub(crate) number: u64,
    /// When the server wrote it, milliseconds since 1970.
    pub(crate) commit_millis: i64,
    /// The last frame that was synced when this one was written.
    pub(crate) durable: Lsn,
    /// Version of the catalog that was published when this one was written: an older catalog beside it
    /// was put there by somebody.
    pub(crate) catalog_version: u64,
}

impl FrameHeader {
    pub(crate) fn encode(&self) -> [u8; FRAME_CLEAR_LEN] {
        let mut bytes = [0; FRAME_CLEAR_LEN];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, &FRAME_MAGIC.to_be_bytes());
        put(&mut rest, &[self.kind as u8, 0, 0, 0]);
        put(&mut rest, &self.directory_len.to_be_bytes());
        put(&mut rest, &self.body_len.to_be_bytes());
        put(&mut rest, &self.lsn.0.to_be_bytes());
        put(&mut rest, &self.number.to_be_bytes());
        put(&mut rest, &self.commit_millis.to_be_bytes());
        put(&mut rest, &self.durable.0.to_be_bytes());
        put(&mut rest, &self.catalog_version.to_be_bytes());
        bytes
    }

    /// The bytes that a frame begins with: the clear part and its tag.
    pub(crate) fn seal(&self, sealer: &mut Sealer) -> coffer_crypto::Result<Vec<u8>> {
        let clear = self.encode();
        let mut bytes = clear.to_vec();
        let start = bytes.len();
        let block =
            sealer.seal_in_place(Component::Log, Place::Inner, &clear, &mut bytes, start)?;
        if block == 2 * self.number { Ok(bytes) } else { Err(coffer_crypto::Error::SealLimit) }
    }

    /// The head of a frame, if it authenticates.
    pub(crate) fn open(bytes: &[u8], opener: &Opener) -> Option<Self> {
        let (clear, rest) = bytes.split_at_checked(FRAME_CLEAR_LEN)?;
        let header = Self::decode(clear)?;
        let mut tag = *rest.first_chunk::<TAG_LEN>()?;
        let block = header.number.checked_mul(2)?;
        opener.open_in_place(Component::Log, block, Place::Inner, clear, &mut tag).ok()?;
        Some(header)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take(&mut rest)? != FRAME_MAGIC.to_be_bytes() {
            return None;
        }
        let kind = match take(&mut rest)? {
            [1, 0, 0, 0] => FrameKind::Data,
            [2, 0, 0, 0] => FrameKind::Continued,
            [3, 0, 0, 0] => FrameKind::Stopped,
            [4, 0, 0, 0] => FrameKind::Witness,
            _ => return None,
        };
        Some(Self {
            kind,
            directory_len: u32::from_be_bytes(take(&mut rest)?),
            body_len: u32::from_be_bytes(take(&mut rest)?),
            lsn: Lsn(u64::from_be_bytes(take(&mut rest)?)),
            number: u64::from_be_bytes(take(&mut rest)?),
            commit_millis: i64::from_be_bytes(take(&mut rest)?),
            durable: Lsn(u64::from_be_bytes(take(&mut rest)?)),
            catalog_version: u64::from_be_bytes(take(&mut rest)?),
        })
    }

    /// Bytes of the frame without padding.
    pub(crate) fn frame_len(&self) -> u64 {
        FRAME_HEADER_LEN as u64
            + u64::from(self.body_len)
            + u64::from(self.directory_len)
            + TAG_LEN as u64
    }

    /// Bytes of the frame with padding.
    pub(crate) fn extent(&self) -> u64 {
        self.frame_len().next_multiple_of(SECTOR as u64)
    }
}

/// A group as its frame's directory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    pub(crate) table: TableId,
    /// Number of the seal under the table's data key.
    pub(crate) block: u64,
    pub(crate) mutations: u32,
    /// Bytes of the plaintext.
    pub(crate) length: u32,
    pub(crate) tag: [u8; TAG_LEN],
}

/// What a frame's directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) keys: Vec<(TableId, WrappedDataKey)>,
    pub(crate) groups: Vec<GroupEntry>,
}

impl Directory {
    pub(crate) fn encoded_len(&self) -> usize {
        8 + self.keys.len() * KEY_ENTRY_LEN + self.groups.len() * GROUP_ENTRY_LEN
    }

    #[expect(clippy::cast_possible_truncation, reason = "a frame is smaller than 4 GiB")]
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.keys.len() as u32).to_be_bytes());
        for (table, wrapped) in &self.keys {
            out.extend_from_slice(&table.0);
            out.extend_from_slice(&wrapped.to_bytes());
        }
        out.extend_from_slice(&(self.groups.len() as u32).to_be_bytes());
        for group in &self.groups {
            out.extend_from_slice(&group.table.0);
            out.extend_from_slice(&group.block.to_be_bytes());
            out.extend_from_slice(&group.mutations.to_be_bytes());
            out.extend_from_slice(&group.length.to_be_bytes());
            out.extend_from_slice(&group.tag);
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut directory = Self::default();
        let keys = u32::from_be_bytes(take(&mut rest)?);
        for _ in 0..keys {
            let table = TableId(take(&mut rest)?);
            let wrapped: [u8; WrappedDataKey::LEN] = take(&mut rest)?;
            directory.keys.push((table, WrappedDataKey::from_bytes(&wrapped).ok()?));
        }
        let groups = u32::from_be_bytes(take(&mut rest)?);
        for _ in 0..groups {
            directory.groups.push(GroupEntry {
                table: TableId(take(&mut rest)?),
                block: u64::from_be_bytes(take(&mut rest)?),
                mutations: u32::from_be_bytes(take(&mut rest)?),
                length: u32::from_be_bytes(take(&mut rest)?),
                tag: take(&mut rest)?,
            });
        }
        rest.is_empty().then_some(directory)
    }

    /// Verifies and decodes the sealed directory of a frame.
    pub(crate) fn open(header: &FrameHeader, sealed: &mut [u8], opener: &Opener) -> Option<Self> {
        let extra = header.encode();
        let plain = opener
            .open_in_place(Component::Log, 2 * header.number + 1, Place::Inner, &extra, sealed)
            .ok()?;
        let directory = Self::decode(plain)?;
        let body: u64 =
            directory.groups.iter().map(|group| u64::from(group.length) + TAG_LEN as u64).sum();
        (body == u64::from(header.body_len)).then_some(directory)
    }
}

/// Opens a group (ciphertext and tag) where it stands.
pub(crate) fn open_group<'a>(
    opener: &Opener,
    lsn: Lsn,
    block: u64,
    sealed: &'a mut [u8],
) -> coffer_crypto::Result<&'a mut [u8]> {
    opener.open_in_place(Component::Log, block, Place::Inner, &lsn.0.to_be_bytes(), sealed)
}

/// Takes the next `N` bytes off the front.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (front, back) = rest.split_first_chunk::<N>()?;
    *rest = back;
    Some(*front)
}

fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    if let Some((front, back)) = std::mem::take(rest).split_at_mut_checked(bytes.len()) {
        front.copy_from_slice(bytes);
        *rest = back;
    }
}
