//! TLS and QUIC features that must be off, and protocol versions that do not match.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quinn::Endpoint;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::NamedGroup;
use rustls::client::ClientSessionMemoryCache;
use rustls::client::ClientSessionStore;
use rustls::client::Resumption;
use rustls::client::Tls12ClientSessionValue;
use rustls::client::Tls13ClientSessionValue;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;

use crate::world::Refusal;
use crate::world::World;
use crate::world::within;

const NO_APPLICATION_PROTOCOL: Refusal = Refusal::Alert(120);
const HANDSHAKE_FAILURE: Refusal = Refusal::Alert(40);

#[tokio::test]
async fn only_our_application_protocol_is_spoken() {
    let world = World::start();
    let alice = world.alice();
    for protocol in ["h3", "quorate/2", "quorate/1 ", "quorate-peer/1"] {
        let mut tls = world.tls(Some(&alice));
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let refusal = world.refusal_of(tls).await;
        assert_eq!(refusal, NO_APPLICATION_PROTOCOL, "{protocol:?}");
    }
    let mut tls = world.tls(Some(&alice));
    tls.alpn_protocols = Vec::new();
    assert_eq!(world.refusal_of(tls).await, NO_APPLICATION_PROTOCOL);
}

#[tokio::test]
async fn classical_key_exchange_is_accepted_in_one_form_only() {
    let world = World::start();
    let alice = world.alice();
    let with_group = |group| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups.retain(|known| known.name() == group);
        world.tls_with(Some(&alice), provider)
    };
    for group in [NamedGroup::X25519, NamedGroup::X25519MLKEM768] {
        assert!(world.dial(with_group(group)).await.is_ok(), "{group:?}");
        assert!(world.listener.accept().await.is_some());
    }
    let refusal = world.refusal_of(with_group(NamedGroup::secp256r1)).await;
    assert_eq!(refusal, HANDSHAKE_FAILURE);
}

/// A client's session store that counts what it is given.
#[derive(Debug)]
struct CountingStore(ClientSessionMemoryCache, AtomicUsize);

impl ClientSessionStore for CountingStore {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.0.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

#[tokio::test]
async fn there_are_no_tickets_and_so_neither_resumption_nor_early_data() {
    let world = World::start();
    let store = Arc::new(CountingStore(
        ClientSessionMemoryCache::new(8),
        AtomicUsize::new(0),
    ));
    let mut tls = world.tls(Some(&world.alice()));
    tls.resumption = Resumption::store(store.clone());
    tls.enable_early_data = true;
    let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    for _ in 0..3 {
        let config = quinn::ClientConfig::new(crypto.clone());
        let connecting = endpoint
            .connect_with(config, world.address(), "localhost")
            .unwrap();
        let connecting = connecting.into_0rtt().map(drop).unwrap_err();
        let client = within(connecting).await.unwrap();
        let server = within(world.listener.accept()).await.unwrap();
        // An answered exchange: a ticket would have come before it.
        server.close(quorate_protocol::ErrorCode::OK, "");
        within(client.closed()).await;
        assert_eq!(store.1.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn datagrams_and_one_way_streams_are_off() {
    let world = World::start();
    let (client, _server) = world.connect().await;
    assert_eq!(client.connection.max_datagram_size(), None);
    let opening = client.connection.open_uni();
    let opened = tokio::time::timeout(Duration::from_millis(100), opening).await;
    assert!(opened.is_err(), "a one-way stream was opened");
}

#[tokio::test]
async fn a_client_that_moves_keeps_its_connection() {
    let world = World::start();
    let (client, server) = world.connect().await;
    let before = server.remote();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.endpoint.rebind(socket).unwrap();
    within(async {
        let (mut send, mut receive) = client.connection.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        let (mut frames, _receiver) = server.accept_stream().await.unwrap();
        // The broker answers, and hears acknowledgements from the new place.
        while server.remote() == before {
            frames.send(Bytes::from_static(b"echo")).await.unwrap();
            receive.read_exact(&mut [0; 4]).await.unwrap();
            send.write_all(&[0]).await.unwrap();
        }
    })
    .await;
    assert_eq!(server.principal().name(), "alice");
}

#[tokio::test]
async fn large_datagrams_are_found_on_loopback() {
    let world = World::start();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut endpoint_config = quinn::EndpointConfig::default();
    endpoint_config.max_udp_payload_size(16_384).unwrap();
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = Endpoint::new(endpoint_config, None, socket, runtime).unwrap();
    let tls = world.tls(Some(&world.alice()));
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let connecting = endpoint
        .connect_with(config, world.address(), "localhost")
        .unwrap();
    let (client, server) = tokio::join!(connecting, world.listener.accept());
    let (client, server) = (client.unwrap(), server.unwrap());
    within(async {
        let (mut send, mut receive) = client.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        let (mut frames, _) = server.accept_stream().await.unwrap();
        let mut sink = vec![0; 65_536];
        while server.stats().mtu < 16_000 {
            frames.send(Bytes::from(vec![0; 65_536])).await.unwrap();
            receive.read_exact(&mut sink).await.unwrap();
        }
    })
    .await;
    assert!(server.stats().rtt < Duration::from_secs(1));
    assert!(server.stats().sent_bytes > 0 && server.stats().received_bytes > 0);
}
