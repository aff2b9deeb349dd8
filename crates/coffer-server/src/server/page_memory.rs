//! The memory that results of big reads may take, of all connections together. A read claims what
//! its result may come to before it goes on, and gives back what is too much when it has ended; the
//! rest is held until the client has taken the answer.

use std::sync::Arc;
use std::time::Duration;

use coffer_query::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// Claims are counted in this many bytes.
const UNIT_BYTES: usize = 1024;

/// What is left of the memory.
#[derive(Debug)]
pub(crate) struct PageMemory {
    units: Arc<Semaphore>,
    total: u32,
    timeout: Duration,
}

/// Memory that is set aside for one result.
#[derive(Debug)]
pub(crate) struct PageClaim(OwnedSemaphorePermit);

impl PageMemory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let total = units(limits.page_total_bytes);
        Self {
            units: Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(usize::MAX >> 3))),
            total,
            timeout: Duration::from_millis(limits.room_timeout_millis),
        }
    }

    /// Waits for room for a result of up to `bytes`; one larger than all there is takes all.
    ///
    /// # Errors
    /// [`Error::Overloaded`] at the deadline of option `room_timeout_millis`.
    pub(crate) async fn claim(&self, bytes: usize) -> Result<PageClaim, Error> {
        let wanted = units(bytes).min(self.total);
        let waiting = Arc::clone(&self.units).acquire_many_owned(wanted);
        match tokio::time::timeout(self.timeout, waiting).await {
            Ok(Ok(permit)) => Ok(PageClaim(permit)),
            Ok(Err(_)) | Err(_) => Err(Error::Overloaded(
                "no room in memory for the result (option page_total_bytes), try again later"
                    .to_owned(),
            )),
        }
    }
}

impl PageClaim {
    /// Gives back what a result of `bytes` does not need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let needed = usize::try_from(units(bytes)).unwrap_or(usize::MAX);
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_claim_beyond_the_total_waits_and_is_then_overloaded() {
        let memory = PageMemory::new(&Limits {
            page_total_bytes: 4 * UNIT_BYTES,
            room_timeout_millis: 1,
            ..Limits::default()
        });
        let mut first = memory.claim(4 * UNIT_BYTES).await.unwrap();
        let refused = memory.claim(1).await;
        assert!(matches!(refused, Err(Error::Overloaded(_))), "{refused:?}");
        first.shrink(3 * UNIT_BYTES);
        let second = memory.claim(UNIT_BYTES).await.unwrap();
        drop((first, second));
        let all = memory.claim(usize::MAX).await;
        assert!(all.is_ok(), "more than there is takes all there is: {all:?}");
    }
}
