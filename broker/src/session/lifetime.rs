//! How long a connection may live: until its certificate ends, and no longer than the limit.

use std::time::Duration;

/// How long before its end the client is told.
pub(super) const NOTICE: Duration = Duration::from_secs(60);

/// When a connection is warned and when it ends, counted from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// The client is told to move.
    pub(super) notice_after: Duration,
    /// The connection ends.
    pub(super) end_after: Duration,
}

impl Lifetime {
    /// `now` and `not_after` count from 1970.
    pub(super) fn new(now: Duration, not_after: Duration, age_max: Duration) -> Self {
        let end_after = not_after.saturating_sub(now).min(age_max);
        Self {
            notice_after: end_after.saturating_sub(NOTICE),
            end_after,
        }
    }

    /// From notice to end.
    pub(super) fn notice(&self) -> Duration {
        self.end_after.saturating_sub(self.notice_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_certificate_or_the_age_limit_ends_it_whichever_is_first() {
        let now = Duration::from_secs(1_000_000);
        assert_eq!(Lifetime::new(now, now + HOUR, 24 * HOUR).end_after, HOUR);
        assert_eq!(
            Lifetime::new(now, now + 48 * HOUR, 24 * HOUR).end_after,
            24 * HOUR
        );
    }

    #[test]
    fn notice_is_a_minute_or_what_is_left() {
        let now = Duration::from_secs(1_000_000);
        let long = Lifetime::new(now, now + HOUR, HOUR);
        assert_eq!(long.notice(), NOTICE);
        let short = Lifetime::new(now, now + Duration::from_secs(10), HOUR);
        assert_eq!(
            (short.notice_after, short.notice().as_secs()),
            (Duration::ZERO, 10)
        );
        let expired = Lifetime::new(now, Duration::ZERO, HOUR);
        assert_eq!(expired.end_after, Duration::ZERO);
    }
}
