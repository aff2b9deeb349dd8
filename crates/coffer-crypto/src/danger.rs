//! Switches that take the protection away, compiled in for measurements and positive controls only.
//!
//! The cargo features `bench-null-cipher` and `test-plaintext` alone change nothing; the process
//! has to ask for it.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::FileIdentity;

static SKIP_SEALING: AtomicBool = AtomicBool::new(false);
static SKIPPED_CLUSTERS: RwLock<Vec<[u8; 16]>> = RwLock::new(Vec::new());

/// From here on every new [`crate::Sealer`] and [`crate::Opener`] copies bytes through and writes
/// tags of zeros. Nothing written so can be read by a process that did not call this, or the other
/// way round.
pub fn skip_sealing() {
    SKIP_SEALING.store(true, Ordering::SeqCst);
}

/// As [`skip_sealing`], for the files of one cluster: so that a measurement can have both in one
/// process.
pub fn skip_sealing_of(cluster_id: [u8; 16]) {
    SKIPPED_CLUSTERS.write().push(cluster_id);
}

pub(crate) fn is_sealing_skipped(identity: &FileIdentity) -> bool {
    SKIP_SEALING.load(Ordering::Relaxed) || SKIPPED_CLUSTERS.read().contains(&identity.cluster_id)
}
