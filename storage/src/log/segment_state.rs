//! What is known in memory of one segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::{HybridTime, LogIndex, Offset, Term};

use crate::file::File;
use crate::index::{IndexSeal, SparseIndex};
use crate::segment::{BatchSummary, Cursor, Footer, Frame, SegmentHeader, segment_path};

/// A segment's handle and index; the last segment always has them, sealed ones while they are read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) file: Arc<dyn File>,
    pub(crate) index: SparseIndex,
}

/// One segment of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) fingerprint: u32,
    pub(crate) path: PathBuf,
    /// Behind its last frame.
    pub(crate) end: Cursor,
    pub(crate) first_time: Option<HybridTime>,
    /// Each entry whose term differs from the one before it.
    pub(crate) terms: Vec<(LogIndex, Term)>,
    pub(crate) sealed: bool,
    pub(crate) loaded: Option<Loaded>,
}

impl Segment {
    /// A segment without entries; `time` is that of the entry before it.
    pub(crate) fn empty(dir: &Path, header: SegmentHeader, time: HybridTime) -> Self {
        Self {
            fingerprint: header.fingerprint(),
            path: segment_path(dir, header.base_index),
            end: Cursor::start(&header, time),
            header,
            first_time: None,
            terms: Vec::new(),
            sealed: false,
            loaded: None,
        }
    }

    /// A sealed segment as its footer describes it.
    pub(crate) fn sealed(dir: &Path, header: SegmentHeader, footer: Footer) -> Self {
        let mut segment = Self::empty(dir, header, footer.last_time);
        segment.end = Cursor {
            position: footer.frames_end,
            next_index: footer.last_index.next(),
            next_offset: footer.next_offset,
            chain: footer.chain,
            term: footer
                .terms
                .last()
                .map_or(header.term_before, |(_, term)| *term),
            time: footer.last_time,
        };
        segment.first_time = Some(footer.first_time);
        segment.terms = footer.terms;
        segment.sealed = true;
        segment
    }

    /// Takes note of one more frame at the end. The index gets it only if it is loaded.
    pub(crate) fn append(&mut self, frame: &Frame, batch: &BatchSummary) {
        if let Some(loaded) = &mut self.loaded {
            loaded.index.note(&self.end, batch.time);
        }
        if batch.term != self.end.term {
            self.terms.push((frame.index, batch.term));
        }
        self.first_time.get_or_insert(batch.time);
        self.end.pass(frame, batch);
    }

    /// Forgets the frames behind `end`.
    pub(crate) fn truncate(&mut self, end: Cursor) {
        self.terms.retain(|(index, _)| *index < end.next_index);
        if end.next_index == self.header.base_index {
            self.first_time = None;
        }
        if let Some(loaded) = &mut self.loaded {
            loaded.index.truncate(end.position);
        }
        self.end = end;
        self.sealed = false;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end.next_index == self.header.base_index
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.end.last_index()
    }

    pub(crate) fn next_offset(&self) -> Offset {
        self.end.next_offset
    }

    /// What the footer says when the segment is sealed as it is now.
    pub(crate) fn footer(&self, file_crc: u32) -> Footer {
        Footer {
            count: self
                .end
                .next_index
                .get()
                .saturating_sub(self.header.base_index.get()),
            last_index: self.last_index(),
            next_offset: self.end.next_offset,
            first_time: self.first_time.unwrap_or(self.end.time),
            last_time: self.end.time,
            frames_end: self.end.position,
            chain: self.end.chain,
            file_crc,
            terms: self.terms.clone(),
        }
    }

    /// The header of the segment that follows this one.
    pub(crate) fn successor(&self) -> SegmentHeader {
        SegmentHeader {
            base_index: self.end.next_index,
            base_offset: self.end.next_offset,
            term_before: self.end.term,
            chain_seed: self.end.chain,
            ..self.header
        }
    }

    pub(crate) fn seal(&self) -> IndexSeal {
        IndexSeal {
            fingerprint: self.fingerprint,
            chain: self.end.chain,
            frames_end: self.end.position,
        }
    }
}
