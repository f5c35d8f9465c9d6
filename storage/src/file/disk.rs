//! The product's storage: files of the operating system, buffered I/O, own threads started when first needed.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags};

use super::lanes::Pool;
use super::{Access, Boot, DirEntry, File, Lane, Space, Storage, Work};

const FLUSH_THREADS_MAX: usize = 16;
const READ_THREADS_MAX: usize = 4;
const BACKGROUND_THREADS_MAX: usize = 1;
/// Where the kernel names its run.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Slices one system call takes (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// Storage on the machine's file systems.
#[derive(Debug)]
pub struct DiskStorage {
    flush: Pool,
    read: Pool,
    background: Pool,
}

impl DiskStorage {
    /// A storage without threads; they start with the first work.
    #[must_use]
    pub fn new() -> Self {
        Self {
            flush: Pool::new("quorate-flush", FLUSH_THREADS_MAX),
            read: Pool::new("quorate-read", READ_THREADS_MAX),
            background: Pool::new("quorate-disk", BACKGROUND_THREADS_MAX),
        }
    }
}

impl Default for DiskStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for DiskStorage {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Write => options.read(true).write(true),
            Access::CreateNew => options.read(true).write(true).create_new(true),
        };
        Ok(Arc::new(DiskFile {
            file: options.open(path)?,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = fs::read_dir(path)?
            .map(|entry| {
                let entry = entry?;
                let about = entry.metadata()?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let len = if about.is_dir() { 0 } else { about.len() };
                Ok(DirEntry {
                    name,
                    is_dir: about.is_dir(),
                    len,
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
            fs::TryLockError::Error(error) => error,
        })?;
        Ok(Box::new(file))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let volume = rustix::fs::statvfs(path)?;
        Ok(Space {
            free: volume.f_bavail.saturating_mul(volume.f_frsize),
            total: volume.f_blocks.saturating_mul(volume.f_frsize),
        })
    }

    fn boot(&self) -> io::Result<Boot> {
        let text = fs::read_to_string(BOOT_ID)?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let number = u128::from_str_radix(&digits, 16);
        number.map(Boot).map_err(io::Error::other)
    }

    fn submit(&self, lane: Lane, work: Work) {
        match lane {
            Lane::Flush => self.flush.submit(work),
            Lane::Read => self.read.submit(work),
            Lane::Background => self.background.submit(work),
        }
    }
}

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
}

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self
                .file
                .read_at(rest, position.saturating_add(done as u64))
            {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = position.saturating_add(done as u64);
            let mut slices = [IoSliceMut::new(rest)];
            match rustix::io::preadv2(&self.file, &mut slices, from, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(done))
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut position = position;
        for group in slices.chunks(SLICES_MAX) {
            position = self.write_group(group, position)?;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl DiskFile {
    /// One `pwritev`; what a short write leaves is finished slice by slice.
    fn write_group(&self, group: &[IoSlice<'_>], position: u64) -> io::Result<u64> {
        let mut written = loop {
            match rustix::io::pwritev(&self.file, group, position) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let mut next = position;
        for slice in group {
            let done = written.min(slice.len());
            written -= done;
            if let Some(rest) = slice.get(done..).filter(|rest| !rest.is_empty()) {
                self.file
                    .write_all_at(rest, next.saturating_add(done as u64))?;
            }
            next = next.saturating_add(slice.len() as u64);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> (tempfile::TempDir, DiskStorage) {
        (tempfile::tempdir().unwrap(), DiskStorage::new())
    }

    #[test]
    fn more_slices_than_one_call_takes_are_written_in_order() {
        let (dir, storage) = storage();
        let file = storage
            .open(&dir.path().join("a"), Access::CreateNew)
            .unwrap();
        let bytes: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
        let slices: Vec<IoSlice<'_>> = bytes.chunks(2).map(IoSlice::new).collect();
        file.write_vectored_at(&slices, 3).unwrap();
        let mut back = vec![0; 6000];
        assert_eq!(file.read_at(&mut back, 3).unwrap(), 5000);
        assert_eq!(&back[..5000], &bytes[..]);
    }

    #[test]
    fn fresh_bytes_are_read_without_waiting() {
        let (dir, storage) = storage();
        let file = storage
            .open(&dir.path().join("a"), Access::CreateNew)
            .unwrap();
        file.write_vectored_at(&[IoSlice::new(b"hello")], 0)
            .unwrap();
        let mut back = [0; 8];
        if let Some(count) = file.read_at_nowait(&mut back, 0).unwrap() {
            assert_eq!(&back[..count], b"hello");
        }
    }

    #[test]
    fn the_kernel_names_its_run() {
        let (_, storage) = storage();
        assert_eq!(storage.boot().unwrap(), storage.boot().unwrap());
    }

    #[test]
    fn a_held_lock_is_refused_until_released() {
        let (dir, storage) = storage();
        let path = dir.path().join("lock");
        let held = storage.lock(&path).unwrap();
        let refused = storage.lock(&path).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        storage.lock(&path).map(drop).unwrap();
    }
}
