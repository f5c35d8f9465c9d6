//! What all client connections of a broker share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::PartitionId;
use quorate_protocol::ProducerId;
use quorate_protocol::SessionId;
use quorate_protocol::TopicId;
use tokio::sync::watch;

use crate::auth::PrincipalKey;
use crate::clock::Clock;
use crate::config::Limits;
use crate::metadata::Metadata;
use crate::metadata::Topology;
use crate::partition::Partition;
use crate::partition::Registry;
use crate::session::credit::Budget;
use crate::session::greet;
use crate::session::leaders;
use crate::session::leaders::Lead;
use crate::session::leaders::News;
use crate::transport::Connection;

/// What the service is made of.
#[derive(Debug)]
pub struct Parts {
    /// The cluster's name.
    pub cluster: String,
    /// This broker.
    pub broker: BrokerId,
    /// What clients may use.
    pub limits: Limits,
    /// Memory that may be promised to producers.
    pub memory: ByteSize,
    /// Tells this start of the broker from all others; sessions are named after it.
    pub incarnation: u64,
    /// Topics, brokers and producer ids.
    pub metadata: Metadata,
    /// The partitions of this broker.
    pub partitions: Registry,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Serves client connections.
pub struct Service {
    parts: Parts,
    memory: Arc<Budget>,
    sessions: AtomicU64,
    drain: watch::Sender<Option<Duration>>,
    leaders: watch::Sender<Arc<News>>,
    refuses_publishing: AtomicBool,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("broker", &self.parts.broker)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// A service that accepts clients.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            memory: Budget::new(parts.memory.get()),
            parts,
            sessions: AtomicU64::new(0),
            drain: watch::Sender::new(None),
            leaders: watch::Sender::default(),
            refuses_publishing: AtomicBool::new(false),
        })
    }

    /// Serves one connection until it is gone. The caller gives it a task of its own.
    pub async fn serve(self: Arc<Self>, connection: Connection) {
        greet::serve(self, connection).await;
    }

    /// Asks all clients to go, now and in the future; what they have begun may finish within
    /// `deadline`. Their connections end by themselves.
    pub fn drain(&self, deadline: Duration) {
        self.drain.send_replace(Some(deadline));
    }

    /// Tells clients of leaders that change, for as long as the broker runs.
    pub async fn follow_leaders(self: Arc<Self>) {
        leaders::follow(&self, &self.leaders).await;
    }

    /// Refuses batches, or accepts them again: the disk is full, or is not any more.
    pub fn refuse_publishing(&self, refuse: bool) {
        self.refuses_publishing.store(refuse, Ordering::Relaxed);
    }

    /// Whether batches are refused because the disk is full.
    pub(super) fn refuses_publishing(&self) -> bool {
        self.refuses_publishing.load(Ordering::Relaxed)
    }

    /// Whether clients are asked to go.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.borrow().is_some()
    }

    /// Resolves when clients are asked to go, with the time they have.
    pub(super) async fn drained(&self) -> Duration {
        let mut drain = self.drain.subscribe();
        let asked = drain
            .wait_for(Option::is_some)
            .await
            .map(|deadline| *deadline);
        asked.ok().flatten().unwrap_or_default()
    }

    /// A name for one more session.
    pub(super) fn next_session(&self) -> SessionId {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        SessionId::new(u128::from(self.parts.incarnation) << 64 | u128::from(number))
    }

    /// The partition, if this broker holds it.
    pub(super) fn partition(&self, topic: TopicId, partition: PartitionId) -> Option<Partition> {
        self.parts.partitions.get(topic, partition)
    }

    /// Who leads a group, as far as this broker knows, and in which term.
    pub(super) fn lead(&self, group: GroupId) -> Option<Lead> {
        self.parts.metadata.leader_of(group)
    }

    /// Rises when somebody else leads a partition than before.
    pub(super) fn leader_changes(&self) -> watch::Receiver<u64> {
        self.parts.metadata.leaders().changed()
    }

    /// Topics whose leaders changed.
    pub(super) fn leader_news(&self) -> watch::Receiver<Arc<News>> {
        self.leaders.subscribe()
    }

    /// Brokers that clients of this one may go to, best first.
    pub(super) fn successors(&self) -> Vec<BrokerId> {
        let topology = self.topology();
        let others = topology.brokers().iter().filter(|(id, broker)| {
            **id != self.parts.broker && broker.may_lead() && !broker.client_address.is_empty()
        });
        others.map(|(id, _)| *id).collect()
    }

    /// The principal a producer id was given to.
    pub(super) fn owner_of(&self, producer: ProducerId) -> Option<PrincipalKey> {
        self.parts.metadata.owner_of(producer)
    }

    /// Topics and brokers now.
    pub(super) fn topology(&self) -> Arc<Topology> {
        self.parts.metadata.topology()
    }

    /// Topics, brokers and producer ids.
    pub(super) fn metadata(&self) -> &Metadata {
        &self.parts.metadata
    }

    /// What clients may use.
    pub(super) fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    /// Memory promised to producers.
    pub(super) fn memory(&self) -> &Arc<Budget> {
        &self.memory
    }

    /// Time.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    /// The cluster's name.
    pub(super) fn cluster(&self) -> &str {
        &self.parts.cluster
    }

    /// This broker.
    pub(super) fn broker(&self) -> BrokerId {
        self.parts.broker
    }

    /// The largest batch.
    pub(super) fn batch_bytes_max(&self) -> u32 {
        u32::try_from(self.parts.limits.batch_bytes_max.get()).unwrap_or(u32::MAX)
    }
}
