//! What comes from a broken broker ends its connection, and nothing else.

use quorate_broker::peers::Channel;
use quorate_broker::peers::Lane;
use quorate_protocol::BrokerId;
use quorate_protocol::Envelope;
use quorate_protocol::ErrorCode;
use quorate_protocol::Flags;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::LaneOpen;
use quorate_protocol::Message;
use quorate_protocol::Ping;

use crate::peers::world::Cluster;
use crate::peers::world::Node;
use crate::peers::world::noise;
use crate::peers::world::numbered;

fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        body_len: u32::try_from(body.len()).unwrap(),
        kind,
        flags: Flags::CRITICAL,
        version: 1,
    };
    [&header.encode()[..], body].concat()
}

fn lane(lane: u8) -> Vec<u8> {
    LaneOpen { lane }.to_frame().to_vec()
}

fn envelope(channel: u8) -> Vec<u8> {
    let messages = vec![numbered(1), numbered(2)];
    Envelope { channel, messages }.encode().concat()
}

/// A healthy pair of brokers, 1 and 3; the broken one is broker 2.
struct Healthy {
    cluster: Cluster,
    one: Node,
    three: Node,
}

impl Healthy {
    async fn start() -> Self {
        let cluster = Cluster::of(3);
        let (one, three) = (cluster.start(1), cluster.start(3));
        one.wait_until_up(3).await;
        three.wait_until_up(1).await;
        Self {
            cluster,
            one,
            three,
        }
    }

    /// What ends the connection of a broker that sends this on a stream of its own; then the
    /// healthy brokers still talk over the connection they had.
    async fn end_of(&self, stream: &[u8], finish: bool) -> (ErrorCode, String) {
        let raw = self.cluster.raw_greeted(2, 1).await;
        let mut stream = raw.open(stream).await;
        if finish {
            // The other side may have ended it already.
            drop(stream.finish());
        }
        let end = raw.closed().await;
        let before = self.one.metadata.count();
        let send = |node: &Node, to: u16| {
            let (to, lane) = (BrokerId::new(to), Lane::Urgent);
            node.peers
                .send(to, Channel::METADATA, lane, vec![numbered(3)]);
        };
        send(&self.three, 1);
        let delivered = self.one.metadata.wait_for(before + 1).await;
        assert_eq!(delivered.last().unwrap().0, BrokerId::new(3));
        assert_eq!(
            self.one
                .metadata
                .lost
                .load(std::sync::atomic::Ordering::SeqCst),
            self.lost()
        );
        end
    }

    /// Broker 2 cannot be dialled, so nothing to it was ever lost.
    fn lost(&self) -> u32 {
        0
    }
}

#[tokio::test]
async fn frames_that_are_too_large_end_their_connection_before_they_are_read() {
    let healthy = Healthy::start().await;
    for len in [8 * 1024 * 1024 + 64 * 1024 + 1 + 4, u32::MAX] {
        let mut bytes = frame(Kind::ENVELOPE, &[]);
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        let end = healthy.end_of(&[lane(1), bytes].concat(), false).await;
        assert_eq!(end.0, ErrorCode::FRAME_TOO_LARGE);
    }
}

#[tokio::test]
async fn truncated_envelopes_end_their_connection() {
    let healthy = Healthy::start().await;
    let whole = envelope(0);
    for cut in [3, 8, 20, whole.len() - 1] {
        let bytes = [&lane(1)[..], &whole[..cut]].concat();
        assert_eq!(
            healthy.end_of(&bytes, true).await.0,
            ErrorCode::MALFORMED,
            "{cut}"
        );
    }
    // A whole frame with a part of an envelope.
    let bytes = [lane(1), frame(Kind::ENVELOPE, &whole[8..whole.len() - 1])].concat();
    assert_eq!(healthy.end_of(&bytes, false).await.0, ErrorCode::MALFORMED);
}

#[tokio::test]
async fn noise_ends_its_connection_and_is_delivered_to_nobody() {
    let healthy = Healthy::start().await;
    for seed in 1..6 {
        let body = noise(seed, 3_000);
        for bytes in [
            frame(Kind::ENVELOPE, &body),
            frame(Kind::LANE_OPEN, &body),
            body.to_vec(),
        ] {
            let (code, text) = healthy.end_of(&[lane(0), bytes].concat(), true).await;
            assert_eq!(code.get() >> 8, 4, "{code} {text}");
        }
    }
    let delivered = healthy.one.metadata.wait_for(0).await;
    assert!(delivered.iter().all(|(from, _)| *from == BrokerId::new(3)));
    assert_eq!(healthy.one.partitions.count(), 0);
}

#[tokio::test]
async fn frames_at_the_wrong_place_end_their_connection() {
    let healthy = Healthy::start().await;
    let ping = Ping { nonce: 1 }.to_frame().to_vec();
    for (stream, code) in [
        (vec![envelope(0)], ErrorCode::PROTOCOL_VIOLATION),
        (vec![lane(3)], ErrorCode::PROTOCOL_VIOLATION),
        (vec![lane(1), lane(1)], ErrorCode::PROTOCOL_VIOLATION),
        (vec![lane(1), ping], ErrorCode::PROTOCOL_VIOLATION),
        // A lane of one channel with the messages of another, or of none.
        (vec![lane(1), envelope(1)], ErrorCode::PROTOCOL_VIOLATION),
        (vec![lane(2), envelope(0)], ErrorCode::PROTOCOL_VIOLATION),
        (vec![lane(0), envelope(2)], ErrorCode::PROTOCOL_VIOLATION),
    ] {
        let end = healthy.end_of(&stream.concat(), false).await;
        assert_eq!(end.0, code, "{end:?} {stream:?}");
    }
}

#[tokio::test]
async fn a_control_stream_with_anything_but_requests_ends_its_connection() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    for bytes in [lane(0), envelope(0), frame(Kind::REQUEST, &noise(3, 60))] {
        let mut raw = cluster.raw_greeted(2, 1).await;
        raw.send.write_all(&bytes).await.unwrap();
        let (code, text) = raw.closed().await;
        assert_eq!(code.get() >> 8, 4, "{code} {text}");
    }
}

#[tokio::test]
async fn before_the_greeting_frames_are_small_and_the_first_is_a_greeting() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    for (bytes, code) in [
        (
            frame(Kind::PEER_HELLO, &[0; 5_000]),
            ErrorCode::FRAME_TOO_LARGE,
        ),
        (frame(Kind::PEER_HELLO, b"QRT1"), ErrorCode::MALFORMED),
        (frame(Kind::HELLO, b"QRTP"), ErrorCode::PROTOCOL_VIOLATION),
        (lane(0), ErrorCode::PROTOCOL_VIOLATION),
    ] {
        let mut raw = cluster.raw(2, 1).await;
        raw.send.write_all(&bytes).await.unwrap();
        assert_eq!(raw.closed().await.0, code);
    }
}

#[tokio::test]
async fn a_peer_has_one_stream_before_the_greeting_and_four_after_it() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    let raw = cluster.raw_greeted(2, 1).await;
    let mut streams = Vec::new();
    for number in 0..3 {
        streams.push(raw.open(&lane(number)).await);
    }
    let second = raw.client.connection.open_bi();
    let wait = std::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(wait, second).await.is_err());
    let raw = cluster.raw(2, 1).await;
    let second = raw.client.connection.open_bi();
    assert!(tokio::time::timeout(wait, second).await.is_err());
}
