//! The local socket over which commands reach a running server: one line of JSON each way. Whoever
//! may connect to it (mode 0600) may use the keys.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_keys::{EmbeddedKms, KeyMetadata, NewKey, begin_root_key_rotation};
use coffer_kms::{Kms, KmsException, UserDescription};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use coffer_query::Database;

use crate::backups::{self, BackupRequest};
use crate::cli::{KeysOperation, KmsOperation, NotifyOperation, SnapshotOperation};
use crate::notifications::Notifications;
use crate::schema_log::SchemaLog;
use crate::{snapshots, table_keys};

/// The socket's name in the data directory.
const SOCKET: &str = "admin.sock";
/// A socket's path may have this many bytes everywhere (`sun_path` has 104 or 108 with the NUL).
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// Longest request line.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Requests at a time.
const REQUESTS_MAX: usize = 8;
/// Time for one request of the KMS.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one request that asks the KMS for each table.
const TABLES_TIMEOUT: Duration = Duration::from_secs(3600);

/// Why a KMS that is served alone refuses.
const KMS_ONLY: &str = "this process serves a KMS only: it has no tables";

/// What a command asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AdminRequest {
    /// Keys and users of the embedded KMS.
    Kms(KmsOperation),
    /// Keys of tables.
    Keys(KeysOperation),
    /// A new root key.
    RotateRootKey,
    /// Channels of notifications.
    Notify(NotifyOperation),
    /// Snapshots of tables.
    Snapshot(SnapshotOperation),
    /// The server's part of a backup.
    Backup(BackupRequest),
}

impl AdminRequest {
    /// How long the answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Kms(_) => REQUEST_TIMEOUT,
            Self::Keys(_)
            | Self::RotateRootKey
            | Self::Notify(_)
            | Self::Snapshot(_)
            | Self::Backup(_) => TABLES_TIMEOUT,
        }
    }
}

/// What was found or done, a row for each thing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// JSON objects.
    pub(crate) rows: Vec<serde_json::Value>,
    /// Something is wrong: the command's exit code tells it.
    pub(crate) has_findings: bool,
}

/// What the server answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AdminAnswer {
    /// Descriptions of the keys or users in question.
    Keys(Vec<serde_json::Value>),
    /// What was done with tables.
    Report(Report),
    /// Why not.
    Error(String),
    /// What was looked at is not as it was written.
    Tampered(String),
}

/// Why something was not done, for whoever typed the command.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) text: String,
    /// Something is not as it was written.
    pub(crate) is_tampered: bool,
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { text, is_tampered: false }
    }
}

impl From<coffer_query::Error> for Refusal {
    fn from(error: coffer_query::Error) -> Self {
        let is_tampered = matches!(error, coffer_query::Error::ReadFailure(_));
        Self { text: error.to_string(), is_tampered }
    }
}

impl From<coffer_storage::Error> for Refusal {
    fn from(error: coffer_storage::Error) -> Self {
        coffer_query::Error::from(error).into()
    }
}

impl From<coffer_backup::Error> for Refusal {
    fn from(error: coffer_backup::Error) -> Self {
        let is_tampered = matches!(error, coffer_backup::Error::Tampered { .. });
        Self { text: error.to_string(), is_tampered }
    }
}

impl From<Result<Report, Refusal>> for AdminAnswer {
    fn from(performed: Result<Report, Refusal>) -> Self {
        match performed {
            Ok(report) => Self::Report(report),
            Err(Refusal { text, is_tampered: true }) => Self::Tampered(text),
            Err(Refusal { text, .. }) => Self::Error(text),
        }
    }
}

/// What requests are about.
pub(crate) struct Subjects {
    pub(crate) kms: Arc<EmbeddedKms>,
    /// `None` where the KMS is served alone.
    pub(crate) service: Option<Arc<Service>>,
}

/// What is under the root key of the service.
pub(crate) struct Service {
    pub(crate) database: Arc<Database>,
    pub(crate) schema_log: Arc<SchemaLog>,
    pub(crate) root_key_file: PathBuf,
    pub(crate) notifications: Arc<Notifications>,
    pub(crate) data_dir: PathBuf,
}

impl Service {
    /// Puts everything under a new root key, or goes on where that was broken off. Blocks.
    ///
    /// # Errors
    /// A text; both root keys stay in use, and the next call goes on.
    pub(crate) fn rotate_root_key(&self) -> Result<(), String> {
        let roots =
            begin_root_key_rotation(&self.root_key_file).map_err(|error| error.to_string())?;
        // the audit log first: the old key is gone when the rest is done
        self.schema_log.replace_root_key(roots.current()).map_err(|error| error.to_string())?;
        self.database.rotate_root_key(&self.root_key_file).map_err(|error| error.to_string())
    }
}

impl Subjects {
    async fn answer(self: Arc<Self>, request: AdminRequest) -> io::Result<AdminAnswer> {
        match request {
            AdminRequest::Kms(operation) => {
                tokio::task::spawn_blocking(move || perform(&self.kms, operation))
                    .await
                    .map_err(io::Error::other)
            }
            AdminRequest::Keys(operation) => {
                let Some(service) = &self.service else {
                    return Ok(AdminAnswer::Error(KMS_ONLY.to_owned()));
                };
                Ok(match table_keys::perform(&service.database, &operation).await {
                    Ok(report) => AdminAnswer::Report(report),
                    Err(text) => AdminAnswer::Error(text),
                })
            }
            AdminRequest::Notify(NotifyOperation::Test) => {
                let Some(service) = &self.service else {
                    return Ok(AdminAnswer::Error(KMS_ONLY.to_owned()));
                };
                Ok(match service.notifications.test().await {
                    Ok(report) => AdminAnswer::Report(report),
                    Err(text) => AdminAnswer::Error(text),
                })
            }
            AdminRequest::Snapshot(operation) => {
                let Some(service) = self.service.clone() else {
                    return Ok(AdminAnswer::Error(KMS_ONLY.to_owned()));
                };
                let runtime = tokio::runtime::Handle::current();
                let performed = tokio::task::spawn_blocking(move || {
                    runtime.block_on(snapshots::perform(&service.database, &operation))
                });
                Ok(performed.await.map_err(io::Error::other)?.into())
            }
            AdminRequest::Backup(request) => {
                let Some(service) = self.service.clone() else {
                    return Ok(AdminAnswer::Error(KMS_ONLY.to_owned()));
                };
                let runtime = tokio::runtime::Handle::current();
                // it digests files between its calls of the KMS
                let performed = tokio::task::spawn_blocking(move || {
                    runtime.block_on(backups::perform(&service, &request))
                });
                Ok(performed.await.map_err(io::Error::other)?.into())
            }
            AdminRequest::RotateRootKey => {
                let Some(service) = self.service.clone() else {
                    return Ok(AdminAnswer::Error(KMS_ONLY.to_owned()));
                };
                let rotated = tokio::task::spawn_blocking(move || service.rotate_root_key());
                Ok(match rotated.await.map_err(io::Error::other)? {
                    Ok(()) => AdminAnswer::Report(Report::default()),
                    Err(text) => AdminAnswer::Error(text),
                })
            }
        }
    }
}

/// Does what is asked. Waits for the disk.
pub(crate) fn perform(kms: &EmbeddedKms, operation: KmsOperation) -> AdminAnswer {
    let one = |result: Result<KeyMetadata, KmsException>| result.map(|key| vec![key]);
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
        operation => return perform_on_users(kms.kms(), operation),
    };
    let keys =
        result.map(|keys| keys.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>());
    match keys {
        Ok(Ok(keys)) => AdminAnswer::Keys(keys),
        Ok(Err(error)) => AdminAnswer::Error(error.to_string()),
        Err(error) => AdminAnswer::Error(error.to_string()),
    }
}

fn perform_on_users(kms: &Kms, operation: KmsOperation) -> AdminAnswer {
    let describe = |name: &str| {
        let users = kms.list_users();
        let found = users.into_iter().filter(|user| name.is_empty() || user.name == name);
        found.map(|user| user_row(&user)).collect::<Vec<_>>()
    };
    let set_enabled =
        |name: &str, enabled: bool| kms.set_user_enabled(name, enabled).map(|()| describe(name));
    let result = match operation {
        KmsOperation::CreateUser { name, policy } => {
            kms.create_user(&name, policy.as_deref()).map(|credentials| {
                let section = credentials.to_section(&name, &kms.region());
                vec![json!({
                    "Name": name,
                    "Arn": credentials.arn,
                    "AccessKeyId": credentials.access_key_id,
                    "SecretAccessKey": *credentials.secret_access_key,
                    "Credentials": *section,
                })]
            })
        }
        KmsOperation::ListUsers => Ok(describe("")),
        KmsOperation::DisableUser { name } => set_enabled(&name, false),
        KmsOperation::EnableUser { name } => set_enabled(&name, true),
        KmsOperation::DeleteUser { name } => {
            let user = describe(&name);
            kms.delete_user(&name).map(|()| user)
        }
        _ => Ok(Vec::new()),
    };
    match result {
        Ok(users) => AdminAnswer::Keys(users),
        Err(error) => AdminAnswer::Error(error.to_string()),
    }
}

fn user_row(user: &UserDescription) -> serde_json::Value {
    json!({
        "Name": user.name,
        "Arn": user.arn,
        "AccessKeyId": user.access_key_id,
        "Enabled": user.enabled,
        "CreatedAtMillis": user.created_at_millis,
        "HasPolicy": user.has_policy,
    })
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
    pub(crate) async fn serve(self, subjects: Arc<Subjects>) {
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let subjects = Arc::clone(&subjects);
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, subjects).await {
                            tracing::warn!(%error, "admin request failed");
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

async fn answer(mut stream: UnixStream, subjects: Arc<Subjects>) -> io::Result<()> {
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line))
        .await
        .map_err(timed_out)??;
    let is_cut = line.len() as u64 == REQUEST_BYTES_MAX && !line.ends_with('\n');
    let answer = match serde_json::from_str::<AdminRequest>(&line) {
        Ok(request) => {
            let timeout = request.timeout();
            let answering = subjects.answer(request);
            tokio::time::timeout(timeout, answering).await.map_err(timed_out)??
        }
        Err(_) if is_cut => {
            AdminAnswer::Error(format!("the request is longer than {REQUEST_BYTES_MAX} bytes"))
        }
        Err(error) => AdminAnswer::Error(format!("not a request: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    tokio::time::timeout(REQUEST_TIMEOUT, writer.write_all(&text)).await.map_err(timed_out)?
}
