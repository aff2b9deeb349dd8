//! TLS for CQL and the KMS endpoint: certificates from PEM files, loaded again when the files
//! change or at SIGHUP. A new set that is broken is logged and the old one stays in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsOptions;
use crate::error::{CommandError, Result};

/// Pause between two looks at the files.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Change time, length and inode of each file that is there.
type Stamp = Vec<Option<(SystemTime, u64, u64)>>;

/// Where certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Clients must have a certificate of one of these authorities.
    pub(crate) client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// For CQL; `None` when no TLS is configured.
    pub(crate) fn of_cql(options: &TlsOptions) -> Option<Self> {
        let (cert, key) = (options.cert.clone()?, options.key.clone()?);
        Some(Self { cert, key, client_ca: options.client_ca.clone() })
    }

    /// For the KMS endpoint, whose clients sign their requests instead of having certificates.
    pub(crate) fn of_kms(options: &TlsOptions) -> Option<Self> {
        let own = options.kms_cert.clone().zip(options.kms_key.clone());
        let (cert, key) = own.or_else(|| options.cert.clone().zip(options.key.clone()))?;
        Some(Self { cert, key, client_ca: None })
    }

    /// What tells that a file was replaced or written.
    fn stamp(&self) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| {
                let metadata = std::fs::metadata(path).ok()?;
                Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
            })
            .collect()
    }

    fn load(&self) -> Result<ServerConfig> {
        let wrong = |path: &Path, problem: String| {
            CommandError::Refused(format!("TLS file {}: {problem}", path.display()))
        };
        let chain = certificates(&self.cert)?;
        let text = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| wrong(&self.key, "it holds no private key in PEM".to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| CommandError::Refused(format!("TLS: {error}")))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| wrong(path, error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| wrong(path, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        builder.with_single_cert(chain, key).map_err(|error| wrong(&self.cert, error.to_string()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = || CommandError::io(format!("read TLS file {}", path.display()));
    let length = std::fs::metadata(path).map_err(failed())?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed()(io::ErrorKind::FileTooLarge.into()));
    }
    std::fs::read(path).map_err(failed())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found.ok().filter(|list| !list.is_empty()).ok_or_else(|| {
        CommandError::Refused(format!(
            "TLS file {}: it holds no certificates in PEM",
            path.display()
        ))
    })
}

/// Takes TLS handshakes with the certificates as last loaded.
pub(crate) struct Tls {
    files: TlsFiles,
    current: Mutex<Arc<ServerConfig>>,
    /// Of the files as last read.
    stamp: Mutex<Stamp>,
}

impl Tls {
    /// Loads the files.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub(crate) fn load(files: TlsFiles) -> Result<Self> {
        // before the files are read: a change in between is seen later
        let stamp = Mutex::new(files.stamp());
        let current = Mutex::new(Arc::new(files.load()?));
        Ok(Self { files, current, stamp })
    }

    /// One handshake.
    ///
    /// # Errors
    /// The client's fault or the socket's; `TimedOut` after `timeout`.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        timeout: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.lock()));
        match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Loads the files again when they change, and at each SIGHUP, for as long as it is polled.
    pub(crate) async fn keep_current(self: Arc<Self>, mut hangup: Signal) {
        loop {
            let is_asked = tokio::select! {
                received = hangup.recv() => received.is_some(),
                () = tokio::time::sleep(LOOK_PAUSE) => false,
            };
            let stamp = self.files.stamp();
            let before = std::mem::replace(&mut *self.stamp.lock(), stamp.clone());
            if is_asked || stamp != before {
                self.reload();
            }
        }
    }

    fn reload(&self) {
        let cert = self.files.cert.display();
        match self.files.load() {
            Ok(config) => {
                *self.current.lock() = Arc::new(config);
                tracing::info!(%cert, "TLS certificates loaded again");
            }
            Err(error) => {
                tracing::error!(%error, "new TLS certificates are not used, old ones stay")
            }
        }
    }
}
