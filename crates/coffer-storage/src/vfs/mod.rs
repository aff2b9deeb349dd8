//! The one seam between the engine and the file system, and the one place where files are published.
//!
//! Everything the engine writes goes through [`Vfs`]. [`OsVfs`] is the real one; [`FaultVfs`] refuses, shortens or
//! forgets operations, and can put a directory into any state that a crash may leave behind.
//!
//! A file is published in this order and nowhere else ([`UnpublishedFile::publish`]):
//! write -> sync -> rename -> sync the directory. Only after that may anything name the file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
pub use crate::mmap::FileMap;

mod fault;
mod os;

pub use fault::{CrashLoss, Fault, FaultVfs};
pub use os::OsVfs;

/// The end of the name of a file that is not published yet. Such files are removed at start.
pub const UNPUBLISHED_SUFFIX: &str = ".unpublished";

/// A file system as the engine needs it. Paths are those of the operating system.
pub trait Vfs: fmt::Debug + Send + Sync {
    /// Creates a file (mode 0600) that must not exist yet, for writing.
    ///
    /// # Errors
    /// The operating system's, `AlreadyExists` among them.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;

    /// Opens a file that is there, for writing: for log files alone, at the start.
    ///
    /// # Errors
    /// The operating system's.
    fn reopen(&self, path: &Path) -> io::Result<Box<dyn WritableFile>>;

    /// Opens a file for reading at positions.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>>;

    /// Maps a published file, which nothing writes any more.
    ///
    /// # Errors
    /// The operating system's.
    fn map(&self, path: &Path) -> io::Result<FileMap>;

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// The operating system's; `FileTooLarge` when the file is longer.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// Renames a file over whatever has the new name. Durable after [`Vfs::sync_directory`].
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a published file a second name. Durable after [`Vfs::sync_directory`].
    ///
    /// # Errors
    /// The operating system's, `AlreadyExists` among them; `Unsupported` and the like where it has no
    /// second names.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Vfs::sync_directory`].
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory (mode 0700) and its parents, durably; fine if it is there already.
    ///
    /// # Errors
    /// The operating system's.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The operating system's.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Lists the names in a directory, sorted; empty when there is no such directory.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether a file or directory has this name.
    ///
    /// # Errors
    /// The operating system's.
    fn exists(&self, path: &Path) -> io::Result<bool>;
}

/// A file being written. Dropping it does not sync it.
pub trait WritableFile: fmt::Debug + Send {
    /// Appends all bytes at the current end of what was written.
    ///
    /// # Errors
    /// The operating system's. How much was written is unknown then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes all bytes at a position, in one call where the system allows it. Does not move the end that
    /// [`WritableFile::append`] uses.
    ///
    /// # Errors
    /// The operating system's. How much was written is unknown then.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes contents and length durable (fdatasync).
    ///
    /// # Errors
    /// The operating system's. After a failure nothing may be assumed about what was written since the last
    /// success, not even if a later sync succeeds.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file open for reading.
pub trait ReadableFile: fmt::Debug + Send {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn length(&self) -> io::Result<u64>;
}

/// A file under a temporary name. Dropped without [`UnpublishedFile::publish`] it is removed.
#[derive(Debug)]
pub struct UnpublishedFile {
    vfs: Arc<dyn Vfs>,
    file: Option<Box<dyn WritableFile>>,
    temporary: PathBuf,
    path: PathBuf,
    length: u64,
    published: bool,
}

impl UnpublishedFile {
    /// Starts a file that will be called `path`. What a crashed attempt at the same name left is replaced.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(vfs: &Arc<dyn Vfs>, path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(UNPUBLISHED_SUFFIX);
        let temporary = PathBuf::from(name);
        let file = match vfs.create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                vfs.remove(&temporary).and_then(|()| vfs.create(&temporary))
            }
            created => created,
        }
        .map_err(|error| Error::io("create file", &temporary, error))?;
        Ok(Self {
            vfs: Arc::clone(vfs),
            file: Some(file),
            temporary,
            path: path.to_path_buf(),
            length: 0,
            published: false,
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`]. The file must be given up then.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.append(bytes).map_err(|error| Error::io("write file", &self.path, error))?;
        }
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The name the file will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable under its name: sync -> rename -> sync directory.
    ///
    /// # Errors
    /// [`Error::Io`]; the file has not got its name. [`Error::Poisoned`] when the last step failed and could not be
    /// undone: the file may or may not have its name after a crash.
    pub fn publish(self) -> Result<()> {
        self.publish_open().map(drop)
    }

    /// As [`UnpublishedFile::publish`], and goes on writing at positions inside the file: for log files alone, which
    /// have their full length from the start.
    ///
    /// # Errors
    /// As [`UnpublishedFile::publish`].
    pub(crate) fn publish_open(mut self) -> Result<Option<Box<dyn WritableFile>>> {
        if let Some(file) = &mut self.file {
            file.sync().map_err(|error| Error::io("sync file", &self.path, error))?;
        }
        self.vfs
            .rename(&self.temporary, &self.path)
            .map_err(|error| Error::io("rename file", &self.path, error))?;
        self.published = true;
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        match self.vfs.sync_directory(directory) {
            Ok(()) => Ok(self.file.take()),
            Err(error) => Err(self.withdraw(directory, error)),
        }
    }

    /// Takes the name away again when it could not be made durable.
    fn withdraw(&self, directory: &Path, error: io::Error) -> Error {
        match self.vfs.remove(&self.path).and_then(|()| self.vfs.sync_directory(directory)) {
            Ok(()) => Error::io("sync directory", directory, error),
            Err(_) => Error::Poisoned(format!(
                "directory {} cannot be synced: {error}",
                directory.display()
            )),
        }
    }
}

impl Drop for UnpublishedFile {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.vfs.remove(&self.temporary)
        {
            tracing::warn!(path = %self.temporary.display(), %error, "an unfinished file stays until the next start");
        }
    }
}

/// Writes a small file in one go and publishes it.
///
/// # Errors
/// [`Error::Io`].
pub fn publish(vfs: &Arc<dyn Vfs>, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = UnpublishedFile::create(vfs, path)?;
    file.append(bytes)?;
    file.publish()
}

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Gives a published file a second name, or makes a published copy of it where the system refuses
/// that. Durable after [`Vfs::sync_directory`] of the second name's directory.
///
/// # Errors
/// [`Error::Io`].
pub fn link_or_copy(vfs: &Arc<dyn Vfs>, from: &Path, to: &Path) -> Result<()> {
    match vfs.hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if refuses_links(error.kind()) => copy(vfs, from, to),
        Err(error) => Err(Error::io("link file", from, error)),
    }
}

fn refuses_links(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::Unsupported
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
    )
}

fn copy(vfs: &Arc<dyn Vfs>, from: &Path, to: &Path) -> Result<()> {
    let source = vfs.open(from).map_err(|error| Error::io("open file", from, error))?;
    let mut file = UnpublishedFile::create(vfs, to)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = source.read_at(file.length(), &mut buffer);
        let read = read.map_err(|error| Error::io("read file", from, error))?;
        match buffer.get(..read).filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => file.append(bytes)?,
            None => return file.publish(),
        }
    }
}

/// Removes what crashed writers left in a directory, and tells how many files that were.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_unpublished(vfs: &dyn Vfs, directory: &Path) -> Result<usize> {
    let mut removed = 0;
    for name in
        vfs.list(directory).map_err(|error| Error::io("list directory", directory, error))?
    {
        if name.ends_with(UNPUBLISHED_SUFFIX) {
            let path = directory.join(&name);
            vfs.remove(&path).map_err(|error| Error::io("remove file", &path, error))?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
