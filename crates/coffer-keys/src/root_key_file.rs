//! The file of a root key: mode 0600, created once, refused when others may read it.

use crate::{KeyError, Result, durable};
use coffer_crypto::{RootKey, RootKeys};
use std::path::{Path, PathBuf};

/// Reads the root key of `path`; `None` when the file does not exist.
///
/// # Errors
/// [`KeyError::KeyFile`] when others than its owner may read it, or it is no root key file.
pub fn load_root_key(path: &Path) -> Result<Option<RootKey>> {
    Ok(coffer_kms::load_root_key(path)?)
}

/// Makes a root key and its file. Only for a new data directory: a directory that lost its root key
/// must not get another one.
///
/// # Errors
/// [`KeyError::KeyFile`] when the file exists or cannot be written.
pub fn create_root_key(path: &Path) -> Result<RootKey> {
    Ok(coffer_kms::create_root_key(path)?)
}

/// What a root key file is called while it waits to take the place of the current one.
const NEXT_SUFFIX: &str = ".next";

/// The root keys of `path`: one, or two when a rotation was begun and not finished (the new one
/// stands in `path` with `.next` after it, and is the current one). `None` when there is none.
///
/// # Errors
/// As [`load_root_key`], for either file; [`KeyError::KeyFile`] when only the new one is there.
pub fn load_root_keys(path: &Path) -> Result<Option<RootKeys>> {
    let next_path = next_path(path);
    match (load_root_key(path)?, load_root_key(&next_path)?) {
        (None, None) => Ok(None),
        (Some(root), None) => Ok(Some(root.into())),
        // renamed, and the crash came before the directory was in order
        (Some(root), Some(next)) if root.id() == next.id() => Ok(Some(root.into())),
        (Some(root), Some(next)) => Ok(Some(RootKeys::rotating(next, root))),
        (None, Some(_)) => Err(KeyError::KeyFile {
            action: "read root key",
            path: path.to_owned(),
            reason: format!("it is missing, only {} is there", next_path.display()),
        }),
    }
}

/// Begins to replace the root key of `path`, or takes up what was begun before: afterwards two keys
/// are in use, also after a crash. The caller rewraps what is under the previous one and then calls
/// [`finish_root_key_rotation`].
///
/// # Errors
/// As [`load_root_keys`]; [`KeyError::KeyFile`] when there is no root key, or the new one cannot be
/// written.
pub fn begin_root_key_rotation(path: &Path) -> Result<RootKeys> {
    let keys = load_root_keys(path)?.ok_or_else(|| KeyError::KeyFile {
        action: "rotate root key",
        path: path.to_owned(),
        reason: "it does not exist".to_owned(),
    })?;
    if keys.is_rotating() {
        return Ok(keys);
    }
    let next = create_root_key(&next_path(path))?;
    Ok(RootKeys::rotating(next, keys.current().duplicate()))
}

/// Ends a rotation: the new root key takes the place of the old one, whose bytes are gone from the
/// directory. Only when nothing is under the old one any more. Does nothing without a rotation.
///
/// # Errors
/// As [`load_root_keys`]; [`KeyError::KeyFile`] when the file cannot be replaced: both are still
/// there, or the new one is in its place.
pub fn finish_root_key_rotation(path: &Path) -> Result<RootKey> {
    let failed = |reason: String| KeyError::KeyFile {
        action: "finish rotation of root key",
        path: path.to_owned(),
        reason,
    };
    let keys = load_root_keys(path)?.ok_or_else(|| failed("it does not exist".to_owned()))?;
    let next_path = next_path(path);
    if keys.is_rotating() {
        durable::replace(&next_path, path).map_err(|error| failed(error.to_string()))?;
    }
    Ok(keys.current().duplicate())
}

fn next_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(NEXT_SUFFIX);
    PathBuf::from(name)
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

    #[test]
    fn a_crash_at_any_step_of_a_rotation_leaves_keys_that_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        assert!(begin_root_key_rotation(&path).is_err(), "no key to rotate");
        let old = create_root_key(&path).unwrap();
        let begun = begin_root_key_rotation(&path).unwrap();
        assert_eq!(begun.previous().unwrap().id(), old.id());
        // crash here: a start finds both, and the rotation goes on with the same new key
        let loaded = load_root_keys(&path).unwrap().unwrap();
        assert_eq!(loaded.current().id(), begun.current().id());
        assert_eq!(loaded.previous().unwrap().id(), old.id());
        let again = begin_root_key_rotation(&path).unwrap();
        assert_eq!(again.current().id(), begun.current().id());
        let finished = finish_root_key_rotation(&path).unwrap();
        assert_eq!(finished.id(), begun.current().id());
        let loaded = load_root_keys(&path).unwrap().unwrap();
        assert!(!loaded.is_rotating() && loaded.current().id() == finished.id());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the old key is gone");
        assert_eq!(finish_root_key_rotation(&path).unwrap().id(), finished.id());
    }

    #[test]
    fn a_directory_that_lost_its_root_key_is_not_opened_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        create_root_key(&path).unwrap();
        begin_root_key_rotation(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = load_root_keys(&path).unwrap_err().to_string();
        assert!(error.contains("root.key.next"), "{error}");
    }
}
