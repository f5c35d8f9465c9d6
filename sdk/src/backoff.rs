//! How long to wait before the next attempt: full jitter, growing to a maximum.

use std::time::Duration;

/// Waits of one series of attempts.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            attempt: 0,
        }
    }

    /// Attempts since the last success.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The next wait: `random` chooses evenly from nothing to `min` times two to the attempt.
    pub(crate) fn next(&mut self, random: u32) -> Duration {
        let ceiling = self
            .min
            .saturating_mul(1 << self.attempt.min(16))
            .min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// A random number; a fixed one if the system has no entropy to give.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_again_after_a_success() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(10));
        let mut backoff = Backoff::new(min, max);
        let waits: Vec<_> = (0..8).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), min);
        assert_eq!(backoff.next(0), Duration::ZERO);
    }
}
