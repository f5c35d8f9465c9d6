//! How well each peer is reached. No I/O, no clock: time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;

use crate::peers::samples::Sample;
use crate::peers::samples::Samples;
use crate::peers::settings::Timings;

/// The peers' states at one moment.
pub type PeerStates = Arc<BTreeMap<BrokerId, PeerState>>;

/// Whether a peer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It answers.
    Up,
    /// It has not answered for a moment, or its connection was lost just now.
    Suspect,
    /// It has not answered for long, or it refuses this broker.
    Down,
}

/// What is known about a peer's reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Whether it answers.
    pub state: Reach,
    /// Since when, in monotonic time.
    pub since: Duration,
    /// Round trip of the best recent probe; zero before the first.
    pub rtt: Duration,
    /// How far its wall clock is ahead of this broker's.
    pub clock_offset_us: i64,
    /// How wrong that may be; `u64::MAX` before the first probe.
    pub clock_error_us: u64,
    /// Why it refuses this broker, or this broker refuses it.
    pub refused: Option<String>,
}

/// What is observed of one peer.
#[derive(Debug)]
pub(crate) struct Observed {
    state: PeerState,
    connected: bool,
    heard: Duration,
    samples: Samples,
}

impl Observed {
    pub(crate) fn new(now: Duration) -> Self {
        let state = PeerState {
            state: Reach::Suspect,
            since: now,
            rtt: Duration::ZERO,
            clock_offset_us: 0,
            clock_error_us: u64::MAX,
            refused: None,
        };
        Self {
            state,
            connected: false,
            heard: now,
            samples: Samples::default(),
        }
    }

    /// A connection was greeted, or lost.
    pub(crate) fn handle_connection(&mut self, now: Duration, connected: bool) {
        self.connected = connected;
        if connected {
            self.heard = now;
            self.state.refused = None;
        }
    }

    /// One of the two brokers refuses the other.
    pub(crate) fn handle_refusal(&mut self, reason: String) {
        self.state.refused = Some(reason);
    }

    /// A probe was answered.
    pub(crate) fn handle_sample(&mut self, now: Duration, sample: Sample) {
        self.heard = now;
        self.samples.add(sample);
        if let Some(best) = self.samples.best() {
            self.state.rtt = best.rtt;
            self.state.clock_offset_us = best.offset_us;
            self.state.clock_error_us = best.error_us;
        }
    }

    /// Draws the conclusions; true if the reach is another than before.
    pub(crate) fn judge(&mut self, now: Duration, timings: &Timings) -> bool {
        let silence = now.saturating_sub(self.heard);
        let reach = if self.state.refused.is_some() || silence >= timings.down {
            Reach::Down
        } else if self.connected && silence < timings.suspect {
            Reach::Up
        } else {
            Reach::Suspect
        };
        if reach == self.state.state {
            return false;
        }
        self.state.state = reach;
        self.state.since = now;
        true
    }

    pub(crate) const fn state(&self) -> &PeerState {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const SAMPLE: Sample = Sample {
        rtt: Duration::from_millis(1),
        offset_us: -3,
        error_us: 500,
    };

    fn reach(observed: &mut Observed, millis: u64) -> Reach {
        observed.judge(at(millis), &Timings::default());
        observed.state().state
    }

    #[test]
    fn a_silent_peer_is_suspected_then_down_and_up_again_when_it_answers() {
        let mut observed = Observed::new(at(0));
        assert_eq!(reach(&mut observed, 10), Reach::Suspect);
        observed.handle_connection(at(20), true);
        assert_eq!(reach(&mut observed, 20), Reach::Up);
        assert_eq!(reach(&mut observed, 1_019), Reach::Up);
        assert_eq!(reach(&mut observed, 1_020), Reach::Suspect);
        assert_eq!(observed.state().since, at(1_020));
        assert_eq!(reach(&mut observed, 5_019), Reach::Suspect);
        assert_eq!(reach(&mut observed, 5_020), Reach::Down);
        observed.handle_sample(at(6_000), SAMPLE);
        assert_eq!(reach(&mut observed, 6_000), Reach::Up);
        assert_eq!(observed.state().clock_offset_us, -3);
    }

    #[test]
    fn a_lost_connection_is_suspicious_at_once_and_down_in_time() {
        let mut observed = Observed::new(at(0));
        observed.handle_connection(at(1_000), true);
        assert_eq!(reach(&mut observed, 1_000), Reach::Up);
        observed.handle_connection(at(1_100), false);
        assert_eq!(reach(&mut observed, 1_100), Reach::Suspect);
        assert_eq!(reach(&mut observed, 6_000), Reach::Down);
    }

    #[test]
    fn a_refusal_is_down_at_once_until_a_connection_is_greeted() {
        let mut observed = Observed::new(at(0));
        observed.handle_refusal("no member".to_owned());
        assert_eq!(reach(&mut observed, 1), Reach::Down);
        observed.handle_connection(at(2), true);
        assert_eq!(reach(&mut observed, 2), Reach::Up);
        assert_eq!(observed.state().refused, None);
    }
}
