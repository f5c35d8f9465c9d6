//! Creating and deleting topics.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use quorate_protocol::CreateTopic as CreateTopicBody;
use quorate_protocol::DeleteTopic as DeleteTopicBody;
use quorate_protocol::Op;
use quorate_protocol::StorageMode;
use quorate_protocol::TopicCreated;
use quorate_protocol::TopicDeleted;
use quorate_protocol::TopicSettings as SettingsBody;

use crate::admin::Admin;
use crate::admin::Again;
use crate::admin::CreatedTopic;
use crate::admin::valid;
use crate::config::Flush;
use crate::config::Options;
use crate::config::Storage;
use crate::config::TopicOptions;
use crate::error::Error;
use crate::error::Result;
use crate::level::AckLevel;

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
    pub(super) fn new(admin: &Admin, name: &str) -> Self {
        Self {
            admin: admin.clone(),
            name: name.to_owned(),
            options: admin.handle.core.options.topic.clone(),
            if_not_exists: false,
            dry_run: false,
            wrong: None,
        }
    }

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
        let again = match self.if_not_exists || self.dry_run {
            true => Again::Freely,
            false => Again::Never,
        };
        let created: TopicCreated = self.admin.ask(Op::CREATE_TOPIC, &question, again).await?;
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
    pub(super) fn new(admin: &Admin, name: &str) -> Self {
        Self {
            admin: admin.clone(),
            name: name.to_owned(),
            dry_run: false,
        }
    }

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
        // Another topic may have the name by then.
        let again = match self.dry_run {
            true => Again::Freely,
            false => Again::Never,
        };
        let _deleted: TopicDeleted = self.admin.ask(Op::DELETE_TOPIC, &question, again).await?;
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
