//! Noticing that a broker is gone before QUIC's idle timeout does: it was sent something and
//! nothing at all came back, not even an acknowledgement.
//!
//! Pure: looks are counted, not timed.

/// Looks without an answer after which the other side counts as late.
const LOOKS_LATE: u32 = 2;
/// Looks without an answer after which it counts as gone.
const LOOKS_MAX: u32 = 6;

/// Datagrams of one connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Something came since the last look.
    Yes,
    /// Nothing came, and perhaps nothing had to.
    Waiting,
    /// An answer is overdue.
    Late,
    /// None will come.
    Gone,
}

/// Compares successive looks at a connection's traffic.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The traffic when something was last received.
    heard: Traffic,
    looks: u32,
}

impl Silence {
    /// Takes a look.
    pub(super) fn look(&mut self, now: Traffic) -> Heard {
        if now.received != self.heard.received {
            self.heard = now;
            self.looks = 0;
            return Heard::Yes;
        }
        if now.sent > self.heard.sent {
            self.looks += 1;
        }
        match self.looks {
            LOOKS_MAX.. => Heard::Gone,
            LOOKS_LATE.. => Heard::Late,
            _ => Heard::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(traffic: impl Iterator<Item = (u64, u64)>) -> Option<usize> {
        let mut silence = Silence::default();
        let mut looks = traffic.map(|(sent, received)| silence.look(Traffic { sent, received }));
        looks.position(|heard| heard == Heard::Gone)
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
