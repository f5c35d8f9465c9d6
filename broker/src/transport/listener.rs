//! Listens for clients and hands out authenticated connections.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::Endpoint;
use quinn::Incoming;
use quinn::ServerConfig;
use quorate_protocol::ErrorCode;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::transport::admission::Gate;
use crate::transport::admission::InFlight;
use crate::transport::admission::Places;
use crate::transport::admission::Verdict;
use crate::transport::bind::BindError;
use crate::transport::bind::Parts;
use crate::transport::bind::bind;
use crate::transport::connection::Connection;
use crate::transport::handshake::Reception;
use crate::transport::lost::close_reason;
use crate::transport::lost::to_varint;
use crate::transport::report::Reporter;
use crate::transport::settings::Config;

/// Connections that wait to be taken. Their handshakes count as in flight until then.
const ACCEPTED_MAX: usize = 64;

/// The client plane's listener.
///
/// Its tasks run on the tracker it was given; they end once it is closed and dropped.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    address: SocketAddr,
    accepted: Mutex<mpsc::Receiver<Connection>>,
}

impl Listener {
    /// Listens on a bound socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The certificates or the socket cannot be used.
    pub fn bind(config: Config, parts: Parts) -> Result<Self, BindError> {
        let tracker = parts.tracker.clone();
        let clock = parts.clock.clone();
        let bound = bind(&config, parts)?;
        let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        let door = Door {
            endpoint: bound.endpoint.clone(),
            loopback: bound.loopback,
            network: bound.network,
            gate: Gate::new(config.limits.clone()),
            reception: Arc::new(Reception {
                cluster: config.cluster,
                places: Places::new(config.limits.clone()),
                timings: config.timings,
                clock,
                batch_bytes_max: config.limits.batch_bytes_max,
                reporter: Reporter::default(),
            }),
            sender,
            tracker: tracker.clone(),
        };
        tracker.spawn(door.run());
        Ok(Self {
            endpoint: bound.endpoint,
            address: bound.address,
            accepted: Mutex::new(accepted),
        })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection whose certificate was verified and whose principal may connect.
    /// `None`: the listener was closed, or the endpoint died (nobody closed it). Cancel-safe.
    pub async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }

    /// Closes the listener and every connection, with a code and a text.
    pub fn close(&self, code: ErrorCode, text: &str) {
        self.endpoint.close(to_varint(code), close_reason(text));
    }

    /// Waits until every connection is gone and its last packets are sent.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// The task that decides about each attempt. It does nothing that takes time itself.
struct Door {
    endpoint: Endpoint,
    loopback: Arc<ServerConfig>,
    network: Arc<ServerConfig>,
    gate: Gate,
    reception: Arc<Reception>,
    sender: mpsc::Sender<Connection>,
    tracker: TaskTracker,
}

impl Door {
    async fn run(mut self) {
        while let Some(incoming) = self.endpoint.accept().await {
            self.handle(incoming);
        }
    }

    fn handle(&mut self, incoming: Incoming) {
        let source = incoming.remote_address().ip();
        let validated = incoming.remote_address_validated();
        let now = self.reception.clock.monotonic();
        match self.gate.judge(source, validated, now) {
            Verdict::Accept(in_flight) => self.receive(incoming, in_flight),
            Verdict::Retry => {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
            }
            Verdict::Ignore => incoming.ignore(),
        }
    }

    fn receive(&self, incoming: Incoming, in_flight: InFlight) {
        let remote = incoming.remote_address();
        let config = if remote.ip().to_canonical().is_loopback() {
            self.loopback.clone()
        } else {
            self.network.clone()
        };
        let reception = self.reception.clone();
        let sender = self.sender.clone();
        self.tracker.spawn(async move {
            match reception.receive(incoming, config).await {
                // Nobody listens any more if this fails.
                Ok(connection) => drop(sender.send(connection).await),
                Err(error) => reception.handle_refusal(remote, &error),
            }
            drop(in_flight);
        });
    }
}
