//! The Ready cycle: the engine's output in the one order that is sound.

use quorate_protocol::{
    ControlRecord, HybridTime, LogIndex, Offset, ReplicaId, Stamp, Term, control_batch,
};
use quorate_storage::{Entry, EntryKind, HardState};
use raft::eraftpb;

use crate::replication::engine;
use crate::replication::group::GroupStatus;
use crate::replication::machine::{Role, StateMachine};
use crate::replication::message::{Body, Message};
use crate::replication::shard::Halt;
use crate::replication::shard::event::{Act, ReadyNumber, WriteJob};
use crate::replication::shard::replica::{Held, Replica, Standing};
use crate::replication::ticket::{Answer, Failure};

impl<M: StateMachine> Replica<M> {
    /// Everything a touched group does in one turn. Nothing is appended for anybody while too much
    /// waits for the disk.
    pub(super) fn cycle(
        &mut self,
        now: HybridTime,
        crowded: bool,
        out: &mut Vec<Act<M>>,
    ) -> Result<(), Halt> {
        self.drain_ready(now, out)?;
        self.leave_joint(now)?;
        self.drain_ready(now, out)?;
        if !crowded {
            self.propose(now)?;
        }
        self.ask_reads();
        self.drain_ready(now, out)?;
        for peer in std::mem::take(&mut self.unsent) {
            self.raw.report_unreachable(peer.get());
        }
        let bytes_max = if self.is_alone() { 0 } else { self.limits.tail };
        self.evict(bytes_max);
        Ok(())
    }

    pub(super) fn drain_ready(
        &mut self,
        now: HybridTime,
        out: &mut Vec<Act<M>>,
    ) -> Result<(), Halt> {
        self.observe();
        while self.raw.has_ready() {
            self.ready(now, out)?;
            self.observe();
        }
        // Nothing the engine holds is unknown to the store now.
        self.staged.clear();
        self.raw.mut_store().drop_used_pages();
        self.publish();
        Ok(())
    }

    /// No step and no tick between taking a Ready and giving it back.
    fn ready(&mut self, now: HybridTime, out: &mut Vec<Act<M>>) -> Result<(), Halt> {
        let mut ready = self.raw.ready();
        let number = ReadyNumber(ready.number());
        assert!(
            ready.snapshot().is_empty(),
            "snapshots are exchanged as files, never restored"
        );
        self.confirm_reads(ready.take_read_states());
        let entries = self.take_entries(ready.entries(), now)?;
        let messages = ready.take_messages();
        self.say(&messages, out);
        let held = ready.take_persisted_messages();
        let queued = ready.must_sync() || !self.held.is_empty();
        if ready.must_sync() {
            // A commit index alone is a hint: it rides along only where state is written anyway.
            let hard = self.hard_state();
            let voted = (hard.term, hard.vote) != (self.written.term, self.written.vote);
            self.write(number, entries, voted.then_some(hard), out);
        }
        if let Some(last) = ready.take_committed_entries().last() {
            self.apply_until = LogIndex::new(last.index);
        }
        self.apply(out)?;
        let writes = ready.must_sync();
        self.raw.advance_append_async(ready);
        if queued {
            self.held.push_back(Held {
                number,
                writes,
                messages: held,
            });
        } else {
            self.raw.on_persist_ready(number.0);
            self.say(&held, out);
        }
        self.raw.advance_apply_to(self.applied.index.get());
        self.cut(out);
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        number: ReadyNumber,
        entries: Vec<Entry>,
        hard: Option<HardState>,
        out: &mut Vec<Act<M>>,
    ) {
        self.written.number = number;
        if let Some(hard) = hard {
            (self.written.term, self.written.vote) = (hard.term, hard.vote);
            self.hinted.0 = hard.commit;
        }
        out.push(Act::Write(WriteJob {
            group: self.group(),
            replica: self.identity.replica,
            epoch: self.epoch(),
            number,
            entries,
            hard,
        }));
    }

    /// The commit index in it never exceeds what the own disk holds by now.
    pub(super) fn hard_state(&self) -> HardState {
        HardState {
            term: self.term(),
            vote: ReplicaId::new(self.raw.raft.vote),
            commit: self.committed().min(self.persisted_index()),
        }
    }

    /// The engine's new entries in our form, put where the engine will read them from.
    fn take_entries(
        &mut self,
        entries: &[eraftpb::Entry],
        now: HybridTime,
    ) -> Result<Vec<Entry>, Halt> {
        let mut out = Vec::with_capacity(entries.len());
        for raw in entries {
            let entry = self.take_entry(raw, now)?;
            let appended = self.raw.mut_store().append(entry.clone(), true);
            appended.map_err(|error| Halt(error.to_string()))?;
            out.push(entry);
        }
        Ok(out)
    }

    fn take_entry(&mut self, raw: &eraftpb::Entry, now: HybridTime) -> Result<Entry, Halt> {
        let (index, term) = (LogIndex::new(raw.index), Term::new(raw.term));
        let staged = self.staged.remove(&(index, term));
        let staged =
            staged.filter(|entry| (entry.kind == EntryKind::Blank) == engine::is_blank(raw));
        match staged {
            Some(entry) => Ok(entry),
            None if engine::is_blank(raw) => self.blank(index, term, now),
            None => Err(Halt(format!("entry {index} of the engine is nobody's"))),
        }
    }

    fn blank(&self, index: LogIndex, term: Term, now: HybridTime) -> Result<Entry, Halt> {
        let before = index.get().saturating_sub(1);
        let place = self.raw.store().tail().place_at(LogIndex::new(before));
        let stamp = Stamp {
            base_offset: place.next_offset,
            term,
            append_time: now.max(place.time),
            group: self.group(),
        };
        let batch = control_batch(&ControlRecord::Blank, stamp);
        let batch = batch.map_err(|error| Halt(error.to_string()))?;
        Ok(Entry {
            index,
            kind: EntryKind::Blank,
            batch,
        })
    }

    /// A [`WriteJob`] is durable: what was said on the condition of it may leave.
    pub(super) fn persisted(
        &mut self,
        number: ReadyNumber,
        out: &mut Vec<Act<M>>,
    ) -> Result<(), Halt> {
        self.disk_full = false;
        let mut messages = Vec::new();
        let mut last = None;
        while let Some(held) = self.held.front() {
            if held.number > number && held.writes {
                break;
            }
            last = Some(held.number);
            messages.extend(
                self.held
                    .pop_front()
                    .map(|held| held.messages)
                    .unwrap_or_default(),
            );
        }
        if let Some(last) = last {
            self.raw.on_persist_ready(last.0);
            self.say(&messages, out);
        }
        Ok(())
    }

    /// The engine's messages in our words.
    fn say(&mut self, messages: &[eraftpb::Message], out: &mut Vec<Act<M>>) {
        for raw in messages {
            let to = ReplicaId::new(raw.to);
            let found = raw
                .entries
                .iter()
                .map(|entry| self.raw.store().lookup(LogIndex::new(entry.index)));
            let body = found
                .collect::<Option<Vec<_>>>()
                .and_then(|found| engine::outbound(raw, found));
            let Some(mut body) = body else {
                self.unsent.push(to);
                continue;
            };
            if let Body::VoteReply { forgetful, .. } = &mut body {
                *forgetful = self.lost;
            }
            if matches!(body, Body::Snapshot { .. }) {
                self.note_offer(to);
            }
            out.push(Act::Send(Message {
                group: self.group(),
                tag: self.identity.tag,
                from: self.identity.replica,
                to,
                term: Term::new(raw.term),
                body,
            }));
        }
    }

    /// Tells the machine about its role; ends what rested on a leadership that is over.
    fn observe(&mut self) {
        let raft = &self.raw.raft;
        let leader = (raft.leader_id != 0).then(|| ReplicaId::new(raft.leader_id));
        let role = self.role();
        let ready = role == Role::Leader && raft.apply_to_current_term();
        let now = Standing {
            role,
            term: self.term(),
            ready,
            leader,
        };
        let before = std::mem::replace(&mut self.standing, now);
        if now == before {
            return;
        }
        if before.role == Role::Leader && (role != Role::Leader || now.term != before.term) {
            self.tickets.lose(self.committed());
            if let Some((_, answer)) = self.change.take() {
                answer.settle(Err(Failure::Unknown));
            }
        }
        self.machine.role_changed(role, now.term, ready, leader);
        self.refuse_waiting();
        if ready && std::mem::take(&mut self.lost) {
            self.declare_loss();
        }
        if (role, now.term) != (before.role, before.term) {
            self.offered.clear();
            self.void_reads();
        }
        self.successor = self.successor.filter(|_| leader.is_none());
    }

    /// In front of everything else that this leader appends.
    fn declare_loss(&mut self) {
        if let Some(proposal) = self.machine.loss() {
            // Nobody waits for it.
            let (answer, _) = Answer::new(Vec::new());
            self.waiting.push_front((proposal, answer));
        }
    }

    /// Progress, then answers: whoever is answered can already read.
    fn publish(&mut self) {
        let committed = self.committed();
        let told = (committed, self.high_watermark(), self.log_start);
        if told != self.told {
            self.told = told;
            self.machine.committed(told.0, told.1, told.2);
        }
        self.tickets.settle_committed(committed);
        for (answer, reply) in self.replies.drain(..) {
            answer.settle(Ok(reply));
        }
        self.serve_reads();
        let status = self.group_status();
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    /// Committed and on the own disk: commit may run ahead of it, reads may not.
    fn high_watermark(&self) -> Offset {
        let visible = self.committed().min(self.persisted_index());
        let end = self.raw.store().tail().end_of(visible);
        end.unwrap_or(self.applied.next_offset).max(self.told.1)
    }

    fn group_status(&self) -> GroupStatus {
        GroupStatus {
            role: self.standing.role,
            term: self.standing.term,
            ready: self.standing.ready,
            leader: self.standing.leader,
            first: self.raw.store().point().index.next(),
            last: LogIndex::new(self.raw.raft.raft_log.last_index()),
            commit: self.committed(),
            applied: self.applied.index,
            disk_full: self.disk_full,
            poisoned: false,
        }
    }
}
