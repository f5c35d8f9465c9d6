//! Segments that are being shipped outlive their removal from the log until the last shipment ends.
//!
//! Only names are kept: a crash leaves files below the log's start, which the next start removes.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::LogIndex;

use crate::file::{Lane, Storage};
use crate::log::shared::Shared;

/// Who still needs which files.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    next: u64,
    /// Per shipment the first segment it needs; it needs all behind that too.
    held: BTreeMap<u64, LogIndex>,
    /// Removed from the log, oldest first.
    doomed: VecDeque<(LogIndex, PathBuf)>,
}

/// Keeps the files of a log from an index on, until dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    shared: Arc<Shared>,
    id: u64,
}

impl Pin {
    /// Pins the segments that begin at `first` or later.
    pub(crate) fn new(shared: &Arc<Shared>, first: LogIndex) -> Self {
        let mut pins = shared.pins.lock();
        let id = pins.next;
        pins.next += 1;
        pins.held.insert(id, first);
        drop(pins);
        let shared = Arc::clone(shared);
        Self { shared, id }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let free = {
            let mut pins = self.shared.pins.lock();
            pins.held.remove(&self.id);
            pins.take_free()
        };
        if free.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let work = move || remove(&*shared.storage, &shared.dir, &free);
        self.shared.storage.submit(Lane::Background, Box::new(work));
    }
}

impl Pins {
    /// Takes over the removal of a segment if a shipment needs it.
    pub(crate) fn doom(&mut self, base: LogIndex, path: &Path) -> bool {
        let needed = self.held.values().any(|first| *first <= base);
        if needed {
            self.doomed.push_back((base, path.into()));
        }
        needed
    }

    fn take_free(&mut self) -> Vec<PathBuf> {
        let first = self.held.values().min().copied();
        let free = |(base, _): &(LogIndex, PathBuf)| first.is_none_or(|first| *base < first);
        let count = self.doomed.iter().take_while(|doomed| free(doomed)).count();
        self.doomed.drain(..count).map(|(_, path)| path).collect()
    }
}

/// Removes files that may be gone by now. What is left is removed by the next start.
fn remove(storage: &dyn Storage, dir: &Path, paths: &[PathBuf]) {
    let removed = paths.iter().try_for_each(|path| {
        if storage.exists(path)? {
            storage.remove(path)?;
        }
        Ok(())
    });
    if let Err(error) = removed.and_then(|()| storage.sync_dir(dir)) {
        let error: std::io::Error = error;
        tracing::warn!(dir = %dir.display(), %error, "shipped segments are not removed yet");
    }
}
