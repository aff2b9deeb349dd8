//! Read-only maps of published files; the only unsafe block of the workspace.
//!
//! Pages that were read through a map count as resident memory of the process, though the kernel may drop them. So
//! that a large data set does not look like large memory use, [`MapBudget`] counts what the maps have touched and
//! makes them anew when it is too much, which gives the pages back.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use memmap2::Mmap;
use parking_lot::Mutex;

/// Unit of counting: a page fault maps as much of the file around it.
const WINDOW_BYTES: usize = 64 << 10;

/// The bytes of a published file. Empty files have no map.
///
/// Ciphertext is copied out before it is opened, so that what is verified is what is used.
#[derive(Debug)]
pub struct FileMap {
    path: PathBuf,
    map: ArcSwapOption<Mmap>,
    length: u64,
    /// One bit for each window that was read since the map was made.
    touched: Vec<AtomicU64>,
}

impl FileMap {
    /// Maps a whole file.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let map = map_file(path)?;
        let length = map.as_ref().map_or(0, |map| map.len());
        let words = length.div_ceil(WINDOW_BYTES).div_ceil(64);
        Ok(Self {
            path: path.to_path_buf(),
            map: ArcSwapOption::from_pointee(map),
            length: length as u64,
            touched: std::iter::repeat_with(AtomicU64::default).take(words).collect(),
        })
    }

    /// Length of the file in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Copies bytes out; `None` when they are not all in the file.
    pub(crate) fn copy(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(length)?;
        let map = self.map.load();
        map.as_ref()?.get(start..end).map(<[u8]>::to_vec)
    }

    /// Marks what was read; returns the bytes of the windows that were not marked before.
    fn touch(&self, offset: u64, length: usize) -> u64 {
        let Ok(start) = usize::try_from(offset) else { return 0 };
        let windows = start / WINDOW_BYTES..start.saturating_add(length).div_ceil(WINDOW_BYTES);
        let mut fresh = 0;
        for window in windows {
            let bit = 1 << (window % 64);
            if let Some(word) = self.touched.get(window / 64)
                && word.load(Ordering::Relaxed) & bit == 0
                && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
            {
                fresh += WINDOW_BYTES as u64;
            }
        }
        fresh
    }

    /// Maps the file anew, which gives back the pages of the old map once its readers are done. A file that has lost
    /// its name keeps the map it has; it goes with its last reader.
    fn release(&self) {
        let touched =
            self.touched.iter().fold(0, |bits, word| bits | word.swap(0, Ordering::Relaxed));
        if touched == 0 {
            return;
        }
        if let Ok(Some(map)) = map_file(&self.path)
            && map.len() as u64 == self.length
        {
            self.map.store(Some(Arc::new(map)));
        }
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract is below")]
fn map_file(path: &Path) -> io::Result<Option<Mmap>> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    // SAFETY: a map is undefined only if the file changes under it. Coffer maps published files alone: they were
    // renamed into place after their last write, are never written or truncated again, only unlinked (which keeps
    // the pages alive), and belong to the server's user with mode 0600 under a locked directory. No reference
    // into the map outlives the copy that a reader makes, and no type but bytes is read from it.
    unsafe { Mmap::map(&file) }.map(Some)
}

/// Bounds the pages that maps keep resident.
#[derive(Debug)]
pub(crate) struct MapBudget {
    limit_bytes: u64,
    touched_bytes: AtomicU64,
    maps: Mutex<Vec<Weak<FileMap>>>,
}

impl MapBudget {
    /// Of about `limit_bytes` in all.
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, touched_bytes: AtomicU64::new(0), maps: Mutex::new(Vec::new()) }
    }

    /// Counts a map from here on.
    pub(crate) fn register(&self, map: &Arc<FileMap>) {
        self.maps.lock().push(Arc::downgrade(map));
    }

    /// Counts a read; when the limit is passed, one of the readers has all maps made anew.
    pub(crate) fn touch(&self, map: &FileMap, offset: u64, length: usize) {
        let fresh = map.touch(offset, length);
        if fresh == 0
            || self.touched_bytes.fetch_add(fresh, Ordering::Relaxed) + fresh <= self.limit_bytes
        {
            return;
        }
        let Some(mut maps) = self.maps.try_lock() else { return };
        self.touched_bytes.store(0, Ordering::Relaxed);
        maps.retain(|map| map.upgrade().inspect(|map| map.release()).is_some());
    }

    /// Bytes of the windows touched since the maps were last made anew.
    #[cfg(test)]
    pub(crate) fn touched_bytes(&self) -> u64 {
        self.touched_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_made_anew_when_they_have_touched_too_much() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        let bytes: Vec<u8> = (0..40 * WINDOW_BYTES).map(|n| (n / 1000).to_le_bytes()[0]).collect();
        std::fs::write(&path, &bytes).expect("write");
        let map = Arc::new(FileMap::open(&path).expect("maps"));
        let budget = MapBudget::new(10 * WINDOW_BYTES as u64);
        budget.register(&map);
        let first = map.map.load_full();
        for round in 0..3 {
            for offset in (0..bytes.len() - 5000).step_by(5000) {
                assert_eq!(
                    map.copy(offset as u64, 5000).as_deref(),
                    bytes.get(offset..offset + 5000)
                );
                budget.touch(&map, offset as u64, 5000);
                assert!(budget.touched_bytes() <= 10 * WINDOW_BYTES as u64, "round {round}");
            }
        }
        let last = map.map.load_full();
        assert!(!Arc::ptr_eq(&first.expect("a map"), last.as_ref().expect("a map")));
        std::fs::remove_file(&path).expect("remove");
        map.release();
        assert_eq!(map.copy(0, 10).as_deref(), bytes.get(..10), "an unlinked file is read on");
    }

    #[test]
    fn nothing_outside_the_file_is_copied() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        std::fs::write(&path, b"abc").expect("write");
        let map = FileMap::open(&path).expect("maps");
        assert_eq!((map.length(), map.copy(1, 2)), (3, Some(b"bc".to_vec())));
        assert_eq!(map.copy(1, 3), None);
        assert_eq!(map.copy(u64::MAX, 1), None);
        std::fs::write(&path, b"").expect("write");
        let map = FileMap::open(&path).expect("maps");
        assert_eq!((map.length(), map.copy(0, 0)), (0, None));
    }
}
