//! Creating a log: birth checkpoint, first segment, and last the identity that makes it count.

use std::path::Path;
use std::sync::Arc;

use super::truncate::stage_segment;
use super::{CreateError, LogIdentity, OpenError};
use crate::checkpoint::{Checkpoint, CheckpointStore};
use crate::file::{Access, Fault, Storage, create_dir_durably};
use crate::identity::{read_replica, replica_path, write_replica};
use crate::layout::in_memory;
use crate::segment::{PAGE, SegmentHeader, segment_base, segment_path};

/// Whether a complete log stands in a directory.
///
/// # Errors
/// What the system reports.
pub fn log_exists(storage: &Arc<dyn Storage>, dir: &Path) -> std::io::Result<bool> {
    storage.exists(&replica_path(dir))
}

/// Whose log stands in a directory, if there is a complete one.
///
/// # Errors
/// The file that says so cannot be read, or is missing beside entries.
pub fn log_identity(
    storage: &Arc<dyn Storage>,
    dir: &Path,
) -> Result<Option<LogIdentity>, OpenError> {
    let exists = storage.exists(dir);
    if !exists.map_err(|error| OpenError::io(dir, error))? {
        return Ok(None);
    }
    match read_replica(&**storage, dir) {
        Ok(identity) => Ok(Some(identity)),
        Err(OpenError::Absent { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the log of a new replica. `birth` is the state after its index; the first entry follows it.
/// Resumes what an earlier call left behind when the machine stopped.
///
/// # Errors
/// There is a log already, or the volume refuses.
pub fn create_log(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    identity: LogIdentity,
    birth: &Checkpoint,
) -> Result<(), CreateError> {
    create_dir_durably(&**storage, dir)?;
    if log_exists(storage, dir).map_err(|error| Fault::fatal(dir, error))?
        || holds_entries(&**storage, dir)?
    {
        return Err(CreateError::Occupied { path: dir.into() });
    }
    CheckpointStore::new(Arc::clone(storage), dir, identity).write_file(birth)?;
    let header = first_header(identity, birth);
    let path = segment_path(dir, header.base_index);
    stage_segment(&**storage, &path, &header)?.publish(&**storage)?;
    write_replica(&**storage, dir, identity)?;
    Ok(())
}

/// The header of the first segment behind a checkpoint.
pub(crate) fn first_header(identity: LogIdentity, birth: &Checkpoint) -> SegmentHeader {
    SegmentHeader {
        group: identity.group,
        tag: identity.tag,
        base_index: birth.index.next(),
        base_offset: birth.next_offset,
        term_before: birth.term,
        chain_seed: birth.chain,
    }
}

/// Whether any segment has more than its first page: then a log lost its identity, and is not replaced.
pub(crate) fn holds_entries(storage: &dyn Storage, dir: &Path) -> Result<bool, Fault> {
    let entries = storage
        .list(dir)
        .map_err(|error| Fault::fatal(dir, error))?;
    for entry in entries {
        let Some(base) = segment_base(&entry.name) else {
            continue;
        };
        if entry.len > PAGE && !is_blank(storage, &segment_path(dir, base), entry.len)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_blank(storage: &dyn Storage, path: &Path, len: u64) -> Result<bool, Fault> {
    let fatal = |error| Fault::fatal(path, error);
    let file = storage.open(path, Access::Read).map_err(fatal)?;
    let mut frame = vec![0; in_memory((len - PAGE).min(PAGE))];
    file.read_at(&mut frame, PAGE).map_err(fatal)?;
    Ok(frame.iter().all(|byte| *byte == 0))
}
