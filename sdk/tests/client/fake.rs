//! Brokers that share one log and do what a test tells them, each in a thread of its own so that
//! it can fall silent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use quinn::RecvStream;
use quinn::SendStream;
use quorate::Client;
use quorate_protocol::Ack;
use quorate_protocol::AckLevel;
use quorate_protocol::Acks;
use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerInfo;
use quorate_protocol::Credit;
use quorate_protocol::DraftBatch;
use quorate_protocol::ErrorCode;
use quorate_protocol::FRAME_HEADER_LEN;
use quorate_protocol::FrameHeader;
use quorate_protocol::GoAway;
use quorate_protocol::GoAwayReason;
use quorate_protocol::GroupId;
use quorate_protocol::Hello;
use quorate_protocol::HelloAck;
use quorate_protocol::HybridTime;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use quorate_protocol::Message;
use quorate_protocol::MetadataReply;
use quorate_protocol::Nack;
use quorate_protocol::Offset;
use quorate_protocol::Op;
use quorate_protocol::PUBLISH_HEADER_LEN;
use quorate_protocol::PartitionId;
use quorate_protocol::PartitionInfo;
use quorate_protocol::Ping;
use quorate_protocol::Pong;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerGranted;
use quorate_protocol::ProducerId;
use quorate_protocol::ReadEnd;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use quorate_protocol::SessionId;
use quorate_protocol::Stamp;
use quorate_protocol::Start;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamReject;
use quorate_protocol::StreamType;
use quorate_protocol::SubscribeParams;
use quorate_protocol::Term;
use quorate_protocol::Text;
use quorate_protocol::TopicId;
use quorate_protocol::TopicInfo;
use quorate_protocol::TopicList;
use quorate_protocol::TopicSettings;
use quorate_protocol::TopologyUpdate;
use quorate_protocol::records_header;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::world::Site;
use crate::world::within;

const LIMITS: Limits = Limits {
    batch_bytes_max: 8 << 20,
    established: true,
};
const TOPIC: TopicId = TopicId::new(7);

/// What a leader does with batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    /// Stores and acks them.
    #[default]
    Honest,
    /// Stores them and says nothing.
    Mute,
    /// Takes them, stores nothing, says nothing.
    CutOff,
}

/// A batch of the shared log.
#[derive(Debug, Clone)]
struct Stored {
    producer: ProducerId,
    base: u64,
    count: u32,
    offset: u64,
    term: u64,
    bytes: bytes::Bytes,
}

#[derive(Debug, Default)]
struct State {
    addresses: BTreeMap<u16, SocketAddr>,
    leader: Option<u16>,
    term: u64,
    moods: BTreeMap<u16, Mood>,
    redirects: BTreeMap<u16, u16>,
    tells: bool,
    leaving: BTreeMap<u16, u16>,
    log: Vec<Stored>,
    producers: u64,
    /// Streams asked for, by broker.
    asked: Vec<u16>,
    /// Batches received: broker, first sequence.
    received: Vec<(u16, u64)>,
    connections: Vec<u16>,
}

impl State {
    fn end(&self) -> u64 {
        let last = self.log.last();
        last.map_or(0, |last| last.offset + u64::from(last.count))
    }

    fn topic(&self) -> TopicInfo {
        TopicInfo {
            name: Text::clipped("orders"),
            id: TOPIC,
            epoch: 1,
            settings: TopicSettings::default(),
            partitions: Bounded::clipped([PartitionInfo {
                partition: PartitionId::new(0),
                leader: self.leader.map(BrokerId::new),
                term: Term::new(self.term),
                replicas: Bounded::clipped(self.addresses.keys().copied().map(BrokerId::new)),
            }]),
        }
    }

    fn brokers(&self) -> Bounded<BrokerInfo, 64> {
        let brokers = self.addresses.iter().map(|(id, address)| BrokerInfo {
            id: BrokerId::new(*id),
            name: Text::clipped(&format!("broker-{id}")),
            client_address: Text::clipped(&address.to_string()),
        });
        Bounded::clipped(brokers)
    }

    /// Appends a batch unless it is there; its receipt.
    fn append(&mut self, draft: DraftBatch) -> Ack {
        let (producer, base) = (draft.producer_id(), draft.base_sequence());
        let count = draft.record_count();
        let own = self.log.iter().filter(|stored| stored.producer == producer);
        let known = own.clone().find(|stored| stored.base == base.get());
        let next = own
            .map(|stored| stored.base + u64::from(stored.count))
            .max();
        let duplicate = known.is_some();
        let (offset, term) = match known {
            Some(stored) => (stored.offset, stored.term),
            None => {
                assert_eq!(next.unwrap_or(0), base.get(), "a sequence is missing");
                (self.end(), self.term)
            }
        };
        if !duplicate {
            let stamp = Stamp {
                base_offset: Offset::new(offset),
                term: Term::new(term),
                append_time: HybridTime::from_parts(1_000_000 + offset, 0),
                group: GroupId::new(1),
            };
            let bytes = draft.stamp(stamp).into_bytes();
            self.log.push(Stored {
                producer,
                base: base.get(),
                count,
                offset,
                term,
                bytes,
            });
        }
        Ack {
            base_sequence: base,
            count,
            base_offset: Some(Offset::new(offset)),
            term: Term::new(term),
            append_time: HybridTime::from_parts(1_000_000 + offset, 0),
            level: AckLevel::QUORUM,
            duplicate,
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.version.send_modify(|version| *version += 1);
        changed
    }
}

/// A cluster of fakes; topic `orders` has one partition.
pub(crate) struct Fakes {
    site: Site,
    shared: Arc<Shared>,
    threads: BTreeMap<u16, (oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl Fakes {
    pub(crate) async fn start(count: u16) -> Self {
        let site = Site::new();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                leader: Some(1),
                term: 1,
                tells: true,
                ..State::default()
            }),
            version: watch::Sender::new(0),
        });
        let mut threads = BTreeMap::new();
        for id in 1..=count {
            let (kill, killed) = oneshot::channel();
            let (tell, told) = oneshot::channel();
            let (site, broker) = (site.clone(), Arc::clone(&shared));
            let thread = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let endpoint = listen(&site);
                    tell.send(endpoint.local_addr().unwrap()).unwrap();
                    tokio::select! {
                        () = accept(endpoint, id, broker) => {}
                        _ = killed => {}
                    }
                });
                // Everything stops where it is; nobody is told.
                runtime.shutdown_background();
            });
            let address = within(told).await.unwrap();
            shared.state.lock().addresses.insert(id, address);
            threads.insert(id, (kill, thread));
        }
        Self {
            site,
            shared,
            threads,
        }
    }

    /// A client that knows the first broker's address.
    pub(crate) async fn client(&self) -> Client {
        let address = self.shared.state.lock().addresses[&1];
        within(self.site.builder(address).into_future())
            .await
            .unwrap()
    }

    /// From now on this broker leads, in the next term.
    pub(crate) fn lead(&self, leader: u16) {
        self.shared.change(|state| {
            state.leader = Some(leader);
            state.term += 1;
        });
    }

    pub(crate) fn mood(&self, broker: u16, mood: Mood) {
        self.shared.change(|state| state.moods.insert(broker, mood));
    }

    /// Whether brokers tell their clients of new leaders unasked.
    pub(crate) fn tell(&self, tells: bool) {
        self.shared.change(|state| state.tells = tells);
    }

    /// This broker sends everybody to that one.
    pub(crate) fn redirect(&self, from: u16, to: Option<u16>) {
        self.shared.change(|state| match to {
            Some(to) => state.redirects.insert(from, to),
            None => state.redirects.remove(&from),
        });
    }

    /// This broker asks its clients to go to that one.
    pub(crate) fn leave(&self, broker: u16, prefer: u16) {
        self.shared
            .change(|state| state.leaving.insert(broker, prefer));
    }

    /// This broker stops without a word.
    pub(crate) fn kill(&mut self, broker: u16) {
        let (kill, thread) = self.threads.remove(&broker).unwrap();
        kill.send(()).unwrap();
        thread.join().unwrap();
    }

    /// Brokers that were connected to, in order.
    pub(crate) fn connections(&self) -> Vec<u16> {
        self.shared.state.lock().connections.clone()
    }

    /// Streams that were asked for, by broker.
    pub(crate) fn asked(&self) -> Vec<u16> {
        self.shared.state.lock().asked.clone()
    }

    /// First sequences a broker received, in order.
    pub(crate) fn received(&self, broker: u16) -> Vec<u64> {
        let state = self.shared.state.lock();
        let own = state.received.iter().filter(|(by, _)| *by == broker);
        own.map(|(_, base)| *base).collect()
    }

    /// Records in the log.
    pub(crate) fn end(&self) -> u64 {
        self.shared.state.lock().end()
    }

    /// Waits until something holds of the brokers.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.shared.version.subscribe();
        let waiting = async {
            while !holds(self) {
                changes.changed().await.unwrap();
            }
        };
        within(waiting).await;
    }
}

fn listen(site: &Site) -> quinn::Endpoint {
    let issued = &site.certificates.brokers[0];
    let chain = CertificateDer::pem_file_iter(&issued.cert_file).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(issued.key_file.as_ref().unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"quorate/1".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
}

async fn accept(endpoint: quinn::Endpoint, id: u16, shared: Arc<Shared>) {
    let tracker = TaskTracker::new();
    while let Some(incoming) = endpoint.accept().await {
        let (shared, streams) = (Arc::clone(&shared), tracker.clone());
        tracker.spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            let Ok((send, receive)) = connection.accept_bi().await else {
                return;
            };
            shared.change(|state| state.connections.push(id));
            let control = Pipe {
                id,
                send,
                receive,
                shared: Arc::clone(&shared),
            };
            streams.spawn(control.control());
            while let Ok((send, receive)) = connection.accept_bi().await {
                let shared = Arc::clone(&shared);
                let pipe = Pipe {
                    id,
                    send,
                    receive,
                    shared,
                };
                streams.spawn(pipe.stream());
            }
        });
    }
}

/// One stream of one fake. Its methods end, as `None`, with the client.
struct Pipe {
    id: u16,
    send: SendStream,
    receive: RecvStream,
    shared: Arc<Shared>,
}

impl Pipe {
    async fn say<M: Message>(&mut self, message: &M) -> Option<()> {
        self.send.write_all(&message.to_frame()).await.ok()
    }

    async fn control(mut self) -> Option<()> {
        let (_, _) = next::<Hello>(&mut self.receive).await?;
        let ack = self.hello_ack();
        self.say(&ack).await?;
        let mut version = self.shared.version.subscribe();
        let mut interested = false;
        let mut left = false;
        loop {
            tokio::select! {
                frame = next_frame(&mut self.receive) => {
                    let (header, body) = frame?;
                    match header.kind {
                        Kind::REQUEST => {
                            let request = Request::decode_frame(&header, &body).ok()?;
                            interested |= request.op == Op::METADATA;
                            let reply = self.answer(&request);
                            self.say(&reply).await?;
                        }
                        Kind::PING => {
                            let ping = Ping::decode_frame(&header, &body).ok()?;
                            self.say(&Pong { nonce: ping.nonce }).await?;
                        }
                        _ => return None,
                    }
                }
                changed = version.changed() => {
                    changed.ok()?;
                    let (update, leaving) = {
                        let state = self.shared.state.lock();
                        let update = TopologyUpdate {
                            epoch: 1,
                            topics: Bounded::clipped([state.topic()]),
                            deleted: Bounded::empty(),
                        };
                        let tells = state.tells && interested;
                        (tells.then_some(update), state.leaving.get(&self.id).copied())
                    };
                    if let Some(update) = update {
                        self.say(&update).await?;
                    }
                    if let Some(prefer) = leaving && !std::mem::replace(&mut left, true) {
                        let go_away = GoAway {
                            reason: GoAwayReason::DRAINING,
                            deadline_ms: 10_000,
                            prefer: Bounded::clipped([BrokerId::new(prefer)]),
                        };
                        self.say(&go_away).await?;
                    }
                }
            }
        }
    }

    fn hello_ack(&self) -> HelloAck {
        HelloAck {
            version: 1,
            features: 0,
            kinds: Bounded::empty(),
            cluster: Text::clipped("test"),
            broker: BrokerId::new(self.id),
            session_id: SessionId::new(1),
            principal: Text::clipped("admin"),
            session_deadline_ms: 1 << 40,
            max_frame: 8 << 20,
            max_streams: 100,
            keepalive_ms: 10_000,
            topology_epoch: 1,
            brokers: self.shared.state.lock().brokers(),
            now: HybridTime::ZERO,
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.shared.state.lock();
        let body = match request.op {
            Op::METADATA => MetadataReply {
                epoch: 1,
                brokers: state.brokers(),
                topics: Bounded::clipped([state.topic()]),
            }
            .to_bytes(),
            Op::INIT_PRODUCER => {
                state.producers += 1;
                ProducerGranted {
                    producer: ProducerId::new(state.producers),
                    epoch: ProducerEpoch::new(0),
                }
                .to_bytes()
            }
            other => panic!("nobody taught the fakes {other:?}"),
        };
        Reply {
            correlation: request.correlation,
            code: ErrorCode::OK,
            detail: Text::default(),
            retry_after_ms: 0,
            body: Blob::new(body).unwrap(),
        }
    }

    async fn stream(mut self) -> Option<()> {
        let (open, _) = next::<StreamOpen>(&mut self.receive).await?;
        if open.stream == StreamType::ADMIN {
            return self.administer().await;
        }
        let (leads, hint, end) = self.shared.change(|state| {
            state.asked.push(self.id);
            let redirect = state.redirects.get(&self.id).copied();
            let leads = redirect.is_none() && state.leader == Some(self.id);
            (leads, redirect.or(state.leader), state.end())
        });
        if !leads {
            let reject = StreamReject {
                code: ErrorCode::NOT_LEADER,
                detail: Text::default(),
                leader: hint.map(BrokerId::new),
                retry_after_ms: 0,
                range: None,
            };
            self.say(&reject).await?;
            return self.send.finish().ok();
        }
        let start = match open.stream {
            StreamType::SUBSCRIBE => {
                let params = SubscribeParams::from_bytes(open.params.as_bytes()).unwrap();
                match Start::try_from(params.start).unwrap() {
                    Start::Offset(offset) => offset.get(),
                    Start::Earliest => 0,
                    _ => end,
                }
            }
            StreamType::READ => 0,
            _ => end,
        };
        let accept = StreamAccept {
            start: Offset::new(start),
            log_start: Offset::ZERO,
            high_watermark: Offset::new(end),
            credit: Credit::new(1 << 40),
        };
        self.say(&accept).await?;
        match open.stream {
            StreamType::PRODUCE => self.produce().await,
            StreamType::SUBSCRIBE => self.feed(start).await,
            StreamType::READ => self.page().await,
            other => panic!("nobody taught the fakes {other:?}"),
        }
    }

    /// Answers a list of no topics.
    async fn administer(mut self) -> Option<()> {
        let (request, _) = next::<Request>(&mut self.receive).await?;
        assert_eq!(request.op, Op::LIST_TOPICS);
        self.shared.change(|state| state.asked.push(self.id));
        let list = TopicList {
            topics: Bounded::empty(),
        };
        let reply = Reply {
            correlation: request.correlation,
            code: ErrorCode::OK,
            detail: Text::default(),
            retry_after_ms: 0,
            body: Blob::new(list.to_bytes()).unwrap(),
        };
        self.say(&reply).await?;
        self.send.finish().ok()
    }

    /// Sends the whole log.
    async fn page(mut self) -> Option<()> {
        let (log, end) = {
            let state = self.shared.state.lock();
            (state.log.clone(), state.end())
        };
        for stored in log {
            let len = u32::try_from(stored.bytes.len()).unwrap();
            self.send.write_all(&records_header(len)).await.ok()?;
            self.send.write_all(&stored.bytes).await.ok()?;
        }
        let end = ReadEnd {
            next: Offset::new(end),
            log_start: Offset::ZERO,
            high_watermark: Offset::new(end),
        };
        self.say(&end).await?;
        self.send.finish().ok()
    }

    async fn produce(mut self) -> Option<()> {
        loop {
            let (header, body) = next_frame(&mut self.receive).await?;
            assert_eq!(header.kind, Kind::PUBLISH);
            let batch = BytesMut::from(&body[PUBLISH_HEADER_LEN..]);
            let draft = DraftBatch::parse(batch).unwrap();
            let base = draft.base_sequence().get();
            let leads = self.shared.state.lock().leader == Some(self.id);
            if !leads {
                let leader = self.shared.state.lock().leader;
                let nack = Nack {
                    from_sequence: draft.base_sequence(),
                    unproposed_sequence: draft.base_sequence(),
                    code: ErrorCode::NOT_LEADER,
                    detail: Text::default(),
                    leader: leader.map(BrokerId::new),
                    retry_after_ms: 0,
                    duplicates: Bounded::empty(),
                };
                self.say(&nack).await?;
                return self.send.finish().ok();
            }
            let ack = self.shared.change(|state| {
                state.received.push((self.id, base));
                match state.moods.get(&self.id).copied().unwrap_or_default() {
                    Mood::Honest => Some(state.append(draft)),
                    Mood::Mute => {
                        state.append(draft);
                        None
                    }
                    Mood::CutOff => None,
                }
            });
            if let Some(ack) = ack {
                let acks = Acks {
                    acks: Bounded::clipped([ack]),
                    credit: Credit::new(1 << 40),
                };
                self.say(&acks).await?;
            }
        }
    }

    /// Sends the log from an offset on, as it grows.
    async fn feed(mut self, mut next: u64) -> Option<()> {
        let mut version = self.shared.version.subscribe();
        loop {
            version.mark_unchanged();
            let batches: Vec<Stored> = {
                let state = self.shared.state.lock();
                let wanted = |stored: &&Stored| stored.offset + u64::from(stored.count) > next;
                state.log.iter().filter(wanted).cloned().collect()
            };
            for stored in batches {
                let len = u32::try_from(stored.bytes.len()).unwrap();
                self.send.write_all(&records_header(len)).await.ok()?;
                self.send.write_all(&stored.bytes).await.ok()?;
                next = stored.offset + u64::from(stored.count);
            }
            version.changed().await.ok()?;
        }
    }
}

async fn next_frame(receive: &mut RecvStream) -> Option<(FrameHeader, Vec<u8>)> {
    let mut header = [0; FRAME_HEADER_LEN];
    receive.read_exact(&mut header).await.ok()?;
    let header = FrameHeader::parse(&header, &LIMITS).unwrap();
    let mut body = vec![0; header.body_len_usize()];
    receive.read_exact(&mut body).await.ok()?;
    Some((header, body))
}

async fn next<M: Message>(receive: &mut RecvStream) -> Option<(M, FrameHeader)> {
    let (header, body) = next_frame(receive).await?;
    Some((M::decode_frame(&header, &body).unwrap(), header))
}

/// How long `work` took.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let clock = quorate_broker::Environment::machine().clock;
    let began = clock.monotonic();
    let done = work.await;
    (done, clock.monotonic().saturating_sub(began))
}
