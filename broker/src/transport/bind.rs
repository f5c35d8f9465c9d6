//! Turns a UDP socket into a QUIC endpoint.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;

use quinn::Endpoint;
use quinn::Runtime;
use quinn::ServerConfig;
use thiserror::Error;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::transport::quic;
use crate::transport::reset;
use crate::transport::runtime::TrackedRuntime;
use crate::transport::settings::Config;
use crate::transport::socket::SegmentedSocket;
use crate::transport::socket::enlarge_buffers;
use crate::transport::tls;
use crate::transport::tls::Crypto;
use crate::transport::tls::TlsError;

/// What a listener is built from.
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

/// Why a listener cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket cannot be used.
    #[error("the UDP socket for clients cannot be used: {0}")]
    Socket(#[from] io::Error),
}

/// An endpoint, and the server configuration for each kind of path.
pub(crate) struct Bound {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) loopback: Arc<ServerConfig>,
    pub(crate) network: Arc<ServerConfig>,
}

pub(crate) fn bind(config: &Config, parts: Parts) -> Result<Bound, BindError> {
    let tls = tls::server_config(
        &config.material,
        &config.cluster,
        &parts.crypto,
        parts.clock.clone(),
    )?;
    let tls = Arc::new(tls);
    let server = |loopback| {
        let idle = config.timings.idle;
        quic::server_config(tls.clone(), parts.clock.clone(), idle, loopback)
    };
    enlarge_buffers(&parts.socket)?;
    let address = parts.socket.local_addr()?;
    let on_loopback = address.ip().is_loopback() || address.ip().is_unspecified();
    let mut endpoint_config = quic::endpoint_config(on_loopback);
    reset::outlive_restart(&mut endpoint_config, &config.material.key);
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
        endpoint,
        address,
        loopback: Arc::new(server(true)),
        network: Arc::new(network),
    })
}
