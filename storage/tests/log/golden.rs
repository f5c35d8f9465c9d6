//! Files of disk version 1, kept for ever: what wrote them once must always be readable.

use std::path::{Path, PathBuf};

use quorate_protocol::{LogIndex, ReplicaId, Term};
use quorate_storage::{DataDir, DiskStorage, HardState, StateLog, Storage};
use std::sync::Arc;

use crate::fixture::*;

const SEGMENT: u64 = 8_000;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn golden_entries() -> Vec<quorate_storage::Entry> {
    let mut place = Place::start();
    (0..8)
        .map(|n| {
            if n == 5 {
                place.term = 3;
            }
            if n % 5 == 0 {
                place.blank()
            } else {
                place.data(2, 300)
            }
        })
        .collect()
}

/// Copies the kept files to a volume in memory.
fn load() -> (Arc<quorate_storage::MemoryStorage>, Arc<dyn Storage>) {
    let (memory, storage) = memory();
    for directory in ["g", DIR, "state"] {
        storage.create_dir(Path::new(directory)).unwrap();
    }
    let disk = DiskStorage::new();
    for directory in ["log", "state", "."] {
        for file in disk.list(&golden().join(directory)).unwrap() {
            if !file.is_dir {
                let bytes = std::fs::read(golden().join(directory).join(&file.name)).unwrap();
                let to = if directory == "log" { DIR } else { directory };
                memory.plant(&Path::new(to).join(&file.name), &bytes);
            }
        }
    }
    (memory, storage)
}

#[test]
fn version_1_is_still_read() {
    let (_, storage) = load();
    let opened = open(&storage, SEGMENT);
    assert!(same(&all_entries(&opened.reader), &golden_entries()));
    assert_eq!(opened.recovery.identity, IDENTITY);
    assert_eq!(opened.recovery.newest.membership, birth().membership);
    assert_eq!(
        opened.recovery.terms,
        [(index(1), Term::new(1)), (index(7), Term::new(3))]
    );
    assert_eq!(opened.reader.segments().len(), 2);
    let (_, states) = StateLog::open(&storage, Path::new("state/0.log")).unwrap();
    let expected = HardState {
        term: Term::new(3),
        vote: ReplicaId::new(3),
        commit: LogIndex::new(5),
    };
    assert_eq!(states[&ReplicaId::new(3)], expected);
    let broker = quorate_protocol::BrokerId::new(4);
    let opened = DataDir::open(&storage, Path::new("."), broker, "blue").unwrap();
    assert_eq!(
        (opened.identity().storage_id, opened.identity().starts),
        (0xabcd, 2)
    );
}

#[test]
fn version_1_is_still_written_byte_for_byte() {
    let (kept, _) = load();
    let (fresh, storage) = memory();
    let mut opened = create(&storage, SEGMENT);
    opened.writer.write(&golden_entries(), true).unwrap();
    opened.writer.close().unwrap();
    for name in names(&storage) {
        let path = dir().join(&name);
        assert_eq!(kept.contents(&path), fresh.contents(&path), "{name}");
    }
}
