//! The one writer of a log: many entries, one system call, one flush.
//!
//! Bytes below the durable mark are never overwritten or unlinked before the mark is durably lowered. Any
//! error but lack of room for a write ends the writer for good: a flush is never tried again.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::LogIndex;

use super::check::Refusal;
use super::fill::Fill;
use super::shared::Shared;
use super::{LogConfig, TrimError, WriteError};
use crate::entry::Entry;
use crate::file::{Fault, File};
use crate::layout::Crc;
use crate::segment::{
    BatchSummary, Cursor, DurableMark, FRAME_LEN, Frame, MARK_SECTORS, PADDING, Roller,
    checkpoint_path, frame_len, index_path, padded,
};

/// Batches up to this length are copied beside their frame: cheaper than one more slice.
const COPY_MAX: usize = 2048;
/// Scratch memory kept between writes.
const SCRATCH_KEPT: usize = 64 << 10;

/// Writes one log. Exclusive; meant for [`Lane::Flush`](crate::Lane::Flush), one call at a time.
///
/// Dropping it without [`LogWriter::close`] is safe and equals a crash of the process: opening the log
/// then copies what had not been flushed for certain.
#[derive(Debug)]
pub struct LogWriter {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: LogConfig,
    pub(crate) target: Target,
    pub(crate) roller: Roller,
    poison: Option<(PathBuf, String)>,
    scratch: Vec<u8>,
}

/// The active segment's file as the writer knows it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) fingerprint: u32,
    /// Behind what was written.
    pub(crate) end: Cursor,
    /// What a flush has covered.
    pub(crate) durable: DurableMark,
    /// What the newer sector on disk says.
    pub(crate) marked: DurableMark,
    /// Which sector is written next.
    pub(crate) sector: bool,
    /// Checksum of all frames; none after a truncation, then the file is read when it is sealed.
    pub(crate) crc: Option<Crc>,
    pub(crate) fill: Fill,
}

impl LogWriter {
    pub(crate) fn new(shared: Arc<Shared>, config: LogConfig, target: Target) -> Self {
        let roller = {
            let state = shared.state.read();
            let active = &state.active;
            Roller::new(config.segment_bytes, config.segment_age)
                .at(active.end.position, active.first_time)
        };
        Self {
            shared,
            config,
            target,
            roller,
            poison: None,
            scratch: Vec::new(),
        }
    }

    /// Writes entries in order and, if `sync`, makes everything written so far durable. Where an entry's
    /// index is not above the last one, the log is first truncated there. Without entries it only
    /// flushes, and settles the durable mark if there is nothing to flush.
    ///
    /// # Errors
    /// `NoSpace` leaves the log usable and without any of these entries; `Invalid` changes nothing;
    /// `Fatal` ends the writer.
    pub fn write(&mut self, entries: &[Entry], sync: bool) -> Result<(), WriteError> {
        self.refuse_if_poisoned()?;
        if let Err(refusal) = self.check(entries) {
            return match refusal {
                Refusal::Invalid { index, why } => Err(WriteError::Invalid { index, why }),
                Refusal::Fault(fault) => Ok(self.settle(Err(fault))?),
            };
        }
        let done = self
            .write_runs(entries)
            .and_then(|()| if sync { self.flush() } else { Ok(()) });
        self.settle(done)?;
        Ok(())
    }

    /// Removes the segments whose last entry is not above `up_to`. A checkpoint of the state after the
    /// last removed entry must have been written.
    ///
    /// # Errors
    /// `NoCheckpoint` removes nothing; `Fatal` ends the writer.
    pub fn trim(&mut self, up_to: LogIndex) -> Result<(), TrimError> {
        if let Err(WriteError::Fatal { path, source }) = self.refuse_if_poisoned() {
            return Err(TrimError::Fatal { path, source });
        }
        let last = {
            let state = self.shared.state.read();
            let kept = state
                .sealed
                .partition_point(|segment| segment.last_index() <= up_to);
            kept.checked_sub(1)
                .and_then(|at| state.sealed.get(at))
                .map(|last| last.last_index())
        };
        let Some(last) = last else { return Ok(()) };
        let path = checkpoint_path(&self.shared.dir, last);
        let saved = self.shared.storage.exists(&path);
        if matches!(saved, Ok(false)) {
            return Err(TrimError::NoCheckpoint { index: last, path });
        }
        let done = saved
            .map_err(|error| Fault::fatal(&path, error))
            .and_then(|_| self.remove_segments_up_to(last));
        self.settle(done).map_err(|fault| match fault {
            Fault::NoSpace { path } => TrimError::Fatal {
                path,
                source: io::ErrorKind::StorageFull.into(),
            },
            Fault::Fatal { path, source } => TrimError::Fatal { path, source },
        })
    }

    /// Makes everything durable and says so in the durable mark, so that opening the log has nothing to
    /// copy.
    ///
    /// # Errors
    /// The volume failed; the log is then as after a crash.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.refuse_if_poisoned()?;
        self.target.fill.stop();
        self.flush()?;
        self.target.write_mark(self.target.durable)?;
        self.target.set_len(self.target.end.position)?;
        self.target.sync_all()?;
        Ok(())
    }

    /// Where the next entry begins a new segment.
    #[must_use]
    pub fn roller(&self) -> Roller {
        self.roller
    }

    fn refuse_if_poisoned(&self) -> Result<(), WriteError> {
        match &self.poison {
            None => Ok(()),
            Some((path, why)) => {
                let source = io::Error::other(format!("failed before: {why}"));
                Err(WriteError::Fatal {
                    path: path.clone(),
                    source,
                })
            }
        }
    }

    fn settle(&mut self, done: Result<(), Fault>) -> Result<(), Fault> {
        if let Err(Fault::Fatal { path, source }) = &done {
            self.poison = Some((path.clone(), source.to_string()));
        }
        done
    }

    fn write_runs(&mut self, entries: &[Entry]) -> Result<(), Fault> {
        let mut undo = self.target.end.next_index;
        let mut rest = entries;
        while let Some(first) = rest.first() {
            if first.index < self.target.end.next_index {
                self.truncate(first.index)?;
                undo = undo.min(first.index);
            }
            let run = self.run_len(rest);
            let (now, later) = rest.split_at(run.min(rest.len()));
            let rolls = self.rolls_before(now.first());
            let done = if rolls { self.roll() } else { Ok(()) };
            match done.and_then(|()| self.append(now)) {
                Ok(()) => rest = later,
                Err(Fault::NoSpace { path }) => {
                    self.take_back(undo)?;
                    return Err(Fault::NoSpace { path });
                }
                Err(fatal) => return Err(fatal),
            }
        }
        Ok(())
    }

    /// How many entries go to one segment in one piece; the first may begin a new segment.
    fn run_len(&self, entries: &[Entry]) -> usize {
        let mut roller = self.roller;
        let mut expected = self.target.end.next_index;
        let mut count = 0;
        for entry in entries {
            let rolls = roller.note(frame_len(entry.batch.len()), entry.batch.append_time());
            if entry.index != expected || (rolls && count > 0) {
                break;
            }
            expected = expected.next();
            count += 1;
        }
        count
    }

    fn rolls_before(&self, entry: Option<&Entry>) -> bool {
        entry.is_some_and(|entry| {
            let len = frame_len(entry.batch.len());
            self.roller.rolls_before(len, entry.batch.append_time())
        })
    }

    /// One write of contiguous entries to the active segment.
    fn append(&mut self, entries: &[Entry]) -> Result<(), Fault> {
        let mut end = self.target.end;
        let mut passed = Vec::with_capacity(entries.len());
        for entry in entries {
            let (frame, batch) = framed(entry, &end);
            end.pass(&frame, &batch);
            passed.push((frame, batch));
        }
        if let Some(why) = self.target.fill.claim(end.position) {
            return Err(Fault::fatal(&self.target.path, io::Error::other(why)));
        }
        let pieces = stage(&mut self.scratch, entries, &passed);
        let slices: Vec<IoSlice<'_>> = pieces
            .iter()
            .filter_map(|piece| piece.bytes(&self.scratch, entries))
            .map(IoSlice::new)
            .collect();
        self.target
            .file
            .write_vectored_at(&slices, self.target.end.position)
            .map_err(|error| Fault::of_write(&self.target.path, error))?;
        if let Some(crc) = &mut self.target.crc {
            slices.iter().for_each(|slice| crc.update(slice));
        }
        self.scratch.shrink_to(SCRATCH_KEPT);
        self.target.end = end;
        self.publish(&passed);
        Ok(())
    }

    fn publish(&mut self, passed: &[(Frame, BatchSummary)]) {
        let mut state = self.shared.state.write();
        for (frame, batch) in passed {
            self.roller.note(frame.total_len(), batch.time);
            state.active.append(frame, batch);
        }
    }

    /// One flush for all that was written; the mark of the flush before goes along.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        let target = &mut self.target;
        let written = DurableMark::at(&target.end);
        if target.durable == written && target.marked == written {
            return Ok(());
        }
        if target.durable > target.marked {
            target.write_mark(target.durable)?;
        }
        target.sync_data()?;
        target.durable = written;
        if let Some(why) = target.fill.claim(written.length) {
            return Err(Fault::fatal(&target.path, io::Error::other(why)));
        }
        target
            .fill
            .advance(&self.shared.storage, &target.path, written.length);
        Ok(())
    }

    /// Undoes what a call wrote before it found no room.
    fn take_back(&mut self, undo: LogIndex) -> Result<(), Fault> {
        if undo < self.target.end.next_index {
            return self.truncate(undo);
        }
        self.target.cut_tail()
    }

    fn remove_segments_up_to(&self, last: LogIndex) -> Result<(), Fault> {
        let removed: Vec<(PathBuf, LogIndex)> = {
            let mut state = self.shared.state.write();
            state.epoch += 1;
            let count = state
                .sealed
                .partition_point(|segment| segment.last_index() <= last);
            state
                .sealed
                .drain(..count)
                .map(|gone| (gone.path, gone.header.base_index))
                .collect()
        };
        for (path, base) in removed {
            if !self.shared.pins.lock().doom(base, &path) {
                self.shared
                    .storage
                    .remove(&path)
                    .map_err(|error| Fault::fatal(&path, error))?;
            }
            self.shared.drop_index(index_path(&self.shared.dir, base));
        }
        sync_dir(&self.shared)
    }
}

impl Target {
    /// A file whose mark on disk is `marked` and which is durable up to there.
    pub(crate) fn new(
        file: Arc<dyn File>,
        path: &Path,
        fingerprint: u32,
        end: Cursor,
        limit: u64,
    ) -> Self {
        let mark = DurableMark::at(&end);
        let fill = Fill::new(end.position, limit);
        Self {
            file,
            path: path.into(),
            fingerprint,
            end,
            durable: mark,
            marked: mark,
            sector: false,
            crc: None,
            fill,
        }
    }

    /// Writes a mark to the older sector; durable with the next flush.
    pub(crate) fn write_mark(&mut self, mark: DurableMark) -> Result<(), Fault> {
        let [even, odd] = MARK_SECTORS;
        let sector = if self.sector { odd } else { even };
        self.file
            .write_vectored_at(&[IoSlice::new(&mark.encode(self.fingerprint))], sector)
            .map_err(|error| Fault::fatal(&self.path, error))?;
        self.sector = !self.sector;
        self.marked = mark;
        Ok(())
    }

    pub(crate) fn sync_data(&self) -> Result<(), Fault> {
        self.file
            .sync_data()
            .map_err(|error| Fault::fatal(&self.path, error))
    }

    pub(crate) fn sync_all(&self) -> Result<(), Fault> {
        self.file
            .sync_all()
            .map_err(|error| Fault::fatal(&self.path, error))
    }

    pub(crate) fn set_len(&self, len: u64) -> Result<(), Fault> {
        self.file
            .set_len(len)
            .map_err(|error| Fault::fatal(&self.path, error))
    }

    /// Cuts what a failed write may have left behind the end.
    fn cut_tail(&mut self) -> Result<(), Fault> {
        self.fill.stop();
        self.set_len(self.end.position)?;
        self.fill = self.fill.restarted(self.end.position);
        Ok(())
    }
}

/// The checked frame that puts an entry at a place.
fn framed(entry: &Entry, at: &Cursor) -> (Frame, BatchSummary) {
    let batch = BatchSummary {
        base_offset: entry.batch.base_offset(),
        term: entry.batch.term(),
        time: entry.batch.append_time(),
        header_crc: entry.batch.header_crc(),
        body_crc: entry.batch.body_crc(),
        record_count: entry.batch.record_count(),
    };
    let bare = Frame {
        index: entry.index,
        batch_len: entry.batch.len(),
        kind: entry.kind,
        chain: 0,
    };
    let chain = bare.chain_after(at.chain, batch.header_crc, batch.body_crc);
    (Frame { chain, ..bare }, batch)
}

/// A part of one write.
enum Piece {
    Scratch(usize, usize),
    Batch(usize),
}

impl Piece {
    fn bytes<'a>(&self, scratch: &'a [u8], entries: &'a [Entry]) -> Option<&'a [u8]> {
        match self {
            Self::Scratch(from, to) => scratch.get(*from..*to),
            Self::Batch(at) => entries.get(*at).map(|entry| &entry.batch.bytes()[..]),
        }
    }
}

/// Lays out frames, padding and small batches in scratch memory; large batches are written from where
/// they are.
fn stage(scratch: &mut Vec<u8>, entries: &[Entry], frames: &[(Frame, BatchSummary)]) -> Vec<Piece> {
    scratch.clear();
    let mut pieces = Vec::new();
    let mut from = 0;
    for (at, (entry, (frame, _))) in entries.iter().zip(frames).enumerate() {
        let batch = entry.batch.bytes();
        scratch.reserve(FRAME_LEN + PADDING.len());
        scratch.extend_from_slice(&frame.encode());
        if batch.len() <= COPY_MAX {
            scratch.extend_from_slice(batch);
        } else {
            pieces.push(Piece::Scratch(from, scratch.len()));
            pieces.push(Piece::Batch(at));
            from = scratch.len();
        }
        let padding = padded(batch.len()) - batch.len();
        scratch.extend_from_slice(PADDING.get(..padding).unwrap_or_default());
    }
    if from < scratch.len() {
        pieces.push(Piece::Scratch(from, scratch.len()));
    }
    pieces
}

/// Makes the names in the log's directory durable.
pub(crate) fn sync_dir(shared: &Shared) -> Result<(), Fault> {
    shared
        .storage
        .sync_dir(&shared.dir)
        .map_err(|error| Fault::fatal(&shared.dir, error))
}
