//! A failed flush ends the writer for good; a full disk does not.

use std::path::Path;

use quorate_storage::{Crash, DataDir, DataDirError, StorageIdentity, WriteError};

use crate::fixture::*;

#[test]
fn a_failed_flush_poisons_the_writer_for_ever() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let written = entries(4, 60);
    opened.writer.write(&written[..2], true).unwrap();
    memory.fail_sync_after(0);
    let failed = opened.writer.write(&written[2..3], true);
    assert!(matches!(failed, Err(WriteError::Fatal { .. })));
    for _ in 0..3 {
        let refused = opened.writer.write(&written[2..3], true);
        assert!(matches!(refused, Err(WriteError::Fatal { .. })));
    }
    let refused = opened.writer.write(&[], true);
    assert!(matches!(refused, Err(WriteError::Fatal { .. })));
    assert!(opened.writer.close().is_err());
    memory.crash(Crash::Synced);
    let opened = open(&storage, 1 << 20);
    assert!(same(&all_entries(&opened.reader), &written[..2]));
}

#[test]
fn bytes_a_failed_flush_dropped_do_not_come_back_as_durable() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let written = entries(3, 60);
    opened.writer.write(&written[..2], true).unwrap();
    memory.fail_sync_after(0);
    assert!(opened.writer.write(&written[2..], true).is_err());
    memory.crash(Crash::Process);
    let opened = open(&storage, 1 << 20);
    let found = all_entries(&opened.reader);
    memory.crash(Crash::Synced);
    let opened = open(&storage, 1 << 20);
    assert!(same(&all_entries(&opened.reader), &found));
}

#[test]
fn every_failing_sync_is_fatal_and_loses_nothing_that_was_acknowledged() {
    for nth in 0..40 {
        let (memory, storage) = memory();
        let mut opened = create(&storage, 8_000);
        let written = entries(24, 900);
        memory.fail_sync_after(nth);
        let mut acknowledged = 0;
        for (at, part) in written.chunks(2).enumerate() {
            match opened.writer.write(part, true) {
                Ok(()) => acknowledged = (at + 1) * 2,
                Err(error) => {
                    assert!(
                        matches!(error, WriteError::Fatal { .. }),
                        "sync {nth}: {error}"
                    );
                    break;
                }
            }
        }
        memory.crash(Crash::Synced);
        let opened = open(&storage, 8_000);
        let found = all_entries(&opened.reader);
        assert!(
            found.len() >= acknowledged,
            "sync {nth}: {} < {acknowledged}",
            found.len()
        );
        assert!(same(&found, &written[..found.len()]));
    }
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was_and_usable() {
    for room in (0..12_000).step_by(97) {
        let (memory, storage) = memory();
        let mut opened = create(&storage, 8_000);
        let written = entries(12, 900);
        opened.writer.write(&written[..3], true).unwrap();
        memory.limit_space(Some(room));
        let full = opened.writer.write(&written[3..], true);
        assert!(
            matches!(full, Err(WriteError::NoSpace { .. })),
            "room {room}: {full:?}"
        );
        assert!(
            same(&all_entries(&opened.reader), &written[..3]),
            "room {room}"
        );
        memory.limit_space(None);
        opened.writer.write(&written[3..], true).unwrap();
        memory.crash(Crash::Synced);
        let opened = open(&storage, 8_000);
        assert!(same(&all_entries(&opened.reader), &written), "room {room}");
    }
}

#[test]
fn a_crash_on_a_full_disk_keeps_what_was_acknowledged() {
    for room in (0..12_000).step_by(531) {
        let (memory, storage) = memory();
        let mut opened = create(&storage, 8_000);
        let written = entries(12, 900);
        opened.writer.write(&written[..3], true).unwrap();
        memory.limit_space(Some(room));
        assert!(opened.writer.write(&written[3..], true).is_err());
        memory.crash(Crash::Seeded(room));
        let found = all_entries(&open(&storage, 8_000).reader);
        assert!(found.len() >= 3 && same(&found, &written[..found.len()]));
    }
}

fn identity() -> StorageIdentity {
    StorageIdentity {
        storage_id: 0xabcd,
        broker: quorate_protocol::BrokerId::new(4),
        cluster: "blue".into(),
        starts: 0,
    }
}

#[test]
fn a_data_directory_serves_one_process_of_its_own_broker_and_cluster() {
    let (_, storage) = memory();
    let root = Path::new("data");
    let broker = identity().broker;
    let absent = DataDir::open(&storage, root, broker, "blue");
    assert!(matches!(absent, Err(DataDirError::Absent { .. })));
    let held = DataDir::init(&storage, root, identity()).unwrap();
    assert_eq!(held.identity().starts, 1);
    let second = DataDir::open(&storage, root, broker, "blue");
    assert!(matches!(second, Err(DataDirError::Locked { .. })));
    drop(held);
    let opened = DataDir::open(&storage, root, broker, "blue").unwrap();
    assert_eq!(
        (opened.identity().starts, opened.identity().storage_id),
        (2, 0xabcd)
    );
    drop(opened);
    let other = DataDir::open(&storage, root, broker, "red");
    assert!(matches!(other, Err(DataDirError::Foreign { .. })));
    let again = DataDir::init(&storage, root, identity());
    assert!(matches!(again, Err(DataDirError::Exists { .. })));
}

#[test]
fn a_directory_with_data_but_no_identity_is_never_initialised() {
    let (memory, storage) = memory();
    let root = Path::new("data");
    drop(DataDir::init(&storage, root, identity()).unwrap());
    memory.plant(&root.join("storage.json"), b"{\"format\": 2}");
    let unknown = DataDir::open(&storage, root, identity().broker, "blue");
    assert!(matches!(unknown, Err(DataDirError::Unreadable { .. })));
    storage.remove(&root.join("storage.json")).unwrap();
    storage.create_dir(&root.join("g")).unwrap();
    let orphaned = DataDir::init(&storage, root, identity());
    assert!(matches!(orphaned, Err(DataDirError::Orphaned { .. })));
}
