//! Storage in memory, for tests and the simulator: it knows what would survive a crash.
//!
//! Contents survive once synced, names once their directory is; an un-synced byte or name may survive a
//! crash or not. Handles opened before a crash are dead after it.

mod disk;
mod faults;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::disk::{Change, Disk, Inode};
use self::faults::Faults;
use super::{Access, Boot, DirEntry, File, Lane, Space, Storage, Work};

/// What a crash leaves of that which was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Everything: the process died, the machine did not.
    Process,
    /// Nothing.
    Synced,
    /// A subset of blocks and a prefix of each directory's changes, drawn from a seed.
    Seeded(u64),
}

/// A volume in memory.
#[derive(Debug)]
pub struct MemoryStorage {
    inner: Arc<Mutex<Inner>>,
    queue: Option<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Inner {
    disk: Disk,
    faults: Faults,
    /// Counts crashes; handles remember theirs.
    life: u64,
    /// Counts crashes of the machine.
    boots: u64,
    locks: Vec<PathBuf>,
}

#[derive(Default)]
struct Queue(VecDeque<(Lane, Work)>);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Queue").field(&self.0.len()).finish()
    }
}

impl MemoryStorage {
    /// An empty volume that runs submitted work at once.
    #[must_use]
    pub fn inline() -> Self {
        Self {
            inner: Arc::default(),
            queue: None,
        }
    }

    /// An empty volume that keeps submitted work until [`MemoryStorage::run_one`].
    #[must_use]
    pub fn queued() -> Self {
        Self {
            inner: Arc::default(),
            queue: Some(Mutex::default()),
        }
    }

    /// Runs the oldest queued work; answers whether there was any.
    pub fn run_one(&self) -> bool {
        self.run_first(|_| true)
    }

    /// Runs the oldest queued work of a lane; answers whether there was any.
    pub fn run_one_of(&self, lane: Lane) -> bool {
        self.run_first(|queued| queued == lane)
    }

    fn run_first(&self, wanted: impl Fn(Lane) -> bool) -> bool {
        let work = self.queue.as_ref().and_then(|queue| {
            let mut queue = queue.lock();
            let at = queue.0.iter().position(|(lane, _)| wanted(*lane))?;
            queue.0.remove(at)
        });
        let found = work.is_some();
        if let Some((_, work)) = work {
            work();
        }
        found
    }

    /// Stops the machine: queued work is dropped, handles die, faults are lifted, and of what was not
    /// synced only what `crash` says remains.
    pub fn crash(&self, crash: Crash) {
        let dropped = self
            .queue
            .as_ref()
            .map(|queue| std::mem::take(&mut *queue.lock()));
        drop(dropped);
        let mut inner = self.inner.lock();
        inner.life += 1;
        inner.boots += u64::from(crash != Crash::Process);
        inner.locks.clear();
        inner.faults = Faults::default();
        inner.disk.crash(crash);
    }

    /// Lets `count` more syncs succeed and the one after them fail, once. What it was to save is lost.
    pub fn fail_sync_after(&self, count: u64) {
        self.inner.lock().faults.fail_sync_after(count);
    }

    /// Lets `count` more changes (writes, cuts, syncs, names) happen; then every one fails, as if the
    /// machine stood still, until [`MemoryStorage::crash`].
    pub fn stop_after(&self, count: u64) {
        self.inner.lock().faults.stop_after(count);
    }

    /// Lets files grow by so many bytes in all; none lifts the limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.inner.lock().faults.limit_space(bytes);
    }

    /// How many changes were made since the start or the last crash.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.inner.lock().faults.changes()
    }

    /// A file's bytes as readers see them.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner.lock();
        inner.disk.inode(path).map(|inode| inode.data.clone())
    }

    /// Replaces a file's bytes behind everybody's back, durably.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        self.inner.lock().disk.plant(path, bytes);
    }
}

impl Storage for MemoryStorage {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut inner = self.inner.lock();
        if access == Access::CreateNew {
            inner.faults.change()?;
            inner.disk.create(path)?;
        }
        let inode = inner.disk.id(path)?;
        let file = MemoryFile {
            inner: Arc::clone(&self.inner),
            inode,
            life: inner.life,
        };
        Ok(Arc::new(file))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.faults.change()?;
        inner.disk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.lock().disk.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.faults.change()?;
        inner.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.faults.change()?;
        inner.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.faults.change()?;
        inner.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.faults.change()?;
        inner.faults.sync()?;
        inner.disk.sync_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.inner.lock().disk.exists(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut inner = self.inner.lock();
        if inner.locks.iter().any(|held| held == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        inner.locks.push(path.into());
        let (path, life) = (path.to_path_buf(), inner.life);
        Ok(Box::new(Held {
            inner: Arc::clone(&self.inner),
            path,
            life,
        }))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let inner = self.inner.lock();
        let total = 1 << 40;
        Ok(Space {
            free: inner.faults.room().unwrap_or(total),
            total,
        })
    }

    fn boot(&self) -> io::Result<Boot> {
        Ok(Boot(self.inner.lock().boots.into()))
    }

    fn submit(&self, lane: Lane, work: Work) {
        match &self.queue {
            None => work(),
            Some(queue) => queue.lock().0.push_back((lane, work)),
        }
    }
}

/// A held lock; a crash has released it already.
struct Held {
    inner: Arc<Mutex<Inner>>,
    path: PathBuf,
    life: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.inner.lock();
        if inner.life == self.life {
            inner.locks.retain(|held| *held != self.path);
        }
    }
}

#[derive(Debug)]
struct MemoryFile {
    inner: Arc<Mutex<Inner>>,
    inode: u64,
    life: u64,
}

impl MemoryFile {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Faults, &mut Inode) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut inner = self.inner.lock();
        if inner.life != self.life {
            return Err(io::Error::other(
                "the machine has crashed since this file was opened",
            ));
        }
        let Inner { disk, faults, .. } = &mut *inner;
        let inode = disk.by_id(self.inode).ok_or(io::ErrorKind::NotFound)?;
        work(faults, inode)
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|faults, inode| {
            faults.change()?;
            if let Err(error) = faults.sync() {
                inode.lose_pending();
                return Err(error);
            }
            inode.sync();
            Ok(())
        })
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|_, inode| Ok(inode.read(buffer, position)))
    }

    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, position).map(Some)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.with(|faults, inode| {
            faults.change()?;
            let grows = inode.growth(position, bytes.len());
            let granted = faults.grow(grows);
            let fits = bytes.len().saturating_sub(grows.saturating_sub(granted));
            let written = bytes.get(..fits).unwrap_or(&bytes).to_vec();
            let full = written.len() < bytes.len();
            inode.apply(Change::Write(position, written));
            if full {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|faults, inode| {
            faults.change()?;
            inode.apply(Change::SetLen(len));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, inode| Ok(inode.data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(storage: &MemoryStorage, path: &str, bytes: &[u8]) -> Arc<dyn File> {
        let file = storage.open(Path::new(path), Access::CreateNew).unwrap();
        file.write_vectored_at(&[IoSlice::new(bytes)], 0).unwrap();
        file
    }

    #[test]
    fn a_synced_file_without_a_synced_name_is_lost() {
        let storage = MemoryStorage::inline();
        written(&storage, "a", b"x").sync_all().unwrap();
        storage.crash(Crash::Synced);
        assert!(!storage.exists(Path::new("a")).unwrap());
    }

    #[test]
    fn a_synced_name_without_synced_bytes_is_an_empty_file() {
        let storage = MemoryStorage::inline();
        written(&storage, "a", b"x");
        storage.sync_dir(Path::new(".")).unwrap();
        storage.crash(Crash::Synced);
        assert_eq!(storage.contents(Path::new("a")).unwrap(), b"");
    }

    #[test]
    fn an_unsynced_rename_leaves_the_old_name() {
        let storage = MemoryStorage::inline();
        written(&storage, "a", b"x").sync_all().unwrap();
        storage.sync_dir(Path::new(".")).unwrap();
        storage.rename(Path::new("a"), Path::new("b")).unwrap();
        storage.crash(Crash::Synced);
        assert!(storage.exists(Path::new("a")).unwrap());
        assert!(!storage.exists(Path::new("b")).unwrap());
    }

    #[test]
    fn a_failed_sync_is_reported_once_and_its_bytes_never_become_durable() {
        let storage = MemoryStorage::inline();
        let file = written(&storage, "a", b"x");
        storage.sync_dir(Path::new(".")).unwrap();
        storage.fail_sync_after(0);
        assert!(file.sync_all().is_err());
        file.sync_all().unwrap();
        assert_eq!(storage.contents(Path::new("a")).unwrap(), b"x");
        storage.crash(Crash::Synced);
        assert_eq!(storage.contents(Path::new("a")).unwrap(), b"");
    }

    #[test]
    fn a_process_crash_keeps_everything_but_handles_and_locks() {
        let storage = MemoryStorage::inline();
        let file = written(&storage, "a", b"x");
        let held = storage.lock(Path::new("lock")).unwrap();
        storage.crash(Crash::Process);
        assert_eq!(storage.contents(Path::new("a")).unwrap(), b"x");
        assert!(file.len().is_err());
        let again = storage.lock(Path::new("lock")).unwrap();
        drop(held);
        assert!(storage.lock(Path::new("lock")).is_err());
        drop(again);
    }

    #[test]
    fn a_seed_decides_which_blocks_survive() {
        let outcome = |seed| {
            let storage = MemoryStorage::inline();
            let file = written(&storage, "a", &[1; 4096]);
            file.sync_all().unwrap();
            storage.sync_dir(Path::new(".")).unwrap();
            file.write_vectored_at(&[IoSlice::new(&[2; 4096])], 0)
                .unwrap();
            storage.crash(Crash::Seeded(seed));
            storage.contents(Path::new("a")).unwrap()
        };
        assert_eq!(outcome(7), outcome(7));
        let mixed = (0..20)
            .map(outcome)
            .any(|data| data.contains(&1) && data.contains(&2));
        assert!(mixed);
    }
}
