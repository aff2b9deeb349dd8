//! The data directory: its lock, its root key, its embedded KMS.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::RootKeys;
use coffer_crypto::clock::Clock;
use coffer_keys::{EmbeddedKms, EmbeddedKmsOptions, create_root_key, load_root_keys};
use rustix::fs::FlockOperation;

use crate::config::Config;
use crate::error::{CommandError, Result};

/// Holds the process id of whoever has it locked; the lock, not the file, is what counts.
const LOCK_FILE: &str = "server.lock";

/// The exclusive right to a data directory, until dropped or the process ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock; creates the directory (mode 0700) if need be.
    ///
    /// # Errors
    /// [`CommandError::InUse`], naming the directory and the process.
    pub(crate) fn take(directory: &Path) -> Result<Self> {
        let failed =
            |action: &'static str| CommandError::io(format!("{action} {}", directory.display()));
        let mut create = DirBuilder::new();
        create.recursive(true).mode(0o700).create(directory).map_err(failed("create"))?;
        let path = directory.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed("lock"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                // who it is only helps; the refusal stands without it
                let is_read = (&mut file).take(32).read_to_string(&mut owner).is_ok();
                let owner = owner.trim();
                let is_known = is_read && !owner.is_empty();
                return Err(CommandError::InUse {
                    directory: directory.to_owned(),
                    owner: if is_known { format!(", process {owner}") } else { String::new() },
                });
            }
            Err(error) => return Err(failed("lock")(error.into())),
        }
        file.set_len(0).map_err(failed("lock"))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("lock"))?;
        Ok(Self { _file: file })
    }
}

/// The embedded KMS of a data directory that the caller has locked.
pub(crate) fn open_kms(
    directory: &Path,
    options: &EmbeddedKmsOptions,
    clock: Arc<dyn Clock>,
) -> Result<Arc<EmbeddedKms>> {
    Ok(EmbeddedKms::open(&directory.join("kms"), options, clock)?)
}

/// A locked data directory with its keys at hand.
pub(crate) struct DataDirectory {
    pub(crate) path: PathBuf,
    /// Two while a new root key is put in place.
    pub(crate) root_keys: RootKeys,
    pub(crate) root_key_file: PathBuf,
    pub(crate) kms: Arc<EmbeddedKms>,
    /// This is the first start.
    pub(crate) is_new: bool,
    pub(crate) lock: DirectoryLock,
}

impl DataDirectory {
    /// Locks the directory and reads its keys, or makes them at the first start.
    ///
    /// # Errors
    /// [`CommandError::InUse`], [`CommandError::RootKeyMissing`], and what files answer.
    pub(crate) fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = config.data_dir.clone();
        let lock = DirectoryLock::take(&path)?;
        let root_key_file = config.root_key_file.clone().unwrap_or_else(|| path.join("root.key"));
        let is_new = !path.join("catalog").exists();
        let root_keys = match load_root_keys(&root_key_file)? {
            Some(keys) => keys,
            None if is_new => create_root_key(&root_key_file)?.into(),
            None => {
                return Err(CommandError::RootKeyMissing { file: root_key_file });
            }
        };
        let options = EmbeddedKmsOptions {
            account: config.account.clone(),
            region: config.region.clone(),
            root_key_file: config.kms_root_key_file.clone(),
            must_exist: !is_new,
            ..EmbeddedKmsOptions::default()
        };
        let kms = open_kms(&path, &options, clock)?;
        Ok(Self { path, root_keys, root_key_file, kms, is_new, lock })
    }
}
