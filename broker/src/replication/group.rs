//! The handle of one group: what other rooms hold.

use std::fmt;
use std::sync::Arc;

use quorate_protocol::{GroupId, LogIndex, ReplicaId, Term};
use quorate_storage::LogReader;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::replication::inbox::Inbox;
use crate::replication::inspect::Inspection;
use crate::replication::machine::{Role, StateMachine};
use crate::replication::shard::event::In;
use crate::replication::shard::membership::Change;
use crate::replication::ticket::{Answer, Failure, Ticket};

/// A replica's place in its group, and how far its log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// A leader that takes proposals.
    pub ready: bool,
    /// Who leads, if that is known.
    pub leader: Option<ReplicaId>,
    /// The first index kept.
    pub first: LogIndex,
    /// The last index.
    pub last: LogIndex,
    /// Committed up to here.
    pub commit: LogIndex,
    /// Applied up to here.
    pub applied: LogIndex,
    /// Writes wait for room on the disk.
    pub disk_full: bool,
    /// The replica ended; nothing is accepted until it is opened again.
    pub poisoned: bool,
}

/// Bytes that open proposals may hold, counted in units that fit the semaphore.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) group: Arc<Semaphore>,
    pub(super) group_units: u32,
    pub(super) total: Arc<Semaphore>,
    pub(super) total_units: u32,
}

/// One unit of [`Room`].
const UNIT: usize = 64;

impl Room {
    /// Units of a semaphore that bounds `bytes`.
    pub(super) fn units(bytes: u64) -> u32 {
        let unit = u64::try_from(UNIT).unwrap_or(u64::MAX);
        u32::try_from(bytes / unit)
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 28)
    }

    /// Waits for room in both bounds, in the order of asking. One proposal always fits.
    async fn take(&self, bytes: usize) -> Result<Vec<tokio::sync::OwnedSemaphorePermit>, Failure> {
        let units = u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .max(1);
        let (own, all) = (units.min(self.group_units), units.min(self.total_units));
        let closed = |_| Failure::Closed;
        let own = Arc::clone(&self.group)
            .acquire_many_owned(own)
            .await
            .map_err(closed)?;
        let all = Arc::clone(&self.total)
            .acquire_many_owned(all)
            .await
            .map_err(closed)?;
        Ok(vec![own, all])
    }
}

/// A group on this broker. Cheap to clone.
pub struct Group<M: StateMachine> {
    pub(super) id: GroupId,
    pub(super) inbox: Arc<Inbox<In<M>>>,
    pub(super) room: Room,
    pub(super) reader: LogReader,
    pub(super) status: watch::Receiver<GroupStatus>,
}

impl<M: StateMachine> Group<M> {
    /// The group's number.
    pub const fn id(&self) -> GroupId {
        self.id
    }

    /// Hands a proposal to the group, after waiting for room; order is the order of the calls.
    /// Dropping the future before it is ready hands over nothing.
    ///
    /// # Errors
    /// [`Failure::Closed`] after the group was closed. All else is the ticket's outcome.
    pub async fn propose(&self, proposal: M::Proposal) -> Result<Ticket<M::Reply>, Failure> {
        let room = self.room.take(M::size(&proposal)).await?;
        let (answer, ticket) = Answer::new(room);
        self.inbox.put(In::Propose {
            group: self.id,
            proposal,
            answer,
        });
        Ok(ticket)
    }

    /// Asks a member to lead instead of this replica; nothing happens unless it leads. Proposals
    /// wait meanwhile, and go on here if the member does not take over within an election time.
    pub fn transfer(&self, to: ReplicaId) {
        self.inbox.put(In::Transfer { group: self.id, to });
    }

    /// Asks for votes now instead of after an election time; nothing comes of it while there is a
    /// leader, or if this replica does not vote.
    pub fn campaign(&self) {
        self.inbox.put(In::Campaign(self.id));
    }

    /// Changes the members: one change at a time; two or more together are one joint change, which
    /// is left by itself. The ticket is settled once the change is applied here.
    pub fn change(&self, changes: Vec<Change>) -> Ticket<()> {
        let (answer, ticket) = Answer::new(Vec::new());
        self.inbox.put(In::Change {
            group: self.id,
            changes,
            answer,
        });
        ticket
    }

    /// The replica at this moment; none if it is closed or ended.
    pub async fn inspect(&self) -> Option<Inspection> {
        let (tell, told) = oneshot::channel();
        self.inbox.put(In::Inspect {
            group: self.id,
            tell,
        });
        told.await.ok().flatten()
    }

    /// Waits until everything is applied here that was committed anywhere when this was called.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`Failure::NotLeader`] unless this replica leads, by the word of a majority.
    pub async fn read_barrier(&self) -> Result<(), Failure> {
        let (answer, ticket) = Answer::new(Vec::new());
        self.inbox.put(In::Read {
            group: self.id,
            answer,
        });
        ticket.await
    }

    /// The stored log. It may hold entries that are not committed.
    pub const fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// The replica now.
    pub fn status(&self) -> GroupStatus {
        *self.status.borrow()
    }

    /// The replica, as it changes.
    pub fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.status.clone()
    }
}

impl<M: StateMachine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            inbox: Arc::clone(&self.inbox),
            room: self.room.clone(),
            reader: self.reader.clone(),
            status: self.status.clone(),
        }
    }
}

impl<M: StateMachine> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
