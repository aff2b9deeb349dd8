//! Command lines of `coffer keys`, `coffer root-key` and `coffer audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// `coffer keys`.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Directory of all files.
    #[arg(long, global = true, env = "COFFER_DATA_DIR", default_value = "./coffer-data")]
    pub(crate) data_dir: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What can be done with the keys of tables.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    #[command(flatten)]
    Operation(KeysOperation),
    /// Prints a key policy for AWS KMS that lets Coffer use a key, and no more.
    Policy(Policy),
}

/// What the running server does with the keys of tables.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub(crate) enum KeysOperation {
    /// Drops table keys from memory, so that their next use asks the KMS.
    Flush {
        /// KEYSPACE.TABLE; all when left out.
        table: Option<String>,
    },
    /// Asks the KMS by dry runs whether tables can use their keys, or whether a key could be chosen.
    /// Changes nothing; the exit code is 2 when something is wrong.
    Check {
        /// KEYSPACE.TABLE, or the ARN of a key; all tables when left out.
        target: Option<String>,
    },
    /// Has the KMS encrypt the table keys anew under the newest material of their KMS keys. Files
    /// are not touched.
    Rewrap {
        /// KEYSPACE.TABLE; all when left out.
        table: Option<String>,
    },
}

/// Flags of `coffer keys policy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Policy {
    /// ARN of the role that Coffer calls the KMS as, or of its control role (control_role_arn).
    #[arg(long, value_name = "ARN")]
    pub(crate) role: String,
    /// ARN of the data role (data_role_arn), where it is another one; it gets its rights by the
    /// grants of tables only, so that revoking a grant locks the table out.
    #[arg(long, value_name = "ARN")]
    pub(crate) data_role: Option<String>,
    /// Account of the key; that of the role when left out.
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// Region of the key; calls in other Regions are denied by the policy.
    #[arg(long)]
    pub(crate) region: Option<String>,
}

/// `coffer root-key`.
#[derive(Debug, Args)]
pub(crate) struct RootKeyCommand {
    /// Directory of all files.
    #[arg(long, global = true, env = "COFFER_DATA_DIR", default_value = "./coffer-data")]
    pub(crate) data_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) operation: RootKeyOperation,
}

/// What can be done with the root key of the service.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RootKeyOperation {
    /// Makes a new root key and puts everything under it, while the server runs. Back it up after.
    Rotate,
}

/// Flags of `coffer audit`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Audit {
    /// Directory of all files.
    #[arg(long, env = "COFFER_DATA_DIR", default_value = "./coffer-data")]
    pub(crate) data_dir: PathBuf,
    /// File of the root key, if not `root.key` in the data directory.
    #[arg(long, env = "COFFER_ROOT_KEY_FILE")]
    pub(crate) root_key_file: Option<PathBuf>,
    /// File of the KMS's root key, if not `kms/root.key` in the data directory.
    #[arg(long, env = "COFFER_KMS_ROOT_KEY_FILE")]
    pub(crate) kms_root_key_file: Option<PathBuf>,
    /// Only events of this name, as Decrypt or CreateTable.
    #[arg(long)]
    pub(crate) event: Option<String>,
    /// Only events of this user: a name, ARN or access key id.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only events of this key: its ARN or id.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Only events of this KEYSPACE.TABLE.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// Only events at or after this time, as 2026-11-22T08:00:00Z.
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Only events before this time.
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Verify the whole chain, whatever the filters; the exit code is 4 when it is broken.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print each event as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
