//! The receiving side: files grow beside the log, and what came of an earlier attempt is kept.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::{LogIndex, SnapshotFile, SnapshotFileKind};

use super::{discard_incoming, incoming_path, is_incoming, name_of};
use crate::checkpoint::FILE_BYTES_MAX as CHECKPOINT_BYTES_MAX;
use crate::file::{Access, Fault, File, Storage};
use crate::segment::{PAGE, TRAILER_LEN};

/// Why files were not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// What the peer sends makes no sense.
    #[error("the peer's files are refused: {why}")]
    Refused {
        /// What is wrong.
        why: &'static str,
    },
    /// A file that came is not what it should be; it was removed and has to come again.
    #[error("{} came damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No room; what had come was removed.
    #[error("{}: no room left on the volume for a peer's files", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// The volume cannot be trusted any more.
    #[error("{}: {source}; restart the broker", path.display())]
    Fatal {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

impl From<Fault> for StageError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace { path } => Self::NoSpace { path },
            Fault::Fatal { path, source } => Self::Fatal { path, source },
        }
    }
}

/// Files that are coming in.
#[derive(Debug)]
pub struct Staging {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    files: Vec<SnapshotFile>,
    have: Vec<u64>,
    open: Option<(usize, Arc<dyn File>)>,
}

impl Staging {
    /// Prepares for these files in a log's directory; drops what came earlier and is none of them.
    ///
    /// # Errors
    /// They are no checkpoint at `point` with segments behind it, there is no room, or the system
    /// refuses.
    pub fn begin(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        point: LogIndex,
        files: &[SnapshotFile],
    ) -> Result<Self, StageError> {
        check_list(point, files).map_err(|why| StageError::Refused { why })?;
        let have = keep(&**storage, dir, files)?;
        let staging = Self {
            storage: Arc::clone(storage),
            dir: dir.into(),
            files: files.into(),
            have,
            open: None,
        };
        staging.check_room()?;
        Ok(staging)
    }

    /// Per file, how many of its first bytes are here.
    #[must_use]
    pub fn have(&self) -> &[u64] {
        &self.have
    }

    /// The files that are to come.
    #[must_use]
    pub fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    /// Appends to a file. Answers whether it is complete.
    ///
    /// # Errors
    /// The bytes do not follow what is here, there is no room, or the system refuses.
    pub fn write(&mut self, file: usize, at: u64, bytes: &[u8]) -> Result<bool, StageError> {
        let refused = |why| StageError::Refused { why };
        let (about, have) = self
            .files
            .get(file)
            .zip(self.have.get(file).copied())
            .ok_or_else(|| refused("a chunk is of no file in the list"))?;
        let end = at.saturating_add(bytes.len() as u64);
        if at != have || end > about.len {
            return Err(refused("a chunk does not follow what came before"));
        }
        let path = incoming_path(&self.dir, about);
        let len = about.len;
        let written = self.handle(file, &path).and_then(|open| {
            open.write_vectored_at(&[IoSlice::new(bytes)], at)
                .map_err(|error| Fault::of_write(&path, error))
        });
        match written {
            Ok(()) => {}
            Err(Fault::NoSpace { path }) => {
                self.open = None;
                self.discard()?;
                return Err(StageError::NoSpace { path });
            }
            Err(fault) => return Err(fault.into()),
        }
        if let Some(have) = self.have.get_mut(file) {
            *have = end;
        }
        Ok(end == len)
    }

    /// Removes everything that came.
    ///
    /// # Errors
    /// The system refuses.
    pub fn discard(&self) -> Result<(), StageError> {
        let removed = discard_incoming(&*self.storage, &self.dir);
        removed.map_err(|error| Fault::fatal(&self.dir, error).into())
    }

    fn check_room(&self) -> Result<(), StageError> {
        let whole: u64 = self.files.iter().map(|file| file.len).sum();
        let have: u64 = self.have.iter().sum();
        let space = self.storage.space(&self.dir);
        let space = space.map_err(|error| Fault::fatal(&self.dir, error))?;
        if whole.saturating_sub(have) <= space.free {
            return Ok(());
        }
        self.discard()?;
        let path = self.dir.clone();
        Err(StageError::NoSpace { path })
    }

    fn handle(&mut self, number: usize, path: &Path) -> Result<Arc<dyn File>, Fault> {
        if let Some((open, file)) = &self.open
            && *open == number
        {
            return Ok(Arc::clone(file));
        }
        let exists = self.storage.exists(path);
        let access = if exists.map_err(|error| Fault::fatal(path, error))? {
            Access::Write
        } else {
            Access::CreateNew
        };
        let file = self.storage.open(path, access);
        let file = file.map_err(|error| Fault::of_write(path, error))?;
        self.open = Some((number, Arc::clone(&file)));
        Ok(file)
    }
}

/// Refuses a list that is no checkpoint with the log behind it.
fn check_list(point: LogIndex, files: &[SnapshotFile]) -> Result<(), &'static str> {
    let Some((checkpoint, segments)) = files.split_first() else {
        return Err("the list is empty");
    };
    let at_point = checkpoint.kind == SnapshotFileKind::CHECKPOINT
        && checkpoint.base == point
        && checkpoint.last == point;
    if !at_point || checkpoint.len > CHECKPOINT_BYTES_MAX {
        return Err("the first file is not the checkpoint asked for");
    }
    let mut last = point;
    let mut whole = checkpoint.len;
    for segment in segments {
        let follows = segment.kind == SnapshotFileKind::SEGMENT
            && segment.base == last.next()
            && segment.last >= segment.base;
        if !follows {
            return Err("a segment does not follow the file before");
        }
        if segment.len <= PAGE + TRAILER_LEN as u64 {
            return Err("a segment is too short to hold an entry");
        }
        whole = whole
            .checked_add(segment.len)
            .ok_or("the files are longer than any volume")?;
        last = segment.last;
    }
    Ok(())
}

/// Removes incoming files that are none of these; answers what is here of each.
fn keep(storage: &dyn Storage, dir: &Path, files: &[SnapshotFile]) -> Result<Vec<u64>, Fault> {
    let fatal = |error| Fault::fatal(dir, error);
    let names = files.iter().enumerate();
    let names: BTreeMap<_, _> = names
        .map(|(number, file)| (name_of(&incoming_path(dir, file)), (number, file.len)))
        .collect();
    let mut have = vec![0; files.len()];
    for entry in storage.list(dir).map_err(fatal)? {
        if !is_incoming(&entry.name) {
            continue;
        }
        match names.get(&entry.name) {
            Some((number, len)) if entry.len <= *len => {
                if let Some(have) = have.get_mut(*number) {
                    *have = entry.len;
                }
            }
            _ => storage.remove(&dir.join(&entry.name)).map_err(fatal)?,
        }
    }
    Ok(have)
}
