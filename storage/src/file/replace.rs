//! Whole files that appear at once: written under a temporary name, flushed, renamed, name flushed.
//!
//! After a crash the file has its old content or its new content, never a part of either.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, Fault, File, Storage};

/// Ending of a name that is not in use yet; whatever still has it after a crash was never relied upon.
pub(crate) const TEMPORARY: &str = "tmp";

/// A new file under its temporary name.
#[derive(Debug)]
pub(crate) struct Staged {
    temporary: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl Staged {
    /// Creates the temporary file, dropping what an earlier attempt left.
    pub(crate) fn create(storage: &dyn Storage, path: &Path) -> Result<Self, Fault> {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(TEMPORARY);
        let temporary = PathBuf::from(name);
        if storage
            .exists(&temporary)
            .map_err(|error| Fault::fatal(&temporary, error))?
        {
            storage
                .remove(&temporary)
                .map_err(|error| Fault::fatal(&temporary, error))?;
        }
        let file = storage
            .open(&temporary, Access::CreateNew)
            .map_err(|error| Fault::of_write(&temporary, error))?;
        Ok(Self {
            temporary,
            path: path.into(),
            file,
        })
    }

    /// Writes bytes at a position of the new file.
    pub(crate) fn write(&self, bytes: &[u8], position: u64) -> Result<(), Fault> {
        self.file
            .write_vectored_at(&[IoSlice::new(bytes)], position)
            .map_err(|error| Fault::of_write(&self.temporary, error))
    }

    /// Makes the content durable; the name is still the temporary one.
    pub(crate) fn flush(&self) -> Result<(), Fault> {
        self.file
            .sync_all()
            .map_err(|error| Fault::fatal(&self.temporary, error))
    }

    /// Gives the flushed file its name, durably, and answers the handle.
    pub(crate) fn publish(self, storage: &dyn Storage) -> Result<Arc<dyn File>, Fault> {
        storage
            .rename(&self.temporary, &self.path)
            .map_err(|error| Fault::fatal(&self.path, error))?;
        sync_parent(storage, &self.path)?;
        Ok(self.file)
    }

    /// Removes the temporary file.
    pub(crate) fn discard(self, storage: &dyn Storage) -> Result<(), Fault> {
        storage
            .remove(&self.temporary)
            .map_err(|error| Fault::fatal(&self.temporary, error))
    }
}

/// Replaces or creates a file as one durable step.
pub(crate) fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let staged = Staged::create(storage, path)?;
    if let Err(fault) = staged.write(bytes, 0) {
        if matches!(fault, Fault::NoSpace { .. }) {
            staged.discard(storage)?;
        }
        return Err(fault);
    }
    staged.flush()?;
    staged.publish(storage)?;
    Ok(())
}

/// Writes a small file as one durable step: after a crash it has its old content or the new one.
///
/// # Errors
/// What the system reports; the file is as it was.
pub fn write_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(storage, path, bytes).map_err(|fault| match fault {
        Fault::NoSpace { .. } => io::ErrorKind::StorageFull.into(),
        Fault::Fatal { source, .. } => source,
    })
}

/// Reads a small file, if there is one. Blocks on the disk.
///
/// # Errors
/// What the system reports, or that it holds more than `bytes_max`.
pub fn read_file(
    storage: &dyn Storage,
    path: &Path,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    if !storage.exists(path)? {
        return Ok(None);
    }
    let file = storage.open(path, Access::Read)?;
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

/// Creates a directory and the one above it if need be, both names durable, also where an earlier process
/// created them and died.
pub(crate) fn create_dir_durably(storage: &dyn Storage, path: &Path) -> Result<(), Fault> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    for directory in above.into_iter().chain([path]) {
        match storage.create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Fault::of_write(directory, error));
            }
            _ => sync_parent(storage, directory)?,
        }
    }
    Ok(())
}

fn sync_parent(storage: &dyn Storage, path: &Path) -> Result<(), Fault> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    storage
        .sync_dir(parent)
        .map_err(|error| Fault::fatal(parent, error))
}
