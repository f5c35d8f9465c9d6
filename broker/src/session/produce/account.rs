//! What one producer has sent, got back and is owed: batches in flight, credit, acks.

use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use quorate_protocol::AckLevel;
use quorate_protocol::Acks;
use quorate_protocol::Bounded;
use quorate_protocol::Credit;

use crate::session::credit::Lease;
use crate::session::credit::Overdraft;
use crate::session::credit::ProducerCredit;
use crate::session::produce::in_flight::InFlight;
use crate::session::produce::in_flight::Settled;
use crate::session::produce::ledger::Ledger;

/// What moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Batches were settled.
    Settled,
    /// The entering batch has its place or was refused.
    Entered,
}

/// The books of one PRODUCE stream.
pub(super) struct Account {
    /// Batches whose outcome is open.
    pub(super) in_flight: InFlight,
    /// Outcomes the producer has not been told.
    pub(super) ledger: Ledger,
    /// What a commit means in this partition.
    committed: AckLevel,
    credit: ProducerCredit,
    announced: Credit,
    lease: Lease,
}

impl Account {
    /// A producer that may send the lease's window.
    pub(super) fn new(lease: Lease, committed: AckLevel) -> Self {
        let window = lease.window();
        Self {
            in_flight: InFlight::default(),
            ledger: Ledger::default(),
            committed,
            credit: ProducerCredit::new(window),
            announced: Credit::new(window),
            lease,
        }
    }

    /// The first grant.
    pub(super) fn window(&self) -> Credit {
        Credit::new(self.lease.window())
    }

    /// Accounts one received frame.
    pub(super) fn receive(&mut self, bytes: u64) -> Result<(), Overdraft> {
        self.credit.receive(bytes)
    }

    /// Gives back the credit of a frame nobody looked at.
    pub(super) fn discard(&mut self, bytes: u64) {
        self.credit.settle(bytes, self.lease.resize());
    }

    /// Notes outcomes as they become known, as many as fit one Acks frame.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Moved> {
        let mut moved = Poll::Pending;
        while self.ledger.has_room() {
            let Poll::Ready(settled) = self.in_flight.poll_settled(context) else {
                break;
            };
            self.note(settled);
            moved = Poll::Ready(Moved::Settled);
        }
        if moved.is_ready() {
            return moved;
        }
        self.in_flight
            .poll_entered(context)
            .map(|()| Moved::Entered)
    }

    /// Ends what is overdue; whether anything was.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let expired = self.in_flight.expire(now);
        let any = !expired.is_empty();
        for settled in expired {
            self.note(settled);
        }
        any
    }

    fn note(&mut self, settled: Settled) {
        let Settled { terms, outcome } = settled;
        self.credit.settle(terms.bytes, self.lease.resize());
        let level = self.granted(terms.level);
        self.ledger.settle(terms.span, level, outcome);
    }

    /// What somebody who asked for this level was given.
    fn granted(&self, asked: AckLevel) -> AckLevel {
        if asked <= AckLevel::LEADER {
            asked
        } else {
            self.committed
        }
    }

    /// The acks and the credit to send now, if there are any.
    pub(super) fn take_acks(&mut self) -> Option<Acks> {
        let acks = self.ledger.take_acks();
        if acks.is_empty() && self.unannounced() == 0 {
            return None;
        }
        self.announced = self.credit.granted();
        Some(Acks {
            acks: Bounded::clipped(acks),
            credit: self.announced,
        })
    }

    /// Whether the producer would soon wait for credit it already has.
    pub(super) fn owes_credit(&self) -> bool {
        self.unannounced() >= self.lease.window() / 2
    }

    fn unannounced(&self) -> u64 {
        self.credit
            .granted()
            .get()
            .saturating_sub(self.announced.get())
    }
}
