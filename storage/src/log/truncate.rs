//! The rare parts of writing: beginning a new segment, and undoing entries that another leader replaced.

use std::path::Path;
use std::sync::Arc;

use quorate_protocol::LogIndex;

use super::error::ReadError;
use super::sealed::{Source, Walk};
use super::segment_state::{Loaded, Segment};
use super::writer::{LogWriter, Target, sync_dir};
use crate::file::{Access, Fault, File, Staged, Storage};
use crate::index::SparseIndex;
use crate::layout::{Crc, in_memory};
use crate::segment::{
    Cursor, DurableMark, MARK_SECTORS, PAGE, Roller, SECTOR, SegmentHeader, index_path,
};

const CHUNK: usize = 1 << 20;

impl LogWriter {
    /// Seals the active segment and begins the next. The new file is durable under its temporary name
    /// before the old one is touched, so lack of room changes nothing.
    pub(crate) fn roll(&mut self) -> Result<(), Fault> {
        let (next, footer, seal) = {
            let crc = self.target.frames_crc()?;
            let state = self.shared.state.read();
            let active = &state.active;
            let next = Segment::empty(&self.shared.dir, active.successor(), active.end.time);
            (next, active.footer(crc).encode(), active.seal())
        };
        let storage = &*self.shared.storage;
        let staged = stage_segment(storage, &next.path, &next.header)?;
        if let Err(fault) = self.target.seal(&footer) {
            if matches!(fault, Fault::NoSpace { .. }) {
                staged.discard(storage)?;
                self.target.set_len(self.target.end.position)?;
                self.target.fill = self.target.fill.restarted(self.target.end.position);
            }
            return Err(fault);
        }
        let file = staged.publish(storage)?;
        self.begin(next, file, &seal)
    }

    fn begin(
        &mut self,
        mut next: Segment,
        file: Arc<dyn File>,
        seal: &crate::index::IndexSeal,
    ) -> Result<(), Fault> {
        let limit = self.config.fill_limit();
        let mut target = Target::new(
            Arc::clone(&file),
            &next.path,
            next.fingerprint,
            next.end,
            limit,
        );
        target.crc = Some(Crc::new());
        target.fill = self.target.fill.restarted(next.end.position);
        next.loaded = Some(Loaded {
            file,
            index: SparseIndex::default(),
        });
        let mut state = self.shared.state.write();
        let sealed = state.active.header.base_index;
        let index = state
            .active
            .loaded
            .as_ref()
            .map(|loaded| loaded.index.encode(seal));
        state.roll(next);
        drop(state);
        if let Some(bytes) = index {
            self.shared
                .store_index(index_path(&self.shared.dir, sealed), bytes);
        }
        self.target = target;
        self.roller = Roller::new(self.config.segment_bytes, self.config.segment_age);
        Ok(())
    }

    /// Removes the entries from `first` on. Readers lose them first; then the younger segments go, then
    /// the tail of the one that keeps entries, each step durable before the next.
    pub(crate) fn truncate(&mut self, first: LogIndex) -> Result<(), Fault> {
        self.target.fill.stop();
        let reopened = self.reopen_holder(first)?;
        if let Some(reopened) = reopened {
            let end = reopened.place;
            let removed = self.take_younger(reopened.loaded, end);
            self.target = reopened.target;
            self.remove_files(removed)?;
            self.cut(end)
        } else {
            let end = self.locate_in_active(first)?;
            {
                let mut state = self.shared.state.write();
                state.epoch += 1;
                state.active.truncate(end);
            }
            self.cut(end)
        }
    }

    /// Opens the sealed segment that becomes the active one; none if the active one keeps entries or is
    /// the only one. An index file that leads astray is made again from the log.
    fn reopen_holder(&self, first: LogIndex) -> Result<Option<Reopened>, Fault> {
        let (header, path, end, seal) = {
            let state = self.shared.state.read();
            if state.active.header.base_index < first {
                return Ok(None);
            }
            let before = state
                .sealed
                .partition_point(|old| old.header.base_index < first);
            let Some(holder) = state.sealed.get(before.saturating_sub(1)) else {
                return Ok(None);
            };
            (
                holder.header,
                holder.path.clone(),
                holder.end,
                holder.seal(),
            )
        };
        let file = self
            .shared
            .storage
            .open(&path, Access::Write)
            .map_err(|error| Fault::fatal(&path, error))?;
        let limit = self.config.fill_limit();
        let mut target = Target::new(Arc::clone(&file), &path, header.fingerprint(), end, limit);
        target.marked = read_mark(&*file, &path, target.fingerprint)?;
        let load = |source| {
            let loaded = self.shared.load_files(&header, &seal, source);
            let index = loaded.map_err(|error| unreadable(&path, &error))?.index;
            let place = seek(&target, nearest(&header, &index, first), first)?;
            Ok((index, place))
        };
        let (index, place) = load(Source::File).or_else(|_: Fault| load(Source::Log))?;
        let loaded = Loaded { file, index };
        Ok(Some(Reopened {
            target,
            loaded,
            place,
        }))
    }

    /// The place before an entry of the log.
    pub(crate) fn place_before(&self, first: LogIndex) -> Result<Cursor, Fault> {
        match self.reopen_holder(first)? {
            Some(reopened) => Ok(reopened.place),
            None => self.locate_in_active(first),
        }
    }

    fn locate_in_active(&self, first: LogIndex) -> Result<Cursor, Fault> {
        let start = {
            let state = self.shared.state.read();
            let active = &state.active;
            let index = active.loaded.as_ref().map(|loaded| &loaded.index);
            index.map_or_else(
                || Cursor::start(&active.header, active.end.time),
                |index| nearest(&active.header, index, first),
            )
        };
        seek(&self.target, start, first)
    }

    /// Makes the segment that keeps entries the active one; answers those behind it, youngest first.
    fn take_younger(&self, loaded: Loaded, end: Cursor) -> Vec<Segment> {
        let mut state = self.shared.state.write();
        state.epoch += 1;
        let mut removed = Vec::new();
        while state.active.header.base_index >= end.next_index {
            let Some(gone) = state.unroll() else { break };
            removed.push(gone);
        }
        state.active.loaded = Some(loaded);
        state.active.truncate(end);
        removed
    }

    fn remove_files(&self, removed: Vec<Segment>) -> Result<(), Fault> {
        for gone in removed {
            let storage = &self.shared.storage;
            storage
                .remove(&gone.path)
                .map_err(|error| Fault::fatal(&gone.path, error))?;
            self.shared
                .drop_index(index_path(&self.shared.dir, gone.header.base_index));
        }
        sync_dir(&self.shared)
    }

    fn cut(&mut self, end: Cursor) -> Result<(), Fault> {
        self.target.cut(end)?;
        self.target.fill = self.target.fill.restarted(end.position);
        self.target.crc = None;
        let first_time = self.shared.state.read().active.first_time;
        self.roller = Roller::new(self.config.segment_bytes, self.config.segment_age)
            .at(end.position, first_time);
        Ok(())
    }
}

/// A sealed segment opened for writing.
struct Reopened {
    target: Target,
    loaded: Loaded,
    /// Before the first entry to go.
    place: Cursor,
}

/// The indexed place closest before an entry.
fn nearest(header: &SegmentHeader, index: &SparseIndex, first: LogIndex) -> Cursor {
    let near = index.since_last(|entry| entry.index < first).first();
    near.filter(|entry| entry.index < first).map_or_else(
        || Cursor::start(header, quorate_protocol::HybridTime::new(0)),
        crate::index::IndexEntry::cursor,
    )
}

/// Walks from a known place to the one before an entry.
fn seek(target: &Target, start: Cursor, first: LogIndex) -> Result<Cursor, Fault> {
    if first >= target.end.next_index {
        return Ok(target.end);
    }
    let mut walk = Walk::new(Arc::clone(&target.file), start);
    while walk.cursor.next_index < first {
        let position = walk.cursor.position;
        let step = walk
            .step()
            .map_err(|error| Fault::fatal(&target.path, error))?;
        if let Err(why) = step {
            let error = ReadError::damaged(&target.path, position, why);
            return Err(unreadable(&target.path, &error));
        }
    }
    Ok(walk.cursor)
}

impl Target {
    /// Cuts the file at a place, having lowered the mark first if it is above.
    fn cut(&mut self, end: Cursor) -> Result<(), Fault> {
        let mark = DurableMark::at(&end);
        if self.marked > mark {
            for _ in MARK_SECTORS {
                self.write_mark(mark)?;
                self.sync_data()?;
            }
        }
        self.set_len(end.position)?;
        self.sync_data()?;
        self.durable = mark;
        self.end = end;
        Ok(())
    }

    /// Writes the footer as the file's last bytes and flushes the whole segment.
    fn seal(&self, footer: &[u8]) -> Result<(), Fault> {
        self.fill.stop();
        let end = self.end.position;
        self.set_len(end)?;
        self.file
            .write_vectored_at(&[std::io::IoSlice::new(footer)], end)
            .map_err(|error| Fault::of_write(&self.path, error))?;
        self.sync_all()
    }

    /// Checksum of all frames, read back if it was not kept.
    fn frames_crc(&self) -> Result<u32, Fault> {
        if let Some(crc) = &self.crc {
            return Ok(crc.value());
        }
        let fatal = |error| Fault::fatal(&self.path, error);
        let mut crc = Crc::new();
        let mut chunk = vec![0; CHUNK];
        let mut position = PAGE;
        while position < self.end.position {
            let left = in_memory(self.end.position.saturating_sub(position));
            let want = left.min(CHUNK);
            let part = chunk.get_mut(..want).unwrap_or_default();
            if self.file.read_at(part, position).map_err(fatal)? != want {
                let short = std::io::ErrorKind::UnexpectedEof.into();
                return Err(Fault::fatal(&self.path, short));
            }
            crc.update(part);
            position = position.saturating_add(want as u64);
        }
        Ok(crc.value())
    }
}

/// Creates a segment file under its temporary name: header, both marks, durable.
pub(crate) fn stage_segment(
    storage: &dyn Storage,
    path: &Path,
    header: &SegmentHeader,
) -> Result<Staged, Fault> {
    let staged = Staged::create(storage, path)?;
    let start = Cursor::start(header, quorate_protocol::HybridTime::new(0));
    if let Err(fault) = staged.write(&first_page(header, DurableMark::at(&start)), 0) {
        if matches!(fault, Fault::NoSpace { .. }) {
            staged.discard(storage)?;
        }
        return Err(fault);
    }
    staged.flush()?;
    Ok(staged)
}

/// Page 0 with both marks alike.
pub(crate) fn first_page(header: &SegmentHeader, mark: DurableMark) -> Vec<u8> {
    let mut page = header.encode();
    page.resize(in_memory(PAGE), 0);
    let sector = mark.encode(header.fingerprint());
    for at in MARK_SECTORS {
        let place = page
            .get_mut(in_memory(at)..)
            .and_then(|rest| rest.get_mut(..SECTOR));
        if let Some(place) = place {
            place.copy_from_slice(&sector);
        }
    }
    page
}

fn read_mark(file: &dyn File, path: &Path, fingerprint: u32) -> Result<DurableMark, Fault> {
    let mut page = vec![0; in_memory(PAGE)];
    file.read_at(&mut page, 0)
        .map_err(|error| Fault::fatal(path, error))?;
    DurableMark::newest(&page, fingerprint).ok_or_else(|| {
        let error = std::io::Error::other("the segment has no valid durable mark");
        Fault::fatal(path, error)
    })
}

fn unreadable(path: &Path, error: &ReadError) -> Fault {
    Fault::fatal(path, std::io::Error::other(error.to_string()))
}
