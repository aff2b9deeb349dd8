//! What a test of keys sets while a server runs: its clock of key ages and the faults of its KMS.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Result, ServerBuilder};

/// The two files of one server. Removed when dropped.
pub struct KeyScript {
    directory: TempDir,
    clock: PathBuf,
    faults: PathBuf,
}

impl KeyScript {
    /// A clock that goes as it should, and no faults.
    ///
    /// # Errors
    /// When there is no room for two files.
    pub fn new() -> Result<Self> {
        let directory = TempDir::new()?;
        let (clock, faults) = (directory.path().join("clock"), directory.path().join("faults"));
        Ok(Self { directory, clock, faults })
    }

    /// The builder of a server that follows this script.
    #[must_use]
    pub fn server(&self) -> ServerBuilder {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        ServerBuilder::default()
            .environment("COFFER_ALLOW_TEST_CLOCK", "1")
            .environment("COFFER_ALLOW_KMS_FAULTS", "1")
            .arguments(&["--test-clock", &text(&self.clock), "--kms-fault", &text(&self.faults)])
    }

    /// Seconds that the clock is ahead; the server sees them within a second or so.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        self.put(&self.clock, seconds.to_string().as_bytes())
    }

    /// The faults from now on, as `--kms-fault` wants them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_faults(&self, rules: &Value) -> Result<()> {
        self.put(&self.faults, &serde_json::to_vec(rules)?)
    }

    /// No faults from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear_faults(&self) -> Result<()> {
        self.put(&self.faults, b"[]")
    }

    /// A folder for whatever else belongs to the server.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// Whole at once, so that nobody reads half of it.
    #[expect(clippy::disallowed_methods, reason = "a test's file is no file of the database")]
    fn put(&self, path: &Path, content: &[u8]) -> Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, content)?;
        Ok(fs::rename(new, path)?)
    }
}

/// An address on which nobody listens: for a listener that a server is told to open.
///
/// # Errors
/// When no port is free.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// `WITH CUSTOM_PROPERTIES = ...` that puts a table under a KMS key.
#[must_use]
pub fn with_key(arn: &str) -> String {
    format!(
        "WITH CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
         'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}}}"
    )
}

/// `WITH CUSTOM_PROPERTIES = ...` that puts a table under the owned key.
pub const WITH_OWNED_KEY: &str = "WITH CUSTOM_PROPERTIES = {'encryption_specification': {'encryption_type': 'AWS_OWNED_KMS_KEY'}}";
