//! Listens for clients and hands out authenticated connections.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::Endpoint;
use quorate_protocol::ErrorCode;
use tokio::sync::Mutex;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::transport::admission::Gate;
use crate::transport::admission::Places;
use crate::transport::bind::BindError;
use crate::transport::bind::Parts;
use crate::transport::bind::Site;
use crate::transport::bind::bind;
use crate::transport::connection::Connection;
use crate::transport::connection::Established;
use crate::transport::door::ACCEPTED_MAX;
use crate::transport::door::Door;
use crate::transport::handshake::Reception;
use crate::transport::lost::close_reason;
use crate::transport::lost::to_varint;
use crate::transport::plane::Plane;
use crate::transport::report::Reporter;
use crate::transport::settings::Config;
use crate::transport::settings::Timings;

/// The client plane's listener.
///
/// Its tasks run on the tracker it was given; they end once it is closed and dropped.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    address: SocketAddr,
    accepted: Mutex<mpsc::Receiver<Established>>,
    clock: Arc<dyn Clock>,
    timings: Timings,
    batch_bytes_max: u32,
}

impl Listener {
    /// Listens on a bound socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The certificates or the socket cannot be used.
    pub fn bind(config: Config, parts: Parts) -> Result<Self, BindError> {
        let tracker = parts.tracker.clone();
        let clock = parts.clock.clone();
        let site = Site {
            plane: Plane::Client,
            cluster: &config.cluster,
            material: &config.material,
            idle: config.timings.idle,
        };
        let bound = bind(&site, parts)?;
        let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        let door = Door {
            endpoint: bound.endpoint.clone(),
            loopback: bound.loopback,
            network: bound.network,
            gate: Gate::new(config.limits.clone()),
            reception: Arc::new(Reception {
                plane: Plane::Client,
                cluster: config.cluster,
                places: Places::new(config.limits.clone()),
                timings: config.timings.clone(),
                clock: clock.clone(),
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
            clock,
            timings: config.timings,
            batch_bytes_max: config.limits.batch_bytes_max,
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
        let established = self.accepted.lock().await.recv().await?;
        let (clock, timings) = (self.clock.clone(), self.timings.clone());
        let limit = self.batch_bytes_max;
        Some(Connection::new(established, clock, timings, limit))
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
