//! The file of a root key: mode 0600, created once, refused when others may read it.

use crate::{
    KeyError, Result,
    durable::{self, SecretFileError},
};
use coffer_crypto::RootKey;
use std::path::Path;

/// Reads the root key of `path`; `None` when the file does not exist.
///
/// # Errors
/// [`KeyError::KeyFile`] when others than its owner may read it, or it is no root key file.
pub fn load_root_key(path: &Path) -> Result<Option<RootKey>> {
    let failed =
        |reason| KeyError::KeyFile { action: "read root key", path: path.to_owned(), reason };
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

/// Makes a root key and its file. Only for a new data directory: a directory that lost its root key
/// must not get another one.
///
/// # Errors
/// [`KeyError::KeyFile`] when the file exists or cannot be written.
pub fn create_root_key(path: &Path) -> Result<RootKey> {
    let failed =
        |reason| KeyError::KeyFile { action: "create root key", path: path.to_owned(), reason };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_created_root_key_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        assert!(load_root_key(&path).unwrap().is_none());
        let root = create_root_key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(load_root_key(&path).unwrap().unwrap().id(), root.id());
        assert!(create_root_key(&path).is_err(), "never replaced");
        assert_eq!(load_root_key(&path).unwrap().unwrap().id(), root.id());
    }

    #[test]
    fn a_loose_mode_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        create_root_key(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            set_mode(&path, mode);
            let text = load_root_key(&path).unwrap_err().to_string();
            assert!(text.contains("root.key") && text.contains(&format!("{mode:04o}")), "{text}");
        }
        set_mode(&path, 0o400);
        assert!(load_root_key(&path).is_ok());
    }

    #[test]
    fn what_is_no_root_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        fs::write(&path, "hello").unwrap();
        set_mode(&path, 0o600);
        assert!(load_root_key(&path).is_err());
        fs::write(&path, vec![b'0'; RootKey::FILE_LEN_MAX + 1]).unwrap();
        assert!(load_root_key(&path).is_err());
        assert!(load_root_key(dir.path()).is_err());
    }
}
