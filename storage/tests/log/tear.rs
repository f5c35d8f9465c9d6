//! A torn tail is cut, damage is reported, and a stale frame never returns.

use std::sync::Arc;

use quorate_storage::{Crash, Entry, MemoryStorage, OpenError, Storage};

use crate::fixture::*;

const PAGE: usize = 4096;

/// A log of five entries whose last flush, entries four and five, is not covered by the durable mark.
struct Victim {
    memory: Arc<MemoryStorage>,
    storage: Arc<dyn Storage>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    /// Where each frame begins, and the end.
    bounds: Vec<usize>,
}

impl Victim {
    fn new() -> Self {
        let (memory, storage) = memory();
        let mut opened = create(&storage, 1 << 20);
        let entries = entries(5, 60);
        opened.writer.write(&entries[..2], true).unwrap();
        opened.writer.write(&entries[2..3], true).unwrap();
        opened.writer.write(&entries[3..], true).unwrap();
        drop(opened);
        let bytes = memory.contents(&segment(2)).unwrap();
        let mut bounds = vec![PAGE];
        for entry in &entries {
            let len = quorate_storage::frame_len(entry.batch.len()) as usize;
            bounds.push(bounds.last().unwrap() + len);
        }
        assert_eq!(bytes.len(), bounds[5]);
        Self {
            memory,
            storage,
            entries,
            bytes,
            bounds,
        }
    }

    fn reopen_with(&self, bytes: &[u8]) -> Result<quorate_storage::Opened, OpenError> {
        self.memory.plant(&segment(2), bytes);
        try_open(&self.storage, 1 << 20)
    }

    /// Entries whose frames end at or before a position.
    fn whole_before(&self, position: usize) -> usize {
        self.bounds[1..]
            .iter()
            .filter(|end| **end <= position)
            .count()
    }
}

#[test]
fn a_tail_cut_at_any_byte_is_a_tear_above_the_mark_and_damage_below() {
    let victim = Victim::new();
    let mark = victim.bounds[3];
    for len in 0..victim.bytes.len() {
        match victim.reopen_with(&victim.bytes[..len]) {
            Ok(opened) => {
                assert!(len >= mark, "length {len} opened below the mark");
                let whole = victim.whole_before(len);
                assert!(same(&all_entries(&opened.reader), &victim.entries[..whole]));
                let torn = len - victim.bounds[whole];
                let reported = opened.recovery.truncated.map(|torn| torn.bytes as usize);
                assert_eq!(reported.unwrap_or(0), torn, "length {len}");
            }
            Err(OpenError::Damaged { path, .. }) => {
                assert!(len < mark, "length {len} called damaged");
                assert_eq!(path, segment(2));
            }
            Err(other) => panic!("length {len}: {other}"),
        }
    }
}

#[test]
fn a_byte_changed_anywhere_is_a_tear_above_the_mark_and_damage_below() {
    let victim = Victim::new();
    let mark = victim.bounds[3];
    for at in PAGE..victim.bytes.len() {
        let mut bytes = victim.bytes.clone();
        bytes[at] ^= 0x20;
        match victim.reopen_with(&bytes) {
            Ok(opened) => {
                assert!(at >= mark, "byte {at} below the mark was passed over");
                let whole = victim.whole_before(at);
                assert!(same(&all_entries(&opened.reader), &victim.entries[..whole]));
                let torn = opened.recovery.truncated.expect("reported");
                assert_eq!(torn.position as usize, victim.bounds[whole]);
            }
            Err(OpenError::Damaged { position, .. }) => {
                assert!(at < mark, "byte {at} called damaged");
                let whole = victim.whole_before(at);
                assert_eq!(position as usize, victim.bounds[whole]);
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn a_damaged_first_page_is_damage_unless_the_other_mark_tells() {
    let victim = Victim::new();
    for at in (0..1600).step_by(3) {
        let mut bytes = victim.bytes.clone();
        bytes[at] ^= 1;
        match victim.reopen_with(&bytes) {
            Ok(opened) => {
                assert!(at >= 56, "byte {at} of the header was passed over");
                assert!(same(&all_entries(&opened.reader), &victim.entries));
            }
            Err(OpenError::Damaged { .. }) => assert!(at < 56, "byte {at}"),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    let mut bytes = victim.bytes.clone();
    bytes[512] ^= 1;
    bytes[1024] ^= 1;
    assert!(matches!(
        victim.reopen_with(&bytes),
        Err(OpenError::Damaged { .. })
    ));
}

#[test]
fn prepared_zeros_are_the_end_and_no_tear() {
    let victim = Victim::new();
    let mut bytes = victim.bytes.clone();
    bytes.resize(bytes.len() + 70_000, 0);
    let opened = victim.reopen_with(&bytes).unwrap();
    assert_eq!(opened.recovery.truncated, None);
    assert!(same(&all_entries(&opened.reader), &victim.entries));
    let left = victim.memory.contents(&segment(2)).unwrap().len();
    assert_eq!(left, victim.bounds[5]);
}

#[test]
fn whole_frames_behind_a_hole_are_cut_with_it() {
    let victim = Victim::new();
    let mut bytes = victim.bytes.clone();
    bytes[victim.bounds[3]..victim.bounds[4]].fill(0);
    let opened = victim.reopen_with(&bytes).unwrap();
    assert!(same(&all_entries(&opened.reader), &victim.entries[..3]));
    assert!(opened.recovery.truncated.is_some());
}

#[test]
fn recovery_after_a_tear_is_stable_and_writable() {
    let victim = Victim::new();
    let cut = victim.bounds[4] + 10;
    let mut opened = victim.reopen_with(&victim.bytes[..cut]).unwrap();
    assert!(opened.recovery.truncated.is_some());
    opened.writer.write(&victim.entries[4..], true).unwrap();
    victim.memory.crash(Crash::Synced);
    let opened = try_open(&victim.storage, 1 << 20).unwrap();
    assert_eq!(opened.recovery.truncated, None);
    assert!(same(&all_entries(&opened.reader), &victim.entries));
}

#[test]
fn what_no_mark_covers_is_copied_before_it_counts() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let written = entries(3, 60);
    opened.writer.write(&written, false).unwrap();
    memory.crash(Crash::Process);
    let opened = open(&storage, 1 << 20);
    assert!(same(&all_entries(&opened.reader), &written));
    memory.crash(Crash::Synced);
    let opened = open(&storage, 1 << 20);
    assert!(same(&all_entries(&opened.reader), &written));
}

#[test]
fn a_closed_log_is_opened_without_a_change_but_the_flush_of_names() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let written = entries(30, 600);
    opened.writer.write(&written, true).unwrap();
    opened.writer.close().unwrap();
    let before = memory.changes();
    let opened = open(&storage, 1 << 20);
    assert_eq!(memory.changes(), before + 1);
    assert!(same(&all_entries(&opened.reader), &written));
}

#[test]
fn an_idle_flush_settles_the_mark_so_that_a_kill_costs_no_copy() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    opened.writer.write(&entries(3, 60), true).unwrap();
    opened.writer.write(&[], true).unwrap();
    let settled = memory.changes();
    opened.writer.write(&[], true).unwrap();
    assert_eq!(memory.changes(), settled);
    memory.crash(Crash::Process);
    let before = memory.changes();
    open(&storage, 1 << 20);
    assert_eq!(memory.changes(), before + 1);
}

#[test]
fn a_stale_frame_behind_a_replaced_entry_never_returns() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let old = entries(6, 60);
    opened.writer.write(&old, true).unwrap();
    opened.writer.write(&[], true).unwrap();
    let stale = memory.contents(&segment(2)).unwrap();
    let mut place = Place {
        term: 2,
        ..Place::after(&old[2])
    };
    let new = [place.data(1, 60)];
    opened.writer.write(&new, true).unwrap();
    let mut bytes = memory.contents(&segment(2)).unwrap();
    assert!(bytes.len() < stale.len());
    let kept = bytes.len();
    bytes.extend_from_slice(&stale[kept..]);
    memory.plant(&segment(2), &bytes);
    let opened = open(&storage, 1 << 20);
    let expected: Vec<Entry> = old[..3].iter().chain(&new).cloned().collect();
    assert!(same(&all_entries(&opened.reader), &expected));
    assert!(opened.recovery.truncated.is_some());
}

#[test]
fn a_batch_that_ends_like_a_footer_is_still_a_batch() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 1 << 20);
    let batch_at = PAGE + 24 + 96;
    let mut forged = b"QRTFOOT\x01".to_vec();
    for field in [1, 2, 1, 1_000 << 12, 1_000 << 12, batch_at as u64] {
        forged.extend_from_slice(&u64::to_le_bytes(field));
    }
    forged.extend_from_slice(&[0; 12]);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &forged) as u32;
    forged.extend_from_slice(&crc.to_le_bytes());
    let entry = Place::start().opaque(&forged);
    opened
        .writer
        .write(std::slice::from_ref(&entry), true)
        .unwrap();
    drop(opened);
    let bytes = memory.contents(&segment(2)).unwrap();
    assert!(bytes.ends_with(&forged));
    let opened = open(&storage, 1 << 20);
    assert_eq!(opened.recovery.truncated, None);
    assert!(same(&all_entries(&opened.reader), &[entry]));
}

#[test]
fn damage_in_a_sealed_segment_is_found_at_opening_or_reading_and_never_passed_over() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 8_000);
    let written = entries(20, 900);
    opened.writer.write(&written, true).unwrap();
    let sealed = opened.reader.segments()[1];
    opened.writer.close().unwrap();
    let path = segment(sealed.base_index.get());
    let bytes = memory.contents(&path).unwrap();
    for at in (PAGE..bytes.len()).step_by(5) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 8;
        memory.plant(&path, &flipped);
        storage.remove(&index_file(sealed.base_index.get())).ok();
        let Ok(opened) = try_open(&storage, 8_000) else {
            continue;
        };
        assert!(
            at < sealed.bytes.get() as usize,
            "byte {at} of the footer was passed over"
        );
        let found = opened
            .reader
            .entries(sealed.base_index, sealed.last_index.next(), usize::MAX);
        let damaged = matches!(found, Err(quorate_storage::ReadError::Damaged { .. }));
        let in_padding = found.is_ok_and(|found| {
            same(
                &found,
                &written[sealed.base_index.get() as usize - 2..][..found.len()],
            )
        });
        assert!(damaged || in_padding, "byte {at}");
    }
}

#[test]
fn a_missing_or_foreign_segment_is_damage() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 8_000);
    opened.writer.write(&entries(20, 900), true).unwrap();
    let segments = opened.reader.segments();
    opened.writer.close().unwrap();
    let second = segment(segments[1].base_index.get());
    let bytes = memory.contents(&second).unwrap();
    storage.remove(&second).unwrap();
    assert!(matches!(
        try_open(&storage, 8_000),
        Err(OpenError::Damaged { .. })
    ));
    memory.plant(&second, &memory.contents(&segment(2)).unwrap());
    assert!(matches!(
        try_open(&storage, 8_000),
        Err(OpenError::Damaged { .. })
    ));
    memory.plant(&second, &bytes);
    assert!(try_open(&storage, 8_000).is_ok());
}

#[test]
fn a_damaged_checkpoint_falls_back_to_an_older_one_and_none_is_refused() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 8_000);
    opened.writer.write(&entries(20, 900), true).unwrap();
    let second = opened.reader.segments()[1].base_index.get();
    let newer = checkpoint_at(&opened.reader, second - 1, seed_of(&memory, second));
    opened.checkpoints.write(&newer).unwrap();
    opened.writer.close().unwrap();
    assert_eq!(open(&storage, 8_000).recovery.newest, newer);
    let path = dir().join(format!("{:020}.ckpt", second - 1));
    let mut bytes = memory.contents(&path).unwrap();
    bytes[90] ^= 1;
    memory.plant(&path, &bytes);
    assert_eq!(open(&storage, 8_000).recovery.newest, birth());
    storage
        .remove(&dir().join(format!("{:020}.ckpt", 1)))
        .unwrap();
    assert!(matches!(
        try_open(&storage, 8_000),
        Err(OpenError::Damaged { .. })
    ));
}

#[test]
fn a_log_that_ends_before_its_checkpoint_is_damage() {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 8_000);
    opened.writer.write(&entries(20, 900), true).unwrap();
    let second = opened.reader.segments()[1].base_index.get();
    let seed = seed_of(&memory, second);
    let checkpoint = checkpoint_at(&opened.reader, second - 1, seed);
    let beyond = quorate_storage::Checkpoint {
        index: index(500),
        ..checkpoint
    };
    opened.checkpoints.write(&beyond).unwrap();
    opened.writer.close().unwrap();
    assert!(matches!(
        try_open(&storage, 8_000),
        Err(OpenError::Damaged { .. })
    ));
}

#[test]
fn an_identity_with_any_byte_changed_is_refused() {
    let (memory, storage) = memory();
    drop(create(&storage, 8_000));
    let path = dir().join("replica.json");
    let bytes = memory.contents(&path).unwrap();
    for at in 0..bytes.len() {
        for flip in [1, 2, 4, 0x20] {
            let mut flipped = bytes.clone();
            flipped[at] ^= flip;
            memory.plant(&path, &flipped);
            match try_open(&storage, 8_000) {
                Ok(opened) => assert_eq!(opened.recovery.identity, IDENTITY, "byte {at}"),
                Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "byte {at}"),
            }
        }
    }
}

#[test]
fn a_lost_identity_is_never_made_anew() {
    let (_, storage) = memory();
    let mut opened = create(&storage, 8_000);
    opened.writer.write(&entries(2, 10), true).unwrap();
    drop(opened);
    storage.remove(&dir().join("replica.json")).unwrap();
    assert!(matches!(
        try_open(&storage, 8_000),
        Err(OpenError::Damaged { .. })
    ));
    let again = quorate_storage::create_log(&storage, &dir(), IDENTITY, &birth());
    assert!(matches!(
        again,
        Err(quorate_storage::CreateError::Occupied { .. })
    ));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    #[test]
    fn no_damage_makes_a_log_panic_or_answer_wrongly(
        wounds in proptest::collection::vec(
            (proptest::prelude::any::<u16>(), proptest::prelude::any::<u32>(), 1_u8.., 0_u8..8),
            1..5,
        ),
    ) {
        let (memory, storage) = memory();
        let mut opened = create(&storage, 8_000);
        let written = entries(14, 700);
        opened.writer.write(&written[..12], true).unwrap();
        opened.writer.write(&written[12..], true).unwrap();
        drop(opened);
        let names = names(&storage);
        for (which, place, flip, kind) in wounds {
            let path = dir().join(&names[usize::from(which) % names.len()]);
            let mut bytes = memory.contents(&path).unwrap();
            let at = place as usize % bytes.len().max(1);
            match kind {
                0 => bytes.truncate(at),
                1 => bytes.extend(std::iter::repeat_n(flip, at)),
                2 => bytes[at..].fill(0),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip),
            }
            memory.plant(&path, &bytes);
        }
        let Ok(mut opened) = try_open(&storage, 8_000) else { return Ok(()) };
        let (first, last) = (opened.reader.first_index(), opened.reader.last_index());
        if first <= last {
            if let Ok(found) = opened.reader.entries(first, last.next(), usize::MAX) {
                assert!(same(&found, &written[..found.len()]));
            }
            opened.reader.read(offset(0), offset(99), 9_000, quorate_storage::ReadMode::NoWait).ok();
            opened.reader.offset_at_time(1_050).ok();
        }
        let next = written.get(last.get() as usize - 1..).unwrap_or_default();
        opened.writer.write(next, true).unwrap();
    }
}
