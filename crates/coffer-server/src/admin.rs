//! The local socket over which `coffer kms` reaches the embedded KMS of a running server: one line
//! of JSON each way. Whoever may connect to it (mode 0600) may use the keys.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_keys::{EmbeddedKms, KeyMetadata, KmsError, NewKey};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::cli::KmsOperation;

/// The socket's name in the data directory.
const SOCKET: &str = "admin.sock";
/// A socket's path may have this many bytes everywhere (`sun_path` has 104 or 108 with the NUL).
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Longest request line.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Requests at a time.
const REQUESTS_MAX: usize = 8;
/// Time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the KMS answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AdminAnswer {
    /// Descriptions of the keys in question.
    Keys(Vec<serde_json::Value>),
    /// Why not.
    Error(String),
}

/// Does what is asked. Waits for the disk.
pub(crate) fn perform(kms: &EmbeddedKms, operation: KmsOperation) -> AdminAnswer {
    let one = |result: Result<KeyMetadata, KmsError>| result.map(|key| vec![key]);
    let result = match operation {
        KmsOperation::CreateKey { description, alias, arn } => {
            let description = description.unwrap_or_default();
            one(kms.create_key(NewKey { description, alias, arn }))
        }
        KmsOperation::ListKeys => Ok(kms.list_keys()),
        KmsOperation::DescribeKey { key } => one(kms.describe(&key)),
        KmsOperation::DisableKey { key } => one(kms.disable_key(&key)),
        KmsOperation::EnableKey { key } => one(kms.enable_key(&key)),
        KmsOperation::ScheduleKeyDeletion { key, pending_window_in_days } => {
            one(kms.schedule_key_deletion(&key, Some(pending_window_in_days)))
        }
        KmsOperation::CancelKeyDeletion { key } => one(kms.cancel_key_deletion(&key)),
    };
    let keys =
        result.map(|keys| keys.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>());
    match keys {
        Ok(Ok(keys)) => AdminAnswer::Keys(keys),
        Ok(Err(error)) => AdminAnswer::Error(error.to_string()),
        Err(error) => AdminAnswer::Error(error.to_string()),
    }
}

/// The path to give to `bind` and `connect`: a long one goes through an open directory, which must
/// stay open meanwhile.
pub(crate) struct SocketPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl SocketPath {
    pub(crate) fn new(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self { path, _directory: None });
        }
        let directory = File::open(data_dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
        Ok(Self { path, _directory: Some(directory) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The listening socket; removed when dropped.
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens in a data directory that this process has locked; a socket left there by a server
    /// that was killed is replaced.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket_path = SocketPath::new(data_dir)?;
        // the process's umask keeps others out from the moment the socket exists
        let listener = UnixListener::bind(socket_path.path())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers requests for as long as it is polled.
    pub(crate) async fn serve(self, kms: Arc<EmbeddedKms>) {
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let kms = Arc::clone(&kms);
                    tokio::spawn(async move {
                        let answered = tokio::time::timeout(REQUEST_TIMEOUT, answer(stream, kms));
                        match answered.await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => tracing::warn!(%error, "admin request failed"),
                            Err(_) => tracing::warn!("admin request took too long"),
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the admin socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove the admin socket");
        }
    }
}

async fn answer(mut stream: UnixStream, kms: Arc<EmbeddedKms>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(reader.take(REQUEST_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<KmsOperation>(&line) {
        Ok(operation) => tokio::task::spawn_blocking(move || perform(&kms, operation))
            .await
            .map_err(io::Error::other)?,
        Err(error) => AdminAnswer::Error(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await
}
