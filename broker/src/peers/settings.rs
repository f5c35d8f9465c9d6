//! What the room is told: who this broker is, who the others are, and its deadlines.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::HybridTime;
use quorate_protocol::StorageId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: BrokerId,
    /// Its name, which its certificate carries.
    pub name: String,
    /// Where the other brokers reach it: host and port.
    pub address: String,
    /// The data folder it is known with; `None`: the first one it shows is believed.
    pub storage: Option<StorageId>,
}

/// Who this broker is, and whom it begins with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name.
    pub cluster: String,
    /// This broker.
    pub me: BrokerId,
    /// Its name.
    pub name: String,
    /// Its data folder.
    pub storage: StorageId,
    /// This run of it: random.
    pub incarnation: u64,
    /// How often it was started on this data folder.
    pub starts: u64,
    /// The brokers to begin with; this one may be among them.
    pub members: Vec<Member>,
    /// Deadlines.
    pub timings: Timings,
}

/// What the room gets from the outside.
#[derive(Clone)]
pub struct Environment {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Hybrid time, for greetings.
    pub now: Arc<dyn Fn() -> HybridTime + Send + Sync>,
    /// Spreads attempts that would otherwise come together: random bits.
    pub entropy: Arc<dyn Fn() -> u128 + Send + Sync>,
    /// Where its tasks are counted.
    pub tracker: TaskTracker,
    /// Ends all of them.
    pub stop: CancellationToken,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// How long the room waits for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    /// For a handshake that this broker began.
    pub dial: Duration,
    /// For a greeting.
    pub greeting: Duration,
    /// Least time between two attempts to connect; it doubles with each failure.
    pub retry_min: Duration,
    /// Most time between two attempts to connect.
    pub retry_max: Duration,
    /// Time between two probes of a connected peer.
    pub probe: Duration,
    /// Silence after which a peer is suspected.
    pub suspect: Duration,
    /// Silence after which a peer is down.
    pub down: Duration,
    /// How long the connection for snapshots is kept without a new transfer.
    pub snapshot_idle: Duration,
    /// Least time between two reports that messages to a peer may be lost.
    pub lost: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(2),
            greeting: Duration::from_secs(5),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(1),
            probe: Duration::from_millis(500),
            suspect: Duration::from_secs(1),
            down: Duration::from_secs(5),
            snapshot_idle: Duration::from_secs(10),
            lost: Duration::from_millis(100),
        }
    }
}
