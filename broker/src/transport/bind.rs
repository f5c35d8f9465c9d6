//! Turns a UDP socket into a QUIC endpoint.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::Endpoint;
use quinn::Runtime;
use quinn::ServerConfig;
use thiserror::Error;
use tokio_util::task::TaskTracker;

use crate::auth::TrustDomain;
use crate::clock::Clock;
use crate::config::TlsMaterial;
use crate::transport::plane::Plane;
use crate::transport::quic;
use crate::transport::quic::Path;
use crate::transport::reset;
use crate::transport::runtime::TrackedRuntime;
use crate::transport::socket::SegmentedSocket;
use crate::transport::socket::enlarge_buffers;
use crate::transport::tls;
use crate::transport::tls::Crypto;
use crate::transport::tls::Own;
use crate::transport::tls::TlsError;

/// What an endpoint is built from.
#[derive(Debug)]
pub struct Parts {
    /// The bound socket.
    pub socket: UdpSocket,
    /// Cryptography.
    pub crypto: Crypto,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where its tasks are counted.
    pub tracker: TaskTracker,
}

/// Why an endpoint cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket cannot be used.
    #[error("the UDP socket cannot be used: {0}")]
    Socket(#[from] io::Error),
}

/// An endpoint, and the server configuration for each kind of path.
pub(crate) struct Bound {
    pub(crate) own: Own,
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) loopback: Arc<ServerConfig>,
    pub(crate) network: Arc<ServerConfig>,
}

/// What an endpoint is for, and whose.
pub(crate) struct Site<'a> {
    pub(crate) plane: Plane,
    pub(crate) cluster: &'a TrustDomain,
    pub(crate) material: &'a TlsMaterial,
    pub(crate) idle: Duration,
}

pub(crate) fn bind(site: &Site<'_>, parts: Parts) -> Result<Bound, BindError> {
    let own = Own::load(site.material, site.cluster, (&parts.crypto, &parts.clock))?;
    let tls = Arc::new(tls::server_config(site.plane, &own, site.material)?);
    let server = |loopback| {
        let path = Path {
            idle: site.idle,
            loopback,
        };
        quic::server_config(
            quic::shape(site.plane),
            tls.clone(),
            parts.clock.clone(),
            path,
        )
    };
    enlarge_buffers(&parts.socket)?;
    let address = parts.socket.local_addr()?;
    let on_loopback = address.ip().is_loopback() || address.ip().is_unspecified();
    let mut endpoint_config = quic::endpoint_config(on_loopback);
    reset::outlive_restart(&mut endpoint_config, site.plane, &site.material.key);
    let runtime = Arc::new(TrackedRuntime(parts.tracker));
    let socket = SegmentedSocket::new(
        runtime.wrap_udp_socket(parts.socket)?,
        endpoint_config.get_max_udp_payload_size(),
    );
    let network = server(false);
    let endpoint = Endpoint::new_with_abstract_socket(
        endpoint_config,
        Some(network.clone()),
        Arc::new(socket),
        runtime,
    )?;
    Ok(Bound {
        own,
        endpoint,
        address,
        loopback: Arc::new(server(true)),
        network: Arc::new(network),
    })
}
