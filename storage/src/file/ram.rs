//! Storage in memory for logs that never reach a disk: bounded, and gone with the process.
//!
//! Pages that hold only zeros take no room. A name is there as soon as it is made; there is nothing to
//! flush.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Access, Boot, DirEntry, File, Lane, Space, Storage, Work};

const PAGE: usize = 16 << 10;

/// A volume in memory that holds up to a number of bytes.
#[derive(Debug)]
pub struct RamStorage {
    names: Mutex<BTreeMap<PathBuf, Node>>,
    room: Arc<Room>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Arc<RamFile>),
    Dir,
}

/// Bytes in pages, over all files.
#[derive(Debug)]
struct Room {
    used: AtomicU64,
    bytes_max: u64,
}

impl Room {
    fn take(&self) -> io::Result<()> {
        let page = PAGE as u64;
        let fits = |used: u64| {
            used.checked_add(page)
                .filter(|used| *used <= self.bytes_max)
        };
        let taken = self
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken
            .map(drop)
            .map_err(|_| io::ErrorKind::StorageFull.into())
    }

    fn give_back(&self, pages: usize) {
        let bytes = (pages as u64).saturating_mul(PAGE as u64);
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl RamStorage {
    /// An empty volume. Work is done at once, by whoever submits it.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let used = AtomicU64::new(0);
        Self {
            names: Mutex::default(),
            room: Arc::new(Room { used, bytes_max }),
        }
    }
}

impl Storage for RamStorage {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut names = self.names.lock();
        let file = match (names.get(path), access) {
            (Some(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(_), Access::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Node::File(file)), _) => Arc::clone(file),
            (None, Access::CreateNew) => {
                let file = Arc::new(RamFile::new(Arc::clone(&self.room)));
                names.insert(path.into(), Node::File(Arc::clone(&file)));
                file
            }
        };
        Ok(file)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(path.into(), Node::Dir);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let names = self.names.lock();
        if !names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = below(&names, path).filter(|(name, _)| name.parent() == Some(path));
        Ok(inside.map(|(name, node)| entry(name, node)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if !names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let moved: Vec<_> = below(&names, from).map(|(name, _)| name.clone()).collect();
        for name in moved {
            let rest = name.strip_prefix(from).unwrap_or_else(|_| Path::new(""));
            let target = if rest.as_os_str().is_empty() {
                to.to_owned()
            } else {
                to.join(rest)
            };
            if let Some(node) = names.remove(&name) {
                names.insert(target, node);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        match names.get(path) {
            Some(Node::File(_)) => {
                names.remove(path);
                Ok(())
            }
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.names.lock().remove(path);
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.names.lock().contains_key(path))
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        // Nobody else can see this memory.
        Ok(Box::new(()))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let (used, total) = (self.room.used.load(Ordering::Relaxed), self.room.bytes_max);
        Ok(Space {
            free: total.saturating_sub(used),
            total,
        })
    }

    fn submit(&self, _lane: Lane, work: Work) {
        work();
    }

    fn boot(&self) -> io::Result<Boot> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A name and all names inside it: they stand together.
fn below<'a>(
    names: &'a BTreeMap<PathBuf, Node>,
    path: &'a Path,
) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
    let from = (Bound::Included(path), Bound::Unbounded);
    names
        .range::<Path, _>(from)
        .take_while(move |(name, _)| name.starts_with(path))
}

fn entry(path: &Path, node: &Node) -> DirEntry {
    let name = path.file_name().unwrap_or_default();
    DirEntry {
        name: name.to_string_lossy().into_owned(),
        is_dir: matches!(node, Node::Dir),
        len: match node {
            Node::File(file) => file.pages.read().len,
            Node::Dir => 0,
        },
    }
}

#[derive(Debug)]
struct RamFile {
    pages: RwLock<Pages>,
    room: Arc<Room>,
}

/// A file's bytes; a page that is not there holds zeros.
#[derive(Debug, Default)]
struct Pages {
    pages: Vec<Option<Box<[u8]>>>,
    len: u64,
}

impl RamFile {
    fn new(room: Arc<Room>) -> Self {
        Self {
            pages: RwLock::default(),
            room,
        }
    }
}

impl Drop for RamFile {
    fn drop(&mut self) {
        self.room.give_back(self.pages.get_mut().count());
    }
}

impl Pages {
    fn count(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let rest = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = buffer.len().min(rest);
        let (mut at, mut out) = (position, buffer.get_mut(..count).unwrap_or_default());
        while !out.is_empty() {
            let (page, offset) = place(at);
            let (now, later) = out.split_at_mut((PAGE - offset).min(out.len()));
            let held = self.pages.get(page).and_then(Option::as_deref);
            match held.and_then(|held| held.get(offset..offset + now.len())) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            at = at.saturating_add(now.len() as u64);
            out = later;
        }
        count
    }

    fn write(&mut self, bytes: &[u8], position: u64, room: &Room) -> io::Result<()> {
        let (mut at, mut rest) = (position, bytes);
        while !rest.is_empty() {
            let (page, offset) = place(at);
            let (now, later) = rest.split_at((PAGE - offset).min(rest.len()));
            if self.pages.len() <= page {
                self.pages.resize_with(page + 1, || None);
            }
            if let Some(held) = self.pages.get_mut(page) {
                if held.is_none() && now.iter().any(|byte| *byte != 0) {
                    room.take()?;
                    *held = Some(vec![0; PAGE].into());
                }
                if let Some(to) = held
                    .as_mut()
                    .and_then(|held| held.get_mut(offset..offset + now.len()))
                {
                    to.copy_from_slice(now);
                }
            }
            at = at.saturating_add(now.len() as u64);
            self.len = self.len.max(at);
            rest = later;
        }
        Ok(())
    }

    /// Answers how many pages were let go.
    fn set_len(&mut self, len: u64) -> usize {
        let before = self.count();
        let (page, offset) = place(len);
        let keep = if offset == 0 { page } else { page + 1 };
        self.pages.truncate(keep);
        if let Some(held) = self.pages.get_mut(page).and_then(Option::as_mut)
            && let Some(behind) = held.get_mut(offset..)
        {
            behind.fill(0);
        }
        self.len = len;
        before - self.count()
    }
}

fn place(at: u64) -> (usize, usize) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    (at / PAGE, at % PAGE)
}

impl File for RamFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(self.pages.read().read(buffer, position))
    }

    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, position).map(Some)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let (mut pages, mut at) = (self.pages.write(), position);
        for slice in slices {
            pages.write(slice, at, &self.room)?;
            at = at.saturating_add(slice.len() as u64);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let freed = self.pages.write().set_len(len);
        self.room.give_back(freed);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.pages.read().len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zeros_take_no_room_and_a_full_volume_says_so() {
        let storage = RamStorage::new(2 * PAGE as u64);
        let file = storage.open("/a".as_ref(), Access::CreateNew).unwrap();
        let put =
            |bytes: &[u8], at: usize| file.write_vectored_at(&[IoSlice::new(bytes)], at as u64);
        put(&vec![0; 40 * PAGE], 0).unwrap();
        assert_eq!(storage.space("/".as_ref()).unwrap().free, 2 * PAGE as u64);
        put(b"x", 5).unwrap();
        put(b"y", 9 * PAGE).unwrap();
        let full = put(b"z", 20 * PAGE).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.set_len(5).unwrap();
        assert_eq!(storage.space("/".as_ref()).unwrap().free, PAGE as u64);
        put(b"z", 20 * PAGE).unwrap();
        storage.remove("/a".as_ref()).unwrap();
        drop(file);
        assert_eq!(storage.space("/".as_ref()).unwrap().free, 2 * PAGE as u64);
    }

    #[test]
    fn directories_take_their_files_along() {
        let storage = RamStorage::new(1 << 20);
        storage.create_dir("/g/1".as_ref()).unwrap();
        storage.open("/g/1/a".as_ref(), Access::CreateNew).unwrap();
        storage.open("/g/10".as_ref(), Access::CreateNew).unwrap();
        storage.rename("/g/1".as_ref(), "/g/2".as_ref()).unwrap();
        let named = storage.list("/g/2".as_ref()).unwrap();
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].name, "a");
        assert!(storage.exists("/g/10".as_ref()).unwrap());
        assert!(storage.remove_dir("/g/2".as_ref()).is_err());
        storage.remove("/g/2/a".as_ref()).unwrap();
        storage.remove_dir("/g/2".as_ref()).unwrap();
        assert!(storage.open("/g/2/a".as_ref(), Access::Read).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn bytes_are_those_of_a_plain_vector(
            steps in prop::collection::vec((0_u8..3, 0_usize..5 * PAGE, prop::collection::vec(0_u8..3, 0..3000)), 1..40),
        ) {
            let storage = RamStorage::new(1 << 30);
            let file = storage.open("/a".as_ref(), Access::CreateNew).unwrap();
            let mut model: Vec<u8> = Vec::new();
            for (what, at, bytes) in steps {
                if what == 0 {
                    file.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                } else {
                    file.write_vectored_at(&[IoSlice::new(&bytes)], at as u64).unwrap();
                    if !bytes.is_empty() {
                        model.resize(model.len().max(at + bytes.len()), 0);
                        model[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                }
                let mut back = vec![9; model.len() + 10];
                let count = file.read_at(&mut back, 0).unwrap();
                prop_assert_eq!(&back[..count], &model[..]);
                prop_assert_eq!(file.len().unwrap(), model.len() as u64);
            }
        }
    }
}
