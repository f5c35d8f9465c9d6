//! What the transport is told: identity files, caps and deadlines.

use std::time::Duration;

use crate::auth::TrustDomain;
use crate::config;
use crate::config::TlsMaterial;

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

/// How much of everything clients may have.
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
    /// The largest batch a frame may carry.
    pub batch_bytes_max: u32,
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
