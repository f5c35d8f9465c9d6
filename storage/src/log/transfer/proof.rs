//! Before files count: their bytes are exactly what the log demands there, and durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::{HybridTime, LogIndex, SnapshotFile, SnapshotFileKind, Term};

use super::staging::StageError;
use super::{header_behind, incoming_path, segment_crc};
use crate::checkpoint::{Checkpoint, read_whole};
use crate::file::{Access, Fault, Storage};
use crate::layout::{crc32c, in_memory};
use crate::log::recovery::{Opening, Scan};
use crate::log::truncate::first_page;
use crate::log::{LogIdentity, OpenError};
use crate::segment::{DurableMark, PAGE, SegmentHeader};

/// Goes through files that came, in their order.
#[derive(Debug)]
pub struct Proof {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    identity: LogIdentity,
    term: Term,
    files: Vec<SnapshotFile>,
    passed: usize,
    /// The log behind the first file, and behind all that passed.
    start: Option<End>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) next: SegmentHeader,
    pub(super) time: HybridTime,
}

/// Files that came, all proved and durable.
#[derive(Debug)]
pub struct Arrived {
    pub(super) files: Vec<SnapshotFile>,
    /// Where the log begins.
    pub(super) start: End,
}

impl Arrived {
    /// The last entry in them; it is committed.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.files.last().map_or(LogIndex::ZERO, |file| file.last)
    }
}

impl Proof {
    /// Nothing is proved yet. `term` is that of the entry at the checkpoint.
    #[must_use]
    pub fn new(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        identity: LogIdentity,
        term: Term,
        files: &[SnapshotFile],
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            dir: dir.into(),
            identity,
            term,
            files: files.into(),
            passed: 0,
            start: None,
            end: None,
        }
    }

    /// How many files passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// Reads all files below `until` that did not pass yet, and flushes them. They must be complete.
    ///
    /// # Errors
    /// One is not what it should be, and was removed; or the volume cannot be trusted.
    pub fn pass(&mut self, until: usize) -> Result<(), StageError> {
        while let Some(file) = self.files.get(self.passed).filter(|_| self.passed < until) {
            let path = incoming_path(&self.dir, file);
            let end = match self.look(file, &path) {
                Err(Wrong::Content(why)) => {
                    let removed = self.storage.remove(&path);
                    removed.map_err(|error| Fault::fatal(&path, error))?;
                    return Err(StageError::Damaged { path, why });
                }
                Err(Wrong::Volume(fault)) => return Err(fault.into()),
                Ok(end) => end,
            };
            self.flush(&path)?;
            self.start.get_or_insert(end);
            self.end = Some(end);
            self.passed += 1;
        }
        Ok(())
    }

    /// Passes what is left and makes the names durable.
    ///
    /// # Errors
    /// As [`Proof::pass`].
    pub fn finish(mut self) -> Result<Arrived, StageError> {
        self.pass(self.files.len())?;
        let synced = self.storage.sync_dir(&self.dir);
        synced.map_err(|error| Fault::fatal(&self.dir, error))?;
        let why = "the list is empty";
        let start = self.start.ok_or(StageError::Refused { why })?;
        let files = self.files;
        Ok(Arrived { files, start })
    }

    fn flush(&self, path: &Path) -> Result<(), Fault> {
        let file = self.storage.open(path, Access::Write);
        let file = file.map_err(|error| Fault::fatal(path, error))?;
        file.sync_all().map_err(|error| Fault::fatal(path, error))
    }

    fn look(&self, file: &SnapshotFile, path: &Path) -> Result<End, Wrong> {
        match (&self.end, file.kind) {
            (None, SnapshotFileKind::CHECKPOINT) => self.checkpoint(file, path),
            (Some(end), SnapshotFileKind::SEGMENT) => self.segment(file, path, end),
            _ => Err(Wrong::Content("it is not at its place in the list")),
        }
    }

    fn checkpoint(&self, file: &SnapshotFile, path: &Path) -> Result<End, Wrong> {
        let bytes = read_whole(&*self.storage, path).map_err(|error| Fault::fatal(path, error))?;
        let bytes =
            bytes.filter(|bytes| bytes.len() as u64 == file.len && crc32c(bytes) == file.crc);
        let bytes = bytes.ok_or(Wrong::Content(
            "its length or checksum is not the announced one",
        ))?;
        let checkpoint = Checkpoint::decode(bytes, self.identity).map_err(Wrong::Content)?;
        if (checkpoint.index, checkpoint.term) != (file.last, self.term) {
            return Err(Wrong::Content("it is of another entry"));
        }
        Ok(End {
            next: header_behind(self.identity, &checkpoint),
            time: checkpoint.last_time,
        })
    }

    fn segment(&self, file: &SnapshotFile, path: &Path, before: &End) -> Result<End, Wrong> {
        let opening = Opening::at(&*self.storage, path, file.base, self.identity)?;
        if opening.header != before.next {
            return Err(Wrong::Content("it does not continue the file before"));
        }
        let scan = opening.scan(&self.dir, false, before.time)?;
        let segment = &scan.segment;
        if segment.last_index() != file.last || scan.torn.is_some() {
            return Err(Wrong::Content("its frames do not end where they should"));
        }
        let page = first_page(&segment.header, DurableMark::at(&segment.end));
        let footer = segment.footer(scan.crc.value()).encode();
        let end = segment.end.position;
        let len = end.saturating_add(footer.len() as u64);
        let crc = segment_crc(&page, scan.crc.value(), end, &footer);
        let exact =
            (len, crc) == (file.len, file.crc) && self.holds(&scan, path, &page, &footer)?;
        if !exact {
            return Err(Wrong::Content(
                "its first page or footer does not fit its frames",
            ));
        }
        Ok(End {
            next: segment.successor(),
            time: segment.end.time,
        })
    }

    /// Whether exactly these bytes stand before and behind the frames.
    fn holds(&self, scan: &Scan, path: &Path, page: &[u8], footer: &[u8]) -> Result<bool, Fault> {
        let fatal = |error| Fault::fatal(path, error);
        let file = self.storage.open(path, Access::Read).map_err(fatal)?;
        let mut front = vec![0; in_memory(PAGE)];
        file.read_at(&mut front, 0).map_err(fatal)?;
        // One byte more, to see the file's end.
        let mut back = vec![0; footer.len() + 1];
        let end = scan.segment.end.position;
        let count = file.read_at(&mut back, end).map_err(fatal)?;
        Ok(front == page && back.get(..count) == Some(footer))
    }
}

/// Why a file does not pass.
enum Wrong {
    Content(&'static str),
    Volume(Fault),
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self::Volume(fault)
    }
}

impl From<OpenError> for Wrong {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged { why, .. } => Self::Content(why),
            OpenError::Io { path, source } => Self::Volume(Fault::Fatal { path, source }),
            OpenError::NoSpace { path } => Self::Volume(Fault::NoSpace { path }),
            OpenError::Absent { .. } => Self::Content("it is gone"),
        }
    }
}
