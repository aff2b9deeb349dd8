//! The thread on which calls of a KMS run.

use std::{io, sync::mpsc, thread::JoinHandle};
use tokio::{runtime::Handle, sync::oneshot};

/// A thread with a runtime of its own. It ends when this is dropped.
///
/// Plaintext keys come over the wire: base64 in a JSON text, in buffers of TLS, HTTP and JSON code
/// that is not ours. What such code frees is wiped when `prepare` turns that on for the thread it is
/// called on, see `wiping_allocator` of the server.
pub struct KmsThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KmsThread {
    /// Starts the thread; `prepare` runs first on it and on every thread it starts for itself.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(name: &str, prepare: fn()) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (started, result) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            prepare();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_start(prepare)
                .max_blocking_threads(4)
                .build();
            match runtime {
                Err(error) => drop(started.send(Err(error))),
                Ok(runtime) => {
                    // nobody waits any more when starting was given up
                    drop(started.send(Ok(runtime.handle().clone())));
                    // an error says that the sender is gone, which is a stop as well
                    let _ = runtime.block_on(stopped);
                }
            }
        })?;
        let handle = result.recv().map_err(|_| io::Error::other("thread ended at its start"))??;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Where to spawn what is to run on the thread, such as the endpoint of a KMS.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for KmsThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        // dropped by one of its own tasks: it ends by itself
        if thread.thread().id() != std::thread::current().id() {
            // a panic was told by its hook
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static PREPARED: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn work_runs_on_the_prepared_thread_and_ends_with_it() {
        let prepare = || {
            PREPARED.fetch_add(1, Ordering::SeqCst);
        };
        let thread = KmsThread::start("kms-test", prepare).unwrap();
        let named = thread.handle().spawn(async {
            let blocking = tokio::task::spawn_blocking(|| PREPARED.load(Ordering::SeqCst));
            (std::thread::current().name().map(str::to_owned), blocking.await.unwrap())
        });
        let (name, prepared) = thread.handle().block_on(named).unwrap();
        assert_eq!(name.as_deref(), Some("kms-test"));
        assert!(prepared >= 2, "the thread and its blocking one: {prepared}");
        let (held, dropped) = mpsc::sync_channel::<()>(1);
        thread.handle().spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(thread);
        assert!(dropped.recv().is_err(), "its tasks are gone");
    }
}
