//! Files that arrived take the place of a replica's own, which is then opened as after a restart.
//!
//! The replica keeps its identity and never forgets a vote: its hard state is durable before the new
//! files count, and a commit index that only they justify is noted after them.

use std::path::PathBuf;
use std::sync::Arc;

use quorate_protocol::LogIndex;
use quorate_storage::{
    Arrived, HardState, OpenError, Opened, SwapError, WriteError, reopen_log, swap_log,
};

use crate::replication::flush::{Disk, Poison};
use crate::replication::machine::StateMachine;
use crate::replication::recovery::{Files, Recovered, restore};
use crate::replication::shard::Halt;
use crate::replication::snapshot::place::Place;

/// Why a replica is not open any more.
#[derive(Debug)]
pub(super) enum Ruin {
    /// Nothing on the volume may be relied upon.
    Volume(Poison),
    /// This replica alone.
    Replica(Halt),
}

/// What is opened.
pub(super) struct Reopened<M> {
    pub(super) recovered: Recovered<M>,
    pub(super) files: Files,
    /// It is what arrived; else there was no room, and it is what was there.
    pub(super) exchanged: bool,
}

/// Exchanges the files and opens the replica; without room it is opened as it was. Blocks on the disk;
/// nothing else may use the replica's folder.
pub(super) fn exchange<M: StateMachine>(
    disk: &Disk<M>,
    place: &Place,
    arrived: &Arrived,
    wanted: HardState,
    (machine, tail_bytes_max): (M, usize),
) -> Result<Reopened<M>, Ruin> {
    let spec = &place.spec;
    let saved = disk.saved(spec.replica);
    let safe = HardState {
        commit: saved.map_or(LogIndex::ZERO, |saved| saved.commit),
        ..wanted
    };
    if disk.is_poisoned() {
        return Err(Ruin::Replica(Halt("the volume has failed".into())));
    }
    let swapped = match disk.save(spec.replica, safe) {
        Ok(()) => swap(place, arrived)?,
        // What was not saved was never said: the replica stands where its disk says.
        Err(WriteError::NoSpace { .. }) => None,
        Err(error) => return Err(Ruin::Volume(Poison::of_write(&error))),
    };
    let exchanged = swapped.is_some();
    let (opened, hard) = if let Some(opened) = swapped {
        let commit = arrived.last_index();
        let hard = HardState { commit, ..wanted };
        match disk.save(spec.replica, hard) {
            Ok(()) | Err(WriteError::NoSpace { .. }) => (opened, Some(hard)),
            Err(error) => return Err(Ruin::Volume(Poison::of_write(&error))),
        }
    } else {
        let log = spec.log;
        let opened = reopen_log(place.reader.storage(), &spec.dir, log, &place.reader);
        (opened.map_err(of_open)?, disk.saved(spec.replica))
    };
    let restored = restore(spec, opened, hard, machine, tail_bytes_max);
    let (recovered, files) = restored.map_err(|error| Ruin::Replica(Halt(error.to_string())))?;
    Ok(Reopened {
        recovered,
        files,
        exchanged,
    })
}

/// None: there was no room to begin.
fn swap(place: &Place, arrived: &Arrived) -> Result<Option<Opened>, Ruin> {
    let spec = &place.spec;
    let storage = place.reader.storage();
    match swap_log(storage, &spec.dir, spec.log, arrived, &place.reader) {
        Ok(opened) => Ok(Some(opened)),
        Err(SwapError::NoSpace { path }) => {
            tracing::warn!(group = %spec.group, path = %path.display(), "no room to exchange files");
            Ok(None)
        }
        Err(SwapError::Open(error)) => Err(of_open(error)),
        Err(SwapError::Fatal { path, source }) => Err(volume(path, &source)),
        Err(other) => Err(Ruin::Replica(Halt(other.to_string()))),
    }
}

fn of_open(error: OpenError) -> Ruin {
    match error {
        OpenError::Io { path, source } => volume(path, &source),
        other => Ruin::Replica(Halt(other.to_string())),
    }
}

fn volume(path: PathBuf, source: &std::io::Error) -> Ruin {
    let error = source.to_string();
    Ruin::Volume(Poison { path, error })
}

/// Waits until nothing from before touches a group's folder any more.
pub(super) async fn clear<M: StateMachine>(disk: &Arc<Disk<M>>, place: &Place) {
    // Without room the last mark is not written; opening then copies what was not flushed.
    drop(disk.close(place.spec.group).await);
    // Checkpoints are written in that order, one at a time: there is none behind this.
    let storage = disk.storage();
    let last = crate::replication::snapshot::job::run(
        storage.as_ref(),
        quorate_storage::Lane::Background,
        || (),
    );
    drop(last.await);
}
