//! Reading a log by offset, index or time, beside its writer.
//!
//! A batch is a slice of the page that one system call filled: nothing is copied. Every frame read is
//! checked against the chain and every batch handed out against its checksums.

use std::sync::Arc;

use quorate_protocol::ByteSize;
use quorate_protocol::RecordBatch;
use quorate_protocol::{HybridTime, LogIndex, Offset};

use super::ReadError;
use super::fetch::{Frames, Plan, Span, Wanted};
use super::sealed::Source;
use super::segment_state::Segment;
use super::shared::{Shared, State};
use crate::entry::Entry;
use crate::file::Storage;

/// Attempts before a reader gives up on a log that is truncated under it again and again.
const ATTEMPTS_MAX: usize = 16;
/// Bytes read at a time while a time is sought.
const SEEK_BYTES: usize = 64 << 10;

/// Whether a read may wait for the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// Only from memory: fit for an async thread.
    NoWait,
    /// May wait: for [`Lane::Read`](crate::Lane::Read).
    Blocking,
}

/// What a read gave.
#[derive(Clone, Debug)]
pub enum ReadOutcome {
    /// The batches, oldest first; none if there is nothing between the bounds yet.
    Batches(Vec<RecordBatch>),
    /// The device would have to be waited for: read again, blocking.
    WouldBlock,
}

/// One segment as readers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// First index that is or will be in it.
    pub base_index: LogIndex,
    /// Last index in it; the one before `base_index` if it is empty.
    pub last_index: LogIndex,
    /// First offset that is or will be in it.
    pub base_offset: Offset,
    /// Offset behind it.
    pub next_offset: Offset,
    /// Length of its frames and header.
    pub bytes: ByteSize,
    /// Time of its first entry.
    pub first_time: HybridTime,
    /// Time of its last entry.
    pub last_time: HybridTime,
    /// Whether it is complete.
    pub sealed: bool,
    /// Chain value behind its last entry.
    pub chain: u32,
}

impl SegmentInfo {
    fn of(segment: &Segment) -> Self {
        Self {
            base_index: segment.header.base_index,
            last_index: segment.last_index(),
            base_offset: segment.header.base_offset,
            next_offset: segment.next_offset(),
            bytes: ByteSize::new(segment.end.position),
            first_time: segment.first_time.unwrap_or(segment.end.time),
            last_time: segment.end.time,
            sealed: segment.sealed,
            chain: segment.end.chain,
        }
    }
}

/// Reads one log. Cheap to clone; sees what its writer has written, flushed or not.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The volume that holds the log.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.shared.storage
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// First index kept; one more than the last if there is none.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        self.shared.state.read().first_index()
    }

    /// Last index written.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.shared.state.read().last_index()
    }

    /// First offset kept.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.shared.state.read().log_start()
    }

    /// Offset that is written next.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.shared.state.read().log_end()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> ByteSize {
        let state = self.shared.state.read();
        ByteSize::new(state.segments().map(|segment| segment.end.position).sum())
    }

    /// The segments, oldest first; the last is the one written to.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared
            .state
            .read()
            .segments()
            .map(SegmentInfo::of)
            .collect()
    }

    /// Reads the data batches that hold `from` and what follows, while they begin below `until`: at
    /// least one, then as many as fit `bytes_max`. May stop at the end of a segment.
    ///
    /// # Errors
    /// `from` is not between log start and log end, stored bytes are wrong, or the system refuses.
    pub fn read(
        &self,
        from: Offset,
        until: Offset,
        bytes_max: usize,
        mode: ReadMode,
    ) -> Result<ReadOutcome, ReadError> {
        {
            let state = self.shared.state.read();
            let (start, end) = (state.log_start(), state.log_end());
            if from < start || from > end {
                return Err(ReadError::OutOfRange { start, end });
            }
            if from >= until.min(end) {
                return Ok(ReadOutcome::Batches(Vec::new()));
            }
        }
        let wanted = Wanted::Offsets(from, until);
        let batches = self.visit(&wanted, bytes_max, mode, |_, frames| {
            collect_batches(frames, from, until, bytes_max)
        })?;
        Ok(batches.map_or(ReadOutcome::WouldBlock, ReadOutcome::Batches))
    }

    /// Reads entries of all kinds from `from` up to but without `to`: at least one, then as many as fit
    /// `bytes_max`. Waits for the device.
    ///
    /// # Errors
    /// `from` is not in the log, stored bytes are wrong, or the system refuses.
    pub fn entries(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let (first, last) = self.bounds();
        if from < first || from > last {
            return Err(ReadError::NoEntry { first, last });
        }
        let to = to.min(last.next());
        let mut entries: Vec<Entry> = Vec::new();
        let (mut next, mut room) = (from, bytes_max);
        while next < to && (entries.is_empty() || room > 0) {
            let wanted = Wanted::Entries(next, to);
            let more = self.visit(&wanted, room, ReadMode::Blocking, |_, frames| {
                collect_entries(frames, next, to, room)
            })?;
            let more = more.unwrap_or_default();
            let bytes: usize = more.iter().map(|entry| entry.batch.len()).sum();
            let Some(end) = more.last().map(|entry| entry.index.next()) else {
                break;
            };
            if !entries.is_empty() && bytes > room {
                break;
            }
            next = end;
            room = room.saturating_sub(bytes);
            entries.extend(more);
        }
        Ok(entries)
    }

    /// The first offset whose batch was appended at or after a time, in microseconds since 1970; log end
    /// if there is none. Waits for the device.
    ///
    /// # Errors
    /// Stored bytes are wrong, or the system refuses.
    pub fn offset_at_time(&self, micros: u64) -> Result<Offset, ReadError> {
        let time = HybridTime::from_parts(micros, 0);
        let mut wanted = Wanted::Time(time);
        loop {
            let (first, last) = self.bounds();
            let ended = match wanted {
                Wanted::Entries(next, _) => next > last,
                _ => first > last,
            };
            if ended {
                return Ok(self.log_end());
            }
            if let Wanted::Entries(next, to) = wanted {
                wanted = Wanted::Entries(next.max(first), to);
            }
            let found = self.visit(&wanted, SEEK_BYTES, ReadMode::Blocking, |span, frames| {
                seek_time(frames, time, span.start.next_index)
            })?;
            match found {
                Some(Seek::Found(offset)) => return Ok(offset),
                Some(Seek::GoOn(next)) => wanted = Wanted::Entries(next, LogIndex::new(u64::MAX)),
                None => return Ok(self.log_end()),
            }
        }
    }

    fn bounds(&self) -> (LogIndex, LogIndex) {
        let state = self.shared.state.read();
        (state.first_index(), state.last_index())
    }

    /// Reads the stretch where something is and lets `visit` take it apart. What fails is tried again
    /// after a truncation, and once with an index made from the log.
    fn visit<T>(
        &self,
        wanted: &Wanted,
        bytes_max: usize,
        mode: ReadMode,
        visit: impl Fn(&Span, Frames) -> Result<T, (u64, &'static str)>,
    ) -> Result<Option<T>, ReadError> {
        let mut rebuilt = false;
        for _ in 0..ATTEMPTS_MAX {
            let span = match self.plan(wanted, bytes_max)? {
                Plan::Span(span) => span,
                Plan::Cold(_) if mode == ReadMode::NoWait => return Ok(None),
                Plan::Cold(base) => {
                    self.shared.load(base, Source::File)?;
                    continue;
                }
            };
            let page = span
                .read(mode)
                .map_err(|error| ReadError::io(&span.path, error))?;
            let Some(page) = page else { return Ok(None) };
            let (position, why) = match visit(&span, span.frames(page)) {
                Ok(value) => return Ok(Some(value)),
                Err(wrong) => wrong,
            };
            if self.shared.state.read().epoch != span.epoch {
                continue;
            }
            if mode == ReadMode::NoWait {
                return Ok(None);
            }
            if !span.sealed || rebuilt {
                return Err(ReadError::damaged(&span.path, position, why));
            }
            rebuilt = true;
            self.shared.load(span.base, Source::Log)?;
        }
        let busy = std::io::Error::other("the log was truncated again and again while it was read");
        Err(ReadError::io(&self.shared.dir, busy))
    }

    fn plan(&self, wanted: &Wanted, bytes_max: usize) -> Result<Plan, ReadError> {
        let state = self.shared.state.read();
        let segment = locate(&state, wanted)?;
        Ok(Plan::new(&state, segment, wanted, bytes_max))
    }
}

/// The segment that holds the first thing wanted; it may have gone since the caller looked.
fn locate<'a>(state: &'a State, wanted: &Wanted) -> Result<&'a Segment, ReadError> {
    match wanted {
        Wanted::Offsets(from, _) => {
            let (start, end) = (state.log_start(), state.log_end());
            if *from < start || *from >= end {
                return Err(ReadError::OutOfRange { start, end });
            }
            Ok(state.segment_after(|segment| segment.next_offset() <= *from))
        }
        Wanted::Entries(from, _) => {
            let (first, last) = (state.first_index(), state.last_index());
            if *from < first || *from > last {
                return Err(ReadError::NoEntry { first, last });
            }
            Ok(state.segment_after(|segment| segment.last_index() < *from))
        }
        Wanted::Time(time) => Ok(state.segment_after(|segment| segment.end.time < *time)),
    }
}

fn collect_batches(
    frames: Frames,
    from: Offset,
    until: Offset,
    bytes_max: usize,
) -> Result<Vec<RecordBatch>, (u64, &'static str)> {
    let mut batches = Vec::new();
    let mut bytes = 0_usize;
    for found in frames {
        let found = found?;
        if !found.is_data() || found.next_offset() <= from {
            continue;
        }
        bytes = bytes.saturating_add(found.batch_len());
        let full = bytes > bytes_max && !batches.is_empty();
        if full || found.summary.base_offset >= until {
            break;
        }
        batches.push(found.batch()?);
    }
    Ok(batches)
}

fn collect_entries(
    frames: Frames,
    from: LogIndex,
    to: LogIndex,
    bytes_max: usize,
) -> Result<Vec<Entry>, (u64, &'static str)> {
    let mut entries = Vec::new();
    let mut bytes = 0_usize;
    for found in frames {
        let found = found?;
        if found.frame.index < from {
            continue;
        }
        bytes = bytes.saturating_add(found.batch_len());
        let full = bytes > bytes_max && !entries.is_empty();
        if full || found.frame.index >= to {
            break;
        }
        entries.push(found.entry()?);
    }
    Ok(entries)
}

enum Seek {
    Found(Offset),
    GoOn(LogIndex),
}

fn seek_time(
    frames: Frames,
    time: HybridTime,
    start: LogIndex,
) -> Result<Seek, (u64, &'static str)> {
    let mut next = start;
    for found in frames {
        let found = found?;
        if found.is_data() && found.summary.time >= time {
            return Ok(Seek::Found(found.summary.base_offset));
        }
        next = found.frame.index.next();
    }
    Ok(Seek::GoOn(next))
}
