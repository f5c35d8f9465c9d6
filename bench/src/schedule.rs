//! The open-loop schedule: when each message is meant to be sent, whatever happened to the ones before.

use std::time::Duration;

/// A fixed rate; message `n` is due at `n / rate` after the start, and that never slips.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    rate: f64,
}

impl Schedule {
    /// `rate` in messages per second, above 0.
    pub(crate) fn new(rate: f64) -> Self {
        assert!(rate > 0.0, "a schedule needs a rate");
        Self { rate }
    }

    /// When message `index` is due, since the start.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 messages")]
    pub(crate) fn due(self, index: u64) -> Duration {
        Duration::from_secs_f64(index as f64 / self.rate)
    }

    /// How many messages a run of this length sends.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rate and duration are bounded by Params"
    )]
    pub(crate) fn count(self, length: Duration) -> u64 {
        (self.rate * length.as_secs_f64()).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_equal_distances_that_never_slip() {
        let schedule = Schedule::new(10_000.0);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_micros(100));
        assert_eq!(schedule.due(10_000_000), Duration::from_secs(1000));
        assert_eq!(schedule.count(Duration::from_secs(3)), 30_000);
    }
}
