//! The monitor of keys, for as long as the server runs.

use std::sync::Arc;
use std::time::Duration;

use cql_protocol::Event;
use tokio::runtime::Handle;

use crate::answer::schema_change;
use crate::server::Server;

/// Pause between two passes, of real time: what is due is decided by the clock of keys.
const PAUSE: Duration = Duration::from_millis(400);

/// Watches the keys of all tables, and tells clients of tables that were dropped. A pass may take a
/// snapshot and verify it, so it runs where blocking is allowed.
pub(crate) async fn watch_keys(server: Arc<Server>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let (server, runtime) = (Arc::clone(&server), Handle::current());
        let pass = Handle::current().spawn_blocking(move || {
            for event in runtime.block_on(server.database.watch_keys()) {
                if let Some(change) = schema_change(&event) {
                    server.events.publish(Event::SchemaChange(change));
                }
            }
        });
        if pass.await.is_err() {
            tracing::error!("a pass of the key monitor panicked, the next one begins anew");
        }
    }
}
