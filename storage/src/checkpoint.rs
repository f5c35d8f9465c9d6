//! Checkpoints: the state after exactly one entry, one file each, written whole or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::{HybridTime, LogIndex, Offset, Term};

use crate::file::{Access, Fault, Storage, replace};
use crate::layout::{FieldReader, FieldWriter, checked, in_memory};
use crate::log::{LogIdentity, WriteError};
use crate::segment::{checkpoint_index, checkpoint_path};

const MAGIC: &[u8; 8] = b"QRTCKPT\x01";
const VERSION: u16 = 1;
const FIXED_LEN: usize = 80;
/// Longest file read back; what writes states bounds them far below.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 20;
const CONTENT_BYTES_MAX: u64 = FILE_BYTES_MAX - 4096;

/// The state after one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// That entry.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The group's members, in the owner's encoding.
    pub membership: Bytes,
    /// Offset of the next record.
    pub next_offset: Offset,
    /// Time of that entry.
    pub last_time: HybridTime,
    /// First offset kept at that entry.
    pub log_start: Offset,
    /// The log's chain value at that entry.
    pub chain: u32,
    /// Everything else derived from the log, in the owner's encoding.
    pub state: Bytes,
}

/// Why a checkpoint was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is no such checkpoint.
    #[error("there is no checkpoint at entry {index}")]
    Absent {
        /// The entry asked for.
        index: LogIndex,
    },
    /// Its bytes are wrong; an older one may do.
    #[error("{} is damaged: {why}; an older checkpoint may do", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

/// The checkpoints of one log.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    identity: LogIdentity,
}

impl CheckpointStore {
    /// The checkpoints in a log's directory.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, dir: &Path, identity: LogIdentity) -> Self {
        Self {
            storage,
            dir: dir.into(),
            identity,
        }
    }

    /// Writes a checkpoint; durable when this returns.
    ///
    /// # Errors
    /// `NoSpace` leaves what was there, `Invalid` too: the checkpoint is too long to be read back;
    /// `Fatal` means the volume cannot be trusted any more.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<(), WriteError> {
        let len = checkpoint
            .membership
            .len()
            .saturating_add(checkpoint.state.len());
        if len as u64 > CONTENT_BYTES_MAX {
            let why = "its checkpoint is longer than the format allows";
            return Err(WriteError::Invalid {
                index: checkpoint.index,
                why,
            });
        }
        Ok(self.write_file(checkpoint)?)
    }

    pub(crate) fn write_file(&self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let path = checkpoint_path(&self.dir, checkpoint.index);
        replace(&*self.storage, &path, &checkpoint.encode(self.identity))
    }

    /// Indices of all checkpoint files, ascending, valid or not.
    ///
    /// # Errors
    /// The system refuses.
    pub fn indices(&self) -> Result<Vec<LogIndex>, CheckpointError> {
        let entries = self
            .storage
            .list(&self.dir)
            .map_err(|source| CheckpointError::Io {
                path: self.dir.clone(),
                source,
            })?;
        let mut indices: Vec<_> = entries
            .iter()
            .filter_map(|entry| checkpoint_index(&entry.name))
            .collect();
        indices.sort_unstable();
        Ok(indices)
    }

    /// One checkpoint.
    ///
    /// # Errors
    /// It does not exist, is damaged, or the system refuses.
    pub fn load(&self, index: LogIndex) -> Result<Checkpoint, CheckpointError> {
        self.load_with_bytes(index)
            .map(|(checkpoint, _)| checkpoint)
    }

    /// One checkpoint, and the bytes of its file.
    pub(crate) fn load_with_bytes(
        &self,
        index: LogIndex,
    ) -> Result<(Checkpoint, Bytes), CheckpointError> {
        let path = checkpoint_path(&self.dir, index);
        let damaged = |why| CheckpointError::Damaged {
            path: path.clone(),
            why,
        };
        let bytes = match read_whole(&*self.storage, &path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(damaged("it is longer than any checkpoint")),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(CheckpointError::Absent { index });
            }
            Err(source) => return Err(CheckpointError::Io { path, source }),
        };
        let checkpoint = Checkpoint::decode(bytes.clone(), self.identity).map_err(damaged)?;
        if checkpoint.index == index {
            Ok((checkpoint, bytes))
        } else {
            Err(damaged("it is of another entry than its name says"))
        }
    }

    /// Removes the checkpoints below an index.
    ///
    /// # Errors
    /// The volume cannot be trusted any more.
    pub fn remove_below(&self, index: LogIndex) -> Result<(), WriteError> {
        let fatal = |path: &Path, source| WriteError::Fatal {
            path: path.into(),
            source,
        };
        let listed = self
            .storage
            .list(&self.dir)
            .map_err(|error| fatal(&self.dir, error))?;
        let old: Vec<LogIndex> = listed
            .iter()
            .filter_map(|entry| checkpoint_index(&entry.name))
            .filter(|old| *old < index)
            .collect();
        for old in &old {
            let path = checkpoint_path(&self.dir, *old);
            self.storage
                .remove(&path)
                .map_err(|error| fatal(&path, error))?;
        }
        if old.is_empty() {
            return Ok(());
        }
        self.storage
            .sync_dir(&self.dir)
            .map_err(|error| fatal(&self.dir, error))
    }
}

/// A file's bytes; `None` if it is implausibly long.
pub(crate) fn read_whole(storage: &dyn Storage, path: &Path) -> io::Result<Option<Bytes>> {
    let file = storage.open(path, Access::Read)?;
    let len = file.len()?;
    if len > FILE_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; in_memory(len)];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(Some(Bytes::from(bytes)))
}

impl Checkpoint {
    fn encode(&self, identity: LogIdentity) -> Vec<u8> {
        let len = |part: &Bytes| u32::try_from(part.len()).unwrap_or(u32::MAX);
        FieldWriter::new(FIXED_LEN + self.membership.len() + self.state.len() + 4)
            .bytes(MAGIC)
            .u16(VERSION)
            .u16(0)
            .u32(identity.group.get())
            .u64(identity.tag.get())
            .u64(self.index.get())
            .u64(self.term.get())
            .u64(self.next_offset.get())
            .u64(self.last_time.get())
            .u64(self.log_start.get())
            .u32(self.chain)
            .u32(0)
            .u32(len(&self.membership))
            .u32(len(&self.state))
            .bytes(&self.membership)
            .bytes(&self.state)
            .crc()
            .done()
    }

    pub(crate) fn decode(bytes: Bytes, identity: LogIdentity) -> Result<Self, &'static str> {
        const SHORT: &str = "it is shorter than it says";
        let body = checked(&bytes).ok_or("it fails its checksum")?;
        let mut fields = FieldReader::new(body);
        if fields.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err("it is not a checkpoint");
        }
        if fields.u16() != Some(VERSION) {
            return Err("its format version is not known to this release");
        }
        let group = (fields.u16(), fields.u32(), fields.u64());
        if group
            != (
                Some(0),
                Some(identity.group.get()),
                Some(identity.tag.get()),
            )
        {
            return Err("it belongs to another group");
        }
        Self::decode_fields(&mut fields, &bytes).ok_or(SHORT)
    }

    fn decode_fields(fields: &mut FieldReader<'_>, bytes: &Bytes) -> Option<Self> {
        let mut checkpoint = Self {
            index: LogIndex::new(fields.u64()?),
            term: Term::new(fields.u64()?),
            membership: Bytes::new(),
            next_offset: Offset::new(fields.u64()?),
            last_time: HybridTime::new(fields.u64()?),
            log_start: Offset::new(fields.u64()?),
            chain: fields.u32()?,
            state: Bytes::new(),
        };
        fields.u32()?;
        let membership = in_memory(u64::from(fields.u32()?));
        let state = in_memory(u64::from(fields.u32()?));
        checkpoint.membership = bytes.slice_ref(fields.bytes(membership)?);
        checkpoint.state = bytes.slice_ref(fields.bytes(state)?);
        fields.is_empty().then_some(checkpoint)
    }
}
