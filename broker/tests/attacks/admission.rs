//! Too many handshakes and too many connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::Endpoint;
use quinn_proto::EndpointConfig;
use quorate_broker::transport::Limits;
use quorate_broker::transport::Timings;
use quorate_protocol::ErrorCode;
use tokio::net::UdpSocket;

use crate::world::Refusal;
use crate::world::Setup;
use crate::world::World;
use crate::world::dial_from;
use crate::world::within;

/// First packets of connections that are never continued.
fn initials(world: &World, count: usize) -> Vec<Vec<u8>> {
    let tls = world.tls(Some(&world.alice()));
    let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    let config = quinn_proto::ClientConfig::new(crypto);
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
    #[expect(
        clippy::disallowed_methods,
        reason = "the engine wants to know when it began"
    )]
    let now = Instant::now();
    let mut packets = Vec::new();
    while packets.len() < count {
        let (_, mut connection) = endpoint
            .connect(now, config.clone(), world.address(), "localhost")
            .unwrap();
        let mut packet = Vec::new();
        assert!(connection.poll_transmit(now, 1, &mut packet).is_some());
        packets.push(packet);
    }
    packets
}

fn is_retry(packet: &[u8]) -> bool {
    packet[0] & 0xf0 == 0xf0
}

#[tokio::test]
async fn a_flood_of_first_packets_is_answered_with_retry_and_honest_clients_get_in() {
    let world = World::with(Setup {
        timings: Timings {
            handshake: Duration::from_secs(10),
            ..Timings::default()
        },
        ..Setup::default()
    });
    let flood = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packets = initials(&world, 1_000);
    let before = resident();
    let sending = async {
        for packet in &packets {
            flood.send_to(packet, world.address()).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let counting = async {
        let mut buffer = [0; 2_048];
        let (mut retries, mut others) = (0, std::collections::BTreeSet::new());
        // Every packet beyond the first 64 is answered at once.
        while retries < packets.len() - 64 {
            let (len, _) = flood.recv_from(&mut buffer).await.unwrap();
            if is_retry(&buffer[..len]) {
                retries += 1;
            } else {
                // The peer's connection id tells handshakes apart.
                others.insert(buffer[6..14].to_vec());
            }
        }
        others.len()
    };
    let ((), begun) = within(async { tokio::join!(sending, counting) }).await;
    assert!(begun <= 64, "{begun} handshakes were begun");
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 10 << 20,
        "{grown} bytes for handshakes never continued"
    );
    let (_client, server) = within(world.connect()).await;
    assert_eq!(server.principal().name(), "alice");
}

#[tokio::test]
async fn a_source_beyond_its_rate_is_not_answered_while_others_are() {
    let world = World::with(Setup {
        limits: Limits {
            handshakes_per_second: 0,
            handshakes_burst: 3,
            cap_loopback: true,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let alice = world.alice();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(world.connect().await);
    }
    let dialling = world.dial(world.tls(Some(&alice)));
    let silent = tokio::time::timeout(Duration::from_millis(500), dialling).await;
    assert!(silent.is_err(), "the fourth was answered");
    let other = dial_from("127.0.0.2:0", world.address(), world.tls(Some(&alice)));
    assert!(within(other).await.is_ok());
}

#[tokio::test]
async fn connections_beyond_a_cap_are_told_so_and_places_come_back() {
    for (limits, named) in [
        (
            Limits {
                connections_max: 2,
                ..Limits::default()
            },
            "limits.connections_max",
        ),
        (
            Limits {
                connections_per_principal_max: 2,
                ..Limits::default()
            },
            "limits.connections_per_principal_max",
        ),
        (
            Limits {
                connections_per_address_max: 2,
                cap_loopback: true,
                ..Limits::default()
            },
            "address",
        ),
    ] {
        let world = World::with(Setup {
            limits,
            ..Setup::default()
        });
        let first = world.connect().await;
        let _second = world.connect().await;
        let Refusal::Code(code, text) = world.refusal(Some(&world.alice())).await else {
            panic!("no code");
        };
        assert_eq!(code, ErrorCode::TOO_MANY_CONNECTIONS);
        assert!(text.contains(named), "{text}");
        drop(first);
        let _third = world.connect().await;
    }
}

#[tokio::test]
async fn a_handshake_that_is_not_continued_is_forgotten() {
    let world = World::with(Setup {
        timings: Timings {
            handshake: Duration::from_millis(100),
            ..Timings::default()
        },
        ..Setup::default()
    });
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for packet in initials(&world, 64) {
        silent.send_to(&packet, world.address()).await.unwrap();
    }
    // All 64 places for unproved sources come back, so an answer is not a retry.
    within(async {
        loop {
            let probe = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let packet = initials(&world, 1).remove(0);
            probe.send_to(&packet, world.address()).await.unwrap();
            let mut buffer = [0; 2_048];
            let (len, _) = probe.recv_from(&mut buffer).await.unwrap();
            if !is_retry(&buffer[..len]) {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn closing_the_listener_tells_clients_and_ends_its_tasks() {
    let world = World::start();
    let (client, server) = world.connect().await;
    let address: SocketAddr = world.address();
    world.listener.close(ErrorCode::DRAINING, "going down");
    let told = Refusal::from(within(client.connection.closed()).await);
    assert_eq!(
        told,
        Refusal::Code(ErrorCode::DRAINING, "going down".to_owned())
    );
    assert!(within(world.listener.accept()).await.is_none());
    drop((client, server));
    within(world.listener.wait_idle()).await;
    let World {
        listener, tracker, ..
    } = world;
    drop(listener);
    tracker.close();
    within(tracker.wait()).await;
    assert!(
        std::net::UdpSocket::bind(address).is_ok(),
        "the port is free again"
    );
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[tokio::test]
async fn idle_connections_are_small() {
    let world = World::start();
    let tls = world.tls(Some(&world.alice()));
    let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connect = async || {
        let config = quinn::ClientConfig::new(crypto.clone());
        let connecting = endpoint
            .connect_with(config, world.address(), "localhost")
            .unwrap();
        let (client, server) = tokio::join!(connecting, world.listener.accept());
        (client.unwrap(), server.unwrap())
    };
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(connect().await);
    }
    let before = resident();
    for _ in 0..400 {
        open.push(connect().await);
    }
    let each = (resident() - before) / 400;
    // Both ends are in this process.
    assert!(each < 2 * 60 * 1024, "{each} bytes for both ends");
}
