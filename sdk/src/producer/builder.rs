//! Opening a producer.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use quorate_protocol::Codec;
use quorate_protocol::InitProducer;
use quorate_protocol::StorageMode;
use quorate_protocol::Text;
use quorate_protocol::TopicSettings;

use crate::backoff::random;
use crate::client::Handle;
use crate::config::Compression;
use crate::config::Options;
use crate::config::Partitioner;
use crate::config::ProducerOptions;
use crate::error::Error;
use crate::error::Result;
use crate::level::AckLevel;
use crate::producer::Producer;
use crate::producer::Shared;
use crate::producer::batcher::Limits;
use crate::producer::budget::Room;
use crate::producer::lane::Common;
use crate::producer::partitioner::Chooser;
use crate::producer::report::ReportSink;

/// What headers and lengths may add to a message of the allowed size.
const RECORD_FRAMING_BYTES: usize = 1024;

/// Opens a [`Producer`] when awaited; methods are named like the `producer.*` options.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct ProducerBuilder {
    handle: Arc<Handle>,
    topic: String,
    options: ProducerOptions,
    /// The producer keeps the client alive.
    keeps_client: bool,
    sink: Option<Arc<dyn ReportSink>>,
    wrong: Option<Error>,
}

impl ProducerBuilder {
    pub(crate) fn new(handle: &Arc<Handle>, topic: &str) -> Self {
        Self {
            options: handle.core.options.producer.clone(),
            handle: Arc::clone(handle),
            topic: topic.to_owned(),
            keeps_client: true,
            sink: None,
            wrong: None,
        }
    }

    /// For the client's own use: many may share the options, so no name, and the client does not
    /// live for it.
    pub(super) fn kept_by_client(mut self) -> Self {
        self.options.name = None;
        self.keeps_client = false;
        self
    }

    /// Sets a `producer.*` option by its name; a mistake is told when the builder is awaited.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let mut options = Options {
            producer: self.options.clone(),
            ..Options::default()
        };
        match options.set(name, value) {
            Ok(()) => self.options = options.producer,
            Err(error) => {
                self.wrong.get_or_insert(error);
            }
        }
        self
    }

    /// Who hears how messages ended that are sent with a tag.
    pub fn reports_to(mut self, sink: Arc<dyn ReportSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// What an acknowledgement waits for; otherwise the topic's own level.
    pub fn ack(mut self, level: AckLevel) -> Self {
        self.options.ack = Some(level);
        self
    }

    /// How long a batch waits for more messages; zero: only while others are in flight.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.linger = linger;
        self
    }

    /// The size of a full batch.
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.options.batch_bytes_max = bytes.clamp(4 << 10, 8 << 20);
        self
    }

    /// How much may be accepted and not yet answered.
    pub fn in_flight_bytes_max(mut self, bytes: usize) -> Self {
        self.options.in_flight_bytes_max = bytes.max(1 << 16);
        self
    }

    /// How batches are compressed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.compression = compression;
        self
    }

    /// How messages get a partition.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.options.partitioner = partitioner;
        self
    }

    /// How long a message may take from acceptance to its receipt, retries included.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.delivery_timeout = timeout;
        self
    }

    /// A name that only one producer has at a time: a newer one fences the older.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    async fn open(self) -> Result<Producer> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        let core = Arc::clone(&self.handle.core);
        let name = match &self.options.name {
            Some(name) => Some(
                Text::try_from(name.as_str())
                    .map_err(|error| Error::invalid(format!("producer name: {error}")))?,
            ),
            None => None,
        };
        let topic = core.topic(&self.topic, true).await?;
        let question = InitProducer {
            name: name.clone(),
            resume: None,
        };
        let producer = core.init_producer(&question).await?;
        let link = core.pool.any().await?;
        let batch_bytes_max = self.options.batch_bytes_max.min(link.batch_bytes_max());
        let topic_max = usize::try_from(topic.settings.record_bytes_max).unwrap_or(usize::MAX);
        let room = Room::new(self.options.in_flight_bytes_max, &core.budget);
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let common = Common {
            topic_id: topic.id,
            level: match self.options.ack {
                Some(level) => level,
                None => AckLevel::granted(topic.settings.ack),
            },
            committed: committed_level(&topic.settings),
            codec: match self.options.compression {
                Compression::None => Codec::NONE,
                Compression::Lz4 => Codec::LZ4,
            },
            limits: Limits {
                bytes_max: batch_bytes_max,
                linger: self.options.linger,
            },
            cancel: core.cancel.child_token(),
            name,
            core,
            room,
        };
        let record_bytes_max = topic_max.min(link.batch_bytes_max());
        let record_bytes_max = record_bytes_max.saturating_add(RECORD_FRAMING_BYTES);
        let opened = Producer {
            shared: Arc::new(Shared {
                topic: Arc::from(self.topic),
                producer,
                lanes: topic.partitions.iter().map(|_| OnceLock::new()).collect(),
                chooser: Chooser::new(self.options.partitioner, count, random()),
                timeout: self.options.delivery_timeout,
                record_bytes_max: record_bytes_max.min(common.room.total()),
                since_breath: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                sink: self.sink,
                common,
                _handle: self.keeps_client.then(|| Arc::clone(&self.handle)),
            }),
        };
        self.handle.core.producers.lock().note(&opened);
        Ok(opened)
    }
}

/// What a committed record of a topic promises.
fn committed_level(settings: &TopicSettings) -> AckLevel {
    let weak = settings.storage == StorageMode::MEMORY || settings.flush_interval_us > 0;
    if weak {
        AckLevel::QuorumMemory
    } else {
        AckLevel::Quorum
    }
}

impl IntoFuture for ProducerBuilder {
    type Output = Result<Producer>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}
