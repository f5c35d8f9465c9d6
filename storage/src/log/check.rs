//! What entries must fulfil before the log is changed for them: what is written must be found good again
//! by the next recovery.

use quorate_protocol::{BATCH_BYTES_MAX, LogIndex, Offset, Term};

use super::shared::State;
use super::writer::LogWriter;
use crate::entry::{Entry, EntryKind};
use crate::file::Fault;
use crate::segment::Cursor;

/// Why entries are not written.
#[derive(Debug)]
pub(crate) enum Refusal {
    Invalid { index: LogIndex, why: &'static str },
    Fault(Fault),
}

/// A place between two entries.
#[derive(Clone, Copy, Debug)]
struct Place {
    next_index: LogIndex,
    next_offset: Offset,
    term: Term,
}

impl From<Cursor> for Place {
    fn from(cursor: Cursor) -> Self {
        Self {
            next_index: cursor.next_index,
            next_offset: cursor.next_offset,
            term: cursor.term,
        }
    }
}

impl Place {
    fn check(&self, entry: &Entry) -> Result<Self, &'static str> {
        let batch = &entry.batch;
        if entry.kind == EntryKind::Data && batch.base_offset() != self.next_offset {
            return Err("its offset does not follow the one before");
        }
        if batch.term() < self.term {
            return Err("its term is lower than the one before");
        }
        Ok(Self {
            next_index: entry.index.next(),
            next_offset: entry.next_offset(self.next_offset),
            term: batch.term(),
        })
    }
}

impl LogWriter {
    /// Checks everything that can be wrong with entries. Nothing is changed.
    pub(crate) fn check(&self, entries: &[Entry]) -> Result<(), Refusal> {
        let (first, end) = {
            let state: &State = &self.shared.state.read();
            (state.first_index(), state.active.end)
        };
        let mut passed = vec![Place::from(end)];
        for entry in entries {
            let refuse = |why| Refusal::Invalid {
                index: entry.index,
                why,
            };
            self.check_alone(entry).map_err(refuse)?;
            if entry.index < first {
                return Err(refuse("it would replace an entry that is trimmed away"));
            }
            while passed
                .last()
                .is_some_and(|place| place.next_index > entry.index)
            {
                passed.pop();
            }
            let place = match passed.last() {
                Some(place) if place.next_index == entry.index => *place,
                Some(_) => return Err(refuse("its index does not follow the one before")),
                None => self
                    .place_before(entry.index)
                    .map_err(Refusal::Fault)?
                    .into(),
            };
            passed.push(place.check(entry).map_err(refuse)?);
        }
        Ok(())
    }

    fn check_alone(&self, entry: &Entry) -> Result<(), &'static str> {
        if entry.batch.attributes().control == (entry.kind == EntryKind::Data) {
            return Err("its kind does not fit its batch");
        }
        if entry.batch.len() > BATCH_BYTES_MAX {
            return Err("its batch is longer than the format allows");
        }
        if entry.batch.group() != self.shared.identity.group {
            return Err("its batch belongs to another group");
        }
        Ok(())
    }
}
