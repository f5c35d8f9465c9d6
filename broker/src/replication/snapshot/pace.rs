//! How fast files leave: evenly, and never faster than a rate, however many transfers there are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::{ByteSize, HybridTime};

const SECOND: u64 = 1_000_000;

/// A rate that all transfers share.
pub(super) struct Pace {
    now: Arc<dyn Fn() -> HybridTime + Send + Sync>,
    bytes_per_second: u64,
    /// When what was let go so far will have left, in microseconds.
    busy_until: Mutex<u64>,
}

impl Pace {
    pub(super) fn new(
        now: Arc<dyn Fn() -> HybridTime + Send + Sync>,
        per_second: ByteSize,
    ) -> Self {
        Self {
            now,
            bytes_per_second: per_second.get().max(1),
            busy_until: Mutex::new(0),
        }
    }

    /// Waits until so many bytes may leave.
    pub(super) async fn pass(&self, bytes: usize) {
        let wait = self.claim(bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn claim(&self, bytes: usize) -> Duration {
        let now = (self.now)().micros();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let takes = bytes.saturating_mul(SECOND) / self.bytes_per_second;
        let mut busy_until = self.busy_until.lock();
        // A clock that was set back must not stop anything for long.
        let begins = (*busy_until).clamp(now, now.saturating_add(SECOND));
        *busy_until = begins.saturating_add(takes);
        Duration::from_micros(begins - now)
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace")
            .field("bytes_per_second", &self.bytes_per_second)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn bytes_leave_at_the_rate_and_idle_time_is_not_saved_up() {
        let micros = Arc::new(AtomicU64::new(5 * SECOND));
        let clock = Arc::clone(&micros);
        let now = Arc::new(move || HybridTime::from_parts(clock.load(Ordering::Relaxed), 0));
        let pace = Pace::new(now, ByteSize::new(1_000_000));
        let millis = |wait: Duration| wait.as_millis();
        assert_eq!(millis(pace.claim(100_000)), 0);
        assert_eq!(millis(pace.claim(100_000)), 100);
        micros.fetch_add(150_000, Ordering::Relaxed);
        assert_eq!(millis(pace.claim(100_000)), 50);
        micros.fetch_add(60 * SECOND, Ordering::Relaxed);
        assert_eq!(millis(pace.claim(1_000)), 0);
        assert_eq!(millis(pace.claim(1_000)), 1);
        micros.store(SECOND, Ordering::Relaxed);
        assert_eq!(millis(pace.claim(1_000)), 1000, "the clock was set back");
    }
}
