//! The QUIC limits of the client plane.
//!
//! Connection windows are derived from stream count and stream window, never configured: too
//! small a one stalls every stream for good once the others are left unread.

use std::sync::Arc;
use std::time::Duration;

use quinn::EndpointConfig;
use quinn::IdleTimeout;
use quinn::MtuDiscoveryConfig;
use quinn::ServerConfig;
use quinn::TransportConfig;
use quinn::ValidationTokenConfig;
use quinn::VarInt;
use quinn::crypto::rustls::QuicServerConfig;

use crate::clock::Clock;
use crate::transport::runtime::WallTime;

/// Streams a client may open before HelloAck: CONTROL.
const STREAMS_AT_FIRST: u32 = 1;
/// Window of one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Unacknowledged bytes the broker sends on one connection.
const SEND_WINDOW: u64 = 8 * MIB as u64;
const MIB: u32 = 1024 * 1024;

/// Handshakes that wait to be looked at, and what each may buffer.
const INCOMING_MAX: usize = 1_024;
const INCOMING_BYTES_EACH: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 16 * MIB as u64;
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;
const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// How large a datagram discovery may find on loopback, and on a network.
const MTU_LOOPBACK: u16 = 16_384;
const MTU_NETWORK: u16 = 1_452;
/// The largest datagram that is received from a network.
const PAYLOAD_NETWORK: u16 = 1_472;

/// The connection window for `streams` open streams: the least that cannot stall, in whole
/// stream windows.
///
/// The QUIC engine announces connection credit in steps of an eighth of the window, hence 8/7.
pub(crate) fn receive_window(streams: u32) -> VarInt {
    let unread = u64::from(streams) * u64::from(STREAM_WINDOW);
    let least = (unread + u64::from(MIB)).max((unread * 8).div_ceil(7));
    let window = least.next_multiple_of(u64::from(STREAM_WINDOW));
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

/// The server's side of connections, for clients on loopback or on a network.
pub(crate) fn server_config(
    tls: Arc<QuicServerConfig>,
    clock: Arc<dyn Clock>,
    idle: Duration,
    loopback: bool,
) -> ServerConfig {
    let mut no_tokens = ValidationTokenConfig::default();
    no_tokens.sent(0);
    let mut config = ServerConfig::with_crypto(tls);
    config
        .transport_config(Arc::new(transport_config(idle, loopback)))
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_EACH)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL)
        .retry_token_lifetime(RETRY_TOKEN_LIFETIME)
        .validation_token_config(no_tokens)
        .time_source(Arc::new(WallTime(clock)));
    config
}

fn transport_config(idle: Duration, loopback: bool) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(if loopback { MTU_LOOPBACK } else { MTU_NETWORK });
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_AT_FIRST))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(receive_window(STREAMS_AT_FIRST))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        .keep_alive_interval(None)
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .allow_spin(false)
        .mtu_discovery_config(Some(discovery));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_rule_for_every_allowed_stream_count() {
        assert_eq!(receive_window(1).into_inner(), 5 * 256 * 1024);
        let measured_stall_free = 9_900_000;
        assert!(receive_window(33).into_inner() >= measured_stall_free);
        for streams in 1..=1_025 {
            let unread = u64::from(streams) * u64::from(STREAM_WINDOW);
            let window = receive_window(streams).into_inner();
            assert!(window >= unread + u64::from(MIB), "{streams}");
            assert!(window * 7 >= unread * 8, "{streams}");
        }
    }
}
