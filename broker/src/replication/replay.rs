//! Applying again what a checkpoint does not cover.
//!
//! Ends at the first entry that may not be committed, and before the first membership entry: what
//! follows comes again through the engine.

use std::collections::BTreeMap;

use quorate_protocol::{LogIndex, Offset, ReplicaId, Term};
use quorate_storage::{Checkpoint, Entry, EntryKind, HardState, Recovery, Roller, frame_len};

use crate::replication::machine::StateMachine;
use crate::replication::offsets::Place;
use crate::replication::recovery::{Context, Files, OpenError, Recovered};
use crate::replication::shard::membership::Membership;
use crate::replication::store::{Opening, Point, Store};
use crate::replication::terms::Terms;

/// Bytes read at once.
const CHUNK: usize = 4 << 20;

/// The state of a replay.
pub(super) struct Replay<'a, M> {
    context: &'a Context<'a>,
    files: &'a Files,
    recovery: Recovery,
    saved: HardState,
    machine: M,
    membership: Membership,
    bases: BTreeMap<LogIndex, Offset>,
    applied: Place,
    roller: Roller,
    commit: LogIndex,
    /// All of the log is committed so far, because only this replica's vote counts.
    sole: bool,
    log_start: Offset,
    trim: Option<LogIndex>,
    checkpoint: LogIndex,
    store: Option<Store>,
    changes: Vec<LogIndex>,
    room: usize,
}

impl<'a, M: StateMachine> Replay<'a, M> {
    pub(super) fn new(
        context: &'a Context<'a>,
        files: &'a Files,
        recovery: Recovery,
        saved: HardState,
        mut machine: M,
        room: usize,
    ) -> Result<Self, OpenError> {
        let newest = &recovery.newest;
        machine
            .restore(&newest.state)
            .map_err(|error| context.state(error))?;
        let membership =
            Membership::decode(&newest.membership).map_err(|error| context.state(error))?;
        let segments = files.reader.segments();
        let point = recovery.first_index.prev();
        Ok(Self {
            context,
            files,
            saved,
            machine,
            bases: segments
                .iter()
                .map(|segment| (segment.base_index, segment.base_offset))
                .collect(),
            applied: Place {
                index: newest.index,
                next_offset: newest.next_offset,
                time: newest.last_time,
            },
            roller: recovery.roller,
            commit: saved
                .commit
                .max(newest.index)
                .clamp(point, recovery.last_index),
            sole: membership.sole_voter(recovery.identity.replica),
            membership,
            log_start: newest.log_start.max(files.reader.log_start()),
            trim: None,
            checkpoint: newest.index,
            store: None,
            changes: Vec::new(),
            room,
            recovery,
        })
    }

    pub(super) fn run(mut self) -> Result<Recovered<M>, OpenError> {
        self.resume_trim();
        self.rewind_roller()?;
        let mut next = self.applied.index.next();
        while next <= self.recovery.last_index {
            for entry in self.read(next)? {
                next = entry.index.next();
                self.take(entry)?;
            }
        }
        Ok(self.finish())
    }

    fn read(&self, from: LogIndex) -> Result<Vec<Entry>, OpenError> {
        let end = self.recovery.last_index.next();
        let entries = self.files.reader.entries(from, end, CHUNK);
        let entries = entries.map_err(|error| self.context.storage(error))?;
        if entries.is_empty() {
            return Err(self.context.state(format!("entry {from} is missing")));
        }
        Ok(entries)
    }

    /// The checkpoint knows of a start that the files do not have yet: removing them was interrupted.
    fn resume_trim(&mut self) {
        let behind = self.files.reader.log_start() < self.log_start;
        let point = |base: &LogIndex| base.prev();
        let starts = self
            .bases
            .iter()
            .filter(|(_, offset)| **offset <= self.log_start);
        let mut points = starts.map(|(base, _)| point(base)).rev();
        self.trim = points
            .find(|point| self.recovery.checkpoints.contains(point))
            .filter(|point| behind && *point <= self.applied.index);
    }

    /// The checkpoint need not stand at a roll any more: finds how full the segment is behind it.
    fn rewind_roller(&mut self) -> Result<(), OpenError> {
        if self.applied.index >= self.recovery.last_index {
            return Ok(());
        }
        let until = self.applied.index.next();
        let base = self
            .bases
            .range(..=until)
            .next_back()
            .map_or(until, |(base, _)| *base);
        self.roller = Roller::new(self.context.log.segment_bytes, self.context.log.segment_age);
        let mut next = base;
        while next < until {
            for entry in self.read(next)? {
                next = entry.index.next();
                if entry.index < until {
                    self.roller
                        .note(frame_len(entry.batch.len()), entry.batch.append_time());
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry) -> Result<(), OpenError> {
        let change = entry.kind == EntryKind::Membership;
        if change {
            self.changes.push(entry.index);
        }
        let committed = self.sole || entry.index <= self.commit;
        if committed && !change && self.store.is_none() {
            return self.apply(&entry);
        }
        // A sole voter's first change is committed too, what follows it is a matter of more voters.
        if self.sole {
            self.commit = self.commit.max(entry.index);
            self.sole = false;
        }
        self.keep(entry)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), OpenError> {
        if self.bases.contains_key(&entry.index) && self.applied.index > self.checkpoint {
            self.save()?;
        }
        self.applied = self
            .applied
            .after(entry)
            .map_err(|error| self.context.state(error))?;
        self.roller
            .note(frame_len(entry.batch.len()), entry.batch.append_time());
        if let Some(point) = self.machine.apply(entry).trim {
            self.note_trim(point);
        }
        Ok(())
    }

    fn note_trim(&mut self, point: LogIndex) {
        let newer = point >= self.recovery.first_index && self.trim.is_none_or(|old| old < point);
        let Some(start) = self.bases.get(&point.next()).filter(|_| newer) else {
            return;
        };
        self.log_start = self.log_start.max(*start);
        self.trim = Some(point);
    }

    /// A checkpoint that the last run did not get to.
    fn save(&mut self) -> Result<(), OpenError> {
        let index = self.applied.index;
        let segments = self.files.reader.segments();
        let Some(segment) = segments.iter().find(|segment| segment.last_index == index) else {
            return Ok(());
        };
        let terms = self.terms();
        let checkpoint = Checkpoint {
            index,
            term: terms.at(index).unwrap_or_default(),
            membership: self.membership.encode(),
            next_offset: self.applied.next_offset,
            last_time: self.applied.time,
            log_start: self.log_start,
            chain: segment.chain,
            state: self.machine.checkpoint(),
        };
        self.files
            .checkpoints
            .write(&checkpoint)
            .map_err(|error| self.context.storage(error))?;
        self.checkpoint = index;
        Ok(())
    }

    fn terms(&self) -> Terms {
        Terms::new(self.recovery.terms.clone(), self.recovery.last_index)
    }

    fn keep(&mut self, entry: Entry) -> Result<(), OpenError> {
        let bytes = entry.batch.len();
        let keep = bytes <= self.room;
        // Once an entry is left out, so are all behind it.
        self.room = if keep { self.room - bytes } else { 0 };
        let mut store = self.store.take().unwrap_or_else(|| self.new_store());
        let kept = store
            .recovered(entry, keep)
            .map_err(|error| self.context.state(error));
        self.store = Some(store);
        kept
    }

    fn new_store(&self) -> Store {
        let terms = self.terms();
        let index = terms.first();
        Store::new(Opening {
            hard: self.saved,
            membership: self.membership.clone(),
            point: Point {
                index,
                term: terms.at(index).unwrap_or_default(),
            },
            terms,
            bases: self.bases.clone(),
            place: self.applied,
            roller: self.roller,
        })
    }

    /// The term cannot be below the last entry's; all changes but the last are committed, because
    /// each was proposed when the one before was applied.
    fn hard(&self) -> HardState {
        let last = self.recovery.last_index;
        let last_term = self.terms().at(last).unwrap_or_default();
        let term = self.saved.term.max(last_term).max(Term::new(1));
        let vote = if term == self.saved.term {
            self.saved.vote
        } else {
            ReplicaId::new(0)
        };
        let known = self
            .changes
            .iter()
            .rev()
            .nth(1)
            .copied()
            .unwrap_or_default();
        let sole = if self.sole { last } else { self.commit };
        let commit = self.commit.max(known).max(sole).max(self.applied.index);
        HardState { term, vote, commit }
    }

    fn finish(mut self) -> Recovered<M> {
        let hard = self.hard();
        let mut store = self.store.take().unwrap_or_else(|| self.new_store());
        store.begin(hard);
        if let Some(point) = self.trim {
            store.trim(point);
        }
        Recovered {
            identity: self.recovery.identity,
            store,
            machine: self.machine,
            membership: self.membership,
            applied: self.applied,
            log_start: self.log_start,
            checkpoint: self.checkpoint,
            trim: self.trim,
            saved: self.saved,
            lost: false,
        }
    }
}
