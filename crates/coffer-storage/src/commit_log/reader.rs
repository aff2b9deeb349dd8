//! Reads the structure of the log at the start, with the root key alone.
//!
//! A file is whole up to its end frame. Only the last file with frames may lack one, after a crash:
//! then zeros follow its last frame, or one unfinished frame which may be cut. A frame counts as
//! unfinished when a whole sector of it is still zero (sealed bytes and padding never are), nothing
//! but zeros follow it, and no later frame says that it was synced. Everything else is `Tampered`.
//! What this cannot tell apart: the last file cut exactly after a frame, and a crash at that moment.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use coffer_crypto::{Opener, RootKey, RootKeys, TAG_LEN};

use super::inspect::LogFrames;
use super::record::{
    Directory, FRAME_HEADER_LEN, FileHeader, FrameHeader, FrameKind, HEADER_LEN, PADDING, Refusal,
    SECTOR,
};
use super::replay::LogIndex;
use crate::Lsn;
use crate::catalog::LogRecord;
use crate::error::{Error, Result};
use crate::ids::ClusterId;
use crate::vfs::Vfs;

/// More zeros than this do not follow each other in a frame: the head has a dozen, sealed bytes are
/// random.
const ZERO_RUN_MAX: usize = 24;
/// Longest log file that is read.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// What the log's files hold.
#[derive(Debug)]
pub(crate) struct LogScan {
    pub(crate) index: LogIndex,
    /// The last frame.
    pub(crate) last: Lsn,
    /// Number of the next file.
    pub(crate) next_number: u64,
    /// Files without an end frame: number and bytes that are valid.
    pub(crate) recovered: BTreeMap<u64, u64>,
    /// The catalog had at least this version.
    pub(crate) catalog_version: u64,
    /// The frames at the end of which nothing says that they were synced.
    unsynced: Option<LogEnd>,
}

/// The last bytes of the log, as they were read.
#[derive(Debug)]
struct LogEnd {
    path: PathBuf,
    offset: u64,
    bytes: Vec<u8>,
}

impl LogScan {
    /// Makes durable what was read, before anything relies on it: of a process that died, or whose sync
    /// failed, frames can be read that a loss of power would take. They are written once more, because a
    /// system that failed to sync them may take them for synced.
    pub(crate) fn settle(&self, vfs: &dyn Vfs) -> Result<()> {
        let Some(end) = &self.unsynced else { return Ok(()) };
        let written = vfs.reopen(&end.path).and_then(|mut file| {
            file.write_at(end.offset, &end.bytes)?;
            file.sync()
        });
        written.map_err(|error| Error::io("sync log", &end.path, error))
    }
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Continued,
    Stopped,
    /// No end frame: valid bytes, and whether there are frames.
    Open {
        valid: u64,
        frames: bool,
    },
    /// As the catalog has it from an earlier recovery.
    Recovered {
        valid: u64,
    },
}

/// As [`check`], after files that were freed are removed.
pub(crate) fn scan(
    vfs: &dyn Vfs,
    directory: &Path,
    roots: &RootKeys,
    cluster: ClusterId,
    known: &LogRecord,
) -> Result<LogScan> {
    for number in file_numbers(vfs, directory)?.into_iter().filter(|number| *number < known.oldest)
    {
        let path = super::file_path(directory, number);
        vfs.remove(&path).map_err(|error| Error::io("remove log", &path, error))?;
    }
    check(vfs, directory, roots, cluster, known)
}

/// Checks all files of the log against each other and against the catalog. Only reads.
pub(crate) fn check(
    vfs: &dyn Vfs,
    directory: &Path,
    roots: &RootKeys,
    cluster: ClusterId,
    known: &LogRecord,
) -> Result<LogScan> {
    let numbers = log_numbers(vfs, directory, known)?;
    let mut scan = LogScan {
        index: LogIndex::default(),
        last: known.freed,
        next_number: numbers.last().map_or(known.known, |last| *last) + 1,
        recovered: BTreeMap::new(),
        catalog_version: 0,
        unsynced: None,
    };
    let mut ended: Option<Ending> = None;
    for number in numbers {
        let path = super::file_path(directory, number);
        let before = scan.last;
        let recovered = known.recovered.get(&number).copied();
        let mut file = FileScan::open(vfs, roots, cluster, number, path)?;
        let ending = file.frames(&mut scan, recovered)?;
        let frames = scan.last > before || matches!(ending, Ending::Open { frames: true, .. });
        if let Ending::Open { valid, .. } | Ending::Recovered { valid } = ending {
            scan.recovered.insert(number, valid);
        }
        if number < known.known {
            if matches!(ending, Ending::Open { .. }) {
                return Err(Error::tampered(&file.path, "end of the file is missing"));
            }
            continue;
        }
        let after_end = matches!(ended, Some(Ending::Stopped | Ending::Open { frames: true, .. }));
        if after_end && (frames || matches!(ending, Ending::Continued | Ending::Stopped)) {
            return Err(Error::tampered(&file.path, "frames after the end of the log"));
        }
        if !after_end {
            ended = Some(ending);
        }
        // the file before was synced when it ended
        scan.unsynced = file.end().or(scan.unsynced);
    }
    if ended == Some(Ending::Continued) {
        let path = super::file_path(directory, scan.next_number);
        return Err(Error::tampered(path, "log file is missing"));
    }
    if scan.last < known.committed {
        let path = super::file_path(directory, scan.next_number - 1);
        return Err(Error::tampered(path, "frames at the end of the log are missing"));
    }
    Ok(scan)
}

/// The numbers of all log files in the directory, rising.
fn file_numbers(vfs: &dyn Vfs, directory: &Path) -> Result<Vec<u64>> {
    let names = vfs.list(directory).map_err(|error| Error::io("list log", directory, error))?;
    let number = |name: &String| {
        let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The numbers of the files that count, complete and rising.
fn log_numbers(vfs: &dyn Vfs, directory: &Path, known: &LogRecord) -> Result<Vec<u64>> {
    let mut numbers = file_numbers(vfs, directory)?;
    numbers.retain(|number| *number >= known.oldest);
    let last = numbers.last().copied().unwrap_or(0).max(known.known);
    let first = known.oldest.max(1);
    for (number, found) in
        (first..=last).zip(numbers.iter().map(Some).chain(std::iter::repeat(None)))
    {
        if found != Some(&number) {
            let path = super::file_path(directory, number);
            return Err(Error::tampered(path, "log file is missing"));
        }
    }
    Ok(numbers)
}

struct FileScan {
    path: PathBuf,
    header: FileHeader,
    opener: Opener,
    bytes: Vec<u8>,
    position: usize,
    number: u64,
    /// Where the last frame begins.
    last_frame: usize,
    /// The data frames of which no later one says that they were synced.
    unsynced: VecDeque<FrameSpan>,
}

/// Where a data frame lies.
#[derive(Debug, Clone, Copy)]
struct FrameSpan {
    start: usize,
    end: usize,
    lsn: Lsn,
    number: u64,
}

impl FileScan {
    fn open(
        vfs: &dyn Vfs,
        roots: &RootKeys,
        cluster: ClusterId,
        number: u64,
        path: PathBuf,
    ) -> Result<Self> {
        let bytes = vfs.read(&path, FILE_BYTES_MAX).map_err(|e| Error::io("read log", &path, e))?;
        let sector = bytes.get(..HEADER_LEN).ok_or_else(|| Error::tampered(&path, "length"))?;
        let opened = match (FileHeader::open(sector, roots.current()), roots.previous()) {
            (Err(Refusal::WrongKey), Some(previous)) => FileHeader::open(sector, previous),
            (opened, _) => opened,
        };
        let (header, opener) = opened.map_err(|refusal| match refusal {
            Refusal::WrongKey => Error::WrongKey { file: path.clone() },
            Refusal::Tampered(what) => Error::tampered(&path, what),
        })?;
        if header.cluster != cluster || header.number != number {
            return Err(Error::tampered(&path, "file belongs elsewhere"));
        }
        if header.length != bytes.len() as u64 {
            return Err(Error::tampered(&path, "length"));
        }
        let unsynced = VecDeque::new();
        Ok(Self {
            path,
            header,
            opener,
            bytes,
            position: HEADER_LEN,
            number: 0,
            last_frame: HEADER_LEN,
            unsynced,
        })
    }

    /// Takes all frames into the index.
    fn frames(&mut self, scan: &mut LogScan, recovered: Option<u64>) -> Result<Ending> {
        scan.index.open_file(&self.header, self.path.clone());
        scan.index.close_file(self.header.number);
        let limit = match recovered {
            Some(valid) => usize::try_from(valid).ok().filter(|valid| *valid <= self.bytes.len()),
            None => Some(self.bytes.len()),
        };
        let limit = limit.ok_or_else(|| Error::tampered(&self.path, "length"))?;
        while self.position < limit {
            let Some((header, directory)) = self.frame_at(self.position) else { break };
            let end = self.position + usize::try_from(header.extent()).unwrap_or(usize::MAX);
            if end > limit || !self.fits(&header, scan.last) {
                return Err(self.tampered("frame is out of order"));
            }
            scan.catalog_version = scan.catalog_version.max(header.catalog_version);
            self.last_frame = self.position;
            while self.unsynced.front().is_some_and(|frame| frame.lsn <= header.durable) {
                self.unsynced.pop_front();
            }
            match header.kind {
                FrameKind::Data => self.take_frame(scan, &header, &directory, end),
                FrameKind::Witness => {
                    self.position = end;
                    self.number += 1;
                }
                FrameKind::Continued | FrameKind::Stopped => {
                    self.position = end;
                    self.require_zeros(end)?;
                    let continued = header.kind == FrameKind::Continued;
                    return Ok(if continued { Ending::Continued } else { Ending::Stopped });
                }
            }
        }
        if let Some(valid) = recovered {
            if self.position != limit {
                return Err(self.tampered("frame does not authenticate"));
            }
            return Ok(Ending::Recovered { valid });
        }
        self.torn_end(scan)
    }

    fn take_frame(
        &mut self,
        scan: &mut LogScan,
        header: &FrameHeader,
        directory: &Directory,
        end: usize,
    ) {
        let mut offset = (self.position + FRAME_HEADER_LEN) as u64;
        let mut offsets = Vec::with_capacity(directory.groups.len());
        for group in &directory.groups {
            offsets.push(offset);
            offset += u64::from(group.length) + TAG_LEN as u64;
        }
        scan.index.record(&self.header, header, directory, &offsets);
        scan.last = header.lsn;
        self.unsynced.push_back(FrameSpan {
            start: self.position,
            end,
            lsn: header.lsn,
            number: self.number,
        });
        self.position = end;
        self.number += 1;
    }

    fn fits(&self, header: &FrameHeader, last: Lsn) -> bool {
        let lsn = match header.kind {
            FrameKind::Data => last.0 + 1,
            FrameKind::Continued | FrameKind::Stopped | FrameKind::Witness => last.0,
        };
        header.lsn.0 == lsn && header.number == self.number
    }

    /// The frame at an offset, if it authenticates.
    fn frame_at(&self, offset: usize) -> Option<(FrameHeader, Directory)> {
        let rest = self.bytes.get(offset..)?;
        let header = FrameHeader::open(rest, &self.opener)?;
        let frame = rest.get(..usize::try_from(header.frame_len()).ok()?)?;
        let padding = rest.get(frame.len()..usize::try_from(header.extent()).ok()?)?;
        let start = FRAME_HEADER_LEN.checked_add(usize::try_from(header.body_len).ok()?)?;
        let mut sealed = frame.get(start..)?.to_vec();
        let directory = Directory::open(&header, &mut sealed, &self.opener)?;
        padding.iter().all(|byte| *byte == PADDING).then_some((header, directory))
    }

    /// What follows the last frame of a file without an end.
    fn torn_end(&mut self, scan: &mut LogScan) -> Result<Ending> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        if is_zero(rest) {
            return Ok(self.cut_unfinished(scan));
        }
        let next = Lsn(scan.last.0 + 1);
        let later = (self.position + SECTOR..self.bytes.len()).step_by(SECTOR);
        let synced = later
            .filter_map(|offset| self.frame_at(offset))
            .any(|(header, _)| header.durable >= next);
        if synced {
            return Err(self.tampered("frame does not authenticate, later ones do"));
        }
        if self.header.periodic {
            return Ok(self.cut_unfinished(scan));
        }
        if !is_unfinished(rest, &self.opener) {
            return Err(self.tampered("frame does not authenticate"));
        }
        Ok(self.open_ending())
    }

    /// A frame whose directory is whole and whose body is not was not synced: the last one, or with
    /// periodic syncs one of the last. It is cut with what follows it.
    fn cut_unfinished(&mut self, scan: &mut LogScan) -> Ending {
        let unfinished = self.unsynced.iter().find(|frame| {
            let bytes = self.bytes.get(frame.start..frame.end).unwrap_or_default();
            bytes.chunks(SECTOR).any(is_zero)
        });
        if let Some(frame) = unfinished.copied() {
            scan.index.cut(self.header.number, frame.lsn);
            scan.last = Lsn(frame.lsn.0 - 1);
            self.position = frame.start;
            self.number = frame.number;
        }
        self.open_ending()
    }

    /// The valid frames that may not be synced; `None` when there are no frames.
    fn end(&self) -> Option<LogEnd> {
        let start = self.unsynced.front().map_or(self.last_frame, |frame| frame.start);
        let bytes = self.bytes.get(start..self.position).filter(|bytes| !bytes.is_empty())?;
        Some(LogEnd { path: self.path.clone(), offset: start as u64, bytes: bytes.to_vec() })
    }

    fn open_ending(&self) -> Ending {
        Ending::Open { valid: self.position as u64, frames: self.number > 0 }
    }

    fn require_zeros(&self, from: usize) -> Result<()> {
        if is_zero(self.bytes.get(from..).unwrap_or_default()) {
            return Ok(());
        }
        Err(self.tampered("bytes after the end frame"))
    }

    fn tampered(&self, what: &str) -> Error {
        Error::tampered(&self.path, format!("{what}, offset={}", self.position))
    }
}

/// Verifies the frames of one file by itself; returns them, and where each table's records are.
pub(super) fn inspect_frames(
    vfs: &dyn Vfs,
    root: &RootKey,
    header: &FileHeader,
    path: PathBuf,
) -> Result<(LogFrames, LogIndex)> {
    let mut file =
        FileScan::open(vfs, &root.duplicate().into(), header.cluster, header.number, path)?;
    let first = file.frame_at(HEADER_LEN).map(|(frame, _)| frame);
    let before = first.as_ref().map_or(Lsn(0), |frame| match frame.kind {
        FrameKind::Data => Lsn(frame.lsn.0.saturating_sub(1)),
        FrameKind::Continued | FrameKind::Stopped | FrameKind::Witness => frame.lsn,
    });
    let mut scan = LogScan {
        index: LogIndex::default(),
        last: before,
        next_number: 0,
        recovered: BTreeMap::new(),
        catalog_version: 0,
        unsynced: None,
    };
    let ending = file.frames(&mut scan, None)?;
    let tables = scan.index.group_counts();
    let range = (scan.last > before).then_some((Lsn(before.0 + 1), scan.last));
    let ended = matches!(ending, Ending::Continued | Ending::Stopped);
    Ok((LogFrames { range, ended, tables, catalog_version: scan.catalog_version }, scan.index))
}

/// In chunks, which compare as wide as the processor can: whole files of zeros are looked at.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |bits, byte| bits | byte) == 0)
}

/// Whether what follows the last frame can be one write that a crash interrupted.
fn is_unfinished(rest: &[u8], opener: &Opener) -> bool {
    let written =
        rest.chunks(SECTOR).rposition(|sector| !is_zero(sector)).map_or(0, |last| last + 1);
    let extent = match FrameHeader::open(rest, opener) {
        Some(header) => usize::try_from(header.extent() / SECTOR as u64).unwrap_or(usize::MAX),
        // the first sector did not arrive: how long the frame was to be is not known
        None if is_zero(rest.get(..SECTOR).unwrap_or_default()) => written,
        None => return false,
    };
    let mut sectors = rest.chunks(SECTOR).take(written);
    let missing = rest.chunks(SECTOR).take(extent).any(is_zero);
    written <= extent && missing && sectors.all(|sector| is_zero(sector) || is_dense(sector))
}

/// Whether a sector can be part of a frame: sealed bytes and padding hold no long runs of zeros.
fn is_dense(sector: &[u8]) -> bool {
    !sector.windows(ZERO_RUN_MAX + 1).any(is_zero)
}
