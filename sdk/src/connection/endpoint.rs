//! UDP sockets and QUIC settings of the client.
//!
//! `initial_mtu` and `min_mtu` stay at 1200; only the upper bound of discovery is raised.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::AsyncUdpSocket;
use quinn::ClientConfig;
use quinn::Endpoint;
use quinn::EndpointConfig;
use quinn::IdleTimeout;
use quinn::MtuDiscoveryConfig;
use quinn::Runtime;
use quinn::TokioRuntime;
use quinn::TransportConfig;
use quinn::UdpPoller;
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::udp::RecvMeta;
use quinn::udp::Transmit;
use quorate_protocol::ErrorCode;
use rustls::CipherSuite;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::version::TLS13;

use crate::connection::identity::Identity;
use crate::connection::verifier::BrokerVerifier;
use crate::error::Error;
use crate::error::Result;

const ALPN: &[u8] = b"quorate/1";
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
const SEND_WINDOW_BYTES: u64 = 8 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// A first packet without an answer is sent again after three times this, then ever later: a broker
/// that is being started is found soon after.
const INITIAL_RTT: Duration = Duration::from_millis(100);
const MTU_LOOPBACK: u16 = 16_384;
const MTU_NETWORK: u16 = 1_452;
/// quinn's default; the receive buffers are never made smaller than this.
const UDP_PAYLOAD_BYTES_MIN: u16 = 1_472;
const UDP_SEGMENTS_MAX: usize = 64;

/// Which socket reaches an address: loopback carries larger datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    v6: bool,
    loopback: bool,
}

impl Reach {
    fn of(address: IpAddr) -> Self {
        Self {
            v6: address.is_ipv6(),
            loopback: address.is_loopback(),
        }
    }

    fn mtu(self) -> u16 {
        if self.loopback {
            MTU_LOOPBACK
        } else {
            MTU_NETWORK
        }
    }

    fn local(self) -> SocketAddr {
        let ip: IpAddr = match (self.v6, self.loopback) {
            (false, false) => Ipv4Addr::UNSPECIFIED.into(),
            (false, true) => Ipv4Addr::LOCALHOST.into(),
            (true, false) => Ipv6Addr::UNSPECIFIED.into(),
            (true, true) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, 0)
    }
}

/// The sockets of one client, made when first needed: at most one per kind of address.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    open: Mutex<Vec<(Reach, Endpoint)>>,
}

impl Endpoints {
    /// Starts a handshake with `address`, whose certificate must name `host`.
    pub(super) fn connect(
        &self,
        address: SocketAddr,
        host: &str,
        identity: &Identity,
    ) -> Result<quinn::Connecting> {
        let reach = Reach::of(address.ip());
        let endpoint = self.endpoint(reach)?;
        let config = client_config(identity, reach.mtu())?;
        endpoint
            .connect_with(config, address, host)
            .map_err(|error| {
                Error::new(
                    ErrorCode::CONNECT,
                    format!("cannot start connecting: {error}"),
                )
            })
    }

    fn endpoint(&self, reach: Reach) -> Result<Endpoint> {
        let mut open = self.open.lock();
        if let Some((_, endpoint)) = open.iter().find(|(known, _)| *known == reach) {
            return Ok(endpoint.clone());
        }
        let endpoint = bind(reach).map_err(|error| {
            let message = format!("cannot open a UDP socket on {}: {error}", reach.local());
            Error::new(ErrorCode::CONNECT, message)
        })?;
        open.push((reach, endpoint.clone()));
        Ok(endpoint)
    }

    /// Closes every connection; waits until the brokers know.
    pub(super) async fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        for (_, endpoint) in &open {
            endpoint.close(VarInt::from_u32(0), b"closed");
        }
        for (_, endpoint) in &open {
            endpoint.wait_idle().await;
        }
    }
}

fn bind(reach: Reach) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(reach.local())?;
    let buffers = socket2::SockRef::from(&socket);
    buffers.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    buffers.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;

    let payload_max = reach.mtu().max(UDP_PAYLOAD_BYTES_MIN);
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(payload_max)
        .map_err(io::Error::other)?;
    let runtime = Arc::new(TokioRuntime);
    let socket = Arc::new(SegmentLimit {
        socket: runtime.wrap_udp_socket(socket)?,
        transmit: transmit_segments(reach.mtu()),
        receive: receive_segments(payload_max),
    });
    Endpoint::new_with_abstract_socket(config, None, socket, runtime)
}

fn client_config(identity: &Identity, mtu: u16) -> Result<ClientConfig> {
    let tls = tls_config(identity).map_err(|error| unusable(&error))?;
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| Error::new(ErrorCode::INTERNAL, error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(mtu)));
    Ok(config)
}

fn unusable(error: &rustls::Error) -> Error {
    let message = match error {
        rustls::Error::InconsistentKeys(_) => {
            "the private key in client.key_file does not belong to client.cert_file".to_owned()
        }
        error => format!("the identity files cannot be used for TLS: {error}"),
    };
    Error::new(ErrorCode::IDENTITY_FILES, message)
        .with_help("use the cert.pem and key.pem that were issued together: quorate doctor")
}

fn tls_config(identity: &Identity) -> std::result::Result<rustls::ClientConfig, rustls::Error> {
    let provider = provider();
    let roots = Arc::new(identity.roots.clone());
    let webpki = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let verifier = BrokerVerifier::new(webpki, identity.trust_domain.clone());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    Ok(tls)
}

/// AES-128-GCM first: it is the cheapest suite on processors with AES instructions.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some());
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

fn transport(mtu: u16) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .allow_spin(false)
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    transport
}

/// Segments leave in one datagram-sized buffer of the kernel, so all must stay below 64 KiB.
fn transmit_segments(mtu: u16) -> usize {
    (65_000 / usize::from(mtu)).clamp(1, UDP_SEGMENTS_MAX)
}

/// The receive buffer holds what the kernel may coalesce: 64 KiB, whatever the segment size.
fn receive_segments(payload_max: u16) -> usize {
    usize::from(u16::MAX)
        .div_ceil(usize::from(payload_max))
        .clamp(1, UDP_SEGMENTS_MAX)
}

/// A socket that sends and receives at most so many segments per system call; quinn does not
/// clamp by datagram size itself.
#[derive(Debug)]
struct SegmentLimit {
    socket: Arc<dyn AsyncUdpSocket>,
    transmit: usize,
    receive: usize,
}

impl AsyncUdpSocket for SegmentLimit {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments().min(self.transmit)
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments().min(self.receive)
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fit_one_kernel_buffer_and_the_receiver_holds_them() {
        for mtu in [MTU_NETWORK, MTU_LOOPBACK] {
            assert!(transmit_segments(mtu) * usize::from(mtu) <= 65_527, "{mtu}");
            let payload_max = mtu.max(UDP_PAYLOAD_BYTES_MIN);
            let held = receive_segments(payload_max) * usize::from(payload_max);
            assert!(held >= 65_535, "{mtu}");
        }
    }

    #[test]
    fn only_tls_1_3_suites_are_offered_and_aes_128_comes_first() {
        let suites = provider().cipher_suites.clone();
        assert!(suites.iter().all(|suite| suite.tls13().is_some()));
        let first = suites.first().map(|suite| suite.suite());
        assert_eq!(first, Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
    }
}
