//! Zero-filling ahead of the writer: flushing blocks that hold zeros already is cheaper and steadier than
//! flushing new ones.
//!
//! Filler and writer never touch the same bytes: both take theirs at one frontier, under one lock. The
//! filler flushes through a handle of its own, so an error of a write-back is reported to both.

use std::io::{self, IoSlice};
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::file::{Access, File, Lane, Storage};
use crate::segment::PAGE;

const CHUNK_MIN: u64 = 64 << 10;
const CHUNK_MAX: u64 = 16 << 20;
const CHUNK_GROWTH: u64 = 4;
/// Bytes written at a time, while the writer may have to wait.
const PIECE: usize = 256 << 10;
/// Bytes between two flushes of the filler. Each makes one flush of the writer wait for the file system's
/// journal, so they are few, and short enough not to be felt.
const FLUSH_EVERY: u64 = 4 << 20;
/// A segment with less than this is most likely idle: its disk space is not prepared.
const BUSY_AFTER: u64 = PAGE + 4096;

/// Prepares the rest of one segment file.
#[derive(Debug)]
pub(crate) struct Fill {
    frontier: Arc<Mutex<Frontier>>,
    chunk: u64,
    limit: u64,
}

#[derive(Debug)]
struct Frontier {
    /// Bytes below are written or being written.
    at: u64,
    running: bool,
    stopped: bool,
    failed: Option<String>,
}

impl Fill {
    /// For a file that ends at `end`; nothing is prepared beyond `limit`.
    pub(crate) fn new(end: u64, limit: u64) -> Self {
        let frontier = Frontier {
            at: end,
            running: false,
            stopped: false,
            failed: None,
        };
        Self {
            frontier: Arc::new(Mutex::new(frontier)),
            chunk: CHUNK_MIN,
            limit,
        }
    }

    /// For the same file cut at `end`, or the next one of a log that is as busy as it was.
    pub(crate) fn restarted(&self, end: u64) -> Self {
        let mut next = Self::new(end, self.limit);
        next.chunk = (self.chunk / CHUNK_GROWTH).max(CHUNK_MIN);
        next
    }

    /// Takes the bytes up to `end` for the writer. Answers why the volume failed, if it did.
    pub(crate) fn claim(&self, end: u64) -> Option<String> {
        let mut frontier = self.frontier.lock();
        frontier.at = frontier.at.max(end);
        frontier.failed.clone()
    }

    /// Starts preparing the next chunk if the writer has come close to the frontier.
    pub(crate) fn advance(&mut self, storage: &Arc<dyn Storage>, path: &Path, written: u64) {
        let goal = {
            let mut frontier = self.frontier.lock();
            let ahead = frontier.at.saturating_sub(written);
            let goal = frontier.at.saturating_add(self.chunk).min(self.limit);
            let due = written > BUSY_AFTER && ahead < self.chunk / 2 && goal > frontier.at;
            if frontier.running || frontier.stopped || !due {
                return;
            }
            frontier.running = true;
            goal
        };
        self.chunk = self.chunk.saturating_mul(CHUNK_GROWTH).min(CHUNK_MAX);
        let job = Job {
            storage: Arc::clone(storage),
            path: path.into(),
            frontier: Arc::clone(&self.frontier),
            goal,
        };
        storage.submit(Lane::Background, Box::new(move || job.run()));
    }

    /// No byte is written by the filler after this.
    pub(crate) fn stop(&self) {
        self.frontier.lock().stopped = true;
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Job {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    frontier: Arc<Mutex<Frontier>>,
    goal: u64,
}

impl Job {
    fn run(&self) {
        let result = self.fill();
        let mut frontier = self.frontier.lock();
        frontier.running = false;
        if let Err(error) = result
            && !frontier.stopped
        {
            frontier.failed = Some(error.to_string());
        }
    }

    fn fill(&self) -> io::Result<()> {
        if self.frontier.lock().stopped {
            return Ok(());
        }
        let file = self.storage.open(&self.path, Access::Write)?;
        let zeros = vec![0; PIECE];
        let mut unflushed = 0_u64;
        while self.write_piece(&*file, &zeros)? {
            unflushed = unflushed.saturating_add(PIECE as u64);
            if unflushed >= FLUSH_EVERY {
                file.sync_data()?;
                unflushed = 0;
            }
        }
        if unflushed > 0 {
            file.sync_data()
        } else {
            Ok(())
        }
    }

    /// Writes zeros at the frontier; answers whether it did. A full disk is left for the writer to meet.
    fn write_piece(&self, file: &dyn File, zeros: &[u8]) -> io::Result<bool> {
        let mut frontier = self.frontier.lock();
        let left = self.goal.saturating_sub(frontier.at);
        let piece = zeros.get(..crate::layout::in_memory(left)).unwrap_or(zeros);
        if frontier.stopped || piece.is_empty() {
            return Ok(false);
        }
        match file.write_vectored_at(&[IoSlice::new(piece)], frontier.at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(false),
            Err(error) => return Err(error),
        }
        frontier.at = frontier.at.saturating_add(piece.len() as u64);
        Ok(true)
    }
}
