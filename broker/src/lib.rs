//! The Quorate server, as a library: rooms by floor, wired by the roof.
//!
//! [`Broker::start`] is the only door. Everything a broker does runs in tasks of the runtime it was
//! started in; [`Broker::drain`] ends them in good order.

#![forbid(unsafe_code)]

pub mod auth;
pub mod clock;
pub mod config;
mod environment;
mod folder;
pub mod metadata;
pub mod partition;
pub mod peers;
pub mod replication;
pub mod session;
mod start;
pub mod transport;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ErrorCode;
use quorate_storage::DataDir;
use tokio::sync::watch::Receiver;
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::metadata::Metadata;
use crate::metadata::MetadataMachine;
use crate::metadata::Vitals;
use crate::partition::PartitionMachine;
use crate::peers::Peers;
use crate::replication::Replication;
use crate::session::Service;
use crate::transport::Listener;

pub use crate::environment::Environment;
pub use crate::environment::Sockets;
pub use crate::folder::InitMode;
pub use crate::folder::format;
pub use crate::start::StartError;

/// How long the last packets and tasks may take after the clients are gone.
const EPILOGUE: Duration = Duration::from_secs(5);

/// Why a broker cannot go on; its process has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A flush failed: nothing on this volume can be trusted any more.
    StoragePoisoned,
    /// The QUIC endpoint ended by itself.
    EndpointDied,
    /// The metadata group ended by itself, in a panic or with its state lost.
    MetadataHalted,
    /// It was removed from its cluster.
    Removed,
}

/// A running broker. Dropping it does not end it: [`Broker::drain`] does, or the end of its runtime.
#[derive(Debug)]
#[must_use = "a broker ends with `drain`"]
pub struct Broker {
    address: SocketAddr,
    peer_address: SocketAddr,
    peers: Peers,
    service: Arc<Service>,
    listener: Arc<Listener>,
    sessions: TaskTracker,
    tracker: TaskTracker,
    stop: CancellationToken,
    exit: Receiver<Option<Exit>>,
    groups: Groups,
    metadata: Metadata,
    vitals: Arc<Sender<Vitals>>,
    environment: Environment,
    /// Locked as long as anything may write to it.
    _data: Arc<DataDir>,
}

/// Group 0 and the partitions: two sets of groups, so that neither waits for the other.
#[derive(Clone, Debug)]
struct Groups {
    metadata: Replication<MetadataMachine>,
    partitions: Replication<PartitionMachine>,
}

impl Broker {
    /// Opens the data folder, recovers every partition, then listens for clients.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What failed, where, and what to do about it.
    pub async fn start(
        config: Config,
        mode: InitMode,
        environment: Environment,
    ) -> Result<Self, StartError> {
        Box::pin(start::start(config, mode, environment)).await
    }

    /// Where clients connect.
    #[must_use]
    pub const fn client_address(&self) -> SocketAddr {
        self.address
    }

    /// Where other brokers connect.
    #[must_use]
    pub const fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Resolves when the broker cannot go on. Cancel-safe.
    pub async fn failed(&self) -> Exit {
        let mut exit = self.exit.clone();
        let failed = exit.wait_for(Option::is_some).await.map(|exit| *exit);
        // The reporting tasks live as long as the broker.
        failed.ok().flatten().unwrap_or(Exit::EndpointDied)
    }

    /// Shuts down in good order: gives away what it leads, refuses new work, lets clients finish
    /// within `deadline`, flushes, and leaves the log marked as complete.
    pub async fn drain(self, deadline: Duration) {
        let began = self.environment.clock.monotonic();
        self.vitals.send_modify(|vitals| vitals.draining = true);
        self.metadata.hand_over(deadline / 2).await;
        let deadline =
            deadline.saturating_sub(self.environment.clock.monotonic().saturating_sub(began));
        let clients = self.sessions.len();
        tracing::info!(clients, ?deadline, "shutting down: clients are asked to go");
        self.service.drain(deadline);
        self.sessions.close();
        if tokio::time::timeout(deadline, self.sessions.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                clients = self.sessions.len(),
                "clients are cut off at the deadline"
            );
        }
        self.stop.cancel();
        self.listener
            .close(ErrorCode::OK, "the broker has shut down");
        let quiet = async {
            self.listener.wait_idle().await;
            self.sessions.wait().await;
        };
        if tokio::time::timeout(EPILOGUE, quiet).await.is_err() {
            tracing::warn!("connections did not end in time");
        }
        self.groups.partitions.shutdown().await;
        self.groups.metadata.shutdown().await;
        let Self {
            listener,
            peers,
            service,
            groups,
            metadata,
            tracker,
            environment,
            ..
        } = self;
        // The endpoints' own tasks end with their last owners.
        drop((listener, service, groups, metadata, peers));
        tracker.close();
        if tokio::time::timeout(EPILOGUE, tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = tracker.len(), "tasks did not end in time");
        }
        let took = environment.clock.monotonic().saturating_sub(began);
        tracing::info!(?took, "broker has shut down");
    }
}
