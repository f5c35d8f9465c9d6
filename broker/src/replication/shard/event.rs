//! What a shard takes in and what it asks for.

use std::fmt;

use bytes::Bytes;
use quorate_protocol::{GroupId, GroupTag, HybridTime, LogIndex, Offset, ReplicaId, Term};
use quorate_storage::{Entry, HardState};
use tokio::sync::{oneshot, watch};

use crate::replication::config::ElectionWindow;
use crate::replication::group::GroupStatus;
use crate::replication::inspect::Inspection;
use crate::replication::machine::StateMachine;
use crate::replication::message::{Body, Message};
use crate::replication::recovery::Recovered;
use crate::replication::shard::Halt;
use crate::replication::shard::membership::Change;
use crate::replication::ticket::Answer;

/// Counts openings of replicas; a completion names the one it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub(in crate::replication) u64);

/// The engine's number of a piece of state that must become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyNumber(pub(in crate::replication) u64);

/// A replica to take in.
pub struct Opening<M> {
    /// What its disk held.
    pub recovered: Recovered<M>,
    /// When it asks for votes.
    pub window: ElectionWindow,
    /// Where it shows itself.
    pub status: watch::Sender<GroupStatus>,
}

impl<M> fmt::Debug for Opening<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// Something happened.
pub enum In<M: StateMachine> {
    /// One step of the engine's clock.
    Tick,
    /// A replica was recovered.
    Open(Box<Opening<M>>),
    /// A replica is to go.
    Close(GroupId),
    /// Somebody wants something of a leader.
    Propose {
        /// The group asked.
        group: GroupId,
        /// What is wanted.
        proposal: M::Proposal,
        /// Where the outcome goes.
        answer: Answer<M::Reply>,
    },
    /// The members are to change; no change at all leaves the joint state.
    Change {
        /// The group asked.
        group: GroupId,
        /// Two or more are one joint change.
        changes: Vec<Change>,
        /// Settled when the change is applied here.
        answer: Answer<()>,
    },
    /// A peer said something.
    Peer(Message),
    /// A [`WriteJob`] and all before it are durable.
    Persisted {
        /// The job's group.
        group: GroupId,
        /// The job's opening.
        epoch: Epoch,
        /// The job's number.
        number: ReadyNumber,
    },
    /// A [`WriteJob`] waits for room on the disk; it is kept and tried again.
    Stalled {
        /// The job's group.
        group: GroupId,
        /// The job's opening.
        epoch: Epoch,
    },
    /// The outcome of a [`FetchJob`].
    Fetched {
        /// The job's group.
        group: GroupId,
        /// The job's opening.
        epoch: Epoch,
        /// The job's first index.
        from: LogIndex,
        /// Contiguous entries from there; empty if the log starts later by now.
        entries: Result<Vec<Entry>, Halt>,
    },
    /// The checkpoint of a [`CheckpointJob`] is durable.
    Checkpointed {
        /// The job's group.
        group: GroupId,
        /// The job's opening.
        epoch: Epoch,
        /// The checkpoint's index.
        index: LogIndex,
    },
    /// Leadership is to move.
    Transfer {
        /// The group.
        group: GroupId,
        /// The next leader.
        to: ReplicaId,
    },
    /// Ask for votes now.
    Campaign(GroupId),
    /// Somebody reads what is committed by now, if this replica still leads.
    Read {
        /// The group.
        group: GroupId,
        /// Settled once all of that is applied here.
        answer: Answer<()>,
    },
    /// What is to be seen of one group; none if it is not here.
    Inspect {
        /// The group.
        group: GroupId,
        /// Where it is told.
        tell: oneshot::Sender<Option<Inspection>>,
    },
    /// What is to be seen of all groups led here.
    InspectLed(oneshot::Sender<Vec<(GroupId, Inspection)>>),
    /// Messages to a peer were lost.
    Unreachable {
        /// The group.
        group: GroupId,
        /// The peer.
        peer: ReplicaId,
    },
    /// Messages to these replicas may be lost, a snapshot among them.
    Lost(Vec<(GroupId, ReplicaId)>),
    /// How a snapshot that was sent ended. Owed for every one, or the peer stays paused.
    SnapshotReport {
        /// The group.
        group: GroupId,
        /// The peer.
        peer: ReplicaId,
        /// It has it, or what it has is newer.
        finished: bool,
    },
    /// The files of an [`Act::Install`] are here, verified, or will not come.
    Staged {
        /// What was asked for.
        install: Install,
        /// They are complete.
        staged: bool,
    },
    /// The outcome of an [`Act::Swap`]; if the replica could be opened, that came before.
    Swapped {
        /// What was asked for.
        install: Install,
        /// The files are the replica's.
        finished: bool,
    },
    /// A replica that stood aside cannot be opened.
    Broken {
        /// Its group.
        group: GroupId,
        /// Why.
        halt: Halt,
    },
}

impl<M: StateMachine> fmt::Debug for In<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, group) = match self {
            Self::Tick => return f.write_str("Tick"),
            Self::Peer(message) => return f.debug_tuple("Peer").field(message).finish(),
            Self::Open(opening) => ("Open", opening.recovered.group()),
            Self::Close(group) => ("Close", *group),
            Self::Lost(replicas) => return f.debug_tuple("Lost").field(replicas).finish(),
            Self::InspectLed(_) => return f.write_str("InspectLed"),
            Self::Campaign(group) => ("Campaign", *group),
            Self::Read { group, .. } => ("Read", *group),
            Self::Inspect { group, .. } => ("Inspect", *group),
            Self::Propose { group, .. } => ("Propose", *group),
            Self::Change { group, .. } => ("Change", *group),
            Self::Persisted { group, .. } => ("Persisted", *group),
            Self::Stalled { group, .. } => ("Stalled", *group),
            Self::Fetched { group, .. } => ("Fetched", *group),
            Self::Checkpointed { group, .. } => ("Checkpointed", *group),
            Self::Transfer { group, .. } => ("Transfer", *group),
            Self::Unreachable { group, .. } => ("Unreachable", *group),
            Self::SnapshotReport { group, .. } => ("SnapshotReport", *group),
            Self::Staged { install, .. } => ("Staged", install.group),
            Self::Swapped { install, .. } => ("Swapped", install.group),
            Self::Broken { group, .. } => ("Broken", *group),
        };
        f.debug_tuple(name).field(&group).finish()
    }
}

/// Something is to be done.
#[derive(Debug)]
pub enum Act<M: StateMachine> {
    /// Carry this to its peer, in order per lane.
    Send(Message),
    /// Make this durable, in order per group; then [`In::Persisted`].
    Write(WriteJob),
    /// Note this without waiting for a disk; it may be lost.
    Hint(ReplicaId, HardState),
    /// Read entries; then [`In::Fetched`].
    Fetch(FetchJob),
    /// Save this durably; then [`In::Checkpointed`].
    Checkpoint(CheckpointJob),
    /// Remove files whose entries all are at or below the index; they are not needed any more.
    Trim(GroupId, LogIndex),
    /// A leader no longer has what this replica needs: fetch its checkpoint and files; then [`In::Staged`].
    Install(Install),
    /// Tell the sender of a snapshot how it ended: [`Install::report`].
    SnapshotDone(Install, bool),
    /// Put the staged files in place of the replica's own, then open it again; then [`In::Swapped`].
    Swap(Box<Swap<M>>),
    /// The group is gone from the shard.
    Closed(GroupId),
    /// The replica ended; its files must be kept.
    Repair(GroupId, Halt),
}

/// Entries and hard state to make durable together.
#[derive(Clone, Debug)]
pub struct WriteJob {
    /// Whose.
    pub group: GroupId,
    /// The replica's id, under which hard state is kept.
    pub replica: ReplicaId,
    /// The opening.
    pub epoch: Epoch,
    /// Its number, increasing per opening.
    pub number: ReadyNumber,
    /// To append; the first may replace what is at its index and behind.
    pub entries: Vec<Entry>,
    /// Term, vote and a commit index that never exceeds what is durable already.
    pub hard: Option<HardState>,
}

/// Entries to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchJob {
    /// Whose.
    pub group: GroupId,
    /// The opening.
    pub epoch: Epoch,
    /// The first index.
    pub from: LogIndex,
    /// The first index that is not wanted.
    pub until: LogIndex,
    /// Read at most this much, but one entry.
    pub bytes_max: usize,
}

/// A machine's state at the end of a segment, to save.
#[derive(Clone, Debug)]
pub struct CheckpointJob {
    /// Whose.
    pub group: GroupId,
    /// The opening.
    pub epoch: Epoch,
    /// The last entry it covers.
    pub index: LogIndex,
    /// That entry's term.
    pub term: Term,
    /// The members after it, in our own encoding.
    pub membership: Bytes,
    /// The offset behind it.
    pub next_offset: Offset,
    /// The append time of the last entry.
    pub last_time: HybridTime,
    /// Where the log starts.
    pub log_start: Offset,
    /// What the machine said.
    pub state: Bytes,
}

/// A snapshot that this replica needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Install {
    /// The group.
    pub group: GroupId,
    /// The group's incarnation.
    pub tag: GroupTag,
    /// Who needs it.
    pub replica: ReplicaId,
    /// The opening that asked.
    pub epoch: Epoch,
    /// Who has it.
    pub from: ReplicaId,
    /// The sender's term.
    pub sender_term: Term,
    /// The retention point.
    pub index: LogIndex,
    /// The term of the entry there.
    pub term: Term,
}

impl Install {
    /// What its sender is owed.
    pub fn report(&self, finished: bool) -> Message {
        Message {
            group: self.group,
            tag: self.tag,
            from: self.replica,
            to: self.from,
            term: self.sender_term,
            body: Body::SnapshotStatus {
                index: self.index,
                finished,
            },
        }
    }
}

/// A replica that stands aside while its files are exchanged.
pub struct Swap<M> {
    /// What was staged.
    pub install: Install,
    /// Its identity and vote outlive the exchange.
    pub hard: HardState,
    /// Its machine, to be restored from the new checkpoint.
    pub machine: M,
    /// Where it shows itself.
    pub status: watch::Sender<GroupStatus>,
}

impl<M> fmt::Debug for Swap<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swap")
            .field("install", &self.install)
            .finish_non_exhaustive()
    }
}
