//! A log's committed files, from a replica that has them to one that is too far behind for its entries.
//!
//! What travels is a function of the log alone: a checkpoint, and closed segments whose page 0 is made
//! as if all of it had just been flushed. So a transfer that broke off goes on with any other replica.
//! Files that came stand beside the log under names that do not count, until they are all proved; then
//! one durable step makes them the log.

mod pins;
mod proof;
mod shipment;
mod staging;
mod swap;

pub(crate) use pins::Pins;
pub use proof::{Arrived, Proof};
pub use shipment::{ShipError, Shipment};
pub use staging::{StageError, Staging};
pub(crate) use swap::resume_swap;
pub use swap::{SwapError, reopen_log, swap_log};

use std::path::{Path, PathBuf};

use quorate_protocol::{SnapshotFile, SnapshotFileKind};

use crate::file::Storage;
use crate::layout::{crc32c, crc32c_joined};
use crate::segment::{PAGE, SegmentHeader, checkpoint_path, segment_path};

/// Ending of names that do not count yet.
const INCOMING: &str = "incoming";

/// Whether a file came from a peer and is no part of the log.
pub(crate) fn is_incoming(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| ending == INCOMING)
}

/// The name a file has once it counts.
fn final_path(dir: &Path, file: &SnapshotFile) -> PathBuf {
    if file.kind == SnapshotFileKind::CHECKPOINT {
        checkpoint_path(dir, file.last)
    } else {
        segment_path(dir, file.base)
    }
}

/// The name a file has until then; it says which content is meant.
fn incoming_path(dir: &Path, file: &SnapshotFile) -> PathBuf {
    let mut name = final_path(dir, file).into_os_string();
    name.push(format!(".{:08x}.{INCOMING}", file.crc));
    PathBuf::from(name)
}

/// Checksum of a shipped segment from those of its parts.
fn segment_crc(page: &[u8], frames_crc: u32, frames_end: u64, footer: &[u8]) -> u32 {
    let frames_len = frames_end.saturating_sub(PAGE);
    let crc = crc32c_joined(crc32c(page), frames_crc, frames_len);
    crc32c_joined(crc, crc32c(footer), footer.len() as u64)
}

/// The name of a path, for comparison with listings.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The header of the first segment behind a checkpoint.
fn header_behind(
    identity: crate::log::LogIdentity,
    checkpoint: &crate::checkpoint::Checkpoint,
) -> SegmentHeader {
    crate::log::create::first_header(identity, checkpoint)
}

/// Removes what a transfer left, if there is anything.
///
/// # Errors
/// What the system reports.
pub fn discard_incoming(storage: &dyn Storage, dir: &Path) -> std::io::Result<()> {
    for entry in storage.list(dir)? {
        if is_incoming(&entry.name) {
            storage.remove(&dir.join(&entry.name))?;
        }
    }
    Ok(())
}
