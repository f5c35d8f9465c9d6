//! Lets this broker's partitions follow the topology: opened when assigned, removed when deleted.
//!
//! A replica is reported as made before anyone can publish to it, so a folder that is missing later
//! is known to be lost.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::GroupId;
use quorate_protocol::LogIndex;
use quorate_protocol::ReplicaId;
use quorate_storage::SegmentInfo;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metadata::bootstrap::GROUP;
use crate::metadata::command::Command;
use crate::metadata::command::GROUPS_PER_REPORT_MAX;
use crate::metadata::machine::Proposal;
use crate::metadata::machine::View;
use crate::metadata::propose::Proposer;
use crate::metadata::together::together;
use crate::partition::DeletedReplica;
use crate::partition::Partition;
use crate::partition::PartitionSpec;
use crate::partition::Registry;

/// What failed is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two looks at whether what this broker did before is known to it again.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(20);
/// Replicas opened at the same time.
const OPENED_AT_ONCE: usize = 16;
/// How often the first replica of a new group asks for votes before its time, and how long it waits
/// for them.
const ROUSED_MAX: u32 = 10;
const ROUSE_INTERVAL: Duration = Duration::from_millis(50);
/// Entries of group 0 that are kept behind its newest.
const ENTRIES_KEPT: u64 = 10_000;

/// The task that follows.
pub(super) struct Follower {
    broker: BrokerId,
    proposer: Arc<Proposer>,
    view: Arc<View>,
    registry: Registry,
    open: BTreeMap<GroupId, ReplicaId>,
    /// Open for the first time, and not reported as made yet.
    unreported: Vec<Partition>,
    failed: BTreeMap<GroupId, String>,
    followed: watch::Sender<u64>,
}

struct Wanted {
    epoch: u64,
    specs: Vec<PartitionSpec>,
    deleted: Vec<DeletedReplica>,
}

impl Follower {
    /// A follower, and the epoch up to which it has followed.
    pub(super) fn new(
        broker: BrokerId,
        proposer: Arc<Proposer>,
        view: Arc<View>,
        registry: Registry,
    ) -> (Self, watch::Receiver<u64>) {
        let (followed, receiver) = watch::channel(0);
        let follower = Self {
            broker,
            proposer,
            view,
            registry,
            open: BTreeMap::new(),
            unreported: Vec::new(),
            failed: BTreeMap::new(),
            followed,
        };
        (follower, receiver)
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut topology = self.view.topology.subscribe();
        if stop.run_until_cancelled(self.caught_up()).await.is_none() {
            return;
        }
        self.report_unknown_folders();
        loop {
            topology.mark_unchanged();
            if stop.run_until_cancelled(self.follow()).await.is_none() {
                return;
            }
            let changed = tokio::time::timeout(RETRY_INTERVAL, topology.changed());
            if stop.run_until_cancelled(changed).await.is_none() {
                return;
            }
            self.trim().await;
        }
    }

    /// Waits until a command of this life is applied here, and with it all that this broker did in
    /// earlier ones: a replica that it has reported as made is never taken for one that is not.
    async fn caught_up(&self) {
        while !self.proposer.has_spoken(&self.view.state.read()) {
            tokio::time::sleep(CATCH_UP_INTERVAL).await;
        }
    }

    async fn follow(&mut self) {
        let wanted = self.wanted();
        self.remove(wanted.deleted).await;
        let mut new = Vec::new();
        for spec in wanted.specs {
            match self.open.get(&spec.group) {
                None => new.push(spec),
                Some(replica) if *replica == spec.replica => {
                    self.registry.update(&spec);
                }
                Some(_) => {
                    self.registry.close(spec.group).await;
                    self.forget(spec.group);
                    new.push(spec);
                }
            }
        }
        self.open(new).await;
        self.followed.send_replace(wanted.epoch);
    }

    /// What is to go has to be gone before something else takes its place.
    fn wanted(&self) -> Wanted {
        let state = self.view.state.read();
        let deleted = state.deleted.iter().filter_map(|(group, deleted)| {
            let replica = *deleted.holders.get(&self.broker)?;
            Some(DeletedReplica {
                group: *group,
                tag: deleted.tag,
                replica,
            })
        });
        let deleted: Vec<_> = deleted.collect();
        let going: BTreeSet<_> = deleted.iter().map(|replica| replica.group).collect();
        let mut specs: Vec<_> = state.topology.specs_of(self.broker).collect();
        specs.retain(|spec| !going.contains(&spec.group));
        Wanted {
            epoch: state.topology.epoch(),
            specs,
            deleted,
        }
    }

    fn forget(&mut self, group: GroupId) {
        self.open.remove(&group);
        self.failed.remove(&group);
        self.unreported
            .retain(|partition| partition.spec().group != group);
    }

    async fn remove(&mut self, deleted: Vec<DeletedReplica>) {
        let mut removed = Vec::new();
        for replica in deleted {
            let group = replica.group;
            match self.registry.delete(replica).await {
                Ok(()) => {
                    self.forget(group);
                    removed.push((group, replica.replica));
                }
                Err(error) => self.note_failure(group, error.to_string()),
            }
        }
        let broker = self.broker;
        for replicas in removed.chunks(GROUPS_PER_REPORT_MAX) {
            let report = Command::Removed {
                broker,
                replicas: replicas.to_vec(),
            };
            if let Err(error) = self.proposer.propose(&report).await {
                tracing::warn!(%error, "the removal of deleted partitions is reported again later");
            }
        }
    }

    async fn open(&mut self, mut specs: Vec<PartitionSpec>) {
        while !specs.is_empty() {
            let later = specs.split_off(specs.len().min(OPENED_AT_ONCE));
            let now = std::mem::replace(&mut specs, later);
            let registry = self.registry.clone();
            let opening = now.into_iter().map(|spec| async {
                let (group, made) = (spec.group, spec.made);
                (group, made, registry.open(spec).await)
            });
            for (group, made, opened) in together(opening).await {
                match opened {
                    Ok(partition) => self.opened(partition, made),
                    Err(error) => self.note_failure(group, error.to_string()),
                }
            }
        }
        let newborn = self.unreported.iter().filter(|one| begins(one.spec()));
        let newborn: Vec<_> = newborn.cloned().collect();
        tokio::join!(rouse(newborn), self.report_made());
    }

    fn opened(&mut self, partition: Partition, made: bool) {
        let (group, replica) = (partition.spec().group, partition.spec().replica);
        self.open.insert(group, replica);
        self.failed.remove(&group);
        if made {
            self.registry.publish(&partition);
        } else {
            self.unreported.push(partition);
        }
    }

    /// Publishes new partitions once it is on record that they were made.
    async fn report_made(&mut self) {
        while !self.unreported.is_empty() {
            let count = self.unreported.len().min(GROUPS_PER_REPORT_MAX);
            let reported = self.unreported.iter().take(count);
            let replicas = reported.map(|partition| {
                let spec = partition.spec();
                (spec.group, spec.replica)
            });
            let report = Command::Made {
                broker: self.broker,
                replicas: replicas.collect(),
            };
            if let Err(error) = self.proposer.propose(&report).await {
                tracing::warn!(%error, "new partitions stay closed until reported");
                return;
            }
            for partition in self.unreported.drain(..count) {
                self.registry.publish(&partition);
            }
        }
    }

    /// Logs a failure once; it is tried again silently.
    fn note_failure(&mut self, group: GroupId, error: String) {
        if self.failed.get(&group) != Some(&error) {
            tracing::error!(%group, %error, "partition not available");
            self.failed.insert(group, error);
        }
    }

    fn report_unknown_folders(&self) {
        let wanted = self.wanted();
        let specs = wanted.specs.iter().map(|spec| (spec.group, spec.tag));
        let deleted = wanted
            .deleted
            .iter()
            .map(|replica| (replica.group, replica.tag));
        let known = specs.chain(deleted).chain([(GROUP, self.proposer.tag())]);
        match self.registry.unknown_folders(&known.collect()) {
            Ok(folders) => {
                for folder in folders {
                    tracing::warn!(folder = %folder.display(), "unknown folder: left as it is");
                }
            }
            Err(error) => tracing::warn!(%error, "the folders of groups cannot be listed"),
        }
    }

    /// Lets group 0 forget what lies before a checkpoint with enough entries behind it.
    async fn trim(&self) {
        let group = self.proposer.group();
        let applied = group.status().applied;
        let Some(point) = trim_point(&group.reader().segments(), applied) else {
            return;
        };
        match group.propose(Proposal::trim(point)).await {
            Ok(ticket) => drop(ticket.await),
            Err(failure) => tracing::debug!(%failure, "group 0 is trimmed later"),
        }
    }
}

/// Whether this replica is to lead a group that was just made.
fn begins(spec: &PartitionSpec) -> bool {
    let first = spec.members.replicas().next();
    first == Some(spec.replica) && spec.birth.contains(&spec.replica)
}

/// Nobody leads a group that was just made, so its first replica need not wait for that to show. The
/// others may not have opened it yet.
async fn rouse(newborn: Vec<Partition>) {
    for _ in 0..ROUSED_MAX {
        let waiting = newborn.iter().filter(|one| one.leader().is_none());
        let waiting: Vec<_> = waiting.collect();
        if waiting.is_empty() {
            return;
        }
        waiting.into_iter().for_each(Partition::campaign);
        tokio::time::sleep(ROUSE_INTERVAL).await;
    }
}

fn trim_point(segments: &[SegmentInfo], applied: LogIndex) -> Option<LogIndex> {
    let sealed = segments.iter().zip(segments.iter().skip(1));
    let enough = sealed.take_while(|(_, next)| {
        applied.get().saturating_sub(next.base_index.get()) >= ENTRIES_KEPT
    });
    enough.last().map(|(segment, _)| segment.last_index)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ByteSize;
    use quorate_protocol::HybridTime;
    use quorate_protocol::Offset;

    use super::*;

    #[test]
    fn group_0_keeps_enough_entries_behind_the_checkpoint_it_starts_from() {
        let segments: Vec<_> = (0..4u64)
            .map(|number| SegmentInfo {
                base_index: LogIndex::new(2 + number * 6_000),
                last_index: LogIndex::new(1 + (number + 1) * 6_000),
                base_offset: Offset::ZERO,
                next_offset: Offset::ZERO,
                bytes: ByteSize::new(1),
                first_time: HybridTime::new(0),
                last_time: HybridTime::new(0),
                sealed: number < 3,
                chain: 0,
            })
            .collect();
        let point = |applied| trim_point(&segments, LogIndex::new(applied)).map(LogIndex::get);
        assert_eq!(point(16_001), None);
        assert_eq!(point(16_002), Some(6_001));
        assert_eq!(point(24_001), Some(12_001));
    }
}
