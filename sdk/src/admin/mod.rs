//! Creating, listing, describing and deleting topics; what the cluster is made of.

mod cluster;
mod description;
mod topics;

pub use cluster::Alarm;
pub use cluster::BrokerState;
pub use cluster::BrokerStatus;
pub use cluster::ChangeCluster;
pub use cluster::ClusterChanged;
pub use cluster::ClusterHealth;
pub use cluster::ClusterStatus;
pub use cluster::MetadataStatus;
pub use cluster::PartitionCounts;
pub use cluster::PartitionHealth;
pub use description::Broker;
pub use description::Cluster;
pub use description::CreatedTopic;
pub use description::PartitionDescription;
pub use description::TopicDescription;
pub use description::TopicSettings;
pub use description::TopicSummary;
pub use topics::CreateTopic;
pub use topics::DeleteTopic;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::DescribeTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::ListTopics;
use quorate_protocol::Op;
use quorate_protocol::Outcome;
use quorate_protocol::PartitionId;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;
use quorate_protocol::TopicDescription as DescriptionBody;
use quorate_protocol::TopicId;
use quorate_protocol::TopicList;
use quorate_protocol::TopicName;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::backoff::random;
use crate::client::Handle;
use crate::connection::Link;
use crate::connection::PRIORITY_ADMIN;
use crate::connection::Rejected;
use crate::connection::answer;
use crate::connection::milliseconds;
use crate::error::Error;
use crate::error::Result;
use crate::retry::RETRY_MIN;

/// How long a broker may take for an answer before another one is asked.
const ANSWER_LIMIT: Duration = Duration::from_millis(1500);
/// The same for a change, which many brokers may have to agree on.
const CHANGE_LIMIT: Duration = Duration::from_millis(3500);

/// Whether a question may be asked again that may have been understood already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// The answer is the same.
    Freely,
    /// It would be another question then.
    Never,
}

/// What became of a question so far.
#[derive(Debug, Default)]
struct Sent {
    /// A broker may have it and has not answered.
    unanswered: bool,
}

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

impl Admin {
    pub(crate) fn new(handle: &Arc<Handle>) -> Self {
        Self {
            handle: Arc::clone(handle),
        }
    }

    /// Creates a topic; methods are named like the `topic.*` options.
    pub fn create_topic(&self, name: &str) -> CreateTopic {
        CreateTopic::new(self, name)
    }

    /// Deletes a topic and everything in it.
    pub fn delete_topic(&self, name: &str) -> DeleteTopic {
        DeleteTopic::new(self, name)
    }

    /// All topics this client may see, by name.
    ///
    /// # Errors
    /// No broker answers, or this client may not.
    pub async fn topics(&self) -> Result<Vec<TopicSummary>> {
        let question = ListTopics { internal: false };
        let list: TopicList = self.ask(Op::LIST_TOPICS, &question, Again::Freely).await?;
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
        let described: DescriptionBody = self
            .ask(Op::DESCRIBE_TOPIC, &question, Again::Freely)
            .await?;
        Ok(TopicDescription {
            summary: TopicSummary::from(&described.summary),
            partitions: described
                .partitions
                .iter()
                .map(PartitionDescription::from)
                .collect(),
        })
    }

    /// The cluster's name and brokers, as this client's connection knows them.
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

    /// One question on a stream of its own, of another broker if the first one fails and it may
    /// be asked again. What was asked for and not answered may be done.
    async fn ask<Answer: Body>(
        &self,
        op: Op,
        question: &impl Body,
        again: Again,
    ) -> Result<Answer> {
        let limit = self.handle.core.options.client.request_timeout;
        let mut sent = Sent::default();
        let asking = self.ask_until_answered(op, question.to_bytes(), again, &mut sent);
        let asked = timeout(limit, asking).await;
        let body = asked.unwrap_or_else(|_| {
            let message = format!("no broker answered within {limit:?}");
            Err(Error::new(ErrorCode::TIMEOUT, message))
        });
        let body = body.map_err(|error| match sent.unanswered && changes(op) {
            true => error.with_outcome(Outcome::Unknown),
            false => error,
        });
        Answer::from_bytes(&body?).map_err(|error| Error::new(error.code(), error.to_string()))
    }

    async fn ask_until_answered(
        &self,
        op: Op,
        question: Bytes,
        again: Again,
        sent: &mut Sent,
    ) -> Result<Bytes> {
        let core = &self.handle.core;
        let mut backoff = Backoff::new(RETRY_MIN, core.options.client.reconnect_max);
        let mut failed = None;
        loop {
            let mut open_end = false;
            let other = failed.and_then(|failed| core.pool.other_than(failed));
            let asked = self.exchange(op, question.clone(), other, &mut failed, &mut open_end);
            let asked = match again {
                Again::Freely if changes(op) => timeout(CHANGE_LIMIT, asked).await,
                Again::Freely => timeout(ANSWER_LIMIT, asked).await,
                Again::Never => Ok(asked.await),
            };
            sent.unanswered |= open_end;
            let error = match asked {
                Ok(Ok(body)) => return Ok(body),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorCode::TIMEOUT, "no answer came in time"),
            };
            let undone = !open_end && error.outcome() == Outcome::NotApplied;
            if !error.is_retryable() || !(undone || again == Again::Freely) {
                return Err(error);
            }
            let wait = backoff.next(random());
            tokio::time::sleep(error.retry_after().unwrap_or(wait)).await;
        }
    }

    /// `open_end`: a broker may have the question and has not answered it.
    async fn exchange(
        &self,
        op: Op,
        question: Bytes,
        other: Option<Arc<Link>>,
        asked: &mut Option<BrokerId>,
        open_end: &mut bool,
    ) -> Result<Bytes> {
        let core = &self.handle.core;
        let limit = core.options.client.request_timeout;
        let (link, _slot) = core.pool.place(other.map(|link| link.broker)).await?;
        *asked = Some(link.broker);
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
            body: Blob::new(question).map_err(|error| Error::invalid(error.to_string()))?,
        };
        let (mut sender, mut receiver) = link.open_raw(&open, PRIORITY_ADMIN).await?;
        *open_end = true;
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
                    *open_end = false;
                    return Err(error);
                }
                _ => {
                    let reply = frame.decode::<Reply>()?;
                    *open_end = false;
                    return answer(reply);
                }
            }
        }
    }
}

fn changes(op: Op) -> bool {
    matches!(op, Op::CREATE_TOPIC | Op::DELETE_TOPIC | Op::CLUSTER_CHANGE)
}

fn valid(name: &str) -> Result<TopicName> {
    TopicName::try_from(name).map_err(|error| Error::invalid(error.to_string()))
}
