//! The unit of the log: one Raft entry holding one record batch.

use quorate_protocol::LogIndex;
use quorate_protocol::RecordBatch;
use quorate_protocol::{Offset, Term};

/// What an entry carries. Only data entries take offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// Records of producers.
    Data,
    /// A new leader's first entry.
    Blank,
    /// A change of the group's members.
    Membership,
    /// Any other control record.
    Control,
}

impl EntryKind {
    /// Its number on disk.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Blank => 1,
            Self::Membership => 2,
            Self::Control => 3,
        }
    }

    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Data),
            1 => Some(Self::Blank),
            2 => Some(Self::Membership),
            3 => Some(Self::Control),
            _ => None,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its position.
    pub index: LogIndex,
    /// What the batch is.
    pub kind: EntryKind,
    /// The stamped batch, which also holds the entry's term.
    pub batch: RecordBatch,
}

impl Entry {
    /// The term in which a leader made it.
    #[must_use]
    pub fn term(&self) -> Term {
        self.batch.term()
    }

    /// The offset behind the entry, given the one before it: only data moves it.
    #[must_use]
    pub fn next_offset(&self, before: Offset) -> Offset {
        match self.kind {
            EntryKind::Data => self.batch.next_offset(),
            _ => before,
        }
    }
}
