//! `coffer kms serve`: the KMS of a data directory, alone, for several servers.

use std::sync::Arc;
use std::time::Duration;

use coffer_keys::{EmbeddedKms, EmbeddedKmsOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{AdminSocket, Subjects};
use crate::cli::{self, KmsServe};
use crate::config::Config;
use crate::data_directory::{DirectoryLock, open_kms};
use crate::error::{CommandError, Result};
use crate::kms_endpoint::{self, KmsEndpoint};
use crate::kms_thread::start_kms_thread;
use crate::listener::Bound;
use crate::serve::{clock, forbid_core_dumps, kms_faults};
use crate::tls::{Tls, TlsFiles};

/// Pause between two looks for what is due on keys.
const DUE_PAUSE: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT. `say` gets the lines for standard output.
///
/// # Errors
/// Why it cannot start.
pub(crate) fn run(kms: &cli::Kms, flags: &KmsServe, say: &mut dyn FnMut(&str)) -> Result<()> {
    let mut options = flags.options.clone();
    let paths = [("data_dir", &kms.data_dir), ("kms_root_key_file", &kms.kms_root_key_file)];
    for (name, path) in paths {
        if let Some(path) = path {
            options.insert(name, path.display().to_string());
        }
    }
    let config = Config::load_for_kms(flags.config.as_deref(), std::env::vars(), &options)?;
    let clock = clock(flags.test_clock.as_deref())?;
    let faults = kms_faults(flags.kms_fault.as_deref())?.map(Arc::new);
    let tls = TlsFiles::of_kms(&config.tls).map(Tls::load).transpose()?.map(Arc::new);
    crate::logging::start(config.log_level);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    forbid_core_dumps()?;

    let _lock = DirectoryLock::take(&config.data_dir)?;
    let address = config.kms_listen.ok_or_else(|| {
        CommandError::Refused("coffer kms serve needs --listen HOST:PORT".to_owned())
    })?;
    let bound = Bound::new(address)?;
    let must_exist = config.data_dir.join("catalog").exists();
    let kms = {
        let options = EmbeddedKmsOptions {
            account: config.account.clone(),
            region: config.region.clone(),
            root_key_file: config.kms_root_key_file.clone(),
            must_exist,
            ..EmbeddedKmsOptions::default()
        };
        open_kms(&config.data_dir, &options, clock)?
    };
    // everything runs on the thread whose frees are wiped; this one waits
    let thread = start_kms_thread("coffer-kms").map_err(CommandError::io("start threads"))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let ready = format!(
        "coffer kms is ready: clients of AWS KMS can connect to {} ({scheme})\n",
        bound.address
    );
    let admin = {
        let _runtime = thread.handle().enter();
        AdminSocket::bind(&config.data_dir).map_err(CommandError::io("open the admin socket"))?
    };
    let endpoint = Arc::new(KmsEndpoint { kms: Arc::clone(kms.kms()), tls, faults });
    let (started, is_started) = std::sync::mpsc::sync_channel(1);
    let serving = thread.handle().spawn(serve(bound, admin, kms, endpoint, started));
    if is_started.recv().is_ok() {
        say(&ready);
    }
    let ended = thread.handle().block_on(serving);
    ended.unwrap_or_else(|error| Err(CommandError::Refused(format!("the endpoint: {error}"))))?;
    tracing::info!("stopped");
    Ok(())
}

async fn serve(
    bound: Bound,
    admin: AdminSocket,
    kms: Arc<EmbeddedKms>,
    endpoint: Arc<KmsEndpoint>,
    started: std::sync::mpsc::SyncSender<()>,
) -> Result<()> {
    let failed = || CommandError::io("catch signals");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    let subjects = Subjects { kms: Arc::clone(&kms), service: None };
    let mut background = vec![
        tokio::spawn(admin.serve(Arc::new(subjects))),
        tokio::spawn(run_due(kms)),
        tokio::spawn(kms_endpoint::serve(bound.listener()?, Arc::clone(&endpoint))),
    ];
    if let Some(tls) = &endpoint.tls {
        let hangup = signal(SignalKind::hangup()).map_err(failed())?;
        background.push(tokio::spawn(Arc::clone(tls).keep_current(hangup)));
    }
    // whoever started this waits for it
    let _ = started.send(());
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    for task in background {
        task.abort();
        // an aborted task is what is wanted
        drop(task.await);
    }
    Ok(())
}

/// Does what has become due on keys, for as long as it is polled.
pub(crate) async fn run_due(kms: Arc<EmbeddedKms>) {
    loop {
        tokio::time::sleep(DUE_PAUSE).await;
        let kms = Arc::clone(&kms);
        // a panic is logged by its hook
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || kms.delete_due_keys()).await {
            tracing::warn!(%error, "what is due on keys of the KMS is not done, trying again");
        }
    }
}
