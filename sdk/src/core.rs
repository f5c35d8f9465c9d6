//! What all handles of one client share.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

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
use crate::connection::Link;
use crate::error::Error;
use crate::error::Result;
use crate::event::EventBus;
use crate::pool::Pool;
use crate::producer::Budget;
use crate::producer::Producers;
use crate::stats::Counters;
use crate::topology::Topology;

/// How long a broker may be silent before others are asked about it.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);
/// How long the others may take.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_secs(1);

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
    /// One question about a topic at a time: many may wait for the same answer.
    asking: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Topics whose leader is being asked about.
    pub(crate) probing: Mutex<BTreeSet<String>>,
}

impl Core {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        let clock = Clock::start();
        let events = EventBus::new();
        let topology = Arc::new(Topology::new(events.clone()));
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
            asking: Mutex::default(),
            probing: Mutex::default(),
        })
    }

    /// The topic, from memory or from a broker. With `create`, a cluster that creates topics by
    /// itself makes a missing one.
    pub(crate) async fn topic(&self, name: &str, create: bool) -> Result<Arc<TopicInfo>> {
        let valid = TopicName::try_from(name).map_err(|error| Error::invalid(error.to_string()))?;
        if let Some(topic) = self.topology.topic(name) {
            return Ok(topic);
        }
        let asking = Arc::clone(self.asking.lock().entry(name.to_owned()).or_default());
        let _one_at_a_time = asking.lock().await;
        if let Some(topic) = self.topology.topic(name) {
            return Ok(topic);
        }
        let question = MetadataRequest {
            topics: Bounded::clipped([valid.to_text()]),
            create,
        };
        let reply: MetadataReply = self.ask(Op::METADATA, &question, Repeat::Hedged).await?;
        if let Some(topic) = self.learn(name, &reply) {
            return Ok(topic);
        }
        if reply.epoch < self.topology.epoch() {
            let message = format!("a broker that lags behind does not know the topic `{name}` yet");
            return Err(Error::new(ErrorCode::STALE_TOPOLOGY, message));
        }
        self.topology.forget(name);
        let message = format!("there is no topic `{name}`");
        Err(Error::new(ErrorCode::UNKNOWN_TOPIC, message)
            .with_help(format!("quorate topic create {name}")))
    }

    /// Takes in an answer about a topic; the topic, if it is there.
    pub(crate) fn learn(&self, name: &str, reply: &MetadataReply) -> Option<Arc<TopicInfo>> {
        self.pool.learn_brokers(&reply.brokers);
        self.topology.learn(reply);
        // Every broker is to tell when it changes.
        self.pool.wake_keeper();
        let there = |topic: &TopicInfo| topic.name.as_str() == name;
        let found = reply.topics.iter().any(there);
        self.topology.picture(name).filter(|_| found)
    }

    /// A producer's id and epoch.
    pub(crate) async fn init_producer(&self, question: &InitProducer) -> Result<ProducerGranted> {
        // Claiming a name twice would fence the first claim; other ids are plenty.
        let repeat = match question.name.is_some() && question.resume.is_none() {
            true => Repeat::Single,
            false => Repeat::Hedged,
        };
        self.ask(Op::INIT_PRODUCER, question, repeat).await
    }

    /// Asks any broker, again and again within the request timeout while that may help.
    async fn ask<Answer: Body>(
        &self,
        op: Op,
        question: &impl Body,
        repeat: Repeat,
    ) -> Result<Answer> {
        let limit = self.options.client.request_timeout;
        let mut last = None;
        let asking = async {
            let client = &self.options.client;
            let mut backoff = Backoff::new(client.reconnect_min / 4, client.reconnect_max);
            let mut failed = None;
            loop {
                let link = match failed.and_then(|failed| self.pool.other_than(failed)) {
                    Some(other) => other,
                    None => self.pool.any().await?,
                };
                let error = match self.exchange(&link, op, question, repeat).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                if !error.is_retryable() && error.code().class() != ErrorClass::Local {
                    return Err(error);
                }
                failed = Some(link.broker);
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

    /// One question; if the broker is slow to answer, perhaps to another broker as well.
    async fn exchange<Answer: Body>(
        &self,
        link: &Link,
        op: Op,
        question: &impl Body,
        repeat: Repeat,
    ) -> Result<Answer> {
        let limit = self.options.client.request_timeout;
        let asked = link.request(op, question, limit);
        tokio::pin!(asked);
        match tokio::time::timeout(PATIENCE, &mut asked).await {
            Ok(answer) => return answer,
            Err(_) => self.pool.suspect(link.broker),
        }
        let other = match repeat {
            Repeat::Hedged => self.pool.other_than(link.broker),
            Repeat::Single => None,
        };
        let Some(other) = other else {
            return asked.await;
        };
        let also = other.request(op, question, limit);
        tokio::pin!(also);
        tokio::select! {
            answer = &mut asked => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => also.await,
            },
            answer = &mut also => match answer {
                Ok(answer) => Ok(answer),
                Err(_) => asked.await,
            },
        }
    }
}

/// Whether a question may be asked of two brokers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// If the first is slow to answer.
    Hedged,
    /// Never.
    Single,
}

/// Identifies this client to brokers across its connections.
fn instance() -> InstanceId {
    let high = getrandom::u64().unwrap_or_default();
    let low = getrandom::u64().unwrap_or_default();
    InstanceId::new(u128::from(high) << 64 | u128::from(low))
}
