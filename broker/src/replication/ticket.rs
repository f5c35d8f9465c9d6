//! The future of one proposal's outcome.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use quorate_protocol::{ReplicaId, Term};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Why a proposal has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing was appended: another replica leads, or none.
    #[error("this replica does not lead its group in term {term}")]
    NotLeader {
        /// The leader, if it is known.
        leader: Option<ReplicaId>,
        /// The term.
        term: Term,
    },
    /// Nothing was appended: the leader has not applied its own term's first entry yet.
    #[error("the leader is not ready yet")]
    NotReady,
    /// Nothing was appended: the disk is full. Lifts by itself once there is room.
    #[error("the disk is full")]
    DiskFull,
    /// Appended, but leadership ended before it was committed: it may or may not stay.
    #[error("leadership ended before the entry was committed")]
    Unknown,
    /// The group or its disk failed. What was appended may or may not stay.
    #[error("the group has failed and accepts nothing")]
    Poisoned,
    /// Nothing was appended: the group was closed.
    #[error("the group is closed")]
    Closed,
    /// Nothing was appended: another change of the members, or of the leader, is under way.
    #[error("another change of the group's members or leader is under way; try again later")]
    ChangePending,
    /// Nothing was appended: this change of the members cannot be.
    #[error("the group's members cannot change like that: {0}")]
    ChangeRefused(&'static str),
}

/// The outcome of a proposal. Dropping it abandons the answer, not the proposal.
#[derive(Debug)]
pub struct Ticket<R>(oneshot::Receiver<Result<R, Failure>>);

impl<R> Future for Ticket<R> {
    type Output = Result<R, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A sender that vanished had a proposal in its queue: the shard ended before any answer.
        Pin::new(&mut self.0)
            .poll(context)
            .map(|outcome| outcome.unwrap_or(Err(Failure::Unknown)))
    }
}

/// The answering side: held by the shard, with the room the proposal takes.
#[derive(Debug)]
pub struct Answer<R> {
    sender: oneshot::Sender<Result<R, Failure>>,
    room: Vec<OwnedSemaphorePermit>,
}

impl<R> Answer<R> {
    /// A ticket and its answering side. `room` is given back with the answer.
    pub fn new(room: Vec<OwnedSemaphorePermit>) -> (Self, Ticket<R>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, room }, Ticket(receiver))
    }

    /// Settles the ticket but keeps its room, until what is returned is dropped.
    pub(super) fn settle_early(self, outcome: Result<R, Failure>) -> Vec<OwnedSemaphorePermit> {
        drop(self.sender.send(outcome));
        self.room
    }

    /// Settles the ticket; nobody may be waiting any more.
    pub fn settle(self, outcome: Result<R, Failure>) {
        drop(self.room);
        drop(self.sender.send(outcome));
    }
}
