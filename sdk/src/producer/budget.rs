//! How many bytes of messages may be accepted and not yet answered.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::Error;
use crate::error::Result;

/// Room in bytes; a message takes some when it is accepted and gives it back when it is answered.
#[derive(Debug)]
pub(crate) struct Budget {
    room: Semaphore,
    total: usize,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        let total = total.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            room: Semaphore::new(total),
            total,
        })
    }

    fn try_take(&self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else {
            return false;
        };
        match self.room.try_acquire_many(bytes) {
            Ok(room) => {
                room.forget();
                true
            }
            Err(_) => false,
        }
    }

    async fn take(&self, bytes: usize) -> Result<Taken<'_>> {
        let many = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.room.acquire_many(many).await;
        room.map_err(|_| Error::closed("client"))?.forget();
        Ok(Taken { from: self, bytes })
    }

    fn give(&self, bytes: usize) {
        self.room.add_permits(bytes);
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.total.saturating_sub(self.room.available_permits())
    }
}

/// Room that goes back unless it is kept.
struct Taken<'a> {
    from: &'a Budget,
    bytes: usize,
}

impl Taken<'_> {
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.from.give(self.bytes);
    }
}

/// A producer's own room, which is also the client's.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    own: Arc<Budget>,
    client: Arc<Budget>,
}

impl Room {
    pub(super) fn new(own: usize, client: &Arc<Budget>) -> Self {
        Self {
            own: Budget::new(own),
            client: Arc::clone(client),
        }
    }

    /// The most one message may take.
    pub(super) fn total(&self) -> usize {
        self.own.total.min(self.client.total)
    }

    /// Takes room at once or not at all.
    #[inline]
    pub(super) fn try_take(&self, bytes: usize) -> bool {
        if !self.own.try_take(bytes) {
            return false;
        }
        if self.client.try_take(bytes) {
            return true;
        }
        self.own.give(bytes);
        false
    }

    /// Waits for room, first come, first served. Cancel-safe.
    pub(super) async fn take(&self, bytes: usize) -> Result<()> {
        let own = self.own.take(bytes).await?;
        self.client.take(bytes).await?.keep();
        own.keep();
        Ok(())
    }

    /// Gives room back.
    pub(super) fn give(&self, bytes: usize) {
        self.own.give(bytes);
        self.client.give(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_from_both_or_from_none() {
        let client = Budget::new(100);
        let room = Room::new(1000, &client);
        assert!(room.try_take(80));
        assert!(!room.try_take(30));
        assert_eq!((room.own.taken(), client.taken()), (80, 80));
        room.give(80);
        assert_eq!((room.own.taken(), client.taken()), (0, 0));
    }

    #[tokio::test]
    async fn a_dropped_wait_takes_nothing() {
        let client = Budget::new(100);
        let room = Room::new(1000, &client);
        assert!(room.try_take(80));
        {
            let mut waiting = std::pin::pin!(room.take(30));
            let polled = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())
            });
            assert!(polled.await);
        }
        assert_eq!((room.own.taken(), client.taken()), (80, 80));
    }
}
