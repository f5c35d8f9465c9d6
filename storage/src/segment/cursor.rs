//! A place between two entries, and the checks a frame must pass to follow it.

use quorate_protocol::{HybridTime, LogIndex, Offset, Term};

use super::{BatchSummary, FRAME_LEN, Frame, PAGE, SegmentHeader};
use crate::entry::EntryKind;

/// What is known of the log up to a position of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cursor {
    /// Where the next frame begins.
    pub(crate) position: u64,
    pub(crate) next_index: LogIndex,
    pub(crate) next_offset: Offset,
    /// Chain value of the frame before.
    pub(crate) chain: u32,
    /// Term of the entry before; zero if not known.
    pub(crate) term: Term,
    /// Time of the entry before; zero if not known.
    pub(crate) time: HybridTime,
}

impl Cursor {
    /// Before the first frame of a segment.
    pub(crate) fn start(header: &SegmentHeader, time: HybridTime) -> Self {
        Self {
            position: PAGE,
            next_index: header.base_index,
            next_offset: header.base_offset,
            chain: header.chain_seed,
            term: header.term_before,
            time,
        }
    }

    /// Index of the entry before.
    pub(crate) fn last_index(&self) -> LogIndex {
        self.next_index.prev()
    }

    /// Checks that `bytes` begins with the frame and batch header that belong here. The batch's body is
    /// not looked at, and may be cut off.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(Frame, BatchSummary), &'static str> {
        let frame = Frame::decode(bytes)?;
        let batch = bytes
            .get(FRAME_LEN..)
            .and_then(BatchSummary::decode)
            .ok_or("a batch header fails its checksum")?;
        if frame.index != self.next_index {
            return Err("a frame has the wrong index");
        }
        if frame.chain != frame.chain_after(self.chain, batch.header_crc, batch.body_crc) {
            return Err("a frame does not continue the chain");
        }
        if frame.kind == EntryKind::Data && batch.base_offset != self.next_offset {
            return Err("a batch has the wrong offset");
        }
        if batch.term < self.term {
            return Err("a term is lower than the one before");
        }
        Ok((frame, batch))
    }

    /// Moves behind a checked frame.
    pub(crate) fn pass(&mut self, frame: &Frame, batch: &BatchSummary) {
        self.position = self.position.saturating_add(frame.total_len());
        self.next_index = frame.index.next();
        if frame.kind == EntryKind::Data {
            let count = u64::from(batch.record_count);
            self.next_offset = Offset::new(batch.base_offset.get().saturating_add(count));
        }
        self.chain = frame.chain;
        self.term = batch.term;
        self.time = batch.time;
    }
}
