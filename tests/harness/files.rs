//! The files of one partition's log, for damaging them while the broker is stopped.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Where the frames of a segment begin.
const FRAMES: usize = 4096;
/// What stands in front of each batch.
const FRAME_HEADER: usize = 24;

/// The folder of one partition's log.
#[derive(Debug)]
pub struct LogFolder(PathBuf);

impl LogFolder {
    /// The one folder of a data directory whose log holds these bytes.
    #[must_use]
    pub fn holding(data: &Path, bytes: &[u8]) -> Self {
        let groups = fs::read_dir(data.join("g")).unwrap();
        let folders = groups.map(|entry| Self(entry.unwrap().path()));
        let mut holding = folders.filter(|folder| folder.place_of(bytes).is_some());
        let found = holding.next().expect("a log holds these bytes");
        assert!(holding.next().is_none(), "two logs hold these bytes");
        found
    }

    /// The segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<PathBuf> {
        // The folder of a copy that is being made anew may not be there yet.
        let files = fs::read_dir(&self.0).into_iter().flatten();
        let mut segments: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        segments.sort();
        segments
    }

    /// The segment that is written to.
    #[must_use]
    pub fn newest(&self) -> PathBuf {
        self.segments().pop().expect("a log has a segment")
    }

    /// The segment that holds these bytes, and where.
    #[must_use]
    pub fn place_of(&self, bytes: &[u8]) -> Option<(PathBuf, usize)> {
        self.segments().into_iter().find_map(|path| {
            let held = fs::read(&path).ok()?;
            let mut windows = held.windows(bytes.len());
            let at = windows.position(|window| window == bytes)?;
            Some((path, at))
        })
    }
}

/// Where the frames of a segment end: behind them are zeros.
#[must_use]
pub fn end_of_frames(segment: &Path) -> usize {
    let held = fs::read(segment).unwrap();
    let mut at = FRAMES;
    while let Some(header) = held.get(at..at + FRAME_HEADER) {
        let length = header.get(8..12).unwrap().try_into().unwrap();
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap();
        if length == 0 {
            break;
        }
        at += (FRAME_HEADER + length).next_multiple_of(8);
    }
    at
}

/// Cuts a file, as a crash in the middle of a write does.
pub fn cut(file: &Path, length: usize) {
    writable(file)
        .set_len(u64::try_from(length).unwrap())
        .unwrap();
}

/// Writes bytes into a file.
pub fn overwrite(file: &Path, at: usize, bytes: &[u8]) {
    let at = u64::try_from(at).unwrap();
    writable(file).write_all_at(bytes, at).unwrap();
}

/// Turns one bit of a file.
pub fn flip(file: &Path, at: usize) {
    let at = u64::try_from(at).unwrap();
    let opened = writable(file);
    let mut byte = [0];
    opened.read_exact_at(&mut byte, at).unwrap();
    opened.write_all_at(&byte.map(|byte| byte ^ 1), at).unwrap();
}

fn writable(file: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap()
}
