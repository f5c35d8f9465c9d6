//! Handle and index of a sealed segment, loaded when a reader needs them; the index is made again from the
//! log if its file is absent or does not fit.

use std::sync::Arc;

use quorate_protocol::BATCH_HEADER_LEN;
use quorate_protocol::LogIndex;

use super::ReadError;
use super::segment_state::Loaded;
use super::shared::Shared;
use crate::file::{Access, File};
use crate::index::{IndexSeal, SparseIndex};
use crate::layout::in_memory;
use crate::segment::{Cursor, FRAME_LEN, SegmentHeader, index_path, segment_path};

/// Bytes read at a time while frames are walked.
const WALK_BYTES: usize = 256 << 10;

/// Where an index comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The file beside the segment, if it fits.
    File,
    /// The log itself; the file proved wrong.
    Log,
}

impl Shared {
    /// Makes a sealed segment readable. Nothing happens if it is no longer there or no longer sealed.
    pub(crate) fn load(&self, base: LogIndex, source: Source) -> Result<(), ReadError> {
        let (header, seal, epoch) = {
            let mut state = self.state.write();
            let epoch = state.epoch;
            let Some(segment) = state.sealed_at(base) else {
                return Ok(());
            };
            (segment.header, segment.seal(), epoch)
        };
        let loaded = self.load_files(&header, &seal, source);
        let mut state = self.state.write();
        if state.epoch != epoch {
            return Ok(());
        }
        state.keep_loaded(base, loaded?);
        Ok(())
    }

    /// Opens a segment that has to have this seal, with its index.
    pub(crate) fn load_files(
        &self,
        header: &SegmentHeader,
        seal: &IndexSeal,
        source: Source,
    ) -> Result<Loaded, ReadError> {
        let path = segment_path(&self.dir, header.base_index);
        let file = self
            .storage
            .open(&path, Access::Read)
            .map_err(|error| ReadError::io(&path, error))?;
        let stored = match source {
            Source::File => self.read_index(header.base_index, seal),
            Source::Log => None,
        };
        let index = match stored {
            Some(index) => index,
            None => self.rebuild_index(header, seal, &file)?,
        };
        Ok(Loaded { file, index })
    }

    fn read_index(&self, base: LogIndex, seal: &IndexSeal) -> Option<SparseIndex> {
        let path = index_path(&self.dir, base);
        let file = self.storage.open(&path, Access::Read).ok()?;
        let len = file.len().ok()?;
        (len <= SparseIndex::file_len_max(seal.frames_end)).then_some(())?;
        let mut bytes = vec![0; in_memory(len)];
        let count = file.read_at(&mut bytes, 0).ok()?;
        SparseIndex::decode(bytes.get(..count)?, seal)
    }

    fn rebuild_index(
        &self,
        header: &SegmentHeader,
        seal: &IndexSeal,
        file: &Arc<dyn File>,
    ) -> Result<SparseIndex, ReadError> {
        let path = segment_path(&self.dir, header.base_index);
        let start = Cursor::start(header, quorate_protocol::HybridTime::new(0));
        let mut index = SparseIndex::default();
        let mut walk = Walk::new(Arc::clone(file), start);
        while walk.cursor.position < seal.frames_end {
            let before = walk.cursor;
            match walk.step().map_err(|error| ReadError::io(&path, error))? {
                Ok(time) => index.note(&before, time),
                Err(why) => return Err(ReadError::damaged(&path, before.position, why)),
            }
        }
        if walk.cursor.chain != seal.chain {
            let why = "the frames do not end as the footer says";
            return Err(ReadError::damaged(&path, walk.cursor.position, why));
        }
        tracing::debug!(path = %path.display(), "index made again from the log");
        self.store_index(index_path(&self.dir, header.base_index), index.encode(seal));
        Ok(index)
    }
}

/// Walks frame by frame, reading headers only: bodies are left to those who use them.
#[derive(Debug)]
pub(crate) struct Walk {
    file: Arc<dyn File>,
    pub(crate) cursor: Cursor,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Walk {
    pub(crate) fn new(file: Arc<dyn File>, cursor: Cursor) -> Self {
        Self {
            file,
            cursor,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// Passes one frame and answers its time, or why it is none.
    pub(crate) fn step(
        &mut self,
    ) -> std::io::Result<Result<quorate_protocol::HybridTime, &'static str>> {
        const NEEDED: usize = FRAME_LEN + BATCH_HEADER_LEN;
        if self.buffered().len() < NEEDED {
            self.buffer.resize(WALK_BYTES, 0);
            let count = self.file.read_at(&mut self.buffer, self.cursor.position)?;
            self.buffer.truncate(count);
            self.buffer_at = self.cursor.position;
        }
        let checked = self.cursor.check(self.buffered());
        Ok(checked.map(|(frame, batch)| {
            self.cursor.pass(&frame, &batch);
            batch.time
        }))
    }

    fn buffered(&self) -> &[u8] {
        let skip = self.cursor.position.saturating_sub(self.buffer_at);
        self.buffer.get(in_memory(skip)..).unwrap_or_default()
    }
}
