//! The door to disks: two traits, the product implementation and an in-memory twin.
//!
//! All fsync, rename and directory-sync lore of the project stands here. A file is durable only after
//! `sync_data` or `sync_all`; a *name* is durable only after `sync_dir` of its directory. An error of
//! any sync is final: the kernel may have dropped the pages and reports it once.

mod disk;
mod fault;
mod lanes;
mod memory;
mod ram;
mod replace;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use disk::DiskStorage;
pub use memory::{Crash, MemoryStorage};
pub use ram::RamStorage;

pub(crate) use fault::Fault;
pub(crate) use replace::{Staged, TEMPORARY, create_dir_durably, replace};
pub use replace::{read_file, write_file};

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; fails if the name exists.
    CreateNew,
}

/// The kind of work given to [`Storage::submit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Writes and flushes that somebody waits for: at most 16 at once.
    Flush,
    /// Reads that are not in the page cache: at most 4 at once.
    Read,
    /// Preparation and housekeeping: one at a time, in order of submission.
    Background,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    /// Name inside the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
    /// Length in bytes; zero for a directory.
    pub len: u64,
}

/// Room on the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes that can still be written.
    pub free: u64,
    /// Size of the volume.
    pub total: u64,
}

/// One run of the kernel: what was written in it and not flushed is there as long as it lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boot(pub u128);

/// Work for a lane.
pub type Work = Box<dyn FnOnce() + Send>;

/// A volume: names, files, and threads to wait on them.
pub trait Storage: Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// What the system reports.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Creates one directory; its parent must exist.
    ///
    /// # Errors
    /// What the system reports, also `AlreadyExists`.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Lists a directory, sorted by name.
    ///
    /// # Errors
    /// What the system reports.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Gives a file another name in the same directory, replacing what had it; or a directory one that
    /// nothing has. Durable after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// What the system reports.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Durable after [`Storage::sync_dir`]; open handles stay usable.
    ///
    /// # Errors
    /// What the system reports.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the system reports.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system reports; final for the volume.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Whether a name exists.
    ///
    /// # Errors
    /// What the system reports.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Takes an exclusive lock on a file, creating it; held until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` if another holder has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Room on the volume that holds `path`.
    ///
    /// # Errors
    /// What the system reports.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The run of the kernel that keeps unflushed bytes.
    ///
    /// # Errors
    /// It cannot be told; then nothing unflushed can be relied upon after a restart.
    fn boot(&self) -> io::Result<Boot>;

    /// Runs work on one of the lane's threads. The caller bounds what it has outstanding.
    fn submit(&self, lane: Lane, work: Work);
}

/// One open file. Positional, so a handle is shared freely.
pub trait File: Debug + Send + Sync {
    /// Reads until the buffer is full or the file ends; answers the bytes read.
    ///
    /// # Errors
    /// What the system reports.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// As [`File::read_at`] from memory only: `None` if a device would have to be waited for.
    ///
    /// # Errors
    /// What the system reports.
    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>>;

    /// Writes all slices, one behind the other. After an error any part may be written.
    ///
    /// # Errors
    /// What the system reports.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Makes contents and the length durable.
    ///
    /// # Errors
    /// What the system reports; final for the volume.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and all attributes durable.
    ///
    /// # Errors
    /// What the system reports; final for the volume.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file.
    ///
    /// # Errors
    /// What the system reports.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Current length in bytes.
    ///
    /// # Errors
    /// What the system reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// What the system reports.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
