//! Brokers reduced to their peer planes, and raw QUIC programs that pretend to be brokers.

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use quorate_broker::auth::TrustDomain;
use quorate_broker::clock::Clock;
use quorate_broker::clock::HybridClock;
use quorate_broker::peers::Boxed;
use quorate_broker::peers::Channel;
use quorate_broker::peers::Config;
use quorate_broker::peers::Environment;
use quorate_broker::peers::Inbound;
use quorate_broker::peers::Member;
use quorate_broker::peers::PeerState;
use quorate_broker::peers::Peers;
use quorate_broker::peers::Reach;
use quorate_broker::peers::Timings;
use quorate_broker::transport;
use quorate_broker::transport::Crypto;
use quorate_broker::transport::Limits;
use quorate_broker::transport::Parts;
use quorate_broker::transport::PeerConfig;
use quorate_broker::transport::PeerEndpoint;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::FRAME_HEADER_LEN;
use quorate_protocol::FrameHeader;
use quorate_protocol::GroupId;
use quorate_protocol::GroupTag;
use quorate_protocol::LogIndex;
use quorate_protocol::Message;
use quorate_protocol::PeerBody;
use quorate_protocol::PeerHello;
use quorate_protocol::PeerHelloAck;
use quorate_protocol::PeerMessage;
use quorate_protocol::PeerPurpose;
use quorate_protocol::ReplicaId;
use quorate_protocol::StorageId;
use quorate_protocol::Term;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::Authority;
use crate::authority::Identity;
use crate::authority::Leaf;
use crate::world::Client;
use crate::world::Refusal;
use crate::world::ShiftedClock;
use crate::world::dial_from;
use crate::world::material;
use crate::world::within;

/// A cluster's authorities, and its brokers' addresses.
pub(super) struct Cluster {
    pub(super) peers: Authority,
    pub(super) clients: Authority,
    pub(super) members: Vec<Member>,
}

/// How a broker differs from the usual one.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) storage: u128,
    pub(super) incarnation: u64,
    pub(super) starts: u64,
    pub(super) cluster: &'static str,
    pub(super) clock_shift_us: i64,
    pub(super) timings: Timings,
    pub(super) members: Option<Vec<Member>>,
}

/// One broker's peer plane.
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) peers: Peers,
    pub(super) metadata: Arc<Recorder>,
    pub(super) partitions: Arc<Recorder>,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// What came to a channel.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    delivered: Mutex<Vec<(BrokerId, PeerMessage)>>,
    pub(super) bytes: AtomicU64,
    pub(super) lost: AtomicU32,
    shut: AtomicBool,
    changed: Notify,
    opened: Arc<Notify>,
}

impl Recorder {
    /// Takes nothing until it is opened.
    pub(super) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    pub(super) fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    /// Waits until so many messages came.
    pub(super) async fn wait_for(&self, count: usize) -> Vec<(BrokerId, PeerMessage)> {
        self.wait_until(|| self.delivered.lock().len() >= count)
            .await;
        self.delivered.lock().clone()
    }

    /// Waits until messages were reported lost.
    pub(super) async fn wait_for_loss(&self) {
        self.wait_until(|| self.lost.load(Ordering::SeqCst) > 0)
            .await;
    }

    async fn wait_until(&self, holds: impl Fn() -> bool) {
        within(async {
            loop {
                let changed = self.changed.notified();
                if holds() {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }

    pub(super) fn count(&self) -> usize {
        self.delivered.lock().len()
    }
}

impl Inbound for Recorder {
    fn deliver(&self, from: BrokerId, messages: Vec<PeerMessage>, bytes: usize) {
        let messages = messages.into_iter().map(|message| (from, message));
        self.delivered.lock().extend(messages);
        self.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn has_room(&self) -> Option<Boxed<()>> {
        let opened = self.opened.clone();
        let opened = opened.notified_owned();
        self.shut
            .load(Ordering::SeqCst)
            .then(|| -> Boxed<()> { Box::pin(opened) })
    }

    fn lost(&self, _: BrokerId) {
        self.lost.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

impl Setup {
    pub(super) fn of(id: u16) -> Self {
        Self {
            storage: u128::from(id),
            incarnation: u64::from(id) * 100,
            starts: 1,
            cluster: "prod",
            clock_shift_us: 0,
            timings: Timings::default(),
            members: None,
        }
    }
}

impl Cluster {
    /// Brokers 1 to `count`, each with an address of its own, none started.
    pub(super) fn of(count: u16) -> Self {
        let sockets: Vec<_> = (0..count)
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let member = |(id, socket): (u16, &UdpSocket)| Member {
            id: BrokerId::new(id),
            name: name(id),
            address: socket.local_addr().unwrap().to_string(),
            storage: None,
        };
        Self {
            peers: Authority::new(),
            clients: Authority::new(),
            members: (1..).zip(&sockets).map(member).collect(),
        }
    }

    pub(super) fn member(&self, id: u16) -> Member {
        self.members[usize::from(id) - 1].clone()
    }

    pub(super) fn address(&self, id: u16) -> SocketAddr {
        self.member(id).address.parse().unwrap()
    }

    pub(super) fn members(&self, ids: &[u16]) -> Vec<Member> {
        ids.iter().map(|id| self.member(*id)).collect()
    }

    pub(super) fn identity(&self, uri: &str) -> Identity {
        broker_identity(&self.peers, uri)
    }

    pub(super) fn start(&self, id: u16) -> Node {
        self.start_as(id, Setup::of(id))
    }

    pub(super) fn start_as(&self, id: u16, setup: Setup) -> Node {
        let uri = format!("spiffe://{}/broker/{}", setup.cluster, name(id));
        let identity = self.identity(&uri);
        self.start_with(id, setup, &identity)
    }

    pub(super) fn start_with(&self, id: u16, setup: Setup, identity: &Identity) -> Node {
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        let clock: Arc<dyn Clock> = Arc::new(ShiftedClock::by_micros(setup.clock_shift_us));
        let endpoint = PeerConfig {
            cluster: TrustDomain::parse(setup.cluster).unwrap(),
            material: material(&self.peers, &self.clients, identity),
            limits: Limits::of_peers(),
            timings: transport::Timings::of_peers(),
        };
        let parts = Parts {
            socket: UdpSocket::bind(self.address(id)).unwrap(),
            crypto: Crypto::aws_lc(),
            clock: clock.clone(),
            tracker: tracker.clone(),
        };
        let config = Config {
            cluster: setup.cluster.to_owned(),
            me: BrokerId::new(id),
            name: name(id),
            storage: StorageId::new(setup.storage),
            incarnation: setup.incarnation,
            starts: setup.starts,
            members: setup.members.unwrap_or_else(|| self.members.clone()),
            timings: setup.timings,
        };
        let hybrid = HybridClock::new(clock.clone());
        let environment = Environment {
            clock,
            now: Arc::new(move || hybrid.tick()),
            entropy: Arc::new(|| 0),
            tracker: tracker.clone(),
            stop: stop.clone(),
        };
        let endpoint = PeerEndpoint::bind(endpoint, parts).unwrap();
        let peers = Peers::start(config, endpoint, environment);
        let (metadata, partitions) = (Arc::<Recorder>::default(), Arc::<Recorder>::default());
        peers.attach(Channel::METADATA, metadata.clone());
        peers.attach(Channel::PARTITIONS, partitions.clone());
        Node {
            id: BrokerId::new(id),
            peers,
            metadata,
            partitions,
            tracker,
            stop,
        }
    }

    /// The TLS of a raw program with this certificate.
    pub(super) fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.peers.certificate.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.private_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"quorate-peer/1".to_vec()];
        tls
    }

    /// A raw program that listens at the address of broker `id`.
    pub(super) fn server(&self, id: u16, identity: &Identity) -> Endpoint {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.private_key())
            .unwrap();
        tls.alpn_protocols = vec![b"quorate-peer/1".to_vec()];
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        Endpoint::server(config, self.address(id)).unwrap()
    }

    /// A raw connection to broker `to` with the certificate of broker `id`.
    pub(super) async fn raw(&self, id: u16, to: u16) -> Raw {
        let identity = self.identity(&format!("spiffe://prod/broker/{}", name(id)));
        let dialling = dial_from("127.0.0.1:0", self.address(to), self.tls(Some(&identity)));
        let client = within(dialling).await.unwrap();
        let (send, receive) = client.connection.open_bi().await.unwrap();
        Raw {
            client,
            send,
            receive,
        }
    }

    /// A raw connection that has been let in.
    pub(super) async fn raw_greeted(&self, id: u16, to: u16) -> Raw {
        let mut raw = self.raw(id, to).await;
        raw.say(&hello(id, to)).await;
        let ack = raw.hear::<PeerHelloAck>().await;
        assert_eq!(ack.broker, BrokerId::new(to));
        raw
    }
}

impl Node {
    /// Waits until a peer is in the state that is asked for.
    pub(super) async fn wait_for(&self, id: u16, wanted: impl Fn(&PeerState) -> bool) -> PeerState {
        let id = BrokerId::new(id);
        let mut states = self.peers.states();
        let reached = states.wait_for(|states| states.get(&id).is_some_and(&wanted));
        let states = within(reached).await.unwrap().clone();
        states.get(&id).unwrap().clone()
    }

    pub(super) async fn wait_until_up(&self, id: u16) {
        self.wait_for(id, |state| state.state == Reach::Up).await;
    }

    /// Why a peer refuses this broker.
    pub(super) async fn refusal(&self, id: u16) -> String {
        let state = self.wait_for(id, |state| state.refused.is_some()).await;
        assert_eq!(state.state, Reach::Down);
        state.refused.unwrap()
    }

    /// Ends it, and waits until nothing of it runs any more.
    pub(super) async fn end(self) {
        let Self {
            peers,
            tracker,
            stop,
            ..
        } = self;
        stop.cancel();
        drop(peers);
        tracker.close();
        within(tracker.wait()).await;
    }
}

/// A program that speaks QUIC and has a broker's certificate.
pub(super) struct Raw {
    pub(super) client: Client,
    pub(super) send: quinn::SendStream,
    pub(super) receive: quinn::RecvStream,
}

impl Raw {
    pub(super) async fn say(&mut self, message: &impl Message) {
        self.send.write_all(&message.to_frame()).await.unwrap();
    }

    pub(super) async fn hear<M: Message>(&mut self) -> M {
        let mut header = [0; FRAME_HEADER_LEN];
        within(self.receive.read_exact(&mut header)).await.unwrap();
        let limits = transport::PeerConnection::LIMITS;
        let header = FrameHeader::parse(&header, &limits).unwrap();
        let mut body = vec![0; header.body_len_usize()];
        within(self.receive.read_exact(&mut body)).await.unwrap();
        M::decode_frame(&header, &body).unwrap()
    }

    /// Opens a stream and writes to it.
    pub(super) async fn open(&self, bytes: &[u8]) -> quinn::SendStream {
        let (mut send, _) = within(self.client.connection.open_bi()).await.unwrap();
        // The other side may have ended it already.
        drop(send.write_all(bytes).await);
        send
    }

    /// With what the connection is closed by the other side.
    pub(super) async fn closed(&self) -> (ErrorCode, String) {
        let error = within(self.client.connection.closed()).await;
        match Refusal::from(error) {
            Refusal::Code(code, text) => (code, text),
            Refusal::Alert(alert) => panic!("alert {alert}"),
        }
    }
}

pub(super) fn name(id: u16) -> String {
    format!("b{id}")
}

pub(super) fn broker_identity(authority: &Authority, uri: &str) -> Identity {
    authority.issue(Leaf {
        usages: vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ],
        ..Leaf::named(&[uri])
    })
}

/// What broker `id` would say to broker `to`.
pub(super) fn hello(id: u16, to: u16) -> PeerHello {
    PeerHello {
        min_version: 1,
        max_version: 1,
        features: 0,
        kinds: quorate_protocol::Bounded::empty(),
        cluster: quorate_protocol::Text::clipped("prod"),
        broker: BrokerId::new(id),
        storage: StorageId::new(u128::from(id)),
        incarnation: u64::from(id) * 100,
        starts: 1,
        expects: BrokerId::new(to),
        purpose: PeerPurpose::RAFT,
        feature_level_min: 1,
        feature_level_max: 1,
        now: quorate_protocol::HybridTime::new(0),
    }
}

/// What broker `id` would answer.
pub(super) fn ack(id: u16) -> PeerHelloAck {
    PeerHelloAck {
        version: 1,
        features: 0,
        kinds: quorate_protocol::Bounded::empty(),
        broker: BrokerId::new(id),
        storage: StorageId::new(u128::from(id)),
        incarnation: u64::from(id) * 100,
        feature_level_min: 1,
        feature_level_max: 1,
        now: quorate_protocol::HybridTime::new(0),
    }
}

/// A small message with a number.
pub(super) fn numbered(number: u64) -> PeerMessage {
    PeerMessage {
        group: GroupId::new(1),
        tag: GroupTag::new(2),
        from: ReplicaId::new(3),
        to: ReplicaId::new(4),
        term: Term::new(5),
        body: PeerBody::Appended {
            index: LogIndex::new(number),
            commit: LogIndex::new(0),
        },
    }
}

pub(super) fn number(message: &PeerMessage) -> u64 {
    match &message.body {
        PeerBody::Appended { index, .. } => index.get(),
        other => panic!("{other:?}"),
    }
}

/// Bytes that nobody asked for.
pub(super) fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
