//! The command line.

mod keys;
mod notify;
mod retained;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::config::{OPTIONS, OptionSpec};

pub(crate) use keys::{
    Audit, Keys, KeysCommand, KeysOperation, Policy, RootKeyCommand, RootKeyOperation,
};
pub(crate) use notify::{NotifyCommand, NotifyOperation};
pub(crate) use retained::{Backup, BackupOperation, Snapshot, SnapshotOperation, Verify};

/// Cassandra-compatible database in which every byte at rest is encrypted, table by table, under
/// keys of a KMS that its owner can rotate, replace and take away; with that KMS built in.
#[derive(Debug, Parser)]
#[command(name = "coffer", version, about)]
pub(crate) struct Cli {
    /// What to do; `serve` when left out.
    #[command(subcommand)]
    pub(crate) command: Option<CommandKind>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum CommandKind {
    /// Serves CQL clients (the default).
    Serve(Box<Serve>),
    /// Works on keys and users of the embedded KMS, whether a server runs or not; serves it alone.
    Kms(Kms),
    /// Works on the keys of the tables of a running server.
    Keys(Keys),
    /// Works on the root key of the service.
    RootKey(RootKeyCommand),
    /// Shows who did what with keys, users and schema, and verifies that nothing is missing. Needs
    /// no server and takes no lock.
    Audit(Audit),
    /// Tells what a file is and verifies it; never shows plaintext. Exit code 3: key not at hand,
    /// structure only; 4: tampered.
    Inspect(Inspect),
    /// Takes, lists, verifies and erases snapshots of tables.
    Snapshot(Snapshot),
    /// Exports tables to a directory or an S3-compatible store, and imports them; never plaintext.
    Backup(Backup),
    /// Verifies every file of a data directory, of a running server too, or of a copy: what it is,
    /// under which key, whether it is as it was written. Exit code 3: some keys not at hand,
    /// structure only; 4: tampered.
    Verify(Verify),
    /// Tries the channels that tell what happens to keys.
    Notify(NotifyCommand),
    /// Reads a password from standard input and prints the value of option password_hash.
    HashPassword,
}

/// Flags of `coffer serve`.
#[derive(Debug, Default)]
pub(crate) struct Serve {
    /// TOML file with options.
    pub(crate) config: Option<PathBuf>,
    /// Moves the clock of key ages; for tests.
    pub(crate) test_clock: Option<PathBuf>,
    /// Script of KMS faults; for tests.
    pub(crate) kms_fault: Option<PathBuf>,
    /// Options given as flags.
    pub(crate) options: BTreeMap<&'static str, String>,
}

impl FromArgMatches for Serve {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut serve = Self::default();
        serve.update_from_arg_matches(matches)?;
        Ok(serve)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        self.test_clock = matches.get_one::<PathBuf>("test-clock").cloned();
        self.kms_fault = matches.get_one::<PathBuf>("kms-fault").cloned();
        for option in OPTIONS {
            if let Some(value) = matches.get_one::<String>(option.name) {
                self.options.insert(option.name, value.clone());
            }
        }
        Ok(())
    }
}

/// Flags beside the options that both commands that serve have.
fn serving_flags() -> [Arg; 3] {
    let path = clap::value_parser!(PathBuf);
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("COFFER_CONFIG")
        .value_parser(path.clone())
        .help("TOML file with options; variables COFFER_* and flags go before it");
    let test_clock = Arg::new("test-clock")
        .long("test-clock")
        .value_name("FILE")
        .value_parser(path.clone())
        .help("Seconds to add to the clock of key ages; needs COFFER_ALLOW_TEST_CLOCK=1");
    let kms_fault = Arg::new("kms-fault")
        .long("kms-fault")
        .value_name("FILE")
        .value_parser(path)
        .help("JSON list of faults of the KMS; needs COFFER_ALLOW_KMS_FAULTS=1");
    [config, test_clock, kms_fault]
}

/// The flag of an option.
fn flag(option: &'static OptionSpec) -> Arg {
    let flag = Arg::new(option.name)
        .long(option.name.replace('_', "-"))
        .help(format!("{} [{}; default: {}]", option.help, option.allowed, option.default))
        .value_name("VALUE")
        .action(ArgAction::Set);
    if option.allowed == "true, false" {
        flag.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        flag
    }
}

impl Args for Serve {
    fn augment_args(command: Command) -> Command {
        command.args(serving_flags()).args(OPTIONS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Flags of `coffer kms serve`.
#[derive(Debug, Default)]
pub(crate) struct KmsServe {
    /// TOML file with options.
    pub(crate) config: Option<PathBuf>,
    /// Moves the clock of deletions and rotations; for tests.
    pub(crate) test_clock: Option<PathBuf>,
    /// Script of faults; for tests.
    pub(crate) kms_fault: Option<PathBuf>,
    /// Options given as flags.
    pub(crate) options: BTreeMap<&'static str, String>,
}

/// The options that `coffer kms serve` has as flags beside `--listen`.
const KMS_OPTIONS: [&str; 8] = [
    "account",
    "region",
    "allow_plaintext",
    "tls_cert",
    "tls_key",
    "kms_tls_cert",
    "kms_tls_key",
    "log_level",
];

fn kms_options() -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(|option| KMS_OPTIONS.contains(&option.name))
}

impl FromArgMatches for KmsServe {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut serve = Self::default();
        serve.update_from_arg_matches(matches)?;
        Ok(serve)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        self.test_clock = matches.get_one::<PathBuf>("test-clock").cloned();
        self.kms_fault = matches.get_one::<PathBuf>("kms-fault").cloned();
        if let Some(address) = matches.get_one::<String>("listen") {
            self.options.insert("kms_listen", address.clone());
        }
        for option in kms_options() {
            if let Some(value) = matches.get_one::<String>(option.name) {
                self.options.insert(option.name, value.clone());
            }
        }
        Ok(())
    }
}

impl Args for KmsServe {
    fn augment_args(command: Command) -> Command {
        let listen = Arg::new("listen").long("listen").value_name("HOST:PORT").help(
            "Address to listen on (option kms_listen); port 0 picks a free one and prints it",
        );
        command.arg(listen).args(serving_flags()).args(kms_options().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// What `coffer kms` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum KmsCommand {
    /// Serves the KMS of a data directory, alone: AWS KMS's API over HTTP, for several servers, the
    /// AWS CLI and SDKs.
    Serve(Box<KmsServe>),
    #[command(flatten)]
    Operation(KmsOperation),
}

/// `coffer kms`.
#[derive(Debug, Args)]
pub(crate) struct Kms {
    /// Directory of all files; `./coffer-data` when left out.
    #[arg(long, global = true, env = "COFFER_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File of the KMS's root key, if not `kms/root.key` in the data directory.
    #[arg(long, global = true, env = "COFFER_KMS_ROOT_KEY_FILE")]
    pub(crate) kms_root_key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: KmsCommand,
}

impl Kms {
    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from("./coffer-data"))
    }
}

/// Operations on the embedded KMS. A key is named by its id, ARN or alias.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub(crate) enum KmsOperation {
    /// Makes a key and prints its ARN.
    CreateKey {
        /// Free text.
        #[arg(long)]
        description: Option<String>,
        /// Another name, with or without `alias/`.
        #[arg(long)]
        alias: Option<String>,
        /// ARN of the new key, instead of one with a random id.
        #[arg(long)]
        arn: Option<String>,
    },
    /// Lists all keys.
    ListKeys,
    /// Tells all about a key.
    DescribeKey {
        /// Id, ARN or alias.
        key: String,
    },
    /// Disables a key: tables under it stop.
    DisableKey {
        /// Id, ARN or alias.
        key: String,
    },
    /// Enables a key.
    EnableKey {
        /// Id, ARN or alias.
        key: String,
    },
    /// Sets a date for the deletion of a key; until then it can be cancelled.
    ScheduleKeyDeletion {
        /// Id, ARN or alias.
        key: String,
        /// Days until then.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(7..=30))]
        pending_window_in_days: u32,
    },
    /// Cancels a deletion; the key is disabled then.
    CancelKeyDeletion {
        /// Id, ARN or alias.
        key: String,
    },
    /// Makes a user of the KMS and prints a section for an AWS credentials file.
    CreateUser {
        /// Its name, and that of the section.
        name: String,
        /// File of an IAM identity policy (JSON); without it the user has what key policies and
        /// grants give it.
        #[arg(long, value_name = "FILE", value_parser = read_policy)]
        policy: Option<String>,
    },
    /// Lists all users.
    ListUsers,
    /// Refuses a user's requests from now on.
    DisableUser {
        /// Its name.
        name: String,
    },
    /// Accepts a user's requests again.
    EnableUser {
        /// Its name.
        name: String,
    },
    /// Deletes a user and its access key; grants made to it stay.
    DeleteUser {
        /// Its name.
        name: String,
    },
}

/// Longest policy that is read; the KMS's own limit is lower.
const POLICY_BYTES_MAX: u64 = 64 << 10;

fn read_policy(path: &str) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > POLICY_BYTES_MAX {
        return Err(format!("longer than {POLICY_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// `coffer inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The file.
    pub(crate) file: PathBuf,
    /// Data directory with the keys; by default the one the file lies in.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// File of the root key, if not `root.key` in the data directory.
    #[arg(long, env = "COFFER_ROOT_KEY_FILE")]
    pub(crate) root_key_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
