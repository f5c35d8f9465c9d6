//! Noticing that a broker is gone before QUIC's idle timeout does: it was sent something and
//! nothing at all came back, not even an acknowledgement.
//!
//! Pure: looks are counted, not timed.

/// Looks without an answer after which the other side counts as gone.
const LOOKS_MAX: u32 = 6;

/// Datagrams of one connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Compares successive looks at a connection's traffic.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The traffic when something was last received.
    heard: Traffic,
    looks: u32,
}

impl Silence {
    /// Takes a look; whether the other side counts as gone.
    pub(super) fn look(&mut self, now: Traffic) -> bool {
        if now.received != self.heard.received {
            self.heard = now;
            self.looks = 0;
        } else if now.sent > self.heard.sent {
            self.looks += 1;
        }
        self.looks >= LOOKS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(traffic: impl Iterator<Item = (u64, u64)>) -> Option<usize> {
        let mut silence = Silence::default();
        let mut looks = traffic.map(|(sent, received)| silence.look(Traffic { sent, received }));
        looks.position(|gone| gone)
    }

    #[test]
    fn an_idle_connection_is_not_gone() {
        assert_eq!(looks((0..100).map(|_| (7, 7))), None);
    }

    #[test]
    fn one_answer_now_and_then_is_enough() {
        assert_eq!(looks((0..100).map(|n| (n, n / 5))), None);
    }

    #[test]
    fn whoever_is_asked_and_never_answers_is_gone() {
        assert_eq!(looks((0..100).map(|n| (7 + n, 7))), Some(6));
        // Probes come ever more rarely: one unanswered is enough to count.
        assert_eq!(
            looks((0..100).map(|n| (if n < 10 { 7 } else { 8 }, 7))),
            Some(15)
        );
    }
}
