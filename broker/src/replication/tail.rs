//! The young end of the log, in memory.
//!
//! Holds a slot for every entry that is not applied or not durable yet, and the entries themselves
//! unless recovery found more of them than memory is given for.

use std::collections::VecDeque;

use quorate_protocol::{LogIndex, Offset};
use quorate_storage::{Entry, EntryKind, Roller, frame_len};

use crate::replication::offsets::{Discontinuity, Place, end};

/// One entry of the tail.
#[derive(Debug)]
struct Slot {
    kind: EntryKind,
    bytes: usize,
    end: Offset,
    /// The place and the segment's fill behind this entry.
    place: Place,
    roller: Roller,
    /// None: on disk only.
    entry: Option<Entry>,
}

/// Contiguous slots up to the end of the log.
#[derive(Debug)]
pub(super) struct Tail {
    slots: VecDeque<Slot>,
    /// The state before the first slot.
    before: (Place, Roller),
    bytes: usize,
}

impl Tail {
    /// An empty tail behind `place`.
    pub(super) fn new(place: Place, roller: Roller) -> Self {
        Self {
            slots: VecDeque::new(),
            before: (place, roller),
            bytes: 0,
        }
    }

    /// The first index with a slot; behind the end if there is none.
    pub(super) fn first(&self) -> LogIndex {
        self.before.0.index.next()
    }

    /// The end of the log.
    pub(super) fn place(&self) -> Place {
        self.slots.back().map_or(self.before.0, |slot| slot.place)
    }

    /// Memory held by entries.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory held by entries behind `index`.
    pub(super) fn bytes_behind(&self, index: LogIndex) -> usize {
        let young = self.slots.iter().rev();
        let young = young.take_while(|slot| slot.place.index > index);
        let held = young.filter(|slot| slot.entry.is_some());
        held.map(|slot| slot.bytes).sum()
    }

    fn position(&self, index: LogIndex) -> Option<usize> {
        let distance = index.get().checked_sub(self.first().get())?;
        usize::try_from(distance)
            .ok()
            .filter(|at| *at < self.slots.len())
    }

    fn slot(&self, index: LogIndex) -> Option<&Slot> {
        self.slots.get(self.position(index)?)
    }

    /// The entry at `index`, if it is in memory.
    pub(super) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.slot(index)?.entry.as_ref()
    }

    /// The kind of the entry at `index`, in memory or not.
    pub(super) fn kind(&self, index: LogIndex) -> Option<EntryKind> {
        self.slot(index).map(|slot| slot.kind)
    }

    /// The offset behind the entry at `index`.
    pub(super) fn end_of(&self, index: LogIndex) -> Option<Offset> {
        self.slot(index).map(|slot| slot.end)
    }

    /// The place behind the entry at `index`, which is in the tail or just before it.
    pub(super) fn place_at(&self, index: LogIndex) -> Place {
        let place = self.slot(index).map_or(self.before.0, |slot| slot.place);
        assert!(
            place.index == index,
            "only places in the tail are asked for"
        );
        place
    }

    /// Forgets the entry at `index` and all behind it. Entries below the tail must stay.
    pub(super) fn truncate(&mut self, index: LogIndex) {
        assert!(
            index >= self.first(),
            "an entry that is applied and durable is never replaced"
        );
        let keep = self.position(index).unwrap_or(self.slots.len());
        for slot in self.slots.drain(keep..) {
            self.bytes -= slot.entry.map_or(0, |_| slot.bytes);
        }
    }

    /// Appends behind the end; `keep` holds the entry itself. Answers whether it begins a segment.
    pub(super) fn push(&mut self, entry: Entry, keep: bool) -> Result<bool, Discontinuity> {
        let (place, mut roller) = self
            .slots
            .back()
            .map_or(self.before, |slot| (slot.place, slot.roller));
        let place = place.after(&entry)?;
        let begins_segment = roller.note(frame_len(entry.batch.len()), entry.batch.append_time());
        let bytes = entry.batch.len();
        self.bytes += if keep { bytes } else { 0 };
        let (kind, end) = (entry.kind, end(&entry));
        let entry = keep.then_some(entry);
        self.slots.push_back(Slot {
            kind,
            bytes,
            end,
            place,
            roller,
            entry,
        });
        Ok(begins_segment)
    }

    /// Takes an entry that was read back from disk.
    pub(super) fn fill(&mut self, entry: Entry) {
        let Some(at) = self.position(entry.index) else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.entry.is_none()) {
            self.bytes += slot.bytes;
            slot.entry = Some(entry);
        }
    }

    /// Drops slots up to `limit` from the old end while more than `bytes_max` are held.
    pub(super) fn evict(&mut self, limit: LogIndex, bytes_max: usize) {
        while self.bytes > bytes_max || self.slots.front().is_some_and(|slot| slot.entry.is_none())
        {
            let Some(slot) = self.slots.front().filter(|slot| slot.place.index <= limit) else {
                return;
            };
            self.bytes -= slot.entry.as_ref().map_or(0, |_| slot.bytes);
            self.before = (slot.place, slot.roller);
            self.slots.pop_front();
        }
    }
}
