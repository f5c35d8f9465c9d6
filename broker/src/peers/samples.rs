//! Round trip and clock offset from a few recent probes. No I/O, no clock.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_protocol::PeerClockReply;

/// Probes that are remembered: the quickest of them is believed.
const SAMPLES: usize = 8;

/// One probe and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) rtt: Duration,
    /// How far the other clock is ahead.
    pub(crate) offset_us: i64,
    /// How wrong that may be.
    pub(crate) error_us: u64,
}

impl Sample {
    /// From this broker's clock when the probe left, how long the answer took, and what it says.
    ///
    /// The two ways may take unequal time: half of what the answer took on them is uncertain.
    pub(crate) fn new(sent_us: u64, took: Duration, reply: &PeerClockReply) -> Self {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let held_us = reply.replied_us.saturating_sub(reply.received_us);
        let underway_us = took_us.saturating_sub(held_us);
        let middle = |from: u64, length: u64| i128::from(from) + i128::from(length / 2);
        let offset = middle(reply.received_us, held_us) - middle(sent_us, took_us);
        let clamped = offset.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Self {
            rtt: Duration::from_micros(underway_us),
            offset_us: i64::try_from(clamped).unwrap_or_default(),
            error_us: underway_us.div_ceil(2),
        }
    }
}

/// The last probes of one peer.
#[derive(Debug, Default)]
pub(crate) struct Samples(VecDeque<Sample>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Sample) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The one with the least round trip.
    pub(crate) fn best(&self) -> Option<Sample> {
        self.0.iter().min_by_key(|sample| sample.rtt).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_true_offset_is_within_the_error(
            sent_us in 1_000_000_000_u64..2_000_000_000,
            there in 0_u64..100_000,
            held in 0_u64..100_000,
            back in 0_u64..100_000,
            offset in -900_000_000_i64..900_000_000,
        ) {
            let remote = |at: u64| at.checked_add_signed(offset).unwrap();
            let reply = PeerClockReply {
                received_us: remote(sent_us + there),
                replied_us: remote(sent_us + there + held),
            };
            let took = Duration::from_micros(there + held + back);
            let sample = Sample::new(sent_us, took, &reply);
            prop_assert_eq!(sample.rtt, Duration::from_micros(there + back));
            // Halves are rounded.
            prop_assert!(sample.offset_us.abs_diff(offset) <= sample.error_us + 1);
        }

        #[test]
        fn any_answer_gives_a_sample(sent_us: u64, took: u64, received_us: u64, replied_us: u64) {
            let reply = PeerClockReply { received_us, replied_us };
            let sample = Sample::new(sent_us, Duration::from_micros(took), &reply);
            prop_assert!(sample.error_us <= took.div_ceil(2));
        }
    }

    #[test]
    fn the_quickest_of_the_last_eight_is_believed() {
        let mut samples = Samples::default();
        let sample = |rtt_ms| Sample {
            rtt: Duration::from_millis(rtt_ms),
            offset_us: 0,
            error_us: 0,
        };
        assert_eq!(samples.best(), None);
        samples.add(sample(1));
        for rtt_ms in 5..12 {
            samples.add(sample(rtt_ms));
            assert_eq!(samples.best(), Some(sample(1)));
        }
        samples.add(sample(20));
        assert_eq!(samples.best(), Some(sample(5)));
    }
}
