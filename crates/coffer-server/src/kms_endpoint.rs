//! The HTTP endpoint of the embedded KMS: listening, TLS, the number of connections. What is spoken
//! on a connection is `coffer_kms::http`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coffer_kms::Kms;
use coffer_kms::http::{Peer, serve_connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::http_faults;
use crate::kms_fault::KmsFaults;
use crate::tls::Tls;

/// Clients at a time.
const CONNECTIONS_MAX: usize = 1024;
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, for example because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of the endpoint share.
pub(crate) struct KmsEndpoint {
    pub(crate) kms: Arc<Kms>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Scripted faults, for tests.
    pub(crate) faults: Option<Arc<KmsFaults>>,
}

/// Serves clients for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, endpoint: Arc<KmsEndpoint>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                    tracing::warn!(%client, "KMS client refused: {CONNECTIONS_MAX} are connected");
                    continue;
                };
                let endpoint = Arc::clone(&endpoint);
                tokio::spawn(async move {
                    if let Err(error) = serve_one(&endpoint, stream, client).await {
                        tracing::debug!(%client, %error, "KMS client's connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a KMS client's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(
    endpoint: &KmsEndpoint,
    stream: TcpStream,
    client: SocketAddr,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let address = client.ip();
    let Some(tls) = &endpoint.tls else {
        speak(endpoint, stream, Peer { address, tls: None }).await;
        return Ok(());
    };
    let stream = tls.accept(stream, HANDSHAKE_TIMEOUT).await?;
    let (_, session) = stream.get_ref();
    let version = session.protocol_version().and_then(|version| version.as_str());
    let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    // the names of CloudTrail's tlsDetails
    let version = version.unwrap_or_default().replace("TLSv1_", "TLSv1.");
    let cipher = cipher.unwrap_or_default().replace("TLS13_", "TLS_");
    speak(endpoint, stream, Peer { address, tls: Some((version, cipher)) }).await;
    Ok(())
}

async fn speak<S>(endpoint: &KmsEndpoint, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let kms = Arc::clone(&endpoint.kms);
    match &endpoint.faults {
        None => Box::pin(serve_connection(stream, kms, peer)).await,
        Some(faults) => {
            Box::pin(http_faults::serve_connection(stream, kms, peer, Arc::clone(faults))).await;
        }
    }
}
