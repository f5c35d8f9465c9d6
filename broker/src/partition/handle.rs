//! The door to one open partition: append, read, watch, describe.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::DraftBatch;
use quorate_protocol::Offset;
use quorate_protocol::RecordBatch;
use quorate_protocol::ReplicaId;
use quorate_protocol::Start;
use quorate_protocol::Term;
use quorate_protocol::Until;
use quorate_storage::LogReader;
use quorate_storage::Storage;
use tokio::sync::watch;

use crate::partition::append::AppendError;
use crate::partition::append::PendingAppend;
use crate::partition::machine::PartitionMachine;
use crate::partition::machine::Proposal;
use crate::partition::progress::Leadership;
use crate::partition::progress::Progress;
use crate::partition::reads::PartitionReadError;
use crate::partition::reads::ReadEnd;
use crate::partition::reads::Reads;
use crate::partition::retention;
use crate::partition::retention::Step;
use crate::partition::spec::Members;
use crate::partition::spec::PartitionSpec;
use crate::replication::Change;
use crate::replication::Failure;
use crate::replication::Group;
use crate::replication::Inspection;
use crate::replication::Role;
use crate::replication::Ticket;

/// One partition that this broker holds. Clones are cheap and mean the same partition.
#[derive(Debug, Clone)]
pub struct Partition {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spec: PartitionSpec,
    members: RwLock<Members>,
    group: Group<PartitionMachine>,
    progress: Arc<Progress>,
    reads: Reads,
    subscribers: AtomicU64,
}

/// A partition in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Who leads it, if known.
    pub leader: Option<BrokerId>,
    /// The part this replica plays.
    pub role: Role,
    /// The term of that.
    pub term: Term,
    /// Whether this replica leads and accepts batches.
    pub ready: bool,
    /// The first offset kept.
    pub log_start: Offset,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
    /// Bytes of the log on this broker.
    pub bytes: ByteSize,
    /// Live subscriptions on this broker.
    pub subscribers: u64,
}

impl Partition {
    pub(crate) fn new(
        spec: PartitionSpec,
        group: Group<PartitionMachine>,
        progress: Arc<Progress>,
        storage: Arc<dyn Storage>,
    ) -> Self {
        let reads = Reads::new(group.reader().clone(), storage, Arc::clone(&progress));
        let subscribers = AtomicU64::new(0);
        let members = RwLock::new(spec.members.clone());
        Self {
            shared: Arc::new(Shared {
                spec,
                members,
                group,
                progress,
                reads,
                subscribers,
            }),
        }
    }

    /// What this broker was told about the partition when it opened it.
    #[must_use]
    pub fn spec(&self) -> &PartitionSpec {
        &self.shared.spec
    }

    /// The replicas now, the preferred leader first.
    #[must_use]
    pub fn members(&self) -> Members {
        self.shared.members.read().clone()
    }

    /// Notes where the replicas are now.
    pub(crate) fn set_members(&self, members: Members) {
        *self.shared.members.write() = members;
    }

    /// The stored log: it may hold entries that are not committed.
    pub(crate) fn log(&self) -> &LogReader {
        self.shared.group.reader()
    }

    /// Notes that stored records are damaged: this replica is made anew from its peers.
    pub(crate) fn note_damage(&self, why: String) {
        let partition = self.shared.spec.label();
        if self.shared.progress.note_damage(why.clone()) {
            tracing::error!(partition, why, "a replica's stored records are damaged");
        }
    }

    /// What is wrong with the stored records, if something is.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.shared.progress.damage()
    }

    /// Hands a batch to the partition; order is the order of calls. Returns once it has its place
    /// in the queue, waiting for room if need be. `expect_offset`: only if its first record gets
    /// that offset. `early`: its receipt comes once it is in the leader's log, and promises nothing.
    ///
    /// That the principal owns the producer id is the caller's business: see
    /// `metadata::Metadata::owner_of`. Cancel safe: dropped before it returns, nothing is appended.
    ///
    /// # Errors
    /// The partition is not led here or closed. Everything else comes from the returned future,
    /// in order.
    pub async fn append(
        &self,
        draft: DraftBatch,
        expect_offset: Option<Offset>,
        early: bool,
    ) -> Result<PendingAppend, AppendError> {
        let members = self.members();
        match self
            .shared
            .group
            .propose(Proposal::Publish {
                draft,
                expect_offset,
                early,
            })
            .await
        {
            Ok(ticket) => Ok(PendingAppend::new(ticket, members)),
            Err(failure) => Err(AppendError::of_failure(&failure, &members)),
        }
    }

    /// The first offset that is not committed, as it moves.
    #[must_use]
    pub fn high_watermark(&self) -> watch::Receiver<Offset> {
        self.shared.progress.high_watermark()
    }

    /// The first offset kept, as it moves.
    #[must_use]
    pub fn log_start(&self) -> watch::Receiver<Offset> {
        self.shared.progress.log_start()
    }

    /// Who leads the partition, as it changes; batches are accepted while `ready`.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.progress.leadership()
    }

    /// Whether this replica leads, and its leadership is ready.
    #[must_use]
    pub fn is_led(&self) -> bool {
        self.shared.progress.is_led()
    }

    /// Asks another replica to lead instead of this one; nothing happens unless this one leads.
    /// Batches wait meanwhile, and go on here if the other does not take over within an election
    /// time.
    pub fn transfer(&self, to: ReplicaId) {
        self.shared.group.transfer(to);
    }

    /// Asks for votes now instead of after an election time; nothing comes of it while there is a
    /// leader.
    pub(crate) fn campaign(&self) {
        self.shared.group.campaign();
    }

    /// Changes who belongs to the group, on its leader: two or more changes are one joint change.
    /// The ticket is settled once that is applied here.
    pub fn change(&self, changes: Vec<Change>) -> Ticket<()> {
        self.shared.group.change(changes)
    }

    /// What is to be seen of this replica; none once it has ended.
    pub async fn inspect(&self) -> Option<Inspection> {
        self.shared.group.inspect().await
    }

    /// The broker that leads the partition, if known.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        let leader = self.leadership().borrow().leader;
        leader.and_then(|replica| self.shared.members.read().broker_of(replica))
    }

    /// Committed batches from the one that holds `from`: at least one if there is one, else about
    /// `bytes_max` bytes. The first batch may begin before `from`. Empty at the high watermark.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// `from` is not in the log, or its bytes cannot be read.
    pub async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<RecordBatch>, PartitionReadError> {
        let read = self.shared.reads.read(from, bytes_max).await;
        read.map_err(|error| self.noted(error))
    }

    /// A damaged replica with peers makes room for one of them: whoever reads tries again there.
    fn noted(&self, error: PartitionReadError) -> PartitionReadError {
        let PartitionReadError::Damaged(why) = error else {
            return error;
        };
        self.note_damage(why.clone());
        if self.members().brokers().nth(1).is_some() {
            return PartitionReadError::NotServing;
        }
        PartitionReadError::Damaged(why)
    }

    /// The offset that a start position stands for now: nothing that was acknowledged before the
    /// call lies behind the end that is meant. Cancel safe.
    ///
    /// # Errors
    /// The replica is not a ready leader by the word of a majority, the offset is not in the log,
    /// or the log cannot be read.
    pub async fn resolve_start(&self, start: Start) -> Result<Offset, PartitionReadError> {
        self.serving()?;
        if !self.shared.reads.knows_start(start) {
            self.confirm().await?;
        }
        let resolved = self.shared.reads.resolve_start(start).await;
        resolved.map_err(|error| self.noted(error))
    }

    /// The end that an end position stands for now, as for a start. Cancel safe.
    ///
    /// # Errors
    /// The replica is not a ready leader by the word of a majority, or the log cannot be read.
    pub async fn resolve_end(&self, until: Until) -> Result<ReadEnd, PartitionReadError> {
        self.serving()?;
        if !matches!(until, Until::Offset(_) | Until::Never) {
            self.confirm().await?;
        }
        let resolved = self.shared.reads.resolve_end(until).await;
        resolved.map_err(|error| self.noted(error))
    }

    /// The partition in a few numbers.
    #[must_use]
    pub fn describe(&self) -> PartitionStatus {
        let Leadership {
            role, term, ready, ..
        } = *self.leadership().borrow();
        let (log_start, high_watermark) = self.shared.progress.range();
        PartitionStatus {
            leader: self.leader(),
            role,
            term,
            ready,
            log_start,
            high_watermark,
            bytes: self.shared.group.reader().bytes(),
            subscribers: self.shared.subscribers.load(Ordering::Relaxed),
        }
    }

    /// Counts a subscription for as long as the guard lives.
    #[must_use]
    pub fn subscriber_joined(&self) -> SubscriberGuard {
        self.shared.subscribers.fetch_add(1, Ordering::Relaxed);
        SubscriberGuard {
            partition: self.clone(),
        }
    }

    /// Whether offsets given out now will not be seen to go back: before a leader is ready, its
    /// high watermark may lie below what was committed.
    fn serving(&self) -> Result<(), PartitionReadError> {
        if self.is_led() {
            Ok(())
        } else {
            Err(PartitionReadError::NotServing)
        }
    }

    /// Waits until everything is readable here that was committed anywhere by now. A leader that was
    /// cut off finds out that it is none.
    async fn confirm(&self) -> Result<(), PartitionReadError> {
        match self.shared.group.read_barrier().await {
            Ok(()) => Ok(()),
            Err(Failure::Closed) => Err(PartitionReadError::Closed),
            Err(_) => Err(PartitionReadError::NotServing),
        }
    }

    /// Proposes what retention asks for at this time, on a leader that has something to let go.
    pub(crate) async fn retain(&self, now_micros: u64) -> Result<Option<Step>, Failure> {
        if self.serving().is_err() {
            return Ok(None);
        }
        let limits = retention::Limits::new(&self.shared.spec.settings);
        let segments = self.shared.group.reader().segments();
        let applied = self.shared.group.status().applied;
        let Some(step) = retention::plan(&segments, applied, now_micros, limits) else {
            return Ok(None);
        };
        let proposal = match step {
            Step::Trim(up_to) => Proposal::Trim { up_to },
            Step::Roll => Proposal::Roll,
        };
        self.shared.group.propose(proposal).await?.await?;
        Ok(Some(step))
    }
}

/// One live subscription in a partition's count.
#[derive(Debug)]
pub struct SubscriberGuard {
    partition: Partition,
}

impl Drop for SubscriberGuard {
    fn drop(&mut self) {
        self.partition
            .shared
            .subscribers
            .fetch_sub(1, Ordering::Relaxed);
    }
}
