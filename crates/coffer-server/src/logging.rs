//! Logs go to standard error. They may name keyspaces and tables, never columns, values or
//! statements.

use std::io::{IsTerminal, stderr};

/// Starts logging; a second call does nothing.
pub(crate) fn start(level: tracing::Level) {
    let started = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        // a log that cannot be written must not take the thread that logs with it
        .log_internal_errors(false)
        .try_init();
    // only tests start twice in one process
    drop(started);
}
