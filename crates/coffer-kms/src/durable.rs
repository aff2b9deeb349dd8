//! Small files of keys, made so that a crash leaves the old or the new one, never a half.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};
use zeroize::Zeroizing;

/// Creates `dir` with mode 0700 unless it exists.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
            _ => sync_dir(Path::new(".")),
        },
    }
}

/// Puts `bytes` into `dir/name`, mode 0600: write, sync, rename, sync the directory.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that publishes a file")]
pub(crate) fn publish(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Makes `dir/name`, mode 0600, with these first bytes, for a file that grows. A file of that name,
/// left by an attempt that failed, is replaced. Its name is durable once the directory is synced.
pub(crate) fn create_log(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<File> {
    let path = dir.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Removes `dir/name` if it is there; the removal is durable when this returns.
pub(crate) fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_dir(dir),
    }
}

/// Why a file of secrets is not read.
pub(crate) enum SecretFileError {
    /// Others than its owner may use it; holds the mode.
    Loose(u32),
    /// It is no regular file, or longer than a file of its kind can be.
    NoSuchFile,
    /// The system said no.
    Io(io::Error),
}

impl From<io::Error> for SecretFileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file of at most `len_max` bytes that nobody but its owner may read or write. `None` when
/// there is none.
pub(crate) fn read_secret(
    path: &Path,
    len_max: u64,
) -> Result<Option<Zeroizing<Vec<u8>>>, SecretFileError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > len_max {
        return Err(SecretFileError::NoSuchFile);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Loose(mode));
    }
    let len = usize::try_from(metadata.len()).map_err(|_| SecretFileError::NoSuchFile)?;
    let mut bytes = Zeroizing::new(vec![0; len]);
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
