//! `coffer serve`: opens everything, serves, and closes everything.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coffer_crypto::clock::{Clock, OffsetClock, SystemClock};
use coffer_keys::{Keyring, KeyringOptions, KmsProvider};
use coffer_kms_aws::KmsThread;
use coffer_query::{Database, DatabaseOptions, EncryptionOptions};
use coffer_storage::Engine;
use coffer_storage::vfs::OsVfs;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{AdminSocket, Service, Subjects};
use crate::audit_anchor::AuditAnchors;
use crate::authentication::Authenticator;
use crate::backups;
use crate::cli;
use crate::config::{AuthenticatorKind, Config};
use crate::data_directory::DataDirectory;
use crate::error::{CommandError, Result};
use crate::key_watch::watch_keys;
use crate::kms_endpoint::{self, KmsEndpoint};
use crate::kms_fault::KmsFaults;
use crate::kms_providers;
use crate::kms_serve;
use crate::kms_thread::start_kms_thread;
use crate::listener::{self, Bound};
use crate::metrics;
use crate::notifications::{Lines, Notifications};
use crate::schema_log::SchemaLog;
use crate::server::Server;
use crate::tls::{Tls, TlsFiles};

/// Pause between two passes of the upkeep of table keys.
const KEY_UPKEEP_PAUSE: Duration = Duration::from_secs(5);
/// Pause between two passes over the tables whose history is kept.
const ARCHIVE_UPKEEP_PAUSE: Duration = Duration::from_secs(5);

/// Threads for what blocks: opening tables, schema changes, passwords.
const BLOCKING_THREADS_MAX: usize = 32;

/// The sockets of a server. They are bound before anything is opened, so that a port in use is
/// told at once.
struct Listeners {
    cql: Bound,
    kms: Option<Bound>,
    metrics: Option<Bound>,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Self> {
        Ok(Self {
            cql: Bound::new(config.listen)?,
            kms: config.kms_listen.map(Bound::new).transpose()?,
            metrics: config.metrics_listen.map(Bound::new).transpose()?,
        })
    }
}

/// TLS of each listener that has it.
struct ServingTls {
    cql: Option<Arc<Tls>>,
    kms: Option<Arc<Tls>>,
}

impl ServingTls {
    fn load(config: &Config) -> Result<Self> {
        let load = |files: Option<TlsFiles>| -> Result<Option<Arc<Tls>>> {
            Ok(files.map(Tls::load).transpose()?.map(Arc::new))
        };
        let of_kms = config.kms_listen.and_then(|_| TlsFiles::of_kms(&config.tls));
        Ok(Self { cql: load(TlsFiles::of_cql(&config.tls))?, kms: load(of_kms)? })
    }
}

/// Runs the server until SIGTERM or SIGINT. `say` gets the lines for standard output.
///
/// # Errors
/// Why it cannot start, or did not end cleanly.
pub(crate) fn run(flags: &cli::Serve, say: &mut dyn FnMut(&str)) -> Result<()> {
    let config = Config::load(flags.config.as_deref(), std::env::vars(), &flags.options)?;
    // what calls by HTTPS takes the process's provider; another one there is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lines = Lines::new(&config.notify)?;
    let clock = clock(flags.test_clock.as_deref())?;
    let faults = kms_faults(flags.kms_fault.as_deref())?;
    let tls = ServingTls::load(&config)?;
    crate::logging::start(config.log_level);
    // every file, directory and socket of a server is its owner's alone
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    forbid_core_dumps()?;

    let directory = DataDirectory::open(&config, Arc::clone(&clock))?;
    let listeners = Listeners::bind(&config)?;
    let address = listeners.cql.address;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("coffer-worker")
        .enable_all()
        .build()
        .map_err(CommandError::io("start threads"))?;

    let kms = runtime.block_on(kms_providers::build(
        Arc::clone(&directory.kms) as Arc<_>,
        &config.kms_providers,
        faults,
    ))?;
    let (keyring, engine) = open_engine(&config, &directory, &clock, kms)?;
    let result = runtime.block_on(async {
        let schema_log = Arc::new(SchemaLog::open(
            &directory.path,
            &directory.root_keys,
            (directory.kms.account(), directory.kms.region()),
            Arc::clone(&clock),
        )?);
        let (of_anchors, log, of_kms) =
            (Arc::clone(&engine), Arc::clone(&schema_log), Arc::clone(&directory.kms));
        let anchors = AuditAnchors::start(of_anchors, log, of_kms);
        let options = DatabaseOptions {
            schema_audit: Some(Arc::clone(&schema_log) as Arc<_>),
            notification_channels: lines.names(),
            ..database_options(&config, directory.kms.account(), address)
        };
        let (of_database, keys) = (Arc::clone(&engine), Arc::clone(&keyring));
        let database = Database::open(of_database, keys, Arc::clone(&clock), options)?;
        let database = Arc::new(database);
        let authenticator = Authenticator::new(&config)?;
        let server = Server::new(database, authenticator, &config)?;
        if directory.is_new {
            let kms_address = listeners.kms.as_ref().map(|bound| bound.address);
            say(&first_start(&config, &directory, address, kms_address));
        }
        let server = Arc::new(server);
        let notifications = Notifications::new(Arc::clone(&server.database), lines);
        let service = Arc::new(Service {
            database: Arc::clone(&server.database),
            schema_log,
            root_key_file: directory.root_key_file.clone(),
            notifications: Arc::new(notifications),
            data_dir: directory.path.clone(),
        });
        let keep_anchors = tokio::spawn(Arc::clone(&anchors).run());
        let served = serve(server, service, &directory, &keyring, listeners, tls, say).await;
        keep_anchors.abort();
        drop(keep_anchors.await);
        anchors.finish();
        served
    });
    // tasks hold the database: they end before the engine does
    runtime.shutdown_timeout(Duration::from_secs(10));
    engine.shutdown();
    tracing::info!("stopped");
    drop(directory.lock);
    result
}

/// The clock, moved by a file in tests.
///
/// # Errors
/// The file is given without the permission.
pub(crate) fn clock(file: Option<&Path>) -> Result<Arc<dyn Clock>> {
    let Some(file) = file else {
        return Ok(Arc::new(SystemClock));
    };
    if std::env::var("COFFER_ALLOW_TEST_CLOCK").as_deref() != Ok("1") {
        return Err(CommandError::Refused(
            "--test-clock moves key ages and deletion dates: it needs COFFER_ALLOW_TEST_CLOCK=1 \
             in the environment"
                .to_owned(),
        ));
    }
    Ok(Arc::new(OffsetClock::new(file.to_owned())))
}

/// Scripted faults, in tests.
///
/// # Errors
/// The file is given without the permission.
pub(crate) fn kms_faults(file: Option<&Path>) -> Result<Option<KmsFaults>> {
    let Some(file) = file else {
        return Ok(None);
    };
    if std::env::var("COFFER_ALLOW_KMS_FAULTS").as_deref() != Ok("1") {
        return Err(CommandError::Refused(
            "--kms-fault makes calls of the KMS fail: it needs COFFER_ALLOW_KMS_FAULTS=1 in the \
             environment"
                .to_owned(),
        ));
    }
    Ok(Some(KmsFaults::new(file.to_owned())))
}

/// Keys and opened rows are in memory: no dump of it, and no debugger of the same user.
///
/// # Errors
/// The operating system's.
pub(crate) fn forbid_core_dumps() -> Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| CommandError::io("turn core dumps off")(error.into()))
}

fn open_engine(
    config: &Config,
    directory: &DataDirectory,
    clock: &Arc<dyn Clock>,
    kms: Arc<dyn KmsProvider>,
) -> Result<(Arc<Keyring>, Arc<Engine>)> {
    let millis = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    let options = KeyringOptions {
        max_age_millis: millis(config.key_age_seconds_max),
        idle_millis: millis(config.key_idle_seconds_max),
        background_calls_per_second_max: config.kms_calls_per_second_max,
        ..KeyringOptions::default()
    };
    let keyring = Keyring::new(kms, directory.root_keys.duplicate(), Arc::clone(clock), options);
    let engine = Arc::new(Engine::open(
        &directory.path,
        config.engine.clone(),
        Arc::clone(&keyring) as Arc<_>,
        directory.root_keys.duplicate(),
        Arc::new(OsVfs),
        Arc::clone(clock),
    )?);
    Ok((keyring, engine))
}

/// What the configuration says of the database, without those it tells.
fn database_options(config: &Config, account: String, listen: SocketAddr) -> DatabaseOptions {
    DatabaseOptions {
        cluster_name: config.cluster_name.clone(),
        data_center: config.data_center.clone(),
        rack: config.rack.clone(),
        listen: config.advertise.unwrap_or(listen),
        page_rows_max: config.limits.page_rows_max,
        account,
        encryption: EncryptionOptions {
            require_cmk: config.require_cmk,
            allowed_kms_keys: config.allowed_kms_keys.clone(),
            immutable_encryption: config.immutable_encryption,
            double_wrapping: config.double_wrapping,
            default_encryption: None,
            table_key_days_max: config.table_key_days_max,
            data_key_days_max: config.data_key_days_max,
            role_principals: config.role_principals.clone(),
        },
        schema_audit: None,
        key_health: config.key_health.clone(),
        notification_channels: Vec::new(),
    }
}

/// Serves until a signal comes.
async fn serve(
    server: Arc<Server>,
    service: Arc<Service>,
    directory: &DataDirectory,
    keyring: &Arc<Keyring>,
    listeners: Listeners,
    tls: ServingTls,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let failed = |action: &'static str| CommandError::io(action);
    let Listeners { cql, kms, metrics } = listeners;
    backups::clear_imports(&directory.path, service.database.clock().key_wall_millis());
    let admin = AdminSocket::bind(&directory.path).map_err(failed("open the admin socket"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("catch signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("catch signals"))?;
    let (stop, stopping) = watch::channel(false);
    if directory.root_keys.is_rotating() {
        let service = Arc::clone(&service);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = service.rotate_root_key() {
                tracing::error!(error, "root key is not replaced yet: run coffer root-key rotate");
            }
        });
    }
    let notifications = Arc::clone(&service.notifications);
    let subjects = Subjects { kms: Arc::clone(&directory.kms), service: Some(service) };
    let mut background = vec![
        tokio::spawn(admin.serve(Arc::new(subjects))),
        tokio::spawn(Arc::clone(keyring).run_refresh()),
        tokio::spawn(keep_up_keys(Arc::clone(&server))),
        tokio::spawn(keep_up_archives(Arc::clone(&server))),
        tokio::spawn(watch_keys(Arc::clone(&server))),
        tokio::spawn(kms_serve::run_due(Arc::clone(&directory.kms))),
        tokio::spawn(Arc::clone(&notifications).run()),
    ];
    for tls in tls.cql.iter().chain(&tls.kms) {
        let hangup = signal(SignalKind::hangup()).map_err(failed("catch signals"))?;
        background.push(tokio::spawn(Arc::clone(tls).keep_current(hangup)));
    }
    let endpoint =
        kms.map(|bound| start_kms_endpoint(bound, directory, tls.kms, say)).transpose()?;
    if let Some(bound) = metrics {
        say(&format!("Metrics: http://{}/metrics\n", bound.address));
        let sources = metrics::Sources {
            metrics: Arc::clone(&server.metrics),
            database: Arc::clone(&server.database),
            notifications: Arc::clone(&notifications),
        };
        background.push(tokio::spawn(metrics::serve(bound.listener()?, sources)));
    }
    let address = cql.address;
    let clients = listener::serve(&server, cql.listener()?, tls.cql, stopping);
    say(&format!("coffer is ready: CQL clients can connect to {address}\n"));
    tokio::pin!(clients);
    tokio::select! {
        () = &mut clients => {}
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    // nobody may be left to hear it
    let _ = stop.send(true);
    clients.await;
    // its thread ends, and with it what it serves
    drop(endpoint);
    for task in background {
        task.abort();
        // an aborted task is what is wanted
        drop(task.await);
    }
    // what is not noted is told again at the next start
    notifications.note_now();
    Ok(())
}

/// Renews keys, retires grants, for as long as it is polled.
async fn keep_up_keys(server: Arc<Server>) {
    loop {
        tokio::time::sleep(KEY_UPKEEP_PAUSE).await;
        server.database.keep_up_keys().await;
    }
}

/// Keeps the history of tables with point-in-time recovery, for as long as it is polled.
async fn keep_up_archives(server: Arc<Server>) {
    loop {
        tokio::time::sleep(ARCHIVE_UPKEEP_PAUSE).await;
        let server = Arc::clone(&server);
        let done = tokio::task::spawn_blocking(move || server.database.keep_up_archives());
        if done.await.is_err() {
            tracing::error!("keeping up the history of tables failed, trying again");
        }
    }
}

/// The endpoint runs on a thread of its own, whose frees are wiped.
fn start_kms_endpoint(
    bound: Bound,
    directory: &DataDirectory,
    tls: Option<Arc<Tls>>,
    say: &mut dyn FnMut(&str),
) -> Result<Arc<KmsThread>> {
    let thread = start_kms_thread("coffer-kms-http").map_err(CommandError::io("start threads"))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    say(&format!("KMS endpoint: {scheme}://{}\n", bound.address));
    let listener = {
        let _runtime = thread.handle().enter();
        bound.listener()?
    };
    let kms = Arc::clone(directory.kms.kms());
    let endpoint = Arc::new(KmsEndpoint { kms, tls, faults: None });
    thread.handle().spawn(kms_endpoint::serve(listener, endpoint));
    Ok(thread)
}

/// What the first start tells: what was made, and how to connect.
fn first_start(
    config: &Config,
    directory: &DataDirectory,
    address: SocketAddr,
    kms_address: Option<SocketAddr>,
) -> String {
    let mut text = String::new();
    let kms_key = config
        .kms_root_key_file
        .clone()
        .unwrap_or_else(|| directory.path.join("kms").join("root.key"));
    let mut line = |line: String| {
        // writing to a String cannot fail
        let _ = writeln!(text, "{line}");
    };
    line(format!("First start: made the data directory {}", directory.path.display()));
    line(format!("  root key of the service:  {}", directory.root_key_file.display()));
    line(format!("  root key of its KMS:      {}", kms_key.display()));
    line("  Keep copies of both in a safe place: without them no row can be read.".to_owned());
    let login = match config.authenticator {
        AuthenticatorKind::None => String::new(),
        AuthenticatorKind::Password => format!(" -u {}", config.user),
    };
    line(format!("Connect:     cqlsh {} {}{login}", address.ip(), address.port()));
    line(format!("Make a key:  coffer kms create-key --data-dir {}", directory.path.display()));
    if let Some(address) = kms_address {
        let scheme = if TlsFiles::of_kms(&config.tls).is_some() { "https" } else { "http" };
        line(format!(
            "AWS CLI:     AWS_SHARED_CREDENTIALS_FILE={} aws kms list-keys --endpoint-url \
             {scheme}://{address}",
            directory.path.join("kms").join("credentials").display()
        ));
    }
    text
}
