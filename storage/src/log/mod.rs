//! The log of one replica: a directory of segments, with one writer and any number of readers.
//!
//! Appending has two steps: the caller fixes the order, the writer makes it durable. The writer runs on
//! [`Lane::Flush`](crate::Lane::Flush) and is exclusive; readers see what was written and never block it.

mod check;
mod create;
mod error;
mod fetch;
mod fill;
mod open;
mod reader;
mod recovery;
mod sealed;
mod segment_state;
mod shared;
mod transfer;
mod truncate;
mod unflushed;
mod writer;

pub(crate) use create::holds_entries;
pub use create::{create_log, log_exists, log_identity};
pub use error::{CreateError, OpenError, ReadError, TrimError, WriteError};
pub use open::{Opened, Recovery, TornTail, open_log};
pub use reader::{LogReader, ReadMode, ReadOutcome, SegmentInfo};
pub use transfer::{
    Arrived, Proof, ShipError, Shipment, StageError, Staging, SwapError, discard_incoming,
    reopen_log, swap_log,
};
pub use unflushed::{may_have_lost, note_flushed, note_unflushed};
pub use writer::LogWriter;

use std::time::Duration;

use quorate_protocol::ByteSize;
use quorate_protocol::{GroupId, GroupTag, ReplicaId};

/// Settings of a log that decide where its segments end; equal on all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// A segment ends before the entry that would pass this length.
    pub segment_bytes: ByteSize,
    /// A segment ends before an entry this much younger than its first; zero sets no limit.
    pub segment_age: Duration,
}

impl LogConfig {
    /// Position up to which a segment is prepared ahead.
    pub(crate) fn fill_limit(&self) -> u64 {
        self.segment_bytes.get()
    }
}

/// Whose log it is; a replica speaks only under the identity found on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogIdentity {
    /// The Raft group.
    pub group: GroupId,
    /// Distinguishes incarnations of that group.
    pub tag: GroupTag,
    /// This replica.
    pub replica: ReplicaId,
}
