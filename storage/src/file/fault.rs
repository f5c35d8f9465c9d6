//! What a failed write means: room ran out and nothing is lost, or the volume cannot be trusted any more.

use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Why something could not be made durable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A write found no room. What was durable before is intact.
    #[error("no room left on the volume of {}", path.display())]
    NoSpace { path: PathBuf },
    /// Anything else; never retried.
    #[error("{}: {source}", path.display())]
    Fatal { path: PathBuf, source: io::Error },
}

impl Fault {
    /// Judges an error of a plain write, where lack of room is survivable.
    pub(crate) fn of_write(path: &Path, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        if full {
            Self::NoSpace { path: path.into() }
        } else {
            Self::fatal(path, source)
        }
    }

    /// An error of a sync, a rename or a read-back: final whatever its kind.
    pub(crate) fn fatal(path: &Path, source: io::Error) -> Self {
        Self::Fatal {
            path: path.into(),
            source,
        }
    }
}
