//! The machine stops at every single change of every multi-step operation, and what comes back is right.

use std::sync::Arc;

use quorate_storage::{
    Crash, Entry, MemoryStorage, OpenError, Opened, Storage, create_log, log_exists, log_identity,
};

use crate::fixture::*;

const SEGMENT: u64 = 8_000;
const SEEDS: u64 = 6;

/// Runs `prepare`, then `step` stopped after each of its changes, then crashes in several ways and lets
/// `check` judge the reopened log.
fn at_every_change(
    prepare: impl Fn(&Arc<dyn Storage>) -> Opened,
    step: impl Fn(&mut Opened),
    check: impl Fn(&Opened, bool, &str),
) {
    let whole = {
        let (memory, storage) = memory();
        let mut opened = prepare(&storage);
        let before = memory.changes();
        step(&mut opened);
        memory.changes() - before
    };
    assert!(whole > 0);
    for stop in 0..=whole {
        let seeds = (0..SEEDS).map(|seed| Crash::Seeded(seed * 1000 + stop));
        for crash in [Crash::Process, Crash::Synced].into_iter().chain(seeds) {
            let (memory, storage) = memory();
            let mut opened = prepare(&storage);
            memory.stop_after(stop);
            step(&mut opened);
            memory.crash(crash);
            let what = format!("stopped after {stop} of {whole} changes, {crash:?}");
            let reopened = try_open(&storage, SEGMENT).unwrap_or_else(|e| panic!("{what}: {e}"));
            check(&reopened, stop == whole, &what);
            drop(reopened);
            memory.crash(Crash::Synced);
            let again = try_open(&storage, SEGMENT).unwrap_or_else(|e| panic!("{what}: {e}"));
            check(&again, stop == whole, &what);
        }
    }
}

fn written(storage: &Arc<dyn Storage>, entries: &[Entry]) -> Opened {
    let mut opened = create(storage, SEGMENT);
    for part in entries.chunks(3) {
        opened.writer.write(part, true).unwrap();
    }
    opened
}

#[test]
fn a_roll_keeps_everything_acknowledged() {
    let all = entries(12, 900);
    at_every_change(
        |storage| written(storage, &all[..3]),
        |opened| {
            opened.writer.write(&all[3..], true).ok();
        },
        |opened, whole, what| {
            let found = all_entries(&opened.reader);
            assert!(found.len() >= if whole { 12 } else { 3 }, "{what}");
            assert!(same(&found, &all[..found.len()]), "{what}");
        },
    );
}

/// What is found must be the old log from before the conflict on, or the new one.
fn conflict_over(kept: usize) {
    let old = entries(14, 900);
    let mut place = Place {
        term: 2,
        ..Place::after(&old[kept - 1])
    };
    let new: Vec<Entry> = old[..kept]
        .iter()
        .cloned()
        .chain((0..9).map(|_| place.data(2, 500)))
        .collect();
    at_every_change(
        |storage| written(storage, &old),
        |opened| {
            opened.writer.write(&new[kept..], true).ok();
        },
        |opened, whole, what| {
            let found = all_entries(&opened.reader);
            assert!(found.len() >= kept, "{what}: only {} entries", found.len());
            let is_old = found.len() <= old.len() && same(&found, &old[..found.len()]);
            let is_new = found.len() <= new.len() && same(&found, &new[..found.len()]);
            assert!(is_new || (is_old && !whole), "{what}");
            assert!(!whole || found.len() == new.len(), "{what}");
        },
    );
}

#[test]
fn a_conflict_within_a_segment_gives_the_old_log_or_the_new() {
    conflict_over(13);
}

#[test]
fn a_conflict_over_a_roll_gives_the_old_log_or_the_new() {
    conflict_over(7);
}

#[test]
fn a_conflict_at_the_first_entry_of_a_segment_gives_the_old_log_or_the_new() {
    let (_, storage) = memory();
    let opened = written(&storage, &entries(14, 900));
    let base = opened.reader.segments()[2].base_index.get();
    conflict_over(base as usize - 2);
}

#[test]
fn a_conflict_over_many_rolls_gives_the_old_log_or_the_new() {
    conflict_over(1);
}

#[test]
fn a_checkpoint_and_a_trim_lose_no_entry_behind_them() {
    let all = entries(16, 900);
    let boundary = {
        let (memory, storage) = memory();
        let opened = written(&storage, &all);
        let base = opened.reader.segments()[2].base_index.get();
        checkpoint_at(&opened.reader, base - 1, seed_of(&memory, base))
    };
    at_every_change(
        |storage| written(storage, &all),
        |opened| {
            if opened.checkpoints.write(&boundary).is_ok() {
                opened.writer.trim(boundary.index).ok();
            }
        },
        |opened, whole, what| {
            let first = opened.recovery.first_index.get() as usize;
            assert!(
                same(&all_entries(&opened.reader), &all[first - 2..]),
                "{what}"
            );
            assert!(
                opened.recovery.newest.index.get() + 1 >= first as u64,
                "{what}"
            );
            assert!(!whole || first as u64 == boundary.index.get() + 1, "{what}");
        },
    );
}

#[test]
fn a_close_loses_nothing() {
    let all = entries(5, 900);
    at_every_change(
        |storage| written(storage, &all),
        |opened| {
            let (_, storage) = memory();
            let spare = create(&storage, SEGMENT);
            std::mem::replace(opened, spare).writer.close().ok();
        },
        |opened, _, what| assert!(same(&all_entries(&opened.reader), &all), "{what}"),
    );
}

#[test]
fn a_creation_stopped_anywhere_is_resumed() {
    let steps = {
        let (memory, storage) = memory();
        create_log(&storage, &dir(), IDENTITY, &birth()).unwrap();
        memory.changes()
    };
    for stop in 0..=steps {
        let seeds = (0..SEEDS).map(|seed| Crash::Seeded(seed * 77 + stop));
        for crash in [Crash::Process, Crash::Synced].into_iter().chain(seeds) {
            let memory = Arc::new(MemoryStorage::inline());
            let storage: Arc<dyn Storage> = Arc::clone(&memory) as _;
            memory.stop_after(stop);
            create_log(&storage, &dir(), IDENTITY, &birth()).ok();
            memory.crash(crash);
            let whole = log_exists(&storage, &dir()).unwrap();
            let found = log_identity(&storage, &dir()).unwrap();
            assert_eq!(found, whole.then_some(IDENTITY));
            if !whole {
                assert!(stop < steps, "a finished creation was lost: {crash:?}");
                let absent = try_open(&storage, SEGMENT);
                assert!(matches!(absent, Err(OpenError::Absent { .. })));
                create_log(&storage, &dir(), IDENTITY, &birth()).unwrap();
            }
            let mut opened = open(&storage, SEGMENT);
            assert_eq!(opened.recovery.identity, IDENTITY);
            assert_eq!(opened.recovery.newest, birth());
            opened.writer.write(&entries(3, 10), true).unwrap();
            memory.crash(Crash::Synced);
            assert_eq!(open(&storage, SEGMENT).recovery.last_index, index(4));
        }
    }
}

#[test]
fn recovery_itself_may_be_interrupted() {
    let all = entries(12, 900);
    let torn = |memory: &MemoryStorage, storage: &Arc<dyn Storage>| {
        let mut opened = written(storage, &all[..9]);
        opened.writer.write(&all[9..], false).unwrap();
        memory.crash(Crash::Seeded(3));
    };
    let steps = {
        let (memory, storage) = memory();
        torn(&memory, &storage);
        let before = memory.changes();
        open(&storage, SEGMENT);
        memory.changes() - before
    };
    for stop in 0..=steps {
        for crash in [Crash::Process, Crash::Synced, Crash::Seeded(stop)] {
            let (memory, storage) = memory();
            torn(&memory, &storage);
            memory.stop_after(stop);
            drop(try_open(&storage, SEGMENT));
            memory.crash(crash);
            let mut opened = open(&storage, SEGMENT);
            let found = all_entries(&opened.reader);
            assert!(found.len() >= 9 && same(&found, &all[..found.len()]));
            opened.writer.write(&all[found.len()..], true).unwrap();
            memory.crash(Crash::Synced);
            assert!(same(&all_entries(&open(&storage, SEGMENT).reader), &all));
        }
    }
}
