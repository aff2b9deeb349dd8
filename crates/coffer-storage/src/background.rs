//! The engine's threads: named, woken by signals, joined at shutdown.

use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// Wakes one thread; a notice given while it works is not lost.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    noticed: Mutex<bool>,
    condition: Condvar,
}

impl Signal {
    pub(crate) fn notify(&self) {
        *self.noticed.lock() = true;
        self.condition.notify_one();
    }

    /// Waits for a notice, or for `timeout` where there is one.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let mut noticed = self.noticed.lock();
        if !*noticed {
            match timeout {
                Some(timeout) => drop(self.condition.wait_for(&mut noticed, timeout)),
                None => self.condition.wait(&mut noticed),
            }
        }
        *noticed = false;
    }

    /// Waits for `timeout`, also when there is a notice, unless `is_over` when there is one.
    pub(crate) fn wait_out(&self, timeout: Duration, is_over: impl Fn() -> bool) {
        let mut noticed = self.noticed.lock();
        self.condition.wait_while_for(&mut noticed, |_| !is_over(), timeout);
        *noticed = false;
    }
}

/// Whether a thread gives way to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Normal,
    Low,
}

/// How much nicer a thread of low priority is.
const LOW_PRIORITY_NICE: i32 = 10;

/// Starts a named thread. When `body` panics, `on_panic` runs.
pub(crate) fn spawn(
    name: &'static str,
    priority: Priority,
    body: impl FnOnce() + Send + 'static,
    on_panic: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>> {
    let run = move || {
        if priority == Priority::Low
            && let Err(error) = rustix::process::nice(LOW_PRIORITY_NICE)
        {
            tracing::debug!(name, %error, "thread keeps normal priority");
        }
        let guard = PanicGuard(Some(on_panic));
        body();
        guard.disarm();
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::io("start thread", name, error))
}

struct PanicGuard<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> PanicGuard<F> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for PanicGuard<F> {
    fn drop(&mut self) {
        if let Some(on_panic) = self.0.take() {
            on_panic();
        }
    }
}
