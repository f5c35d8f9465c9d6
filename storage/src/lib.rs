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
    Access, Boot, Crash, DirEntry, DiskStorage, File, Lane, MemoryStorage, RamStorage, Space,
    Storage, Work, read_file, write_file,
};
pub use identity::{DataDir, DataDirError, StorageIdentity};
pub use log::{
    Arrived, CreateError, LogConfig, LogIdentity, LogReader, LogWriter, OpenError, Opened, Proof,
    ReadError, ReadMode, ReadOutcome, Recovery, SegmentInfo, ShipError, Shipment, StageError,
    Staging, SwapError, TornTail, TrimError, WriteError, create_log, discard_incoming, log_exists,
    log_identity, may_have_lost, note_flushed, note_unflushed, open_log, reopen_log, swap_log,
};
pub use segment::{Roller, frame_len};
pub use state_log::{HardState, HardStates, StateLog, StateLogError};
