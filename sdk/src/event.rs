//! What happens behind the handles: connections, leaders, failed deliveries.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use futures_core::Stream;
use quorate_protocol::BrokerId;
use quorate_protocol::PartitionId;
use quorate_protocol::Term;
use tokio::sync::broadcast;

use crate::error::Error;

/// Something that happened inside a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A connection is ready.
    Connected {
        /// The broker's address.
        address: Arc<str>,
        /// The broker's id.
        broker: BrokerId,
    },
    /// A connection ended.
    Disconnected {
        /// The broker's address.
        address: Arc<str>,
        /// Why.
        error: Error,
    },
    /// No connection is left; the next attempt follows.
    Reconnecting {
        /// Attempts so far.
        attempt: u32,
        /// Why the last one failed.
        error: Error,
    },
    /// Another broker leads a partition.
    LeaderChanged {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// The new leader.
        broker: BrokerId,
        /// Its term.
        term: Term,
    },
    /// A broker asked to slow down.
    Throttled {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// What it said.
        error: Error,
    },
    /// Messages that were accepted could not be delivered.
    DeliveryFailed {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// How many.
        messages: u64,
        /// Why.
        error: Error,
    },
    /// Records of a partition cannot be read now; it is tried again.
    Unavailable {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// Why.
        error: Error,
    },
    /// A subscription fell behind and records were skipped.
    Lagging {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// Committed records not yet received.
        lag: u64,
    },
    /// The session ends soon because this client's certificate does.
    CertificateExpiring {
        /// The broker's address.
        address: Arc<str>,
    },
    /// A broker is going away; its streams move.
    Draining {
        /// The broker's address.
        address: Arc<str>,
    },
    /// The client is closed; the last event.
    Closed,
}

/// How many events wait for a reader before the oldest are dropped.
const EVENTS_MAX: usize = 256;

/// Where events are published inside the client.
#[derive(Debug, Clone)]
pub(crate) struct EventBus {
    sender: broadcast::Sender<Event>,
}

impl EventBus {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(EVENTS_MAX),
        }
    }

    /// Tells all readers; nobody listening is fine.
    pub(crate) fn publish(&self, event: Event) {
        tracing::debug!(?event, "client event");
        let _listeners = self.sender.send(event).unwrap_or_default();
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events {
            next: Box::pin(next_event(self.sender.subscribe())),
        }
    }
}

type NextEvent = Pin<Box<dyn Future<Output = Option<(Event, broadcast::Receiver<Event>)>> + Send>>;

/// The events of a client from now on; a reader that lags behind 256 of them misses the oldest.
pub struct Events {
    next: NextEvent,
}

impl Events {
    /// The next event; none once the client is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

async fn next_event(
    mut receiver: broadcast::Receiver<Event>,
) -> Option<(Event, broadcast::Receiver<Event>)> {
    loop {
        match receiver.recv().await {
            Ok(event) => return Some((event, receiver)),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let ready = std::task::ready!(self.next.as_mut().poll(cx));
        let Some((event, receiver)) = ready else {
            self.next = Box::pin(std::future::ready(None));
            return Poll::Ready(None);
        };
        self.next = Box::pin(next_event(receiver));
        Poll::Ready(Some(event))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
