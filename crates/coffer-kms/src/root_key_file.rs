//! The file of a root key: mode 0600, created once, refused when others may read it.

use crate::{
    OpenError,
    durable::{self, SecretFileError},
};
use coffer_crypto::RootKey;
use std::path::Path;

/// Reads the root key of `path`; `None` when the file does not exist.
///
/// # Errors
/// [`OpenError`] when others than its owner may read it, or it is no root key file.
pub fn load_root_key(path: &Path) -> Result<Option<RootKey>, OpenError> {
    let failed = |reason| OpenError { action: "read root key", path: path.to_owned(), reason };
    let len_max = RootKey::FILE_LEN_MAX as u64;
    match durable::read_secret(path, len_max) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => {
            RootKey::from_file_bytes(&bytes).map(Some).map_err(|error| failed(error.to_string()))
        }
        Err(SecretFileError::Loose(mode)) => Err(failed(format!(
            "others may read or write it, run chmod 600 on it first, mode={mode:04o}"
        ))),
        Err(SecretFileError::NoSuchFile) => Err(failed("not a root key file".to_owned())),
        Err(SecretFileError::Io(error)) => Err(failed(error.to_string())),
    }
}

/// Makes a root key and its file. Only for a new directory: one that lost its root key must not get
/// another one.
///
/// # Errors
/// [`OpenError`] when the file exists or cannot be written.
pub fn create_root_key(path: &Path) -> Result<RootKey, OpenError> {
    let failed = |reason| OpenError { action: "create root key", path: path.to_owned(), reason };
    if path.symlink_metadata().is_ok() {
        return Err(failed("the file exists".to_owned()));
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed("not a file name".to_owned()))?;
    let root = RootKey::generate().map_err(|error| failed(error.to_string()))?;
    durable::publish(dir, name, &root.to_file_bytes())
        .map_err(|error| failed(error.to_string()))?;
    Ok(root)
}
