//! Schema events to the connections that registered for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use cql_protocol::Event;
use parking_lot::Mutex;

/// Events that wait for one connection; a client so slow that more pile up loses the oldest (it
/// reads the whole schema when it connects again).
const WAITING_MAX: usize = 1024;

/// Events waiting for one connection.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    has_events: AtomicBool,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<Arc<Event>>,
    waker: Option<Waker>,
}

impl EventQueue {
    /// Takes what waits; otherwise remembers whom to wake.
    pub(crate) fn take(&self, waker: &Waker) -> VecDeque<Arc<Event>> {
        let mut state = self.state.lock();
        match &state.waker {
            Some(present) if present.will_wake(waker) => {}
            _ => state.waker = Some(waker.clone()),
        }
        self.has_events.store(false, Ordering::Release);
        std::mem::take(&mut state.events)
    }

    /// Whether [`EventQueue::take`] would give something.
    pub(crate) fn has_events(&self) -> bool {
        self.has_events.load(Ordering::Acquire)
    }

    fn push(&self, event: Arc<Event>) {
        let mut state = self.state.lock();
        if state.events.len() >= WAITING_MAX {
            state.events.pop_front();
        }
        state.events.push_back(event);
        self.has_events.store(true, Ordering::Release);
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }
}

/// Where registered connections listen.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queues: Mutex<Vec<Weak<EventQueue>>>,
}

impl Events {
    /// A queue that gets every event from now on, until it is dropped.
    pub(crate) fn register(&self) -> Arc<EventQueue> {
        let queue = Arc::new(EventQueue::default());
        // so that the connection comes for its (empty) queue once and leaves its waker
        queue.has_events.store(true, Ordering::Release);
        let mut queues = self.queues.lock();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        queue
    }

    /// Tells all of them.
    pub(crate) fn publish(&self, event: Event) {
        let event = Arc::new(event);
        self.queues.lock().retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.push(Arc::clone(&event));
                true
            }
            None => false,
        });
    }
}
