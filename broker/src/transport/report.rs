//! Logs who was refused, without letting them fill the log.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::transport::handshake::HandshakeError;
use crate::transport::plane::Plane;

/// At most one line per this time; the next one tells how many were left out.
const INTERVAL: Duration = Duration::from_secs(1);

/// The refusals of one listener.
#[derive(Debug, Default)]
pub(crate) struct Reporter(Mutex<Sampler>);

impl Reporter {
    /// Logs a refusal, or counts it for the next line.
    pub(crate) fn handle_refusal(
        &self,
        now: Duration,
        plane: Plane,
        (remote, error): (SocketAddr, &HandshakeError),
    ) {
        let Some(suppressed) = self.0.lock().sample(now) else {
            return;
        };
        let visitor = plane.visitor();
        tracing::warn!(%remote, suppressed, "{visitor} refused: {error}");
    }
}

/// Lets one event per second be told, with the number of those that were not.
#[derive(Debug, Default)]
pub struct Sampler {
    last: Option<Duration>,
    suppressed: u64,
}

impl Sampler {
    /// `Some(left out since the last)` if this one is to be logged.
    pub fn sample(&mut self, now: Duration) -> Option<u64> {
        let recent = self
            .last
            .is_some_and(|last| now.saturating_sub(last) < INTERVAL);
        if recent {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_second_that_counts_the_others() {
        let mut sampler = Sampler::default();
        let at = |millis| Duration::from_millis(millis);
        assert_eq!(sampler.sample(at(5_000)), Some(0));
        for millis in 5_001..5_101 {
            assert_eq!(sampler.sample(at(millis)), None);
        }
        assert_eq!(sampler.sample(at(6_000)), Some(100));
        assert_eq!(sampler.sample(at(60_000)), Some(0));
    }
}
