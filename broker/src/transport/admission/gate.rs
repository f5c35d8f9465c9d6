//! Decides what happens to each connection attempt before any cryptography is spent on it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::transport::admission::sources::SourceKey;
use crate::transport::admission::sources::Sources;
use crate::transport::settings::Limits;

/// What to do with an attempt.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Begin the handshake, and keep the guard until it ends.
    Accept(InFlight),
    /// Ask the source to prove its address; that costs no memory.
    Retry,
    /// Do not answer.
    Ignore,
}

/// Counts one handshake until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The rules of admission.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    sources: Sources,
    in_flight: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sources: Sources::default(),
            in_flight: Arc::default(),
        }
    }

    /// Judges one attempt. `validated`: the source has proved its address.
    pub(crate) fn judge(&mut self, source: IpAddr, validated: bool, now: Duration) -> Verdict {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        if in_flight >= self.limits.handshakes_max {
            return Verdict::Ignore;
        }
        let retry = in_flight >= self.limits.handshakes_unproved_max && !validated;
        if !self.is_within_rate(source, retry, now) {
            return Verdict::Ignore;
        }
        if retry {
            return Verdict::Retry;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Verdict::Accept(InFlight(self.in_flight.clone()))
    }

    /// A proof of address is not charged: the handshake that follows it is.
    fn is_within_rate(&mut self, source: IpAddr, only_look: bool, now: Duration) -> bool {
        let source = source.to_canonical();
        if source.is_loopback() && !self.limits.cap_loopback {
            return true;
        }
        let (rate, burst) = (
            self.limits.handshakes_per_second,
            self.limits.handshakes_burst,
        );
        let bucket = self.sources.bucket(SourceKey::of(source), now, burst);
        if only_look {
            bucket.has_token(now, rate, burst)
        } else {
            bucket.take(now, rate, burst)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn source(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    fn accepted(verdict: Verdict) -> Option<InFlight> {
        match verdict {
            Verdict::Accept(guard) => Some(guard),
            Verdict::Retry | Verdict::Ignore => None,
        }
    }

    #[test]
    fn one_source_gets_its_burst_then_its_rate() {
        let mut gate = Gate::new(Limits::default());
        let mut count = 0;
        for millis in 0..1_000 {
            let verdict = gate.judge(source(1), false, Duration::from_millis(millis));
            count += u32::from(accepted(verdict).is_some());
        }
        assert!((68..=70).contains(&count), "{count}");
        assert!(accepted(gate.judge(source(2), false, Duration::ZERO)).is_some());
    }

    #[test]
    fn under_load_addresses_are_proved_first_and_beyond_it_nothing_is_answered() {
        let mut gate = Gate::new(Limits::default());
        let mut guards = Vec::new();
        for number in 0..64 {
            guards.extend(accepted(gate.judge(source(number), false, Duration::ZERO)));
        }
        assert_eq!(guards.len(), 64);
        let unproved = gate.judge(source(1_000), false, Duration::ZERO);
        assert!(matches!(unproved, Verdict::Retry), "{unproved:?}");
        for number in 64..512 {
            guards.extend(accepted(gate.judge(source(number), true, Duration::ZERO)));
        }
        assert_eq!(guards.len(), 512);
        let full = gate.judge(source(2_000), true, Duration::ZERO);
        assert!(matches!(full, Verdict::Ignore), "{full:?}");
        guards.clear();
        assert!(accepted(gate.judge(source(2_001), false, Duration::ZERO)).is_some());
    }

    #[test]
    fn a_proof_of_address_is_free_but_not_for_an_exhausted_source() {
        let mut gate = Gate::new(Limits::default());
        let mut guards = Vec::new();
        for number in 0..64 {
            guards.extend(accepted(gate.judge(source(number), false, Duration::ZERO)));
        }
        for _ in 0..1_000 {
            let verdict = gate.judge(source(9_999), false, Duration::ZERO);
            assert!(matches!(verdict, Verdict::Retry), "{verdict:?}");
        }
        for _ in 0..50 {
            let verdict = gate.judge(source(9_999), true, Duration::ZERO);
            assert!(accepted(verdict).is_some());
        }
        let verdict = gate.judge(source(9_999), false, Duration::ZERO);
        assert!(matches!(verdict, Verdict::Ignore), "{verdict:?}");
    }

    #[test]
    fn loopback_is_not_a_source_unless_asked_for() {
        let open = (0..500).filter(|_| {
            let mut gate = Gate::new(Limits::default());
            accepted(gate.judge(Ipv4Addr::LOCALHOST.into(), false, Duration::ZERO)).is_some()
        });
        assert_eq!(open.count(), 500);
        let mut gate = Gate::new(Limits {
            cap_loopback: true,
            ..Limits::default()
        });
        let capped = (0..500).filter(|_| {
            accepted(gate.judge(Ipv4Addr::LOCALHOST.into(), false, Duration::ZERO)).is_some()
        });
        assert_eq!(capped.count(), 50);
    }
}
