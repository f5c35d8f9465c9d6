//! Opening a log: identity, checkpoints, footers, and a scan of the newest segment.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use quorate_protocol::{HybridTime, LogIndex, Offset, Term};

use super::recovery::{Opening, Scan};
use super::segment_state::Segment;
use super::shared::{Shared, State};
use super::transfer::{is_incoming, resume_swap};
use super::writer::{LogWriter, Target};
use super::{LogConfig, LogIdentity, LogReader, OpenError};
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointStore};
use crate::file::{Storage, TEMPORARY};
use crate::identity::{read_replica, replica_path};
use crate::layout::Crc;
use crate::segment::{Roller, SegmentHeader, checkpoint_path, segment_base, segment_path};

/// A log that can be used.
#[derive(Debug)]
pub struct Opened {
    /// Writes it.
    pub writer: LogWriter,
    /// Reads it.
    pub reader: LogReader,
    /// Its checkpoints.
    pub checkpoints: CheckpointStore,
    /// What was found.
    pub recovery: Recovery,
}

/// What opening a log found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Whose log it is, from its own files.
    pub identity: LogIdentity,
    /// Indices of the checkpoint files, ascending; not all need be valid.
    pub checkpoints: Vec<LogIndex>,
    /// The newest valid checkpoint.
    pub newest: Checkpoint,
    /// First index in the log; one more than the last if there is none.
    pub first_index: LogIndex,
    /// Last index in the log.
    pub last_index: LogIndex,
    /// Terms of `[first_index - 1, last_index]`: where each begins.
    pub terms: Vec<(LogIndex, Term)>,
    /// Offset that is written next.
    pub next_offset: Offset,
    /// Time of the last entry.
    pub last_time: HybridTime,
    /// Chain value of the last entry: equal values mean equal logs.
    pub chain: u32,
    /// What was cut off because a write had been torn.
    pub truncated: Option<TornTail>,
    /// Number of segments.
    pub segments: usize,
    /// Where segments end from here on.
    pub roller: Roller,
}

/// The torn end of a log, which nobody can have relied upon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The segment.
    pub path: PathBuf,
    /// Where the first bad frame began.
    pub position: u64,
    /// How much was cut.
    pub bytes: u64,
}

/// Opens a log and brings it into a state that can be relied upon.
///
/// # Errors
/// There is none, bytes that were durable are damaged, or the system refuses. Nothing is removed then
/// but what an interrupted step had left under a temporary name.
pub fn open_log(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    config: LogConfig,
) -> Result<Opened, OpenError> {
    open_with(storage, dir, config, None)
}

/// Opens a log; if `shared` is what readers of it have, they read what is opened.
pub(crate) fn open_with(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    config: LogConfig,
    shared: Option<&Arc<Shared>>,
) -> Result<Opened, OpenError> {
    let listing = Listing::read(storage, dir)?;
    let identity = read_replica(&**storage, dir)?;
    if shared.is_some_and(|shared| shared.identity != identity) {
        let why = "it names another replica than before";
        return Err(OpenError::damaged(&replica_path(dir), 0, why));
    }
    let checkpoints = CheckpointStore::new(Arc::clone(storage), dir, identity);
    let (sealed, scan) = recover_segments(&**storage, dir, &listing.bases, identity)?;
    let (torn, crc) = (scan.torn, scan.crc);
    let state = State::new(sealed, scan.segment);
    let indices = checkpoints
        .indices()
        .map_err(|error| checkpoint_unreadable(dir, error))?;
    let newest = newest_checkpoint(&checkpoints, &indices, &state, dir)?;
    let shared = match shared {
        Some(shared) => {
            shared.replace_state(state.sealed, state.active);
            Arc::clone(shared)
        }
        None => Arc::new(Shared {
            storage: Arc::clone(storage),
            dir: dir.into(),
            identity,
            state: RwLock::new(state),
            pins: Mutex::default(),
        }),
    };
    let writer = open_writer(&shared, config, crc)?;
    let recovery = describe(&shared, writer.roller(), (indices, newest), torn);
    let reader = LogReader::new(shared);
    Ok(Opened {
        writer,
        reader,
        checkpoints,
        recovery,
    })
}

struct Listing {
    bases: Vec<LogIndex>,
}

impl Listing {
    /// Makes names durable that an earlier process gave and did not live to flush, finishes an exchange of
    /// files, lists the segments and drops files whose names do not count: nothing ever relied upon those.
    fn read(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::io(dir, error);
        if !storage.exists(dir).map_err(io)? {
            return Err(OpenError::Absent { path: dir.into() });
        }
        storage.sync_dir(dir).map_err(io)?;
        resume_swap(storage, dir)?;
        let entries = storage.list(dir).map_err(io)?;
        let unused = |name: &str| is_temporary(name) || is_incoming(name);
        for entry in entries.iter().filter(|entry| unused(&entry.name)) {
            let path = dir.join(&entry.name);
            tracing::info!(path = %path.display(), "removing the rest of an interrupted step");
            storage
                .remove(&path)
                .map_err(|error| OpenError::io(&path, error))?;
        }
        let bases = entries
            .iter()
            .filter_map(|entry| segment_base(&entry.name))
            .collect();
        Ok(Self { bases })
    }
}

fn is_temporary(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| ending == TEMPORARY)
}

/// Sealed segments from their footers, the newest by a scan.
fn recover_segments(
    storage: &dyn Storage,
    dir: &Path,
    bases: &[LogIndex],
    identity: LogIdentity,
) -> Result<(VecDeque<Segment>, Scan), OpenError> {
    let Some((last, older)) = bases.split_last() else {
        return Err(OpenError::damaged(dir, 0, "the log has no segment"));
    };
    let mut sealed = VecDeque::new();
    for base in older {
        let segment = Opening::new(storage, dir, *base, identity)?.sealed(dir)?;
        check_follows(sealed.back(), &segment.header, dir)?;
        sealed.push_back(segment);
    }
    let opening = Opening::new(storage, dir, *last, identity)?;
    check_follows(sealed.back(), &opening.header, dir)?;
    let time = sealed
        .back()
        .map_or(HybridTime::new(0), |segment| segment.end.time);
    let mut scan = opening.scan(dir, false, time)?;
    if scan.is_blank()
        && let Some(older) = sealed.pop_back()
    {
        let time = sealed
            .back()
            .map_or(HybridTime::new(0), |segment| segment.end.time);
        scan = undo_roll(storage, dir, scan, (older, time), identity)?;
    }
    scan.settle(storage)?;
    Ok((sealed, scan))
}

/// Drops a segment that was begun but holds nothing, so that the roll is decided anew by whatever entry
/// comes next: the one before it is scanned as the newest.
fn undo_roll(
    storage: &dyn Storage,
    dir: &Path,
    blank: Scan,
    (older, time): (Segment, HybridTime),
    identity: LogIdentity,
) -> Result<Scan, OpenError> {
    let base = older.header.base_index;
    let mut scan = Opening::new(storage, dir, base, identity)?.scan(dir, true, time)?;
    let path = &blank.segment.path;
    storage
        .remove(path)
        .map_err(|error| OpenError::io(path, error))?;
    storage
        .sync_dir(dir)
        .map_err(|error| OpenError::io(dir, error))?;
    scan.torn = scan.torn.or(blank.torn);
    Ok(scan)
}

/// Checks that a segment begins exactly where the one before it ends.
fn check_follows(
    before: Option<&Segment>,
    header: &SegmentHeader,
    dir: &Path,
) -> Result<(), OpenError> {
    let follows = before.is_none_or(|before| before.successor() == *header);
    if follows {
        return Ok(());
    }
    let why = "the segment does not continue the one before it";
    Err(OpenError::damaged(
        &segment_path(dir, header.base_index),
        0,
        why,
    ))
}

fn open_writer(shared: &Arc<Shared>, config: LogConfig, crc: Crc) -> Result<LogWriter, OpenError> {
    let target = {
        let state = shared.state.read();
        let active = &state.active;
        let Some(loaded) = &active.loaded else {
            let why = "the newest segment was not scanned";
            return Err(OpenError::damaged(&active.path, 0, why));
        };
        let (file, limit) = (Arc::clone(&loaded.file), config.fill_limit());
        Target::new(file, &active.path, active.fingerprint, active.end, limit)
    };
    Ok(LogWriter::new(
        Arc::clone(shared),
        config,
        Target {
            crc: Some(crc),
            ..target
        },
    ))
}

/// The newest checkpoint that is whole and agrees with the log. One must stand at or behind the entry
/// before the log's first; one behind its last entry means that entries were lost.
fn newest_checkpoint(
    store: &CheckpointStore,
    indices: &[LogIndex],
    state: &State,
    dir: &Path,
) -> Result<Checkpoint, OpenError> {
    let (before_first, last) = (state.first_index().prev(), state.last_index());
    if let Some(beyond) = indices.last().filter(|index| **index > last) {
        let why = "the log ends before this checkpoint";
        return Err(OpenError::damaged(&checkpoint_path(dir, *beyond), 0, why));
    }
    for index in indices
        .iter()
        .rev()
        .take_while(|index| **index >= before_first)
    {
        match store.load(*index) {
            Ok(checkpoint) if agrees(&checkpoint, state) => return Ok(checkpoint),
            Ok(_) => tracing::error!(%index, dir = %dir.display(), "checkpoint of another log"),
            Err(CheckpointError::Damaged { path, why }) => {
                tracing::error!(path = %path.display(), why, "using an older checkpoint");
            }
            Err(error) => return Err(checkpoint_unreadable(dir, error)),
        }
    }
    let why = "there is no valid checkpoint between the log's start and its end";
    Err(OpenError::damaged(
        &checkpoint_path(dir, before_first),
        0,
        why,
    ))
}

/// Whether a checkpoint fits the log where both say the same thing: where a segment begins.
fn agrees(checkpoint: &Checkpoint, state: &State) -> bool {
    let next = checkpoint.index.next();
    state
        .segments()
        .filter(|segment| segment.header.base_index == next)
        .all(|segment| {
            segment.header.chain_seed == checkpoint.chain
                && segment.header.base_offset == checkpoint.next_offset
                && segment.header.term_before == checkpoint.term
        })
}

fn describe(
    shared: &Shared,
    roller: Roller,
    (checkpoints, newest): (Vec<LogIndex>, Checkpoint),
    truncated: Option<TornTail>,
) -> Recovery {
    let state = shared.state.read();
    let first = state.first();
    let mut terms = vec![(first.header.base_index.prev(), first.header.term_before)];
    terms.extend(
        state
            .segments()
            .flat_map(|segment| segment.terms.iter().copied()),
    );
    let end = &state.active.end;
    Recovery {
        identity: shared.identity,
        checkpoints,
        first_index: state.first_index(),
        last_index: state.last_index(),
        terms,
        next_offset: end.next_offset,
        last_time: end.time.max(newest.last_time),
        newest,
        chain: end.chain,
        truncated,
        segments: state.sealed.len() + 1,
        roller,
    }
}

pub(crate) fn checkpoint_unreadable(dir: &Path, error: CheckpointError) -> OpenError {
    match error {
        CheckpointError::Io { path, source } => OpenError::Io { path, source },
        CheckpointError::Damaged { path, why } => OpenError::Damaged {
            path,
            position: 0,
            why,
        },
        CheckpointError::Absent { .. } => OpenError::Absent { path: dir.into() },
    }
}
