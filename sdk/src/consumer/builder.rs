//! Opening a subscription.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ErrorCode;
use quorate_protocol::PartitionId;

use crate::client::Handle;
use crate::config::OnTruncated;
use crate::config::Options;
use crate::config::SubscribeOptions;
use crate::config::WhenSlow;
use crate::consumer::Subscription;
use crate::error::Error;
use crate::error::Result;
use crate::position::End;
use crate::position::Start;

/// Opens a [`Subscription`] when awaited; methods are named like the `subscribe.*` options.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct Subscribe {
    handle: Arc<Handle>,
    topic: String,
    options: SubscribeOptions,
    wrong: Option<Error>,
}

impl Subscribe {
    pub(crate) fn new(handle: &Arc<Handle>, topic: &str) -> Self {
        Self {
            options: handle.core.options.subscribe.clone(),
            handle: Arc::clone(handle),
            topic: topic.to_owned(),
            wrong: None,
        }
    }

    /// Sets a `subscribe.*` option by its name; a mistake is told when the builder is awaited.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let mut options = Options {
            subscribe: self.options.clone(),
            ..Options::default()
        };
        match options.set(name, value) {
            Ok(()) => self.options = options.subscribe,
            Err(error) => {
                self.wrong.get_or_insert(error);
            }
        }
        self
    }

    /// Where to start.
    pub fn from(mut self, start: Start) -> Self {
        self.options.from = start;
        self
    }

    /// Where to end.
    pub fn until(mut self, end: End) -> Self {
        self.options.until = end;
        self
    }

    /// Which partitions; otherwise all.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.options.partitions = partitions.into_iter().collect();
        self
    }

    /// How much is received ahead of `next`.
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.options.prefetch_bytes = bytes.max(1 << 16);
        self
    }

    /// What to do when the start is no longer in the log.
    pub fn on_truncated(mut self, choice: OnTruncated) -> Self {
        self.options.on_truncated = choice;
        self
    }

    /// What the broker does when this subscription does not keep up.
    pub fn when_slow(mut self, choice: WhenSlow) -> Self {
        self.options.when_slow = choice;
        self
    }

    /// Orders records of several partitions by append time, waiting at most this long for a
    /// partition that has nothing.
    pub fn ordered_within(mut self, wait: Duration) -> Self {
        self.options.ordered_within = wait;
        self
    }

    async fn open(self) -> Result<Subscription> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        let core = &self.handle.core;
        let topic = core.topic(&self.topic, true).await?;
        let mut partitions: Vec<PartitionId> = match self.options.partitions.is_empty() {
            true => topic.partitions.iter().map(|info| info.partition).collect(),
            false => self
                .options
                .partitions
                .iter()
                .copied()
                .map(PartitionId::new)
                .collect(),
        };
        partitions.sort_unstable();
        partitions.dedup();
        let there = |id: &PartitionId| topic.partitions.iter().any(|info| info.partition == *id);
        if let Some(missing) = partitions.iter().find(|id| !there(id)) {
            let message = format!("there is no partition {missing} of `{}`", self.topic);
            return Err(Error::new(ErrorCode::UNKNOWN_PARTITION, message));
        }
        let mut subscription =
            Subscription::new(Arc::clone(&self.handle), &topic, partitions, self.options);
        subscription.started_in_time().await?;
        Ok(subscription)
    }
}

impl IntoFuture for Subscribe {
    type Output = Result<Subscription>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}
