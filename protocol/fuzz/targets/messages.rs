//! A frame: its header, then the message that its kind names.
//!
//! Kinds from 0x80 on, which no message has, stand for the bodies inside messages.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use quorate_protocol::*;

const LIMITS: Limits = Limits {
    batch_bytes_max: 1024 * 1024,
    established: true,
};

fn message<M: Message + Debug + PartialEq>(header: &FrameHeader, body: &[u8]) {
    let Ok(message) = M::decode_frame(header, body) else {
        return;
    };
    let frame = message.to_frame();
    let again = M::decode_body(&frame[FRAME_HEADER_LEN..]).expect("what was encoded decodes");
    assert_eq!(again, message);
}

fn body<B: Body + Debug + PartialEq>(bytes: &[u8]) {
    let Ok(body) = B::from_bytes(bytes) else {
        return;
    };
    let again = B::from_bytes(&body.to_bytes()).expect("what was encoded decodes");
    assert_eq!(again, body);
}

macro_rules! dispatch {
    ($header:ident, $bytes:ident, messages { $($message:ty,)+ } bodies { $($number:literal: $body:ty,)+ }) => {
        match $header.kind {
            $(kind if kind == <$message>::KIND => message::<$message>(&$header, $bytes),)+
            kind => match kind.get() {
                $($number => body::<$body>($bytes),)+
                _ => {}
            },
        }
    };
}

fuzz_target!(|input: &[u8]| {
    let Some((header, rest)) = input.split_first_chunk() else {
        return;
    };
    let Ok(header) = FrameHeader::parse(header, &LIMITS) else {
        return;
    };
    assert_eq!(header.encode()[..], input[..FRAME_HEADER_LEN]);
    let Some(bytes) = rest.get(header.trace_len()..) else {
        return;
    };
    if header.kind == Kind::PUBLISH {
        if let Ok(publish) = PublishHeader::parse(bytes) {
            assert_eq!(publish.encode()[..], bytes[..PUBLISH_HEADER_LEN]);
        }
        return;
    }
    dispatch!(header, bytes, messages {
        Hello, HelloAck, HelloReject, Request, Reply, Ping, Pong, TopologyUpdate, GoAway,
        StreamOpen, StreamAccept, StreamReject, Acks, Nack, Rewind, CreditGrant, Progress, Gap,
        End, ReadEnd, PeerHello, PeerHelloAck, LaneOpen, SnapshotOpen, SnapshotManifest,
        SnapshotResume, SnapshotDone,
    } bodies {
        0x80: ProduceParams,
        0x81: SubscribeParams,
        0x82: ReadParams,
        0x83: MetadataRequest,
        0x84: MetadataReply,
        0x85: InitProducer,
        0x86: ProducerGranted,
        0x87: CreateTopic,
        0x88: TopicCreated,
        0x89: DeleteTopic,
        0x8A: TopicDeleted,
        0x8B: ListTopics,
        0x8C: TopicList,
        0x8D: DescribeTopic,
        0x8E: TopicDescription,
        0x8F: ClusterStatusRequest,
        0x90: ClusterStatus,
        0x91: ClusterChange,
        0x92: ClusterChanged,
        0x93: PeerForward,
        0x94: PeerForwarded,
        0x95: PeerStatus,
        0x96: PeerJoined,
        0x97: PeerClock,
        0x98: PeerClockReply,
        0x99: PeerTransfer,
    });
});
