//! Names and bytes, each once as processes see them and once as they would be after a crash.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Crash;
use crate::file::DirEntry;

/// What a crash tears an unsynced write into.
const BLOCK: usize = 512;

/// One change of a file that is not synced yet.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    pub(crate) data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl Inode {
    pub(crate) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let at = usize::try_from(position).unwrap_or(usize::MAX);
        let rest = self.data.get(at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        count
    }

    pub(crate) fn growth(&self, position: u64, len: usize) -> usize {
        let end = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .saturating_add(len);
        end.saturating_sub(self.data.len())
    }

    pub(crate) fn apply(&mut self, change: Change) {
        change.apply_to(&mut self.data);
        self.pending.push(change);
    }

    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply_to(&mut self.durable);
        }
    }

    /// What a failed write-back does: pages turn clean, their bytes never reach the device.
    pub(crate) fn lose_pending(&mut self) {
        self.pending.clear();
    }

    fn crash(&mut self, crash: Crash, draw: &mut Draw) {
        let pending = std::mem::take(&mut self.pending);
        match crash {
            Crash::Process => {
                self.pending = pending;
                return;
            }
            Crash::Synced => {}
            Crash::Seeded(_) => {
                for change in pending {
                    change.survive_in(&mut self.durable, draw);
                }
            }
        }
        self.data.clone_from(&self.durable);
    }
}

impl Change {
    fn apply_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0),
            Self::Write(position, new) => put(bytes, *position, new),
        }
    }

    /// Applies what of the change a crash leaves: any subset of its blocks, or all or nothing of a cut.
    fn survive_in(&self, bytes: &mut Vec<u8>, draw: &mut Draw) {
        let Self::Write(position, new) = self else {
            if draw.coin() {
                self.apply_to(bytes);
            }
            return;
        };
        let mut at = *position;
        let mut rest = new.as_slice();
        while !rest.is_empty() {
            let in_block = usize::try_from(at % BLOCK as u64).unwrap_or_default();
            let (part, later) = rest.split_at((BLOCK - in_block).min(rest.len()));
            if draw.coin() {
                put(bytes, at, part);
            }
            at = at.saturating_add(part.len() as u64);
            rest = later;
        }
    }
}

fn put(bytes: &mut Vec<u8>, position: u64, new: &[u8]) {
    let at = usize::try_from(position).unwrap_or(usize::MAX);
    let end = at.saturating_add(new.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(new);
    }
}

/// A sequence of coin flips from a seed.
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    File(u64),
    Dir,
}

/// One change of names that is not synced yet.
#[derive(Clone, Debug)]
struct NameChange {
    dir: PathBuf,
    set: Vec<(PathBuf, Option<Node>)>,
}

/// All names and files of a volume.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    inodes: BTreeMap<u64, Inode>,
    next_id: u64,
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<NameChange>,
}

impl Disk {
    pub(crate) fn inode(&self, path: &Path) -> Option<&Inode> {
        match self.names.get(&plain(path)) {
            Some(Node::File(id)) => self.inodes.get(id),
            _ => None,
        }
    }

    pub(crate) fn by_id(&mut self, id: u64) -> Option<&mut Inode> {
        self.inodes.get_mut(&id)
    }

    pub(crate) fn id(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(&plain(path)) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        let path = plain(path);
        path.as_os_str().is_empty() || self.names.contains_key(&path)
    }

    pub(crate) fn create(&mut self, path: &Path) -> io::Result<()> {
        let path = self.vacant(path)?;
        self.next_id += 1;
        self.inodes.insert(self.next_id, Inode::default());
        self.change(vec![(path, Some(Node::File(self.next_id)))]);
        Ok(())
    }

    pub(crate) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let path = self.vacant(path)?;
        self.change(vec![(path, Some(Node::Dir))]);
        Ok(())
    }

    fn vacant(&self, path: &Path) -> io::Result<PathBuf> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let parent = parent(path);
        let parent_is_dir =
            parent.as_os_str().is_empty() || self.names.get(&parent) == Some(&Node::Dir);
        if parent_is_dir {
            Ok(plain(path))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// A directory takes everything in it along, all or nothing.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (plain(from), plain(to));
        let below = self.names.range(from.clone()..);
        let moved: Vec<_> = below
            .take_while(|(name, _)| name.starts_with(&from))
            .map(|(name, node)| (name.clone(), *node))
            .collect();
        let named = moved.first().filter(|(name, _)| *name == from);
        let (_, node) = *named.ok_or(io::ErrorKind::NotFound)?;
        let inside = moved.iter().filter_map(|(name, node)| {
            let rest = name.strip_prefix(&from).ok()?;
            (name != &from).then(|| (to.join(rest), Some(*node)))
        });
        let mut changes: Vec<_> = moved.iter().map(|(name, _)| (name.clone(), None)).collect();
        changes.extend(inside);
        changes.push((to, Some(node)));
        self.change(changes);
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.id(path)?;
        self.change(vec![(plain(path), None)]);
        Ok(())
    }

    pub(crate) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(vec![(plain(path), None)]);
        Ok(())
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        if !self.exists(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let dir = plain(path);
        let inside = self.names.iter().filter(|(name, _)| parent(name) == dir);
        Ok(inside
            .map(|(name, node)| DirEntry {
                name: name
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                is_dir: *node == Node::Dir,
                len: self.inode(name).map_or(0, |inode| inode.data.len() as u64),
            })
            .collect())
    }

    pub(crate) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.exists(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let dir = plain(path);
        let (now, later) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.dir == dir);
        self.pending = later;
        for change in now {
            set(&mut self.durable, change.set);
        }
        Ok(())
    }

    pub(crate) fn plant(&mut self, path: &Path, bytes: &[u8]) {
        let id = match self.id(path) {
            Ok(id) => id,
            Err(_) => self.next_id + 1,
        };
        self.next_id = self.next_id.max(id);
        let inode = Inode {
            data: bytes.to_vec(),
            durable: bytes.to_vec(),
            pending: Vec::new(),
        };
        self.inodes.insert(id, inode);
        self.names.insert(plain(path), Node::File(id));
        self.durable.insert(plain(path), Node::File(id));
    }

    fn change(&mut self, changes: Vec<(PathBuf, Option<Node>)>) {
        let dir = changes
            .last()
            .map(|(path, _)| parent(path))
            .unwrap_or_default();
        set(&mut self.names, changes.clone());
        self.pending.push(NameChange { dir, set: changes });
    }

    pub(crate) fn crash(&mut self, crash: Crash) {
        let seed = if let Crash::Seeded(seed) = crash {
            seed
        } else {
            0
        };
        let mut draw = Draw(seed);
        for inode in self.inodes.values_mut() {
            inode.crash(crash, &mut draw);
        }
        if crash == Crash::Process {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        if crash != Crash::Synced {
            self.keep_prefixes(pending, &mut draw);
        }
        self.drop_unreachable();
    }

    /// Of each directory's changes, in order, some are durable and the rest never happened.
    fn keep_prefixes(&mut self, pending: Vec<NameChange>, draw: &mut Draw) {
        let mut ended: Vec<PathBuf> = Vec::new();
        for change in pending {
            if ended.contains(&change.dir) {
                continue;
            }
            if draw.coin() {
                set(&mut self.durable, change.set);
            } else {
                ended.push(change.dir);
            }
        }
    }

    fn drop_unreachable(&mut self) {
        let durable = std::mem::take(&mut self.durable);
        for (path, node) in durable {
            let parent = parent(&path);
            if parent.as_os_str().is_empty() || self.durable.contains_key(&parent) {
                self.durable.insert(path, node);
            }
        }
        self.names.clone_from(&self.durable);
        let names = &self.names;
        self.inodes
            .retain(|id, _| names.values().any(|node| *node == Node::File(*id)));
    }
}

fn set(names: &mut BTreeMap<PathBuf, Node>, changes: Vec<(PathBuf, Option<Node>)>) {
    for (path, node) in changes {
        match node {
            Some(node) => names.insert(path, node),
            None => names.remove(&path),
        };
    }
}

/// A path without `.` and the leading slash.
fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

fn parent(path: &Path) -> PathBuf {
    let mut path = plain(path);
    path.pop();
    path
}
