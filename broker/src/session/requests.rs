//! What requests ask for: topology, producer ids, topics.

use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::Bounded;
use quorate_protocol::ClusterChange;
use quorate_protocol::ClusterStatusRequest;
use quorate_protocol::CreateTopic;
use quorate_protocol::DeleteTopic;
use quorate_protocol::DescribeTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::InitProducer;
use quorate_protocol::ListTopics;
use quorate_protocol::MetadataReply;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Op;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use quorate_protocol::Text;
use quorate_protocol::TopicName;

use crate::auth::Operation;
use crate::metadata;
use crate::metadata::MetadataError;
use crate::metadata::Topic;
use crate::session::connection::Session;
use crate::session::deadline::limited;
use crate::session::stream::Refusal;

/// Topics in one reply.
const TOPICS_PER_REPLY: usize = 1024;

/// Does what a request asks for; always gives a reply.
pub(super) async fn answer(session: &Arc<Session>, request: &Request) -> Reply {
    let deadline = limited(request.deadline_ms);
    let outcome = tokio::select! {
        outcome = execute(session, request) => outcome,
        () = tokio::time::sleep(deadline) => {
            let detail = "not done before the deadline; it may still be: look before repeating it";
            let code = match request.op {
                Op::CREATE_TOPIC | Op::DELETE_TOPIC => ErrorCode::AMBIGUOUS_COMMIT,
                _ => ErrorCode::TIMEOUT,
            };
            Err(Refusal::new(code, detail))
        }
    };
    let outcome = outcome.and_then(|body| {
        Blob::new(body).map_err(|_| {
            let detail = "the answer does not fit one frame: ask for fewer topics";
            Refusal::new(ErrorCode::INVALID_ARGUMENT, detail)
        })
    });
    reply(request.correlation, outcome)
}

/// The reply with this outcome.
pub(super) fn reply(correlation: u64, outcome: Result<Blob<1_000_000>, Refusal>) -> Reply {
    let (refusal, body) = match outcome {
        Ok(body) => (Refusal::new(ErrorCode::OK, ""), body),
        Err(refusal) => (refusal, Blob::empty()),
    };
    Reply {
        correlation,
        code: refusal.code,
        detail: Text::clipped(&refusal.detail),
        retry_after_ms: refusal.retry_after_ms,
        body,
    }
}

async fn execute(session: &Arc<Session>, request: &Request) -> Result<Bytes, Refusal> {
    match request.op {
        Op::METADATA => metadata(session, parse(request)?).await,
        Op::INIT_PRODUCER => init_producer(session, parse(request)?).await,
        Op::CREATE_TOPIC => create_topic(session, parse(request)?).await,
        Op::DELETE_TOPIC => delete_topic(session, parse(request)?).await,
        Op::LIST_TOPICS => list_topics(session, parse(request)?),
        Op::DESCRIBE_TOPIC => describe_topic(session, parse(request)?),
        Op::CLUSTER_STATUS => cluster_status(session, &parse(request)?),
        Op::CLUSTER_CHANGE => change_cluster(session, &parse(request)?).await,
        other => {
            let detail = format!("this broker knows no request {other:?}");
            Err(Refusal::new(ErrorCode::INVALID_ARGUMENT, detail))
        }
    }
}

fn parse<B: Body>(request: &Request) -> Result<B, Refusal> {
    B::from_bytes(request.body.as_bytes())
        .map_err(|error| Refusal::new(error.code(), error.to_string()))
}

impl From<MetadataError> for Refusal {
    fn from(error: MetadataError) -> Self {
        Self::new(error.code, error.detail)
    }
}

async fn metadata(session: &Arc<Session>, wanted: MetadataRequest) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::Describe)?;
    if wanted.create {
        session.check_permission(Operation::Create)?;
        let names = wanted.topics.iter().map(Text::as_str);
        session.service().metadata().auto_create(names).await?;
    }
    let service = session.service();
    let topology = service.topology();
    let topics: Vec<&Arc<Topic>> = if wanted.topics.is_empty() {
        topology.topics().collect()
    } else {
        // Names that do not exist are simply missing in the reply.
        let names = wanted
            .topics
            .iter()
            .filter_map(|name| TopicName::try_from(name.as_str()).ok());
        names
            .filter_map(|name| topology.topic_named(&name))
            .collect()
    };
    if topics.len() > TOPICS_PER_REPLY {
        let detail = format!("there are more than {TOPICS_PER_REPLY} topics: ask for those needed");
        return Err(Refusal::new(ErrorCode::INVALID_ARGUMENT, detail));
    }
    let infos = topics
        .iter()
        .map(|topic| metadata::describe::topic_info(topic, service.metadata().leaders()));
    let reply = MetadataReply {
        epoch: topology.epoch(),
        brokers: metadata::describe::brokers(&topology),
        topics: Bounded::clipped(infos),
    };
    Ok(reply.to_bytes())
}

async fn init_producer(session: &Arc<Session>, wanted: InitProducer) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::InitProducer)?;
    let metadata = session.service().metadata();
    Ok(metadata
        .init_producer(session.principal(), &wanted)
        .await?
        .to_bytes())
}

async fn create_topic(session: &Arc<Session>, wanted: CreateTopic) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::Create)?;
    let created = session.service().metadata().create_topic(&wanted).await?;
    if created.created && !wanted.dry_run {
        let (topic, id, partitions) = (wanted.name.as_str(), created.id, created.partitions);
        tracing::info!(session = %session.id(), topic, %id, partitions, "topic created");
    }
    Ok(created.to_bytes())
}

async fn delete_topic(session: &Arc<Session>, wanted: DeleteTopic) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::Delete)?;
    let deleted = session.service().metadata().delete_topic(&wanted).await?;
    if !wanted.dry_run {
        let (topic, id) = (wanted.name.as_str(), deleted.id);
        tracing::info!(session = %session.id(), topic, %id, "topic deleted");
    }
    Ok(deleted.to_bytes())
}

async fn change_cluster(session: &Arc<Session>, wanted: &ClusterChange) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::ManageCluster)?;
    let changed = session.service().metadata().change_cluster(wanted).await?;
    if changed.changed && !wanted.dry_run {
        let (kind, detail) = (wanted.kind, changed.detail.as_str());
        tracing::info!(session = %session.id(), ?kind, detail, "cluster changed");
    }
    Ok(changed.to_bytes())
}

fn list_topics(session: &Session, _wanted: ListTopics) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::Describe)?;
    let service = session.service();
    let leaders = service.metadata().leaders();
    Ok(metadata::describe::topic_list(&service.topology(), leaders).to_bytes())
}

fn describe_topic(session: &Session, wanted: DescribeTopic) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::Describe)?;
    let service = session.service();
    let name = TopicName::try_from(wanted.name.as_str()).map_err(|error| invalid_name(&error))?;
    let topology = service.topology();
    let Some(topic) = topology.topic_named(&name) else {
        return Err(Refusal::new(
            ErrorCode::UNKNOWN_TOPIC,
            format!("there is no topic {name}"),
        ));
    };
    let leaders = service.metadata().leaders();
    Ok(metadata::describe::topic_description(topic, leaders).to_bytes())
}

fn cluster_status(session: &Session, wanted: &ClusterStatusRequest) -> Result<Bytes, Refusal> {
    session.check_permission(Operation::Describe)?;
    let status = session.service().metadata().cluster_status(wanted);
    Ok(status.to_bytes())
}

fn invalid_name(error: &quorate_protocol::NameError) -> Refusal {
    Refusal::new(ErrorCode::INVALID_ARGUMENT, error.to_string())
}
