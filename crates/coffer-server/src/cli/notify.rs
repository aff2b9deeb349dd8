//! Command line of `coffer notify`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// `coffer notify`.
#[derive(Debug, Args)]
pub(crate) struct NotifyCommand {
    /// Directory of all files.
    #[arg(long, global = true, env = "COFFER_DATA_DIR", default_value = "./coffer-data")]
    pub(crate) data_dir: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) operation: NotifyOperation,
}

/// What can be done with notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NotifyOperation {
    /// Sends a test by each channel of the running server and says what happened; the exit code is 2
    /// when one failed.
    Test,
}
