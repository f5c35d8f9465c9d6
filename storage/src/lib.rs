//! One partition's segmented log: append, flush, read, truncate, recover, retain.
//!
//! Knows no network and no executor, and nothing of topics. Bytes from disk give a value or an error,
//! never a panic; lengths are checked before they are used.

#![forbid(unsafe_code)]

mod checkpoint;
mod entry;
mod file;
mod identity;
mod index;
mod layout;
mod log;
mod segment;
mod state_log;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointStore};
pub use entry::{Entry, EntryKind};
pub use file::{
    Access, Crash, DirEntry, DiskStorage, File, Lane, MemoryStorage, Space, Storage, Work,
};
pub use identity::{DataDir, DataDirError, StorageIdentity};
pub use log::{
    CreateError, LogConfig, LogIdentity, LogReader, LogWriter, OpenError, Opened, ReadError,
    ReadMode, ReadOutcome, Recovery, SegmentInfo, TornTail, TrimError, WriteError, create_log,
    log_exists, log_identity, open_log,
};
pub use segment::{Roller, frame_len};
pub use state_log::{HardState, HardStates, StateLog, StateLogError};
