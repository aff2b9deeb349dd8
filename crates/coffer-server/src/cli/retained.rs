//! Command lines about what lies on disk: `coffer verify`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `coffer verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Verify {
    /// The data directory, or a copy of one.
    #[arg(env = "COFFER_DATA_DIR", default_value = "./coffer-data")]
    pub(crate) directory: PathBuf,
    /// File of the root key, if not `root.key` in the directory.
    #[arg(long, env = "COFFER_ROOT_KEY_FILE")]
    pub(crate) root_key_file: Option<PathBuf>,
    /// File of the KMS's root key, if not `kms/root.key` in the directory.
    #[arg(long, env = "COFFER_KMS_ROOT_KEY_FILE")]
    pub(crate) kms_root_key_file: Option<PathBuf>,
    /// Write the signed report to this file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Sign with the seed in this file (64 hex digits) instead of the installation's own key.
    #[arg(long, value_name = "FILE")]
    pub(crate) signing_key: Option<PathBuf>,
    /// Verify the signature of a report instead of a directory.
    #[arg(long, value_name = "REPORT")]
    pub(crate) check: Option<PathBuf>,
    /// The public key that the report must be signed with, hex digits.
    #[arg(long, value_name = "HEX", requires = "check")]
    pub(crate) public_key: Option<String>,
}
