//! Publishing one message without keeping a producer.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::ErrorCode;
use quorate_protocol::MessageId;
use quorate_protocol::Outcome;

use crate::client::Handle;
use crate::error::Error;
use crate::error::Result;
use crate::level::AckLevel;
use crate::message::Message;
use crate::producer::Producer;
use crate::producer::ProducerBuilder;
use crate::producer::Shared;
use crate::record::Receipt;

/// Producers that are kept for `publish`; the least recently opened goes first.
const KEPT_MAX: usize = 64;

/// The producers behind `Client::publish`, one per topic and level.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    kept: BTreeMap<(String, Option<AckLevel>), Arc<Shared>>,
    /// Every producer of the client, for closing.
    all: Vec<Weak<Shared>>,
}

impl Producers {
    /// Notes a producer, so that closing the client closes it.
    pub(super) fn note(&mut self, producer: &Producer) {
        self.all.retain(|known| known.strong_count() > 0);
        self.all.push(Arc::downgrade(&producer.shared));
    }

    /// Every live producer; none is kept for `publish` any more.
    pub(crate) fn take_all(&mut self) -> Vec<Producer> {
        self.kept.clear();
        let live = self.all.drain(..).filter_map(|known| known.upgrade());
        live.map(|shared| Producer { shared }).collect()
    }

    /// Stops keeping what `publish` opened; the producers end when nobody uses them.
    pub(crate) fn release(&mut self) {
        self.kept.clear();
    }
}

/// Publishes one message when awaited.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct Publish {
    handle: Arc<Handle>,
    topic: String,
    message: Message,
    ack: Option<AckLevel>,
    timeout: Option<Duration>,
}

impl Publish {
    pub(crate) fn new(handle: &Arc<Handle>, topic: &str, message: Message) -> Self {
        Self {
            ack: handle.core.options.producer.ack,
            handle: Arc::clone(handle),
            topic: topic.to_owned(),
            message,
            timeout: None,
        }
    }

    /// What the receipt waits for; otherwise the topic's own level.
    pub fn ack(mut self, level: AckLevel) -> Self {
        self.ack = Some(level);
        self
    }

    /// How long to wait for the receipt; otherwise `producer.delivery_timeout_ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// See [`Message::key`].
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.message = self.message.key(key);
        self
    }

    /// See [`Message::header`].
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.message = self.message.header(name, value);
        self
    }

    /// See [`Message::id`].
    pub fn id(mut self, id: MessageId) -> Self {
        self.message = self.message.id(id);
        self
    }

    /// See [`Message::partition`].
    pub fn partition(mut self, partition: u32) -> Self {
        self.message = self.message.partition(partition);
        self
    }

    async fn publish(self) -> Result<Receipt> {
        let default = self.handle.core.options.producer.delivery_timeout;
        let timeout = self.timeout.unwrap_or(default);
        let topic = self.topic.clone();
        let mut accepted = false;
        let publishing = async {
            let producer = kept(&self.handle, &self.topic, self.ack).await?;
            let delivery = producer.send_within(self.message, timeout).await?;
            accepted = true;
            delivery.await
        };
        // The delivery has its own deadline; a little later nobody can say more.
        let limit = timeout.saturating_add(Duration::from_millis(100));
        let Ok(published) = tokio::time::timeout(limit, publishing).await else {
            let outcome = match accepted {
                true => Outcome::Unknown,
                false => Outcome::NotApplied,
            };
            let message = format!("{topic}: no receipt within {timeout:?}");
            return Err(Error::new(ErrorCode::TIMEOUT, message).with_outcome(outcome));
        };
        published
    }
}

impl IntoFuture for Publish {
    type Output = Result<Receipt>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.publish())
    }
}

/// The producer kept for a topic and level, opened at first use and after it ended.
async fn kept(handle: &Arc<Handle>, topic: &str, ack: Option<AckLevel>) -> Result<Producer> {
    let key = (topic.to_owned(), ack);
    let found = handle.core.producers.lock().kept.get(&key).cloned();
    if let Some(shared) = found.filter(|shared| !shared.has_ended()) {
        return Ok(Producer { shared });
    }
    let mut builder = ProducerBuilder::new(handle, topic).kept_by_client();
    if let Some(ack) = ack {
        builder = builder.ack(ack);
    }
    let producer = builder.await?;
    let mut producers = handle.core.producers.lock();
    let other = producers.kept.get(&key).filter(|other| !other.has_ended());
    if let Some(shared) = other.cloned() {
        return Ok(Producer { shared });
    }
    if producers.kept.len() >= KEPT_MAX {
        producers.kept.pop_first();
    }
    producers.kept.insert(key, Arc::clone(&producer.shared));
    Ok(producer)
}
