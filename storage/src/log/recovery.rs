//! Bringing the files of one log back to a state that can be relied upon.
//!
//! Above the durable mark the first bad frame is a torn write and the tail goes; below it, or in a sealed
//! segment, it is damage, which is reported and never skipped. What a flush was not known to cover is
//! copied to a new file before it counts: a fresh flush proves nothing about writes before a crash.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_protocol::{HybridTime, LogIndex};

use super::open::TornTail;
use super::segment_state::{Loaded, Segment};
use super::truncate::first_page;
use super::{LogIdentity, OpenError};
use crate::file::{Access, Fault, File, Staged, Storage};
use crate::index::SparseIndex;
use crate::layout::{Crc, in_memory};
use crate::segment::{
    Cursor, DurableMark, FRAME_LEN, Footer, Frame, PAGE, SegmentHeader, TRAILER_LEN, segment_path,
};

const CHUNK: usize = 1 << 20;
/// Longest footer: a segment of 4 GiB with a change of term at every smallest frame.
const FOOTER_MAX: u64 = 1 << 30;

/// A segment file being recovered.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segment: Segment,
    pub(crate) torn: Option<TornTail>,
    /// Checksum of the good frames.
    pub(crate) crc: Crc,
    file: Arc<dyn File>,
    mark: DurableMark,
    len: u64,
}

/// A file with its header, checked to be the named segment of this log.
pub(crate) struct Opening {
    path: PathBuf,
    file: Arc<dyn File>,
    len: u64,
    pub(crate) header: SegmentHeader,
    mark: Option<DurableMark>,
}

impl Opening {
    pub(crate) fn new(
        storage: &dyn Storage,
        dir: &Path,
        base: LogIndex,
        identity: LogIdentity,
    ) -> Result<Self, OpenError> {
        Self::at(storage, &segment_path(dir, base), base, identity)
    }

    /// The same wherever the file stands.
    pub(crate) fn at(
        storage: &dyn Storage,
        path: &Path,
        base: LogIndex,
        identity: LogIdentity,
    ) -> Result<Self, OpenError> {
        let path = path.to_owned();
        let io = |error| OpenError::io(&path, error);
        let file = storage.open(&path, Access::Write).map_err(io)?;
        let len = file.len().map_err(io)?;
        let mut page = vec![0; in_memory(PAGE)];
        let count = file.read_at(&mut page, 0).map_err(io)?;
        page.truncate(count);
        let header =
            SegmentHeader::decode(&page).map_err(|why| OpenError::damaged(&path, 0, why))?;
        if header.group != identity.group || header.tag != identity.tag {
            let why = "the segment belongs to another group";
            return Err(OpenError::damaged(&path, 0, why));
        }
        if header.base_index != base {
            let why = "the segment has another first index than its name says";
            return Err(OpenError::damaged(&path, 0, why));
        }
        let mark = DurableMark::newest(&page, header.fingerprint());
        Ok(Self {
            path,
            file,
            len,
            header,
            mark,
        })
    }

    /// The segment as its footer describes it. There must be one: a younger segment exists.
    pub(crate) fn sealed(self, dir: &Path) -> Result<Segment, OpenError> {
        let footer = self.footer()?;
        let Some(footer) = footer else {
            let position = self.len.saturating_sub(TRAILER_LEN as u64);
            let why = "the footer of a sealed segment is missing or fails its checksum";
            return Err(OpenError::damaged(&self.path, position, why));
        };
        Ok(Segment::sealed(dir, self.header, footer))
    }

    /// The valid footer at the file's end, if there is one.
    fn footer(&self) -> Result<Option<Footer>, OpenError> {
        let Some(at) = self
            .len
            .checked_sub(TRAILER_LEN as u64)
            .filter(|at| *at >= PAGE)
        else {
            return Ok(None);
        };
        let trailer = self.read(at, TRAILER_LEN as u64)?;
        let begins = Footer::begins_at(&trailer);
        let Some(begins) = begins.filter(|begins| (PAGE..=at).contains(begins)) else {
            return Ok(None);
        };
        let len = self.len.saturating_sub(begins);
        if len > FOOTER_MAX {
            return Ok(None);
        }
        let footer = Footer::decode(&self.read(begins, len)?);
        Ok(footer.filter(|footer| footer.last_index >= self.header.base_index))
    }

    fn read(&self, at: u64, len: u64) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; in_memory(len)];
        let count = self
            .file
            .read_at(&mut bytes, at)
            .map_err(|error| OpenError::io(&self.path, error))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Scans the newest segment frame by frame. `synced` says that a younger file existed, before which
    /// all of this one was flushed; `time` is that of the entry before it.
    pub(crate) fn scan(
        self,
        dir: &Path,
        synced: bool,
        time: HybridTime,
    ) -> Result<Scan, OpenError> {
        let footer = self.footer()?;
        let mut mark = self.mark.ok_or_else(|| {
            let why = "the segment has no valid durable mark";
            OpenError::damaged(&self.path, crate::segment::MARK_SECTORS[0], why)
        })?;
        if let (true, Some(footer)) = (synced, &footer) {
            mark = DurableMark {
                length: footer.frames_end,
                last_index: footer.last_index,
            };
        }
        let mut segment = Segment::empty(dir, self.header, time);
        segment.loaded = Some(Loaded {
            file: Arc::clone(&self.file),
            index: SparseIndex::default(),
        });
        let mut scan = Scan {
            segment,
            torn: None,
            crc: Crc::new(),
            file: self.file,
            mark,
            len: self.len,
        };
        let bad = scan.frames()?;
        let bad = bad.filter(|_| !footer.is_some_and(|footer| scan.ends_as(&footer)));
        scan.judge(bad)?;
        Ok(scan)
    }
}

impl Scan {
    /// Whether no entry is in the segment and none was ever known to be durable there.
    pub(crate) fn is_blank(&self) -> bool {
        self.segment.is_empty() && self.mark.length <= PAGE
    }

    /// Whether a footer stands right behind the good frames and says the same of them. Bytes of a batch
    /// can look like a footer: one anywhere else means nothing.
    fn ends_as(&self, footer: &Footer) -> bool {
        let end = &self.segment.end;
        footer.frames_end == end.position
            && footer.last_index == end.last_index()
            && footer.chain == end.chain
    }

    /// Passes all good frames; answers what is wrong with the next one, if anything is there.
    fn frames(&mut self) -> Result<Option<&'static str>, OpenError> {
        let stop = self.len;
        let mut buffer = Vec::new();
        let mut at = PAGE;
        while self.segment.end.position < stop {
            let position = self.segment.end.position;
            let skip = in_memory(position.saturating_sub(at));
            let ready: &[u8] = buffer.get(skip..).unwrap_or_default();
            match whole_frame(ready, &self.segment.end) {
                Needs::Nothing((frame, summary)) => {
                    let len = in_memory(frame.total_len());
                    self.crc.update(ready.get(..len).unwrap_or_default());
                    self.segment.append(&frame, &summary);
                }
                Needs::Bytes(count) if (count as u64) <= stop.saturating_sub(position) => {
                    buffer = self.read(position, count.max(CHUNK), stop)?;
                    at = position;
                    if buffer.len() < count {
                        return Ok(Some("the file is shorter than it says"));
                    }
                }
                Needs::Bytes(_) => return Ok(Some("a frame ends behind the file")),
                Needs::Truncation(why) => return Ok(Some(why)),
            }
        }
        Ok(None)
    }

    fn read(&self, at: u64, want: usize, stop: u64) -> Result<Vec<u8>, OpenError> {
        let left = in_memory(stop.saturating_sub(at));
        let mut bytes = vec![0; want.min(left)];
        let count = self
            .file
            .read_at(&mut bytes, at)
            .map_err(|error| OpenError::io(&self.segment.path, error))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Decides whether what ended the scan is damage, a torn tail, or the end.
    fn judge(&mut self, bad: Option<&'static str>) -> Result<(), OpenError> {
        let position = self.segment.end.position;
        let path = &self.segment.path;
        if position < self.mark.length {
            let why = bad.unwrap_or("the file is shorter than its durable mark");
            return Err(OpenError::damaged(path, position, why));
        }
        if position == self.mark.length && self.segment.last_index() != self.mark.last_index {
            let why = "the durable mark names another last index";
            return Err(OpenError::damaged(path, position, why));
        }
        if bad.is_some() && self.tail_has_bytes()? {
            let bytes = self.len.saturating_sub(position);
            self.torn = Some(TornTail {
                path: path.clone(),
                position,
                bytes,
            });
        }
        Ok(())
    }

    /// Whether anything but prepared zeros stands behind the last good frame.
    fn tail_has_bytes(&self) -> Result<bool, OpenError> {
        let stop = self.len;
        let mut at = self.segment.end.position;
        while at < stop {
            let bytes = self.read(at, CHUNK, stop)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
            if bytes.is_empty() {
                return Ok(false);
            }
            at = at.saturating_add(bytes.len() as u64);
        }
        Ok(false)
    }

    /// Makes the scanned segment durable for certain and cuts everything behind it.
    pub(crate) fn settle(&mut self, storage: &dyn Storage) -> Result<(), OpenError> {
        let end = self.segment.end.position;
        if self.mark.length < end {
            let file = self.copy(storage)?;
            if let Some(loaded) = &mut self.segment.loaded {
                loaded.file = file;
            }
            return Ok(());
        }
        if self.len != end {
            let path = &self.segment.path;
            let io = |error| OpenError::io(path, error);
            self.file.set_len(end).map_err(io)?;
            self.file.sync_all().map_err(io)?;
        }
        Ok(())
    }

    /// Copies the good frames to a new file and gives it the segment's name.
    fn copy(&self, storage: &dyn Storage) -> Result<Arc<dyn File>, OpenError> {
        let staged = Staged::create(storage, &self.segment.path)?;
        match self.copy_into(&staged) {
            Err(OpenError::NoSpace { path }) => {
                staged.discard(storage)?;
                return Err(OpenError::NoSpace { path });
            }
            other => other?,
        }
        staged.flush()?;
        Ok(staged.publish(storage)?)
    }

    fn copy_into(&self, staged: &Staged) -> Result<(), OpenError> {
        let end = self.segment.end;
        staged.write(&first_page(&self.segment.header, DurableMark::at(&end)), 0)?;
        let mut at = PAGE;
        while at < end.position {
            let bytes = self.read(at, CHUNK, end.position)?;
            if bytes.is_empty() {
                let short = std::io::ErrorKind::UnexpectedEof.into();
                return Err(Fault::fatal(&self.segment.path, short).into());
            }
            staged.write(&bytes, at)?;
            at = at.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }
}

/// What a scan needs to go on.
enum Needs {
    Nothing((Frame, crate::segment::BatchSummary)),
    Bytes(usize),
    Truncation(&'static str),
}

/// Checks one whole frame, its batch's body and padding included.
fn whole_frame(bytes: &[u8], cursor: &Cursor) -> Needs {
    if bytes.len() < FRAME_LEN {
        return Needs::Bytes(FRAME_LEN);
    }
    let frame = match Frame::decode(bytes) {
        Ok(frame) => frame,
        Err(why) => return Needs::Truncation(why),
    };
    let len = in_memory(frame.total_len());
    let Some(whole) = bytes.get(..len) else {
        return Needs::Bytes(len);
    };
    let (batch, padding) = whole
        .get(FRAME_LEN..)
        .and_then(|rest| rest.split_at_checked(frame.batch_len))
        .unwrap_or_default();
    if padding.iter().any(|byte| *byte != 0) {
        return Needs::Truncation("the padding of a frame is not zero");
    }
    match cursor.check(bytes) {
        Ok(_) if !crate::segment::batch_is_whole(batch) => {
            Needs::Truncation("a batch fails its checksum")
        }
        Ok(checked) => Needs::Nothing(checked),
        Err(why) => Needs::Truncation(why),
    }
}
