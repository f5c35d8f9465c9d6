//! What a replica tells of itself when asked: more than it shows all the time.

use quorate_protocol::{LogIndex, ReplicaId, Term};

use crate::replication::machine::Role;
use crate::replication::shard::membership::Membership;

/// A replica and, on a leader, what it knows of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// A leader that takes proposals.
    pub ready: bool,
    /// The last entry.
    pub last: LogIndex,
    /// Committed up to here.
    pub commit: LogIndex,
    /// Applied up to here.
    pub applied: LogIndex,
    /// The members as applied.
    pub membership: Membership,
    /// The members' progress, itself included; empty unless it leads.
    pub progress: Vec<Progress>,
}

/// How far a leader knows a member to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The member.
    pub replica: ReplicaId,
    /// Its log is durable and the leader's up to here.
    pub matched: LogIndex,
    /// It was heard within the last election time.
    pub active: bool,
    /// It gets files instead of entries.
    pub snapshot: bool,
}
