//! How the cluster is, and changing what it is made of.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerState as StateCode;
use quorate_protocol::BrokerStatus as BrokerBody;
use quorate_protocol::ClusterChange as ChangeBody;
use quorate_protocol::ClusterChangeKind;
use quorate_protocol::ClusterChanged as ChangedBody;
use quorate_protocol::ClusterHealth as HealthCode;
use quorate_protocol::ClusterStatus as StatusBody;
use quorate_protocol::ClusterStatusRequest;
use quorate_protocol::LogIndex;
use quorate_protocol::Offset;
use quorate_protocol::Op;
use quorate_protocol::PartitionCursor;
use quorate_protocol::PartitionHealth as PartitionBody;
use quorate_protocol::PartitionId;
use quorate_protocol::Term;
use quorate_protocol::Text;

use crate::admin::Admin;
use crate::admin::Again;
use crate::admin::valid;
use crate::error::Error;
use crate::error::Result;

/// How the cluster is, as one of its brokers sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Its name.
    pub cluster: String,
    /// The feature level in use.
    pub feature_level: u16,
    /// How it is, in one word.
    pub health: ClusterHealth,
    /// Its brokers.
    pub brokers: Vec<BrokerStatus>,
    /// The group that keeps brokers, topics and assignments.
    pub metadata: MetadataStatus,
    /// Its partitions, counted.
    pub partitions: PartitionCounts,
    /// What somebody should look at.
    pub alarms: Vec<Alarm>,
}

/// How the cluster is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClusterHealth {
    /// Everything works, with all copies.
    Ok,
    /// Everything works, with fewer copies or a broker less than there should be.
    Degraded,
    /// Some of the cluster cannot be used.
    Down,
}

/// How a broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BrokerState {
    /// It answers.
    Up,
    /// It has not answered for a moment.
    Suspect,
    /// It does not answer.
    Down,
    /// It gives its work away.
    Draining,
    /// It has not read the metadata up to the present yet.
    CatchingUp,
}

/// One broker of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStatus {
    /// Its id.
    pub id: BrokerId,
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: BrokerState,
    /// Where clients reach it.
    pub client_address: String,
    /// Where other brokers reach it.
    pub peer_address: String,
    /// The program's version.
    pub version: String,
    /// Partitions it leads.
    pub leaders: u32,
    /// Partitions it holds.
    pub replicas: u32,
    /// How far its clock is ahead of the answering broker's, in microseconds.
    pub clock_offset_us: i64,
    /// How wrong that may be.
    pub clock_error: Duration,
    /// Free bytes of its data folder's volume.
    pub disk_free_bytes: u64,
    /// When its certificate expires, in seconds since 1970.
    pub cert_not_after_s: u64,
    /// How long it has been running.
    pub uptime: Duration,
}

/// The metadata group, as the answering broker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetadataStatus {
    /// Who leads it, if known.
    pub leader: Option<BrokerId>,
    /// That leader's term.
    pub term: Term,
    /// The last entry the answering broker has applied.
    pub applied: LogIndex,
}

/// The partitions of a cluster, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionCounts {
    /// All.
    pub total: u32,
    /// Those without a leader.
    pub leaderless: u32,
    /// Those with fewer complete copies than they should have.
    pub under_replicated: u32,
}

/// Something somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alarm {
    /// Which alarm it is; the same word each time.
    pub code: String,
    /// The broker concerned.
    pub broker: Option<BrokerId>,
    /// For people.
    pub text: String,
}

/// How a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionHealth {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// Who leads it, if known.
    pub leader: Option<BrokerId>,
    /// The leader's term.
    pub term: Term,
    /// Who holds a copy, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Whose copy is complete.
    pub in_sync: Vec<BrokerId>,
    /// Log entries a copy does not have yet.
    pub lags: Vec<(BrokerId, u64)>,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
}

/// What a change of the cluster did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterChanged {
    /// Whether there was anything to change.
    pub changed: bool,
    /// What happens now, for people.
    pub detail: String,
}

impl Admin {
    /// How the cluster is.
    ///
    /// # Errors
    /// No broker answers, or this client may not.
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        let question = ClusterStatusRequest {
            partitions: false,
            after: None,
        };
        let status: StatusBody = self
            .ask(Op::CLUSTER_STATUS, &question, Again::Freely)
            .await?;
        Ok(ClusterStatus::from(&status))
    }

    /// How each partition of the cluster is, by topic and number.
    ///
    /// # Errors
    /// No broker answers, or this client may not.
    pub async fn cluster_partitions(&self) -> Result<Vec<PartitionHealth>> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let question = ClusterStatusRequest {
                partitions: true,
                after,
            };
            let status: StatusBody = self
                .ask(Op::CLUSTER_STATUS, &question, Again::Freely)
                .await?;
            all.extend(status.partitions.iter().map(PartitionHealth::from));
            match status.partitions.last() {
                Some(last) if status.more => {
                    after = Some(PartitionCursor {
                        topic: last.topic.clone(),
                        partition: last.partition,
                    });
                }
                _ => return Ok(all),
            }
        }
    }

    /// Makes a broker give its leaderships away and get none.
    pub fn drain_broker(&self, broker: BrokerId) -> ChangeCluster {
        ChangeCluster::of_broker(self, ClusterChangeKind::DRAIN, broker)
    }

    /// Lets a drained broker lead again.
    pub fn undrain_broker(&self, broker: BrokerId) -> ChangeCluster {
        ChangeCluster::of_broker(self, ClusterChangeKind::UNDRAIN, broker)
    }

    /// Adds a broker; other brokers reach it at `peer_address`.
    pub fn add_broker(&self, broker: BrokerId, name: &str, peer_address: &str) -> ChangeCluster {
        let mut change = ChangeCluster::of_broker(self, ClusterChangeKind::ADD, broker);
        change.text(name, |change, name| change.name = name);
        change.text(peer_address, |change, address| change.address = address);
        change
    }

    /// Removes a broker, and its copies with it.
    pub fn remove_broker(&self, broker: BrokerId) -> ChangeCluster {
        ChangeCluster::of_broker(self, ClusterChangeKind::REMOVE, broker)
    }

    /// Lets a broker that lost its disk begin anew.
    pub fn replace_broker(&self, broker: BrokerId) -> ChangeCluster {
        ChangeCluster::of_broker(self, ClusterChangeKind::REPLACE, broker)
    }

    /// Makes another broker lead a partition.
    pub fn transfer(&self, topic: &str, partition: PartitionId, broker: BrokerId) -> ChangeCluster {
        let change = ChangeCluster::of_broker(self, ClusterChangeKind::TRANSFER, broker);
        change.of_partition(topic, partition)
    }

    /// Makes other brokers hold a partition, the preferred leader first.
    pub fn move_partition(
        &self,
        topic: &str,
        partition: PartitionId,
        replicas: impl IntoIterator<Item = BrokerId>,
    ) -> ChangeCluster {
        let nobody = BrokerId::new(0);
        let change = ChangeCluster::of_broker(self, ClusterChangeKind::MOVE, nobody);
        let mut change = change.of_partition(topic, partition);
        match Bounded::new(replicas.into_iter().collect()) {
            Ok(replicas) => change.body.replicas = replicas,
            Err(error) => change.mistake(format!("replicas: {error}")),
        }
        change
    }

    /// Switches on the features of the newest version that all brokers run.
    pub fn finalize(&self) -> ChangeCluster {
        ChangeCluster::of_broker(self, ClusterChangeKind::FINALIZE, BrokerId::new(0))
    }
}

/// Changes the cluster when awaited.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct ChangeCluster {
    admin: Admin,
    body: ChangeBody,
    wrong: Option<Error>,
}

impl ChangeCluster {
    fn of_broker(admin: &Admin, kind: ClusterChangeKind, broker: BrokerId) -> Self {
        Self {
            admin: admin.clone(),
            body: ChangeBody {
                kind,
                broker,
                name: Text::default(),
                address: Text::default(),
                topic: Text::default(),
                partition: PartitionId::new(0),
                replicas: Bounded::empty(),
                dry_run: false,
            },
            wrong: None,
        }
    }

    fn of_partition(mut self, topic: &str, partition: PartitionId) -> Self {
        match valid(topic) {
            Ok(topic) => self.body.topic = topic.to_text(),
            Err(error) => self.wrong = Some(error),
        }
        self.body.partition = partition;
        self
    }

    fn text<const N: usize>(&mut self, text: &str, set: impl FnOnce(&mut ChangeBody, Text<N>)) {
        match Text::try_from(text) {
            Ok(text) => set(&mut self.body, text),
            Err(error) => self.mistake(format!("`{text}`: {error}")),
        }
    }

    fn mistake(&mut self, message: String) {
        self.wrong.get_or_insert_with(|| Error::invalid(message));
    }

    /// Checks whether it would work, and changes nothing.
    pub fn dry_run(mut self) -> Self {
        self.body.dry_run = true;
        self
    }

    async fn change(self) -> Result<ClusterChanged> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        // Made twice, these would not be what they were; the others are the same again.
        let once = matches!(
            self.body.kind,
            ClusterChangeKind::ADD | ClusterChangeKind::REPLACE
        );
        let again = match once && !self.body.dry_run {
            true => Again::Never,
            false => Again::Freely,
        };
        let changed: ChangedBody = self
            .admin
            .ask(Op::CLUSTER_CHANGE, &self.body, again)
            .await?;
        Ok(ClusterChanged {
            changed: changed.changed,
            detail: changed.detail.into_string(),
        })
    }
}

impl IntoFuture for ChangeCluster {
    type Output = Result<ClusterChanged>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.change())
    }
}

impl From<&StatusBody> for ClusterStatus {
    fn from(status: &StatusBody) -> Self {
        Self {
            cluster: status.cluster.as_str().to_owned(),
            feature_level: status.feature_level,
            health: match status.health {
                HealthCode::OK => ClusterHealth::Ok,
                HealthCode::DOWN => ClusterHealth::Down,
                _ => ClusterHealth::Degraded,
            },
            brokers: status.brokers.iter().map(BrokerStatus::from).collect(),
            metadata: MetadataStatus {
                leader: status.metadata_leader,
                term: status.metadata_term,
                applied: status.metadata_applied,
            },
            partitions: PartitionCounts {
                total: status.total,
                leaderless: status.leaderless,
                under_replicated: status.under_replicated,
            },
            alarms: status
                .alarms
                .iter()
                .map(|alarm| Alarm {
                    code: alarm.code.as_str().to_owned(),
                    broker: alarm.broker,
                    text: alarm.text.as_str().to_owned(),
                })
                .collect(),
        }
    }
}

impl From<&BrokerBody> for BrokerStatus {
    fn from(status: &BrokerBody) -> Self {
        Self {
            id: status.id,
            name: status.name.as_str().to_owned(),
            state: match status.state {
                StateCode::UP => BrokerState::Up,
                StateCode::DOWN => BrokerState::Down,
                StateCode::DRAINING => BrokerState::Draining,
                StateCode::CATCHING_UP => BrokerState::CatchingUp,
                _ => BrokerState::Suspect,
            },
            client_address: status.client_address.as_str().to_owned(),
            peer_address: status.peer_address.as_str().to_owned(),
            version: status.version.as_str().to_owned(),
            leaders: status.leaders,
            replicas: status.replicas,
            clock_offset_us: status.clock_offset_us,
            clock_error: Duration::from_micros(status.clock_error_us),
            disk_free_bytes: status.disk_free_bytes,
            cert_not_after_s: status.cert_not_after_s,
            uptime: Duration::from_secs(status.uptime_s),
        }
    }
}

impl From<&PartitionBody> for PartitionHealth {
    fn from(health: &PartitionBody) -> Self {
        Self {
            topic: health.topic.as_str().to_owned(),
            partition: health.partition,
            leader: health.leader,
            term: health.term,
            replicas: health.replicas.to_vec(),
            in_sync: health.in_sync.to_vec(),
            lags: health.lags.to_vec(),
            high_watermark: health.high_watermark,
        }
    }
}
