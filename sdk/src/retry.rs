//! When a stream that ended is opened again: at once while that is new, then ever later.
//!
//! Pure. Invariant: an accepted stream is no progress; only an answer or a record is, or that a
//! stream lasted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;

/// The first wait before a stream is opened again.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(20);
/// So many redirects are followed at once...
const HOPS_MAX: usize = 5;
/// ...within this time; a stream that lasted as long counts as progress.
const HOPS_WITHIN: Duration = Duration::from_secs(10);

/// The attempts of one stream's owner.
#[derive(Debug)]
pub(crate) struct Retry {
    backoff: Backoff,
    hops: VecDeque<Duration>,
}

impl Retry {
    /// Waits up to `max`.
    pub(crate) fn new(max: Duration) -> Self {
        Self {
            backoff: Backoff::new(RETRY_MIN, max),
            hops: VecDeque::with_capacity(HOPS_MAX),
        }
    }

    /// Whether a redirect may be followed at once; counts it if so.
    pub(crate) fn hop(&mut self, now: Duration) -> bool {
        self.hops
            .retain(|hop| now.saturating_sub(*hop) < HOPS_WITHIN);
        let may = self.hops.len() < HOPS_MAX;
        if may {
            self.hops.push_back(now);
        }
        may
    }

    /// How long to wait before the next attempt.
    pub(crate) fn wait(&mut self, random: u32) -> Duration {
        self.backoff.next(random)
    }

    /// A stream ended that had been open for `lasted`, with or without an answer or record on it.
    pub(crate) fn ended(&mut self, progressed: bool, lasted: Duration) {
        if progressed || lasted >= HOPS_WITHIN {
            self.backoff.reset();
        }
        if progressed {
            self.hops.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_redirects_in_ten_seconds_are_followed_and_the_sixth_waits() {
        let mut retry = Retry::new(s(10));
        for second in 0..5 {
            assert!(retry.hop(s(second)));
        }
        assert!(!retry.hop(s(5)));
        assert!(!retry.hop(s(9)));
        assert!(retry.hop(s(10)));
        assert!(!retry.hop(s(10)));
    }

    #[test]
    fn only_progress_gives_redirects_and_short_waits_back() {
        let mut retry = Retry::new(s(10));
        for _ in 0..5 {
            assert!(retry.hop(s(1)));
            assert!(retry.wait(u32::MAX) >= RETRY_MIN);
        }
        retry.ended(false, s(1));
        assert!(!retry.hop(s(1)));
        assert!(retry.wait(u32::MAX) > RETRY_MIN * 16);
        retry.ended(true, s(1));
        assert!(retry.hop(s(1)));
        assert_eq!(retry.wait(u32::MAX), RETRY_MIN);
    }

    #[test]
    fn a_stream_that_lasted_shortens_the_waits() {
        let mut retry = Retry::new(s(10));
        for _ in 0..8 {
            retry.wait(u32::MAX);
        }
        retry.ended(false, s(11));
        assert_eq!(retry.wait(u32::MAX), RETRY_MIN);
    }
}
