//! Values of every wire type, made from a source of choices.
//!
//! The smallest source gives zeros and empty lists, the largest gives full options and numbers of
//! full length, each another one, so that no two fields can change places unnoticed; any bytes give something between. Golden files and properties share them.

use bytes::Bytes;
use quorate_protocol::*;

/// Where the choices come from.
pub(crate) struct Source<'a> {
    mode: Mode<'a>,
}

enum Mode<'a> {
    Smallest,
    /// How many numbers were given.
    Largest(u8),
    Bytes(&'a [u8]),
}

impl<'a> Source<'a> {
    pub(crate) const fn smallest() -> Source<'static> {
        Source {
            mode: Mode::Smallest,
        }
    }

    pub(crate) const fn largest() -> Source<'static> {
        Source {
            mode: Mode::Largest(0),
        }
    }

    pub(crate) const fn bytes(bytes: &'a [u8]) -> Self {
        Self {
            mode: Mode::Bytes(bytes),
        }
    }

    fn byte(&mut self) -> u8 {
        match &mut self.mode {
            Mode::Smallest => 0,
            Mode::Largest(_) => u8::MAX,
            Mode::Bytes(left) => left.split_off_first().copied().unwrap_or(0),
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        // Short numbers are as interesting as long ones.
        let width = match self.mode {
            Mode::Bytes(_) => usize::from(self.byte()) % (N + 1),
            _ => N,
        };
        let mut array = [0; N];
        for slot in array.iter_mut().take(width) {
            *slot = self.byte();
        }
        if let (Mode::Largest(given), Some(low)) = (&mut self.mode, array.first_mut()) {
            *low -= *given;
            *given = (*given + 1) % 128;
        }
        array
    }

    /// How many items a list of at most `max` gets.
    fn len(&mut self, max: usize) -> usize {
        match self.mode {
            Mode::Smallest => 0,
            Mode::Largest(_) => max.min(2),
            Mode::Bytes(_) => usize::from(self.byte() % 6).min(max),
        }
    }
}

/// A value that a source of choices can make.
pub(crate) trait Sample: Sized {
    fn sample(source: &mut Source<'_>) -> Self;
}

macro_rules! numbers {
    ($($name:ty: $raw:ty,)+) => {$(
        impl Sample for $name {
            fn sample(source: &mut Source<'_>) -> Self {
                Self::new(<$raw>::sample(source))
            }
        }
    )+};
}

macro_rules! integers {
    ($($raw:ty,)+) => {$(
        impl Sample for $raw {
            fn sample(source: &mut Source<'_>) -> Self {
                Self::from_le_bytes(source.array())
            }
        }
    )+};
}

macro_rules! structs {
    ($($name:ident { $($field:ident)+ })+) => {$(
        impl Sample for $name {
            fn sample(source: &mut Source<'_>) -> Self {
                Self { $($field: Sample::sample(source),)+ }
            }
        }
    )+};
}

integers! { u8, u16, u32, u64, u128, i64, }

numbers! {
    Offset: u64, Term: u64, ProducerId: u64, Sequence: u64, Credit: u64, HybridTime: u64,
    GroupId: u32, PartitionId: u32, ProducerEpoch: u32, BrokerId: u16,
    TopicId: u128, MessageId: u128, SessionId: u128, InstanceId: u128,
    ErrorCode: u16, Kind: u8, Op: u16, StreamType: u16, SlowPolicy: u16, GapReason: u16,
    GoAwayReason: u16, StorageMode: u16, AckLevel: u8,
    LogIndex: u64, GroupTag: u64, ReplicaId: u64, StorageId: u128, PeerPurpose: u16,
    SnapshotFileKind: u16, ClusterHealth: u16, BrokerState: u16, ClusterChangeKind: u16,
}

impl Sample for bool {
    fn sample(source: &mut Source<'_>) -> Self {
        source.byte() & 1 == 1
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source<'_>) -> Self {
        bool::sample(source).then(|| T::sample(source))
    }
}

impl<A: Sample, B: Sample> Sample for (A, B) {
    fn sample(source: &mut Source<'_>) -> Self {
        (A::sample(source), B::sample(source))
    }
}

impl<T: Sample, const N: usize> Sample for Bounded<T, N> {
    fn sample(source: &mut Source<'_>) -> Self {
        let len = source.len(N);
        Self::clipped((0..len).map(|_| T::sample(source)))
    }
}

impl<const N: usize> Sample for Text<N> {
    fn sample(source: &mut Source<'_>) -> Self {
        const CHARACTERS: [char; 8] = ['a', 'Z', '0', '.', ' ', 'é', '漢', '\u{1F980}'];
        let len = source.len(N);
        let character = |_| CHARACTERS.get(usize::from(source.byte() % 8));
        Self::clipped(&(0..len).filter_map(character).collect::<String>())
    }
}

impl<const N: usize> Sample for Blob<N> {
    fn sample(source: &mut Source<'_>) -> Self {
        let len = source.len(N);
        let bytes: Vec<u8> = (0..len).map(|_| source.byte()).collect();
        Self::new(bytes).unwrap()
    }
}

structs! {
    Hello { min_version max_version features sdk client_name instance_id cluster max_frame kinds }
    HelloAck { version features kinds cluster broker session_id principal session_deadline_ms
        max_frame max_streams keepalive_ms topology_epoch brokers now }
    HelloReject { code min_version max_version retry_after_ms text }
    BrokerInfo { id name client_address }
    StreamOpen { stream topic partition topology_epoch deadline_ms on_behalf_of params }
    ProduceParams { producer epoch }
    SubscribeParams { start slow credit }
    ReadParams { from until records_max bytes_max }
    StartPosition { kind value }
    EndPosition { kind value }
    StreamAccept { start log_start high_watermark credit }
    StreamReject { code detail leader retry_after_ms range }
    Acks { acks credit }
    Ack { base_sequence count base_offset term append_time level duplicate }
    Nack { from_sequence unproposed_sequence code detail leader retry_after_ms duplicates }
    Rewind { sequence }
    CreditGrant { bytes records }
    Progress { high_watermark lag }
    Gap { from to reason }
    End { code detail }
    ReadEnd { next log_start high_watermark }
    Request { correlation deadline_ms op body }
    Reply { correlation code detail retry_after_ms body }
    Ping { nonce }
    Pong { nonce }
    TopologyUpdate { epoch topics deleted }
    GoAway { reason deadline_ms prefer }
    TopicInfo { name id epoch settings partitions }
    PartitionInfo { partition leader term replicas }
    TopicSettings { retention_bytes retention_time_ms storage flush_interval_us ack dedup_window_ms
        dedup_ids_max segment_age_ms record_bytes_max }
    MetadataRequest { topics create }
    MetadataReply { epoch brokers topics }
    InitProducer { name resume }
    ProducerGranted { producer epoch }
    CreateTopic { name partitions replicas settings if_not_exists dry_run }
    TopicCreated { id partitions replicas created }
    DeleteTopic { name dry_run }
    TopicDeleted { id }
    ListTopics { internal }
    TopicList { topics }
    TopicSummary { name id partitions replicas settings records bytes subscribers }
    DescribeTopic { name }
    TopicDescription { summary partitions }
    PartitionDescription { partition leader preferred term replicas in_sync log_start
        high_watermark bytes }
    ClusterStatusRequest { partitions after }
    PartitionCursor { topic partition }
    ClusterStatus { cluster feature_level health brokers metadata_leader metadata_term
        metadata_applied total leaderless under_replicated alarms partitions more }
    BrokerStatus { id name state client_address peer_address version leaders replicas
        clock_offset_us clock_error_us disk_free_bytes cert_not_after_s uptime_s }
    Alarm { code broker text }
    PartitionHealth { topic partition leader term replicas in_sync lags high_watermark }
    ClusterChange { kind broker name address topic partition replicas dry_run }
    ClusterChanged { changed detail }
    PeerHello { min_version max_version features kinds cluster broker storage incarnation starts
        expects purpose feature_level_min feature_level_max now }
    PeerHelloAck { version features kinds broker storage incarnation feature_level_min
        feature_level_max now }
    LaneOpen { lane }
    PeerForward { command }
    PeerForwarded { code detail effect }
    PeerStatus { version uptime_s disk_free_bytes cert_not_after_s draining catching_up full led }
    LedPartition { group term high_watermark log_start bytes subscribers followers }
    FollowerState { broker lag in_sync }
    PeerJoined { birth members }
    PeerMember { id name client_address peer_address storage replica }
    PeerClock { sent }
    PeerClockReply { received_us replied_us }
    PeerTransfer { group to }
    SnapshotOpen { group tag from index term }
    SnapshotManifest { files commit }
    SnapshotFile { kind base last len crc }
    SnapshotResume { have }
    SnapshotDone { bytes }
}

/// A value's bytes and its text.
pub(crate) type Written = (Vec<u8>, String);

/// One wire type: how its values are made, written and read.
pub(crate) struct WireType {
    /// Its name in file names.
    pub(crate) name: &'static str,
    /// The version of its layout.
    pub(crate) version: u16,
    /// The kind, if it is a frame's body.
    pub(crate) kind: Option<Kind>,
    /// Makes a value; gives its bytes and its text.
    pub(crate) make: fn(&mut Source<'_>) -> Written,
    /// Reads bytes; gives what they encode to again, and the value's text.
    pub(crate) read: fn(&[u8]) -> Result<Written, DecodeError>,
    /// Reads bytes and drops what was read.
    pub(crate) accepts: fn(&[u8]) -> bool,
}

macro_rules! wire_types {
    (messages { $($message:ty: $message_name:literal,)+ } bodies { $($body:ty: $body_name:literal,)+ }) => {
        /// Every message and every body.
        pub(crate) const WIRE_TYPES: &[WireType] = &[
            $(WireType {
                name: $message_name,
                version: <$message>::VERSION,
                kind: Some(<$message>::KIND),
                make: |source| text_and_bytes(&<$message>::sample(source), body_of),
                read: |bytes| {
                    let value = <$message>::decode_body(bytes)?;
                    Ok(text_and_bytes(&value, body_of))
                },
                accepts: |bytes| <$message>::decode_body(bytes).is_ok(),
            },)+
            $(WireType {
                name: $body_name,
                version: 1,
                kind: None,
                make: |source| text_and_bytes(&<$body>::sample(source), |body| body.to_bytes().to_vec()),
                read: |bytes| {
                    let value = <$body>::from_bytes(bytes)?;
                    Ok(text_and_bytes(&value, |body| body.to_bytes().to_vec()))
                },
                accepts: |bytes| <$body>::from_bytes(bytes).is_ok(),
            },)+
        ];
    };
}

wire_types! {
    messages {
        Hello: "hello",
        HelloAck: "hello_ack",
        HelloReject: "hello_reject",
        Request: "request",
        Reply: "reply",
        Ping: "ping",
        Pong: "pong",
        TopologyUpdate: "topology_update",
        GoAway: "go_away",
        StreamOpen: "stream_open",
        StreamAccept: "stream_accept",
        StreamReject: "stream_reject",
        Acks: "acks",
        Nack: "nack",
        Rewind: "rewind",
        CreditGrant: "credit",
        Progress: "progress",
        Gap: "gap",
        End: "end",
        ReadEnd: "read_end",
        PeerHello: "peer_hello",
        PeerHelloAck: "peer_hello_ack",
        LaneOpen: "lane_open",
        SnapshotOpen: "snapshot_open",
        SnapshotManifest: "snapshot_manifest",
        SnapshotResume: "snapshot_resume",
        SnapshotDone: "snapshot_done",
    }
    bodies {
        ProduceParams: "produce_params",
        SubscribeParams: "subscribe_params",
        ReadParams: "read_params",
        MetadataRequest: "metadata_request",
        MetadataReply: "metadata_reply",
        InitProducer: "init_producer",
        ProducerGranted: "producer_granted",
        CreateTopic: "create_topic",
        TopicCreated: "topic_created",
        DeleteTopic: "delete_topic",
        TopicDeleted: "topic_deleted",
        ListTopics: "list_topics",
        TopicList: "topic_list",
        DescribeTopic: "describe_topic",
        TopicDescription: "topic_description",
        ClusterStatusRequest: "cluster_status_request",
        ClusterStatus: "cluster_status",
        ClusterChange: "cluster_change",
        ClusterChanged: "cluster_changed",
        PeerForward: "peer_forward",
        PeerForwarded: "peer_forwarded",
        PeerStatus: "peer_status",
        PeerJoined: "peer_joined",
        PeerClock: "peer_clock",
        PeerClockReply: "peer_clock_reply",
        PeerTransfer: "peer_transfer",
    }
}

fn body_of<M: Message>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode_body(&mut out);
    out
}

fn text_and_bytes<T: std::fmt::Debug>(value: &T, bytes: fn(&T) -> Vec<u8>) -> Written {
    (bytes(value), format!("{value:#?}\n"))
}

/// One record with everything it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedRecord {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp_us: u64,
}

impl OwnedRecord {
    pub(crate) fn from_view(view: &RecordView<'_>) -> Self {
        let owned = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
        Self {
            key: owned(view.key),
            value: owned(view.value),
            headers: view
                .headers()
                .map(|(n, v)| (n.to_owned(), owned(v)))
                .collect(),
            timestamp_us: view.timestamp_us,
        }
    }

    pub(crate) fn push(&self, builder: &mut BatchBuilder, id: Option<MessageId>) {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_deref()))
            .collect();
        let draft = RecordDraft {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
            timestamp_us: self.timestamp_us,
            id,
        };
        builder.push(&draft).unwrap();
    }
}

impl Sample for OwnedRecord {
    fn sample(source: &mut Source<'_>) -> Self {
        let field = |source: &mut Source<'_>| {
            Option::<Blob<300>>::sample(source).map(|b| b.as_bytes().to_vec())
        };
        Self {
            key: field(source),
            value: field(source),
            headers: (0..source.len(3))
                .map(|_| (Text::<32>::sample(source).into_string(), field(source)))
                .collect(),
            timestamp_us: u64::sample(source),
        }
    }
}

impl Sample for BatchIdentity {
    fn sample(source: &mut Source<'_>) -> Self {
        Self {
            producer_id: Sample::sample(source),
            epoch: Sample::sample(source),
            base_sequence: Sample::sample(source),
            topic_hash: Sample::sample(source),
        }
    }
}

impl Sample for Stamp {
    fn sample(source: &mut Source<'_>) -> Self {
        Self {
            base_offset: Sample::sample(source),
            term: Sample::sample(source),
            append_time: Sample::sample(source),
            group: Sample::sample(source),
        }
    }
}

impl Sample for PeerEntry {
    fn sample(source: &mut Source<'_>) -> Self {
        let record = OwnedRecord::sample(source);
        let draft = draft_of(&[record], false, Sample::sample(source));
        Self {
            kind: Sample::sample(source),
            batch: draft.stamp(Sample::sample(source)),
        }
    }
}

impl Sample for PeerMessage {
    fn sample(source: &mut Source<'_>) -> Self {
        let kind = source.byte() % 11;
        message_of(kind, source)
    }
}

/// A message of one of the eleven types.
pub(crate) fn message_of(kind: u8, source: &mut Source<'_>) -> PeerMessage {
    PeerMessage {
        group: Sample::sample(source),
        tag: Sample::sample(source),
        from: Sample::sample(source),
        to: Sample::sample(source),
        term: Sample::sample(source),
        body: peer_body(kind, source),
    }
}

macro_rules! sampled {
    ($source:ident $name:ident { $($field:ident)* }) => {
        PeerBody::$name { $($field: Sample::sample($source),)* }
    };
}

fn peer_body(kind: u8, source: &mut Source<'_>) -> PeerBody {
    match kind {
        0 => PeerBody::TimeoutNow,
        1 => PeerBody::Append {
            previous: Sample::sample(source),
            previous_term: Sample::sample(source),
            commit: Sample::sample(source),
            entries: Bounded::<_, 5>::sample(source).into_vec(),
        },
        2 => sampled!(source Appended { index commit }),
        3 => sampled!(source Mismatch { index commit hint hint_term }),
        4 => sampled!(source Heartbeat { commit context }),
        5 => sampled!(source HeartbeatReply { commit context }),
        6 => sampled!(source Vote { pre transfer last last_term commit commit_term }),
        7 => sampled!(source VoteReply { pre granted commit commit_term }),
        8 => sampled!(source Snapshot { index term }),
        9 => sampled!(source SnapshotStatus { index finished }),
        _ => PeerBody::ForgetfulVote,
    }
}

impl Sample for Envelope {
    fn sample(source: &mut Source<'_>) -> Self {
        Self {
            channel: Sample::sample(source),
            messages: Bounded::<_, 5>::sample(source).into_vec(),
        }
    }
}

/// The body of an envelope's frame, in one piece.
pub(crate) fn envelope_body(envelope: &Envelope) -> Bytes {
    let frame = envelope.encode().concat();
    Bytes::copy_from_slice(frame.get(FRAME_HEADER_LEN..).unwrap())
}

impl Sample for SnapshotChunk {
    fn sample(source: &mut Source<'_>) -> Self {
        let mut bytes = Blob::<64>::sample(source).as_bytes().to_vec();
        bytes.push(source.byte());
        Self {
            file: Sample::sample(source),
            at: Sample::sample(source),
            bytes: bytes.into(),
        }
    }
}

/// A finished batch of these records.
pub(crate) fn draft_of(records: &[OwnedRecord], ids: bool, identity: BatchIdentity) -> DraftBatch {
    let mut builder = BatchBuilder::new(0);
    for (n, record) in records.iter().enumerate() {
        record.push(&mut builder, ids.then_some(MessageId::new(n as u128)));
    }
    builder.finish(identity)
}

/// The records of an uncompressed batch.
pub(crate) fn records_of(batch: &RecordBatch) -> Result<Vec<OwnedRecord>, BatchError> {
    let payload: Bytes = batch.payload();
    records(&payload, batch.record_count(), batch.base_timestamp_us())
        .map(|record| record.map(|view| OwnedRecord::from_view(&view)))
        .collect()
}
