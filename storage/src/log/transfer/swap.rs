//! The exchange: files that arrived take the place of the log's own.
//!
//! A record of what is to happen is the one durable step. Before it the old log counts; from then on the
//! new one does, and whoever finds the record finishes what it says before anything else.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::{LogIndex, SnapshotFile, SnapshotFileKind};

use super::proof::Arrived;
use super::{final_path, header_behind, incoming_path, name_of};
use crate::checkpoint::CheckpointStore;
use crate::file::{Access, Fault, Storage, replace};
use crate::identity::read_replica;
use crate::layout::{FieldReader, FieldWriter, checked, in_memory};
use crate::log::open::open_with;
use crate::log::segment_state::Segment;
use crate::log::truncate::stage_segment;
use crate::log::{LogConfig, LogReader, OpenError, Opened};
use crate::segment::{is_part_of_log, segment_path};

const MAGIC: &[u8; 8] = b"QRTSWAP\x01";
const RECORD_FILE: &str = "swap";
/// Longest record: a full list.
const RECORD_BYTES_MAX: u64 = 4 << 20;

/// Why the files were not exchanged, or the log is not open after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// There was no room to begin; the old log counts.
    #[error("{}: no room left on the volume to exchange a log's files", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// The volume cannot be trusted any more; the next start finds the old log or the new one.
    #[error("{}: {source}; restart the broker", path.display())]
    Fatal {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// The new log counts, but cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<Fault> for SwapError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace { path } => Self::NoSpace { path },
            Fault::Fatal { path, source } => Self::Fatal { path, source },
        }
    }
}

/// Makes files that arrived the log, whose writer must be gone, and opens it. `reader` and its clones
/// read the new log from then on; meanwhile they see an empty one that begins where the new one does.
///
/// # Errors
/// See [`SwapError`].
pub fn swap_log(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    config: LogConfig,
    arrived: &Arrived,
    reader: &LogReader,
) -> Result<Opened, SwapError> {
    replace(&**storage, &dir.join(RECORD_FILE), &encode(&arrived.files))?;
    let (header, time) = (arrived.start.next, arrived.start.time);
    let blank = Segment::empty(dir, header, time);
    reader.shared().replace_state(Default::default(), blank);
    reopen_log(storage, dir, config, reader).map_err(SwapError::Open)
}

/// Opens a log again under the handles its readers have. Its writer must be gone.
///
/// # Errors
/// As [`open_log`](crate::open_log).
pub fn reopen_log(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    config: LogConfig,
    reader: &LogReader,
) -> Result<Opened, OpenError> {
    open_with(storage, dir, config, Some(reader.shared()))
}

/// Finishes an exchange that was begun, if one was.
pub(crate) fn resume_swap(storage: &Arc<dyn Storage>, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(RECORD_FILE);
    let io = |error| OpenError::io(&path, error);
    if !storage.exists(&path).map_err(io)? {
        return Ok(());
    }
    let files = read_record(&**storage, &path)?;
    put_in_place(&**storage, dir, &files)?;
    if files.len() == 1 {
        begin_empty(storage, dir, &files)?;
    }
    storage.sync_dir(dir).map_err(io)?;
    storage.remove(&path).map_err(io)?;
    // Durable before anything is written behind the new files: done again, it would be removed.
    storage.sync_dir(dir).map_err(io)
}

/// Gives the files their names and removes everything else of the log.
fn put_in_place(
    storage: &dyn Storage,
    dir: &Path,
    files: &[SnapshotFile],
) -> Result<(), OpenError> {
    let io = |error| OpenError::io(dir, error);
    let entries = storage.list(dir).map_err(io)?;
    let names: BTreeSet<&str> = entries.iter().map(|entry| &*entry.name).collect();
    let mut kept = BTreeSet::new();
    for file in files {
        let (from, to) = (incoming_path(dir, file), final_path(dir, file));
        if names.contains(&*name_of(&from)) {
            storage.rename(&from, &to).map_err(io)?;
        } else if !names.contains(&*name_of(&to)) {
            let why = "a file that was to become part of the log is missing";
            return Err(OpenError::damaged(&to, 0, why));
        }
        kept.insert(name_of(&to));
    }
    let old = entries.iter().map(|entry| &entry.name);
    for name in old.filter(|name| is_part_of_log(name) && !kept.contains(*name)) {
        storage.remove(&dir.join(name)).map_err(io)?;
    }
    Ok(())
}

/// A log of a checkpoint alone begins with an empty segment.
fn begin_empty(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    files: &[SnapshotFile],
) -> Result<(), OpenError> {
    let identity = read_replica(&**storage, dir)?;
    let point = files.first().map_or(LogIndex::ZERO, |file| file.last);
    let checkpoint = CheckpointStore::new(Arc::clone(storage), dir, identity).load(point);
    let checkpoint =
        checkpoint.map_err(|error| crate::log::open::checkpoint_unreadable(dir, error))?;
    let header = header_behind(identity, &checkpoint);
    let path = segment_path(dir, header.base_index);
    stage_segment(&**storage, &path, &header)?.publish(&**storage)?;
    Ok(())
}

fn encode(files: &[SnapshotFile]) -> Vec<u8> {
    let mut fields = FieldWriter::new(MAGIC.len() + files.len() * 22 + 4).bytes(MAGIC);
    for file in files {
        fields = fields
            .u16(file.kind.get())
            .u64(file.base.get())
            .u64(file.last.get())
            .u32(file.crc);
    }
    fields.crc().done()
}

fn read_record(storage: &dyn Storage, path: &Path) -> Result<Vec<SnapshotFile>, OpenError> {
    let io = |error| OpenError::io(path, error);
    let file = storage.open(path, Access::Read).map_err(io)?;
    let mut bytes = vec![0; in_memory(file.len().map_err(io)?.min(RECORD_BYTES_MAX))];
    let count = file.read_at(&mut bytes, 0).map_err(io)?;
    let files = bytes.get(..count).and_then(decode);
    files.ok_or_else(|| OpenError::damaged(path, 0, "the record of an exchange is not readable"))
}

fn decode(bytes: &[u8]) -> Option<Vec<SnapshotFile>> {
    let mut fields = FieldReader::new(checked(bytes)?);
    (fields.bytes(MAGIC.len())? == MAGIC).then_some(())?;
    let mut files = Vec::new();
    while !fields.is_empty() {
        files.push(SnapshotFile {
            kind: SnapshotFileKind::new(fields.u16()?),
            base: LogIndex::new(fields.u64()?),
            last: LogIndex::new(fields.u64()?),
            len: 0,
            crc: fields.u32()?,
        });
    }
    (!files.is_empty()).then_some(files)
}
