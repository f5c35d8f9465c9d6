//! From proposals to entries: one message to the engine per group and turn.

use quorate_protocol::{ControlRecord, HybridTime, LogIndex, Stamp, control_batch};
use quorate_storage::{Entry, EntryKind};
use raft::eraftpb;

use crate::replication::engine;
use crate::replication::machine::{Admission, Role, Seat, StateMachine};
use crate::replication::offsets;
use crate::replication::shard::Halt;
use crate::replication::shard::event::Act;
use crate::replication::shard::membership::{Change, encode_changes};
use crate::replication::shard::replica::Replica;
use crate::replication::ticket::{Answer, Failure};

impl<M: StateMachine> Replica<M> {
    /// Queues a proposal, or refuses it while nothing is appended.
    pub(super) fn offer(&mut self, proposal: M::Proposal, answer: Answer<M::Reply>) {
        match self.refusal() {
            Some(failure) => answer.settle(Err(failure)),
            None => self.waiting.push_back((proposal, answer)),
        }
    }

    pub(super) fn refusal(&self) -> Option<Failure> {
        let standing = self.standing;
        if standing.role != Role::Leader || !self.leads_as_told() {
            Some(Failure::NotLeader {
                leader: standing.leader.or(self.successor),
                term: standing.term,
            })
        } else if !standing.ready {
            Some(Failure::NotReady)
        } else if self.disk_full {
            Some(Failure::DiskFull)
        } else {
            None
        }
    }

    /// Is the leadership that the machine knows of still this one?
    pub(super) fn leads_as_told(&self) -> bool {
        self.is_leader() && self.term() == self.standing.term
    }

    /// Refuses what waits, once it cannot be appended here any more.
    pub(super) fn refuse_waiting(&mut self) {
        let Some(failure) = self.refusal() else {
            return;
        };
        for (_, answer) in self.waiting.drain(..) {
            answer.settle(Err(failure));
        }
    }

    /// Would another turn append something?
    pub(super) fn can_propose(&self) -> bool {
        let next = self.waiting.front().map(|(proposal, _)| M::size(proposal));
        next.is_some_and(|size| self.has_room(0, size)) && self.is_open()
    }

    /// During a transfer of leadership proposals wait.
    fn is_open(&self) -> bool {
        self.standing.ready && self.leads_as_told() && self.raw.raft.lead_transferee.is_none()
    }

    /// One entry always fits.
    fn has_room(&self, taken: usize, size: usize) -> bool {
        let uncommitted = self.raw.raft.uncommitted_size().saturating_add(taken);
        uncommitted == 0 || uncommitted.saturating_add(size) <= self.limits.uncommitted
    }

    fn seat(&self, now: HybridTime) -> Seat {
        let place = self.raw.store().tail().place();
        let index = LogIndex::new(self.raw.raft.raft_log.last_index());
        assert!(
            index == place.index,
            "every entry of the engine has its place before new ones"
        );
        Seat {
            group: self.group(),
            index: index.next(),
            term: self.term(),
            next_offset: place.next_offset,
            append_time: now.max(place.time),
        }
    }

    /// Appends what waits, up to one append message.
    pub(super) fn propose(&mut self, now: HybridTime) -> Result<(), Halt> {
        if self.waiting.is_empty() || !self.is_open() {
            return Ok(());
        }
        let mut seat = self.seat(now);
        let (mut entries, mut early) = (Vec::new(), Vec::new());
        let mut bytes = 0_usize;
        while let Some((proposal, answer)) = self.next_waiting(bytes, entries.is_empty()) {
            match self.machine.admit(proposal, seat) {
                Admission::Append {
                    batch,
                    reply,
                    early: at_once,
                } => {
                    let control = batch.attributes().control;
                    let kind = if control {
                        EntryKind::Control
                    } else {
                        EntryKind::Data
                    };
                    let entry = Entry {
                        index: seat.index,
                        kind,
                        batch,
                    };
                    assert!(
                        sits(&entry, &seat),
                        "the machine stamps a batch with its seat"
                    );
                    bytes = bytes.saturating_add(entry.batch.len());
                    match reply {
                        Some(reply) if at_once => early.push((seat.index, reply, answer)),
                        reply => self.tickets.add(seat.index, reply, answer),
                    }
                    (seat.index, seat.next_offset) = (seat.index.next(), offsets::end(&entry));
                    entries.push(self.stage_one(entry)?);
                }
                Admission::Join { index, reply } => self.tickets.add(index, Some(reply), answer),
                Admission::Answer(reply) => answer.settle(Ok(reply)),
            }
        }
        self.append(entries)?;
        for (index, reply, answer) in early {
            self.tickets.settle_early(index, reply, answer);
        }
        Ok(())
    }

    fn next_waiting(
        &mut self,
        bytes: usize,
        first: bool,
    ) -> Option<(M::Proposal, Answer<M::Reply>)> {
        let size = M::size(&self.waiting.front()?.0);
        let fits = first || bytes.saturating_add(size) <= self.limits.append;
        if fits && self.has_room(bytes, size) {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    /// All or nothing. Everything the engine might refuse for was looked at before.
    fn append(&mut self, entries: Vec<eraftpb::Entry>) -> Result<(), Halt> {
        if entries.is_empty() {
            return Ok(());
        }
        let message = engine::proposal(self.identity.replica, entries);
        let appended = self.raw.raft.step(message);
        appended.map_err(|error| Halt(format!("the engine dropped a proposal: {error}")))
    }

    /// Proposes a change of the members. Empty: leave the joint state.
    pub(super) fn change(
        &mut self,
        changes: &[Change],
        answer: Answer<()>,
        now: HybridTime,
        out: &mut Vec<Act<M>>,
    ) -> Result<(), Halt> {
        self.drain_ready(now, out)?;
        if let Some(failure) = self.refusal() {
            answer.settle(Err(failure));
            return Ok(());
        }
        let bytes = engine::change_bytes(changes).len();
        let busy = self.raw.raft.has_pending_conf() || self.change.is_some() || !self.is_open();
        let failure = match self.membership.judge(changes) {
            Err(why) => Some(Failure::ChangeRefused(why)),
            Ok(()) if busy || !self.has_room(0, bytes) => Some(Failure::ChangePending),
            Ok(()) => None,
        };
        if let Some(failure) = failure {
            answer.settle(Err(failure));
            return Ok(());
        }
        let index = self.append_change(changes, now)?;
        self.change = Some((index, answer));
        Ok(())
    }

    fn append_change(&mut self, changes: &[Change], now: HybridTime) -> Result<LogIndex, Halt> {
        let record = ControlRecord::Membership(encode_changes(changes));
        let entry = self.control_entry(&record, now)?;
        let index = entry.index;
        let entry = self.stage_one(entry)?;
        self.append(vec![entry])?;
        Ok(index)
    }

    fn control_entry(&self, record: &ControlRecord, now: HybridTime) -> Result<Entry, Halt> {
        let seat = self.seat(now);
        let stamp = Stamp {
            base_offset: seat.next_offset,
            term: seat.term,
            append_time: seat.append_time,
            group: seat.group,
        };
        let batch = control_batch(record, stamp).map_err(|error| Halt(error.to_string()))?;
        Ok(Entry {
            index: seat.index,
            kind: EntryKind::Membership,
            batch,
        })
    }

    /// A joint change is left by whoever leads once its own term is applied.
    pub(super) fn leave_joint(&mut self, now: HybridTime) -> Result<(), Halt> {
        let due = self.membership.joint()
            && self.is_open()
            && !self.raw.raft.has_pending_conf()
            && self.has_room(0, 0);
        if due {
            self.append_change(&[], now).map(drop)
        } else {
            Ok(())
        }
    }
}

fn sits(entry: &Entry, seat: &Seat) -> bool {
    entry.batch.base_offset() == seat.next_offset && entry.batch.term() == seat.term
}
