//! The door to the metadata: start, look, change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::BrokerId;
use quorate_protocol::ClusterChange;
use quorate_protocol::ClusterChanged;
use quorate_protocol::ClusterStatus;
use quorate_protocol::ClusterStatusRequest;
use quorate_protocol::CreateTopic;
use quorate_protocol::DeleteTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::GroupId;
use quorate_protocol::InitProducer;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerGranted;
use quorate_protocol::ProducerId;
use quorate_protocol::Term;
use quorate_protocol::TopicCreated;
use quorate_protocol::TopicDeleted;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth::PrincipalKey;
use crate::clock::Clock;
use crate::metadata::command::Command;
use crate::metadata::desk::Desk;
use crate::metadata::error::MetadataError;
use crate::metadata::leaders::Leaders;
use crate::metadata::machine::View;
use crate::metadata::plan::Office;
use crate::metadata::producers::Block;
use crate::metadata::producers::Named;
use crate::metadata::propose::Proposer;
use crate::metadata::report::Vitals;
use crate::metadata::start::Config;
use crate::metadata::start::Entropy;
use crate::metadata::state::Effect;
use crate::metadata::state::REPLICAS_DEFAULT;
use crate::metadata::status::Sight;
use crate::metadata::topology::Topic;
use crate::metadata::topology::Topology;
use crate::metadata::validate;
use crate::partition::Registry;

/// How long a new topic's partitions are waited for; a client that comes earlier retries.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(3);
/// Principals whose unused ids are kept at hand.
const BLOCKS_MAX: usize = 4_096;

/// The cluster's metadata. Clones are cheap and mean the same.
#[derive(Clone)]
pub struct Metadata {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) proposer: Arc<Proposer>,
    pub(super) leaders: Leaders,
    pub(super) vitals: watch::Receiver<Vitals>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) view: Arc<View>,
    pub(super) registry: Registry,
    pub(super) entropy: Entropy,
    pub(super) blocks: Mutex<BTreeMap<PrincipalKey, Block>>,
    pub(super) followed: watch::Receiver<u64>,
    pub(super) office: Office,
    /// What other brokers are answered from.
    pub(super) _desk: Arc<Desk>,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("epoch", &self.topology().epoch())
            .finish_non_exhaustive()
    }
}

impl Metadata {
    pub(super) fn of(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { shared }
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

    /// Who leads which partition.
    #[must_use]
    pub fn leaders(&self) -> &Leaders {
        &self.shared.leaders
    }

    /// The broker that leads a group, and its term.
    #[must_use]
    pub fn leader_of(&self, group: GroupId) -> Option<(BrokerId, Term)> {
        self.shared.leaders.leader_of(group)
    }

    /// Rises whenever another broker leads some partition.
    #[must_use]
    pub fn leaders_changed(&self) -> watch::Receiver<u64> {
        self.shared.leaders.changed()
    }

    /// How the cluster is, as this broker sees it.
    #[must_use]
    pub fn cluster_status(&self, request: &ClusterStatusRequest) -> ClusterStatus {
        let shared = &self.shared;
        let sight = Sight {
            cluster: &shared.config.cluster,
            proposer: &shared.proposer,
            leaders: &shared.leaders,
            topology: self.topology(),
            vitals: *shared.vitals.borrow(),
            damaged: damaged(&shared.registry),
            clock: shared.clock.as_ref(),
        };
        sight.status(request)
    }

    /// Changes the cluster's members, or where partitions are and who leads them; refuses what would
    /// end without a majority. What follows is carried out by those who lead.
    ///
    /// # Errors
    /// The change is refused, with the reason, or it was not committed.
    pub async fn change_cluster(
        &self,
        change: &ClusterChange,
    ) -> Result<ClusterChanged, MetadataError> {
        self.shared.office.change_cluster(change).await
    }

    /// Gives away all leaderships that another broker can take, group 0's included, in this time.
    /// Cancel safe.
    pub async fn hand_over(&self, deadline: Duration) {
        let handed_over = timeout(deadline, self.shared.office.hand_over()).await;
        if handed_over != Ok(true) {
            let led = self.shared.registry.led().into_iter();
            let kept = led.filter(|partition| partition.members().brokers().nth(1).is_some());
            match kept.count() {
                0 => {}
                led => tracing::info!(led, "not every leadership could be given away"),
            }
        }
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
            Ok(Effect::Created { id, epoch }) => Ok(self.settled(id, epoch, request).await),
            Err(error) if error.code == ErrorCode::ALREADY_EXISTS && request.if_not_exists => {
                let found = self.until_named(&name).await;
                found.map(|topic| created(&topic, false)).ok_or(error)
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
        if request.dry_run {
            let topology = self.topology();
            let topic = topology.topic_named(&name);
            let topic = topic.ok_or_else(|| MetadataError::unknown_topic(name.as_str()))?;
            return Ok(TopicDeleted { id: topic.id });
        }
        match self.change(&Command::Delete { name }).await? {
            Effect::Deleted { id, epoch } => {
                self.settle(async {
                    self.until_known(epoch).await;
                    self.until_followed(epoch).await;
                })
                .await;
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

    /// The answer for a topic that was made, once clients can use it. The topology of this broker
    /// may be behind the log for a moment, and the topic may be gone again.
    async fn settled(&self, id: TopicId, epoch: u64, request: &CreateTopic) -> TopicCreated {
        self.settle(async {
            self.until_known(epoch).await;
            if let Some(topic) = self.topology().topic(id) {
                self.until_led(topic).await;
            }
            self.until_followed(epoch).await;
        })
        .await;
        let topology = self.topology();
        let brokers = u32::try_from(topology.brokers().len()).unwrap_or(u32::MAX);
        let asked = || TopicCreated {
            id,
            partitions: request.partitions,
            replicas: match request.replicas {
                0 => REPLICAS_DEFAULT.min(brokers),
                replicas => replicas,
            },
            created: true,
        };
        let topic = topology.topic(id);
        topic.map_or_else(asked, |topic| created(topic, true))
    }

    /// Waits for a topic's partitions, but not for ever: whoever comes too early is told to retry.
    async fn settle(&self, partitions: impl Future<Output = ()>) {
        if timeout(SETTLE_TIME_MAX, partitions).await.is_err() {
            tracing::warn!("partitions are slow to follow the topology");
        }
    }

    /// Resolves when this broker's replica of group 0 has ended by itself: nothing can be changed
    /// any more. Cancel-safe.
    pub async fn halted(&self) {
        let mut status = self.shared.proposer.group().watch();
        // A replica that was closed in good order has ended too.
        drop(status.wait_for(|status| status.poisoned).await);
    }

    /// Resolves when this broker is no member of its cluster any more. Cancel-safe.
    pub async fn removed(&self) {
        let mut removed = self.shared.office.removed.subscribe();
        // The sender lives as long as this.
        drop(removed.wait_for(|removed| *removed).await);
    }

    /// The topic of a name that exists, once this broker knows it too.
    async fn until_named(&self, name: &TopicName) -> Option<Arc<Topic>> {
        let mut topology = self.watch();
        let known = topology.wait_for(|topology| topology.topic_named(name).is_some());
        drop(timeout(SETTLE_TIME_MAX, known).await);
        self.topology().topic_named(name).cloned()
    }

    async fn until_known(&self, epoch: u64) {
        let mut topology = self.watch();
        // The sender lives as long as the metadata.
        drop(
            topology
                .wait_for(|topology| topology.epoch() >= epoch)
                .await,
        );
    }

    /// Resolves once each partition has a leader that takes batches.
    async fn until_led(&self, topic: &Topic) {
        let leaders = &self.shared.leaders;
        let mut changed = leaders.changed();
        let mut partitions = topic.partitions.iter();
        while !partitions.all(|assignment| leaders.is_served(assignment.group)) {
            drop(changed.changed().await);
            partitions = topic.partitions.iter();
        }
    }

    pub(super) async fn until_followed(&self, epoch: u64) {
        let mut followed = self.shared.followed.clone();
        // The sender ends with the broker; then nobody waits for partitions any more.
        drop(followed.wait_for(|reached| *reached >= epoch).await);
    }

    /// The partitions of this broker.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }
}

/// Replicas that only their peers can help, for people.
fn damaged(registry: &Registry) -> Vec<String> {
    let damaged = registry.damaged().into_iter();
    damaged
        .map(|damage| format!("{}: {}", damage.label, damage.why))
        .collect()
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
