//! One subscription's place: what to send next, and what to do with a subscriber that is too slow.
//!
//! Pure: time is an argument. A subscription counts as slow only after it had caught up once, has
//! no credit left and records wait for it for longer than the grace period; reading history at the
//! subscriber's own speed is never slow.

use std::time::Duration;

use quorate_protocol::Offset;

use super::credit::SubscriberCredit;

/// How long a caught-up subscriber may be without credit before its slow policy applies.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(1);

/// What becomes of a subscriber that does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slow {
    /// It reads on from where it stopped.
    Pause,
    /// It misses what happened meanwhile, and is told so.
    SkipToLatest,
    /// The subscription ends.
    Disconnect,
}

/// What the subscription does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Read and send at most this many bytes from this offset.
    Read {
        /// First offset wanted.
        from: Offset,
        /// Bytes the subscriber takes.
        bytes_max: u64,
    },
    /// Nothing to send: wait for the high watermark or for credit.
    Wait,
    /// Records wait, credit is missing: wait for credit until this time, then apply the policy.
    Stalled {
        /// When the slow policy applies; `None` if it never does.
        until: Option<Duration>,
    },
    /// Announce that `[from, to)` is skipped, then go on.
    Skip {
        /// First offset skipped.
        from: Offset,
        /// First offset that will be sent.
        to: Offset,
    },
    /// End the subscription: it is too slow.
    Disconnect,
}

/// The place of a subscription and what its subscriber takes.
#[derive(Debug)]
pub(super) struct Cursor {
    next: Offset,
    slow: Slow,
    had_caught_up: bool,
    stalled_since: Option<Duration>,
    skipping: bool,
    /// What the subscriber is ready to take.
    pub(super) credit: SubscriberCredit,
}

impl Cursor {
    /// A subscription that wants `next` first.
    pub(super) fn new(next: Offset, slow: Slow, credit: SubscriberCredit) -> Self {
        Self {
            next,
            slow,
            had_caught_up: false,
            stalled_since: None,
            skipping: false,
            credit,
        }
    }

    /// First offset not yet sent.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Decides what to do with records up to `high_watermark`.
    pub(super) fn poll(&mut self, now: Duration, high_watermark: Offset) -> Step {
        if self.next >= high_watermark {
            self.had_caught_up = true;
            self.stalled_since = None;
            return Step::Wait;
        }
        let balance = self.credit.balance();
        if balance == 0 {
            return self.stall(now);
        }
        self.stalled_since = None;
        if std::mem::take(&mut self.skipping) {
            return Step::Skip {
                from: self.next,
                to: high_watermark,
            };
        }
        Step::Read {
            from: self.next,
            bytes_max: balance,
        }
    }

    fn stall(&mut self, now: Duration) -> Step {
        let waits_for_ever = self.slow == Slow::Pause || !self.had_caught_up || self.skipping;
        if waits_for_ever {
            return Step::Stalled { until: None };
        }
        let until = self
            .stalled_since
            .get_or_insert(now)
            .saturating_add(SLOW_AFTER);
        if now < until {
            return Step::Stalled { until: Some(until) };
        }
        if self.slow == Slow::Disconnect {
            return Step::Disconnect;
        }
        self.skipping = true;
        Step::Stalled { until: None }
    }

    /// Notes that records up to `next` were sent.
    pub(super) fn sent(&mut self, next: Offset, bytes: u64, records: u64) {
        self.credit.spend(bytes, records);
        self.next = self.next.max(next);
    }

    /// Goes on at `to`; what lies between was announced as missing.
    pub(super) fn jump(&mut self, to: Offset) {
        self.next = self.next.max(to);
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::Credit;

    use super::*;

    fn cursor(slow: Slow, bytes: u64) -> Cursor {
        Cursor::new(
            Offset::new(10),
            slow,
            SubscriberCredit::new(Credit::new(bytes)),
        )
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn reads_within_credit_and_waits_at_the_end() {
        let mut cursor = cursor(Slow::Pause, 100);
        let step = cursor.poll(at(0), Offset::new(20));
        assert_eq!(
            step,
            Step::Read {
                from: Offset::new(10),
                bytes_max: 100
            }
        );
        cursor.sent(Offset::new(20), 150, 10);
        assert_eq!(cursor.poll(at(0), Offset::new(20)), Step::Wait);
        assert_eq!(
            cursor.poll(at(0), Offset::new(21)),
            Step::Stalled { until: None }
        );
        cursor.credit.raise(Credit::new(200), Credit::new(u64::MAX));
        let step = cursor.poll(at(0), Offset::new(21));
        assert_eq!(
            step,
            Step::Read {
                from: Offset::new(20),
                bytes_max: 50
            }
        );
    }

    #[test]
    fn history_is_never_too_slow() {
        let mut cursor = cursor(Slow::Disconnect, 1);
        cursor.sent(Offset::new(11), 1, 1);
        for second in 0..100 {
            let step = cursor.poll(at(second), Offset::new(20));
            assert_eq!(step, Step::Stalled { until: None });
        }
    }

    #[test]
    fn a_caught_up_subscriber_without_credit_is_disconnected_after_the_grace() {
        let mut cursor = cursor(Slow::Disconnect, 0);
        assert_eq!(cursor.poll(at(0), Offset::new(10)), Step::Wait);
        let step = cursor.poll(at(5), Offset::new(11));
        assert_eq!(step, Step::Stalled { until: Some(at(6)) });
        assert_eq!(cursor.poll(at(6), Offset::new(12)), Step::Disconnect);
    }

    #[test]
    fn a_slow_subscriber_skips_to_the_latest_when_its_credit_returns() {
        let mut cursor = cursor(Slow::SkipToLatest, 0);
        assert_eq!(cursor.poll(at(0), Offset::new(10)), Step::Wait);
        assert_eq!(
            cursor.poll(at(0), Offset::new(11)),
            Step::Stalled { until: Some(at(1)) }
        );
        assert_eq!(
            cursor.poll(at(2), Offset::new(15)),
            Step::Stalled { until: None }
        );
        cursor.credit.raise(Credit::new(10), Credit::new(u64::MAX));
        let step = cursor.poll(at(3), Offset::new(17));
        assert_eq!(
            step,
            Step::Skip {
                from: Offset::new(10),
                to: Offset::new(17)
            }
        );
        cursor.jump(Offset::new(17));
        assert_eq!(cursor.poll(at(3), Offset::new(17)), Step::Wait);
    }

    #[test]
    fn credit_within_the_grace_keeps_every_record() {
        let mut cursor = cursor(Slow::SkipToLatest, 0);
        assert_eq!(cursor.poll(at(0), Offset::new(10)), Step::Wait);
        assert_eq!(
            cursor.poll(at(0), Offset::new(11)),
            Step::Stalled { until: Some(at(1)) }
        );
        cursor.credit.raise(Credit::new(10), Credit::new(u64::MAX));
        let step = cursor.poll(at(0), Offset::new(12));
        assert_eq!(
            step,
            Step::Read {
                from: Offset::new(10),
                bytes_max: 10
            }
        );
    }
}
