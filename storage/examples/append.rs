//! Compares appending to a log with writing and flushing a bare file: `append <directory> [MiB]`.
//!
//! For each group size: a bare file that grows, a bare file whose blocks hold zeros already, and the log.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::error::Error;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_protocol::{
    BatchBuilder, BatchIdentity, ByteSize, GroupId, GroupTag, HybridTime, LogIndex, Offset,
    ProducerEpoch, ProducerId, RecordDraft, ReplicaId, Sequence, Stamp, Term,
};
use quorate_storage::{
    Access, Checkpoint, DiskStorage, Entry, EntryKind, LogConfig, LogIdentity, ReadMode,
    ReadOutcome, Storage, create_log, frame_len, open_log,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("usage: append <directory> [MiB]")?;
    let mib: u64 = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new());
    println!(
        "{:>9} {:>15} {:>15} {:>15} {:>7}",
        "group", "growing", "zero-filled", "log", "ratio"
    );
    for (group, batch) in [
        (4 << 10, 4 << 10),
        (64 << 10, 64 << 10),
        (1 << 20, 64 << 10),
    ] {
        let rounds = (mib << 20) / group;
        let rounds = rounds.min(4_000);
        let dir = Path::new(&root);
        let growing = bare(&storage, &dir.join("growing"), group, rounds, false)?;
        let filled = bare(&storage, &dir.join("filled"), group, rounds, true)?;
        let (log, read) = log(
            &storage,
            &dir.join(format!("log-{group}")),
            group,
            batch,
            rounds,
        )?;
        let best = growing.total.min(filled.total);
        println!(
            "{:>9} {growing} {filled} {log} {:>7.2}  reads {:.1} GB/s",
            group,
            best.as_secs_f64() / log.total.as_secs_f64(),
            read,
        );
    }
    Ok(())
}

struct Timing {
    total: Duration,
    median: Duration,
    p99: Duration,
    bytes: u64,
}

impl Timing {
    fn new(mut each: Vec<Duration>, bytes: u64) -> Self {
        let total = each.iter().sum();
        each.sort_unstable();
        let at = |share: usize| {
            each.get(each.len() * share / 100)
                .copied()
                .unwrap_or_default()
        };
        Self {
            total,
            median: at(50),
            p99: at(99),
            bytes,
        }
    }
}

impl std::fmt::Display for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = Duration::from_secs(self.bytes).as_secs_f64() / 1e6 / self.total.as_secs_f64();
        write!(
            f,
            "{rate:.0}MB/s {}/{}us",
            self.median.as_micros(),
            self.p99.as_micros()
        )
    }
}

fn bare(
    storage: &Arc<dyn Storage>,
    path: &Path,
    group: u64,
    rounds: u64,
    filled: bool,
) -> Outcome<Timing> {
    let file = storage.open(path, Access::CreateNew)?;
    let bytes = vec![7; usize::try_from(group)?];
    if filled {
        let zeros = vec![0; usize::try_from(group)?];
        for round in 0..rounds {
            file.write_vectored_at(&[IoSlice::new(&zeros)], round * group)?;
        }
        file.sync_all()?;
    }
    let mut each = Vec::new();
    for round in 0..rounds {
        let start = Instant::now();
        file.write_vectored_at(&[IoSlice::new(&bytes)], round * group)?;
        file.sync_data()?;
        each.push(start.elapsed());
    }
    storage.remove(path)?;
    Ok(Timing::new(each, group * rounds))
}

fn log(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    group: u64,
    batch: u64,
    rounds: u64,
) -> Outcome<(Timing, f64)> {
    let identity = LogIdentity {
        group: GroupId::new(1),
        tag: GroupTag::new(1),
        replica: ReplicaId::new(1),
    };
    create_log(storage, dir, identity, &birth())?;
    let config = LogConfig {
        segment_bytes: ByteSize::new(256 << 20),
        segment_age: Duration::ZERO,
    };
    let mut opened = open_log(storage, dir, config)?;
    let value = vec![7; usize::try_from(batch)? - 200];
    let mut next = 0;
    let mut each = Vec::new();
    let mut written = 0;
    for _ in 0..rounds {
        let mut entries = Vec::new();
        for _ in 0..group / batch {
            entries.push(entry(next, &value)?);
            next += 1;
        }
        written += entries
            .iter()
            .map(|entry| frame_len(entry.batch.len()))
            .sum::<u64>();
        let start = Instant::now();
        opened.writer.write(&entries, true)?;
        each.push(start.elapsed());
    }
    let read = read_all(&opened.reader)?;
    opened.writer.close()?;
    Ok((Timing::new(each, written), read))
}

fn read_all(reader: &quorate_storage::LogReader) -> Outcome<f64> {
    let start = Instant::now();
    let (mut from, mut bytes) = (reader.log_start(), 0_u32);
    while from < reader.log_end() {
        let mut outcome = reader.read(from, reader.log_end(), 1 << 20, ReadMode::NoWait)?;
        if matches!(outcome, ReadOutcome::WouldBlock) {
            outcome = reader.read(from, reader.log_end(), 1 << 20, ReadMode::Blocking)?;
        }
        let ReadOutcome::Batches(batches) = outcome else {
            return Err("would block".into());
        };
        for batch in &batches {
            bytes = bytes.saturating_add(u32::try_from(batch.len())?);
            from = batch.next_offset();
        }
    }
    Ok(f64::from(bytes) / 1e9 / start.elapsed().as_secs_f64())
}

fn entry(number: u64, value: &[u8]) -> Outcome<Entry> {
    let mut builder = BatchBuilder::new(value.len() + 200);
    builder.push(&RecordDraft {
        key: None,
        value: Some(value),
        headers: &[],
        timestamp_us: number,
        id: None,
    })?;
    let draft = builder.finish(BatchIdentity {
        producer_id: ProducerId::new(1),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(number),
        topic_hash: 0,
    });
    let batch = draft.stamp(Stamp {
        base_offset: Offset::new(number),
        term: Term::new(1),
        append_time: HybridTime::from_parts(number, 0),
        group: GroupId::new(1),
    });
    Ok(Entry {
        index: LogIndex::new(number + 2),
        kind: EntryKind::Data,
        batch,
    })
}

fn birth() -> Checkpoint {
    Checkpoint {
        index: LogIndex::new(1),
        term: Term::new(1),
        membership: Bytes::new(),
        next_offset: Offset::ZERO,
        last_time: HybridTime::new(0),
        log_start: Offset::ZERO,
        chain: 0,
        state: Bytes::new(),
    }
}
