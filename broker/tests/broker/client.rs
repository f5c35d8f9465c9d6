//! A client that says exactly what a test wants it to say.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn::Endpoint;
use quinn::RecvStream;
use quinn::SendStream;
use quinn::crypto::rustls::QuicClientConfig;
use quorate_protocol::AckLevel;
use quorate_protocol::Acks;
use quorate_protocol::BatchBuilder;
use quorate_protocol::BatchIdentity;
use quorate_protocol::Body;
use quorate_protocol::Bounded;
use quorate_protocol::CreateTopic;
use quorate_protocol::Credit;
use quorate_protocol::ErrorCode;
use quorate_protocol::FRAME_HEADER_LEN;
use quorate_protocol::FrameHeader;
use quorate_protocol::Hello;
use quorate_protocol::HelloAck;
use quorate_protocol::InitProducer;
use quorate_protocol::InstanceId;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use quorate_protocol::Message;
use quorate_protocol::MessageId;
use quorate_protocol::MetadataReply;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Op;
use quorate_protocol::PartitionId;
use quorate_protocol::ProduceParams;
use quorate_protocol::ProducerGranted;
use quorate_protocol::PublishHeader;
use quorate_protocol::ReadParams;
use quorate_protocol::RecordBatch;
use quorate_protocol::RecordDraft;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use quorate_protocol::Sequence;
use quorate_protocol::SlowPolicy;
use quorate_protocol::Start;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamReject;
use quorate_protocol::StreamType;
use quorate_protocol::SubscribeParams;
use quorate_protocol::Text;
use quorate_protocol::TopicCreated;
use quorate_protocol::TopicId;
use quorate_protocol::TopicSettings;
use quorate_protocol::Until;
use quorate_protocol::records;

use crate::world::within;

const LIMITS: Limits = Limits {
    batch_bytes_max: 8 << 20,
    established: true,
};

/// Both directions of a stream, in frames.
pub(crate) struct Pipe {
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

/// One received frame.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) header: FrameHeader,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn kind(&self) -> Kind {
        self.header.kind
    }

    pub(crate) fn decode<M: Message>(&self) -> M {
        M::decode_frame(&self.header, &self.body)
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The batches of a Records frame.
    pub(crate) fn batches(&self) -> Vec<RecordBatch> {
        assert_eq!(self.kind(), Kind::RECORDS);
        let mut bytes = Bytes::copy_from_slice(&self.body);
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            batches.push(RecordBatch::split_first(&mut bytes).unwrap());
        }
        batches
    }
}

impl Pipe {
    pub(crate) async fn send<M: Message>(&mut self, message: &M) {
        self.send.write_all(&message.to_frame()).await.unwrap();
    }

    /// The next frame, or why there is none: `None` at the end of the stream.
    pub(crate) async fn try_next(&mut self) -> Result<Option<Received>, quinn::ReadExactError> {
        let mut header = [0; FRAME_HEADER_LEN];
        match self.receive.read_exact(&mut header).await {
            Ok(()) => {}
            Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let header = FrameHeader::parse(&header, &LIMITS).unwrap();
        let mut body = vec![0; header.body_len_usize()];
        self.receive.read_exact(&mut body).await?;
        Ok(Some(Received { header, body }))
    }

    pub(crate) async fn next(&mut self) -> Received {
        within(self.try_next())
            .await
            .unwrap()
            .expect("a frame, not the end of the stream")
    }

    pub(crate) async fn expect<M: Message>(&mut self) -> M {
        self.next().await.decode()
    }

    /// The next frame of this kind, whatever comes before it.
    pub(crate) async fn skip_to<M: Message>(&mut self) -> M {
        loop {
            let frame = self.next().await;
            if frame.kind() == M::KIND {
                return frame.decode();
            }
        }
    }

    /// The broker ends the stream in good order.
    pub(crate) async fn expect_end(&mut self) {
        let frame = within(self.try_next()).await.unwrap();
        assert!(frame.is_none(), "{frame:?} after the end");
    }

    /// The code the broker resets the stream with.
    pub(crate) async fn expect_reset(&mut self) -> ErrorCode {
        loop {
            match within(self.try_next()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended in good order"),
                Err(quinn::ReadExactError::ReadError(quinn::ReadError::Reset(code))) => {
                    return ErrorCode::new(u16::try_from(code.into_inner()).unwrap());
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// What an ordinary client says first.
pub(crate) fn hello() -> Hello {
    let kinds = (1..=0x38).map(|kind| (Kind::new(kind), 1));
    Hello {
        min_version: 1,
        max_version: 1,
        features: 0,
        sdk: Text::clipped("raw"),
        client_name: Text::clipped("broker tests"),
        instance_id: InstanceId::new(1),
        cluster: Some(Text::clipped("test")),
        max_frame: 8 << 20,
        kinds: Bounded::clipped(kinds.chain([(Kind::GREASE, 1)])),
    }
}

/// A connection without a greeting.
pub(crate) async fn dial(tls: rustls::ClientConfig, address: SocketAddr) -> Dialled {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let connection = endpoint
        .connect_with(config, address, "localhost")
        .unwrap()
        .await
        .unwrap();
    Dialled {
        _endpoint: endpoint,
        connection,
    }
}

/// A connection that was not greeted.
pub(crate) struct Dialled {
    _endpoint: Endpoint,
    pub(crate) connection: quinn::Connection,
}

impl Dialled {
    pub(crate) async fn open(&self) -> Pipe {
        let (send, receive) = within(self.connection.open_bi()).await.unwrap();
        Pipe { send, receive }
    }

    /// The code and text the broker closes the connection with.
    pub(crate) async fn closed(&self) -> (ErrorCode, String) {
        match within(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                let code = u16::try_from(close.error_code.into_inner()).unwrap();
                (
                    ErrorCode::new(code),
                    String::from_utf8(close.reason.to_vec()).unwrap(),
                )
            }
            other => panic!("{other}"),
        }
    }
}

/// A greeted client.
pub(crate) struct Client {
    pub(crate) raw: Dialled,
    pub(crate) control: Pipe,
    pub(crate) ack: HelloAck,
    correlation: u64,
}

impl Client {
    pub(crate) async fn connect(tls: rustls::ClientConfig, address: SocketAddr) -> Self {
        let raw = dial(tls, address).await;
        let mut control = raw.open().await;
        control.send(&hello()).await;
        let ack = control.expect().await;
        Self {
            raw,
            control,
            ack,
            correlation: 0,
        }
    }

    /// One request on the control stream; topology updates in between are skipped.
    pub(crate) async fn request(&mut self, op: Op, body: &impl Body) -> Reply {
        self.request_within(5000, op, body).await
    }

    /// One request with a deadline of its own.
    pub(crate) async fn request_within(
        &mut self,
        deadline_ms: u32,
        op: Op,
        body: &impl Body,
    ) -> Reply {
        self.correlation += 1;
        let request = Request {
            correlation: self.correlation,
            deadline_ms,
            op,
            body: body.to_blob().unwrap(),
        };
        self.control.send(&request).await;
        let reply: Reply = self.control.skip_to().await;
        assert_eq!(reply.correlation, self.correlation);
        reply
    }

    /// One request that succeeds.
    pub(crate) async fn ask<R: Body>(&mut self, op: Op, body: &impl Body) -> R {
        let reply = self.request(op, body).await;
        assert_eq!(reply.code, ErrorCode::OK, "{}", reply.detail);
        R::from_bytes(reply.body.as_bytes()).unwrap()
    }

    /// The id of a topic that exists.
    pub(crate) async fn topic_id(&mut self, name: &str) -> TopicId {
        let topics = Bounded::clipped([Text::clipped(name)]);
        let wanted = MetadataRequest {
            topics,
            create: false,
        };
        let reply: MetadataReply = self.ask(Op::METADATA, &wanted).await;
        reply.topics[0].id
    }

    pub(crate) async fn create_topic(&mut self, name: &str) -> TopicId {
        self.create_topic_with(name, 1, TopicSettings::default())
            .await
    }

    pub(crate) async fn create_topic_with(
        &mut self,
        name: &str,
        partitions: u32,
        settings: TopicSettings,
    ) -> TopicId {
        let request = create(name, partitions, settings);
        self.ask::<TopicCreated>(Op::CREATE_TOPIC, &request)
            .await
            .id
    }

    /// Opens a stream on partition 0 and says what it is for.
    pub(crate) async fn open(
        &self,
        stream: StreamType,
        topic: TopicId,
        params: &impl Body,
    ) -> Pipe {
        let open = StreamOpen {
            stream,
            topic,
            partition: PartitionId::new(0),
            topology_epoch: 0,
            deadline_ms: 5000,
            on_behalf_of: None,
            params: params.to_blob().unwrap(),
        };
        self.open_with(&open).await
    }

    pub(crate) async fn open_with(&self, open: &StreamOpen) -> Pipe {
        let mut pipe = self.raw.open().await;
        pipe.send(open).await;
        pipe
    }

    pub(crate) async fn producer(&mut self, topic: TopicId) -> Producer {
        let wanted = InitProducer {
            name: None,
            resume: None,
        };
        let granted: ProducerGranted = self.ask(Op::INIT_PRODUCER, &wanted).await;
        self.producer_as(topic, granted).await
    }

    /// A producer with numbers it has already.
    pub(crate) async fn producer_as(&self, topic: TopicId, granted: ProducerGranted) -> Producer {
        let params = ProduceParams {
            producer: granted.producer,
            epoch: granted.epoch,
        };
        let mut pipe = self.open(StreamType::PRODUCE, topic, &params).await;
        let accept: StreamAccept = pipe.expect().await;
        Producer {
            pipe,
            topic,
            granted,
            accept,
            next: 0,
        }
    }

    pub(crate) async fn subscribe(&self, topic: TopicId, start: Start, credit: u64) -> Subscriber {
        self.subscribe_as(topic, start, credit, SlowPolicy::PAUSE)
            .await
    }

    pub(crate) async fn subscribe_as(
        &self,
        topic: TopicId,
        start: Start,
        credit: u64,
        slow: SlowPolicy,
    ) -> Subscriber {
        let params = SubscribeParams {
            start: start.into(),
            slow,
            credit: Credit::new(credit),
        };
        let mut pipe = self.open(StreamType::SUBSCRIBE, topic, &params).await;
        let accept: StreamAccept = pipe.expect().await;
        Subscriber { pipe, accept }
    }

    pub(crate) async fn read(&self, topic: TopicId, from: Start, until: Until, max: u32) -> Pipe {
        let (from, until) = (from.into(), until.into());
        let params = ReadParams {
            from,
            until,
            records_max: max,
            bytes_max: 0,
        };
        self.open(StreamType::READ, topic, &params).await
    }

    /// Why a stream is refused.
    pub(crate) async fn rejection(
        &self,
        stream: StreamType,
        topic: TopicId,
        params: &impl Body,
    ) -> StreamReject {
        let mut pipe = self.open(stream, topic, params).await;
        let reject = pipe.expect().await;
        pipe.expect_end().await;
        reject
    }
}

pub(crate) fn create(name: &str, partitions: u32, settings: TopicSettings) -> CreateTopic {
    CreateTopic {
        name: Text::clipped(name),
        partitions,
        replicas: 0,
        settings,
        if_not_exists: false,
        dry_run: false,
    }
}

/// An open PRODUCE stream.
pub(crate) struct Producer {
    pub(crate) pipe: Pipe,
    pub(crate) topic: TopicId,
    pub(crate) granted: ProducerGranted,
    pub(crate) accept: StreamAccept,
    pub(crate) next: u64,
}

impl Producer {
    /// A batch of these values from `base` on, as it travels.
    pub(crate) fn batch(&self, base: u64, values: &[&str]) -> Bytes {
        let plain = values.iter().map(|value| (*value, None));
        self.batch_with_ids(base, plain)
    }

    pub(crate) fn batch_with_ids<'a>(
        &self,
        base: u64,
        values: impl IntoIterator<Item = (&'a str, Option<u128>)>,
    ) -> Bytes {
        let mut builder = BatchBuilder::new(1024);
        for (value, id) in values {
            let record = RecordDraft {
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
                timestamp_us: 1,
                id: id.map(MessageId::new),
            };
            builder.push(&record).unwrap();
        }
        let identity = BatchIdentity {
            producer_id: self.granted.producer,
            epoch: self.granted.epoch,
            base_sequence: Sequence::new(base),
            topic_hash: self.topic.hash32(),
        };
        builder.finish(identity).into_bytes()
    }

    pub(crate) async fn send_batch(&mut self, batch: &[u8], level: AckLevel) {
        let header = PublishHeader {
            level,
            flags: 0,
            deadline_ms: 5000,
            expect_offset: None,
        };
        self.send_as(&header, batch).await;
    }

    pub(crate) async fn send_as(&mut self, header: &PublishHeader, batch: &[u8]) {
        let prefix = header.frame_prefix(u32::try_from(batch.len()).unwrap());
        self.pipe.send.write_all(&prefix).await.unwrap();
        self.pipe.send.write_all(batch).await.unwrap();
    }

    /// Sends the next batch in sequence.
    pub(crate) async fn send(&mut self, values: &[&str]) {
        let batch = self.batch(self.next, values);
        self.next += u64::try_from(values.len()).unwrap();
        self.send_batch(&batch, AckLevel::QUORUM).await;
    }

    /// Acks that carry receipts.
    pub(crate) async fn acks(&mut self) -> Acks {
        loop {
            let acks: Acks = self.pipe.expect().await;
            if !acks.acks.is_empty() {
                return acks;
            }
        }
    }

    /// Sends the next batch and waits for its offset.
    pub(crate) async fn publish(&mut self, values: &[&str]) -> u64 {
        self.send(values).await;
        let acks = self.acks().await;
        assert_eq!(acks.acks.len(), 1);
        acks.acks[0].base_offset.unwrap().get()
    }
}

/// An open SUBSCRIBE stream.
pub(crate) struct Subscriber {
    pub(crate) pipe: Pipe,
    pub(crate) accept: StreamAccept,
}

impl Subscriber {
    /// The next batches, as (offset, value).
    pub(crate) async fn records(&mut self) -> Vec<(u64, String)> {
        loop {
            let frame = self.pipe.next().await;
            match frame.kind() {
                Kind::RECORDS => return values(&frame.batches()),
                Kind::PROGRESS => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Records until there are as many as wanted.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<(u64, String)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.records().await);
        }
        taken
    }
}

/// Offsets and values of batches.
pub(crate) fn values(batches: &[RecordBatch]) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for batch in batches {
        let payload = batch.payload();
        let views = records(&payload, batch.record_count(), batch.base_timestamp_us());
        for (offset, view) in (batch.base_offset().get()..).zip(views) {
            let value = String::from_utf8(view.unwrap().value.unwrap().to_vec()).unwrap();
            found.push((offset, value));
        }
    }
    found
}
