//! Creating, listing, describing and deleting topics; what the cluster is made of.

mod description;
mod topics;

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

use quorate_protocol::Blob;
use quorate_protocol::Body;
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

use crate::client::Handle;
use crate::connection::PRIORITY_ADMIN;
use crate::connection::Rejected;
use crate::connection::answer;
use crate::connection::milliseconds;
use crate::error::Error;
use crate::error::Result;

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

    /// One question on a stream of its own. What was asked for and not answered may be done.
    async fn ask<Answer: Body>(&self, op: Op, question: &impl Body) -> Result<Answer> {
        let core = &self.handle.core;
        let limit = core.options.client.request_timeout;
        let mut open_end = false;
        let asked = tokio::time::timeout(limit, self.exchange(op, question, &mut open_end)).await;
        let body = asked.unwrap_or_else(|_| {
            let message = format!("no broker answered within {limit:?}");
            Err(Error::new(ErrorCode::TIMEOUT, message))
        });
        let changes = matches!(op, Op::CREATE_TOPIC | Op::DELETE_TOPIC);
        let body = body.map_err(|error| match open_end && changes {
            true => error.with_outcome(Outcome::Unknown),
            false => error,
        });
        Answer::from_bytes(&body?).map_err(|error| Error::new(error.code(), error.to_string()))
    }

    /// `open_end`: a broker may have the question and has not answered it.
    async fn exchange(
        &self,
        op: Op,
        question: &impl Body,
        open_end: &mut bool,
    ) -> Result<bytes::Bytes> {
        let core = &self.handle.core;
        let limit = core.options.client.request_timeout;
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

fn valid(name: &str) -> Result<TopicName> {
    TopicName::try_from(name).map_err(|error| Error::invalid(error.to_string()))
}
