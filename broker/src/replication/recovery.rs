//! From files to a replica: create, open, restore, replay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::{GroupId, HybridTime, LogIndex, Offset, ReplicaId, Term};
use quorate_storage::{
    Checkpoint, CheckpointStore, HardState, LogConfig, LogIdentity, LogReader, LogWriter, Opened,
    Storage, create_log, log_exists, open_log,
};

use crate::replication::config::GroupSpec;
use crate::replication::machine::StateMachine;
use crate::replication::offsets::Place;
use crate::replication::replay::Replay;
use crate::replication::shard::membership::Membership;
use crate::replication::store::Store;

/// Of a replica that never voted nor met a term.
const UNSAVED: HardState = HardState {
    term: Term::new(0),
    vote: ReplicaId::new(0),
    commit: LogIndex::new(0),
};

/// Why a group was not opened. Its files are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The log cannot be read.
    #[error("group {group} in {}: {source}", dir.display())]
    Log {
        /// The group.
        group: GroupId,
        /// Its folder.
        dir: PathBuf,
        /// What storage said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The folder holds another replica.
    #[error("{} holds replica {found:?}, not {wanted:?}; it belongs to another group or broker", dir.display())]
    Identity {
        /// The folder.
        dir: PathBuf,
        /// What it holds.
        found: LogIdentity,
        /// What was looked for.
        wanted: LogIdentity,
    },
    /// The checkpoint or the log says what this version does not understand.
    #[error("group {group} in {}: {why}; restore the replica from its peers, or use the version that wrote it", dir.display())]
    State {
        /// The group.
        group: GroupId,
        /// Its folder.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The replica may have forgotten what it acknowledged, and must not vote.
    #[error(
        "group {group} in {}: replica {replica} may have lost what it acknowledged from memory; \
         its peers have to replace it", dir.display()
    )]
    Forgetful {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
        /// Its folder.
        dir: PathBuf,
    },
    /// It is open here already.
    #[error("group {group} is open already")]
    Occupied {
        /// The group.
        group: GroupId,
    },
    /// Replication has stopped.
    #[error("replication has stopped; group {group} was not opened")]
    Stopped {
        /// The group.
        group: GroupId,
    },
}

impl OpenError {
    /// Whether stored bytes are wrong or gone, so that opening it again cannot help.
    pub fn is_damage(&self) -> bool {
        if matches!(self, Self::Forgetful { .. }) {
            return true;
        }
        let Self::Log { source, .. } = self else {
            return false;
        };
        let opening = source.downcast_ref::<quorate_storage::OpenError>();
        let reading = source.downcast_ref::<quorate_storage::ReadError>();
        matches!(opening, Some(quorate_storage::OpenError::Damaged { .. }))
            || matches!(reading, Some(quorate_storage::ReadError::Damaged { .. }))
    }
}

/// A replica as its disk held it, its machine restored and replayed.
#[derive(Debug)]
pub struct Recovered<M> {
    pub(super) identity: LogIdentity,
    pub(super) store: Store,
    pub(super) machine: M,
    pub(super) membership: Membership,
    pub(super) applied: Place,
    pub(super) log_start: Offset,
    /// The newest checkpoint on disk.
    pub(super) checkpoint: LogIndex,
    /// Files up to here may go.
    pub(super) trim: Option<LogIndex>,
    /// What the state log held.
    pub(super) saved: HardState,
    /// The end of the log may be missing.
    pub(super) lost: bool,
}

/// The open files of one replica.
#[derive(Debug)]
pub struct Files {
    /// Exclusive.
    pub writer: LogWriter,
    /// Shared.
    pub reader: LogReader,
    /// Shared.
    pub checkpoints: CheckpointStore,
}

impl<M> Recovered<M> {
    /// Whose.
    pub const fn group(&self) -> GroupId {
        self.identity.group
    }

    /// Everything up to here was applied again.
    pub const fn applied(&self) -> LogIndex {
        self.applied.index
    }
}

/// Opens a replica, creating it if there is nothing yet. Blocks on the disk.
///
/// `saved` is its record in the state log, `tail_bytes_max` what its unapplied end may hold in memory.
///
/// # Errors
/// If the files cannot be read, or are not this replica's.
pub fn recover<M: StateMachine>(
    storage: &Arc<dyn Storage>,
    spec: &GroupSpec,
    saved: Option<HardState>,
    machine: M,
    tail_bytes_max: usize,
) -> Result<(Recovered<M>, Files), OpenError> {
    let identity = spec.identity();
    let context = Context {
        group: spec.group,
        dir: &spec.dir,
        log: spec.log,
    };
    if !log_exists(storage, &spec.dir).map_err(|error| context.storage(error))? {
        let birth = birth(spec);
        create_log(storage, &spec.dir, identity, &birth).map_err(|error| context.storage(error))?;
    }
    let opened = open_log(storage, &spec.dir, spec.log).map_err(|error| context.storage(error))?;
    if opened.recovery.identity != identity {
        let (dir, found) = (spec.dir.clone(), opened.recovery.identity);
        return Err(OpenError::Identity {
            dir,
            found,
            wanted: identity,
        });
    }
    if let Some(torn) = &opened.recovery.truncated {
        tracing::warn!(
            group = %spec.group,
            path = %torn.path.display(),
            position = torn.position,
            bytes = torn.bytes,
            "a torn write was cut off; nothing in it was acknowledged"
        );
    }
    restore(spec, opened, saved, machine, tail_bytes_max)
}

/// Makes a replica of an open log. Blocks on the disk.
pub(super) fn restore<M: StateMachine>(
    spec: &GroupSpec,
    opened: Opened,
    saved: Option<HardState>,
    machine: M,
    tail_bytes_max: usize,
) -> Result<(Recovered<M>, Files), OpenError> {
    let context = Context {
        group: spec.group,
        dir: &spec.dir,
        log: spec.log,
    };
    let (writer, reader, checkpoints) = (opened.writer, opened.reader, opened.checkpoints);
    let files = Files {
        writer,
        reader,
        checkpoints,
    };
    let saved = saved.unwrap_or(UNSAVED);
    let replay = Replay::new(
        &context,
        &files,
        opened.recovery,
        saved,
        machine,
        tail_bytes_max,
    )?;
    Ok((replay.run()?, files))
}

/// A group is born with a checkpoint at index 1, term 1: its first members are in no entry.
pub(super) fn birth(spec: &GroupSpec) -> Checkpoint {
    Checkpoint {
        index: LogIndex::new(1),
        term: Term::new(1),
        membership: Membership::of(&spec.voters).encode(),
        next_offset: Offset::ZERO,
        last_time: HybridTime::default(),
        log_start: Offset::ZERO,
        chain: 0,
        state: Bytes::new(),
    }
}

/// Whose files are opened, for errors.
pub(super) struct Context<'a> {
    pub(super) group: GroupId,
    pub(super) dir: &'a Path,
    pub(super) log: LogConfig,
}

impl Context<'_> {
    pub(super) fn storage(
        &self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> OpenError {
        OpenError::Log {
            group: self.group,
            dir: self.dir.to_owned(),
            source: Box::new(source),
        }
    }

    pub(super) fn state(&self, why: impl ToString) -> OpenError {
        OpenError::State {
            group: self.group,
            dir: self.dir.to_owned(),
            why: why.to_string(),
        }
    }
}
