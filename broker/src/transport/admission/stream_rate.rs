//! How fast one connection may open streams. No I/O, no clock.
//!
//! Above the rate a client waits; only one that keeps pressing is given up.

use std::time::Duration;

use crate::transport::admission::bucket::TokenBucket;

/// Streams a client may open per second, and at once.
pub(crate) const STREAMS_PER_SECOND: u32 = 200;
const BURST: u32 = 400;
/// How long to wait for one stream's worth of rate.
const STEP: Duration = Duration::from_millis(1_000 / STREAMS_PER_SECOND as u64);

/// Whether the next stream may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Now.
    Now,
    /// Ask again after this time.
    Later(Duration),
    /// The client pressed for too long.
    Never,
}

/// The rate of one connection.
#[derive(Debug)]
pub(crate) struct StreamRate {
    bucket: TokenBucket,
    /// Since when the client has had to wait without ever resting for a burst's worth.
    pressing: Option<Duration>,
}

impl StreamRate {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            bucket: TokenBucket::new(BURST, now),
            pressing: None,
        }
    }

    /// Whether a stream may be taken now. A client may press for `patience`.
    pub(crate) fn turn(&mut self, now: Duration, patience: Duration) -> Turn {
        if self.bucket.has_token(now, STREAMS_PER_SECOND, BURST) {
            return Turn::Now;
        }
        let since = *self.pressing.get_or_insert(now);
        if now.saturating_sub(since) >= patience {
            Turn::Never
        } else {
            Turn::Later(STEP)
        }
    }

    /// A stream was taken.
    pub(crate) fn handle_stream(&mut self, now: Duration) {
        if self.bucket.is_full(now, STREAMS_PER_SECOND, BURST) {
            self.pressing = None;
        }
        self.bucket.take(now, STREAMS_PER_SECOND, BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Streams taken until the client is given up, or the time is over.
    fn press(seconds: u64) -> (u32, Option<Duration>) {
        let mut rate = StreamRate::new(Duration::ZERO);
        let mut taken = 0;
        for millis in 0..seconds * 1_000 {
            let now = Duration::from_millis(millis);
            loop {
                match rate.turn(now, PATIENCE) {
                    Turn::Now => rate.handle_stream(now),
                    Turn::Later(_) => break,
                    Turn::Never => return (taken, Some(now)),
                }
                taken += 1;
            }
        }
        (taken, None)
    }

    #[test]
    fn a_client_that_presses_gets_burst_and_rate_and_is_given_up() {
        let (taken, none) = press(5);
        assert!((1_398..=1_400).contains(&taken), "{taken}");
        assert_eq!(none, None);
        let (taken, given_up) = press(20);
        assert!((2_398..=2_400).contains(&taken), "{taken}");
        assert_eq!(given_up, Some(PATIENCE));
    }

    #[test]
    fn a_client_that_rests_is_forgiven() {
        let mut rate = StreamRate::new(Duration::ZERO);
        for round in 0..10 {
            let now = Duration::from_secs(round * 9);
            while rate.turn(now, PATIENCE) == Turn::Now {
                rate.handle_stream(now);
            }
            assert_eq!(rate.turn(now, PATIENCE), Turn::Later(STEP), "{round}");
        }
    }
}
