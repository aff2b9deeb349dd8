//! Accepts connections, within their number, until the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use crate::connection::Connection;
use crate::server::Server;

/// Pause after a failed accept, for example because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves clients until `stopping` holds true; returns when the last connection has ended.
pub(crate) async fn serve(
    server: &Arc<Server>,
    listener: TcpListener,
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
                        tracing::warn!(%client, "connection refused: connections_max are open");
                        continue;
                    };
                    let (server, stopping) = (Arc::clone(server), of_connection.clone());
                    connections.spawn(async move {
                        serve_one(server, stream, client, stopping).await;
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
    stream: TcpStream,
    client: SocketAddr,
    stopping: watch::Receiver<bool>,
) {
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| Ok(rustix::net::sockopt::set_socket_keepalive(&stream, true)?));
    let result = match prepared {
        Ok(()) => Connection::new(server, stream, client, stopping).serve().await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::debug!(%client, %error, "connection ended");
    }
}
