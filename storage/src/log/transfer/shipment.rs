//! The giving side: which files there are, and their bytes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::{LogIndex, SnapshotFile, SnapshotFileKind, Term};

use super::pins::Pin;
use super::segment_crc;
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::file::{Access, File};
use crate::layout::{crc32c, in_memory};
use crate::log::LogReader;
use crate::log::segment_state::Segment;
use crate::log::shared::Shared;
use crate::log::truncate::first_page;
use crate::segment::{DurableMark, Footer, PAGE, SegmentHeader, segment_path};

/// The most files of one shipment.
const FILES_MAX: usize = 65_536;

/// Why nothing is shipped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShipError {
    /// The log does not begin there, or not any more.
    #[error("there is no checkpoint at entry {index} that the log goes on from")]
    Absent {
        /// The entry asked for.
        index: LogIndex,
    },
    /// Stored bytes are wrong.
    #[error("{} is damaged: {why}; restore the replica from its peers", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused a read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

/// The state at the log's start and committed entries behind it, kept until dropped.
#[derive(Debug)]
pub struct Shipment {
    shared: Arc<Shared>,
    files: Vec<SnapshotFile>,
    checkpoint: Bytes,
    segments: Vec<Part>,
    open: Option<(usize, Arc<dyn File>)>,
    _pin: Pin,
}

/// What page 0 of a segment is made of.
#[derive(Clone, Copy, Debug)]
struct Part {
    header: SegmentHeader,
    mark: DurableMark,
}

impl LogReader {
    /// Collects the checkpoint at `point` of the given term, and the closed segments behind it that
    /// hold nothing above `commit`. Waits for the device.
    ///
    /// # Errors
    /// The log does not begin behind `point`, stored bytes are wrong, or the system refuses.
    pub fn ship(
        &self,
        checkpoints: &CheckpointStore,
        (point, term): (LogIndex, Term),
        commit: LogIndex,
    ) -> Result<Shipment, ShipError> {
        let shared = self.shared();
        // First of all: what is seen from here on stays.
        let pin = Pin::new(shared, point.next());
        let (checkpoint, bytes) = checkpoints
            .load_with_bytes(point)
            .map_err(|error| ship_error(error, point))?;
        if checkpoint.term != term {
            return Err(ShipError::Absent { index: point });
        }
        let found = closed_behind(shared, point, commit)?;
        let mut files = vec![SnapshotFile {
            kind: SnapshotFileKind::CHECKPOINT,
            base: point,
            last: point,
            len: bytes.len() as u64,
            crc: crc32c(&bytes),
        }];
        let mut segments = Vec::with_capacity(found.len());
        for (part, footer) in found {
            files.push(describe(shared, &part, &footer)?);
            segments.push(part);
        }
        Ok(Shipment {
            shared: Arc::clone(shared),
            files,
            checkpoint: bytes,
            segments,
            open: None,
            _pin: pin,
        })
    }
}

impl Shipment {
    /// The files, in the order in which they are needed.
    #[must_use]
    pub fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    /// The last entry of the last file.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.files.last().map_or(LogIndex::ZERO, |file| file.last)
    }

    /// At most `max` bytes of a file from a position on; none behind its end. Waits for the device.
    ///
    /// # Errors
    /// The system refuses, or the file ends early.
    pub fn read(&mut self, file: usize, at: u64, max: usize) -> io::Result<Bytes> {
        let Some(about) = self.files.get(file) else {
            return Ok(Bytes::new());
        };
        let left = in_memory(about.len.saturating_sub(at)).min(max);
        let Some(number) = file.checked_sub(1) else {
            let at = in_memory(at).min(self.checkpoint.len());
            return Ok(self.checkpoint.slice(at..at + left));
        };
        let mut bytes = vec![0; left];
        let page = self.page(number, at);
        let (front, rest) = bytes.split_at_mut(page.len().min(left));
        front.copy_from_slice(page.get(..front.len()).unwrap_or_default());
        if !rest.is_empty() {
            let position = at.max(PAGE);
            let count = self.file(number)?.read_at(rest, position)?;
            if count < rest.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Bytes::from(bytes))
    }

    /// What of page 0 stands at a position or behind it.
    fn page(&self, number: usize, at: u64) -> Vec<u8> {
        let Some(part) = self.segments.get(number).filter(|_| at < PAGE) else {
            return Vec::new();
        };
        first_page(&part.header, part.mark).split_off(in_memory(at))
    }

    fn file(&mut self, number: usize) -> io::Result<Arc<dyn File>> {
        if let Some((open, file)) = &self.open
            && *open == number
        {
            return Ok(Arc::clone(file));
        }
        let part = self.segments.get(number).ok_or(io::ErrorKind::NotFound)?;
        let path = segment_path(&self.shared.dir, part.header.base_index);
        let file = self.shared.storage.open(&path, Access::Read)?;
        self.open = Some((number, Arc::clone(&file)));
        Ok(file)
    }
}

/// The closed segments from right behind `point` up to `commit`, with their footers but for the checksum.
fn closed_behind(
    shared: &Shared,
    point: LogIndex,
    commit: LogIndex,
) -> Result<Vec<(Part, Footer)>, ShipError> {
    let state = shared.state.read();
    let behind = |segment: &&Segment| segment.header.base_index > point;
    let first = state.segments().find(behind);
    if first.is_none_or(|first| first.header.base_index != point.next()) {
        return Err(ShipError::Absent { index: point });
    }
    let whole = state.sealed.iter().filter(behind);
    let whole = whole.take_while(|segment| segment.last_index() <= commit);
    let part = |segment: &Segment| {
        let (header, mark) = (segment.header, DurableMark::at(&segment.end));
        (Part { header, mark }, segment.footer(0))
    };
    Ok(whole.map(part).take(FILES_MAX - 1).collect())
}

/// Reads a segment's footer back: it alone knows the checksum of the frames.
fn describe(shared: &Shared, part: &Part, known: &Footer) -> Result<SnapshotFile, ShipError> {
    let path = segment_path(&shared.dir, part.header.base_index);
    let io = |source| ShipError::Io {
        path: path.clone(),
        source,
    };
    let file = shared.storage.open(&path, Access::Read).map_err(io)?;
    let mut bytes = known.encode();
    let count = file.read_at(&mut bytes, known.frames_end).map_err(io)?;
    let whole = bytes.get(..count).and_then(Footer::decode);
    let footer = whole.filter(|footer| {
        let file_crc = footer.file_crc;
        *footer
            == Footer {
                file_crc,
                ..known.clone()
            }
    });
    let Some(footer) = footer else {
        let why = "its footer is not the one it was closed with";
        return Err(ShipError::Damaged { path, why });
    };
    let page = first_page(&part.header, part.mark);
    Ok(SnapshotFile {
        kind: SnapshotFileKind::SEGMENT,
        base: part.header.base_index,
        last: footer.last_index,
        len: footer.frames_end.saturating_add(bytes.len() as u64),
        crc: segment_crc(&page, footer.file_crc, footer.frames_end, &bytes),
    })
}

fn ship_error(error: CheckpointError, index: LogIndex) -> ShipError {
    match error {
        CheckpointError::Absent { .. } => ShipError::Absent { index },
        CheckpointError::Damaged { path, why } => ShipError::Damaged { path, why },
        CheckpointError::Io { path, source } => ShipError::Io { path, source },
    }
}
