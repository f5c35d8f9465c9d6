//! Proposals that wait for their outcome, in log order.

use std::collections::VecDeque;

use quorate_protocol::LogIndex;
use tokio::sync::OwnedSemaphorePermit;

use crate::replication::ticket::{Answer, Failure};

/// Answers that are known wait for the commit, others for the apply of their entry.
#[derive(Debug)]
pub(super) struct Tickets<R> {
    at_commit: VecDeque<(LogIndex, R, Answer<R>)>,
    at_apply: VecDeque<(LogIndex, Answer<R>)>,
    /// Room of what was answered early.
    answered: VecDeque<(LogIndex, Vec<OwnedSemaphorePermit>)>,
}

impl<R> Tickets<R> {
    pub(super) const fn new() -> Self {
        Self {
            at_commit: VecDeque::new(),
            at_apply: VecDeque::new(),
            answered: VecDeque::new(),
        }
    }

    /// Waits for entry `index`. Entries may be joined out of order.
    pub(super) fn add(&mut self, index: LogIndex, reply: Option<R>, answer: Answer<R>) {
        if let Some(reply) = reply {
            let after = self.at_commit.partition_point(|ticket| ticket.0 <= index);
            self.at_commit.insert(after, (index, reply, answer));
        } else {
            self.at_apply.push_back((index, answer));
        }
    }

    /// Entry `index` is in the log and answered; its room stays taken until it is committed.
    pub(super) fn settle_early(&mut self, index: LogIndex, reply: R, answer: Answer<R>) {
        self.answered
            .push_back((index, answer.settle_early(Ok(reply))));
    }

    /// Everything up to `commit` is committed.
    pub(super) fn settle_committed(&mut self, commit: LogIndex) {
        while self
            .at_commit
            .front()
            .is_some_and(|ticket| ticket.0 <= commit)
        {
            if let Some((_, reply, answer)) = self.at_commit.pop_front() {
                answer.settle(Ok(reply));
            }
        }
        let open = self.answered.partition_point(|held| held.0 <= commit);
        drop(self.answered.drain(..open));
    }

    /// Who waits for the apply of `index`.
    pub(super) fn applied(&mut self, index: LogIndex) -> Option<Answer<R>> {
        let due = self.at_apply.front()?.0 <= index;
        if due {
            self.at_apply.pop_front().map(|ticket| ticket.1)
        } else {
            None
        }
    }

    /// Leadership ended: what is not committed may or may not stay.
    pub(super) fn lose(&mut self, commit: LogIndex) {
        self.answered.clear();
        let from = self.at_commit.partition_point(|ticket| ticket.0 <= commit);
        for (_, _, answer) in self.at_commit.drain(from..) {
            answer.settle(Err(Failure::Unknown));
        }
        let from = self.at_apply.partition_point(|ticket| ticket.0 <= commit);
        for (_, answer) in self.at_apply.drain(from..) {
            answer.settle(Err(Failure::Unknown));
        }
    }

    /// No outcome will ever be known here.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.answered.clear();
        let at_commit = self.at_commit.drain(..).map(|ticket| ticket.2);
        for answer in at_commit.chain(self.at_apply.drain(..).map(|ticket| ticket.1)) {
            answer.settle(Err(failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::replication::ticket::Ticket;

    fn outcome(ticket: Ticket<u8>) -> Poll<Result<u8, Failure>> {
        pin!(ticket).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn index(raw: u64) -> LogIndex {
        LogIndex::new(raw)
    }

    #[test]
    fn a_joined_duplicate_settles_with_its_original() {
        let mut tickets = Tickets::new();
        let (first, first_ticket) = Answer::new(Vec::new());
        let (second, second_ticket) = Answer::new(Vec::new());
        let (joined, joined_ticket) = Answer::new(Vec::new());
        tickets.add(index(5), Some(1), first);
        tickets.add(index(6), Some(2), second);
        tickets.add(index(5), Some(1), joined);
        tickets.settle_committed(index(5));
        assert_eq!(outcome(first_ticket), Poll::Ready(Ok(1)));
        assert_eq!(outcome(joined_ticket), Poll::Ready(Ok(1)));
        tickets.lose(index(5));
        assert_eq!(outcome(second_ticket), Poll::Ready(Err(Failure::Unknown)));
    }

    #[test]
    fn committed_entries_are_still_answered_by_apply_after_leadership_ended() {
        let mut tickets = Tickets::new();
        let (committed, committed_ticket) = Answer::new(Vec::new());
        let (open, open_ticket) = Answer::new(Vec::new());
        tickets.add(index(5), None, committed);
        tickets.add(index(6), None, open);
        tickets.lose(index(5));
        tickets.applied(index(5)).unwrap().settle(Ok(9));
        assert!(tickets.applied(index(6)).is_none());
        assert_eq!(outcome(committed_ticket), Poll::Ready(Ok(9)));
        assert_eq!(outcome(open_ticket), Poll::Ready(Err(Failure::Unknown)));
    }
}
