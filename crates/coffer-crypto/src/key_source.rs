//! Where the engine gets its data keys from, without knowing who keeps them.

use crate::{DataKey, FileIdentity, NewDataKey, Result, TableKeyId, WrappedDataKey};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

/// Gives the engine data keys. Every call answers from memory or fails at once; none asks a KMS.
pub trait DataKeySource: Send + Sync {
    /// Makes the data key of one new file of the table `identity.table_id`, and its header form.
    ///
    /// # Errors
    /// [`crate::Error::KeyUnavailable`] when the table's key is not at hand, or wrapped as many data
    /// keys as it may.
    fn create_data_key(&self, identity: &FileIdentity) -> Result<(NewDataKey, WrappedDataKey)>;

    /// The data key of a file that belongs to `table` now and was born as `birth`.
    ///
    /// # Errors
    /// [`crate::Error::KeyUnavailable`] when the table's key is not at hand,
    /// [`crate::Error::UnknownTableKey`], [`crate::Error::WrongKey`] or
    /// [`crate::Error::Tampered`] when the header does not fit.
    fn unwrap_data_key(
        &self,
        table: &[u8; 16],
        wrapped: &WrappedDataKey,
        birth: &FileIdentity,
    ) -> Result<DataKey>;

    /// How long the table's key may be used. The engine keeps it next to the opened table and asks
    /// it before every read and append. A revoked lease never comes back: after the table is
    /// forgotten and opened again there is a new one.
    ///
    /// # Errors
    /// [`crate::Error::KeyUnavailable`] when the table's key is not at hand.
    fn lease(&self, table: &[u8; 16]) -> Result<Arc<KeyLease>>;

    /// The table key that wraps new data keys of the table, and the wraps made under it so far. The
    /// engine puts these into [`crate::KeyRecord::wraps`] whenever it writes a version of the catalog
    /// anyway, so that the limit holds across restarts. During a swap this may still be the key before
    /// the record's. `None` when the table's key is not at hand; then no data key can be made.
    fn wrapping_key(&self, table: &[u8; 16]) -> Option<(TableKeyId, u64)>;
}

/// The time until which a table's key may be used, in
/// [`key_now_millis`](crate::clock::Clock::key_now_millis). Lock free.
pub struct KeyLease {
    until: AtomicI64,
    asked: AtomicBool,
}

impl KeyLease {
    const REVOKED: i64 = i64::MIN;

    /// Valid before `until_millis`; `i64::MAX` is for ever.
    #[must_use]
    pub fn until(until_millis: i64) -> Self {
        let until = AtomicI64::new(until_millis.max(Self::REVOKED + 1));
        Self { until, asked: AtomicBool::new(false) }
    }

    /// Valid until revoked: the lease of a table with an owned key.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::until(i64::MAX)
    }

    /// Whether the key may be used at `key_now_millis`. Asking counts as interest in the table:
    /// the keyring renews leases that somebody asks for.
    #[must_use]
    pub fn is_valid(&self, key_now_millis: i64) -> bool {
        let until = self.until.load(Ordering::Acquire);
        // read first: the line stays shared between the cores of all requests
        if until != i64::MAX && !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
        key_now_millis < until || until == i64::MAX
    }

    /// Whether somebody asked since the last call of this; forgets it.
    pub fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// Whether somebody asked since the last [`Self::take_asked`].
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Sets the end. Does nothing to a revoked lease.
    pub fn renew(&self, until_millis: i64) {
        let until_millis = until_millis.max(Self::REVOKED + 1);
        let unless_revoked = |until| (until != Self::REVOKED).then_some(until_millis);
        // an error only says that it was revoked
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, unless_revoked);
    }

    /// Ends it at once and for good.
    pub fn revoke(&self) {
        self.until.store(Self::REVOKED, Ordering::Release);
    }

    /// Whether [`Self::revoke`] was called.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.until.load(Ordering::Acquire) == Self::REVOKED
    }

    /// The end, `i64::MAX` for never.
    #[must_use]
    pub fn until_millis(&self) -> i64 {
        self.until.load(Ordering::Acquire)
    }
}

impl fmt::Debug for KeyLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyLease({})", self.until_millis())
    }
}

/// The table's key is not at hand. Whatever the reason, the reaction is the same: open the table's
/// key through the keyring (which may give the KMS's refusal) and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key of table is not at hand, table={} reason={reason}", hex::encode(table))]
pub struct KeyUnavailable {
    /// Id of the table.
    pub table: [u8; 16],
    /// Why.
    pub reason: UnavailableReason,
}

/// Why a table's key is not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnavailableReason {
    /// Not asked for since the start or since the table was forgotten.
    NotOpened,
    /// Its maximum age passed without the KMS confirming it again.
    Expired,
    /// The KMS refused it.
    Revoked,
    /// It wrapped as many data keys as it may: the table needs a new table key.
    WornOut,
}

impl fmt::Display for UnavailableReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOpened => "not opened",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::WornOut => "worn out",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_on_time_and_can_be_renewed() {
        let lease = KeyLease::until(100);
        assert!(lease.is_valid(99) && !lease.is_valid(100));
        lease.renew(200);
        assert!(lease.is_valid(199));
        lease.renew(150);
        assert!(!lease.is_valid(150), "a swap to a KMS key ends an unlimited lease");
    }

    #[test]
    fn a_revoked_lease_never_comes_back() {
        for lease in [KeyLease::until(100), KeyLease::unlimited()] {
            lease.revoke();
            lease.renew(i64::MAX);
            assert!(lease.is_revoked() && !lease.is_valid(0) && !lease.is_valid(i64::MIN));
        }
    }

    #[test]
    fn an_unlimited_lease_does_not_end() {
        assert!(KeyLease::unlimited().is_valid(i64::MAX));
    }

    #[test]
    fn asking_is_remembered_once() {
        let lease = KeyLease::until(100);
        assert!(!lease.was_asked());
        assert!(lease.is_valid(0) && lease.was_asked());
        assert!(lease.take_asked() && !lease.was_asked());
    }
}
