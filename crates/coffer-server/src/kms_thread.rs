//! The threads over which keys travel.

use std::io;
use std::sync::{Arc, OnceLock};

use coffer_kms_aws::KmsThread;

static PREPARE: OnceLock<fn()> = OnceLock::new();

/// What such a thread does first: the program turns on wiping of what it frees. The first call counts.
pub fn prepare_kms_threads(prepare: fn()) {
    // a second one would be a bug of the caller without any harm
    let _ = PREPARE.set(prepare);
}

/// Starts a thread for calls to a KMS, or for the endpoint of one.
///
/// # Errors
/// When the operating system gives no thread.
pub(crate) fn start_kms_thread(name: &str) -> io::Result<Arc<KmsThread>> {
    let prepare = PREPARE.get().copied().unwrap_or(|| ());
    KmsThread::start(name, prepare).map(Arc::new)
}
