//! The note that a log is written without flushing: after which restarts its end may be gone.
//!
//! It stands in the log's directory from before the first such write until a flush has covered the last.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WriteError;
use crate::file::{Access, Boot, Storage, replace};

const FILE: &str = "unflushed";
const BYTES: usize = 16;

/// Notes durably that this run of the kernel holds bytes of the log that no disk has.
///
/// # Errors
/// The volume refuses.
pub fn note_unflushed(storage: &Arc<dyn Storage>, dir: &Path) -> Result<(), WriteError> {
    // What cannot be told is never the same again.
    let boot = storage
        .boot()
        .map_or([0; BYTES], |boot| boot.0.to_le_bytes());
    Ok(replace(&**storage, &path(dir), &boot)?)
}

/// Removes the note durably: everything is on disk.
///
/// # Errors
/// What the system reports.
pub fn note_flushed(storage: &Arc<dyn Storage>, dir: &Path) -> io::Result<()> {
    let path = path(dir);
    if !storage.exists(&path)? {
        return Ok(());
    }
    storage.remove(&path)?;
    storage.sync_dir(dir)
}

/// Whether bytes that were written to the log may be gone, although nobody damaged it.
///
/// # Errors
/// What the system reports.
pub fn may_have_lost(storage: &Arc<dyn Storage>, dir: &Path) -> io::Result<bool> {
    let path = path(dir);
    if !storage.exists(&path)? {
        return Ok(false);
    }
    let mut noted = [0; BYTES];
    let read = storage.open(&path, Access::Read)?.read_at(&mut noted, 0)?;
    let noted = Boot(u128::from_le_bytes(noted));
    let same = storage.boot().is_ok_and(|now| now == noted);
    Ok(read != BYTES || !same)
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Crash, MemoryStorage};

    #[test]
    fn only_another_kernel_after_an_unclean_stop_may_have_lost_bytes() {
        let memory = Arc::new(MemoryStorage::inline());
        let storage: Arc<dyn Storage> = memory.clone();
        let dir = Path::new("/g");
        storage.create_dir(dir).unwrap();
        storage.sync_dir("/".as_ref()).unwrap();
        assert!(!may_have_lost(&storage, dir).unwrap());
        note_unflushed(&storage, dir).unwrap();
        memory.crash(Crash::Process);
        assert!(!may_have_lost(&storage, dir).unwrap());
        memory.crash(Crash::Synced);
        assert!(may_have_lost(&storage, dir).unwrap());
        note_unflushed(&storage, dir).unwrap();
        note_flushed(&storage, dir).unwrap();
        note_flushed(&storage, dir).unwrap();
        memory.crash(Crash::Synced);
        assert!(!may_have_lost(&storage, dir).unwrap());
        memory.plant("/g/unflushed".as_ref(), b"short");
        assert!(may_have_lost(&storage, dir).unwrap());
    }
}
