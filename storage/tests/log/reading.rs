//! Reads by offset, entry and time, over several segments.

use quorate_protocol::{HybridTime, LogIndex, Term};
use quorate_storage::{EntryKind, ReadError, ReadMode, Roller, WriteError};

use crate::fixture::*;

#[test]
fn a_new_log_is_empty_and_knows_who_it_is() {
    let (_, storage) = memory();
    let opened = create(&storage, 1 << 20);
    let recovery = &opened.recovery;
    assert_eq!(recovery.identity, IDENTITY);
    assert_eq!(
        (recovery.first_index, recovery.last_index),
        (index(2), index(1))
    );
    assert_eq!(recovery.terms, [(index(1), Term::new(1))]);
    assert_eq!(recovery.newest, birth());
    assert_eq!(recovery.truncated, None);
    assert!(read(&opened.reader, 0, 10, 100).is_empty());
    assert!(opened.reader.offset_at_time(0).unwrap() == offset(0));
}

#[test]
fn every_offset_is_read_back_from_the_batch_that_holds_it() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 20_000);
    let mut place = Place::start();
    let written: Vec<_> = (0..60)
        .map(|n| {
            if n % 5 == 0 {
                place.blank()
            } else {
                place.data(n % 7 + 1, 300)
            }
        })
        .collect();
    opened.writer.write(&written, true).unwrap();
    assert!(opened.reader.segments().len() > 3);
    let end = opened.reader.log_end().get();
    for from in 0..end {
        let found = read(&opened.reader, from, end, 1);
        assert_eq!(found.len(), 1);
        assert!(found[0].base_offset() <= offset(from) && found[0].next_offset() > offset(from));
        let twin = written.iter().find(|entry| {
            entry.kind == EntryKind::Data && entry.batch.next_offset() > offset(from)
        });
        assert_eq!(found[0].bytes(), twin.unwrap().batch.bytes());
    }
}

#[test]
fn a_read_stops_at_its_bounds() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let written = entries(100, 1000);
    opened.writer.write(&written, true).unwrap();
    let one = written[0].batch.len();
    assert_eq!(read(&opened.reader, 0, 100, 10 * one).len(), 10);
    assert_eq!(read(&opened.reader, 0, 100, 1).len(), 1);
    assert_eq!(read(&opened.reader, 0, 5, usize::MAX).len(), 5);
    assert_eq!(read(&opened.reader, 30, 34, usize::MAX).len(), 4);
    assert!(read(&opened.reader, 100, 200, 10).is_empty());
    assert!(read(&opened.reader, 50, 50, 10).is_empty());
    let beyond = opened
        .reader
        .read(offset(101), offset(200), 10, ReadMode::NoWait);
    assert!(matches!(beyond, Err(ReadError::OutOfRange { .. })));
}

#[test]
fn small_and_large_batches_are_read_alike() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 4 << 20);
    let mut place = Place::start();
    let sizes = [
        1, 10, 2000, 2047, 2048, 5000, 100_000, 3, 1_000_000, 7, 8, 9,
    ];
    let written: Vec<_> = sizes.iter().map(|len| place.data(1, *len)).collect();
    opened.writer.write(&written, true).unwrap();
    assert!(same(&all_entries(&opened.reader), &written));
    for (at, entry) in written.iter().enumerate() {
        let found = read(&opened.reader, at as u64, u64::MAX, 1);
        assert_eq!(found[0].bytes(), entry.batch.bytes());
    }
}

#[test]
fn a_time_leads_to_the_first_batch_not_older() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 20_000);
    let mut place = Place::start();
    let written: Vec<_> = (0..300)
        .map(|n| {
            if n % 3 == 0 {
                place.blank()
            } else {
                place.data(2, 400)
            }
        })
        .collect();
    opened.writer.write(&written, true).unwrap();
    for micros in (900..5_000).step_by(7) {
        let twin = written.iter().find(|entry| {
            entry.kind == EntryKind::Data
                && entry.batch.append_time() >= HybridTime::from_parts(micros, 0)
        });
        let expected = twin.map_or_else(
            || opened.reader.log_end(),
            |entry| entry.batch.base_offset(),
        );
        assert_eq!(
            opened.reader.offset_at_time(micros).unwrap(),
            expected,
            "at {micros}"
        );
    }
}

#[test]
fn entries_are_bounded_by_bytes_but_never_none() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 20_000);
    let written = entries(50, 1000);
    opened.writer.write(&written, true).unwrap();
    let one = written[0].batch.len();
    let found = opened.reader.entries(index(5), index(40), 7 * one).unwrap();
    assert!(same(&found, &written[3..10]));
    let found = opened.reader.entries(index(18), index(19), 1).unwrap();
    assert!(same(&found, &written[16..17]));
    let found = opened
        .reader
        .entries(index(2), index(1000), usize::MAX)
        .unwrap();
    assert!(same(&found, &written));
    let gone = opened.reader.entries(index(1), index(4), 10);
    assert!(matches!(gone, Err(ReadError::NoEntry { .. })));
}

#[test]
fn segments_end_where_the_roller_says() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 20_000);
    let mut roller: Roller = opened.recovery.roller;
    let written = entries(80, 900);
    let mut starts = vec![index(2)];
    for entry in &written {
        let len = quorate_storage::frame_len(entry.batch.len());
        if roller.note(len, entry.batch.append_time()) {
            starts.push(entry.index);
        }
    }
    for part in written.chunks(7) {
        opened.writer.write(part, true).unwrap();
    }
    let found: Vec<LogIndex> = opened
        .reader
        .segments()
        .iter()
        .map(|segment| segment.base_index)
        .collect();
    assert_eq!(found, starts);
    assert_eq!(opened.writer.roller(), roller);
    opened.writer.close().unwrap();
    assert_eq!(open(&storage, 20_000).recovery.roller, roller);
}

#[test]
fn terms_are_known_after_reopening() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 12_000);
    let mut place = Place::start();
    let mut expected = vec![(index(1), Term::new(1))];
    let mut written = Vec::new();
    for n in 0..40 {
        if n % 6 == 4 {
            place.term += 2;
            expected.push((index(place.index), Term::new(place.term)));
        }
        written.push(place.data(1, 500));
    }
    opened.writer.write(&written, true).unwrap();
    opened.writer.close().unwrap();
    let opened = open(&storage, 12_000);
    assert_eq!(opened.recovery.terms, expected);
    assert!(same(&all_entries(&opened.reader), &written));
}

#[test]
fn entries_that_do_not_follow_are_refused_and_change_nothing() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let written = entries(5, 10);
    opened.writer.write(&written[..2], true).unwrap();
    let gap = opened.writer.write(&written[3..], true);
    assert!(matches!(gap, Err(WriteError::Invalid { .. })));
    let mut wrong_offset = Place {
        index: 4,
        offset: 9,
        term: 1,
        micros: 5_000,
    };
    let refused = opened.writer.write(&[wrong_offset.data(1, 1)], true);
    assert!(matches!(refused, Err(WriteError::Invalid { .. })));
    let mut too_old = Place {
        index: 1,
        ..Place::start()
    };
    let refused = opened.writer.write(&[too_old.data(1, 1)], true);
    assert!(matches!(refused, Err(WriteError::Invalid { .. })));
    let mut older_term = Place {
        term: 0,
        ..Place::after(&written[1])
    };
    let refused = opened.writer.write(&[older_term.data(1, 1)], true);
    assert!(matches!(refused, Err(WriteError::Invalid { .. })));
    let mut replacing = Place {
        offset: 7,
        term: 2,
        ..Place::after(&written[0])
    };
    let refused = opened.writer.write(&[replacing.data(1, 1)], true);
    assert!(matches!(refused, Err(WriteError::Invalid { .. })));
    assert_eq!(opened.reader.last_index(), index(3));
    opened.writer.write(&written[2..], true).unwrap();
    assert!(same(&all_entries(&opened.reader), &written));
}

#[test]
fn one_call_may_replace_what_it_has_written() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 20_000);
    let old = entries(30, 900);
    let mut place = Place {
        term: 2,
        ..Place::after(&old[20])
    };
    let mut all = old.clone();
    let newer: Vec<_> = (0..12).map(|_| place.data(1, 700)).collect();
    all.extend(newer.iter().cloned());
    opened.writer.write(&all, true).unwrap();
    let expected = [&old[..21], &newer[..]].concat();
    assert!(same(&all_entries(&opened.reader), &expected));
    memory.crash(quorate_storage::Crash::Synced);
    assert!(same(
        &all_entries(&open(&storage, 20_000).reader),
        &expected
    ));
}

#[test]
fn trimming_needs_the_checkpoint_and_moves_the_start() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 20_000);
    opened.writer.write(&entries(80, 900), true).unwrap();
    let segments = opened.reader.segments();
    let last = segments[1].last_index;
    let refused = opened.writer.trim(last);
    assert!(matches!(
        refused,
        Err(quorate_storage::TrimError::NoCheckpoint { .. })
    ));
    let seed = seed_of(&memory, segments[2].base_index.get());
    let checkpoint = checkpoint_at(&opened.reader, last.get(), seed);
    opened.checkpoints.write(&checkpoint).unwrap();
    opened.writer.trim(last.next()).unwrap();
    assert_eq!(opened.reader.first_index(), last.next());
    assert_eq!(opened.reader.log_start(), segments[2].base_offset);
    let gone = opened
        .reader
        .read(offset(0), offset(9), 10, ReadMode::Blocking);
    assert!(matches!(gone, Err(ReadError::OutOfRange { .. })));
    memory.crash(quorate_storage::Crash::Synced);
    let opened = open(&storage, 20_000);
    assert_eq!(opened.recovery.first_index, last.next());
    assert_eq!(opened.recovery.newest, checkpoint);
    opened.checkpoints.remove_below(last).unwrap();
    assert_eq!(opened.checkpoints.indices().unwrap(), [last]);
}
