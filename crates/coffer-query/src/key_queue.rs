//! Changes of one table's key, one after the other.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Keyspace and table.
type Name = (String, String);

/// Who changes which table's key at the moment. Held over calls of a KMS, and by nobody who must go
/// on without one: DROP does not queue.
#[derive(Debug, Default)]
pub(crate) struct KeyQueues {
    turns: Mutex<HashMap<Name, Weak<Turn<()>>>>,
    /// Changes of this process that are under way; other intents in the catalog are an earlier run's.
    under_way: Arc<Mutex<HashSet<u64>>>,
}

/// A change that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    change_id: u64,
    all: Arc<Mutex<HashSet<u64>>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.lock().remove(&self.change_id);
    }
}

impl KeyQueues {
    /// Waits for all changes of this table's key that came before.
    pub(crate) async fn enter(&self, keyspace: &str, table: &str) -> OwnedMutexGuard<()> {
        self.turn(keyspace, table).lock_owned().await
    }

    /// As [`Self::enter`], unless somebody is before.
    pub(crate) fn try_enter(&self, keyspace: &str, table: &str) -> Option<OwnedMutexGuard<()>> {
        self.turn(keyspace, table).try_lock_owned().ok()
    }

    fn turn(&self, keyspace: &str, table: &str) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock();
        let name = (keyspace.to_owned(), table.to_owned());
        turns.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = Arc::<Turn<()>>::default();
            turns.insert(name, Arc::downgrade(&turn));
            turn
        })
    }

    /// Marks a change as one of this process.
    pub(crate) fn begin(&self, change_id: u64) -> UnderWay {
        self.under_way.lock().insert(change_id);
        UnderWay { change_id, all: Arc::clone(&self.under_way) }
    }

    /// Whether this process works on the change.
    pub(crate) fn is_under_way(&self, change_id: u64) -> bool {
        self.under_way.lock().contains(&change_id)
    }
}
