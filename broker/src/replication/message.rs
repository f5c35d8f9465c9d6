//! What replicas say to each other: plain values, without any encoding.

use quorate_protocol::{GroupId, GroupTag, LogIndex, ReplicaId, Term};
use quorate_storage::Entry;

/// One message between two replicas of a group.
#[derive(Clone, Debug)]
pub struct Message {
    /// The group.
    pub group: GroupId,
    /// The group's incarnation.
    pub tag: GroupTag,
    /// The speaker.
    pub from: ReplicaId,
    /// The listener.
    pub to: ReplicaId,
    /// The speaker's term, or the term it asks votes for.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug)]
pub enum Body {
    /// Leader: entries behind `previous`, possibly none.
    Append {
        /// The index before the first entry.
        previous: LogIndex,
        /// Its term.
        previous_term: Term,
        /// The leader's commit index.
        commit: LogIndex,
        /// Contiguous entries.
        entries: Vec<Entry>,
    },
    /// Follower: its durable log matches the leader's up to `index`.
    Appended {
        /// The last matching index.
        index: LogIndex,
        /// The follower's commit index.
        commit: LogIndex,
    },
    /// Follower: `index` does not match; try behind `hint`.
    Mismatch {
        /// The refused `previous`.
        index: LogIndex,
        /// The follower's commit index.
        commit: LogIndex,
        /// The index that may match.
        hint: LogIndex,
        /// The follower's term there.
        hint_term: Term,
    },
    /// Leader: alive; `commit` is within what the listener confirmed.
    Heartbeat {
        /// The commit index for the listener.
        commit: LogIndex,
        /// The question of readers, zero for none: do you still follow me?
        question: u64,
    },
    /// Follower: heard.
    HeartbeatReply {
        /// The follower's commit index.
        commit: LogIndex,
        /// The question it answers with yes.
        question: u64,
    },
    /// Candidate: asks for a vote.
    Vote(Ballot),
    /// The answer to a ballot.
    VoteReply {
        /// It answers a pre-vote.
        pre: bool,
        /// The vote is given.
        granted: bool,
        /// The voter may have forgotten what it once acknowledged.
        forgetful: bool,
        /// The voter's commit index, if the vote is refused.
        commit: LogIndex,
        /// The term of the entry there.
        commit_term: Term,
    },
    /// Leader: the listener needs entries that are gone; a checkpoint at `index` replaces them.
    Snapshot {
        /// The retention point.
        index: LogIndex,
        /// The term of the entry there.
        term: Term,
    },
    /// How the files of a snapshot fared at who was to have them.
    SnapshotStatus {
        /// The retention point.
        index: LogIndex,
        /// It has them, or what it has is newer.
        finished: bool,
    },
    /// Leader: take over, now.
    TimeoutNow,
}

/// A request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// Would I win? Changes nothing at the listener.
    pub pre: bool,
    /// The leader asked the candidate to take over.
    pub transfer: bool,
    /// The candidate's last index.
    pub last: LogIndex,
    /// Its term.
    pub last_term: Term,
    /// The candidate's commit index.
    pub commit: LogIndex,
    /// The term of the entry there.
    pub commit_term: Term,
}

/// Which of a peer's ordered streams a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and never behind bulk: votes and heartbeats.
    Urgent,
    /// Appends and their answers, in order per group.
    Append,
}

impl Message {
    /// Whether it has to be written by who hears it.
    pub(super) const fn brings_entries(&self) -> bool {
        matches!(&self.body, Body::Append { entries, .. } if !entries.is_empty())
    }

    /// The stream this message takes.
    pub const fn lane(&self) -> Lane {
        match self.body {
            Body::Append { .. }
            | Body::Appended { .. }
            | Body::Mismatch { .. }
            | Body::Snapshot { .. }
            | Body::SnapshotStatus { .. } => Lane::Append,
            _ => Lane::Urgent,
        }
    }
}
