//! The state log: term, vote and commit hint of many replicas in one file, so that one flush serves a
//! whole election.
//!
//! Each block says how far the file was durable before it. A bad block behind that point is a torn write
//! and ends the log; one before it is damage and stops the broker.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::{LogIndex, ReplicaId, Term};

use crate::file::{Access, Fault, File, Staged, Storage, create_dir_durably};
use crate::layout::{FieldReader, FieldWriter, checked, in_memory};
use crate::log::WriteError;

const FILE_MAGIC: &[u8; 8] = b"QRTSTAT\x01";
const BLOCK_MAGIC: u32 = 0x4b42_5351;
const BLOCK_HEAD: usize = 24;
const RECORD_LEN: usize = 32;
/// Replicas per block; more take several blocks.
const RECORDS_MAX: usize = 4096;
/// The file is rewritten when it is longer than this and four times what a rewrite would give.
const REWRITE_ABOVE: u64 = 64 << 10;
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What a replica must never forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardState {
    /// Its current term.
    pub term: Term,
    /// Whom it voted for in that term; replica 0 is nobody.
    pub vote: ReplicaId,
    /// A commit index that was reached; only a hint.
    pub commit: LogIndex,
}

impl HardState {
    /// Of two records of one replica what holds: the higher term, in one term the one with a vote, and
    /// the higher hint.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let (newer, older) = if other.term > self.term {
            (other, self)
        } else {
            (self, other)
        };
        let unvoted = newer.term == older.term && newer.vote.get() == 0;
        let vote = if unvoted { older.vote } else { newer.vote };
        Self {
            term: newer.term,
            vote,
            commit: newer.commit.max(older.commit),
        }
    }
}

/// The hard states of a shard's replicas, by replica.
pub type HardStates = BTreeMap<ReplicaId, HardState>;

/// Appends hard states. Exclusive; meant for [`Lane::Flush`](crate::Lane::Flush).
#[derive(Debug)]
pub struct StateLog {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Arc<dyn File>,
    end: u64,
    durable: u64,
    states: HardStates,
    poison: Option<String>,
}

/// Why a state log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateLogError {
    /// Records that were durable are damaged: votes may be lost, so nothing may run on it.
    #[error("{} is damaged at byte {position}: {why}; this broker's storage must be replaced", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        position: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

impl From<Fault> for StateLogError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace { path } => Self::Io {
                path,
                source: io::ErrorKind::StorageFull.into(),
            },
            Fault::Fatal { path, source } => Self::Io { path, source },
        }
    }
}

impl StateLog {
    /// Opens or creates a state log; its directories are created too. What it held is rewritten to a new
    /// file first, so everything answered is durable.
    ///
    /// # Errors
    /// It is damaged, or the system refuses.
    pub fn open(
        storage: &Arc<dyn Storage>,
        path: &Path,
    ) -> Result<(Self, HardStates), StateLogError> {
        let states = read_states(&**storage, path)?;
        if let Some(parent) = path.parent() {
            create_dir_durably(&**storage, parent)?;
        }
        let (file, end) = rewrite(&**storage, path, &states)?;
        let log = Self {
            storage: Arc::clone(storage),
            path: path.into(),
            file,
            end,
            durable: end,
            states: states.clone(),
            poison: None,
        };
        Ok((log, states))
    }

    /// Appends states; with `sync` everything appended so far is durable when this returns.
    ///
    /// # Errors
    /// `NoSpace` leaves the log as it was; `Fatal` ends it.
    pub fn write(
        &mut self,
        states: &[(ReplicaId, HardState)],
        sync: bool,
    ) -> Result<(), WriteError> {
        if let Some(why) = &self.poison {
            let source = io::Error::other(format!("failed before: {why}"));
            return Err(WriteError::Fatal {
                path: self.path.clone(),
                source,
            });
        }
        let done = self
            .append(states)
            .and_then(|()| if sync { self.flush() } else { Ok(()) });
        if let Err(Fault::Fatal { source, .. }) = &done {
            self.poison = Some(source.to_string());
        }
        Ok(done?)
    }

    /// Removes a replica that is gone for good from the next rewrite.
    pub fn forget(&mut self, replica: ReplicaId) {
        self.states.remove(&replica);
    }

    fn append(&mut self, states: &[(ReplicaId, HardState)]) -> Result<(), Fault> {
        if states.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = states
            .chunks(RECORDS_MAX)
            .flat_map(|part| block(part, self.durable))
            .collect();
        let written = self
            .file
            .write_vectored_at(&[IoSlice::new(&bytes)], self.end);
        if let Err(error) = written {
            let fault = Fault::of_write(&self.path, error);
            if matches!(fault, Fault::NoSpace { .. }) {
                self.file
                    .set_len(self.end)
                    .map_err(|error| Fault::fatal(&self.path, error))?;
            }
            return Err(fault);
        }
        self.end = self.end.saturating_add(bytes.len() as u64);
        self.states.extend(states.iter().copied());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        if self.durable == self.end {
            return Ok(());
        }
        let compact = (self.states.len() as u64).saturating_mul(RECORD_LEN as u64);
        if self.end > REWRITE_ABOVE.max(compact.saturating_mul(4)) {
            match rewrite(&*self.storage, &self.path, &self.states) {
                Ok((file, end)) => {
                    (self.file, self.end, self.durable) = (file, end, end);
                    return Ok(());
                }
                Err(Fault::NoSpace { .. }) => {}
                Err(fatal) => return Err(fatal),
            }
        }
        self.file
            .sync_data()
            .map_err(|error| Fault::fatal(&self.path, error))?;
        self.durable = self.end;
        Ok(())
    }
}

/// Writes a new file with these states and gives it the name.
fn rewrite(
    storage: &dyn Storage,
    path: &Path,
    states: &HardStates,
) -> Result<(Arc<dyn File>, u64), Fault> {
    let records: Vec<(ReplicaId, HardState)> = states
        .iter()
        .map(|(replica, state)| (*replica, *state))
        .collect();
    let mut bytes = FILE_MAGIC.to_vec();
    for part in records.chunks(RECORDS_MAX) {
        bytes.extend(block(part, FILE_MAGIC.len() as u64));
    }
    let staged = Staged::create(storage, path)?;
    if let Err(fault) = staged.write(&bytes, 0) {
        if matches!(fault, Fault::NoSpace { .. }) {
            staged.discard(storage)?;
        }
        return Err(fault);
    }
    staged.flush()?;
    Ok((staged.publish(storage)?, bytes.len() as u64))
}

/// One block: head, records, checksum, padding to eight bytes.
fn block(records: &[(ReplicaId, HardState)], durable: u64) -> Vec<u8> {
    let len = block_len(records.len());
    let mut fields = FieldWriter::new(len)
        .u32(BLOCK_MAGIC)
        .u32(u32::try_from(records.len()).unwrap_or(u32::MAX))
        .u64(durable);
    for (replica, state) in records {
        fields = fields
            .u64(replica.get())
            .u64(state.term.get())
            .u64(state.vote.get())
            .u64(state.commit.get());
    }
    fields.crc().padded(len)
}

const fn block_len(records: usize) -> usize {
    BLOCK_HEAD + records * RECORD_LEN
}

/// A decoded block and its length.
struct Block {
    durable: u64,
    records: Vec<(ReplicaId, HardState)>,
    len: usize,
}

fn decode_block(bytes: &[u8]) -> Option<Block> {
    let mut head = FieldReader::new(bytes);
    (head.u32()? == BLOCK_MAGIC).then_some(())?;
    let count = in_memory(u64::from(head.u32()?));
    (1..=RECORDS_MAX).contains(&count).then_some(())?;
    let len = block_len(count);
    let (whole, padding) = bytes.get(..len)?.split_at_checked(len - 4)?;
    (padding == [0; 4]).then_some(())?;
    let mut fields = FieldReader::new(checked(whole)?);
    fields.u64()?;
    let durable = fields.u64()?;
    let mut records = Vec::with_capacity(count);
    while !fields.is_empty() {
        let replica = ReplicaId::new(fields.u64()?);
        let (term, vote) = (Term::new(fields.u64()?), ReplicaId::new(fields.u64()?));
        let commit = LogIndex::new(fields.u64()?);
        records.push((replica, HardState { term, vote, commit }));
    }
    Some(Block {
        durable,
        records,
        len,
    })
}

fn read_states(storage: &dyn Storage, path: &Path) -> Result<HardStates, StateLogError> {
    let io = |source| StateLogError::Io {
        path: path.into(),
        source,
    };
    let damaged = |position, why| StateLogError::Damaged {
        path: path.into(),
        position,
        why,
    };
    if !storage.exists(path).map_err(io)? {
        return Ok(HardStates::new());
    }
    let file = storage.open(path, Access::Read).map_err(io)?;
    let len = file.len().map_err(io)?;
    if len > FILE_BYTES_MAX {
        return Err(damaged(0, "it is longer than any state log"));
    }
    let mut bytes = vec![0; in_memory(len)];
    let count = file.read_at(&mut bytes, 0).map_err(io)?;
    bytes.truncate(count);
    if !bytes.starts_with(FILE_MAGIC) {
        return Err(damaged(
            0,
            "it is not a state log, or of an unknown version",
        ));
    }
    let mut states = HardStates::new();
    let mut at = FILE_MAGIC.len();
    while let Some(block) = decode_block(bytes.get(at..).unwrap_or_default()) {
        for (replica, state) in block.records {
            let merged = states
                .get(&replica)
                .map_or(state, |known| known.merge(state));
            states.insert(replica, merged);
        }
        at += block.len;
    }
    if later_block_relies_on(&bytes, at) {
        return Err(damaged(
            at as u64,
            "a record that was durable fails its checksum",
        ));
    }
    if at < bytes.len() {
        tracing::warn!(path = %path.display(), position = at, "torn end of the state log dropped");
    }
    Ok(states)
}

/// Whether any whole block behind a bad one was written when the bad one was durable.
fn later_block_relies_on(bytes: &[u8], bad: usize) -> bool {
    let starts = (bad..bytes.len()).step_by(8).skip(1);
    starts
        .filter_map(|at| decode_block(bytes.get(at..)?))
        .any(|block| block.durable > bad as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Crash, MemoryStorage};

    const PATH: &str = "state/0.log";

    fn state(term: u64, vote: u64, commit: u64) -> HardState {
        HardState {
            term: Term::new(term),
            vote: ReplicaId::new(vote),
            commit: LogIndex::new(commit),
        }
    }

    fn storage() -> (Arc<MemoryStorage>, Arc<dyn Storage>) {
        let memory = Arc::new(MemoryStorage::inline());
        (Arc::clone(&memory), memory)
    }

    fn reopen(storage: &Arc<dyn Storage>) -> (StateLog, HardStates) {
        StateLog::open(storage, Path::new(PATH)).unwrap()
    }

    #[test]
    fn the_higher_term_wins_and_a_vote_is_never_dropped_in_its_term() {
        assert_eq!(state(3, 1, 5).merge(state(4, 0, 2)), state(4, 0, 5));
        assert_eq!(state(3, 1, 5).merge(state(3, 0, 9)), state(3, 1, 9));
        assert_eq!(state(3, 0, 5).merge(state(3, 2, 1)), state(3, 2, 5));
    }

    #[test]
    fn synced_states_survive_a_crash_and_unsynced_ones_may_not() {
        let (memory, storage) = storage();
        let (mut log, found) = reopen(&storage);
        assert!(found.is_empty());
        log.write(&[(ReplicaId::new(1), state(1, 1, 0))], true)
            .unwrap();
        log.write(&[(ReplicaId::new(2), state(9, 9, 0))], false)
            .unwrap();
        memory.crash(Crash::Synced);
        let (_, found) = reopen(&storage);
        assert_eq!(
            found,
            HardStates::from([(ReplicaId::new(1), state(1, 1, 0))])
        );
    }

    #[test]
    fn any_torn_end_is_dropped_and_any_damage_before_it_is_refused() {
        let (memory, storage) = storage();
        let (mut log, _) = reopen(&storage);
        for term in 1..4 {
            log.write(&[(ReplicaId::new(1), state(term, 1, 0))], true)
                .unwrap();
        }
        let bytes = memory.contents(Path::new(PATH)).unwrap();
        let last = bytes.len() - block_len(1);
        for at in 8..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            memory.plant(Path::new(PATH), &flipped);
            let found = StateLog::open(&storage, Path::new(PATH));
            if at < last {
                assert!(
                    matches!(found, Err(StateLogError::Damaged { .. })),
                    "byte {at}"
                );
            } else {
                let term = found.unwrap().1[&ReplicaId::new(1)].term;
                assert_eq!(term, Term::new(2), "byte {at}");
            }
        }
        for len in last..bytes.len() {
            memory.plant(Path::new(PATH), &bytes[..len]);
            let (_, found) = reopen(&storage);
            assert_eq!(found[&ReplicaId::new(1)].term, Term::new(2));
        }
    }

    #[test]
    fn a_long_log_is_rewritten_short() {
        let (memory, storage) = storage();
        let (mut log, _) = reopen(&storage);
        for term in 1..3000 {
            log.write(&[(ReplicaId::new(1), state(term, 1, term))], true)
                .unwrap();
        }
        let len = memory.contents(Path::new(PATH)).unwrap().len() as u64;
        assert!(len <= REWRITE_ABOVE + 100);
        let (_, found) = reopen(&storage);
        assert_eq!(found[&ReplicaId::new(1)], state(2999, 1, 2999));
    }

    #[test]
    fn a_failed_flush_ends_the_log() {
        let (memory, storage) = storage();
        let (mut log, _) = reopen(&storage);
        memory.fail_sync_after(0);
        let states = [(ReplicaId::new(1), state(1, 1, 0))];
        assert!(matches!(
            log.write(&states, true),
            Err(WriteError::Fatal { .. })
        ));
        assert!(matches!(
            log.write(&states, true),
            Err(WriteError::Fatal { .. })
        ));
    }

    #[test]
    fn a_full_disk_leaves_the_log_usable() {
        let (memory, storage) = storage();
        let (mut log, _) = reopen(&storage);
        memory.limit_space(Some(10));
        let states = [(ReplicaId::new(1), state(1, 1, 0))];
        assert!(matches!(
            log.write(&states, true),
            Err(WriteError::NoSpace { .. })
        ));
        memory.limit_space(None);
        log.write(&states, true).unwrap();
        assert_eq!(reopen(&storage).1[&ReplicaId::new(1)], state(1, 1, 0));
    }
}
