//! Whether the replicas of stopped brokers hold the same bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ByteSize;
use quorate_protocol::crc32c;
use quorate_storage::DiskStorage;
use quorate_storage::EntryKind;
use quorate_storage::LogConfig;
use quorate_storage::Storage;
use quorate_storage::log_identity;
use quorate_storage::open_log;

/// Bytes of entries looked at together.
const CHUNK: usize = 8 << 20;
const CONFIG: LogConfig = LogConfig {
    segment_bytes: ByteSize::new(1 << 32),
    segment_age: Duration::ZERO,
};

/// What was compared, and what differs.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Groups with more than one replica.
    pub groups: usize,
    /// Entries that are the same on all replicas of their group.
    pub entries: u64,
    /// Everything that differs.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Stops the test if anything differs, or if there was nothing to compare.
    pub fn assert_same(&self) {
        assert!(self.groups > 0 && self.entries > 0, "{self}");
        assert!(self.differences.is_empty(), "{self}");
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} groups, {} entries the same on all replicas, {} differences",
            self.groups,
            self.entries,
            self.differences.len()
        )?;
        for difference in self.differences.iter().take(20) {
            write!(f, "\n  {difference}")?;
        }
        Ok(())
    }
}

/// One entry: its kind, and length and checksum of its batch, which holds its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    kind: EntryKind,
    length: usize,
    checksum: u32,
}

/// One replica's log, by index.
struct Copy {
    folder: PathBuf,
    first: u64,
    entries: BTreeMap<u64, Print>,
}

impl Copy {
    /// The last index that holds records.
    fn last_data(&self) -> Option<u64> {
        let data = |(_, print): &(&u64, &Print)| print.kind == EntryKind::Data;
        self.entries
            .iter()
            .rev()
            .find(data)
            .map(|(index, _)| *index)
    }
}

/// Compares the logs in the data folders of stopped brokers.
///
/// The replicas of a group must agree on everything up to the last entry that holds records: the
/// load has ended and all were in sync, so what may differ are blank entries of a last election.
/// Retention lets each begin where it likes.
#[must_use]
pub fn compare_replicas(data_folders: &[&Path]) -> Comparison {
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new());
    let mut groups: BTreeMap<(u32, u64), Vec<Copy>> = BTreeMap::new();
    for data in data_folders {
        for folder in fs::read_dir(data.join("g")).unwrap() {
            let folder = folder.unwrap().path();
            // A damaged copy that was made anew is kept beside the new one.
            if folder.extension().is_some() {
                continue;
            }
            if let Ok(Some(identity)) = log_identity(&storage, &folder) {
                let group = (identity.group.get(), identity.tag.get());
                groups
                    .entry(group)
                    .or_default()
                    .push(read(&storage, folder));
            }
        }
    }
    let mut comparison = Comparison::default();
    for copies in groups.values().filter(|copies| copies.len() > 1) {
        comparison.groups += 1;
        compare(copies, &mut comparison);
    }
    comparison
}

fn read(storage: &Arc<dyn Storage>, folder: PathBuf) -> Copy {
    let opened = open_log(storage, &folder, CONFIG);
    let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let (mut next, end) = (opened.reader.first_index(), opened.reader.last_index());
    let first = next.get();
    let mut entries = BTreeMap::new();
    while next <= end {
        let some = opened.reader.entries(next, end.next(), CHUNK);
        for entry in some.unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let bytes = entry.batch.bytes();
            let print = Print {
                kind: entry.kind,
                length: bytes.len(),
                checksum: crc32c(bytes),
            };
            entries.insert(entry.index.get(), print);
            next = entry.index.next();
        }
    }
    Copy {
        folder,
        first,
        entries,
    }
}

fn compare(copies: &[Copy], comparison: &mut Comparison) {
    let begin = copies.iter().map(|copy| copy.first).max().unwrap_or(0);
    let end = copies.iter().filter_map(Copy::last_data).max();
    let Some((one, others)) = copies.split_first() else {
        return;
    };
    for index in begin..=end.unwrap_or(0) {
        let expected = one.entries.get(&index);
        let other = |copy: &&Copy| copy.entries.get(&index) != expected;
        match others.iter().find(other) {
            None => comparison.entries += 1,
            Some(copy) => {
                let is = copy.entries.get(&index);
                comparison.differences.push(format!(
                    "{} has {expected:?} at {index}, {} has {is:?}",
                    one.folder.display(),
                    copy.folder.display()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of data entries, but for those with checksum 0, which are blank.
    fn copy(first: u64, checksums: &[u32]) -> Copy {
        let print = |checksum: &u32| Print {
            kind: match checksum {
                0 => EntryKind::Blank,
                _ => EntryKind::Data,
            },
            length: 1,
            checksum: *checksum,
        };
        Copy {
            folder: PathBuf::from("g"),
            first,
            entries: (first..).zip(checksums.iter().map(print)).collect(),
        }
    }

    fn compared(copies: &[Copy]) -> Comparison {
        let mut comparison = Comparison::default();
        compare(copies, &mut comparison);
        comparison
    }

    #[test]
    fn equal_logs_may_begin_elsewhere_and_end_in_blank_entries() {
        let copies = [
            copy(1, &[1, 2, 3]),
            copy(2, &[2, 3, 0]),
            copy(1, &[1, 2, 3, 0, 0]),
        ];
        let comparison = compared(&copies);
        assert!(comparison.differences.is_empty(), "{comparison}");
        assert_eq!(comparison.entries, 2);
    }

    #[test]
    fn another_entry_and_a_missing_one_are_found() {
        for other in [&[1, 9, 3][..], &[1, 2], &[1, 0, 3], &[1, 2, 3, 4]] {
            let comparison = compared(&[copy(1, &[1, 2, 3]), copy(1, other)]);
            assert!(!comparison.differences.is_empty(), "{other:?}");
        }
    }
}
