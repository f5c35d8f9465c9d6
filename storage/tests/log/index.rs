//! The index of a sealed segment is a cache: whatever its file holds, reads are right.

use std::sync::Arc;

use quorate_storage::{Entry, MemoryStorage, Storage};

use crate::fixture::*;

fn sealed_log() -> (Arc<MemoryStorage>, Arc<dyn Storage>, Vec<Entry>, u64) {
    let (memory, storage) = memory();
    let mut opened = create(&storage, 40_000);
    let mut place = Place::start();
    let written: Vec<_> = (0..120)
        .map(|n| {
            if n % 9 == 0 {
                place.blank()
            } else {
                place.data(n % 4 + 1, 300)
            }
        })
        .collect();
    opened.writer.write(&written, true).unwrap();
    let base = opened.reader.segments()[1].base_index.get();
    opened.writer.close().unwrap();
    (memory, storage, written, base)
}

fn reads_are_right(storage: &Arc<dyn Storage>, written: &[Entry]) {
    let opened = open(storage, 40_000);
    assert!(same(&all_entries(&opened.reader), written));
    let end = opened.reader.log_end().get();
    for from in 0..end {
        let found = read(&opened.reader, from, end, 1);
        assert!(found[0].base_offset() <= offset(from) && found[0].next_offset() > offset(from));
    }
}

#[test]
fn an_absent_index_is_made_again() {
    let (memory, storage, written, base) = sealed_log();
    let before = memory.contents(&index_file(base)).unwrap();
    storage.remove(&index_file(base)).unwrap();
    reads_are_right(&storage, &written);
    assert_eq!(memory.contents(&index_file(base)).unwrap(), before);
}

#[test]
fn a_zero_filled_index_is_made_again() {
    let (memory, storage, written, base) = sealed_log();
    let before = memory.contents(&index_file(base)).unwrap();
    memory.plant(&index_file(base), &vec![0; before.len()]);
    reads_are_right(&storage, &written);
    assert_eq!(memory.contents(&index_file(base)).unwrap(), before);
}

#[test]
fn a_cut_or_overlong_index_is_made_again() {
    let (memory, storage, written, base) = sealed_log();
    let before = memory.contents(&index_file(base)).unwrap();
    memory.plant(&index_file(base), &before[..before.len() / 2]);
    reads_are_right(&storage, &written);
    memory.plant(
        &index_file(base),
        &[before.clone(), vec![7; 100_000]].concat(),
    );
    reads_are_right(&storage, &written);
    assert_eq!(memory.contents(&index_file(base)).unwrap(), before);
}

#[test]
fn the_index_of_another_segment_is_made_again() {
    let (memory, storage, written, base) = sealed_log();
    let other = memory.contents(&index_file(2)).unwrap();
    memory.plant(&index_file(base), &other);
    reads_are_right(&storage, &written);
}

/// Makes an index file that is whole and belongs to the segment, but points beside the frames.
fn forge(memory: &MemoryStorage, base: u64) -> Vec<u8> {
    let mut bytes = memory.contents(&index_file(base)).unwrap();
    let entries = 32..bytes.len() - 4;
    for entry in bytes[entries].chunks_mut(32) {
        entry[24] = entry[24].wrapping_add(8);
    }
    let end = bytes.len() - 4;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[..end]) as u32;
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    memory.plant(&index_file(base), &bytes);
    bytes
}

#[test]
fn a_conflict_is_found_behind_an_index_that_points_to_wrong_places() {
    let (memory, storage, written, base) = sealed_log();
    forge(&memory, base);
    let mut opened = open(&storage, 40_000);
    let kept = base as usize + 18;
    let mut place = Place {
        term: 2,
        ..Place::after(&written[kept - 1])
    };
    let newer = place.data(1, 100);
    opened
        .writer
        .write(std::slice::from_ref(&newer), true)
        .unwrap();
    let expected = [&written[..kept], &[newer]].concat();
    assert!(same(&all_entries(&opened.reader), &expected));
}

#[test]
fn a_valid_index_that_points_to_wrong_places_is_found_out() {
    let (memory, storage, written, base) = sealed_log();
    let bytes = forge(&memory, base);
    reads_are_right(&storage, &written);
    assert_ne!(memory.contents(&index_file(base)).unwrap(), bytes);
}
