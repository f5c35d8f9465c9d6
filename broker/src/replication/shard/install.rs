//! Snapshots: a follower that needs entries which are gone gets files instead.
//!
//! The engine never restores from a snapshot itself. Files are fetched beside the old ones, and the
//! replica is opened again on them, as after a restart.

use quorate_protocol::{LogIndex, ReplicaId, Term};
use quorate_storage::HardState;
use raft::SnapshotStatus;

use crate::replication::machine::StateMachine;
use crate::replication::message::{Body, Message};
use crate::replication::shard::event::{Act, Install, Swap};
use crate::replication::shard::replica::Replica;
use crate::replication::shard::{Halt, Shard};

/// Ticks after which files are offered again to a peer that did not say what became of them.
const OFFER_TICKS: u64 = 1200;

impl<M: StateMachine> Replica<M> {
    /// A leader says that entries up to its retention point are gone there.
    pub(super) fn hear_snapshot(
        &mut self,
        message: &Message,
        out: &mut Vec<Act<M>>,
    ) -> Result<(), Halt> {
        let Body::Snapshot { index, term } = message.body else {
            return Ok(());
        };
        let install = Install {
            group: self.group(),
            tag: self.identity.tag,
            replica: self.identity.replica,
            epoch: self.epoch(),
            from: message.from,
            sender_term: message.term,
            index,
            term,
        };
        // Below the own commit the entry itself may be gone here: the engine answers with the commit.
        if self.holds(index, term) {
            self.step(message, Vec::new())?;
            out.push(Act::SnapshotDone(install, true));
        } else if message.term >= self.term() {
            out.push(Act::Install(install));
        } else {
            out.push(Act::SnapshotDone(install, false));
        }
        Ok(())
    }

    fn holds(&self, index: LogIndex, term: Term) -> bool {
        let log = &self.raw.raft.raft_log;
        log.committed >= index.get() || log.match_term(index.get(), term.get())
    }

    /// May the staged files replace this replica's own? A new leader may have brought it past them.
    fn accepts(&self, install: &Install) -> bool {
        self.epoch() == install.epoch
            && install.sender_term >= self.term()
            && !self.holds(install.index, install.term)
    }

    /// A peer says how a snapshot ended; it may be an earlier one.
    pub(super) fn hear_snapshot_status(
        &mut self,
        peer: ReplicaId,
        index: LogIndex,
        finished: bool,
    ) -> Result<(), Halt> {
        let pending = self.raw.raft.prs().get(peer.get());
        if pending.is_some_and(|progress| progress.pending_snapshot == index.get()) {
            self.snapshot_report(peer, finished)?;
        }
        Ok(())
    }

    /// How a snapshot sent to `peer` ended.
    pub(super) fn snapshot_report(&mut self, peer: ReplicaId, finished: bool) -> Result<(), Halt> {
        let status = if finished {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.raw.report_snapshot(peer.get(), status);
        self.offered.retain(|(offered, _)| *offered != peer);
        Ok(())
    }

    /// Messages to a peer may be lost: entries are probed for again, files offered again.
    pub(super) fn lost(&mut self, peer: ReplicaId) -> Result<(), Halt> {
        self.snapshot_report(peer, false)?;
        self.unreachable(peer)
    }

    /// An offer that nobody answers was lost, or its answer was.
    pub(super) fn renew_offers(&mut self) -> Result<(), Halt> {
        let now = self.ticks;
        let late = |(peer, at): &(ReplicaId, u64)| (now - at >= OFFER_TICKS).then_some(*peer);
        let late: Vec<_> = self.offered.iter().filter_map(late).collect();
        for peer in late {
            self.snapshot_report(peer, false)?;
        }
        Ok(())
    }

    /// Files were offered to a peer; the engine waits for what becomes of them.
    pub(super) fn note_offer(&mut self, peer: ReplicaId) {
        self.offered.retain(|(offered, _)| *offered != peer);
        self.offered.push((peer, self.ticks));
    }
}

impl<M: StateMachine> Shard<M> {
    /// Files came, or not: the last look before they are exchanged.
    pub(super) fn staged(&mut self, install: Install, staged: bool, out: &mut Vec<Act<M>>) {
        let replica = self.groups.get(&install.group);
        if !staged || !replica.is_some_and(|replica| replica.accepts(&install)) {
            out.push(Act::SnapshotDone(install, false));
            return;
        }
        let Some(replica) = self.groups.remove(&install.group) else {
            return;
        };
        self.dirty.remove(&install.group);
        self.ticking.remove(&install.group);
        let hard = HardState {
            term: replica.term(),
            vote: ReplicaId::new(replica.raw.raft.vote),
            commit: install.index,
        };
        self.aside.insert(install.group, replica.term());
        let (machine, status) = replica.stand_aside();
        out.push(Act::Swap(Box::new(Swap {
            install,
            hard,
            machine,
            status,
        })));
    }
}
