//! A log's files move to another replica: all of them or none, whatever happens meanwhile.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_protocol::{LogIndex, ReplicaId, SnapshotFile, SnapshotFileKind, Term};
use quorate_storage::{
    Arrived, Crash, Entry, LogIdentity, LogReader, MemoryStorage, OpenError, Opened, Proof,
    ReadMode, ShipError, Shipment, StageError, Staging, Storage, SwapError, create_log, open_log,
    reopen_log, swap_log,
};

use crate::fixture::*;

const SEGMENT: u64 = 8_000;
const SEEDS: u64 = 2;

/// The replica that needs the files.
const NEEDY: LogIdentity = LogIdentity {
    replica: ReplicaId::new(4),
    ..IDENTITY
};

/// A log that was trimmed up to some segment's end, and all entries it ever had.
struct Source {
    memory: Arc<MemoryStorage>,
    storage: Arc<dyn Storage>,
    opened: Opened,
    all: Vec<Entry>,
    point: LogIndex,
}

impl Source {
    fn new(count: usize) -> Self {
        Self::trimmed(count, 2)
    }

    fn trimmed(count: usize, segments: usize) -> Self {
        let (memory, storage) = memory();
        let all = entries(count, 900);
        let mut opened = create(&storage, SEGMENT);
        for part in all.chunks(3) {
            opened.writer.write(part, true).unwrap();
        }
        let base = opened.reader.segments()[segments].base_index.get();
        let boundary = checkpoint_at(&opened.reader, base - 1, seed_of(&memory, base));
        opened.checkpoints.write(&boundary).unwrap();
        opened.writer.trim(boundary.index).unwrap();
        opened.checkpoints.remove_below(boundary.index).unwrap();
        Self {
            memory,
            storage,
            opened,
            all,
            point: boundary.index,
        }
    }

    fn ship(&self) -> Shipment {
        self.ship_up_to(self.opened.reader.last_index()).unwrap()
    }

    fn ship_up_to(&self, commit: LogIndex) -> Result<Shipment, ShipError> {
        let Opened {
            reader,
            checkpoints,
            ..
        } = &self.opened;
        reader.ship(checkpoints, (self.point, Term::new(1)), commit)
    }

    /// The entries that a shipment holds.
    fn shipped(&self, shipment: &Shipment) -> &[Entry] {
        let at = |index: LogIndex| usize::try_from(index.get()).unwrap() - 1;
        &self.all[at(self.point)..at(shipment.last_index())]
    }
}

/// A replica that has a few entries of its own.
fn needy(own: &[Entry]) -> (Arc<MemoryStorage>, Arc<dyn Storage>, Opened) {
    let (memory, storage) = memory();
    create_log(&storage, &dir(), NEEDY, &birth()).unwrap();
    let mut opened = open(&storage, SEGMENT);
    opened.writer.write(own, true).unwrap();
    (memory, storage, opened)
}

/// Entries of another history than [`entries`]: a deposed leader's.
fn strays(count: usize) -> Vec<Entry> {
    let mut place = Place::start();
    (0..count).map(|_| place.data(2, 700)).collect()
}

fn begin(storage: &Arc<dyn Storage>, shipment: &Shipment) -> Result<Staging, StageError> {
    let files = shipment.files();
    Staging::begin(storage, &dir(), files[0].last, files)
}

fn prove(storage: &Arc<dyn Storage>, shipment: &Shipment) -> Result<Arrived, StageError> {
    let files = shipment.files();
    Proof::new(storage, &dir(), NEEDY, Term::new(1), files).finish()
}

/// Carries what is missing, in pieces of a size, but no more than so many pieces.
fn carry(staging: &mut Staging, shipment: &mut Shipment, piece: usize, mut pieces: usize) {
    for file in 0..shipment.files().len() {
        while staging.have()[file] < shipment.files()[file].len {
            if pieces == 0 {
                return;
            }
            pieces -= 1;
            let at = staging.have()[file];
            let bytes = shipment.read(file, at, piece).unwrap();
            let whole = staging.write(file, at, &bytes).unwrap();
            assert_eq!(whole, staging.have()[file] == shipment.files()[file].len);
        }
    }
}

fn arrive(storage: &Arc<dyn Storage>, shipment: &mut Shipment) -> Arrived {
    let mut staging = begin(storage, shipment).unwrap();
    carry(&mut staging, shipment, 1000, usize::MAX);
    prove(storage, shipment).unwrap()
}

fn swapped(storage: &Arc<dyn Storage>, arrived: &Arrived, reader: &LogReader) -> Opened {
    swap_log(storage, &dir(), config(SEGMENT), arrived, reader).unwrap()
}

#[test]
fn files_that_came_are_the_log_and_old_handles_read_it() {
    let source = Source::new(40);
    let (_, storage, old) = needy(&source.all[..3]);
    let reader = old.reader.clone();
    assert_eq!(all_entries(&reader).len(), 3);
    let mut shipment = source.ship();
    assert!(shipment.files().len() > 3);
    let arrived = arrive(&storage, &mut shipment);
    assert_eq!(arrived.last_index(), shipment.last_index());
    drop(old);
    let mut new = swapped(&storage, &arrived, &reader);
    assert_eq!(new.recovery.identity, NEEDY);
    assert_eq!(new.recovery.newest.index, source.point);
    let shipped = source.shipped(&shipment);
    assert!(same(&all_entries(&reader), shipped));
    let start = new.recovery.newest.next_offset;
    assert_eq!(reader.log_start(), start);
    assert!(matches!(
        reader.read(offset(0), offset(9), 10, ReadMode::Blocking),
        Err(quorate_storage::ReadError::OutOfRange { .. })
    ));
    let rest = &source.all[source.point.get() as usize - 1 + shipped.len()..];
    assert!(!rest.is_empty());
    new.writer.write(rest, true).unwrap();
    assert!(same(
        &all_entries(&reader),
        &all_entries(&source.opened.reader)
    ));
    assert!(
        names(&storage)
            .iter()
            .all(|name| !name.ends_with("incoming") && name != "swap")
    );
    let ours = new.reader.segments();
    assert_eq!(ours, source.opened.reader.segments(), "replicas roll alike");
}

#[test]
fn what_is_shipped_does_not_depend_on_who_ships_it() {
    let source = Source::new(40);
    let (_, storage, old) = needy(&[]);
    let mut shipment = source.ship();
    let arrived = arrive(&storage, &mut shipment);
    let reader = old.reader.clone();
    drop(old);
    let mut second = swapped(&storage, &arrived, &reader);
    let rest = source.point.get() as usize - 1 + source.shipped(&shipment).len();
    second.writer.write(&source.all[rest..], true).unwrap();
    let again = reader.ship(
        &second.checkpoints,
        (source.point, Term::new(1)),
        reader.last_index(),
    );
    assert_eq!(again.unwrap().files(), shipment.files());
}

#[test]
fn only_closed_and_committed_segments_are_shipped() {
    let source = Source::new(40);
    let segments = source.opened.reader.segments();
    for (at, segment) in segments.iter().enumerate() {
        let committed = source.ship_up_to(segment.last_index).unwrap();
        let before = source.ship_up_to(segment.last_index.prev()).unwrap();
        let last = if segment.sealed {
            segment.last_index
        } else {
            segment.base_index.prev()
        };
        assert_eq!(committed.last_index(), last);
        assert_eq!(before.files().len(), at + 1);
    }
}

#[test]
fn a_log_that_begins_elsewhere_ships_nothing() {
    let source = Source::new(40);
    let Opened {
        reader,
        checkpoints,
        ..
    } = &source.opened;
    let last = reader.last_index();
    for (point, term) in [(1, 1), (source.point.get(), 2), (source.point.get() + 1, 1)] {
        let refused = reader.ship(checkpoints, (index(point), Term::new(term)), last);
        assert!(matches!(refused, Err(ShipError::Absent { .. })));
    }
}

#[test]
fn a_checkpoint_alone_begins_an_empty_log() {
    let source = Source::new(40);
    let (memory, storage, old) = needy(&strays(30));
    let mut shipment = source.ship_up_to(source.point).unwrap();
    assert_eq!(shipment.files().len(), 1);
    let arrived = arrive(&storage, &mut shipment);
    let reader = old.reader.clone();
    drop(old);
    let mut new = swapped(&storage, &arrived, &reader);
    assert_eq!(reader.first_index(), source.point.next());
    assert_eq!(reader.last_index(), source.point);
    let rest = &source.all[source.point.get() as usize - 1..];
    new.writer.write(rest, true).unwrap();
    memory.crash(Crash::Synced);
    assert!(same(&all_entries(&open(&storage, SEGMENT).reader), rest));
}

#[test]
fn an_exchange_stopped_anywhere_gives_the_old_log_or_the_new() {
    let source = Source::new(30);
    let own = strays(30);
    for commit in [source.opened.reader.last_index(), source.point] {
        let prepare = || {
            let mut shipment = source.ship_up_to(commit).unwrap();
            let (memory, storage, old) = needy(&own);
            let arrived = arrive(&storage, &mut shipment);
            let reader = old.reader.clone();
            drop(old);
            (memory, storage, arrived, reader)
        };
        let whole = {
            let (memory, storage, arrived, reader) = prepare();
            let before = memory.changes();
            swapped(&storage, &arrived, &reader);
            memory.changes() - before
        };
        let shipment = source.ship_up_to(commit).unwrap();
        let new = source.shipped(&shipment);
        for stop in 0..=whole {
            let seeds = (0..SEEDS).map(|seed| Crash::Seeded(seed * 1000 + stop));
            for crash in [Crash::Process, Crash::Synced].into_iter().chain(seeds) {
                let (memory, storage, arrived, reader) = prepare();
                memory.stop_after(stop);
                let done = swap_log(&storage, &dir(), config(SEGMENT), &arrived, &reader);
                assert_eq!(done.is_ok(), stop == whole);
                drop((done, reader));
                memory.crash(crash);
                let what = format!("stopped after {stop} of {whole} changes, {crash:?}");
                // The start that finishes it may be stopped as well.
                memory.stop_after(stop % 7);
                drop(try_open(&storage, SEGMENT));
                memory.crash(crash);
                let opened = try_open(&storage, SEGMENT);
                let mut opened = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
                let found = all_entries(&opened.reader);
                let is_new = opened.recovery.newest.index == source.point && same(&found, new);
                let is_old = opened.recovery.newest == birth() && same(&found, &own);
                assert!(is_new || (is_old && stop < whole), "{what}");
                assert!(
                    names(&storage)
                        .iter()
                        .all(|name| !name.ends_with("incoming"))
                );
                if is_new {
                    let rest = &source.all[source.point.get() as usize - 1 + new.len()..];
                    opened.writer.write(rest, true).unwrap();
                    memory.crash(Crash::Synced);
                    let again = all_entries(&open(&storage, SEGMENT).reader);
                    assert_eq!(again.len(), new.len() + rest.len(), "{what}");
                }
            }
        }
    }
}

/// The record that stands beside the log while its files are exchanged.
fn record() -> PathBuf {
    dir().join("swap")
}

/// The record of a certain exchange, as version 1 wrote it; kept for ever.
const RECORD: &[u8] = include_bytes!("../golden/v1/swap");

#[test]
fn an_exchange_that_version_1_began_is_still_finished_and_begun_alike() {
    let source = Source::new(24);
    let mut shipment = source.ship();
    let (memory, storage, old) = needy(&[]);
    let arrived = arrive(&storage, &mut shipment);
    drop(old.writer);
    let mut stop = 0;
    while !storage.exists(&record()).unwrap() {
        stop += 1;
        memory.stop_after(stop);
        let stopped = swap_log(&storage, &dir(), config(SEGMENT), &arrived, &old.reader);
        assert!(stopped.is_err());
        memory.crash(Crash::Process);
    }
    assert_eq!(memory.contents(&record()).unwrap(), RECORD);

    let (memory, storage, old) = needy(&[]);
    arrive(&storage, &mut shipment);
    drop(old);
    memory.plant(&record(), RECORD);
    let opened = open(&storage, SEGMENT);
    assert!(same(
        &all_entries(&opened.reader),
        source.shipped(&shipment)
    ));
}

#[test]
fn a_record_that_is_not_whole_is_damage() {
    let (memory, storage, old) = needy(&[]);
    drop(old);
    for at in 0..RECORD.len() {
        let mut flipped = RECORD.to_vec();
        flipped[at] ^= 1;
        for wrong in [&flipped[..], &RECORD[..at]] {
            memory.plant(&record(), wrong);
            let refused = try_open(&storage, SEGMENT);
            assert!(
                matches!(refused, Err(OpenError::Damaged { .. })),
                "byte {at}"
            );
        }
    }
    memory.plant(&record(), RECORD);
    let missing = try_open(&storage, SEGMENT);
    assert!(
        matches!(missing, Err(OpenError::Damaged { .. })),
        "its files are gone"
    );
}

#[test]
fn a_lost_flush_on_the_way_leaves_the_old_log() {
    let source = Source::new(30);
    let mut shipment = source.ship();
    let own = strays(5);
    for sync in 0..50 {
        let (memory, storage, old) = needy(&own);
        let mut staging = begin(&storage, &shipment).unwrap();
        carry(&mut staging, &mut shipment, 1000, usize::MAX);
        let reader = old.reader.clone();
        drop(old);
        memory.fail_sync_after(sync);
        let arrived = prove(&storage, &shipment);
        let Ok(arrived) = arrived else {
            assert!(matches!(arrived, Err(StageError::Fatal { .. })));
            continue;
        };
        match swap_log(&storage, &dir(), config(SEGMENT), &arrived, &reader) {
            Err(SwapError::Fatal { .. } | SwapError::Open(OpenError::Io { .. })) => {}
            Ok(_) => return assert!(sync > 4, "few flushes: {sync}"),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it flushes without end");
}

#[test]
fn without_room_for_the_record_the_old_log_goes_on() {
    let source = Source::new(30);
    let mut shipment = source.ship();
    let own = strays(5);
    let (memory, storage, old) = needy(&own);
    let arrived = arrive(&storage, &mut shipment);
    let reader = old.reader.clone();
    drop(old);
    memory.limit_space(Some(10));
    let refused = swap_log(&storage, &dir(), config(SEGMENT), &arrived, &reader);
    assert!(matches!(refused, Err(SwapError::NoSpace { .. })));
    memory.limit_space(None);
    let again = reopen_log(&storage, &dir(), config(SEGMENT), &reader).unwrap();
    assert!(same(&all_entries(&again.reader), &own));
    assert!(same(&all_entries(&reader), &own));
}

#[test]
fn a_broken_off_transfer_goes_on_where_it_was() {
    let source = Source::new(40);
    let mut shipment = source.ship();
    let (_, storage, old) = needy(&source.all[..3]);
    for pieces in [0, 1, 3, 5] {
        let mut staging = begin(&storage, &shipment).unwrap();
        carry(&mut staging, &mut shipment, 3000, pieces);
        let have: u64 = staging.have().iter().sum();
        drop(staging);
        let again = begin(&storage, &shipment).unwrap();
        assert_eq!(again.have().iter().sum::<u64>(), have);
        assert!(pieces == 0 || have > 0);
    }
    assert!(
        prove(&storage, &shipment).is_err(),
        "not all of it is there"
    );
    let mut staging = begin(&storage, &shipment).unwrap();
    carry(&mut staging, &mut shipment, 3000, usize::MAX);
    let arrived = prove(&storage, &shipment).unwrap();
    drop(old.writer);
    let new = swapped(&storage, &arrived, &old.reader);
    assert!(same(&all_entries(&new.reader), source.shipped(&shipment)));
}

#[test]
fn what_came_of_another_snapshot_is_kept_only_where_it_is_the_same() {
    let first = Source::trimmed(60, 2);
    let later = Source::trimmed(60, 4);
    assert!(first.point < later.point);
    let (mut one, two) = (first.ship(), later.ship());
    let (_, storage, _old) = needy(&[]);
    let mut staging = begin(&storage, &one).unwrap();
    carry(&mut staging, &mut one, 5000, usize::MAX);
    let staging = begin(&storage, &two).unwrap();
    assert_eq!(staging.have()[0], 0, "the checkpoint is another one");
    let segments = staging.have()[1..].iter().zip(&two.files()[1..]);
    assert!(segments.clone().count() > 2);
    assert!(segments.into_iter().all(|(have, file)| *have == file.len));
    let left = names(&storage);
    let left = left.iter().filter(|name| name.ends_with(".incoming"));
    assert_eq!(left.count(), two.files().len() - 1);
}

#[test]
fn a_start_drops_what_had_not_all_come() {
    let source = Source::new(40);
    let mut shipment = source.ship();
    let (memory, storage, old) = needy(&[]);
    let mut staging = begin(&storage, &shipment).unwrap();
    carry(&mut staging, &mut shipment, 1000, 9);
    drop((old, staging));
    memory.crash(Crash::Process);
    open(&storage, SEGMENT);
    assert!(
        names(&storage)
            .iter()
            .all(|name| !name.ends_with("incoming"))
    );
}

#[test]
fn every_flipped_byte_is_noticed_and_its_file_comes_again() {
    let source = Source::new(24);
    let mut shipment = source.ship();
    let (memory, storage, _old) = needy(&[]);
    let mut staging = begin(&storage, &shipment).unwrap();
    carry(&mut staging, &mut shipment, 1000, usize::MAX);
    drop(staging);
    let incoming = |name: &String| name.ends_with(".incoming").then(|| dir().join(name));
    let paths: Vec<_> = names(&storage).iter().filter_map(incoming).collect();
    assert_eq!(paths.len(), shipment.files().len());
    for path in paths {
        let whole = memory.contents(&path).unwrap();
        for at in (0..whole.len()).step_by(61).chain([whole.len() - 1]) {
            let mut wrong = whole.clone();
            wrong[at] ^= 0x10;
            memory.plant(&path, &wrong);
            let refused = prove(&storage, &shipment).unwrap_err();
            assert!(
                matches!(refused, StageError::Damaged { .. }),
                "byte {at}: {refused}"
            );
            assert!(!storage.exists(&path).unwrap());
            assert_eq!(
                begin(&storage, &shipment)
                    .unwrap()
                    .have()
                    .iter()
                    .filter(|have| **have == 0)
                    .count(),
                1
            );
            memory.plant(&path, &whole);
        }
    }
    prove(&storage, &shipment).unwrap();
}

#[test]
fn a_list_that_is_no_log_is_refused() {
    let source = Source::new(40);
    let shipment = source.ship();
    let (_, storage, _old) = needy(&[]);
    let good = shipment.files().to_vec();
    type Change = fn(&mut Vec<SnapshotFile>);
    let changes: &[(&str, Change)] = &[
        ("empty", Vec::clear),
        ("no checkpoint", |files| {
            files.remove(0);
        }),
        ("two checkpoints", |files| files.insert(1, files[0])),
        ("a checkpoint of another entry", |files| {
            files[0].base = index(1)
        }),
        ("a huge checkpoint", |files| files[0].len = 1 << 30),
        ("a hole", |files| {
            files.remove(1);
        }),
        ("out of order", |files| files.swap(1, 2)),
        ("an empty segment", |files| {
            files[1].last = files[1].base.prev()
        }),
        ("a short segment", |files| files[1].len = 4096),
        ("an unknown kind", |files| {
            files[1].kind = SnapshotFileKind::new(9)
        }),
        ("longer than numbers", |files| {
            files[1].len = u64::MAX;
            files[2].len = u64::MAX;
        }),
    ];
    for (what, change) in changes {
        let mut files = good.clone();
        change(&mut files);
        let refused = Staging::begin(&storage, &dir(), source.point, &files);
        assert!(matches!(refused, Err(StageError::Refused { .. })), "{what}");
    }
    let mut staging = Staging::begin(&storage, &dir(), source.point, &good).unwrap();
    for (file, at, len) in [(0, 1, 1), (9999, 0, 1), (0, 0, 1 << 20)] {
        let refused = staging.write(file, at, &vec![0; len]);
        assert!(matches!(refused, Err(StageError::Refused { .. })));
    }
}

#[test]
fn a_list_longer_than_the_volume_is_not_begun() {
    let source = Source::new(40);
    let mut shipment = source.ship();
    let (memory, storage, _old) = needy(&[]);
    memory.limit_space(Some(5000));
    assert!(matches!(
        begin(&storage, &shipment),
        Err(StageError::NoSpace { .. })
    ));
    memory.limit_space(Some(1 << 20));
    let mut staging = begin(&storage, &shipment).unwrap();
    memory.limit_space(Some(6000));
    let mut full = false;
    for file in 0..shipment.files().len() {
        let bytes = shipment.read(file, 0, 1 << 20).unwrap();
        full = matches!(
            staging.write(file, 0, &bytes),
            Err(StageError::NoSpace { .. })
        );
        if full {
            break;
        }
    }
    assert!(full, "another writer took the room");
    assert!(
        names(&storage)
            .iter()
            .all(|name| !name.ends_with("incoming"))
    );
}

#[test]
fn segments_that_are_being_shipped_outlive_a_trim() {
    let mut source = Source::new(60);
    let (mut early, mut late) = (source.ship(), source.ship());
    let whole: Vec<_> = (0..early.files().len())
        .map(|file| early.read(file, 0, 1 << 20).unwrap())
        .collect();
    let base = source.opened.reader.segments()[3].base_index.get();
    let seed = seed_of(&source.memory, base);
    let boundary = checkpoint_at(&source.opened.reader, base - 1, seed);
    source.opened.checkpoints.write(&boundary).unwrap();
    source.opened.writer.trim(boundary.index).unwrap();
    source
        .opened
        .checkpoints
        .remove_below(boundary.index)
        .unwrap();
    assert_eq!(source.opened.reader.first_index(), index(base));
    assert!(matches!(
        source.ship_up_to(index(base)),
        Err(ShipError::Absent { .. })
    ));
    let segments = |storage| {
        names(storage)
            .iter()
            .filter(|name| name.ends_with(".seg"))
            .count()
    };
    let before = segments(&source.storage);
    drop(early);
    assert_eq!(
        segments(&source.storage),
        before,
        "the other one still reads them"
    );
    for (file, bytes) in whole.iter().enumerate() {
        assert_eq!(late.read(file, 0, 1 << 20).unwrap(), bytes);
    }
    drop(late);
    assert_eq!(segments(&source.storage), before - 3);
    source.memory.crash(Crash::Synced);
    let again = open_log(&source.storage, &dir(), config(SEGMENT)).unwrap();
    assert_eq!(again.recovery.first_index, index(base));
}

proptest! {
    #[test]
    fn pieces_of_any_size_make_the_same_file(sizes in prop::collection::vec(1usize..9000, 1..40)) {
        let source = Source::new(20);
        let mut shipment = source.ship();
        let mut sizes = sizes.iter().cycle();
        for file in 0..shipment.files().len() {
            let about = shipment.files()[file];
            let whole = shipment.read(file, 0, usize::MAX).unwrap();
            prop_assert_eq!(whole.len() as u64, about.len);
            prop_assert_eq!(quorate_protocol::crc32c(&whole), about.crc);
            let mut joined = Vec::new();
            while (joined.len() as u64) < about.len {
                let size = *sizes.next().unwrap();
                let piece = shipment.read(file, joined.len() as u64, size).unwrap();
                prop_assert!(!piece.is_empty() && piece.len() <= size);
                joined.extend_from_slice(&piece);
            }
            prop_assert_eq!(&joined[..], &whole[..]);
            prop_assert!(shipment.read(file, about.len, 10).unwrap().is_empty());
        }
    }
}
