//! Counts unanswered requests and their bytes, of one connection and of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Limits;

/// Counts of all connections together.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// One connection's counts. What is still counted when the connection ends is given back.
#[derive(Debug)]
pub(crate) struct ConnectionInFlight {
    all: Arc<InFlight>,
    requests: usize,
    bytes: usize,
}

impl ConnectionInFlight {
    pub(crate) fn new(all: Arc<InFlight>) -> Self {
        Self { all, requests: 0, bytes: 0 }
    }

    /// Whether one more request that cannot be answered at once fits.
    pub(crate) fn has_room(&self, bytes: usize, limits: &Limits) -> bool {
        let all = &self.all;
        self.requests < limits.connection_requests_max
            && self.bytes.saturating_add(bytes) <= limits.connection_request_bytes_max
            && all.requests.load(Ordering::Relaxed) < limits.requests_max
            && all.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= limits.request_bytes_max
    }

    /// A request waits.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.requests = self.requests.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.all.requests.fetch_add(1, Ordering::Relaxed);
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Some requests were answered.
    pub(crate) fn remove(&mut self, requests: usize, bytes: usize) {
        self.requests = self.requests.saturating_sub(requests);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.all.requests.fetch_sub(requests, Ordering::Relaxed);
        self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for ConnectionInFlight {
    fn drop(&mut self) {
        self.remove(self.requests, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connection_requests_max: 2,
            connection_request_bytes_max: 100,
            requests_max: 3,
            request_bytes_max: 150,
            ..Limits::default()
        }
    }

    #[test]
    fn each_bound_holds_at_the_limit_and_refuses_one_past_it() {
        let all = Arc::new(InFlight::default());
        let mut one = ConnectionInFlight::new(Arc::clone(&all));
        assert!(one.has_room(100, &limits()));
        assert!(!one.has_room(101, &limits()));
        one.add(60);
        one.add(10);
        assert!(!one.has_room(0, &limits()), "two requests are the limit of a connection");

        let mut other = ConnectionInFlight::new(Arc::clone(&all));
        assert!(other.has_room(80, &limits()));
        assert!(!other.has_room(81, &limits()), "150 bytes are the limit of all");
        other.add(1);
        assert!(!other.has_room(0, &limits()), "three requests are the limit of all");
        one.remove(1, 60);
        assert!(other.has_room(0, &limits()));
    }

    #[test]
    fn a_closed_connection_gives_back_what_it_held() {
        let all = Arc::new(InFlight::default());
        let mut one = ConnectionInFlight::new(Arc::clone(&all));
        one.add(60);
        drop(one);
        assert_eq!(all.requests.load(Ordering::Relaxed), 0);
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }
}
