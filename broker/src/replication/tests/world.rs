//! One member of a simulated group: its volume, and while it is up its shard and flush queue.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::{ByteSize, GroupTag, LogIndex, ReplicaId, Term};
use quorate_storage::{Crash, Lane, LogConfig, LogReader, MemoryStorage, StateLog, Storage};
use tokio::sync::watch;

use crate::replication::config::{Durability, ElectionWindow, GroupSpec, ReplicationConfig};
use crate::replication::flush::Disk;
use crate::replication::group::GroupStatus;
use crate::replication::inbox::Inbox;
use crate::replication::recovery::{Recovered, recover};
use crate::replication::shard::event::{Act, In, Opening, ReadyNumber, WriteJob};
use crate::replication::shard::{Glance, Shard};
use crate::replication::tests::Rng;
use crate::replication::tests::book::{Book, GROUP, time};

pub(super) fn replica(id: u64) -> ReplicaId {
    ReplicaId::new(id)
}

pub(super) const TAG: GroupTag = GroupTag::new(5);

pub(super) fn config(tail_bytes_max: u64) -> ReplicationConfig {
    ReplicationConfig {
        append_bytes_max: ByteSize::new(900),
        inflight_appends_max: 4,
        uncommitted_bytes_max: ByteSize::new(8 << 10),
        uncommitted_bytes_total_max: ByteSize::new(3 << 10),
        apply_bytes_max: ByteSize::new(1200),
        group_commit_bytes_max: ByteSize::new(2000),
        tail_bytes_max: ByteSize::new(tail_bytes_max),
        tail_bytes_total_max: ByteSize::new(3 << 10),
        page_bytes_max: ByteSize::new(1000),
        pages_bytes_total_max: ByteSize::new(6000),
        ..ReplicationConfig::default()
    }
}

/// What a test says a member's disk holds: index to term. What is below the retention point counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    pub(super) point: u64,
    pub(super) terms: BTreeMap<u64, Term>,
}

impl Shadow {
    pub(super) fn has(&self, index: u64, term: Term) -> bool {
        index <= self.point || self.terms.get(&index) == Some(&term)
    }

    fn write(&mut self, entries: &[(u64, Term)]) {
        if let Some((first, _)) = entries.first() {
            drop(self.terms.split_off(first));
        }
        self.terms.extend(entries.iter().copied());
    }
}

/// A member that is up.
pub(super) struct Life {
    pub(super) shard: Shard<Book>,
    pub(super) disk: Arc<Disk<Book>>,
    pub(super) reader: LogReader,
    inbox: Arc<Inbox<In<Book>>>,
    writes: VecDeque<(ReadyNumber, Vec<(u64, Term)>)>,
}

/// One member.
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) storage: Arc<MemoryStorage>,
    pub(super) dir: PathBuf,
    pub(super) life: Option<Life>,
    pub(super) shadow: Shadow,
    /// From here on a write was under way when the power went.
    torn_from: u64,
    voters: Vec<u64>,
    pub(super) tail_bytes_max: u64,
    /// Its log is hardly ever flushed; its machine never stops.
    pub(super) weak: bool,
}

impl Node {
    pub(super) fn new(id: u64, voters: &[u64], tail_bytes_max: u64) -> Self {
        Self {
            id,
            storage: Arc::new(MemoryStorage::queued()),
            dir: PathBuf::from("/g0"),
            life: None,
            shadow: Shadow {
                point: 1,
                terms: BTreeMap::new(),
            },
            torn_from: u64::MAX,
            voters: voters.to_vec(),
            tail_bytes_max,
            weak: false,
        }
    }

    pub(super) fn spec(&self, dir: &Path) -> GroupSpec {
        GroupSpec {
            group: GROUP,
            tag: TAG,
            replica: replica(self.id),
            voters: self.voters.iter().copied().map(replica).collect(),
            holders: Vec::new(),
            durability: if self.weak {
                Durability::Interval(Duration::from_secs(3600))
            } else {
                Durability::Flush
            },
            release: false,
            dir: dir.to_owned(),
            log: LogConfig {
                segment_bytes: ByteSize::new(4096 + 1800),
                segment_age: Duration::ZERO,
            },
        }
    }

    pub(super) fn volume(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage) as Arc<dyn Storage>
    }

    /// Opens whatever the volume holds.
    pub(super) fn start(&mut self) {
        let volume = self.volume();
        let inbox = Arc::new(Inbox::new());
        let log = StateLog::open(&volume, Path::new("/state.log")).expect("state is whole");
        let volumes = (Arc::clone(&volume), Arc::clone(&volume));
        let tick = Duration::from_millis(50);
        let disk = Disk::new(volumes, Arc::clone(&inbox), log, 2000, tick);
        let (spec, room) = (self.spec(&self.dir), self.tail_bytes_max as usize);
        let saved = disk.saved(replica(self.id));
        let (recovered, files) = recover(&volume, &spec, saved, Book::default(), room).unwrap();
        self.check(&recovered);
        let reader = files.reader.clone();
        disk.open(&spec, files);
        let window = 11 + 3 * (self.id as usize % 8);
        let window = ElectionWindow {
            min: window,
            max: window + 1,
        };
        let (status, _) = watch::channel(GroupStatus::default());
        inbox.put(In::Open(Box::new(Opening {
            recovered,
            window,
            status,
        })));
        let shard = Shard::new(config(self.tail_bytes_max));
        self.life = Some(Life {
            shard,
            disk,
            reader,
            inbox,
            writes: VecDeque::new(),
        });
    }

    /// Whatever was reported durable before the power went is there.
    fn check(&mut self, recovered: &Recovered<Book>) {
        let point = recovered.store.point().index.get();
        for (index, term) in self.shadow.terms.range(..self.torn_from) {
            let found = recovered.store.term_at(LogIndex::new(*index));
            assert!(
                *index <= point || found == Some(*term),
                "{}: durable entry {index} lost",
                self.id
            );
        }
        self.shadow.point = self.shadow.point.max(point);
        let last = recovered.store.last().get();
        let terms =
            (point + 1..=last).map(|index| (index, recovered.store.term_at(LogIndex::new(index))));
        self.shadow.terms = terms.map(|(index, term)| (index, term.unwrap())).collect();
        self.torn_from = u64::MAX;
    }

    pub(super) fn glance(&self) -> Option<Glance> {
        self.life.as_ref()?.shard.glance(GROUP)
    }

    pub(super) fn book(&self) -> Option<&Book> {
        self.life.as_ref()?.shard.machine(GROUP)
    }

    pub(super) fn term_at(&self, index: u64) -> Option<Term> {
        self.life
            .as_ref()?
            .shard
            .term_at(GROUP, LogIndex::new(index))
    }

    /// Feeds events, then turns until nothing is left to do at once.
    pub(super) fn turn(&mut self, now: u64, mut input: Vec<In<Book>>) -> Vec<Act<Book>> {
        let (mut acts, mut others) = (Vec::new(), Vec::new());
        if let Some(life) = &self.life {
            life.inbox.take(&mut input);
        }
        loop {
            let Some(life) = self.life.as_mut() else {
                return others;
            };
            for event in &input {
                life.note(event, &mut self.shadow);
            }
            life.shard.turn(time(now), &mut input, &mut acts);
            for act in acts.drain(..) {
                life.perform(act, &self.shadow, &mut others);
            }
            life.inbox.take(&mut input);
            if !life.shard.is_busy() && input.is_empty() {
                break;
            }
        }
        let point = self.glance().map_or(0, |glance| glance.point.get());
        self.shadow.point = self.shadow.point.max(point);
        others
    }

    /// Runs the oldest work of one kind that waits for the disk.
    pub(super) fn work(&self, lane: Lane) -> bool {
        self.storage.run_one_of(lane)
    }

    /// Power loss after so many changes of the volume; answers whether all waiting writes were done by then.
    pub(super) fn crash_after(&mut self, changes: u64, rng: &mut Rng) -> bool {
        let Some(life) = self.life.take() else {
            return true;
        };
        let writes = life.writes.iter().flat_map(|(_, entries)| entries.first());
        self.torn_from = writes.map(|(index, _)| *index).min().unwrap_or(u64::MAX);
        self.storage.stop_after(changes);
        let before = self.storage.changes();
        while self.storage.run_one_of(Lane::Flush) {}
        let done = self.storage.changes() - before < changes;
        drop(life);
        self.storage.crash(Crash::Seeded(rng.draw()));
        done
    }

    /// Power loss, while some of the waiting work is under way.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let Some(life) = self.life.take() else { return };
        let writes = life.writes.iter().flat_map(|(_, entries)| entries.first());
        self.torn_from = writes.map(|(index, _)| *index).min().unwrap_or(u64::MAX);
        self.storage.stop_after(rng.below(14) as u64);
        for _ in 0..rng.below(4) {
            self.storage.run_one();
        }
        drop(life);
        let crash = match rng.below(4) {
            _ if self.weak => Crash::Process,
            0 => Crash::Process,
            1 => Crash::Synced,
            _ => Crash::Seeded(rng.draw()),
        };
        self.storage.crash(crash);
    }
}

impl Life {
    fn note(&mut self, event: &In<Book>, shadow: &mut Shadow) {
        let In::Persisted { number, .. } = event else {
            return;
        };
        while self.writes.front().is_some_and(|write| write.0 <= *number) {
            if let Some((_, entries)) = self.writes.pop_front() {
                shadow.write(&entries);
            }
        }
    }

    fn perform(&mut self, act: Act<Book>, shadow: &Shadow, others: &mut Vec<Act<Book>>) {
        let hard = match &act {
            Act::Write(job) => job.hard,
            Act::Hint(_, hard) => Some(*hard),
            _ => None,
        };
        let durable = shadow
            .terms
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(shadow.point);
        let hint = hard.map_or(0, |hard| hard.commit.get());
        assert!(
            hint <= durable,
            "a hint of {hint} with {durable} on the own disk"
        );
        match act {
            Act::Write(job) => {
                self.writes.push_back((job.number, places(&job)));
                self.disk.write(job);
            }
            Act::Hint(replica, hard) => self.disk.hint(replica, hard),
            Act::Fetch(job) => self.disk.fetch(job),
            Act::Checkpoint(job) => self.disk.checkpoint(job),
            Act::Trim(group, point) => self.disk.trim(group, point),
            other => others.push(other),
        }
    }
}

fn places(job: &WriteJob) -> Vec<(u64, Term)> {
    job.entries
        .iter()
        .map(|entry| (entry.index.get(), entry.batch.term()))
        .collect()
}
