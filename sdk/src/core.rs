//! What all handles of one client share.

use std::sync::Arc;

use parking_lot::Mutex;
use quorate_protocol::Body;
use quorate_protocol::Bounded;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::InitProducer;
use quorate_protocol::InstanceId;
use quorate_protocol::MetadataReply;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Op;
use quorate_protocol::ProducerGranted;
use quorate_protocol::TopicInfo;
use quorate_protocol::TopicName;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::backoff::random;
use crate::clock::Clock;
use crate::config::Options;
use crate::connection::Dialer;
use crate::error::Error;
use crate::error::Result;
use crate::event::EventBus;
use crate::pool::Pool;
use crate::producer::Budget;
use crate::producer::Producers;
use crate::stats::Counters;
use crate::topology::Topology;

/// Options, connections, knowledge and tasks of one client.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) events: EventBus,
    pub(crate) counters: Counters,
    pub(crate) topology: Arc<Topology>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) tracker: TaskTracker,
    /// Where the client's tasks run.
    pub(crate) executor: Handle,
    pub(crate) cancel: CancellationToken,
    pub(crate) budget: Arc<Budget>,
    pub(crate) producers: Mutex<Producers>,
}

impl Core {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        let clock = Clock::start();
        let events = EventBus::new();
        let topology = Arc::new(Topology::default());
        let tracker = TaskTracker::new();
        let cancel = CancellationToken::new();
        let dialer = Dialer::new(
            options.client.clone(),
            instance(),
            Arc::clone(&topology),
            events.clone(),
        );
        let pool = Arc::new(Pool::new(
            dialer,
            options.client.clone(),
            events.clone(),
            tracker.clone(),
            cancel.clone(),
        ));
        Arc::new(Self {
            budget: Budget::new(options.client.in_flight_bytes_max),
            options,
            clock,
            events,
            counters: Counters::default(),
            topology,
            pool,
            tracker,
            executor: Handle::current(),
            cancel,
            producers: Mutex::default(),
        })
    }

    /// The topic, from memory or from a broker. With `create`, a cluster that creates topics by
    /// itself makes a missing one.
    pub(crate) async fn topic(&self, name: &str, create: bool) -> Result<Arc<TopicInfo>> {
        let valid = TopicName::try_from(name).map_err(|error| Error::invalid(error.to_string()))?;
        if let Some(topic) = self.topology.topic(name) {
            return Ok(topic);
        }
        let question = MetadataRequest {
            topics: Bounded::clipped([valid.to_text()]),
            create,
        };
        let reply: MetadataReply = self.ask(Op::METADATA, &question).await?;
        self.pool.learn_brokers(&reply.brokers);
        self.topology.learn(&reply);
        self.topology.topic(name).ok_or_else(|| {
            let message = format!("there is no topic `{name}`");
            Error::new(ErrorCode::UNKNOWN_TOPIC, message)
                .with_help(format!("quorate topic create {name}"))
        })
    }

    /// A producer's id and epoch.
    pub(crate) async fn init_producer(&self, question: &InitProducer) -> Result<ProducerGranted> {
        self.ask(Op::INIT_PRODUCER, question).await
    }

    /// Asks any broker, again and again within the request timeout while that may help.
    pub(crate) async fn ask<Answer: Body>(&self, op: Op, question: &impl Body) -> Result<Answer> {
        let limit = self.options.client.request_timeout;
        let mut last = None;
        let asking = async {
            let client = &self.options.client;
            let mut backoff = Backoff::new(client.reconnect_min / 4, client.reconnect_max);
            loop {
                let link = self.pool.any().await?;
                let error = match link.request(op, question, limit).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                if !error.is_retryable() && error.code().class() != ErrorClass::Local {
                    return Err(error);
                }
                let wait = backoff.next(random());
                let wait = error.retry_after().unwrap_or(wait);
                last = Some(error);
                tokio::time::sleep(wait).await;
            }
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(last.unwrap_or_else(|| {
                let message = format!("no broker answered within {limit:?}");
                Error::new(ErrorCode::TIMEOUT, message)
            })),
        }
    }
}

/// Identifies this client to brokers across its connections.
fn instance() -> InstanceId {
    let high = getrandom::u64().unwrap_or_default();
    let low = getrandom::u64().unwrap_or_default();
    InstanceId::new(u128::from(high) << 64 | u128::from(low))
}
