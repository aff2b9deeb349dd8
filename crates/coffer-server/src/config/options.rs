//! The table of options.

use std::path::PathBuf;

use coffer_storage::Durability;

use super::parse::{Parsed, address, bytes, choice, name, number, size, truth};
use super::{AuthenticatorKind, Config};

const GIB: u64 = 1 << 30;
const MIB: usize = 1 << 20;

/// One option.
pub struct OptionSpec {
    /// Its name in the file; `COFFER_` and the name in capitals in the environment; `--` and the
    /// name with dashes as a flag.
    pub name: &'static str,
    /// What may be given.
    pub allowed: &'static str,
    /// The default.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// Parses a value and puts it in its place.
    pub(super) set: fn(&mut Config, &str) -> Parsed<()>,
}

impl std::fmt::Debug for OptionSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OptionSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One line of the table: `name, allowed, default, help, config, text => place = value`.
macro_rules! option {
    ($name:literal, $allowed:literal, $default:literal, $help:literal,
     $config:ident, $text:ident => $($place:ident).+ = $value:expr) => {
        OptionSpec {
            name: $name,
            allowed: $allowed,
            default: $default,
            help: $help,
            set: |$config, $text| {
                $config.$($place).+ = $value;
                Ok(())
            },
        }
    };
}

/// All options.
pub static OPTIONS: &[OptionSpec] = &[
    option!(
        "data_dir",
        "a path",
        "./coffer-data",
        "Directory of all files; created at the first start.",
        config, text => data_dir = PathBuf::from(text)
    ),
    option!(
        "listen",
        "HOST:PORT",
        "127.0.0.1:9042",
        "Address for CQL clients; port 0 picks a free one and prints it.",
        config, text => listen = address(text)?
    ),
    option!(
        "advertise",
        "HOST:PORT",
        "(the address listened on)",
        "Address that drivers are told, where it is another one.",
        config, text => advertise = Some(address(text)?)
    ),
    option!(
        "allow_plaintext",
        "true, false",
        "false",
        "Serve CQL without TLS on addresses other than loopback.",
        config, text => allow_plaintext = truth(text)?
    ),
    option!(
        "tls_cert",
        "a path",
        "(none: no TLS)",
        "PEM file of the certificate for CQL clients and the certificates between it and its \
         authority; with it plain connections are refused.",
        config, text => tls.cert = Some(PathBuf::from(text))
    ),
    option!(
        "tls_key",
        "a path",
        "(none: no TLS)",
        "PEM file of the private key of tls_cert.",
        config, text => tls.key = Some(PathBuf::from(text))
    ),
    option!(
        "tls_client_ca",
        "a path",
        "(none: clients need no certificate)",
        "PEM file of the authorities of which CQL clients must have a certificate.",
        config, text => tls.client_ca = Some(PathBuf::from(text))
    ),
    option!(
        "kms_tls_cert",
        "a path",
        "(tls_cert)",
        "PEM file of the certificate of the KMS endpoint.",
        config, text => tls.kms_cert = Some(PathBuf::from(text))
    ),
    option!(
        "kms_tls_key",
        "a path",
        "(tls_key)",
        "PEM file of the private key of kms_tls_cert.",
        config, text => tls.kms_key = Some(PathBuf::from(text))
    ),
    option!(
        "kms_listen",
        "HOST:PORT",
        "(none: no endpoint)",
        "Address at which the embedded KMS serves its HTTP endpoint too; port 0 picks a free one \
         and prints it.",
        config, text => kms_listen = Some(address(text)?)
    ),
    option!(
        "metrics_listen",
        "HOST:PORT",
        "(none: no metrics)",
        "Address at which /metrics can be scraped, over plain HTTP; port 0 picks a free one and \
         prints it. It tells names of keyspaces and tables.",
        config, text => metrics_listen = Some(address(text)?)
    ),
    option!(
        "root_key_file",
        "a path",
        "(root.key in the data directory)",
        "File of the root key, mode 0600.",
        config, text => root_key_file = Some(PathBuf::from(text))
    ),
    option!(
        "kms_root_key_file",
        "a path",
        "(kms/root.key in the data directory)",
        "File of the embedded KMS's root key, mode 0600.",
        config, text => kms_root_key_file = Some(PathBuf::from(text))
    ),
    option!(
        "account",
        "12 digits",
        "000000000000",
        "Account in the ARNs of the embedded KMS; kept from the first start on.",
        config, text => account = Some(account(text)?)
    ),
    option!(
        "region",
        "letters, digits and dashes",
        "us-east-1",
        "Region in the ARNs of the embedded KMS; kept from the first start on.",
        config, text => region = Some(name(text, 64)?)
    ),
    option!(
        "cluster_name",
        "up to 128 letters, digits, spaces, dots, dashes",
        "Coffer",
        "Name of the cluster in system.local.",
        config, text => cluster_name = name(text, 128)?
    ),
    option!(
        "data_center",
        "up to 128 letters, digits, spaces, dots, dashes",
        "datacenter1",
        "Name of the data center in system.local; drivers' samples use the default.",
        config, text => data_center = name(text, 128)?
    ),
    option!(
        "rack",
        "up to 128 letters, digits, spaces, dots, dashes",
        "rack1",
        "Name of the rack in system.local.",
        config, text => rack = name(text, 128)?
    ),
    option!(
        "authenticator",
        "none, password",
        "none",
        "How clients authenticate.",
        config, text => authenticator = choice(
            text,
            &[("none", AuthenticatorKind::None), ("password", AuthenticatorKind::Password),]
        )?
    ),
    option!(
        "user",
        "up to 128 letters, digits, spaces, dots, dashes",
        "cassandra",
        "User of authenticator = password.",
        config, text => user = name(text, 128)?
    ),
    option!(
        "password_hash",
        "a line printed by coffer hash-password",
        "(of cassandra)",
        "Password of authenticator = password, salted and hashed.",
        config, text => password_hash = Some(hash(text)?)
    ),
    option!(
        "key_age_seconds_max",
        "1 to 86400",
        "300",
        "How long a table key is used without asking the KMS again.",
        config, text => key_age_seconds_max = number(text, 1, 86_400)?
    ),
    option!(
        "key_idle_seconds_max",
        "1 to 86400",
        "300",
        "How long the key of a table that nobody uses stays in memory.",
        config, text => key_idle_seconds_max = number(text, 1, 86_400)?
    ),
    option!(
        "table_key_days_max",
        "0 to 36500",
        "0",
        "Age at which a table key is replaced by a new one; 0 is never.",
        config, text => table_key_days_max = number(text, 0, 36_500)?
    ),
    option!(
        "data_key_days_max",
        "0 to 36500",
        "0",
        "Age at which a segment is rewritten under a new data key; 0 is never.",
        config, text => data_key_days_max = number(text, 0, 36_500)?
    ),
    option!(
        "kms_calls_per_second_max",
        "1 to 100000",
        "100",
        "Calls of a KMS per second that no request waits for: refreshes, probes, retired grants.",
        config, text => kms_calls_per_second_max = number(text, 1, 100_000)?
    ),
    option!(
        "key_probe_seconds",
        "1 to 31536000",
        "60",
        "How often the KMS is asked about the key of a table that nobody uses, with jitter.",
        config, text => key_health.probe_interval_millis = number(text, 1, 31_536_000)? * 1000
    ),
    option!(
        "key_loss_confirmations",
        "1 to 100",
        "3",
        "Refusals in a row after which a key counts as lost.",
        config, text => key_health.policy.confirmations = number(text, 1, 100)?
    ),
    option!(
        "key_loss_delete_after",
        "days as 7d, hours as 12h, never",
        "7d",
        "How long a lost key is waited for before its table is dropped, with a snapshot; a table's \
         key_loss overrides it.",
        config, text => key_health.policy.delete_after_millis =
            coffer_health::delete_after(text).map_err(|error| error.to_string())?
    ),
    option!(
        "key_loss_reminder_days",
        "whole days separated by commas",
        "3,1",
        "Days left at which somebody is reminded of a lost key.",
        config, text => key_health.policy.reminder_days =
            coffer_health::reminder_days(text).map_err(|error| error.to_string())?
    ),
    option!(
        "key_unreachable_seconds",
        "1 to 31536000",
        "600",
        "How long there is no clear answer about a key before somebody is told.",
        config, text => key_health.policy.unreachable_after_millis =
            number(text, 1, 31_536_000)? * 1000
    ),
    option!(
        "snapshot_keep_days",
        "1 to 36500",
        "35",
        "How long the snapshot of a table that was dropped for its lost key is kept.",
        config, text => key_health.snapshot_keep_millis =
            number(text, 1, 36_500)? * coffer_health::DAY_MILLIS
    ),
    option!(
        "require_cmk",
        "true, false",
        "false",
        "Refuse tables under the service-owned key.",
        config, text => require_cmk = truth(text)?
    ),
    option!(
        "allowed_kms_keys",
        "key ARNs with *, separated by commas",
        "*",
        "KMS keys that tables may be put under.",
        config, text => allowed_kms_keys = key_patterns(text)?
    ),
    option!(
        "immutable_encryption",
        "true, false",
        "false",
        "Refuse to change the encryption of a table that exists.",
        config, text => immutable_encryption = truth(text)?
    ),
    option!(
        "double_wrapping",
        "true, false",
        "false",
        "Wrap new table keys of KMS keys under the service-owned key too, so that both are needed.",
        config, text => double_wrapping = truth(text)?
    ),
    option!(
        "durability",
        "synced, periodic",
        "synced",
        "synced: a write is acknowledged when it is on disk. periodic, the weaker one: it is \
         acknowledged before, and a power cut may lose the last sync_interval_millis.",
        config, text => engine.durability = durability(&config.engine.durability, text)?
    ),
    option!(
        "sync_interval_millis",
        "1 to 60000",
        "10000",
        "Longest time between two syncs with durability = periodic, which this option selects.",
        config, text => engine.durability =
            Durability::Periodic { sync_interval_millis: number(text, 1, 60_000)? }
    ),
    option!(
        "memtable_total_bytes",
        "1MiB to 1024GiB",
        "256MiB",
        "Memory for all memtables; beyond it writers wait.",
        config, text => engine.memtable_total_bytes = bytes(text, 1 << 20, GIB << 10)?
    ),
    option!(
        "memtable_flush_bytes",
        "64KiB to 64GiB",
        "64MiB",
        "Size at which the memtable of a table is flushed.",
        config, text => engine.memtable_flush_bytes = bytes(text, 1 << 16, GIB << 6)?
    ),
    option!(
        "block_cache_bytes",
        "0 to 1024GiB",
        "256MiB",
        "Memory for opened blocks.",
        config, text => engine.block_cache_bytes = bytes(text, 0, GIB << 10)?
    ),
    option!(
        "log_total_bytes",
        "1MiB to 1024GiB",
        "512MiB",
        "Disk for the commit log; tables that hold it back are flushed before.",
        config, text => engine.log_total_bytes = bytes(text, 1 << 20, GIB << 10)?
    ),
    option!(
        "log_file_bytes",
        "64KiB to 1GiB",
        "32MiB",
        "Size of one commit log file.",
        config, text => engine.log_file_bytes = bytes(text, 1 << 16, GIB)?
    ),
    option!(
        "mutation_bytes_max",
        "1KiB to 256MiB",
        "16MiB",
        "Largest write or batch.",
        config, text => engine.mutation_max_bytes = bytes(text, 1 << 10, GIB >> 2)?
    ),
    option!(
        "block_bytes",
        "4096, 16384, 65536",
        "4096",
        "Size of a block before compression; 4096 suits reads by key, more suits scans.",
        config, text => engine.block_bytes =
            choice(text, &[("4096", 4096), ("16384", 16_384), ("65536", 65_536),])?
    ),
    option!(
        "segment_compression",
        "lz4, none",
        "lz4",
        "Compression of blocks before sealing.",
        config, text => engine.compression = choice(text, &[("lz4", true), ("none", false)])?
    ),
    option!(
        "compaction_segments_min",
        "2 to 32",
        "4",
        "Number of segments of similar size that are merged into one.",
        config, text => engine.compaction_segments_min = number(text, 2, 32)?
    ),
    option!("frame_bytes_max", "4KiB to 256MiB", "32MiB", "Largest request.", config, text => limits.frame_bytes_max = u32::try_from(bytes(text, 1 << 12, GIB >> 2)?).unwrap_or(u32::MAX)),
    option!("connections_max", "1 to 100000", "4096", "Connections at a time.", config, text => limits.connections_max = number(text, 1, 100_000)?),
    option!(
        "connection_requests_max",
        "1 to 32768",
        "32768",
        "Unanswered requests of one connection; beyond it they are OVERLOADED.",
        config, text => limits.connection_requests_max = number(text, 1, 32_768)?
    ),
    option!(
        "connection_request_bytes_max",
        "4KiB to 1GiB",
        "64MiB",
        "Bytes of the unanswered requests of one connection; beyond it they are OVERLOADED.",
        config, text => limits.connection_request_bytes_max = size(text, 4096, 1024 * MIB)?
    ),
    option!(
        "requests_max",
        "1 to 10000000",
        "262144",
        "Unanswered requests of all connections; beyond it they are OVERLOADED.",
        config, text => limits.requests_max = number(text, 1, 10_000_000)?
    ),
    option!(
        "request_bytes_max",
        "4KiB to 1024GiB",
        "256MiB",
        "Bytes of the unanswered requests of all connections; beyond it they are OVERLOADED.",
        config, text => limits.request_bytes_max = size(text, 4096, 1024 * 1024 * MIB)?
    ),
    option!("statement_bytes_max", "64 to 256MiB", "1MiB", "Longest CQL text.", config, text => limits.statement_bytes_max = size(text, 64, 256 * MIB)?),
    option!(
        "prepared_cache_bytes",
        "64KiB to 16GiB",
        "32MiB",
        "Memory for prepared statements; the ones unused longest leave first.",
        config, text => limits.prepared_cache_bytes = size(text, 1 << 16, 16 * 1024 * MIB)?
    ),
    option!(
        "page_rows_max",
        "1 to 1000000",
        "10000",
        "Rows of a page, whatever the client asks for.",
        config, text => limits.page_rows_max = number(text, 1, 1_000_000)?
    ),
    option!(
        "page_total_bytes",
        "1MiB to 1024GiB",
        "256MiB",
        "Memory for the results of big reads; beyond it they wait, then are OVERLOADED.",
        config, text => limits.page_total_bytes = size(text, MIB, 1024 * 1024 * MIB)?
    ),
    option!(
        "write_backlog_bytes_max",
        "4KiB to 1GiB",
        "4MiB",
        "Answers a client may leave unread before nothing more is read from it.",
        config, text => limits.write_backlog_bytes_max = size(text, 4096, 1024 * MIB)?
    ),
    option!(
        "startup_timeout_millis",
        "100 to 600000",
        "12000",
        "Time a client has for STARTUP and authentication.",
        config, text => limits.startup_timeout_millis = number(text, 100, 600_000)?
    ),
    option!(
        "room_timeout_millis",
        "0 to 600000",
        "2000",
        "Time a write waits for room in memory before it is OVERLOADED.",
        config, text => limits.room_timeout_millis = number(text, 0, 600_000)?
    ),
    option!(
        "table_timeout_millis",
        "100 to 600000",
        "10000",
        "Time a request waits for the key and the recovery of its table.",
        config, text => limits.table_timeout_millis = number(text, 100, 600_000)?
    ),
    option!(
        "worker_threads",
        "1 to 1024",
        "(processors, at least 2)",
        "Threads that serve connections.",
        config, text => worker_threads = number(text, 1, 1024)?
    ),
    option!(
        "scan_threads",
        "1 to 1024",
        "(half the processors, at least 1)",
        "Low-priority threads for big reads.",
        config, text => scan_threads = number(text, 1, 1024)?
    ),
    option!(
        "log_level",
        "error, warn, info, debug, trace",
        "info",
        "What is logged, to standard error. Never values, columns or statements.",
        config, text => log_level = choice(
            text,
            &[
                ("error", tracing::Level::ERROR),
                ("warn", tracing::Level::WARN),
                ("info", tracing::Level::INFO),
                ("debug", tracing::Level::DEBUG),
                ("trace", tracing::Level::TRACE),
            ]
        )?
    ),
];

fn account(text: &str) -> Parsed<String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not 12 digits"))
    }
}

fn key_patterns(text: &str) -> Parsed<Vec<String>> {
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || ":/_*-".contains(letter);
    let patterns: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    let is_pattern = |pattern: &String| {
        pattern.chars().all(is_safe) && (pattern == "*" || pattern.starts_with("arn:"))
    };
    match patterns.iter().find(|pattern| !is_pattern(pattern)) {
        Some(wrong) => Err(format!("{wrong:?} is neither * nor begins with arn:")),
        None => Ok(patterns),
    }
}

fn hash(text: &str) -> Parsed<String> {
    // the text itself stays out of the message: it may be a password in the clear
    match coffer_crypto::PasswordHash::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("the value is not such a line".to_owned()),
    }
}

fn durability(present: &Durability, text: &str) -> Parsed<Durability> {
    let periodic = match present {
        Durability::Periodic { .. } => *present,
        Durability::Synced => Durability::Periodic { sync_interval_millis: 10_000 },
    };
    choice(text, &[("synced", Durability::Synced), ("periodic", periodic)])
}
