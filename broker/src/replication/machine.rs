//! What a group decides about: the trait through which replication calls up.
//!
//! Replication orders and keeps entries; only the machine knows what is in them.

use bytes::Bytes;
use quorate_protocol::RecordBatch;
use quorate_protocol::{GroupId, HybridTime, LogIndex, Offset, ReplicaId, Term};
use quorate_storage::Entry;

/// The rules of one group, driven by its replica. Calls come from one task, never concurrently.
///
/// Order: `admit` in log order on a leader; `apply` for each committed entry exactly once and in
/// order; `committed` after either moved. What `admit` remembers beyond applied state (an overlay)
/// is void as soon as `role_changed` names another role or term.
pub trait StateMachine: Send + 'static {
    /// What is asked of a leader.
    type Proposal: Send + 'static;
    /// What the asker gets once the outcome is known.
    type Reply: Send + 'static;

    /// The memory a proposal holds until its outcome is known.
    fn size(proposal: &Self::Proposal) -> usize;

    /// Leader only: turns a proposal into the batch of the entry at `seat`, or answers it.
    fn admit(&mut self, proposal: Self::Proposal, seat: Seat) -> Admission<Self::Reply>;

    /// Takes one committed entry. Must give the same state on every replica.
    fn apply(&mut self, entry: &Entry) -> Applied<Self::Reply>;

    /// Progress: what is committed, what readers may see, where the log starts.
    fn committed(&mut self, commit: LogIndex, high_watermark: Offset, log_start: Offset);

    /// The replica's place in its group. `ready`: a leader that has applied its own term's first entry.
    fn role_changed(&mut self, role: Role, term: Term, ready: bool, leader: Option<ReplicaId>);

    /// What a leader appends first if acknowledged entries may have been lost, if anything.
    fn loss(&self) -> Option<Self::Proposal> {
        None
    }

    /// State after exactly the entries applied so far.
    fn checkpoint(&self) -> Bytes;

    /// Replaces the state by one that `checkpoint` gave; an empty slice is the state at birth.
    ///
    /// # Errors
    /// If the bytes are not a state of this machine.
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError>;
}

/// The place in the log that a proposal would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The group.
    pub group: GroupId,
    /// The entry's index.
    pub index: LogIndex,
    /// The leader's term.
    pub term: Term,
    /// The base offset of its batch.
    pub next_offset: Offset,
    /// Its append time: never below that of the entry before.
    pub append_time: HybridTime,
}

/// What the machine says to a proposal.
#[derive(Debug)]
pub enum Admission<R> {
    /// The stamped batch to append. `reply` is given at commit; without one, `apply` gives it.
    Append {
        /// Stamped with the seat.
        batch: RecordBatch,
        /// The answer, if it is known already.
        reply: Option<R>,
        /// Give the reply once the entry is in the leader's log, whatever becomes of it.
        early: bool,
    },
    /// A duplicate of an entry that is on its way: the answer when that entry commits.
    Join {
        /// The entry that is awaited.
        index: LogIndex,
        /// The answer.
        reply: R,
    },
    /// Answered at once, nothing is appended.
    Answer(R),
}

/// The outcome of applying one entry.
#[derive(Debug)]
pub struct Applied<R> {
    /// The answer for the ticket that waits for this entry, if `admit` had none.
    pub reply: Option<R>,
    /// Entries up to here may go. Ignored unless a segment ends there.
    pub trim: Option<LogIndex>,
}

/// A replica's part in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Orders and acknowledges.
    Leader,
    /// Follows a leader, or knows none.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
}

/// A checkpoint's state that its machine does not accept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);
