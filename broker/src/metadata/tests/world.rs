//! A broker without sessions: replication, registry and metadata over one volume.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_protocol::BatchBuilder;
use quorate_protocol::BatchIdentity;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::CreateTopic;
use quorate_protocol::DraftBatch;
use quorate_protocol::MessageId;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::RecordDraft;
use quorate_protocol::Sequence;
use quorate_protocol::StorageId;
use quorate_protocol::Text;
use quorate_protocol::TopicCreated;
use quorate_protocol::TopicId;
use quorate_protocol::TopicSettings;
use quorate_storage::Storage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::clock::HybridClock;
use crate::config::PeerSeed;
use crate::metadata::Config;
use crate::metadata::Environment;
use crate::metadata::Founding;
use crate::metadata::Limits;
use crate::metadata::Metadata;
use crate::metadata::MetadataMachine;
use crate::metadata::Registration;
use crate::metadata::StartError;
use crate::metadata::Vitals;
use crate::partition;
use crate::partition::AppendError;
use crate::partition::Partition;
use crate::partition::PartitionMachine;
use crate::partition::Receipt;
use crate::partition::Registry;
use crate::replication;
use crate::replication::Replication;
use crate::replication::ReplicationConfig;
use crate::replication::StateMachine;

pub(super) const BROKER: BrokerId = BrokerId::new(1);

/// Wall time that tests move.
#[derive(Debug)]
pub(super) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(super) fn advance(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.now_micros())
    }
}

/// What outlives a broker.
#[derive(Clone)]
pub(super) struct World {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) root: PathBuf,
    pub(super) clock: Arc<ManualClock>,
    entropy: Arc<AtomicU64>,
    starts: Arc<AtomicU64>,
}

/// One life of a broker.
pub(super) struct Node {
    pub(super) metadata: Metadata,
    pub(super) registry: Registry,
    pub(super) clock: Arc<ManualClock>,
    groups: Replication<PartitionMachine>,
    group_zero: Replication<MetadataMachine>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl World {
    pub(super) fn new(storage: Arc<dyn Storage>, root: &Path) -> Self {
        for dir in ["", "g", "state"] {
            match storage.create_dir(&root.join(dir)) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    panic!("{error}")
                }
                _ => storage.sync_dir(root).unwrap(),
            }
        }
        let clock = Arc::new(ManualClock(AtomicU64::new(1_700_000_000_000_000)));
        Self {
            storage,
            root: root.into(),
            clock,
            entropy: Arc::default(),
            starts: Arc::default(),
        }
    }

    pub(super) async fn start(&self) -> Node {
        self.try_start(true).await.unwrap()
    }

    pub(super) async fn restart(&self) -> Node {
        self.try_start(false).await.unwrap()
    }

    pub(super) async fn try_start(&self, fresh: bool) -> Result<Node, StartError> {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let groups = self.replication("state/1.log", &tracker);
        let group_zero = self.replication("state/0.log", &tracker);
        let config = partition::Config {
            data_dir: self.root.clone(),
            segment_bytes: ByteSize::new(1 << 20),
            batch_bytes_max: ByteSize::new(1 << 20),
            retention_interval: Duration::from_secs(3_600),
        };
        let environment = partition::Environment {
            replication: groups.clone(),
            storage: Arc::clone(&self.storage),
            clock: self.clock.clone(),
            tracker: tracker.clone(),
            stop: stop.clone(),
        };
        let registry = Registry::new(config, environment);
        let entropy = Arc::clone(&self.entropy);
        let environment = Environment {
            replication: group_zero.clone(),
            registry: registry.clone(),
            peers: None,
            vitals: watch::channel(Vitals::default()).1,
            clock: self.clock.clone(),
            storage: Arc::clone(&self.storage),
            entropy: Arc::new(move || u128::from(entropy.fetch_add(1, Ordering::Relaxed)) + 7),
            tracker: tracker.clone(),
            stop: stop.clone(),
        };
        let metadata = Metadata::start(self.config(fresh), environment).await?;
        let clock = self.clock.clone();
        Ok(Node {
            metadata,
            registry,
            clock,
            groups,
            group_zero,
            stop,
            tracker,
        })
    }

    fn config(&self, fresh: bool) -> Config {
        let seed = PeerSeed {
            id: BROKER,
            name: "broker-1".into(),
            address: "127.0.0.1:4748".into(),
        };
        Config {
            cluster: "test".into(),
            data_dir: self.root.clone(),
            id: BROKER,
            registration: Registration {
                name: "broker-1".into(),
                client_address: "127.0.0.1:4747".into(),
                peer_address: "127.0.0.1:4748".into(),
                storage: StorageId::new(1),
            },
            starts: self.starts.fetch_add(1, Ordering::Relaxed) + 1,
            founding: Some(Founding::found(BROKER, vec![seed])),
            seeds: Vec::new(),
            fresh,
            preferred_leader: true,
            limits: Limits {
                partitions_per_topic_max: 16,
                partitions_max: 40,
                record_bytes_max: 1 << 20,
                auto_create_partitions: 2,
            },
        }
    }

    fn replication<M: StateMachine>(
        &self,
        state_log: &str,
        tracker: &TaskTracker,
    ) -> Replication<M> {
        let clock = HybridClock::new(self.clock.clone());
        let environment = replication::Environment {
            storage: Arc::clone(&self.storage),
            now: Arc::new(move || clock.tick()),
            tracker: tracker.clone(),
            state_log: self.root.join(state_log),
            peers: None,
        };
        Replication::start(environment, ReplicationConfig::default()).unwrap()
    }
}

impl Node {
    pub(super) async fn create(&self, name: &str, partitions: u32) -> TopicCreated {
        self.metadata
            .create_topic(&create(name, partitions))
            .await
            .unwrap()
    }

    pub(super) fn partition(&self, topic: TopicId, number: u32) -> Partition {
        self.registry
            .get(topic, PartitionId::new(number))
            .expect("the partition is open")
    }

    /// An orderly stop.
    pub(super) async fn shutdown(self) {
        self.stop.cancel();
        self.groups.shutdown().await;
        self.group_zero.shutdown().await;
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends what follows the topology: what is decided from here on is not carried out.
    pub(super) fn stop_following(&self) {
        self.stop.cancel();
    }

    /// Ends the tasks; nothing more is written, and nothing is closed in order.
    pub(super) fn kill(self) {
        self.stop.cancel();
    }
}

pub(super) fn create(name: &str, partitions: u32) -> CreateTopic {
    CreateTopic {
        name: Text::try_from(name).unwrap(),
        partitions,
        replicas: 0,
        settings: TopicSettings::default(),
        if_not_exists: false,
        dry_run: false,
    }
}

/// A batch of records numbered from `base`, with ids if `ids` is set.
pub(super) fn draft(topic: TopicId, base: u64, values: &[String], ids: bool) -> DraftBatch {
    let mut builder = BatchBuilder::new(4_096);
    for (number, value) in (u128::from(base)..).zip(values) {
        let record = RecordDraft {
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
            timestamp_us: 1,
            id: ids.then(|| MessageId::new(number + 1)),
        };
        builder.push(&record).unwrap();
    }
    builder.finish(BatchIdentity {
        producer_id: ProducerId::new(1_024),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(base),
        topic_hash: topic.hash32(),
    })
}

pub(super) async fn publish(
    partition: &Partition,
    draft: DraftBatch,
) -> Result<Receipt, AppendError> {
    partition.append(draft, None, false).await?.await
}

/// All records of a partition, by offset.
pub(super) async fn contents(partition: &Partition) -> Vec<(Offset, String)> {
    let end = *partition.high_watermark().borrow();
    let mut next = *partition.log_start().borrow();
    let mut found = Vec::new();
    while next < end {
        for batch in partition.read(next, 64 << 10).await.unwrap() {
            let payload = batch.payload();
            let count = batch.record_count();
            let records = quorate_protocol::records(&payload, count, batch.base_timestamp_us());
            for (offset, record) in (batch.base_offset().get()..).zip(records) {
                let value = record.unwrap().value.unwrap().to_vec();
                found.push((Offset::new(offset), String::from_utf8(value).unwrap()));
            }
            next = batch.next_offset();
        }
    }
    found
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("nothing hangs");
    });
}
