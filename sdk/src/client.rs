//! The client: one identity, its connections, and the handles that share them.

use std::future::IntoFuture;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::config::Options;
use crate::consumer::Subscribe;
use crate::core::Core;
use crate::error::Result;
use crate::event::Event;
use crate::event::Events;
use crate::message::Message;
use crate::pool::Keeper;
use crate::pool::State;
use crate::producer::ProducerBuilder;
use crate::producer::Publish;
use crate::reader::Read;
use crate::stats::Stats;

/// A connection with a cluster. Clones share it; it ends with the last of them and of their
/// producers and subscriptions.
///
/// ```no_run
/// # async fn start() -> quorate::Result<()> {
/// use quorate::Client;
/// let client = Client::connect("quorate://localhost:4747").await?;
/// let receipt = client.publish("orders", "hello").await?;
/// println!("{}/{} {:?}", receipt.topic, receipt.partition, receipt.offset);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Ends the client's tasks when the last handle is gone.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.producers.lock().release();
        self.core.cancel.cancel();
    }
}

/// What closing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Messages that got their receipt while closing.
    pub flushed: u64,
    /// Messages that were given up without one.
    pub abandoned: u64,
}

impl Client {
    /// Connects with the options of the environment and these servers, such as
    /// `quorate://a:4747,b:4747`. Done when a broker has accepted this client.
    ///
    /// # Errors
    /// An option is wrong, no server answers, or the client is refused.
    pub async fn connect(servers: &str) -> Result<Self> {
        let mut options = Options::default();
        options.set_from_env(std::env::vars())?;
        options.set("client.servers", servers)?;
        Self::start(options).await
    }

    /// Connects as `QUORATE_CLIENT__SERVERS`, `QUORATE_CLIENT__CA_FILE` and so on say.
    ///
    /// # Errors
    /// An option is wrong, no server answers, or the client is refused.
    pub async fn from_env() -> Result<Self> {
        let mut options = Options::default();
        options.set_from_env(std::env::vars())?;
        Self::start(options).await
    }

    /// Starts from the defaults; await the builder to connect.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            options: Options::default(),
            wrong: None,
        }
    }

    async fn start(options: Options) -> Result<Self> {
        let core = Core::new(options);
        let client = Self {
            handle: Arc::new(Handle {
                core: Arc::clone(&core),
            }),
        };
        core.pool.connect_once().await?;
        core.tracker
            .spawn(Keeper::new(&core.pool, &core.topology).run());
        Ok(client)
    }

    /// Publishes one message; await it for the receipt.
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> Publish {
        Publish::new(&self.handle, topic, message.into())
    }

    /// Opens a producer for a topic.
    pub fn producer(&self, topic: &str) -> ProducerBuilder {
        ProducerBuilder::new(&self.handle, topic)
    }

    /// Opens a subscription to a topic.
    pub fn subscribe(&self, topic: &str) -> Subscribe {
        Subscribe::new(&self.handle, topic)
    }

    /// Reads a page of a partition's history.
    pub fn read(&self, topic: &str) -> Read {
        Read::new(&self.handle, topic)
    }

    /// Creates, lists, describes and deletes.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(&self.handle)
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.handle.core.events.subscribe()
    }

    /// How the client stands with the cluster.
    #[must_use]
    pub fn state(&self) -> State {
        self.handle.core.pool.state()
    }

    /// What the client has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let core = &self.handle.core;
        let in_flight = u64::try_from(core.budget.taken()).unwrap_or(u64::MAX);
        core.counters.read(in_flight)
    }

    /// Refuses new work, waits until accepted messages are answered or `timeout` is over, and
    /// closes the connections. Can be repeated.
    ///
    /// # Errors
    /// None at present; what was given up is counted in the report.
    pub async fn close(&self, timeout: Duration) -> Result<CloseReport> {
        let core = &self.handle.core;
        let producers = core.producers.lock().take_all();
        let before: Vec<_> = producers
            .iter()
            .map(crate::producer::Producer::counts)
            .collect();
        let flushing = async {
            for producer in &producers {
                // The report is made below, whether there is time for this or not.
                let _counted = producer.close().await.is_err();
            }
        };
        let _in_time = tokio::time::timeout(timeout, flushing).await.is_ok();
        core.cancel.cancel();
        core.pool.close().await;
        core.tracker.close();
        core.tracker.wait().await;
        let mut report = CloseReport::default();
        for (producer, (acked, failed)) in producers.iter().zip(before) {
            let (acked_now, failed_now) = producer.counts();
            report.flushed += acked_now - acked;
            report.abandoned += failed_now - failed;
        }
        core.events.publish(Event::Closed);
        Ok(report)
    }
}

/// Connects a [`Client`] when awaited; methods are named like the `client.*` options.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct ClientBuilder {
    options: Options,
    wrong: Option<crate::error::Error>,
}

impl ClientBuilder {
    /// Sets any option by its name, such as `producer.linger_us`; a mistake is told when the
    /// builder is awaited.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.options.set(name, value) {
            self.wrong.get_or_insert(error);
        }
        self
    }

    /// The same, with the mistake told at once.
    ///
    /// # Errors
    /// There is no such option, or the value is none of it; nothing was set.
    pub fn try_set(&mut self, name: &str, value: &str) -> Result<()> {
        self.options.set(name, value)
    }

    /// The servers to start from, such as `quorate://a:4747,b:4747`.
    pub fn servers(self, servers: &str) -> Self {
        self.set("client.servers", servers)
    }

    /// The certificates that brokers are verified with.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.client.ca_file = Some(file.into());
        self
    }

    /// This client's certificate.
    pub fn cert_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.client.cert_file = Some(file.into());
        self
    }

    /// This client's private key.
    pub fn key_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.options.client.key_file = Some(file.into());
        self
    }

    /// A name for logs and lists of connections.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.options.client.client_id = id.into();
        self
    }

    /// How long one attempt to connect may take.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.client.connect_timeout = timeout;
        self
    }

    /// How long a broker may take for an answer.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.client.request_timeout = timeout;
        self
    }

    /// How much all producers together may have accepted and not yet answered.
    pub fn in_flight_bytes_max(mut self, bytes: usize) -> Self {
        self.options.client.in_flight_bytes_max = bytes.max(1 << 16);
        self
    }

    async fn connect(self) -> Result<Client> {
        match self.wrong {
            Some(error) => Err(error),
            None => Client::start(self.options).await,
        }
    }
}

impl IntoFuture for ClientBuilder {
    type Output = Result<Client>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}
