//! Where log positions meet record positions: the one place that translates one into the other.
//!
//! Entries that are not data take an index and no offset, so the two run apart.

use quorate_protocol::{HybridTime, LogIndex, Offset};
use quorate_storage::{Entry, EntryKind};

/// The end of a log: what its next entry must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The last entry.
    pub(super) index: LogIndex,
    /// The base offset of the next batch.
    pub(super) next_offset: Offset,
    /// The last entry's append time.
    pub(super) time: HybridTime,
}

/// An entry that does not continue the log it is appended to: state was lost somewhere.
#[derive(Debug, thiserror::Error)]
#[error("entry {index} begins at offset {found}, the log continues at {expected}")]
pub(super) struct Discontinuity {
    index: LogIndex,
    found: Offset,
    expected: Offset,
}

impl Place {
    /// The end after one more entry.
    pub(super) fn after(&self, entry: &Entry) -> Result<Self, Discontinuity> {
        let found = entry.batch.base_offset();
        if found != self.next_offset || entry.index != self.index.next() {
            let (index, expected) = (entry.index, self.next_offset);
            return Err(Discontinuity {
                index,
                found,
                expected,
            });
        }
        Ok(Self {
            index: entry.index,
            next_offset: end(entry),
            time: self.time.max(entry.batch.append_time()),
        })
    }
}

/// The offset behind an entry: for a reader everything below it is then in the log.
pub(super) fn end(entry: &Entry) -> Offset {
    match entry.kind {
        EntryKind::Data => entry.batch.next_offset(),
        _ => entry.batch.base_offset(),
    }
}
