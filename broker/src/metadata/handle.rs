//! The door to the metadata: start, look, change.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::CreateTopic;
use quorate_protocol::DeleteTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::GroupId;
use quorate_protocol::GroupTag;
use quorate_protocol::InitProducer;
use quorate_protocol::PartitionId;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerGranted;
use quorate_protocol::ProducerId;
use quorate_protocol::TopicCreated;
use quorate_protocol::TopicDeleted;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;
use quorate_storage::LogConfig;
use quorate_storage::Storage;
use quorate_storage::log_exists;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::PrincipalKey;
use crate::config::PeerSeed;
use crate::metadata::command::Command;
use crate::metadata::error::MetadataError;
use crate::metadata::follow::Follower;
use crate::metadata::machine::MetadataMachine;
use crate::metadata::machine::View;
use crate::metadata::producers::Block;
use crate::metadata::producers::Named;
use crate::metadata::propose::Proposer;
use crate::metadata::state::Effect;
use crate::metadata::state::founder;
use crate::metadata::topology::Registration;
use crate::metadata::topology::Topic;
use crate::metadata::topology::Topology;
use crate::metadata::validate;
use crate::metadata::validate::Limits;
use crate::partition::Leadership;
use crate::partition::Registry;
use crate::partition::group_dir;
use crate::replication;
use crate::replication::Durability;
use crate::replication::GroupSpec;
use crate::replication::Replication;

/// Group 0 and its incarnation.
const GROUP: (GroupId, GroupTag) = (GroupId::new(0), GroupTag::new(0));
/// Segments of group 0 are small: each is a checkpoint to start from.
const SEGMENT_BYTES: ByteSize = ByteSize::new(4 << 20);
const SEGMENT_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a new topic's partitions are waited for; a client that comes earlier retries.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(3);
/// Principals whose unused ids are kept at hand.
const BLOCKS_MAX: usize = 4_096;

/// Gives 128 random bits.
pub type Entropy = Arc<dyn Fn() -> u128 + Send + Sync>;

/// What the metadata of this broker is about.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker's data folder.
    pub data_dir: PathBuf,
    /// This broker.
    pub id: BrokerId,
    /// How others see it.
    pub registration: Registration,
    /// How often its data folder was opened.
    pub starts: u64,
    /// The brokers the cluster begins with, this one among them; none: this one alone. Of a joiner,
    /// brokers that may know the cluster.
    pub seeds: Vec<PeerSeed>,
    /// What it allows.
    pub limits: Limits,
    /// Whether group 0 may be made: only while the data folder is new.
    pub may_create: bool,
}

/// What the metadata needs from outside.
pub struct Environment {
    /// Group 0's own replication.
    pub replication: Replication<MetadataMachine>,
    /// The partitions that follow the topology.
    pub registry: Registry,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// Identities of topics.
    pub entropy: Entropy,
    /// Owns the task that follows the topology.
    pub tracker: TaskTracker,
    /// Ends it.
    pub stop: CancellationToken,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// Why the metadata could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder was used before and the log of group 0 is gone.
    #[error(
        "{}: the metadata log is missing from a data folder that was used before, and is never made \
         anew: restore it; if this broker was never ready, remove its data folder and start again", .0.display()
    )]
    Lost(PathBuf),
    /// The disk did not answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log of group 0 could not be opened.
    #[error("metadata log: {0}")]
    Log(#[from] replication::OpenError),
    /// This broker could not be registered.
    #[error("registering this broker: {0}")]
    Register(MetadataError),
    /// The broker stopped meanwhile.
    #[error("stopped while starting")]
    Stopped,
}

/// The cluster's metadata. Clones are cheap and mean the same.
#[derive(Clone)]
pub struct Metadata {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    proposer: Arc<Proposer>,
    view: Arc<View>,
    registry: Registry,
    entropy: Entropy,
    blocks: Mutex<BTreeMap<PrincipalKey, Block>>,
    followed: watch::Receiver<u64>,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("epoch", &self.topology().epoch())
            .finish_non_exhaustive()
    }
}

impl Metadata {
    /// Opens group 0, registers this broker and lets its partitions follow the topology. Returns
    /// once every partition that can be opened is open.
    ///
    /// # Errors
    /// The log of group 0 is missing or cannot be opened, or the broker was stopped.
    pub async fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        let Environment {
            replication,
            registry,
            storage,
            entropy,
            tracker,
            stop,
        } = environment;
        let view = Arc::new(View::new());
        let machine = MetadataMachine::new(Arc::clone(&view));
        let spec = group_spec(&config, &storage)?;
        let group = replication.open(spec, machine).await?;
        let proposer = Arc::new(Proposer::new(config.id, config.starts, group));
        let (follower, followed) = Follower::new(
            config.id,
            Arc::clone(&proposer),
            Arc::clone(&view),
            registry.clone(),
        );
        let blocks = Mutex::default();
        let shared = Shared {
            config,
            proposer,
            view,
            registry,
            entropy,
            blocks,
            followed,
        };
        let metadata = Self {
            shared: Arc::new(shared),
        };
        metadata.until_ready(&stop).await?;
        metadata.register().await.map_err(StartError::Register)?;
        tracker.spawn(follower.run(stop.clone()));
        let epoch = metadata.topology().epoch();
        stop.run_until_cancelled(metadata.until_followed(epoch))
            .await
            .ok_or(StartError::Stopped)?;
        Ok(metadata)
    }

    /// The cluster now.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.shared.view.topology.borrow())
    }

    /// The cluster, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Topology>> {
        self.shared.view.topology.subscribe()
    }

    /// The principal that may use a producer id.
    #[must_use]
    pub fn owner_of(&self, producer: ProducerId) -> Option<PrincipalKey> {
        self.shared.view.state.read().producers.owner_of(producer)
    }

    /// Makes a topic and waits a moment for its partitions.
    ///
    /// # Errors
    /// The request is not valid, the topic exists, or the change was not committed.
    pub async fn create_topic(&self, request: &CreateTopic) -> Result<TopicCreated, MetadataError> {
        let limits = &self.shared.config.limits;
        let name = validate::topic_name(request.name.as_str())?;
        validate::counts(request.partitions, request.replicas, limits)?;
        validate::settings(&request.settings, limits)?;
        if let Some(found) = self.topology().topic_named(&name)
            && request.if_not_exists
        {
            return Ok(created(found, false));
        }
        self.check_room(&name, request)?;
        if request.dry_run {
            let replicas = self.shared.view.state.read().check_create(
                &name,
                request.partitions,
                request.replicas,
            )?;
            let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
            let (id, partitions) = (TopicId::new(0), request.partitions);
            return Ok(TopicCreated {
                id,
                partitions,
                replicas,
                created: false,
            });
        }
        let command = Command::Create {
            id: TopicId::new((self.shared.entropy)()),
            name: name.clone(),
            partitions: request.partitions,
            replicas: request.replicas,
            settings: request.settings,
            segment_bytes: self.shared.registry.segment_bytes(),
        };
        match self.change(&command).await {
            Ok(Effect::Created { id, epoch }) => self.settled(id, epoch).await,
            Err(error) if error.code == ErrorCode::ALREADY_EXISTS && request.if_not_exists => {
                let topology = self.topology();
                let found = topology.topic_named(&name);
                found.map(|topic| created(topic, false)).ok_or(error)
            }
            Ok(_) => Err(unexpected()),
            Err(error) => Err(error),
        }
    }

    /// Makes the topics of these names that do not exist, if this broker does that.
    ///
    /// # Errors
    /// A name is not valid, or a topic could not be made.
    pub async fn auto_create<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), MetadataError> {
        let partitions = self.shared.config.limits.auto_create_partitions;
        if partitions == 0 {
            return Ok(());
        }
        for name in names {
            let name = validate::topic_name(name)?;
            if self.topology().topic_named(&name).is_some() {
                continue;
            }
            let settings = TopicSettings {
                record_bytes_max: TopicSettings::default()
                    .record_bytes_max
                    .min(self.shared.config.limits.record_bytes_max),
                ..TopicSettings::default()
            };
            let request = CreateTopic {
                name: name.to_text(),
                partitions,
                replicas: 0,
                settings,
                if_not_exists: true,
                dry_run: false,
            };
            self.create_topic(&request).await?;
        }
        Ok(())
    }

    /// Removes a topic and, in time, its records.
    ///
    /// # Errors
    /// There is no such topic, or the change was not committed.
    pub async fn delete_topic(&self, request: &DeleteTopic) -> Result<TopicDeleted, MetadataError> {
        let name = validate::topic_name(request.name.as_str())?;
        let topology = self.topology();
        let Some(topic) = topology.topic_named(&name) else {
            return Err(MetadataError::unknown_topic(name.as_str()));
        };
        if request.dry_run {
            return Ok(TopicDeleted { id: topic.id });
        }
        match self.change(&Command::Delete { name }).await? {
            Effect::Deleted { id, epoch } => {
                self.settle(self.until_followed(epoch)).await;
                Ok(TopicDeleted { id })
            }
            _ => Err(unexpected()),
        }
    }

    /// Gives a principal a producer id and epoch, or confirms those it has.
    ///
    /// # Errors
    /// The id is not the principal's or not current, there are too many, or the change was not
    /// committed.
    pub async fn init_producer(
        &self,
        principal: PrincipalKey,
        request: &InitProducer,
    ) -> Result<ProducerGranted, MetadataError> {
        let name = request.name.as_ref().map(|name| name.as_str());
        if let Some((producer, epoch)) = request.resume {
            return self.resume_producer(principal, name, producer, epoch).await;
        }
        let fresh = self.fresh_producer(principal).await?;
        let Some(name) = name else {
            return Ok(ProducerGranted {
                producer: fresh,
                epoch: ProducerEpoch::new(0),
            });
        };
        let command = Command::Claim {
            principal,
            name: name.to_owned(),
            candidate: fresh,
        };
        match self.change(&command).await? {
            Effect::Claimed(named) => Ok(ProducerGranted {
                producer: named.producer,
                epoch: named.epoch,
            }),
            _ => Err(unexpected()),
        }
    }

    /// Asks the log, since what this broker has applied may be of yesterday.
    async fn resume_producer(
        &self,
        principal: PrincipalKey,
        name: Option<&str>,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<ProducerGranted, MetadataError> {
        let command = Command::Resume {
            principal,
            name: name.map(str::to_owned),
            producer,
            epoch,
        };
        match self.change(&command).await? {
            Effect::Claimed(Named { producer, epoch }) => Ok(ProducerGranted { producer, epoch }),
            _ => Err(unexpected()),
        }
    }

    async fn fresh_producer(&self, principal: PrincipalKey) -> Result<ProducerId, MetadataError> {
        let at_hand = self
            .shared
            .blocks
            .lock()
            .get_mut(&principal)
            .and_then(Block::take);
        if let Some(producer) = at_hand {
            return Ok(producer);
        }
        let Effect::Minted(mut block) = self.change(&Command::Mint { principal }).await? else {
            return Err(unexpected());
        };
        let producer = block.take().ok_or_else(unexpected)?;
        let mut blocks = self.shared.blocks.lock();
        // Ids not given out yet are only forgone.
        if blocks.len() >= BLOCKS_MAX {
            blocks.clear();
        }
        blocks.insert(principal, block);
        Ok(producer)
    }

    async fn register(&self) -> Result<(), MetadataError> {
        let config = &self.shared.config;
        let me = PeerSeed {
            id: config.id,
            name: config.registration.name.clone(),
            address: config.registration.peer_address.clone(),
        };
        self.change(&Command::Found {
            voters: vec![founder(config.id)],
            seeds: vec![me],
        })
        .await?;
        self.change(&Command::Register {
            id: config.id,
            registration: config.registration.clone(),
        })
        .await?;
        Ok(())
    }

    pub(super) async fn change(&self, command: &Command) -> Result<Effect, MetadataError> {
        self.shared.proposer.propose(command).await
    }

    /// Whether this broker has room for the partitions of a new topic.
    fn check_room(&self, name: &TopicName, request: &CreateTopic) -> Result<(), MetadataError> {
        let most = self.shared.config.limits.partitions_max;
        let held = self.topology().replicas_of(self.shared.config.id);
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        if held.saturating_add(request.partitions) <= most {
            return Ok(());
        }
        let detail = format!(
            "topic {name} asks for {} partitions, this broker holds {held} of at most {most} \
             (limits.partitions_max)",
            request.partitions
        );
        Err(MetadataError::new(ErrorCode::QUOTA_EXCEEDED, detail))
    }

    async fn settled(&self, id: TopicId, epoch: u64) -> Result<TopicCreated, MetadataError> {
        let topology = self.topology();
        let gone = || MetadataError::new(ErrorCode::STALE_TOPOLOGY, "deleted meanwhile".to_owned());
        let topic = topology.topic(id).ok_or_else(gone)?;
        self.settle(async {
            self.until_followed(epoch).await;
            self.until_led(topic).await;
        })
        .await;
        Ok(created(topic, true))
    }

    /// Waits for the partitions here, but not for ever: whoever comes too early is told to retry.
    async fn settle(&self, partitions: impl Future<Output = ()>) {
        if tokio::time::timeout(SETTLE_TIME_MAX, partitions)
            .await
            .is_err()
        {
            tracing::warn!("the partitions of this broker are slow to follow the topology");
        }
    }

    /// Resolves when this broker's replica of group 0 has ended by itself: nothing can be changed
    /// any more. Cancel-safe.
    pub async fn halted(&self) {
        let mut status = self.shared.proposer.group().watch();
        // A replica that was closed in good order has ended too.
        drop(status.wait_for(|status| status.poisoned).await);
    }

    async fn until_led(&self, topic: &Topic) {
        for number in (0u32..).take(topic.partitions.len()) {
            let partition = self.shared.registry.get(topic.id, PartitionId::new(number));
            if let Some(partition) = partition {
                let mut leadership = partition.leadership();
                drop(leadership.wait_for(Leadership::is_settled).await);
            }
        }
    }

    async fn until_followed(&self, epoch: u64) {
        let mut followed = self.shared.followed.clone();
        // The sender ends with the broker; then nobody waits for partitions any more.
        drop(followed.wait_for(|reached| *reached >= epoch).await);
    }

    async fn until_ready(&self, stop: &CancellationToken) -> Result<(), StartError> {
        let mut ready = self.shared.view.ready.subscribe();
        let waited = stop
            .run_until_cancelled(ready.wait_for(|ready| *ready))
            .await;
        match waited {
            Some(Ok(_)) => Ok(()),
            _ => Err(StartError::Stopped),
        }
    }

    /// The partitions of this broker.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }
}

fn group_spec(config: &Config, storage: &Arc<dyn Storage>) -> Result<GroupSpec, StartError> {
    let (group, tag) = GROUP;
    let dir = group_dir(&config.data_dir, group, tag);
    let exists = log_exists(storage, &dir).map_err(|source| StartError::Io {
        path: dir.clone(),
        source,
    })?;
    if !exists && !config.may_create {
        return Err(StartError::Lost(dir));
    }
    let replica = founder(config.id);
    let log = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        segment_age: SEGMENT_AGE,
    };
    Ok(GroupSpec {
        group,
        tag,
        replica,
        voters: vec![replica],
        holders: vec![(replica, config.id)],
        dir,
        log,
        durability: Durability::Flush,
    })
}

fn created(topic: &Topic, created: bool) -> TopicCreated {
    let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
    TopicCreated {
        id: topic.id,
        partitions: count(topic.partitions.len()),
        replicas: count(topic.replica_count()),
        created,
    }
}

fn unexpected() -> MetadataError {
    MetadataError::new(
        ErrorCode::INTERNAL,
        "a metadata command had another effect".to_owned(),
    )
}
