//! A token bucket on invented time.

use std::time::Duration;

/// Thousandths of a token, so that slow refills are exact enough.
const TOKEN: u64 = 1_000;

/// Allows a burst, then a steady rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    tokens: u64,
    filled_at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(burst: u32, now: Duration) -> Self {
        Self {
            tokens: u64::from(burst) * TOKEN,
            filled_at: now,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Duration, per_second: u32, burst: u32) -> bool {
        self.refill(now, per_second, burst);
        match self.tokens.checked_sub(TOKEN) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// Whether there is a token, without taking it.
    pub(crate) fn has_token(&mut self, now: Duration, per_second: u32, burst: u32) -> bool {
        self.refill(now, per_second, burst);
        self.tokens >= TOKEN
    }

    /// Whether it has rested for a whole burst.
    pub(crate) fn is_full(&mut self, now: Duration, per_second: u32, burst: u32) -> bool {
        self.refill(now, per_second, burst);
        self.tokens >= u64::from(burst) * TOKEN
    }

    fn refill(&mut self, now: Duration, per_second: u32, burst: u32) {
        let elapsed = now.saturating_sub(self.filled_at);
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let gained = millis.saturating_mul(u64::from(per_second));
        if gained > 0 {
            self.tokens = self
                .tokens
                .saturating_add(gained)
                .min(u64::from(burst) * TOKEN);
            self.filled_at += Duration::from_millis(millis);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(50, Duration::ZERO);
        let mut taken = 0;
        for millis in 0..10_000 {
            taken += u32::from(bucket.take(Duration::from_millis(millis), 20, 50));
        }
        assert!((248..=250).contains(&taken), "{taken}");
    }

    #[test]
    fn frequent_questions_do_not_starve_the_refill() {
        let mut bucket = TokenBucket::new(1, Duration::ZERO);
        assert!(bucket.take(Duration::ZERO, 1, 1));
        for micros in 0..999_999 {
            assert!(!bucket.has_token(Duration::from_micros(micros), 1, 1));
        }
        assert!(bucket.take(Duration::from_secs(1), 1, 1));
    }

    #[test]
    fn time_that_stands_still_gives_nothing() {
        let mut bucket = TokenBucket::new(2, Duration::from_secs(5));
        assert!(bucket.take(Duration::from_secs(5), 20, 2));
        assert!(bucket.take(Duration::from_secs(4), 20, 2));
        assert!(!bucket.take(Duration::from_secs(5), 20, 2));
    }
}
