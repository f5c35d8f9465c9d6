//! One read of a segment: planned from the index, done in one system call, walked with every check.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::RecordBatch;
use quorate_protocol::{HybridTime, LogIndex, Offset};

use super::reader::ReadMode;
use super::segment_state::Segment;
use super::shared::State;
use crate::entry::{Entry, EntryKind};
use crate::file::File;
use crate::index::{IndexEntry, STRIDE};
use crate::layout::in_memory;
use crate::segment::{BatchSummary, Cursor, FRAME_LEN, Frame};

/// Most bytes one read takes, a single longer batch apart.
const READ_BYTES_MAX: u64 = 16 << 20;

/// What a read looks for: the first frame wanted is behind `start`, the last before `stop`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    Offsets(Offset, Offset),
    Entries(LogIndex, LogIndex),
    Time(HybridTime),
}

impl Wanted {
    fn may_begin_at(&self, entry: &IndexEntry) -> bool {
        match self {
            Self::Offsets(from, _) => entry.offset <= *from,
            Self::Entries(from, _) => entry.index <= *from,
            Self::Time(time) => entry.time < *time,
        }
    }

    fn goes_on_at(&self, entry: &IndexEntry) -> bool {
        match self {
            Self::Offsets(_, until) => entry.offset < *until,
            Self::Entries(_, to) => entry.index < *to,
            Self::Time(_) => true,
        }
    }
}

/// A stretch of whole frames.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) path: PathBuf,
    pub(crate) base: LogIndex,
    pub(crate) sealed: bool,
    pub(crate) epoch: u64,
    pub(crate) start: Cursor,
    pub(crate) end: u64,
    file: Arc<dyn File>,
}

/// How a segment can be read.
#[derive(Debug)]
pub(crate) enum Plan {
    Span(Span),
    /// Its index has to be loaded first.
    Cold(LogIndex),
}

impl Plan {
    /// Plans the read of about `bytes_max` bytes, always at least to the next indexed frame.
    pub(crate) fn new(state: &State, segment: &Segment, wanted: &Wanted, bytes_max: usize) -> Self {
        let Some(loaded) = &segment.loaded else {
            return Self::Cold(segment.header.base_index);
        };
        let entries = loaded.index.since_last(|entry| wanted.may_begin_at(entry));
        let start = entries.first().map_or_else(
            || Cursor::start(&segment.header, HybridTime::new(0)),
            IndexEntry::cursor,
        );
        let rest = entries.get(1..).unwrap_or_default();
        let budget = (bytes_max as u64)
            .min(READ_BYTES_MAX)
            .saturating_add(STRIDE);
        let limit = start.position.saturating_add(budget);
        let within = rest.partition_point(|entry| entry.position() <= limit);
        let asked = rest.partition_point(|entry| wanted.goes_on_at(entry));
        let end = if asked < within {
            rest.get(asked)
        } else if segment.end.position <= limit {
            None
        } else {
            rest.get(within.saturating_sub(1))
        };
        Self::Span(Span {
            path: segment.path.clone(),
            base: segment.header.base_index,
            sealed: segment.sealed,
            epoch: state.epoch,
            start,
            end: end.map_or(segment.end.position, IndexEntry::position),
            file: Arc::clone(&loaded.file),
        })
    }
}

impl Span {
    /// Reads the stretch; `None` if the device would have to be waited for. The answer is short if the
    /// file is.
    pub(crate) fn read(&self, mode: ReadMode) -> std::io::Result<Option<Bytes>> {
        let len = self.end.saturating_sub(self.start.position);
        let mut page = vec![0; in_memory(len)];
        let count = match mode {
            ReadMode::Blocking => self.file.read_at(&mut page, self.start.position)?,
            ReadMode::NoWait => match self.file.read_at_nowait(&mut page, self.start.position)? {
                Some(count) if count == page.len() => count,
                _ => return Ok(None),
            },
        };
        page.truncate(count);
        Ok(Some(Bytes::from(page)))
    }

    /// The frames of what was read.
    pub(crate) fn frames(&self, page: Bytes) -> Frames {
        Frames {
            page,
            at: 0,
            cursor: self.start,
            end: self.end,
        }
    }
}

/// A frame whose header, chain and batch header were checked.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) frame: Frame,
    pub(crate) summary: BatchSummary,
    batch: Bytes,
}

impl Found {
    pub(crate) fn next_offset(&self) -> Offset {
        let count = u64::from(self.summary.record_count);
        Offset::new(self.summary.base_offset.get().saturating_add(count))
    }

    pub(crate) fn is_data(&self) -> bool {
        self.frame.kind == EntryKind::Data
    }

    pub(crate) fn batch_len(&self) -> usize {
        self.frame.batch_len
    }

    /// Checks the body too.
    pub(crate) fn batch(self) -> Result<RecordBatch, (u64, &'static str)> {
        let wrong = (self.position, "a batch fails its checksum");
        RecordBatch::parse(self.batch).map_err(|_| wrong)
    }

    pub(crate) fn entry(self) -> Result<Entry, (u64, &'static str)> {
        let (index, kind) = (self.frame.index, self.frame.kind);
        Ok(Entry {
            index,
            kind,
            batch: self.batch()?,
        })
    }
}

/// Iterates over the frames of a page; an error ends it.
#[derive(Debug)]
pub(crate) struct Frames {
    page: Bytes,
    at: usize,
    cursor: Cursor,
    end: u64,
}

impl Iterator for Frames {
    type Item = Result<Found, (u64, &'static str)>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.cursor.position;
        if position >= self.end {
            return None;
        }
        let found = self.take().map_err(|why| {
            self.end = 0;
            (position, why)
        });
        Some(found)
    }
}

impl Frames {
    fn take(&mut self) -> Result<Found, &'static str> {
        let position = self.cursor.position;
        let rest = self.page.get(self.at..).unwrap_or_default();
        let (frame, summary) = self.cursor.check(rest)?;
        let body = self.at + FRAME_LEN;
        let batch_end = body + frame.batch_len;
        if batch_end > self.page.len() {
            return Err("a frame ends behind the file");
        }
        let batch = self.page.slice(body..batch_end);
        self.cursor.pass(&frame, &summary);
        self.at += in_memory(frame.total_len());
        Ok(Found {
            position,
            frame,
            summary,
            batch,
        })
    }
}
