//! Accepts connections, within their number, until the server stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::server::Server;
use crate::tls::Tls;

/// Pause after a failed accept, for example because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens.
pub(crate) struct Bound {
    listener: std::net::TcpListener,
    /// Its address, with the port that was picked for 0.
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Listens on an address.
    ///
    /// # Errors
    /// The operating system's, naming the address.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, CommandError> {
        let failed = || CommandError::io(format!("listen on {address}"));
        let listener = std::net::TcpListener::bind(address).map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        Ok(Self { listener, address })
    }

    /// For use in the runtime that calls.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn listener(self) -> Result<TcpListener, CommandError> {
        let failed = CommandError::io(format!("listen on {}", self.address));
        TcpListener::from_std(self.listener).map_err(failed)
    }
}

/// Serves clients until `stopping` holds true; returns when the last connection has ended.
pub(crate) async fn serve(
    server: &Arc<Server>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    mut stopping: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(server.limits.connections_max));
    let mut connections = JoinSet::new();
    let of_connection = stopping.clone();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                        server.metrics.refuse();
                        tracing::warn!(%client, "connection refused: connections_max are open");
                        continue;
                    };
                    let (server, stopping) = (Arc::clone(server), of_connection.clone());
                    let tls = tls.clone();
                    connections.spawn(async move {
                        let result = serve_one(server, tls, stream, client, stopping).await;
                        if let Err(error) = result {
                            tracing::debug!(%client, %error, "connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection panicked and was closed");
    }
}

async fn serve_one(
    server: Arc<Server>,
    tls: Option<Arc<Tls>>,
    stream: TcpStream,
    client: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    let Some(tls) = tls else {
        return Connection::new(server, stream, client, stopping).serve().await;
    };
    let timeout = Duration::from_millis(server.limits.startup_timeout_millis);
    let stream = tokio::select! {
        accepted = tls.accept(stream, timeout) => accepted?,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => return Ok(()),
    };
    Box::pin(Connection::new(server, stream, client, stopping).serve()).await
}
