//! The QUIC limits of each plane.
//!
//! Connection windows are derived from stream count and stream window, never configured: too
//! small a one stalls every stream for good once the others are left unread.

use std::sync::Arc;
use std::time::Duration;

use quinn::ClientConfig;
use quinn::EndpointConfig;
use quinn::IdleTimeout;
use quinn::MtuDiscoveryConfig;
use quinn::ServerConfig;
use quinn::TransportConfig;
use quinn::ValidationTokenConfig;
use quinn::VarInt;
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::crypto::rustls::QuicServerConfig;

use crate::clock::Clock;
use crate::transport::plane::Plane;
use crate::transport::runtime::WallTime;

const MIB: u32 = 1024 * 1024;
/// What a handshake that waits to be looked at may buffer.
const INCOMING_BYTES_EACH: u64 = 64 * 1024;
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;
const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// How large a datagram discovery may find on loopback, and on a network.
const MTU_LOOPBACK: u16 = 16_384;
const MTU_NETWORK: u16 = 1_452;
/// The largest datagram that is received from a network.
const PAYLOAD_NETWORK: u16 = 1_472;

/// Streams the dialling broker opens on one connection: control, and one for each lane.
pub(crate) const PEER_STREAMS: u32 = 4;
/// The largest batch a broker takes from another: the largest there is.
pub(crate) const PEER_BATCH_BYTES_MAX: u32 = 8 * MIB;

/// What connections of one sort may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Streams that carry data towards this side: before the greeting of the other side, or all
    /// of them where this side opens them.
    streams: u32,
    /// Window of one stream.
    pub(crate) stream_window: u32,
    /// Unacknowledged bytes this side sends.
    send_window: u64,
    /// Whether the other side may change its address.
    migration: bool,
    keep_alive: Option<Duration>,
    /// Round trip that is assumed before one is measured; lost first packets are repeated after
    /// three times this.
    initial_rtt: Duration,
    /// What may be on its way before the path has shown what it carries.
    initial_window: Option<u64>,
    /// Handshakes that wait to be looked at, and what they may buffer together.
    incoming_max: usize,
    incoming_bytes_total: u64,
}

/// The client plane, before HelloAck.
pub(crate) const CLIENT: Shape = Shape {
    streams: 1,
    stream_window: 256 * 1024,
    send_window: 8 * MIB as u64,
    migration: true,
    keep_alive: None,
    initial_rtt: Duration::from_millis(333),
    initial_window: None,
    incoming_max: 1_024,
    incoming_bytes_total: 16 * MIB as u64,
};

/// The accepting side of the peer plane, before PeerHelloAck.
pub(crate) const PEER: Shape = Shape {
    streams: 1,
    stream_window: 2 * MIB,
    send_window: 20 * MIB as u64,
    migration: false,
    keep_alive: Some(Duration::from_secs(3)),
    initial_rtt: Duration::from_millis(50),
    // Brokers are near each other, and an envelope should not take several round trips.
    initial_window: Some(512 * 1024),
    incoming_max: 64,
    incoming_bytes_total: MIB as u64,
};

/// The dialling side of the peer plane.
pub(crate) const PEER_DIALLED: Shape = Shape {
    streams: PEER_STREAMS,
    ..PEER
};

/// The dialling side of a connection for snapshots, towards which they flow.
pub(crate) const SNAPSHOT_DIALLED: Shape = Shape {
    stream_window: 4 * MIB,
    ..PEER_DIALLED
};

/// The shape of accepted connections.
pub(crate) const fn shape(plane: Plane) -> Shape {
    match plane {
        Plane::Client => CLIENT,
        Plane::Peer => PEER,
    }
}

/// How a connection's way differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// How long nothing may be heard.
    pub(crate) idle: Duration,
    /// Whether it stays within the machine.
    pub(crate) loopback: bool,
}

/// The connection window for `streams` open streams: the least that cannot stall, in whole
/// stream windows.
///
/// The QUIC engine announces connection credit in steps of an eighth of the window, hence 8/7.
pub(crate) fn receive_window(streams: u32, stream_window: u32) -> VarInt {
    let unread = u64::from(streams) * u64::from(stream_window);
    let least = (unread + u64::from(MIB)).max((unread * 8).div_ceil(7));
    let window = least.next_multiple_of(u64::from(stream_window));
    assert!(
        window * 7 / 8 >= unread && window >= unread + u64::from(MIB),
        "a connection window must hold all streams' windows and one announcement step"
    );
    VarInt::from_u64(window).unwrap_or(VarInt::MAX)
}

/// The endpoint: what it receives must fit the largest datagram any of its paths may carry.
pub(crate) fn endpoint_config(on_loopback: bool) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    let payload_max = if on_loopback {
        MTU_LOOPBACK
    } else {
        PAYLOAD_NETWORK
    };
    let accepted = config.max_udp_payload_size(payload_max).is_ok();
    assert!(accepted, "QUIC needs datagrams of at least 1,200 bytes");
    config
}

/// The accepting side of connections.
pub(crate) fn server_config(
    shape: Shape,
    tls: Arc<QuicServerConfig>,
    clock: Arc<dyn Clock>,
    path: Path,
) -> ServerConfig {
    let mut no_tokens = ValidationTokenConfig::default();
    no_tokens.sent(0);
    let transport = transport_config(shape, path, shape.streams);
    let mut config = ServerConfig::with_crypto(tls);
    config
        .transport_config(Arc::new(transport))
        .migration(shape.migration)
        .max_incoming(shape.incoming_max)
        .incoming_buffer_size(INCOMING_BYTES_EACH)
        .incoming_buffer_size_total(shape.incoming_bytes_total)
        .retry_token_lifetime(RETRY_TOKEN_LIFETIME)
        .validation_token_config(no_tokens)
        .time_source(Arc::new(WallTime(clock)));
    config
}

/// The dialling side of connections; the other side opens no stream.
pub(crate) fn client_config(shape: Shape, tls: Arc<QuicClientConfig>, path: Path) -> ClientConfig {
    let mut config = ClientConfig::new(tls);
    config.transport_config(Arc::new(transport_config(shape, path, 0)));
    config
}

fn transport_config(shape: Shape, path: Path, accepted_streams: u32) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(if path.loopback {
        MTU_LOOPBACK
    } else {
        MTU_NETWORK
    });
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(accepted_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(shape.stream_window))
        .receive_window(receive_window(shape.streams, shape.stream_window))
        .send_window(shape.send_window)
        .max_idle_timeout(IdleTimeout::try_from(path.idle).ok())
        .keep_alive_interval(shape.keep_alive)
        .initial_rtt(shape.initial_rtt)
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .allow_spin(false)
        .mtu_discovery_config(Some(discovery));
    if let Some(window) = shape.initial_window {
        let mut congestion = CubicConfig::default();
        congestion.initial_window(window);
        config.congestion_controller_factory(Arc::new(congestion));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_rule_for_every_allowed_stream_count() {
        let window = |streams| receive_window(streams, CLIENT.stream_window).into_inner();
        assert_eq!(window(1), 5 * 256 * 1024);
        let measured_stall_free = 9_900_000;
        assert!(window(33) >= measured_stall_free);
        for shape in [CLIENT, PEER, PEER_DIALLED, SNAPSHOT_DIALLED] {
            for streams in 1..=1_025 {
                let unread = u64::from(streams) * u64::from(shape.stream_window);
                let window = receive_window(streams, shape.stream_window).into_inner();
                assert!(window >= unread + u64::from(MIB), "{streams}");
                assert!(window * 7 >= unread * 8, "{streams}");
            }
        }
    }

    #[test]
    fn a_broker_may_fill_every_window_of_its_peer() {
        for shape in [PEER_DIALLED, SNAPSHOT_DIALLED] {
            let window = receive_window(PEER_STREAMS, shape.stream_window);
            assert!(shape.send_window >= window.into_inner());
        }
    }
}
