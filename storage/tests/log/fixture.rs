//! Entries, logs and comparisons for all tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::{
    BatchBuilder, BatchIdentity, ByteSize, Codec, ControlRecord, GroupId, GroupTag, HybridTime,
    LogIndex, Offset, ProducerEpoch, ProducerId, RecordBatch, RecordDraft, ReplicaId, Sequence,
    Stamp, Term, control_batch,
};
use quorate_storage::{
    Checkpoint, Entry, EntryKind, LogConfig, LogIdentity, LogReader, MemoryStorage, OpenError,
    Opened, ReadMode, ReadOutcome, Storage, create_log, open_log,
};

pub const DIR: &str = "g/7-0000000000000009";
pub const IDENTITY: LogIdentity = LogIdentity {
    group: GroupId::new(7),
    tag: GroupTag::new(9),
    replica: ReplicaId::new(3),
};

pub fn dir() -> PathBuf {
    PathBuf::from(DIR)
}

pub fn config(segment_bytes: u64) -> LogConfig {
    LogConfig {
        segment_bytes: ByteSize::new(segment_bytes),
        segment_age: Duration::ZERO,
    }
}

pub fn index(raw: u64) -> LogIndex {
    LogIndex::new(raw)
}

pub fn offset(raw: u64) -> Offset {
    Offset::new(raw)
}

pub fn birth() -> Checkpoint {
    Checkpoint {
        index: index(1),
        term: Term::new(1),
        membership: Bytes::from_static(b"members"),
        next_offset: Offset::ZERO,
        last_time: HybridTime::new(0),
        log_start: Offset::ZERO,
        chain: 0,
        state: Bytes::from_static(b"state"),
    }
}

pub fn memory() -> (Arc<MemoryStorage>, Arc<dyn Storage>) {
    let memory = Arc::new(MemoryStorage::inline());
    (Arc::clone(&memory), memory)
}

pub fn try_open(storage: &Arc<dyn Storage>, segment_bytes: u64) -> Result<Opened, OpenError> {
    open_log(storage, &dir(), config(segment_bytes))
}

pub fn open(storage: &Arc<dyn Storage>, segment_bytes: u64) -> Opened {
    try_open(storage, segment_bytes).unwrap()
}

pub fn create(storage: &Arc<dyn Storage>, segment_bytes: u64) -> Opened {
    create_log(storage, &dir(), IDENTITY, &birth()).unwrap();
    open(storage, segment_bytes)
}

/// Where the next entry goes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub index: u64,
    pub offset: u64,
    pub term: u64,
    pub micros: u64,
}

impl Place {
    pub fn start() -> Self {
        Self {
            index: 2,
            offset: 0,
            term: 1,
            micros: 1_000,
        }
    }

    pub fn after(entry: &Entry) -> Self {
        Self {
            index: entry.index.get() + 1,
            offset: entry.next_offset(entry.batch.base_offset()).get(),
            term: entry.term().get(),
            micros: entry.batch.append_time().micros() + 10,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            base_offset: Offset::new(self.offset),
            term: Term::new(self.term),
            append_time: HybridTime::from_parts(self.micros, 0),
            group: IDENTITY.group,
        }
    }

    /// A data entry of `records` records with `len` bytes each, and moves on.
    pub fn data(&mut self, records: u32, len: usize) -> Entry {
        let mut builder = BatchBuilder::new(256);
        for number in 0..records {
            let value = vec![(self.index as u8) ^ (number as u8); len];
            builder
                .push(&RecordDraft {
                    key: None,
                    value: Some(&value),
                    headers: &[],
                    timestamp_us: self.micros,
                    id: None,
                })
                .unwrap();
        }
        let identity = BatchIdentity {
            producer_id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(self.offset),
            topic_hash: 5,
        };
        let batch = builder.finish(identity).stamp(self.stamp());
        self.entry(EntryKind::Data, batch)
    }

    /// A data entry whose records section is whatever a client says it is, and moves on.
    pub fn opaque(&mut self, payload: &[u8]) -> Entry {
        let mut builder = BatchBuilder::new(256);
        let value = vec![0; payload.len()];
        builder
            .push(&RecordDraft {
                key: None,
                value: Some(&value),
                headers: &[],
                timestamp_us: self.micros,
                id: None,
            })
            .unwrap();
        let identity = BatchIdentity {
            producer_id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(self.offset),
            topic_hash: 5,
        };
        let draft = builder.finish_with(identity, Codec::LZ4, |_| payload.to_vec());
        let batch = draft.stamp(self.stamp());
        self.entry(EntryKind::Data, batch)
    }

    /// An entry without offsets, and moves on.
    pub fn blank(&mut self) -> Entry {
        let batch = control_batch(&ControlRecord::Blank, self.stamp()).unwrap();
        self.entry(EntryKind::Blank, batch)
    }

    fn entry(&mut self, kind: EntryKind, batch: RecordBatch) -> Entry {
        let entry = Entry {
            index: LogIndex::new(self.index),
            kind,
            batch,
        };
        *self = Self {
            term: self.term,
            ..Self::after(&entry)
        };
        entry
    }
}

/// So many data entries of one record each.
pub fn entries(count: usize, len: usize) -> Vec<Entry> {
    let mut place = Place::start();
    (0..count).map(|_| place.data(1, len)).collect()
}

pub fn all_entries(reader: &LogReader) -> Vec<Entry> {
    let (first, last) = (reader.first_index(), reader.last_index());
    if first > last {
        return Vec::new();
    }
    reader.entries(first, last.next(), usize::MAX).unwrap()
}

pub fn same(a: &[Entry], b: &[Entry]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.index == b.index && a.kind == b.kind && a.batch.bytes() == b.batch.bytes()
        })
}

pub fn batches(outcome: ReadOutcome) -> Vec<RecordBatch> {
    match outcome {
        ReadOutcome::Batches(batches) => batches,
        ReadOutcome::WouldBlock => panic!("a blocking read answered that it would block"),
    }
}

pub fn read(reader: &LogReader, from: u64, until: u64, bytes_max: usize) -> Vec<RecordBatch> {
    batches(
        reader
            .read(offset(from), offset(until), bytes_max, ReadMode::Blocking)
            .unwrap(),
    )
}

/// Names in the log's directory.
pub fn names(storage: &Arc<dyn Storage>) -> Vec<String> {
    storage
        .list(Path::new(DIR))
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect()
}

pub fn segment(base: u64) -> PathBuf {
    dir().join(format!("{base:020}.seg"))
}

pub fn index_file(base: u64) -> PathBuf {
    dir().join(format!("{base:020}.idx"))
}

/// The checkpoint of a log's state after an entry.
pub fn checkpoint_at(reader: &LogReader, at: u64, chain: u32) -> Checkpoint {
    let entry = reader
        .entries(index(at), index(at + 1), 1)
        .unwrap()
        .remove(0);
    Checkpoint {
        index: entry.index,
        term: entry.term(),
        next_offset: entry.next_offset(entry.batch.base_offset()),
        last_time: entry.batch.append_time(),
        chain,
        ..birth()
    }
}

/// The chain value that a segment's header carries on.
pub fn seed_of(memory: &MemoryStorage, base: u64) -> u32 {
    let bytes = memory.contents(&segment(base)).unwrap();
    u32::from_le_bytes(bytes[48..52].try_into().unwrap())
}
