//! What the writer and the readers of one log share: the map of its segments.
//!
//! The lock is held for look-ups and for taking note of what was written, never across I/O.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use quorate_protocol::{LogIndex, Offset};

use super::LogIdentity;
use super::segment_state::{Loaded, Segment};
use super::transfer::Pins;
use crate::file::{Lane, Storage};

/// Sealed segments whose handle and index stay in memory.
const LOADED_MAX: usize = 2;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: LogIdentity,
    pub(crate) state: RwLock<State>,
    pub(crate) pins: Mutex<Pins>,
}

impl Shared {
    /// Other segments take the place of all; what is being read is read anew.
    pub(crate) fn replace_state(&self, sealed: VecDeque<Segment>, active: Segment) {
        let mut state = self.state.write();
        let epoch = state.epoch + 1;
        *state = State {
            epoch,
            ..State::new(sealed, active)
        };
    }

    /// Writes the index of a sealed segment beside it, behind earlier work on such files. It is a cache,
    /// so a failure only costs the next reader a scan.
    pub(crate) fn store_index(&self, path: PathBuf, bytes: Vec<u8>) {
        let storage = Arc::clone(&self.storage);
        let work = move || {
            if let Err(error) = write_cache(&*storage, &path, &bytes) {
                tracing::debug!(path = %path.display(), %error, "index not stored");
            }
        };
        self.storage.submit(Lane::Background, Box::new(work));
    }

    /// Removes the index of a segment that is gone, in the same order.
    pub(crate) fn drop_index(&self, path: PathBuf) {
        let storage = Arc::clone(&self.storage);
        let work = move || {
            let removed = match storage.exists(&path) {
                Ok(true) => storage.remove(&path),
                other => other.map(drop),
            };
            if let Err(error) = removed {
                tracing::debug!(path = %path.display(), %error, "index not removed");
            }
        };
        self.storage.submit(Lane::Background, Box::new(work));
    }
}

fn write_cache(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use crate::file::Access;
    let access = if storage.exists(path)? {
        Access::Write
    } else {
        Access::CreateNew
    };
    let file = storage.open(path, access)?;
    file.set_len(0)?;
    file.write_vectored_at(&[std::io::IoSlice::new(bytes)], 0)
}

/// The segments, oldest first; the active one is always there.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) sealed: VecDeque<Segment>,
    pub(crate) active: Segment,
    /// Raised before bytes that were readable are overwritten or removed.
    pub(crate) epoch: u64,
    recent: VecDeque<LogIndex>,
}

impl State {
    pub(crate) fn new(sealed: VecDeque<Segment>, active: Segment) -> Self {
        Self {
            sealed,
            active,
            epoch: 0,
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().chain(std::iter::once(&self.active))
    }

    pub(crate) fn first(&self) -> &Segment {
        self.sealed.front().unwrap_or(&self.active)
    }

    pub(crate) fn first_index(&self) -> LogIndex {
        self.first().header.base_index
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.active.last_index()
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.first().header.base_offset
    }

    pub(crate) fn log_end(&self) -> Offset {
        self.active.next_offset()
    }

    /// The first segment for which `before` does not hold, or the active one.
    pub(crate) fn segment_after(&self, before: impl Fn(&Segment) -> bool) -> &Segment {
        let at = self.sealed.partition_point(before);
        self.sealed.get(at).unwrap_or(&self.active)
    }

    /// The sealed segment with this base.
    pub(crate) fn sealed_at(&mut self, base: LogIndex) -> Option<&mut Segment> {
        let at = self
            .sealed
            .binary_search_by_key(&base, |segment| segment.header.base_index);
        self.sealed.get_mut(at.ok()?)
    }

    /// Keeps a sealed segment's handle and index, dropping the least recently loaded beyond the bound.
    pub(crate) fn keep_loaded(&mut self, base: LogIndex, loaded: Loaded) {
        let Some(segment) = self.sealed_at(base) else {
            return;
        };
        segment.loaded = Some(loaded);
        self.recent.retain(|other| *other != base);
        self.recent.push_back(base);
        while self.recent.len() > LOADED_MAX {
            let oldest = self.recent.pop_front();
            if let Some(segment) = oldest.and_then(|oldest| self.sealed_at(oldest)) {
                segment.loaded = None;
            }
        }
    }

    /// Makes the active segment a sealed one and `next` the active one.
    pub(crate) fn roll(&mut self, next: Segment) {
        let mut sealed = std::mem::replace(&mut self.active, next);
        sealed.sealed = true;
        let loaded = sealed.loaded.take();
        let base = sealed.header.base_index;
        self.sealed.push_back(sealed);
        if let Some(loaded) = loaded {
            self.keep_loaded(base, loaded);
        }
    }

    /// Removes the active segment and makes the newest sealed one active; answers the removed one.
    pub(crate) fn unroll(&mut self) -> Option<Segment> {
        let mut active = self.sealed.pop_back()?;
        active.sealed = false;
        self.recent.retain(|base| *base != active.header.base_index);
        Some(std::mem::replace(&mut self.active, active))
    }
}
