//! How long to wait before the next attempt to connect. No I/O, no clock, no entropy of its own.

use std::time::Duration;

/// Waits that double with each failure, and are spread.
#[derive(Debug)]
pub(crate) struct Retry {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Retry {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            next: min,
        }
    }

    /// A connection came about: a loss of it is followed by a quick attempt.
    pub(crate) const fn handle_success(&mut self) {
        self.next = self.min;
    }

    /// The other side answered, but not as wished: no quick attempts.
    pub(crate) const fn handle_refusal(&mut self) {
        self.next = self.max;
    }

    /// The next wait: a random part of what has grown, at least half of it.
    pub(crate) fn next(&mut self, random: u128) -> Duration {
        let most = self.next;
        self.next = (most * 2).min(self.max);
        let half = most / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        let part = random % (u128::from(micros) + 1);
        half + Duration::from_micros(u64::try_from(part).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn waits_grow_to_the_most_and_never_beyond(randoms in prop::collection::vec(any::<u128>(), 1..20)) {
            let mut retry = Retry::new(MIN, MAX);
            let mut most = MIN;
            for random in randoms {
                let wait = retry.next(random);
                prop_assert!(wait >= most / 2 && wait <= most, "{wait:?}");
                most = (most * 2).min(MAX);
            }
            retry.handle_success();
            prop_assert!(retry.next(0) <= MIN);
        }
    }
}
