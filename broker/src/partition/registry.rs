//! The partitions this broker holds: opened, found, retained, deleted.
//!
//! Opens and deletes exactly what it is told; a folder nobody told it about is never touched.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::GroupTag;
use quorate_protocol::PartitionId;
use quorate_protocol::ReplicaId;
use quorate_protocol::TopicId;
use quorate_storage::Storage;
use quorate_storage::log_exists;
use quorate_storage::log_identity;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::partition::aside::set_aside;
use crate::partition::handle::Partition;
use crate::partition::machine::PartitionMachine;
use crate::partition::progress::Progress;
use crate::partition::retention;
use crate::partition::rules::Rules;
use crate::partition::scrub::Scrub;
use crate::partition::spec::DeletedReplica;
use crate::partition::spec::PartitionSpec;
use crate::partition::spec::durability;
use crate::partition::spec::group_dir;
use crate::partition::spec::group_of_dir;
use crate::replication;
use crate::replication::Durability;
use crate::replication::Failure;
use crate::replication::GroupSpec;
use crate::replication::Inspection;
use crate::replication::Replication;

/// How long retention waits for one partition before it turns to the next.
const RETAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// What all partitions of a broker have in common.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker's data folder.
    pub data_dir: PathBuf,
    /// Size at which segments of topics made through this broker are closed.
    pub segment_bytes: ByteSize,
    /// The largest batch.
    pub batch_bytes_max: ByteSize,
    /// Time between two looks at what retention lets go.
    pub retention_interval: Duration,
}

/// What the registry needs from outside.
#[derive(Debug)]
pub struct Environment {
    /// The groups.
    pub replication: Replication<PartitionMachine>,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// Wall time, for retention.
    pub clock: Arc<dyn Clock>,
    /// Owns the retention task.
    pub tracker: TaskTracker,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Why a partition could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The replica was made earlier and its folder is gone.
    #[error(
        "{}: the folder of {partition} is missing, and with it acknowledged records: restore it, \
         or delete the topic; it is never made anew", folder.display()
    )]
    Lost {
        /// The partition, for people.
        partition: String,
        /// Where its folder should be.
        folder: PathBuf,
    },
    /// The disk did not answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What this broker knows of the cluster is older than what it did.
    #[error("{}: holds replica {found}, which is newer than the one known", folder.display())]
    Superseded {
        /// The folder.
        folder: PathBuf,
        /// What it holds.
        found: ReplicaId,
    },
    /// The replica's log could not be opened.
    #[error("{partition}: {source}")]
    Replica {
        /// The partition, for people.
        partition: String,
        /// Why.
        source: replication::OpenError,
    },
}

impl OpenError {
    /// Whether the replica is lost or damaged, so that only its peers can help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Replica { source, .. } => source.is_damage(),
            _ => false,
        }
    }

    fn is_forgetful(&self) -> bool {
        let Self::Replica { source, .. } = self else {
            return false;
        };
        matches!(source, replication::OpenError::Forgetful { .. })
    }
}

/// A replica that only its peers can help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its topic.
    pub topic: TopicId,
    /// Its partition.
    pub partition: PartitionId,
    /// Its Raft group.
    pub group: GroupId,
    /// The replica.
    pub replica: ReplicaId,
    /// The partition, for people.
    pub label: String,
    /// What is wrong.
    pub why: String,
    /// It is whole, but may have lost what it acknowledged from memory.
    pub forgetful: bool,
}

impl Damage {
    fn of(spec: &PartitionSpec, why: String) -> Self {
        Self {
            forgetful: false,
            topic: spec.topic,
            partition: spec.partition,
            group: spec.group,
            replica: spec.replica,
            label: spec.label(),
            why,
        }
    }
}

/// Why a deleted group's folder is still there.
#[derive(Debug, thiserror::Error)]
#[error("group {group}: its folder could not be removed: {source}")]
pub struct DeleteError {
    group: GroupId,
    source: io::Error,
}

/// The partitions of one broker. Clones are cheap and mean the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    replication: Replication<PartitionMachine>,
    storage: Arc<dyn Storage>,
    open: RwLock<Open>,
    leaderships: Arc<watch::Sender<u64>>,
}

/// The open partitions; sessions find those that are published.
#[derive(Debug, Default)]
struct Open {
    groups: BTreeMap<GroupId, Partition>,
    /// Replicas that could not be opened because they are lost or damaged.
    broken: BTreeMap<GroupId, Damage>,
    /// Replicas that are opened with what they still have.
    released: BTreeSet<ReplicaId>,
    published: BTreeMap<(TopicId, PartitionId), Partition>,
}

impl Registry {
    /// An empty registry; its retention task ends with `stop`.
    #[must_use]
    pub fn new(config: Config, environment: Environment) -> Self {
        let Environment {
            replication,
            storage,
            clock,
            tracker,
            stop,
        } = environment;
        let interval = config.retention_interval;
        let open = RwLock::default();
        let registry = Self {
            shared: Arc::new(Shared {
                config,
                replication,
                storage,
                open,
                leaderships: Arc::default(),
            }),
        };
        let scrub = Scrub {
            registry: registry.clone(),
            storage: Arc::clone(&registry.shared.storage),
            clock: Arc::clone(&clock),
        };
        tracker.spawn(scrub.run(stop.clone()));
        let retained = registry.clone();
        tracker.spawn(async move {
            while stop
                .run_until_cancelled(tokio::time::sleep(interval))
                .await
                .is_some()
            {
                retained.retain(clock.now_micros()).await;
            }
        });
        registry
    }

    /// Size at which segments of new topics are closed.
    #[must_use]
    pub fn segment_bytes(&self) -> ByteSize {
        self.shared.config.segment_bytes
    }

    /// A published partition.
    #[must_use]
    pub fn get(&self, topic: TopicId, partition: PartitionId) -> Option<Partition> {
        let open = self.shared.open.read();
        open.published.get(&(topic, partition)).cloned()
    }

    /// The open partition of a group, published or not.
    #[must_use]
    pub fn by_group(&self, group: GroupId) -> Option<Partition> {
        self.shared.open.read().groups.get(&group).cloned()
    }

    /// All published partitions, in the order of topic and partition.
    #[must_use]
    pub fn all(&self) -> Vec<Partition> {
        self.shared
            .open
            .read()
            .published
            .values()
            .cloned()
            .collect()
    }

    /// The published partitions that this broker leads and whose leadership is ready.
    #[must_use]
    pub fn led(&self) -> Vec<Partition> {
        let open = self.shared.open.read();
        let led = open
            .published
            .values()
            .filter(|partition| partition.is_led());
        led.cloned().collect()
    }

    /// Rises whenever the leadership of any partition here changes.
    #[must_use]
    pub fn leaderships(&self) -> watch::Receiver<u64> {
        self.shared.leaderships.subscribe()
    }

    /// What is to be seen of all groups led here, in one call.
    pub async fn inspect_led(&self) -> Vec<(GroupId, Inspection)> {
        self.shared.replication.inspect_led().await
    }

    /// Notes where the replicas of an open partition are now; what else the specification says
    /// never changes. False: this replica of it is not open here.
    pub fn update(&self, spec: &PartitionSpec) -> bool {
        let Some(partition) = self.by_group(spec.group) else {
            return false;
        };
        let own = partition.spec();
        if (own.tag, own.replica) != (spec.tag, spec.replica) {
            return false;
        }
        if partition.members() != spec.members {
            partition.set_members(spec.members.clone());
            let holders = spec.members.holders().collect();
            self.shared.replication.set_holders(spec.group, holders);
        }
        true
    }

    /// Opens a partition's replica, making it if it was never made. It cannot be found before it
    /// is published.
    ///
    /// # Errors
    /// Its folder is gone, or its log cannot be opened.
    pub async fn open(&self, spec: PartitionSpec) -> Result<Partition, OpenError> {
        let opened = self.open_replica(spec.clone()).await;
        let mut open = self.shared.open.write();
        open.broken.remove(&spec.group);
        match &opened {
            Ok(partition) => {
                open.groups.insert(spec.group, partition.clone());
                open.released.remove(&spec.replica);
            }
            Err(error) if error.is_damage() => {
                let mut damage = Damage::of(&spec, error.to_string());
                damage.forgetful = error.is_forgetful();
                open.broken.insert(spec.group, damage);
            }
            Err(_) => {}
        }
        opened
    }

    async fn open_replica(&self, spec: PartitionSpec) -> Result<Partition, OpenError> {
        let config = &self.shared.config;
        let dir = group_dir(&config.data_dir, spec.group, spec.tag);
        let label = spec.label();
        self.check_folder(&spec, &dir).await?;
        let progress = Arc::new(Progress::new(Arc::clone(&self.shared.leaderships)));
        let rules = Rules::new(spec.topic, &spec.settings, config.batch_bytes_max);
        let machine = PartitionMachine::new(rules, Arc::clone(&progress));
        let group = GroupSpec {
            group: spec.group,
            tag: spec.tag,
            replica: spec.replica,
            voters: spec.birth.clone(),
            holders: spec.members.holders().collect(),
            dir,
            durability: durability(&spec.settings),
            // A lonely one has nobody who could tell what it has lost.
            release: self.releases(&spec),
            log: retention::log_config(&spec.settings, spec.segment_bytes),
        };
        let opened = self.shared.replication.open(group, machine).await;
        let group = opened.map_err(|source| OpenError::Replica {
            partition: label,
            source,
        })?;
        let storage = Arc::clone(&self.shared.storage);
        Ok(Partition::new(spec, group, progress, storage))
    }

    /// A replica that may have lost something is opened with what it has: so many others are like it
    /// that nobody can lead without.
    pub fn release(&self, replica: ReplicaId) {
        self.shared.open.write().released.insert(replica);
    }

    fn releases(&self, spec: &PartitionSpec) -> bool {
        let alone = spec.members.replicas().count() == 1;
        alone || self.shared.open.read().released.contains(&spec.replica)
    }

    /// The replicas here that only their peers can help: lost, damaged, or ended.
    #[must_use]
    pub fn damaged(&self) -> Vec<Damage> {
        let replication = &self.shared.replication;
        if replication.poisoned().borrow().is_some() {
            // Not the replicas are damaged, but the disk.
            return Vec::new();
        }
        let halted = replication.halted().borrow().clone();
        let open = self.shared.open.read();
        let running = open.groups.values().filter_map(|partition| {
            let spec = partition.spec();
            let ended = halted.get(&spec.group).map(ToString::to_string);
            let why = ended.or_else(|| partition.damage().map(str::to_owned))?;
            Some(Damage::of(spec, why))
        });
        running.chain(open.broken.values().cloned()).collect()
    }

    /// A replica that was made is there; one that was not takes the place of what it supersedes.
    async fn check_folder(&self, spec: &PartitionSpec, dir: &Path) -> Result<(), OpenError> {
        let storage = &self.shared.storage;
        let path = || dir.to_owned();
        let failed = |source| OpenError::Io {
            path: path(),
            source,
        };
        if spec.made {
            let exists = log_exists(storage, dir).map_err(failed)?;
            let lost = || OpenError::Lost {
                partition: spec.label(),
                folder: path(),
            };
            return exists.then_some(()).ok_or_else(lost);
        }
        match log_identity(storage, dir) {
            Ok(Some(found)) if found.replica > spec.replica => {
                return Err(OpenError::Superseded {
                    folder: path(),
                    found: found.replica,
                });
            }
            Ok(Some(found)) if found.replica == spec.replica => return Ok(()),
            Ok(None) => return Ok(()),
            Ok(Some(_)) | Err(quorate_storage::OpenError::Damaged { .. }) => {}
            Err(error) => return Err(failed(io::Error::other(error))),
        }
        if durability(&spec.settings) == Durability::Memory {
            // There is nothing in it to be kept.
            let replication = &self.shared.replication;
            let removed = replication.delete(spec.group, spec.replica, path()).await;
            return removed.map_err(failed);
        }
        let aside = set_aside(storage.as_ref(), dir).map_err(failed)?;
        if let Some(folder) = aside {
            let folder = folder.display();
            tracing::warn!(%folder, "an earlier replica of {} was set aside: it is made anew from its peers", spec.label());
        }
        Ok(())
    }

    /// Closes the replica of a group; its folder stays.
    pub async fn close(&self, group: GroupId) {
        self.withdraw(group);
        self.shared.replication.close_group(group).await;
    }

    /// Lets sessions find a partition.
    pub fn publish(&self, partition: &Partition) {
        let key = (partition.spec().topic, partition.spec().partition);
        let mut open = self.shared.open.write();
        open.published.insert(key, partition.clone());
    }

    /// Closes a replica that has left its group, or whose group was deleted, and removes its
    /// folder, if there is one. A later replica of the group is left alone.
    ///
    /// # Errors
    /// The folder, or part of it, is still there.
    pub async fn delete(&self, deleted: DeletedReplica) -> Result<(), DeleteError> {
        let DeletedReplica {
            group,
            tag,
            replica,
        } = deleted;
        let dir = group_dir(&self.shared.config.data_dir, group, tag);
        let found = log_identity(&self.shared.storage, &dir);
        if found.is_ok_and(|found| found.is_some_and(|found| found.replica > replica)) {
            return Ok(());
        }
        self.withdraw(group);
        let deleted = self.shared.replication.delete(group, replica, dir).await;
        deleted.map_err(|source| DeleteError { group, source })
    }

    /// Nobody finds the partition of a group any more.
    fn withdraw(&self, group: GroupId) {
        let mut open = self.shared.open.write();
        open.groups.remove(&group);
        open.broken.remove(&group);
        open.published
            .retain(|_, partition| partition.spec().group != group);
    }

    /// Folders beside those of the given groups: nobody here knows what they are, so they stay.
    ///
    /// # Errors
    /// The folder of all groups cannot be listed.
    pub fn unknown_folders(
        &self,
        known: &BTreeSet<(GroupId, GroupTag)>,
    ) -> io::Result<Vec<PathBuf>> {
        let groups = self.shared.config.data_dir.join("g");
        if !self.shared.storage.exists(&groups)? {
            return Ok(Vec::new());
        }
        let entries = self.shared.storage.list(&groups)?.into_iter();
        let unknown = entries
            .filter(|entry| group_of_dir(&entry.name).is_none_or(|group| !known.contains(&group)));
        Ok(unknown.map(|entry| groups.join(entry.name)).collect())
    }

    /// Lets go, in every partition led here, of what retention does not keep at this time.
    pub async fn retain(&self, now_micros: u64) {
        for partition in self.all() {
            let spec = partition.spec();
            // What was proposed stays; the next look finds out. One that waits for room on the disk
            // must not keep the others from making some.
            let step = tokio::time::timeout(RETAIN_TIME_MAX, partition.retain(now_micros)).await;
            match step.unwrap_or(Err(Failure::Unknown)) {
                Ok(Some(step)) => {
                    tracing::debug!(topic = %spec.name, partition = %spec.partition, ?step, "retention");
                }
                Ok(None) => {}
                Err(failure) => {
                    tracing::debug!(topic = %spec.name, partition = %spec.partition, %failure, "retention waits");
                }
            }
        }
    }
}
