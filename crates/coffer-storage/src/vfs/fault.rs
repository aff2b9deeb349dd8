//! A file system for tests: refuses the operation one asks it to, and can put the directory into any state that a
//! crash may leave.
//!
//! Works on real files of a directory of its own. Every operation that changes something is counted. Beside the
//! files it keeps what of them is durable: contents as of the last sync of the file, names as of the last sync of
//! the directory. [`FaultVfs::crash`] rewrites the files to that, plus whatever part of the rest one asks for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{OsVfs, ReadableFile, Vfs, WritableFile};
use crate::mmap::FileMap;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; the error has this kind.
    Error(io::ErrorKind),
    /// Of a write the first half is done, in whole sectors, then the disk is full. Other operations do nothing.
    ShortWrite,
}

/// What a crash takes of the things that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashLoss {
    /// Nothing: the process died, the machine did not. What was not synced is there, and a later crash may take it.
    Nothing,
    /// Everything.
    Everything,
    /// A part that the seed decides: some writes of a file and not others, one of them half, names of some
    /// directories.
    Random(u64),
}

/// The fault-injecting file system. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct FaultVfs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    /// Number of the first operation that fails, of the first that works again, and how they fail.
    faults: Vec<(u64, u64, Fault)>,
    /// Rises with each crash: files opened before it are dead.
    epoch: u64,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    files: Vec<Contents>,
}

/// What of a file is durable, and the writes since.
#[derive(Debug, Default, Clone)]
struct Contents {
    durable: Vec<u8>,
    pending: Vec<PendingWrite>,
}

#[derive(Debug, Clone)]
struct PendingWrite {
    offset: u64,
    bytes: Vec<u8>,
    /// A sync failed since: a later one does not write this, as the system takes it for written.
    given_up: bool,
}

#[derive(Debug)]
struct FaultFile {
    state: Arc<Mutex<State>>,
    inner: Box<dyn WritableFile>,
    number: usize,
    epoch: u64,
    end: u64,
}

impl FaultVfs {
    /// A file system without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Makes one operation fail: the one with this number, where [`FaultVfs::operations`] is the number of the last.
    pub fn fail_operation(&self, number: u64, fault: Fault) {
        self.state.lock().faults.push((number, number.saturating_add(1), fault));
    }

    /// Makes every operation from this number on fail, like a disk that stays full.
    pub fn fail_from(&self, number: u64, fault: Fault) {
        self.state.lock().faults.push((number, u64::MAX, fault));
    }

    /// No operation fails any more.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Puts the files into a state after a crash. What was open for writing refuses every operation from here on.
    ///
    /// # Errors
    /// Those of rewriting the files.
    pub fn crash(&self, loss: CrashLoss) -> io::Result<()> {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.faults.clear();
        if loss == CrashLoss::Nothing {
            return Ok(());
        }
        let mut choice = Choice::new(loss);
        let survivors = state.surviving_names(&mut choice);
        let paths: Vec<PathBuf> =
            state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        for path in paths.iter().filter(|path| !survivors.contains_key(*path)) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut files: Vec<Contents> = Vec::new();
        let mut names = BTreeMap::new();
        // what one name of a file has lost all its names have lost
        let mut renumbered: BTreeMap<usize, usize> = BTreeMap::new();
        for (path, number) in survivors {
            if let Some(known) = renumbered.get(&number) {
                let durable = files.get(*known).map(|file| file.durable.clone());
                rewrite(&path, &durable.unwrap_or_default())?;
                names.insert(path, *known);
                continue;
            }
            let contents = state.files.get(number).cloned().unwrap_or_default();
            let durable = contents.after_crash(&mut choice);
            rewrite(&path, &durable)?;
            renumbered.insert(number, files.len());
            names.insert(path, files.len());
            files.push(Contents { durable, pending: Vec::new() });
        }
        state.files = files;
        state.names.clone_from(&names);
        state.durable_names = names;
        Ok(())
    }
}

fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, bytes)
}

impl State {
    /// Counts an operation and tells whether it fails.
    fn count(&mut self) -> Option<Fault> {
        self.operations += 1;
        let number = self.operations;
        self.faults
            .iter()
            .find(|(from, to, _)| (*from..*to).contains(&number))
            .map(|(_, _, fault)| *fault)
    }

    /// Counts an operation that is done whole or not at all.
    fn begin(&mut self) -> io::Result<()> {
        match self.count() {
            None => Ok(()),
            Some(Fault::Error(kind)) => Err(io::Error::from(kind)),
            Some(Fault::ShortWrite) => Err(io::Error::from(io::ErrorKind::StorageFull)),
        }
    }

    /// Takes up a file that was there before this file system was; it counts as durable.
    fn adopt(&mut self, path: &Path) -> io::Result<()> {
        if !self.names.contains_key(path)
            && !self.durable_names.contains_key(path)
            && path.is_file()
        {
            let number = self.files.len();
            self.files.push(Contents { durable: fs::read(path)?, pending: Vec::new() });
            self.names.insert(path.to_path_buf(), number);
            self.durable_names.insert(path.to_path_buf(), number);
        }
        Ok(())
    }

    fn surviving_names(&self, choice: &mut Choice) -> BTreeMap<PathBuf, usize> {
        let paths = self.names.keys().chain(self.durable_names.keys());
        let mut kept_by_directory: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for directory in paths.filter_map(|path| path.parent()) {
            kept_by_directory.entry(directory.to_path_buf()).or_insert_with(|| choice.keeps());
        }
        let of = |names: &BTreeMap<PathBuf, usize>, wanted: bool| -> BTreeMap<PathBuf, usize> {
            let kept = |path: &Path| {
                path.parent().and_then(|directory| kept_by_directory.get(directory)).copied()
            };
            names
                .iter()
                .filter(|(path, _)| kept(path) == Some(wanted))
                .map(|(path, number)| (path.clone(), *number))
                .collect()
        };
        let mut survivors = of(&self.names, true);
        survivors.extend(of(&self.durable_names, false));
        survivors
    }
}

impl Contents {
    fn after_crash(&self, choice: &mut Choice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for write in &self.pending {
            if choice.keeps() {
                write_into(&mut bytes, write.offset, choice.part_of(&write.bytes));
            }
        }
        bytes
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        let is_covered = |write: &PendingWrite| {
            offset <= write.offset && write.offset.saturating_add(write.bytes.len() as u64) <= end
        };
        self.pending.retain(|write| !write.given_up || !is_covered(write));
        self.pending.push(PendingWrite { offset, bytes: bytes.to_vec(), given_up: false });
    }

    fn sync(&mut self) {
        let (kept, written) =
            std::mem::take(&mut self.pending).into_iter().partition(|write| write.given_up);
        self.pending = kept;
        let written: Vec<PendingWrite> = written;
        for write in written {
            write_into(&mut self.durable, write.offset, &write.bytes);
        }
    }
}

/// Decides what survives.
struct Choice {
    loss: CrashLoss,
    random: u64,
}

impl Choice {
    fn new(loss: CrashLoss) -> Self {
        let random = if let CrashLoss::Random(seed) = loss { seed } else { 0 };
        Self { loss, random }
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn keeps(&mut self) -> bool {
        match self.loss {
            CrashLoss::Nothing => true,
            CrashLoss::Everything => false,
            CrashLoss::Random(_) => self.next().is_multiple_of(2),
        }
    }

    /// All of a write, or now and then only its first sectors.
    fn part_of<'a>(&mut self, written: &'a [u8]) -> &'a [u8] {
        if matches!(self.loss, CrashLoss::Random(_)) && self.next().is_multiple_of(4) {
            let length = self.next() % (written.len() as u64 + 1);
            // a disk writes whole sectors
            let length = length - length % 512;
            return usize::try_from(length)
                .ok()
                .and_then(|length| written.get(..length))
                .unwrap_or(written);
        }
        written
    }
}

fn write_into(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(written.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(start..end) {
        place.copy_from_slice(written);
    }
}

impl Vfs for FaultVfs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let mut state = self.state.lock();
        state.begin()?;
        let inner = OsVfs.create(path)?;
        let number = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(path.to_path_buf(), number);
        let epoch = state.epoch;
        Ok(Box::new(FaultFile { state: Arc::clone(&self.state), inner, number, epoch, end: 0 }))
    }

    fn reopen(&self, path: &Path) -> io::Result<Box<dyn WritableFile>> {
        let mut state = self.state.lock();
        let inner = OsVfs.reopen(path)?;
        state.adopt(path)?;
        let number = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let (epoch, end) = (state.epoch, fs::metadata(path)?.len());
        Ok(Box::new(FaultFile { state: Arc::clone(&self.state), inner, number, epoch, end }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        OsVfs.open(path)
    }

    fn map(&self, path: &Path) -> io::Result<FileMap> {
        OsVfs.map(path)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        OsVfs.read(path, limit)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.adopt(from)?;
        state.adopt(to)?;
        OsVfs.rename(from, to)?;
        if let Some(number) = state.names.remove(from) {
            state.names.insert(to.to_path_buf(), number);
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.adopt(from)?;
        state.adopt(to)?;
        OsVfs.hard_link(from, to)?;
        let number = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        state.adopt(path)?;
        OsVfs.remove(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.state.lock().begin()?;
        OsVfs.create_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.state.lock().begin()?;
        OsVfs.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin()?;
        OsVfs.sync_directory(path)?;
        let names = state.names.clone();
        state.durable_names.retain(|name, _| name.parent() != Some(path));
        state
            .durable_names
            .extend(names.into_iter().filter(|(name, _)| name.parent() == Some(path)));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        OsVfs.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        OsVfs.exists(path)
    }
}

impl WritableFile for FaultFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(self.end, bytes)?;
        self.end = self.end.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        let (written, result) = match state.count() {
            None => (bytes, Ok(())),
            Some(Fault::Error(kind)) => (&[][..], Err(io::Error::from(kind))),
            Some(Fault::ShortWrite) => {
                // a file system cuts a write between blocks
                let half = bytes.get(..bytes.len() / 2 / 512 * 512).unwrap_or_default();
                (half, Err(io::Error::from(io::ErrorKind::StorageFull)))
            }
        };
        self.inner.write_at(offset, written)?;
        if let Some(contents) = state.files.get_mut(self.number) {
            contents.write(offset, written);
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.epoch != self.epoch {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        let begun = state.begin();
        if let Some(contents) = state.files.get_mut(self.number) {
            match begun {
                Ok(()) => contents.sync(),
                Err(_) => contents.pending.iter_mut().for_each(|write| write.given_up = true),
            }
        }
        begun
    }
}
