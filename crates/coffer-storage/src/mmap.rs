//! Read-only maps of published files; the only unsafe block of the workspace.

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// The bytes of a published file.
///
/// Ciphertext is copied out of the map before it is opened, so that what is verified is what is used.
#[derive(Debug)]
pub struct FileMap {
    map: Option<Mmap>,
}

impl FileMap {
    /// Maps a whole file. An empty file gives an empty map.
    ///
    /// # Errors
    /// The operating system's.
    #[expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract is below")]
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: a map is undefined only if the file changes under it. Coffer maps published files alone: they were
        // renamed into place after their last write, are never written or truncated again, only unlinked (which keeps
        // the pages alive), and belong to the server's user with mode 0600 under a locked directory. No reference
        // into the map outlives the copy that a reader makes, and no type but bytes is read from it.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map: Some(map) })
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
