//! Deadlines that clients state, and a timer for those that are almost never reached.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

/// What holds when a client states no deadline.
const DEFAULT: Duration = Duration::from_secs(5);
/// The longest deadline a client may state.
const MAX: Duration = Duration::from_secs(60);

/// The time a request has, given what its sender stated.
pub(super) fn limited(deadline_ms: u32) -> Duration {
    match deadline_ms {
        0 => DEFAULT,
        stated => Duration::from_millis(u64::from(stated)).min(MAX),
    }
}

/// One timer for many deadlines: it rings no later than the earliest, perhaps for nothing.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    armed: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Alarm {
    /// Makes sure that it rings by `deadline`. Costs nothing if it does already.
    pub(super) fn arm(&mut self, now: Duration, deadline: Duration) {
        if self.armed.as_ref().is_some_and(|(at, _)| *at <= deadline) {
            return;
        }
        let sleep = Box::pin(tokio::time::sleep(deadline.saturating_sub(now)));
        self.armed = Some((deadline, sleep));
    }

    /// Waits for the ring; for ever if nothing is armed. Cancel-safe.
    pub(super) async fn ring(&mut self) {
        match &mut self.armed {
            None => pending().await,
            Some((_, sleep)) => {
                sleep.as_mut().await;
                self.armed = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_deadline_is_five_seconds_and_a_long_one_is_cut() {
        assert_eq!(limited(0), Duration::from_secs(5));
        assert_eq!(limited(1), Duration::from_millis(1));
        assert_eq!(limited(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn an_alarm_keeps_the_earliest_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            let mut alarm = Alarm::default();
            alarm.arm(Duration::ZERO, Duration::from_secs(3600));
            alarm.arm(Duration::ZERO, Duration::from_millis(1));
            alarm.arm(Duration::ZERO, Duration::from_secs(60));
            alarm.ring().await;
            assert!(alarm.armed.is_none());
        });
    }
}
