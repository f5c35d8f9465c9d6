//! Hybrid logical time: close to wall time, and strictly increasing even where wall time is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_protocol::HybridTime;

use crate::clock::Clock;

/// Gives out hybrid timestamps. Each is greater than every one given out or observed before.
///
/// The floor survives a restart by observation: whoever opens a log calls
/// [`observe`](Self::observe) with its last append time before asking for a new one.
#[derive(Debug)]
pub struct HybridClock {
    wall: Arc<dyn Clock>,
    last: AtomicU64,
}

impl HybridClock {
    /// A hybrid clock over a wall clock, without a floor yet.
    #[must_use]
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        Self {
            wall,
            last: AtomicU64::new(0),
        }
    }

    /// The next timestamp: wall time, or one logical step past the last where that is later.
    #[must_use]
    pub fn tick(&self) -> HybridTime {
        let wall = self.wall.now_micros();
        let mut seen = self.last.load(Ordering::Relaxed);
        loop {
            let next = HybridTime::new(seen).next_after(wall);
            match self.last.compare_exchange_weak(
                seen,
                next.get(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return next,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Raises the floor: every later timestamp is greater than `time`.
    pub fn observe(&self, time: HybridTime) {
        self.last.fetch_max(time.get(), Ordering::Relaxed);
    }

    /// The greatest timestamp given out or observed so far.
    #[must_use]
    pub fn last(&self) -> HybridTime {
        HybridTime::new(self.last.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Default)]
    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now_micros(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.now_micros())
        }
    }

    #[test]
    fn timestamps_increase_while_wall_time_stands_still_or_goes_back() {
        let wall = Arc::new(ManualClock(AtomicU64::new(1_000)));
        let clock = HybridClock::new(wall.clone());
        let mut last = clock.tick();
        assert_eq!(last.micros(), 1_000);
        wall.0.store(10, Ordering::Relaxed);
        for _ in 0..10_000 {
            let next = clock.tick();
            assert!(next > last);
            last = next;
        }
        wall.0.store(9_000, Ordering::Relaxed);
        assert_eq!(clock.tick().micros(), 9_000);
    }

    #[test]
    fn an_observed_time_is_a_floor() {
        let clock = HybridClock::new(Arc::new(ManualClock(AtomicU64::new(5))));
        let floor = HybridTime::from_parts(7_000, 3);
        clock.observe(floor);
        assert!(clock.tick() > floor);
        clock.observe(HybridTime::from_parts(1, 0));
        assert!(clock.tick() > floor);
    }
}
