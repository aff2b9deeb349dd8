//! Command lines about what is kept: `coffer verify`, `coffer snapshot`, `coffer backup`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

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

/// `coffer snapshot`.
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    /// Directory of all files.
    #[arg(long, global = true, env = "COFFER_DATA_DIR", default_value = "./coffer-data")]
    pub(crate) data_dir: PathBuf,
    /// File of the root key, if not `root.key` in the data directory; where no server runs.
    #[arg(long, global = true, env = "COFFER_ROOT_KEY_FILE")]
    pub(crate) root_key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) operation: SnapshotOperation,
}

/// What can be done with snapshots. `list` and `verify` work without a server too.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub(crate) enum SnapshotOperation {
    /// Takes a snapshot of a table and verifies it. Works while its key is away.
    Create {
        /// KEYSPACE.TABLE.
        table: String,
        /// What to call it; up to 255 bytes.
        #[arg(long, default_value = "", value_parser = crate::snapshots::name_of)]
        name: String,
        /// Days to keep it; until it is dropped by hand when left out.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        keep: Option<u32>,
    },
    /// Lists snapshots, of tables that were dropped too.
    List,
    /// Reads every file of a snapshot and compares it with the catalog; opens it where the table's key
    /// is at hand.
    Verify {
        /// Its id.
        id: String,
    },
    /// Erases a snapshot for good, keys first, and prints what was erased.
    Drop {
        /// Its id.
        id: String,
    },
}

/// `coffer backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Directory of all files.
    #[arg(long, global = true, env = "COFFER_DATA_DIR", default_value = "./coffer-data")]
    pub(crate) data_dir: PathBuf,
    /// URL of an S3-compatible store other than AWS.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) operation: BackupOperation,
}

/// What can be done with backups. A place is a directory or `s3://BUCKET/PREFIX`; credentials and
/// region of S3 come from the standard environment variables of AWS.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BackupOperation {
    /// Copies a table or a snapshot, encrypted as it is, with keys of its own under a KMS key. Run it
    /// again to go on where it was interrupted.
    Export {
        /// KEYSPACE.TABLE.
        #[arg(required_unless_present = "snapshot", conflicts_with = "snapshot")]
        table: Option<String>,
        /// Id of a snapshot instead.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// Where to.
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// ARN of the KMS key of the backup; that of the table when left out.
        #[arg(long, value_name = "ARN")]
        kms_key: Option<String>,
    },
    /// Makes a new table of a backup. Its files are not rewritten. Run it again to go on where it was
    /// interrupted.
    Import {
        /// Where from.
        #[arg(long, value_name = "PLACE")]
        from: String,
        /// KEYSPACE.TABLE to make.
        #[arg(long = "as", value_name = "KEYSPACE.TABLE")]
        table: String,
        /// Which backup, where there is more than one.
        #[arg(long, value_name = "ID")]
        backup: Option<String>,
        /// ARN of the KMS key of the new table; that of the backup when left out.
        #[arg(long, value_name = "ARN")]
        kms_key: Option<String>,
    },
    /// Reads a backup whole and compares every file with its manifest.
    Verify {
        /// Where from.
        #[arg(long, value_name = "PLACE")]
        from: String,
        /// Which backup, where there is more than one.
        #[arg(long, value_name = "ID")]
        backup: Option<String>,
    },
    /// Lists the backups in a place; needs no key and no server.
    List {
        /// Where from.
        #[arg(long, value_name = "PLACE")]
        from: String,
    },
}
