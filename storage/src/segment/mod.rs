//! The byte format of a segment file, one file per part; knows no I/O.
//!
//! Page 0 belongs to this replica; from [`PAGE`] on the bytes are a function of the log alone, so they
//! are the same on every replica.

mod cursor;
mod footer;
mod frame;
mod header;
mod mark;
mod roller;

pub(crate) use cursor::Cursor;
pub(crate) use footer::{Footer, TRAILER_LEN};
pub use frame::frame_len;
pub(crate) use frame::{BatchSummary, FRAME_LEN, Frame, PADDING, batch_is_whole, padded};
pub(crate) use header::SegmentHeader;
pub(crate) use mark::{DurableMark, MARK_SECTORS};
pub use roller::Roller;

use std::path::{Path, PathBuf};

use quorate_protocol::LogIndex;

/// Length of page 0; the first frame stands behind it.
pub(crate) const PAGE: u64 = 4096;
/// Length of a sector of page 0.
pub(crate) const SECTOR: usize = 512;

const SEGMENT_SUFFIX: &str = ".seg";
const INDEX_SUFFIX: &str = ".idx";
const CHECKPOINT_SUFFIX: &str = ".ckpt";

/// The segment that begins with an index.
pub(crate) fn segment_path(dir: &Path, base: LogIndex) -> PathBuf {
    dir.join(format!("{:020}{SEGMENT_SUFFIX}", base.get()))
}

/// The index file beside that segment.
pub(crate) fn index_path(dir: &Path, base: LogIndex) -> PathBuf {
    dir.join(format!("{:020}{INDEX_SUFFIX}", base.get()))
}

/// The checkpoint of the state after an index.
pub(crate) fn checkpoint_path(dir: &Path, index: LogIndex) -> PathBuf {
    dir.join(format!("{:020}{CHECKPOINT_SUFFIX}", index.get()))
}

/// The index in the name of a segment.
pub(crate) fn segment_base(name: &str) -> Option<LogIndex> {
    numbered(name, SEGMENT_SUFFIX)
}

/// The index in the name of a checkpoint.
pub(crate) fn checkpoint_index(name: &str) -> Option<LogIndex> {
    numbered(name, CHECKPOINT_SUFFIX)
}

/// Whether a name is one of a log's segments, indexes or checkpoints.
pub(crate) fn is_part_of_log(name: &str) -> bool {
    [SEGMENT_SUFFIX, INDEX_SUFFIX, CHECKPOINT_SUFFIX]
        .iter()
        .any(|suffix| numbered(name, suffix).is_some())
}

fn numbered(name: &str, suffix: &str) -> Option<LogIndex> {
    let digits = name.strip_suffix(suffix)?;
    let exact = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    exact.then(|| digits.parse().ok().map(LogIndex::new))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_back_their_index() {
        let path = segment_path(Path::new("d"), LogIndex::new(42));
        assert_eq!(path, Path::new("d/00000000000000000042.seg"));
        assert_eq!(
            segment_base("00000000000000000042.seg"),
            Some(LogIndex::new(42))
        );
        assert_eq!(segment_base("42.seg"), None);
        assert_eq!(segment_base("00000000000000000042.seg.tmp"), None);
        assert_eq!(
            checkpoint_index("00000000000000000007.ckpt"),
            Some(LogIndex::new(7))
        );
    }
}
