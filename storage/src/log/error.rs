//! What can go wrong with a log, per operation.

use std::io;
use std::path::{Path, PathBuf};

use quorate_protocol::{LogIndex, Offset};

use crate::file::Fault;

/// Why a log was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is a log already, whole or in parts; nothing was changed.
    #[error("{}: there is a log already; open it, or move it aside", path.display())]
    Occupied {
        /// Its directory.
        path: PathBuf,
    },
    /// No room on the volume; calling again resumes.
    #[error("{}: no room left on the volume", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// The volume cannot be trusted any more.
    #[error("{}: {source}; the volume must not be used until the broker has restarted", path.display())]
    Fatal {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

/// Why a log was not opened. Nothing was removed or repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No log was ever completed here.
    #[error("{}: there is no log", path.display())]
    Absent {
        /// The directory looked at.
        path: PathBuf,
    },
    /// Bytes that were durable are wrong or missing.
    #[error("{} is damaged at byte {position}: {why}; restore the replica from its peers", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where the damage begins.
        position: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No room to make the tail of the log durable.
    #[error("{}: no room left on the volume; free some and start again", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// The system refused an operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, position: u64, why: &'static str) -> Self {
        Self::Damaged {
            path: path.into(),
            position,
            why,
        }
    }
}

/// Why entries were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No room on the volume. The log is as it was before the call, save that entries which the call
    /// was to replace are gone; it stays usable.
    #[error("{}: no room left on the volume; free some, writing then resumes", path.display())]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The volume cannot be trusted any more: this writer refuses all further work.
    #[error("{}: {source}; restart the broker, nothing unflushed may be relied upon", path.display())]
    Fatal {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// The entries cannot follow this log; nothing was written.
    #[error("entry {index} cannot be written: {why}")]
    Invalid {
        /// The first wrong entry.
        index: LogIndex,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why the log was not trimmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrimError {
    /// The state after the last removed entry was never saved; nothing was removed.
    #[error("{}: missing, so entries up to {index} cannot be removed", path.display())]
    NoCheckpoint {
        /// The last entry that was to go.
        index: LogIndex,
        /// The checkpoint that must exist first.
        path: PathBuf,
    },
    /// The volume cannot be trusted any more: the writer refuses all further work.
    #[error("{}: {source}; restart the broker", path.display())]
    Fatal {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("the log holds offsets from {start} up to {end}")]
    OutOfRange {
        /// First offset kept.
        start: Offset,
        /// Offset that is written next.
        end: Offset,
    },
    /// The index is not in the log.
    #[error("the log holds entries from {first} to {last}")]
    NoEntry {
        /// First index kept.
        first: LogIndex,
        /// Last index written.
        last: LogIndex,
    },
    /// Stored bytes are wrong.
    #[error("{} is damaged at byte {position}: {why}; restore the replica from its peers", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where the damage begins.
        position: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused the read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file read.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

impl ReadError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, position: u64, why: &'static str) -> Self {
        Self::Damaged {
            path: path.into(),
            position,
            why,
        }
    }
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace { path } => Self::NoSpace { path },
            Fault::Fatal { path, source } => Self::Fatal { path, source },
        }
    }
}

impl From<Fault> for CreateError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace { path } => Self::NoSpace { path },
            Fault::Fatal { path, source } => Self::Fatal { path, source },
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace { path } => Self::NoSpace { path },
            Fault::Fatal { path, source } => Self::Io { path, source },
        }
    }
}
