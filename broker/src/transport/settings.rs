//! What the transport is told: identity files, caps and deadlines.

use std::time::Duration;

use crate::auth::TrustDomain;
use crate::config;
use crate::config::TlsMaterial;
use crate::transport::quic::PEER_BATCH_BYTES_MAX;

/// Everything a listener needs to know before it is bound.
#[derive(Debug)]
pub struct Config {
    /// The cluster whose certificates are accepted.
    pub cluster: TrustDomain,
    /// PEM text of certificates and keys.
    pub material: TlsMaterial,
    /// Caps.
    pub limits: Limits,
    /// Deadlines.
    pub timings: Timings,
}

/// How much of everything the other sides may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections_max: u32,
    /// Connections of one principal.
    pub connections_per_principal_max: u32,
    /// Connections from one address.
    pub connections_per_address_max: u32,
    /// Handshakes per second from one address.
    pub handshakes_per_second: u32,
    /// Handshakes one address may begin at once.
    pub handshakes_burst: u32,
    /// Whether the two caps above hold for loopback addresses too. Those cannot be reached from
    /// another machine, and all programs of this one share them.
    pub cap_loopback: bool,
    /// Handshakes under way from which on an address must first be proved.
    pub handshakes_unproved_max: usize,
    /// Handshakes under way from which on attempts are not answered.
    pub handshakes_max: usize,
    /// The largest batch a frame may carry.
    pub batch_bytes_max: u32,
}

impl Limits {
    /// Those of the peer plane.
    #[must_use]
    pub fn of_peers() -> Self {
        Self {
            connections_max: 256,
            connections_per_principal_max: 8,
            connections_per_address_max: 256,
            handshakes_unproved_max: 16,
            handshakes_max: 64,
            batch_bytes_max: PEER_BATCH_BYTES_MAX,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connections_per_principal_max: 1_000,
            connections_per_address_max: 500,
            handshakes_per_second: 20,
            handshakes_burst: 50,
            cap_loopback: false,
            handshakes_unproved_max: 64,
            handshakes_max: 512,
            batch_bytes_max: 1 << 20,
        }
    }
}

impl From<&config::Limits> for Limits {
    fn from(limits: &config::Limits) -> Self {
        Self {
            connections_max: limits.connections_max,
            connections_per_principal_max: limits.connections_per_principal_max,
            batch_bytes_max: u32::try_from(limits.batch_bytes_max.get()).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }
}

/// How long the transport waits for the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    /// For a handshake to end.
    pub handshake: Duration,
    /// For the first frame of a stream to be complete.
    pub first_frame: Duration,
    /// For a later frame to be complete; after that it must keep up `frame_bytes_per_second`.
    pub frame_grace: Duration,
    /// Slowest average a begun frame may have after the grace.
    pub frame_bytes_per_second: u32,
    /// For a write to make progress.
    pub write_stall: Duration,
    /// For a client to stop opening streams faster than it may.
    pub stream_pressure: Duration,
    /// For any packet of the other side.
    pub idle: Duration,
}

impl Timings {
    /// Those of the peer plane: whoever makes no progress for ten seconds is gone.
    #[must_use]
    pub fn of_peers() -> Self {
        Self {
            frame_grace: Duration::from_secs(5),
            write_stall: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            ..Self::default()
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            first_frame: Duration::from_secs(5),
            frame_grace: Duration::from_secs(30),
            frame_bytes_per_second: 1024,
            write_stall: Duration::from_secs(30),
            stream_pressure: Duration::from_secs(10),
            idle: Duration::from_secs(30),
        }
    }
}
