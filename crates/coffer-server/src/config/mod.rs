//! Configuration: defaults, then a TOML file, then `COFFER_*` variables, then flags, each over the
//! one before. One table ([`OPTIONS`]) gives every option its name, text and parser, so that the
//! three sources, `--help` and the documentation cannot drift apart.

mod kms_provider;
mod notify;
mod options;
mod parse;
mod role_principals;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use coffer_query::KeyHealthOptions;
use coffer_storage::EngineOptions;
use thiserror::Error;

pub use kms_provider::{AwsProviderOptions, KmsProviderOptions};
pub use notify::NotifyOptions;
pub use options::{OPTIONS, OptionSpec};

/// Variables that begin with `COFFER_` and are not options.
const OTHER_VARIABLES: [&str; 3] =
    ["COFFER_CONFIG", "COFFER_ALLOW_TEST_CLOCK", "COFFER_ALLOW_KMS_FAULTS"];
/// Beginnings of variables that belong to tests and benches.
const OTHER_PREFIXES: [&str; 2] = ["COFFER_TEST_", "COFFER_BENCH_"];
/// Longest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with the configuration; the text names the option, where it was set, and what is
/// allowed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value does not parse.
    #[error("option {name} ({source_name}): {problem}; allowed: {allowed}")]
    Value {
        /// The option.
        name: &'static str,
        /// File, variable or flag.
        source_name: String,
        /// What is wrong.
        problem: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// There is no such option.
    #[error("unknown option {name} ({source_name}); options: {known}")]
    Unknown {
        /// As it was written.
        name: String,
        /// File or variable.
        source_name: String,
        /// All names.
        known: String,
    },
    /// The file cannot be read.
    #[error("read configuration file {}: {problem}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Combination(String),
}

/// How clients authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticatorKind {
    /// Everybody may connect.
    None,
    /// SASL PLAIN with user and password.
    Password,
}

/// Bounds on what clients may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest frame body, in bytes.
    pub frame_bytes_max: u32,
    /// Connections at a time.
    pub connections_max: usize,
    /// Unanswered requests of one connection.
    pub connection_requests_max: usize,
    /// Bytes of the unanswered requests of one connection.
    pub connection_request_bytes_max: usize,
    /// Unanswered requests of all connections.
    pub requests_max: usize,
    /// Bytes of the unanswered requests of all connections.
    pub request_bytes_max: usize,
    /// Longest CQL text, in bytes.
    pub statement_bytes_max: usize,
    /// Memory for prepared statements, in bytes.
    pub prepared_cache_bytes: usize,
    /// Rows of a page, whatever the client asks for.
    pub page_rows_max: usize,
    /// Memory for the results of big reads, in bytes.
    pub page_total_bytes: usize,
    /// Answers a client may leave unread before it is read from no more, in bytes.
    pub write_backlog_bytes_max: usize,
    /// Time to finish STARTUP and authentication.
    pub startup_timeout_millis: u64,
    /// Time a write waits for room in memory before it is OVERLOADED.
    pub room_timeout_millis: u64,
    /// Time the first use of a table may take (key and recovery).
    pub table_timeout_millis: u64,
}

/// Files of TLS, as configured.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// Certificate for CQL clients.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Authorities of which CQL clients must have a certificate.
    pub client_ca: Option<PathBuf>,
    /// Certificate of the KMS endpoint, where it is another one.
    pub kms_cert: Option<PathBuf>,
    /// Its private key.
    pub kms_key: Option<PathBuf>,
}

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of all files.
    pub data_dir: PathBuf,
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Address that clients are told, where `listen` is not one they can reach.
    pub advertise: Option<SocketAddr>,
    /// Serve CQL without TLS on addresses other than loopback.
    pub allow_plaintext: bool,
    /// Files of TLS.
    pub tls: TlsOptions,
    /// Address of the KMS endpoint.
    pub kms_listen: Option<SocketAddr>,
    /// Address of the metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// File of the root key, if not `root.key` in the data directory.
    pub root_key_file: Option<PathBuf>,
    /// File of the embedded KMS's root key, if not `kms/root.key` in the data directory.
    pub kms_root_key_file: Option<PathBuf>,
    /// Account in ARNs; taken at the first start, kept from then on.
    pub account: Option<String>,
    /// Region in ARNs; taken at the first start, kept from then on.
    pub region: Option<String>,
    /// `system.local.cluster_name`.
    pub cluster_name: String,
    /// `system.local.data_center`.
    pub data_center: String,
    /// `system.local.rack`.
    pub rack: String,
    /// How clients authenticate.
    pub authenticator: AuthenticatorKind,
    /// The user of the `password` authenticator.
    pub user: String,
    /// Its password as `coffer hash-password` prints it; the password is `cassandra` without.
    pub password_hash: Option<String>,
    /// Longest use of a table key without asking the KMS.
    pub key_age_seconds_max: u64,
    /// Longest stay in memory of the key of a table that nobody uses.
    pub key_idle_seconds_max: u64,
    /// Age at which a table key is replaced; 0 is never.
    pub table_key_days_max: u32,
    /// Age at which a segment is rewritten under a new data key; 0 is never.
    pub data_key_days_max: u32,
    /// Calls of a KMS per second that no request waits for.
    pub kms_calls_per_second_max: u32,
    /// How lost keys are noticed, and what becomes of their tables.
    pub key_health: KeyHealthOptions,
    /// No table may be under the service-owned key.
    pub require_cmk: bool,
    /// Patterns of the ARNs that tables may be put under.
    pub allowed_kms_keys: Vec<String>,
    /// The encryption of a table stays as it was created.
    pub immutable_encryption: bool,
    /// New table keys of KMS keys are wrapped under the service-owned key too.
    pub double_wrapping: bool,
    /// Principals (ARNs) of the KMS by the CQL role they stand for.
    pub role_principals: BTreeMap<String, String>,
    /// KMS beside the embedded one; the ARN of a key picks.
    pub kms_providers: Vec<KmsProviderOptions>,
    /// Who is told of what happens to keys.
    pub notify: NotifyOptions,
    /// Bounds on clients.
    pub limits: Limits,
    /// The engine's limits and choices.
    pub engine: EngineOptions,
    /// Threads that serve connections.
    pub worker_threads: usize,
    /// Low-priority threads for big reads.
    pub scan_threads: usize,
    /// What is logged, as `error`, `warn`, `info`, `debug`, `trace`.
    pub log_level: tracing::Level,
}

impl Default for Config {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            data_dir: PathBuf::from("./coffer-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 9042)),
            advertise: None,
            allow_plaintext: false,
            tls: TlsOptions::default(),
            kms_listen: None,
            metrics_listen: None,
            root_key_file: None,
            kms_root_key_file: None,
            account: None,
            region: None,
            cluster_name: "Coffer".to_owned(),
            data_center: "datacenter1".to_owned(),
            rack: "rack1".to_owned(),
            authenticator: AuthenticatorKind::None,
            user: "cassandra".to_owned(),
            password_hash: None,
            key_age_seconds_max: 300,
            key_idle_seconds_max: 300,
            table_key_days_max: 0,
            data_key_days_max: 0,
            kms_calls_per_second_max: 100,
            key_health: KeyHealthOptions::default(),
            require_cmk: false,
            allowed_kms_keys: vec!["*".to_owned()],
            immutable_encryption: false,
            double_wrapping: false,
            role_principals: BTreeMap::new(),
            kms_providers: Vec::new(),
            notify: NotifyOptions::default(),
            limits: Limits::default(),
            engine: EngineOptions::default(),
            worker_threads: threads.max(2),
            scan_threads: (threads / 2).max(1),
            log_level: tracing::Level::INFO,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 32 << 20,
            connections_max: 4096,
            connection_requests_max: 32_768,
            connection_request_bytes_max: 64 << 20,
            requests_max: 262_144,
            request_bytes_max: 256 << 20,
            statement_bytes_max: 1 << 20,
            prepared_cache_bytes: 32 << 20,
            page_rows_max: 10_000,
            page_total_bytes: 256 << 20,
            write_backlog_bytes_max: 4 << 20,
            startup_timeout_millis: 12_000,
            room_timeout_millis: 2_000,
            table_timeout_millis: 10_000,
        }
    }
}

impl Config {
    /// Puts the sources together. `variables` are all environment variables; `flags` are option
    /// names with the values given on the command line.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let config = Self::gather(file, variables, flags)?;
        config.check()?;
        Ok(config)
    }

    /// As [`Config::load`], for a KMS that is served alone: `kms_listen` must be there.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn load_for_kms(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let config = Self::gather(file, variables, flags)?;
        config.check_tls()?;
        config.check_kms_listen()?;
        if config.kms_listen.is_none() {
            return Err(ConfigError::Combination(
                "coffer kms serve needs --listen HOST:PORT (port 0 picks a free one)".to_owned(),
            ));
        }
        Ok(config)
    }

    fn gather(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(file) = file {
            config.apply_file(file)?;
        }
        config.apply_variables(variables)?;
        for (name, value) in flags {
            let source = format!("flag --{}", name.replace('_', "-"));
            config.apply(name, value, &source)?;
        }
        Ok(config)
    }

    fn apply(&mut self, name: &str, value: &str, source: &str) -> Result<(), ConfigError> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            let known: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
            return Err(ConfigError::Unknown {
                name: name.to_owned(),
                source_name: source.to_owned(),
                known: known.join(", "),
            });
        };
        (option.set)(self, value).map_err(|problem| ConfigError::Value {
            name: option.name,
            source_name: source.to_owned(),
            problem,
            allowed: option.allowed,
        })
    }

    fn apply_file(&mut self, file: &Path) -> Result<(), ConfigError> {
        let failed = |problem: String| ConfigError::File { file: file.to_owned(), problem };
        let length = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(failed(format!("longer than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        // the parser's own message quotes the line, which may hold a secret: tell the place only
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let end = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(end).filter(|byte| *byte == b'\n').count();
            failed(format!("not TOML, line={}: {}", line.saturating_add(1), error.message()))
        })?;
        let source = format!("file {}", file.display());
        for (name, value) in &table {
            if name == kms_provider::TABLE {
                self.kms_providers = kms_provider::parse(value, &source)?;
                continue;
            }
            if name == notify::TABLE {
                self.notify = notify::parse(value, &source)?;
                continue;
            }
            if name == role_principals::TABLE {
                self.role_principals = role_principals::parse(value, &source)?;
                continue;
            }
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(truth) => truth.to_string(),
                _ => "(neither a string, nor an integer, nor true or false)".to_owned(),
            };
            self.apply(name, &value, &source)?;
        }
        Ok(())
    }

    fn apply_variables(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        // sorted, so that of several wrong ones the same is named every time
        let variables: BTreeMap<String, String> = variables.collect();
        for (variable, value) in &variables {
            let Some(name) = variable.strip_prefix("COFFER_") else {
                continue;
            };
            let is_other = OTHER_VARIABLES.contains(&variable.as_str())
                || OTHER_PREFIXES.iter().any(|prefix| variable.starts_with(prefix));
            if !is_other {
                self.apply(&name.to_ascii_lowercase(), value, &format!("variable {variable}"))?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_tls()?;
        self.check_kms_listen()?;
        if !self.listen.ip().is_loopback() && self.tls.cert.is_none() && !self.allow_plaintext {
            return Err(ConfigError::Combination(format!(
                "option listen: {} is not a loopback address: give --tls-cert FILE and --tls-key \
                 FILE, listen on 127.0.0.1 or [::1], or give --allow-plaintext to send rows and \
                 passwords over the network unencrypted",
                self.listen
            )));
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            return Err(ConfigError::Combination(format!(
                "option listen: {} stands for all addresses; give --advertise HOST:PORT, the \
                 address that drivers are to connect to",
                self.listen
            )));
        }
        self.check_limits()
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        let tls = &self.tls;
        let needs = |name: &str, other: &str| {
            Err(ConfigError::Combination(format!("option {name}: it needs option {other} too")))
        };
        match (&tls.cert, &tls.key, &tls.client_ca) {
            (Some(_), None, _) => return needs("tls_cert", "tls_key"),
            (None, Some(_), _) => return needs("tls_key", "tls_cert"),
            (None, None, Some(_)) => return needs("tls_client_ca", "tls_cert"),
            _ => {}
        }
        match (&tls.kms_cert, &tls.kms_key) {
            (Some(_), None) => needs("kms_tls_cert", "kms_tls_key"),
            (None, Some(_)) => needs("kms_tls_key", "kms_tls_cert"),
            _ => Ok(()),
        }
    }

    fn check_kms_listen(&self) -> Result<(), ConfigError> {
        let has_tls = self.tls.kms_cert.is_some() || self.tls.cert.is_some();
        match self.kms_listen {
            Some(address) if !address.ip().is_loopback() && !has_tls && !self.allow_plaintext => {
                Err(ConfigError::Combination(format!(
                    "address of the KMS endpoint: {address} is not a loopback address: give \
                     --kms-tls-cert FILE and --kms-tls-key FILE, listen on 127.0.0.1 or [::1], \
                     or give --allow-plaintext to send key material over the network unencrypted"
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let frame = usize::try_from(limits.frame_bytes_max).unwrap_or(usize::MAX);
        let too_small = [
            ("connection_request_bytes_max", limits.connection_request_bytes_max),
            ("request_bytes_max", limits.request_bytes_max),
        ];
        for (name, bytes) in too_small {
            if bytes < frame {
                return Err(ConfigError::Combination(format!(
                    "option {name}: {bytes} bytes cannot hold one frame of frame_bytes_max = \
                     {frame} bytes"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
