//! The machine's own clocks.

use std::time::{Duration, Instant, SystemTime};

use crate::clock::Clock;

/// The operating system's wall clock and monotonic clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time counts from now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this room is where time enters the server"
    )]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this room is where time enters the server"
    )]
    fn now_micros(&self) -> u64 {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            })
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_past_2020_and_monotonic_time_does_not_go_back() {
        let clock = SystemClock::new();
        assert!(clock.now_micros() > 1_577_836_800_000_000);
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
