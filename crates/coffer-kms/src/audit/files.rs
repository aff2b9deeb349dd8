//! The files of a log: their names, and how a new one comes to be.

use super::AuditError;
use coffer_crypto::{JOURNAL_HEADER_LEN, JournalKind, RootKey, rewrap_header};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const SUFFIX: &str = ".audit";

/// Creates `dir` with mode 0700 unless it exists.
pub(super) fn create_dir(dir: &Path) -> Result<(), AuditError> {
    let failed = |error: io::Error| AuditError::new("create audit directory", dir, error);
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(()) => sync_dir(dir.parent().unwrap_or(dir)).map_err(failed),
    }
}

/// `DIR/<number>.audit`.
pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}{SUFFIX}"))
}

/// The numbers of all files of the log, in order.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, AuditError> {
    let failed = |error: io::Error| AuditError::new("list audit directory", dir, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A new file that begins with `header`, durable under its name when this returns.
#[expect(clippy::disallowed_methods, reason = "audit files are published by rename")]
pub(super) fn create(dir: &Path, number: u64, header: &[u8]) -> io::Result<File> {
    let path = path_of(dir, number);
    let (temporary, mut file) = temporary(&path)?;
    file.write_all(header)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    sync_dir(dir)?;
    Ok(file)
}

/// Puts the data key of a file under another root key; the file keeps its contents. `roots` are
/// the keys it may be under now; a file that is under `new` already is left alone.
#[expect(clippy::disallowed_methods, reason = "audit files are published by rename")]
pub(super) fn rewrap(
    dir: &Path,
    number: u64,
    kind: JournalKind,
    roots: &[RootKey],
    new: &RootKey,
) -> Result<(), AuditError> {
    let path = path_of(dir, number);
    let failed = |error: &dyn ToString| {
        AuditError::new("put audit file under new root key", &path, error.to_string())
    };
    let bytes = fs::read(&path).map_err(|error| failed(&error))?;
    if coffer_crypto::JournalReader::open(new, kind, &bytes).is_ok() {
        return Ok(());
    }
    let mut last = None;
    for old in roots {
        match rewrap_header(old, new, kind, &bytes) {
            Ok(header) => {
                let body = bytes.get(JOURNAL_HEADER_LEN..).unwrap_or_default();
                let replaced = temporary(&path).and_then(|(temporary, mut file)| {
                    file.write_all(&header)?;
                    file.write_all(body)?;
                    file.sync_all()?;
                    fs::rename(temporary, &path)?;
                    sync_dir(dir)
                });
                return replaced.map_err(|error| failed(&error));
            }
            Err(error) => last = Some(error),
        }
    }
    let reason = last.map_or_else(|| "no root key".to_owned(), |error| error.to_string());
    Err(failed(&reason))
}

fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    Ok((temporary, file))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}
