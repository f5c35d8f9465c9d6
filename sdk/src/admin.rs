//! Creating, listing, describing and deleting topics; what the cluster is made of.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::AckLevel as WireLevel;
use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::CreateTopic as CreateTopicBody;
use quorate_protocol::DeleteTopic as DeleteTopicBody;
use quorate_protocol::DescribeTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::ListTopics;
use quorate_protocol::Offset;
use quorate_protocol::Op;
use quorate_protocol::PartitionDescription as PartitionBody;
use quorate_protocol::PartitionId;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use quorate_protocol::StorageMode;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;
use quorate_protocol::Term;
use quorate_protocol::TopicCreated;
use quorate_protocol::TopicDeleted;
use quorate_protocol::TopicDescription as DescriptionBody;
use quorate_protocol::TopicId;
use quorate_protocol::TopicList;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings as SettingsBody;
use quorate_protocol::TopicSummary as SummaryBody;

use crate::client::Handle;
use crate::config::Flush;
use crate::config::Options;
use crate::config::Storage;
use crate::config::TopicOptions;
use crate::connection::PRIORITY_ADMIN;
use crate::connection::Rejected;
use crate::connection::answer;
use crate::connection::milliseconds;
use crate::error::Error;
use crate::error::Result;
use crate::level::AckLevel;

/// Administration of a cluster.
///
/// ```no_run
/// # async fn create(client: quorate::Client) -> quorate::Result<()> {
/// let created = client.admin().create_topic("audit").partitions(3).if_not_exists().await?;
/// println!("{} partitions", created.partitions);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    handle: Arc<Handle>,
}

/// What creating a topic did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// The name.
    pub topic: String,
    /// The identity; a topic created again has another.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// On how many brokers each is kept.
    pub replicas: u32,
    /// Whether it was created now.
    pub created: bool,
}

/// One topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicSummary {
    /// The name.
    pub name: String,
    /// The identity; a topic created again has another.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// On how many brokers each is kept.
    pub replicas: u32,
    /// How it keeps records.
    pub settings: TopicSettings,
    /// Records committed since its creation.
    pub records: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Live subscriptions.
    pub subscribers: u64,
}

/// How a topic keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSettings {
    /// Kept bytes per partition; 0: no limit.
    pub retention_bytes: u64,
    /// Kept time; zero: for ever.
    pub retention_time: Duration,
    /// Where records are kept.
    pub storage: Storage,
    /// When they reach the disk.
    pub flush: Flush,
    /// What publishers wait for unless they say otherwise.
    pub ack: AckLevel,
    /// How long message ids are remembered.
    pub dedup_window: Duration,
    /// How many are remembered.
    pub dedup_ids_max: u32,
    /// When a segment is closed by age.
    pub segment_age: Duration,
    /// The largest record.
    pub record_bytes_max: u32,
}

/// A topic and each of its partitions.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The topic.
    pub summary: TopicSummary,
    /// Its partitions.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: PartitionId,
    /// Who leads it.
    pub leader: Option<BrokerId>,
    /// Who should lead it.
    pub preferred: Option<BrokerId>,
    /// The leader's term.
    pub term: Term,
    /// Who keeps it.
    pub replicas: Vec<BrokerId>,
    /// Who has all committed records.
    pub in_sync: Vec<BrokerId>,
    /// The first kept offset.
    pub start_offset: Offset,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
    /// Bytes kept.
    pub bytes: u64,
}

/// The cluster as this client sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// Who this client is to it.
    pub principal: String,
    /// The broker that answered.
    pub broker: BrokerId,
    /// All brokers.
    pub brokers: Vec<Broker>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_address: String,
}

impl Admin {
    pub(crate) fn new(handle: &Arc<Handle>) -> Self {
        Self {
            handle: Arc::clone(handle),
        }
    }

    /// Creates a topic; methods are named like the `topic.*` options.
    pub fn create_topic(&self, name: &str) -> CreateTopic {
        CreateTopic {
            admin: self.clone(),
            name: name.to_owned(),
            options: self.handle.core.options.topic.clone(),
            if_not_exists: false,
            dry_run: false,
            wrong: None,
        }
    }

    /// Deletes a topic and everything in it.
    pub fn delete_topic(&self, name: &str) -> DeleteTopic {
        DeleteTopic {
            admin: self.clone(),
            name: name.to_owned(),
            dry_run: false,
        }
    }

    /// All topics this client may see, by name.
    ///
    /// # Errors
    /// No broker answers, or this client may not.
    pub async fn topics(&self) -> Result<Vec<TopicSummary>> {
        let question = ListTopics { internal: false };
        let list: TopicList = self.ask(Op::LIST_TOPICS, &question).await?;
        Ok(list.topics.iter().map(TopicSummary::from).collect())
    }

    /// One topic with its partitions.
    ///
    /// # Errors
    /// There is no such topic, or this client may not.
    pub async fn topic(&self, name: &str) -> Result<TopicDescription> {
        let question = DescribeTopic {
            name: valid(name)?.to_text(),
        };
        let described: DescriptionBody = self.ask(Op::DESCRIBE_TOPIC, &question).await?;
        Ok(TopicDescription {
            summary: TopicSummary::from(&described.summary),
            partitions: described
                .partitions
                .iter()
                .map(PartitionDescription::from)
                .collect(),
        })
    }

    /// The cluster's name and brokers.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn cluster(&self) -> Result<Cluster> {
        let pool = &self.handle.core.pool;
        let link = pool.any().await?;
        let brokers = pool.brokers().into_iter().map(|broker| Broker {
            id: broker.id,
            name: broker.name.into_string(),
            client_address: broker.client_address.into_string(),
        });
        Ok(Cluster {
            name: link.cluster.to_string(),
            principal: link.principal.to_string(),
            broker: link.broker,
            brokers: brokers.collect(),
        })
    }

    /// One question on a stream of its own.
    async fn ask<Answer: Body>(&self, op: Op, question: &impl Body) -> Result<Answer> {
        let core = &self.handle.core;
        let limit = core.options.client.request_timeout;
        let asked = tokio::time::timeout(limit, self.exchange(op, question, limit)).await;
        let Ok(body) = asked else {
            let message = format!("no broker answered within {limit:?}");
            return Err(Error::new(ErrorCode::TIMEOUT, message));
        };
        Answer::from_bytes(&body?).map_err(|error| Error::new(error.code(), error.to_string()))
    }

    async fn exchange(
        &self,
        op: Op,
        question: &impl Body,
        limit: Duration,
    ) -> Result<bytes::Bytes> {
        let core = &self.handle.core;
        let (link, _slot) = core.pool.place(None).await?;
        let open = StreamOpen {
            stream: StreamType::ADMIN,
            topic: TopicId::new(0),
            partition: PartitionId::new(0),
            topology_epoch: core.topology.epoch(),
            deadline_ms: milliseconds(limit),
            on_behalf_of: None,
            params: Blob::empty(),
        };
        let request = Request {
            correlation: 0,
            deadline_ms: milliseconds(limit),
            op,
            body: Blob::new(question.to_bytes())
                .map_err(|error| Error::invalid(error.to_string()))?,
        };
        let (mut sender, mut receiver) = link.open_raw(&open, PRIORITY_ADMIN).await?;
        sender.send(&request).await?;
        sender.finish();
        loop {
            let Some(frame) = receiver.next().await? else {
                return Err(link.end_error());
            };
            match frame.header.kind {
                Kind::STREAM_ACCEPT => {}
                Kind::STREAM_REJECT => {
                    let Rejected { error, .. } = link.rejection(&frame);
                    return Err(error);
                }
                _ => return answer(frame.decode::<Reply>()?),
            }
        }
    }
}

/// Creates a topic when awaited.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct CreateTopic {
    admin: Admin,
    name: String,
    options: TopicOptions,
    if_not_exists: bool,
    dry_run: bool,
    wrong: Option<Error>,
}

impl CreateTopic {
    /// Sets any `topic.*` option by its name; a mistake is told when the builder is awaited.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let mut options = Options {
            topic: self.options.clone(),
            ..Options::default()
        };
        match options.set(name, value) {
            Ok(()) => self.options = options.topic,
            Err(error) => {
                self.wrong.get_or_insert(error);
            }
        }
        self
    }

    /// How many partitions.
    pub fn partitions(mut self, count: u32) -> Self {
        self.options.partitions = count;
        self
    }

    /// On how many brokers each partition is kept; 0: the cluster's default.
    pub fn replicas(mut self, count: u32) -> Self {
        self.options.replicas = count;
        self
    }

    /// How many bytes a partition keeps; 0: no limit.
    pub fn retention_bytes(mut self, bytes: u64) -> Self {
        self.options.retention_bytes = bytes;
        self
    }

    /// How long records are kept; zero: for ever.
    pub fn retention_time(mut self, time: Duration) -> Self {
        self.options.retention_time = time;
        self
    }

    /// Where records are kept.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.options.storage = storage;
        self
    }

    /// When records reach the disk.
    pub fn flush(mut self, flush: Flush) -> Self {
        self.options.flush = flush;
        self
    }

    /// What publishers wait for unless they say otherwise.
    pub fn ack(mut self, level: AckLevel) -> Self {
        self.options.ack = level;
        self
    }

    /// How long message ids are remembered.
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.options.dedup_window = window;
        self
    }

    /// How many message ids are remembered.
    pub fn dedup_ids_max(mut self, count: u32) -> Self {
        self.options.dedup_ids_max = count;
        self
    }

    /// The largest record.
    pub fn record_bytes_max(mut self, bytes: u32) -> Self {
        self.options.record_bytes_max = bytes;
        self
    }

    /// A topic that exists already is fine.
    pub fn if_not_exists(mut self) -> Self {
        self.if_not_exists = true;
        self
    }

    /// Checks whether it would work, and creates nothing.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    async fn create(self) -> Result<CreatedTopic> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        let question = CreateTopicBody {
            name: valid(&self.name)?.to_text(),
            partitions: self.options.partitions,
            replicas: self.options.replicas,
            settings: settings(&self.options),
            if_not_exists: self.if_not_exists,
            dry_run: self.dry_run,
        };
        let created: TopicCreated = self.admin.ask(Op::CREATE_TOPIC, &question).await?;
        Ok(CreatedTopic {
            topic: self.name,
            id: created.id,
            partitions: created.partitions,
            replicas: created.replicas,
            created: created.created,
        })
    }
}

impl IntoFuture for CreateTopic {
    type Output = Result<CreatedTopic>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.create())
    }
}

/// Deletes a topic when awaited.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct DeleteTopic {
    admin: Admin,
    name: String,
    dry_run: bool,
}

impl DeleteTopic {
    /// Checks whether it would work, and deletes nothing.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    async fn delete(self) -> Result<()> {
        let question = DeleteTopicBody {
            name: valid(&self.name)?.to_text(),
            dry_run: self.dry_run,
        };
        let _deleted: TopicDeleted = self.admin.ask(Op::DELETE_TOPIC, &question).await?;
        if !self.dry_run {
            self.admin.handle.core.topology.forget(&self.name);
        }
        Ok(())
    }
}

impl IntoFuture for DeleteTopic {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.delete())
    }
}

fn valid(name: &str) -> Result<TopicName> {
    TopicName::try_from(name).map_err(|error| Error::invalid(error.to_string()))
}

fn settings(options: &TopicOptions) -> SettingsBody {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    SettingsBody {
        retention_bytes: options.retention_bytes,
        retention_time_ms: milliseconds(options.retention_time),
        storage: match options.storage {
            Storage::File => StorageMode::FILE,
            Storage::Memory => StorageMode::MEMORY,
        },
        flush_interval_us: match options.flush {
            Flush::Batch => 0,
            Flush::Interval(every) => u64::try_from(every.as_micros()).unwrap_or(u64::MAX).max(1),
        },
        ack: options.ack.asked_on_the_wire(),
        dedup_window_ms: milliseconds(options.dedup_window),
        dedup_ids_max: options.dedup_ids_max,
        segment_age_ms: milliseconds(options.segment_age),
        record_bytes_max: options.record_bytes_max,
    }
}

impl From<&SettingsBody> for TopicSettings {
    fn from(settings: &SettingsBody) -> Self {
        Self {
            retention_bytes: settings.retention_bytes,
            retention_time: Duration::from_millis(settings.retention_time_ms),
            storage: match settings.storage {
                StorageMode::MEMORY => Storage::Memory,
                _ => Storage::File,
            },
            flush: match settings.flush_interval_us {
                0 => Flush::Batch,
                every => Flush::Interval(Duration::from_micros(every)),
            },
            ack: AckLevel::granted(settings.ack.min(WireLevel::QUORUM)),
            dedup_window: Duration::from_millis(settings.dedup_window_ms),
            dedup_ids_max: settings.dedup_ids_max,
            segment_age: Duration::from_millis(settings.segment_age_ms),
            record_bytes_max: settings.record_bytes_max,
        }
    }
}

impl From<&SummaryBody> for TopicSummary {
    fn from(summary: &SummaryBody) -> Self {
        Self {
            name: summary.name.as_str().to_owned(),
            id: summary.id,
            partitions: summary.partitions,
            replicas: summary.replicas,
            settings: TopicSettings::from(&summary.settings),
            records: summary.records,
            bytes: summary.bytes,
            subscribers: summary.subscribers,
        }
    }
}

impl From<&PartitionBody> for PartitionDescription {
    fn from(described: &PartitionBody) -> Self {
        Self {
            partition: described.partition,
            leader: described.leader,
            preferred: described.preferred,
            term: described.term,
            replicas: described.replicas.to_vec(),
            in_sync: described.in_sync.to_vec(),
            start_offset: described.log_start,
            high_watermark: described.high_watermark,
            bytes: described.bytes,
        }
    }
}
