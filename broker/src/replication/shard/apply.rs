//! Committed entries: applied once, in order; checkpoints and retention follow from them.

use quorate_protocol::{ControlRecord, LogIndex};
use quorate_storage::{Entry, EntryKind};

use crate::replication::engine;
use crate::replication::machine::StateMachine;
use crate::replication::shard::Halt;
use crate::replication::shard::event::{Act, CheckpointJob, FetchJob};
use crate::replication::shard::membership;
use crate::replication::shard::replica::Replica;
use crate::replication::ticket::Failure;

impl<M: StateMachine> Replica<M> {
    /// Applies what was given for it, as far as it is in memory.
    pub(super) fn apply(&mut self, out: &mut Vec<Act<M>>) -> Result<(), Halt> {
        while self.applied.index < self.apply_until {
            let index = self.applied.index.next();
            let Some(entry) = self.raw.store().tail().entry(index).cloned() else {
                self.fetch_to_apply(index, out);
                return Ok(());
            };
            self.apply_one(&entry, out)?;
        }
        Ok(())
    }

    fn apply_one(&mut self, entry: &Entry, out: &mut Vec<Act<M>>) -> Result<(), Halt> {
        let place = self
            .applied
            .after(entry)
            .map_err(|error| Halt(error.to_string()))?;
        let applied = self.machine.apply(entry);
        self.applied = place;
        self.lost = self.lost && !declares_loss(entry);
        if let Some(answer) = self.tickets.applied(entry.index) {
            match applied.reply {
                Some(reply) => self.replies.push((answer, reply)),
                None => answer.settle(Err(Failure::Unknown)),
            }
        }
        if entry.kind == EntryKind::Membership {
            self.apply_change(entry, out)?;
        }
        if let Some(point) = applied.trim {
            self.trim(point, out);
        }
        self.cut(out);
        Ok(())
    }

    fn apply_change(&mut self, entry: &Entry, out: &mut Vec<Act<M>>) -> Result<(), Halt> {
        let changes = membership::of_entry(entry).map_err(|error| Halt(error.to_string()))?;
        // What the engine refuses, it refuses on every replica.
        if let Ok(state) = self.raw.apply_conf_change(&engine::conf_change(&changes)) {
            self.membership = engine::members(&state);
        }
        if let Some((_, answer)) = self.change.take_if(|change| change.0 <= entry.index) {
            answer.settle(Ok(()));
        }
        // Whoever knows a change must know after a restart that the one before is committed.
        let hard = self.hard_state();
        self.write(self.written.number, Vec::new(), Some(hard), out);
        Ok(())
    }

    fn fetch_to_apply(&mut self, from: LogIndex, out: &mut Vec<Act<M>>) {
        if self.apply_fetch.is_none() {
            self.apply_fetch = Some(from);
            out.push(Act::Fetch(self.fetch_job(from, self.apply_until.next())));
        }
    }

    const fn fetch_job(&self, from: LogIndex, until: LogIndex) -> FetchJob {
        let (group, epoch) = (self.identity.group, self.opening);
        FetchJob {
            group,
            epoch,
            from,
            until,
            bytes_max: self.limits.page,
        }
    }

    /// Starts reads that the engine asked for, at most `pages`.
    pub(super) fn fetch(&mut self, pages: usize, out: &mut Vec<Act<M>>) {
        for _ in 0..pages {
            let Some((from, until)) = self.raw.mut_store().next_asked() else {
                return;
            };
            out.push(Act::Fetch(self.fetch_job(from, until)));
        }
    }

    /// Entries came from disk: for the engine, for applying, or both.
    pub(super) fn fetched(
        &mut self,
        from: LogIndex,
        entries: Result<Vec<Entry>, Halt>,
        out: &mut Vec<Act<M>>,
    ) -> Result<(), Halt> {
        let entries = match entries {
            Ok(entries) => entries,
            Err(halt) => return self.doom(halt),
        };
        if self.apply_fetch.take_if(|wanted| *wanted == from).is_some() {
            let known =
                |entry: &&Entry| self.raw.store().term_at(entry.index) == Some(entry.batch.term());
            for entry in entries
                .iter()
                .take_while(known)
                .cloned()
                .collect::<Vec<_>>()
            {
                self.raw.mut_store().fill(entry);
            }
            self.apply(out)?;
            self.raw.advance_apply_to(self.applied.index.get());
        }
        for context in self.raw.mut_store().fetched(from, entries) {
            self.raw.on_entries_fetched(context);
        }
        Ok(())
    }

    /// A checkpoint when exactly the last entry of a segment is applied.
    pub(super) fn cut(&mut self, out: &mut Vec<Act<M>>) {
        let index = self.applied.index;
        if self.checkpoints.0 >= index || self.raw.store().segment_at(index.next()).is_none() {
            return;
        }
        let Some(term) = self.raw.store().term_at(index) else {
            return;
        };
        self.checkpoints.0 = index;
        out.push(Act::Checkpoint(CheckpointJob {
            group: self.group(),
            epoch: self.epoch(),
            index,
            term,
            membership: self.membership.encode(),
            next_offset: self.applied.next_offset,
            last_time: self.applied.time,
            log_start: self.log_start,
            state: self.machine.checkpoint(),
        }));
    }

    /// The log starts behind `point` from here on, if a segment ends there that cannot be undone.
    fn trim(&mut self, point: LogIndex, out: &mut Vec<Act<M>>) {
        let store = self.raw.store();
        if point <= store.point().index || point >= self.applied.index {
            return;
        }
        let Some(start) = store.segment_at(point.next()) else {
            return;
        };
        self.log_start = self.log_start.max(start);
        self.raw.mut_store().trim(point);
        self.unlink = Some(point);
        self.unlink(out);
    }

    pub(super) fn checkpointed(
        &mut self,
        index: LogIndex,
        out: &mut Vec<Act<M>>,
    ) -> Result<(), Halt> {
        self.checkpoints.1 = self.checkpoints.1.max(index);
        self.unlink(out);
        Ok(())
    }

    /// Files go once the checkpoint that replaces them is durable.
    pub(super) fn unlink(&mut self, out: &mut Vec<Act<M>>) {
        let durable = self.checkpoints.1;
        if let Some(point) = self.unlink.take_if(|point| *point <= durable) {
            out.push(Act::Trim(self.group(), point));
        }
    }
}

/// Does the entry say that something was lost?
fn declares_loss(entry: &Entry) -> bool {
    entry.kind == EntryKind::Control
        && matches!(
            ControlRecord::decode(&entry.batch),
            Ok(ControlRecord::DataLoss { .. })
        )
}
