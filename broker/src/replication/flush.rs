//! Writing: one queue per group, one worker per group at a time, jobs that arrive meanwhile together.
//!
//! Nothing is reported durable after an error: the first one poisons the volume for good. A full disk
//! is no error; its jobs stay queued and are tried again, because what the engine was given cannot
//! be taken back from it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::{GroupId, LogIndex, ReplicaId};
use quorate_storage::{
    Checkpoint, CheckpointStore, HardState, HardStates, Lane, LogReader, LogWriter, StateLog,
    Storage, TrimError, WriteError, note_flushed, note_unflushed,
};
use tokio::sync::{oneshot, watch};

use crate::replication::config::{Durability, GroupSpec};
use crate::replication::inbox::Inbox;
use crate::replication::machine::StateMachine;
use crate::replication::recovery::Files;
use crate::replication::shard::Halt;
use crate::replication::shard::event::{CheckpointJob, FetchJob, In, WriteJob};
use crate::replication::states::States;
use crate::replication::unflushed::Unflushed;

/// A volume that failed: nothing written since its last flush may be relied upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {error}; restart the broker", path.display())]
pub struct Poison {
    /// Where it happened.
    pub path: PathBuf,
    /// What happened.
    pub error: String,
}

impl Poison {
    /// What a failed write says of its volume.
    pub(super) fn of_write(error: &WriteError) -> Self {
        match error {
            WriteError::Fatal { path, source } => Self {
                path: path.clone(),
                error: source.to_string(),
            },
            other => Self {
                path: PathBuf::new(),
                error: other.to_string(),
            },
        }
    }
}

/// Why work on a group's files stopped.
enum Stop {
    Full,
    Fatal(Poison),
}

/// One group's files and what is to be done with them.
#[derive(Debug)]
struct Desk {
    group: GroupId,
    dir: PathBuf,
    queue: Mutex<Queue>,
    /// Locked by the one worker; empty once closed.
    writer: Mutex<Option<LogWriter>>,
    reader: LogReader,
    checkpoints: CheckpointStore,
    durability: Durability,
    /// The folder says that not everything is flushed.
    noted: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    writes: VecDeque<WriteJob>,
    trim: Option<LogIndex>,
    /// What was written is to be flushed.
    flush: bool,
    close: Option<oneshot::Sender<()>>,
    checkpoints: Vec<CheckpointJob>,
    running: bool,
    full: bool,
}

/// What a worker does next.
enum Step {
    Trim(LogIndex),
    Write(WriteJob),
    Flush,
    Close(oneshot::Sender<()>),
}

/// All files of a shard.
pub(super) struct Disk<M: StateMachine> {
    storage: Arc<dyn Storage>,
    memory: Arc<dyn Storage>,
    inbox: Arc<Inbox<In<M>>>,
    states: States,
    unflushed: Unflushed,
    desks: Mutex<BTreeMap<GroupId, Arc<Desk>>>,
    poison: watch::Sender<Option<Poison>>,
    batch_bytes_max: usize,
    /// Something waits for room.
    waiting: AtomicBool,
}

impl<M: StateMachine> Disk<M> {
    /// The first volume is the disk, the other one memory.
    pub(super) fn new(
        (storage, memory): (Arc<dyn Storage>, Arc<dyn Storage>),
        inbox: Arc<Inbox<In<M>>>,
        state_log: (StateLog, HardStates),
        batch_bytes_max: usize,
        tick: Duration,
    ) -> Arc<Self> {
        let states = States::new(state_log);
        let (poison, _) = watch::channel(None);
        let desks = Mutex::default();
        Arc::new(Self {
            storage,
            memory,
            inbox,
            states,
            unflushed: Unflushed::new(tick),
            desks,
            poison,
            batch_bytes_max,
            waiting: AtomicBool::new(false),
        })
    }

    pub(super) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The volume that ends with the process.
    pub(super) fn memory(&self) -> &Arc<dyn Storage> {
        &self.memory
    }

    /// What the state log holds of a replica.
    pub(super) fn saved(&self, replica: ReplicaId) -> Option<HardState> {
        self.states.newest(replica)
    }

    /// Makes a replica's record durable. Blocks on the disk.
    pub(super) fn save(&self, replica: ReplicaId, hard: HardState) -> Result<(), WriteError> {
        self.states.save(replica, hard)
    }

    /// A replica is gone for good.
    pub(super) fn forget(&self, replica: ReplicaId) {
        self.states.forget(replica);
    }

    pub(super) fn poisoned(&self) -> watch::Receiver<Option<Poison>> {
        self.poison.subscribe()
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.borrow().is_some()
    }

    pub(super) fn fail(&self, poison: Poison) {
        tracing::error!(path = %poison.path.display(), error = poison.error, "the volume failed");
        self.poison.send_if_modified(|first| {
            let fresh = first.is_none();
            first.get_or_insert(poison);
            fresh
        });
        // The shard looks at the poison whenever it wakes.
        self.inbox.wake();
    }

    /// Takes a group's files.
    pub(super) fn open(&self, spec: &GroupSpec, files: Files) {
        let group = spec.group;
        let desk = Desk {
            group,
            dir: spec.dir.clone(),
            queue: Mutex::default(),
            writer: Mutex::new(Some(files.writer)),
            reader: files.reader,
            checkpoints: files.checkpoints,
            durability: spec.durability,
            noted: AtomicBool::new(false),
        };
        self.desks.lock().insert(group, Arc::new(desk));
    }

    fn desk(&self, group: GroupId) -> Option<Arc<Desk>> {
        self.desks.lock().get(&group).cloned()
    }

    /// Finishes what is queued, writes the final mark, lets the files go.
    pub(super) fn close(self: &Arc<Self>, group: GroupId) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        if let Some(desk) = self.desks.lock().remove(&group) {
            desk.queue.lock().close = Some(done);
            self.wake(&desk);
        }
        closed
    }

    pub(super) fn write(self: &Arc<Self>, job: WriteJob) {
        let Some(desk) = self.desk(job.group) else {
            return;
        };
        let full = {
            let mut queue = desk.queue.lock();
            queue.writes.push_back(job);
            queue.full
        };
        if !full {
            self.wake(&desk);
        }
    }

    pub(super) fn trim(self: &Arc<Self>, group: GroupId, point: LogIndex) {
        let Some(desk) = self.desk(group) else { return };
        {
            let mut queue = desk.queue.lock();
            queue.trim = queue.trim.max(Some(point));
        }
        self.wake(&desk);
    }

    pub(super) fn hint(self: &Arc<Self>, replica: ReplicaId, hard: HardState) {
        let disk = Arc::clone(self);
        let note = move || match disk.states.note(replica, hard) {
            Ok(()) | Err(WriteError::NoSpace { .. }) => {}
            Err(error) => disk.fail(Poison::of_write(&error)),
        };
        self.storage.submit(Lane::Background, Box::new(note));
    }

    /// Tries again what waited for room.
    pub(super) fn retry(self: &Arc<Self>) {
        // Whoever finds no room again says so again.
        self.waiting.store(false, Ordering::Relaxed);
        let desks: Vec<_> = self.desks.lock().values().cloned().collect();
        for desk in desks {
            if desk.queue.lock().full {
                self.wake(&desk);
            }
            let checkpoints = std::mem::take(&mut desk.queue.lock().checkpoints);
            for job in checkpoints {
                self.checkpoint(job);
            }
        }
    }

    /// Does anything wait for room, or for its flush?
    pub(super) fn needs_ticks(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) || !self.unflushed.is_empty()
    }

    pub(super) fn is_unflushed(&self) -> bool {
        !self.unflushed.is_empty()
    }

    /// Time passes: what was written long enough ago is flushed.
    pub(super) fn tick(self: &Arc<Self>) {
        for group in self.unflushed.tick() {
            if let Some(desk) = self.desk(group) {
                desk.queue.lock().flush = true;
                self.wake(&desk);
            }
        }
    }

    fn wake(self: &Arc<Self>, desk: &Arc<Desk>) {
        {
            let mut queue = desk.queue.lock();
            if queue.running {
                return;
            }
            queue.running = true;
        }
        let storage = Arc::clone(desk.reader.storage());
        let (disk, desk) = (Arc::clone(self), Arc::clone(desk));
        let work = move || {
            if catch_unwind(AssertUnwindSafe(|| disk.work(&desk))).is_err() {
                let error = "the writer gave up, see its message".to_owned();
                disk.give_up(
                    &desk,
                    Poison {
                        path: desk.dir.clone(),
                        error,
                    },
                );
            }
        };
        storage.submit(Lane::Flush, Box::new(work));
    }

    /// Works until nothing is queued, the disk is full, or it failed.
    fn work(&self, desk: &Desk) {
        let mut writer = desk.writer.lock();
        while let Some(step) = self.next_step(desk) {
            let done = match step {
                Step::Trim(point) => trim(desk, writer.as_mut(), point),
                Step::Write(job) => self.write_now(desk, writer.as_mut(), job),
                Step::Flush => flush(writer.as_mut()),
                Step::Close(done) => close(desk, writer.take(), done),
            };
            match done {
                Ok(()) => {}
                Err(Stop::Full) => return,
                Err(Stop::Fatal(poison)) => return self.give_up(desk, poison),
            }
        }
    }

    /// Nobody waits for what will not happen any more.
    fn give_up(&self, desk: &Desk, poison: Poison) {
        self.fail(poison);
        let mut queue = desk.queue.lock();
        (queue.running, queue.close) = (false, None);
    }

    fn next_step(&self, desk: &Desk) -> Option<Step> {
        let mut queue = desk.queue.lock();
        let step = if self.is_poisoned() {
            queue.close = None;
            None
        } else if let Some(point) = queue.trim.take() {
            Some(Step::Trim(point))
        } else if let Some(job) = queue.next_write(self.batch_bytes_max) {
            Some(Step::Write(job))
        } else if std::mem::take(&mut queue.flush) {
            Some(Step::Flush)
        } else {
            queue.close.take().map(Step::Close)
        };
        queue.running = step.is_some();
        step
    }

    fn write_now(
        &self,
        desk: &Desk,
        writer: Option<&mut LogWriter>,
        job: WriteJob,
    ) -> Result<(), Stop> {
        let Some(writer) = writer else { return Ok(()) };
        let (group, epoch, number) = (job.group, job.epoch, job.number);
        let saved = job
            .hard
            .map_or(Ok(()), |hard| self.states.save(job.replica, hard));
        let written = saved.and_then(|()| {
            if job.entries.is_empty() {
                Ok(())
            } else {
                desk.note_unflushed()?;
                let sync = desk.durability == Durability::Flush;
                writer.write(&job.entries, sync)
            }
        });
        match written {
            Ok(()) => {
                desk.queue.lock().full = false;
                if let Durability::Interval(interval) = desk.durability
                    && !job.entries.is_empty()
                {
                    self.unflushed.note(group, interval);
                }
                self.inbox.put(In::Persisted {
                    group,
                    epoch,
                    number,
                });
                Ok(())
            }
            Err(WriteError::NoSpace { path }) => {
                let mut queue = desk.queue.lock();
                queue.writes.push_front(job);
                (queue.running, queue.full) = (false, true);
                // A closing group does not wait for room: what is lost was never acknowledged.
                queue.close = None;
                drop(queue);
                tracing::warn!(path = %path.display(), "no room on the disk; writing waits for it");
                // Before the task is woken: it ticks only while something waits.
                self.waiting.store(true, Ordering::Relaxed);
                self.inbox.put(In::Stalled { group, epoch });
                Err(Stop::Full)
            }
            // The volume is well: what this log holds is not what its replica thinks.
            Err(error @ WriteError::Invalid { .. }) => {
                let halt = Halt(error.to_string());
                self.inbox.put(In::Broken { group, halt });
                Ok(())
            }
            Err(error) => Err(Stop::Fatal(Poison::of_write(&error))),
        }
    }

    pub(super) fn fetch(self: &Arc<Self>, job: FetchJob) {
        let FetchJob {
            group,
            epoch,
            from,
            until,
            bytes_max,
        } = job;
        let Some(desk) = self.desk(group) else { return };
        let (inbox, storage) = (Arc::clone(&self.inbox), Arc::clone(desk.reader.storage()));
        let read = move || {
            let entries = match desk.reader.entries(from, until, bytes_max) {
                Err(quorate_storage::ReadError::NoEntry { .. }) => Ok(Vec::new()),
                read => read.map_err(|error| Halt(error.to_string())),
            };
            inbox.put(In::Fetched {
                group,
                epoch,
                from,
                entries,
            });
        };
        storage.submit(Lane::Read, Box::new(read));
    }

    pub(super) fn checkpoint(self: &Arc<Self>, job: CheckpointJob) {
        let Some(desk) = self.desk(job.group) else {
            return;
        };
        let (disk, storage) = (Arc::clone(self), Arc::clone(desk.reader.storage()));
        let save = move || disk.checkpoint_now(&desk, job);
        storage.submit(Lane::Background, Box::new(save));
    }

    fn checkpoint_now(&self, desk: &Desk, job: CheckpointJob) {
        if self.is_poisoned() {
            return;
        }
        let segments = desk.reader.segments();
        // The roll may have been undone; then no segment ends there and nobody will ask for it.
        let Some(end) = segments
            .iter()
            .find(|segment| segment.last_index == job.index)
        else {
            return;
        };
        let (group, epoch, index) = (job.group, job.epoch, job.index);
        match desk.checkpoints.write(&file_of(&job, end.chain)) {
            Ok(()) => self.inbox.put(In::Checkpointed {
                group,
                epoch,
                index,
            }),
            Err(WriteError::NoSpace { .. }) => {
                desk.queue.lock().checkpoints.push(job);
                self.waiting.store(true, Ordering::Relaxed);
                self.inbox.wake();
            }
            Err(error) => self.fail(Poison::of_write(&error)),
        }
    }
}

impl Desk {
    /// Once, before anything is acknowledged that a restart of the machine may lose.
    fn note_unflushed(&self) -> Result<(), WriteError> {
        let weak = matches!(self.durability, Durability::Interval(_));
        if weak && !self.noted.load(Ordering::Relaxed) {
            note_unflushed(self.reader.storage(), &self.dir)?;
            self.noted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Queue {
    /// The oldest write, with those behind it as far as they fit.
    fn next_write(&mut self, bytes_max: usize) -> Option<WriteJob> {
        let mut job = self.writes.pop_front()?;
        let bytes = |job: &WriteJob| {
            job.entries
                .iter()
                .map(|entry| entry.batch.len())
                .sum::<usize>()
        };
        let mut taken = bytes(&job);
        while let Some(next) = self.writes.front() {
            taken = taken.saturating_add(bytes(next));
            if taken > bytes_max || next.epoch != job.epoch {
                break;
            }
            if let Some(next) = self.writes.pop_front() {
                job.absorb(next);
            }
        }
        Some(job)
    }
}

impl WriteJob {
    /// Both as one: what the younger replaces is never written.
    fn absorb(&mut self, next: Self) {
        if let Some(first) = next.entries.first() {
            let keep = self
                .entries
                .partition_point(|entry| entry.index < first.index);
            self.entries.truncate(keep);
        }
        self.entries.extend(next.entries);
        self.hard = next.hard.or(self.hard);
        self.number = next.number;
    }
}

fn trim(desk: &Desk, writer: Option<&mut LogWriter>, point: LogIndex) -> Result<(), Stop> {
    let Some(writer) = writer else { return Ok(()) };
    match writer.trim(point) {
        Ok(()) => {}
        Err(TrimError::NoCheckpoint { index, path }) => {
            tracing::warn!(group = %desk.group, %index, path = %path.display(), "entries are kept");
            return Ok(());
        }
        Err(TrimError::Fatal { path, source }) => {
            return Err(Stop::Fatal(Poison {
                path,
                error: source.to_string(),
            }));
        }
        Err(error) => {
            return Err(Stop::Fatal(Poison {
                path: desk.dir.clone(),
                error: error.to_string(),
            }));
        }
    }
    let removed = desk.checkpoints.remove_below(point);
    removed.map_err(|error| Stop::Fatal(Poison::of_write(&error)))
}

/// A full disk is met by the next write.
fn flush(writer: Option<&mut LogWriter>) -> Result<(), Stop> {
    match writer.map_or(Ok(()), |writer| writer.write(&[], true)) {
        Ok(()) | Err(WriteError::NoSpace { .. }) => Ok(()),
        Err(error) => Err(Stop::Fatal(Poison::of_write(&error))),
    }
}

fn close(desk: &Desk, writer: Option<LogWriter>, done: oneshot::Sender<()>) -> Result<(), Stop> {
    let closed = writer.map_or(Ok(()), LogWriter::close);
    let noted = match (&closed, desk.durability) {
        (Ok(()), Durability::Interval(_)) => note_flushed(desk.reader.storage(), &desk.dir),
        _ => Ok(()),
    };
    // Nobody may be waiting any more.
    done.send(()).unwrap_or_default();
    noted.map_err(|error| {
        Stop::Fatal(Poison {
            path: desk.dir.clone(),
            error: error.to_string(),
        })
    })?;
    match closed {
        Ok(()) => Ok(()),
        Err(WriteError::NoSpace { path }) => {
            tracing::warn!(group = %desk.group, path = %path.display(), "closed without room for its mark");
            Ok(())
        }
        Err(error) => Err(Stop::Fatal(Poison::of_write(&error))),
    }
}

fn file_of(job: &CheckpointJob, chain: u32) -> Checkpoint {
    Checkpoint {
        index: job.index,
        term: job.term,
        membership: job.membership.clone(),
        next_offset: job.next_offset,
        last_time: job.last_time,
        log_start: job.log_start,
        chain,
        state: job.state.clone(),
    }
}

impl<M: StateMachine> fmt::Debug for Disk<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
