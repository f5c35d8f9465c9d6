//! What the engine reads of the log: the tail in memory, older entries by fetches.
//!
//! Nothing here waits for a disk. A read that may wait starts a fetch; one that may not is answered
//! with indexes, terms and kinds alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::{LogIndex, Offset, Term};
use quorate_storage::{Entry, HardState, Roller};
use raft::eraftpb;
use raft::{Error, GetEntriesContext, RaftState, Result, StorageError};

use crate::replication::engine;
use crate::replication::offsets::{Discontinuity, Place};
use crate::replication::shard::membership::Membership;
use crate::replication::tail::Tail;
use crate::replication::terms::Terms;

/// Pages kept for one group: what its peers may hold on to.
const PAGES_MAX: usize = 8;

/// The retention point: the entry before the log's first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) index: LogIndex,
    pub(super) term: Term,
}

/// Entries read for followers that are behind the tail.
#[derive(Debug, Default)]
struct Fetches {
    /// By first index: the engine's questions that wait for it.
    wanted: BTreeMap<LogIndex, Vec<GetEntriesContext>>,
    /// Of these, what nobody has begun to read yet.
    asked: BTreeSet<LogIndex>,
    pages: BTreeMap<LogIndex, Page>,
    headers_only: u64,
}

impl Fetches {
    fn pages(&self) -> usize {
        self.pages.len() + self.wanted.len() - self.asked.len()
    }
}

#[derive(Debug)]
struct Page {
    entries: Vec<Entry>,
    used: bool,
}

/// The engine's view of one replica's log.
#[derive(Debug)]
pub(super) struct Store {
    initial: (HardState, Membership),
    terms: Terms,
    point: Point,
    tail: Tail,
    /// First indexes of segments, those not written yet included, and their base offsets.
    bases: BTreeMap<LogIndex, Offset>,
    fetches: RefCell<Fetches>,
}

/// What recovery hands to a new store.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) hard: HardState,
    pub(super) membership: Membership,
    pub(super) terms: Terms,
    pub(super) point: Point,
    pub(super) bases: BTreeMap<LogIndex, Offset>,
    pub(super) place: Place,
    pub(super) roller: Roller,
}

impl Store {
    pub(super) fn new(opening: Opening) -> Self {
        Self {
            initial: (opening.hard, opening.membership),
            terms: opening.terms,
            point: opening.point,
            tail: Tail::new(opening.place, opening.roller),
            bases: opening.bases,
            fetches: RefCell::default(),
        }
    }

    /// The engine's state to begin with.
    pub(super) fn begin(&mut self, hard: HardState) {
        self.initial.0 = hard;
    }

    pub(super) const fn tail(&self) -> &Tail {
        &self.tail
    }

    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.terms.at(index)
    }

    pub(super) const fn last(&self) -> LogIndex {
        self.terms.last()
    }

    pub(super) const fn point(&self) -> Point {
        self.point
    }

    /// The base offset of the segment that begins at `index`, if one does.
    pub(super) fn segment_at(&self, index: LogIndex) -> Option<Offset> {
        self.bases.get(&index).copied()
    }

    /// Appends, forgetting what was at or behind the entry's index.
    pub(super) fn append(
        &mut self,
        entry: Entry,
        keep: bool,
    ) -> std::result::Result<(), Discontinuity> {
        let (index, term, base) = (entry.index, entry.batch.term(), entry.batch.base_offset());
        if index <= self.last() {
            self.tail.truncate(index);
            drop(self.bases.split_off(&index));
        }
        if self.tail.push(entry, keep)? {
            self.bases.insert(index, base);
        }
        self.terms.append(index, term);
        Ok(())
    }

    /// Recovery: an entry that is on disk already, in a segment known to `bases`.
    pub(super) fn recovered(
        &mut self,
        entry: Entry,
        keep: bool,
    ) -> std::result::Result<(), Discontinuity> {
        self.tail.push(entry, keep).map(drop)
    }

    /// The retention point moves up to `point`.
    pub(super) fn trim(&mut self, index: LogIndex) {
        let term = self.terms.at(index).unwrap_or(self.point.term);
        self.terms.trim(index);
        self.bases = self.bases.split_off(&index.next());
        self.point = Point { index, term };
    }

    pub(super) fn evict(&mut self, limit: LogIndex, bytes_max: usize) {
        self.tail.evict(limit, bytes_max);
    }

    pub(super) fn fill(&mut self, entry: Entry) {
        self.tail.fill(entry);
    }

    /// An entry that a message names: in the tail, or on a page that is being sent.
    pub(super) fn lookup(&self, index: LogIndex) -> Option<Entry> {
        if let Some(entry) = self.tail.entry(index) {
            return Some(entry.clone());
        }
        let fetches = self.fetches.borrow();
        let pages = fetches.pages.range(..=index).rev();
        let mut holding =
            pages.filter_map(|(_, page)| page.entries.iter().find(|e| e.index == index));
        holding.next().cloned()
    }

    /// Are there fetches to start?
    pub(super) fn is_asked(&self) -> bool {
        !self.fetches.borrow().asked.is_empty()
    }

    /// A fetch to start, unless as many as may be are under way: first index, where to stop.
    pub(super) fn next_asked(&mut self) -> Option<(LogIndex, LogIndex)> {
        let until = self.last().next();
        let fetches = self.fetches.get_mut();
        if fetches.pages() >= PAGES_MAX {
            fetches.pages.pop_first()?;
        }
        fetches.asked.pop_first().map(|from| (from, until))
    }

    /// Forgets pages that nobody reads at the moment; they are fetched again when somebody does.
    pub(super) fn drop_pages(&mut self) {
        self.fetches.get_mut().pages.clear();
    }

    /// Pages held or on their way.
    pub(super) fn pages(&self) -> usize {
        self.fetches.borrow().pages()
    }

    /// A page arrived: the engine's questions to ask again.
    pub(super) fn fetched(
        &mut self,
        from: LogIndex,
        entries: Vec<Entry>,
    ) -> Vec<GetEntriesContext> {
        // What was truncated in memory meanwhile may still be on disk.
        let current = |entry: &Entry| self.terms.at(entry.index) == Some(entry.batch.term());
        let entries: Vec<_> = entries.into_iter().take_while(current).collect();
        let fetches = self.fetches.get_mut();
        let contexts = fetches.wanted.remove(&from).unwrap_or_default();
        if !entries.is_empty() {
            fetches.pages.insert(
                from,
                Page {
                    entries,
                    used: false,
                },
            );
        }
        contexts
    }

    /// Pages that were read are gone after the messages made from them.
    pub(super) fn drop_used_pages(&mut self) {
        self.fetches.get_mut().pages.retain(|_, page| !page.used);
    }

    /// How often the engine was answered without payloads.
    pub(super) fn headers_only(&self) -> u64 {
        self.fetches.borrow().headers_only
    }

    fn collect<'a>(
        entries: impl Iterator<Item = &'a Entry>,
        high: u64,
        max: Option<u64>,
    ) -> Vec<eraftpb::Entry> {
        let (mut out, mut bytes) = (Vec::new(), 0_u64);
        for entry in entries {
            bytes = bytes.saturating_add(u64::try_from(entry.batch.len()).unwrap_or(u64::MAX));
            let full = max.is_some_and(|max| bytes > max) && !out.is_empty();
            if entry.index.get() >= high || full {
                break;
            }
            // What does not decode was never given to the engine.
            let Ok(entry) = engine::of(entry) else { break };
            out.push(entry);
        }
        out
    }

    /// Everything in the range, what is not in memory without its content.
    fn at_once(&self, low: u64, high: u64, max: Option<u64>) -> Vec<eraftpb::Entry> {
        let mut next = low;
        let mut out = Vec::new();
        while next < high {
            let cached = (next..high).map_while(|raw| self.tail.entry(LogIndex::new(raw)));
            let cached = Self::collect(cached, high, max);
            if cached.is_empty() {
                self.fetches.borrow_mut().headers_only += 1;
                let Some(header) = self.header(LogIndex::new(next)) else {
                    break;
                };
                out.push(header);
                next += 1;
            } else if max.is_some() {
                out.extend(cached);
                break;
            } else {
                next += u64::try_from(cached.len()).unwrap_or(u64::MAX);
                out.extend(cached);
            }
        }
        out
    }

    fn header(&self, index: LogIndex) -> Option<eraftpb::Entry> {
        let kind = self.tail.kind(index)?;
        Some(engine::header(index, self.terms.at(index)?, kind))
    }

    fn page(&self, low: u64, high: u64, max: Option<u64>) -> Option<Vec<eraftpb::Entry>> {
        let mut fetches = self.fetches.borrow_mut();
        let page = fetches.pages.get_mut(&LogIndex::new(low))?;
        let current = |entry: &&Entry| self.terms.at(entry.index) == Some(entry.batch.term());
        let found = Self::collect(page.entries.iter().take_while(current), high, max);
        page.used = true;
        (!found.is_empty()).then_some(found)
    }
}

impl raft::Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        let (hard, members) = &self.initial;
        let hard = eraftpb::HardState {
            term: hard.term.get(),
            vote: hard.vote.get(),
            commit: hard.commit.get(),
            ..Default::default()
        };
        Ok(RaftState::new(hard, engine::conf_state(members)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        let max = max_size.into();
        if low <= self.point.index.get() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if !context.can_async() {
            return Ok(self.at_once(low, high, max));
        }
        let cached = (low..high).map_while(|raw| self.tail.entry(LogIndex::new(raw)));
        let cached = Self::collect(cached, high, max);
        if !cached.is_empty() {
            return Ok(cached);
        }
        if let Some(page) = self.page(low, high, max) {
            return Ok(page);
        }
        let from = LogIndex::new(low);
        let mut fetches = self.fetches.borrow_mut();
        if !fetches.wanted.contains_key(&from) {
            fetches.asked.insert(from);
        }
        fetches.wanted.entry(from).or_default().push(context);
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> Result<u64> {
        let (point, index) = (self.point.index, LogIndex::new(index));
        if index < point {
            return Err(Error::Store(StorageError::Compacted));
        }
        let term = self.terms.at(index).map(Term::get);
        term.ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.point.index.next().get())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last().get())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<eraftpb::Snapshot> {
        let mut snapshot = eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.point.index.get();
        metadata.term = self.point.term.get();
        Ok(snapshot)
    }
}
