//! What the demonstration tells: steps as they happen, and what it all came to.

use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::clock::Moment;
use crate::failure::Failure;
use crate::output::Output;

/// Tells steps, with the time since the beginning.
#[derive(Debug)]
pub(super) struct Teller<'a> {
    output: &'a Output,
    begin: Moment,
}

#[derive(Serialize)]
struct Step<'a> {
    event: &'static str,
    name: &'a str,
    t_ms: u64,
    text: &'a str,
}

/// What became of one publisher's messages.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Balance {
    pub(super) name: &'static str,
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
}

impl Balance {
    /// Whether everything that was sent was acknowledged and delivered once, in order.
    pub(super) fn holds(&self) -> bool {
        self.sent == self.acked
            && self.acked == self.delivered
            && self.lost + self.duplicates + self.reordered == 0
    }
}

/// What happened between the kill and the return.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Failover {
    pub(super) killed: u16,
    pub(super) new_leader: u16,
    pub(super) gap_ms: u64,
    pub(super) rejoin_ms: u64,
    pub(super) return_ms: u64,
}

/// The end of the story.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) event: &'static str,
    pub(super) ok: bool,
    pub(super) published: u64,
    pub(super) acked: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) resent: u64,
    #[serde(flatten)]
    pub(super) failover: Failover,
    pub(super) duration_ms: u64,
    pub(super) publishers: Vec<Balance>,
}

impl Outcome {
    pub(super) fn new(
        publishers: Vec<Balance>,
        failover: Failover,
        resent: u64,
        took: Duration,
    ) -> Self {
        let sum = |of: fn(&Balance) -> u64| publishers.iter().map(of).sum();
        Self {
            event: "result",
            ok: publishers.iter().all(Balance::holds),
            published: sum(|balance| balance.sent),
            acked: sum(|balance| balance.acked),
            received: sum(|balance| balance.delivered),
            lost: sum(|balance| balance.lost),
            duplicates: sum(|balance| balance.duplicates),
            reordered: sum(|balance| balance.reordered),
            resent,
            failover,
            duration_ms: millis(took),
            publishers,
        }
    }
}

impl<'a> Teller<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        let begin = clock::now();
        Self { output, begin }
    }

    pub(super) fn elapsed(&self) -> Duration {
        clock::since(self.begin)
    }

    /// Tells one step at once.
    pub(super) fn step(&self, name: &str, text: &str) -> Result<(), Failure> {
        let t_ms = millis(self.elapsed());
        if self.output.is_json() {
            let event = "step";
            self.output.object(&Step {
                event,
                name,
                t_ms,
                text,
            })?;
        } else {
            let (seconds, tenths) = (t_ms / 1000, t_ms % 1000 / 100);
            self.output
                .line(format_args!("{seconds:>4}.{tenths} s  {text}"))?;
        }
        self.output.flush()
    }

    /// Tells what it all came to.
    pub(super) fn outcome(&self, outcome: &Outcome) -> Result<(), Failure> {
        if self.output.is_json() {
            return self.output.object(outcome);
        }
        let head = [
            "",
            "SENT",
            "ACKED",
            "DELIVERED",
            "LOST",
            "DUPLICATES",
            "OUT OF ORDER",
        ];
        let rows = outcome.publishers.iter().map(|balance| {
            let mut row = vec![balance.name.to_owned()];
            row.extend(
                [
                    balance.sent,
                    balance.acked,
                    balance.delivered,
                    balance.lost,
                    balance.duplicates,
                    balance.reordered,
                ]
                .map(|number| number.to_string()),
            );
            row
        });
        self.output.line("")?;
        self.output.table(&head, rows.collect())?;
        let Failover {
            killed,
            new_leader,
            gap_ms,
            rejoin_ms,
            return_ms,
        } = outcome.failover;
        self.output.line(format_args!(
            "broker-{killed} killed: broker-{new_leader} acknowledged after {gap_ms} ms; back and \
             in sync {rejoin_ms} ms after its start, leading again after {return_ms} ms"
        ))?;
        let verdict = match outcome.ok {
            true => "nothing lost, nothing twice, nothing out of order",
            false => "THE PROMISE WAS BROKEN",
        };
        self.output.line(verdict)
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_breaks_the_promise() {
        let good = Balance {
            name: "steady",
            sent: 7,
            acked: 7,
            delivered: 7,
            lost: 0,
            duplicates: 0,
            reordered: 0,
        };
        assert!(good.holds());
        let bad = [
            Balance { acked: 6, ..good },
            Balance {
                delivered: 6,
                ..good
            },
            Balance { lost: 1, ..good },
            Balance {
                duplicates: 1,
                ..good
            },
            Balance {
                reordered: 1,
                ..good
            },
        ];
        assert!(bad.iter().all(|balance| !balance.holds()));
    }
}
