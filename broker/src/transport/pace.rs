//! How long a stream may take over its next frame. No I/O, no clock: time is an argument.

use std::time::Duration;

use crate::transport::assembly::Begun;
use crate::transport::settings::Timings;

/// The deadlines of one receiving stream.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the stream was opened, until its first frame is complete.
    opened: Option<Duration>,
    /// The number of the frame that is being received, and when it was begun.
    begun: Option<(u64, Duration)>,
}

impl Pace {
    pub(crate) const fn new(now: Duration) -> Self {
        Self {
            opened: Some(now),
            begun: None,
        }
    }

    /// A frame is complete.
    pub(crate) const fn handle_frame(&mut self) {
        self.opened = None;
    }

    /// How long to wait for more bytes; `None`: for ever.
    ///
    /// A stream owes its first
    /// frame within a fixed time. A later frame may take the grace, and longer only while its
    /// average since it was begun stays above the least rate. Between frames a stream may rest.
    pub(crate) fn patience(
        &mut self,
        now: Duration,
        begun: Option<Begun>,
        timings: &Timings,
    ) -> Option<Duration> {
        if let Some(opened) = self.opened {
            return Some((opened + timings.first_frame).saturating_sub(now));
        }
        let begun = begun?;
        let since = match self.begun {
            Some((frame, since)) if frame == begun.frame => since,
            _ => now,
        };
        self.begun = Some((begun.frame, since));
        let rate = u64::from(timings.frame_bytes_per_second.max(1));
        let earned = Duration::from_millis(begun.received.saturating_mul(1_000) / rate);
        let limit = timings.frame_grace.max(earned);
        Some((since + limit).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn begun(frame: u64, received: u64) -> Option<Begun> {
        Some(Begun { frame, received })
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_frame_is_due_at_a_fixed_time_however_much_has_arrived() {
        let timings = Timings::default();
        let mut pace = Pace::new(at(100));
        assert_eq!(pace.patience(at(100), None, &timings), Some(at(5)));
        assert_eq!(
            pace.patience(at(104), begun(0, 60_000), &timings),
            Some(at(1))
        );
        assert_eq!(
            pace.patience(at(106), begun(0, 60_001), &timings),
            Some(at(0))
        );
    }

    #[test]
    fn a_stream_may_rest_between_frames() {
        let timings = Timings::default();
        let mut pace = Pace::new(at(0));
        pace.handle_frame();
        assert_eq!(pace.patience(at(86_400), None, &timings), None);
    }

    #[test]
    fn a_byte_per_second_ends_with_the_grace() {
        let timings = Timings::default();
        let mut pace = Pace::new(at(0));
        pace.handle_frame();
        for second in 0..30 {
            let left = pace.patience(at(1_000 + second), begun(1, second + 1), &timings);
            assert_eq!(left, Some(at(30 - second)), "{second}");
        }
        assert_eq!(
            pace.patience(at(1_030), begun(1, 31), &timings),
            Some(at(0))
        );
    }

    #[test]
    fn a_frame_that_keeps_the_rate_may_take_longer_than_the_grace() {
        let timings = Timings::default();
        let mut pace = Pace::new(at(0));
        pace.handle_frame();
        assert_eq!(
            pace.patience(at(0), begun(1, 2_048), &timings),
            Some(at(30))
        );
        let steady = pace.patience(at(60), begun(1, 2_048 * 60), &timings);
        assert_eq!(steady, Some(at(60)));
        let stalled = pace.patience(at(121), begun(1, 2_048 * 60), &timings);
        assert_eq!(stalled, Some(at(0)));
    }

    #[test]
    fn each_frame_has_its_own_grace() {
        let timings = Timings::default();
        let mut pace = Pace::new(at(0));
        pace.handle_frame();
        assert_eq!(pace.patience(at(10), begun(1, 1), &timings), Some(at(30)));
        assert_eq!(pace.patience(at(20), begun(1, 2), &timings), Some(at(20)));
        assert_eq!(pace.patience(at(50), begun(2, 1), &timings), Some(at(30)));
    }
}
