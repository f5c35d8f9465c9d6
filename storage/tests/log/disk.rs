//! The same log on a real file system.

use std::path::Path;
use std::sync::Arc;

use quorate_storage::{
    DiskStorage, Entry, Lane, LogReader, Opened, ReadMode, ReadOutcome, Storage, create_log,
    open_log,
};

use crate::fixture::*;

fn volume() -> (tempfile::TempDir, Arc<dyn Storage>) {
    (tempfile::tempdir().unwrap(), Arc::new(DiskStorage::new()))
}

fn reopen(storage: &Arc<dyn Storage>, root: &Path, segment_bytes: u64) -> Opened {
    open_log(storage, &root.join(DIR), config(segment_bytes)).unwrap()
}

fn start(storage: &Arc<dyn Storage>, root: &Path, segment_bytes: u64) -> Opened {
    create_log(storage, &root.join(DIR), IDENTITY, &birth()).unwrap();
    reopen(storage, root, segment_bytes)
}

#[test]
fn a_log_on_disk_survives_being_dropped_and_reopened() {
    let (root, storage) = volume();
    let mut opened = start(&storage, root.path(), 200_000);
    let written = entries(400, 2_000);
    for part in written.chunks(16) {
        opened.writer.write(part, true).unwrap();
    }
    assert!(same(&all_entries(&opened.reader), &written));
    drop(opened);
    let opened = reopen(&storage, root.path(), 200_000);
    assert_eq!(opened.recovery.truncated, None);
    assert!(same(&all_entries(&opened.reader), &written));
    opened.writer.close().unwrap();
    let opened = reopen(&storage, root.path(), 200_000);
    assert!(same(&all_entries(&opened.reader), &written));
}

#[test]
fn preparing_space_ahead_never_touches_what_is_written() {
    let (root, storage) = volume();
    let mut opened = start(&storage, root.path(), 64 << 20);
    let written = entries(3_000, 3_000);
    for part in written.chunks(5) {
        opened.writer.write(part, part.len() % 2 == 1).unwrap();
    }
    opened.writer.write(&[], true).unwrap();
    assert!(same(&all_entries(&opened.reader), &written));
    drop(opened);
    let opened = reopen(&storage, root.path(), 64 << 20);
    assert!(same(&all_entries(&opened.reader), &written));
}

fn hot_read(reader: &LogReader, from: u64) -> Vec<quorate_protocol::RecordBatch> {
    let mode = ReadMode::NoWait;
    match reader
        .read(offset(from), offset(u64::MAX), 1 << 20, mode)
        .unwrap()
    {
        ReadOutcome::Batches(batches) => batches,
        ReadOutcome::WouldBlock => read(reader, from, u64::MAX, 1 << 20),
    }
}

#[test]
fn readers_follow_a_writer_that_is_truncated_under_them() {
    let (root, storage) = volume();
    let mut opened = start(&storage, root.path(), 300_000);
    let reader = opened.reader.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    let worker = reader.clone();
    storage.submit(
        Lane::Read,
        Box::new(move || {
            let mut rounds = 0_u64;
            while receiver.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let from = worker.log_end().get() / 2;
                assert!(!hot_read(&worker, from).is_empty() || worker.log_end() == offset(0));
                let (first, last) = (worker.first_index(), worker.last_index());
                match worker.entries(last, last.next(), 1 << 20) {
                    Ok(found) => assert!(found.len() <= 1),
                    Err(quorate_storage::ReadError::NoEntry { .. }) => {}
                    Err(error) => panic!("{first}..{last}: {error}"),
                }
                rounds += 1;
            }
            assert!(rounds > 0);
        }),
    );
    let mut kept: Vec<Entry> = entries(60, 2_000);
    opened.writer.write(&kept, true).unwrap();
    for term in 2..40 {
        kept.truncate(kept.len() - 30);
        let mut place = Place {
            term,
            ..Place::after(kept.last().unwrap())
        };
        let fresh: Vec<Entry> = (0..31).map(|_| place.data(1, 2_000)).collect();
        opened.writer.write(&fresh, true).unwrap();
        kept.extend(fresh);
    }
    sender.send(()).unwrap();
    assert!(same(&all_entries(&reader), &kept));
}
