//! Streams of bytes that are no proper frames.

use std::time::Duration;

use quorate_broker::transport::ConnectionLost;
use quorate_broker::transport::FrameReceiver;
use quorate_broker::transport::FrameSender;
use quorate_broker::transport::ReceiveError;
use quorate_broker::transport::Timings;
use quorate_protocol::ErrorCode;
use quorate_protocol::Flags;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::Limits;

use crate::world::Client;
use crate::world::Setup;
use crate::world::World;
use crate::world::within;

const OPEN: Limits = Limits {
    batch_bytes_max: 1 << 20,
    established: true,
};

/// One stream between a raw client and the broker.
struct Wire {
    client: Client,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    frames: FrameReceiver,
    answers: FrameSender,
    _server: quorate_broker::transport::Connection,
    _world: World,
}

/// A stream on which `first` has been written.
async fn wire(setup: Setup, first: &[u8]) -> Wire {
    let world = World::with(setup);
    let (client, server) = world.connect().await;
    let (mut send, receive) = client.connection.open_bi().await.unwrap();
    send.write_all(first).await.unwrap();
    let (answers, frames) = within(server.accept_stream()).await.unwrap();
    Wire {
        client,
        send,
        receive,
        frames,
        answers,
        _server: server,
        _world: world,
    }
}

fn frame(kind: Kind, flags: Flags, body: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        body_len: u32::try_from(body.len()).unwrap(),
        kind,
        flags,
        version: 1,
    };
    [&header.encode()[..], body].concat()
}

fn raw_header(len: u32, kind: Kind) -> Vec<u8> {
    let mut bytes = frame(kind, Flags::CRITICAL, &[]);
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes
}

fn impatient() -> Setup {
    Setup {
        timings: Timings {
            first_frame: Duration::from_millis(100),
            frame_grace: Duration::from_millis(100),
            write_stall: Duration::from_millis(100),
            ..Timings::default()
        },
        ..Setup::default()
    }
}

#[tokio::test]
async fn impossible_lengths_end_the_stream_before_anything_is_allocated() {
    for (len, code) in [
        (0, ErrorCode::MALFORMED),
        (3, ErrorCode::MALFORMED),
        (u32::MAX, ErrorCode::FRAME_TOO_LARGE),
        (4 * 1024 + 5, ErrorCode::FRAME_TOO_LARGE),
    ] {
        let mut wire = wire(Setup::default(), &raw_header(len, Kind::HELLO)).await;
        let error = within(wire.frames.next()).await.unwrap_err();
        assert_eq!(error.code(), code, "{len}: {error}");
        wire.frames.stop(error.code());
        let told = within(wire.send.stopped()).await.unwrap();
        assert_eq!(told.unwrap().into_inner(), u64::from(code.get()));
    }
}

#[tokio::test]
async fn the_first_stream_is_held_to_small_frames_until_it_is_established() {
    let large = frame(Kind::PUBLISH, Flags::CRITICAL, &[7; 5_000]);
    let mut early = wire(Setup::default(), &large).await;
    let error = within(early.frames.next()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::FRAME_TOO_LARGE);
    let mut established = wire(Setup::default(), &large).await;
    established.frames.set_limits(OPEN);
    let frame = within(established.frames.next()).await.unwrap().unwrap();
    assert_eq!(frame.body.len(), 5_000);
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_is_malformed() {
    let hello = frame(Kind::HELLO, Flags::CRITICAL, &[1; 100]);
    for cut in [1, 7, 8, 107] {
        let mut wire = wire(Setup::default(), &hello[..cut]).await;
        wire.send.finish().unwrap();
        let error = within(wire.frames.next()).await.unwrap_err();
        assert_eq!(
            error,
            ReceiveError::Truncated {
                received: cut as u64
            }
        );
        assert_eq!(error.code(), ErrorCode::MALFORMED);
    }
}

#[tokio::test]
async fn a_stream_that_ends_between_frames_is_finished() {
    let mut wire = wire(Setup::default(), &frame(Kind::PING, Flags::NONE, &[1; 9])).await;
    wire.send.finish().unwrap();
    assert!(within(wire.frames.next()).await.unwrap().is_some());
    assert!(within(wire.frames.next()).await.unwrap().is_none());
    assert!(within(wire.frames.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn unknown_frames_are_skipped_unless_critical() {
    let bytes = [
        frame(Kind::GREASE, Flags::NONE, &[9; 4_000]),
        frame(Kind::PING, Flags::CRITICAL, b"12345678"),
        frame(Kind::GREASE, Flags::CRITICAL, &[]),
    ];
    let mut wire = wire(Setup::default(), &bytes.concat()).await;
    let ping = within(wire.frames.next()).await.unwrap().unwrap();
    assert_eq!(ping.header.kind, Kind::PING);
    let error = within(wire.frames.next()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UNKNOWN_FRAME);
}

#[tokio::test]
async fn a_client_that_drips_its_first_frame_is_given_up() {
    let hello = frame(Kind::HELLO, Flags::CRITICAL, &[0; 50]);
    for received in [1, 7, 8, 57] {
        let mut wire = wire(impatient(), &hello[..received]).await;
        let error = within(wire.frames.next()).await.unwrap_err();
        let received = received as u64;
        assert_eq!(error, ReceiveError::Timeout { received });
        assert_eq!(error.code(), ErrorCode::FRAME_TIMEOUT);
    }
}

#[tokio::test]
async fn a_begun_frame_that_stalls_is_given_up_and_a_resting_stream_is_not() {
    let ping = frame(Kind::PING, Flags::CRITICAL, &[0; 8]);
    let mut wire = wire(impatient(), &ping).await;
    assert!(within(wire.frames.next()).await.unwrap().is_some());
    let resting = tokio::time::timeout(Duration::from_millis(300), wire.frames.next()).await;
    assert!(resting.is_err(), "a resting stream was given up");
    wire.send.write_all(&ping[..10]).await.unwrap();
    let error = within(wire.frames.next()).await.unwrap_err();
    assert_eq!(error, ReceiveError::Timeout { received: 10 });
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing() {
    let ping = frame(Kind::PING, Flags::CRITICAL, b"12345678");
    let mut wire = wire(Setup::default(), &ping[..5]).await;
    for part in ping[5..].chunks(2) {
        let early = tokio::time::timeout(Duration::from_millis(1), wire.frames.next()).await;
        assert!(early.is_err(), "the frame is not complete");
        wire.send.write_all(part).await.unwrap();
    }
    let frame = within(wire.frames.next()).await.unwrap().unwrap();
    assert_eq!(&frame.body[..], b"12345678");
}

#[tokio::test]
async fn many_small_frames_arrive_in_order() {
    let frames: Vec<Vec<u8>> = (0_u32..10_000)
        .map(|number| frame(Kind::PING, Flags::CRITICAL, &number.to_le_bytes()))
        .collect();
    let mut wire = wire(Setup::default(), &frames.concat()).await;
    for number in 0_u32..10_000 {
        let frame = within(wire.frames.next()).await.unwrap().unwrap();
        assert_eq!(&frame.body[..], number.to_le_bytes());
    }
}

#[tokio::test]
async fn a_client_that_abandons_a_stream_or_the_connection_is_named_as_such() {
    let mut wire = wire(Setup::default(), &[0]).await;
    wire.send.reset(quinn::VarInt::from_u32(0x0806)).unwrap();
    let error = within(wire.frames.next()).await.unwrap_err();
    let code = ErrorCode::CANCELLED;
    assert_eq!(error, ReceiveError::Reset { code });
    wire.client
        .connection
        .close(quinn::VarInt::from_u32(0), b"bye");
    let error = within(wire.answers.stopped()).await.unwrap_err();
    let (code, reason) = (ErrorCode::OK, "bye".to_owned());
    assert_eq!(error, ConnectionLost::ClosedByPeer { code, reason });
}

#[tokio::test]
async fn a_client_that_wants_no_more_is_heard() {
    let mut wire = wire(Setup::default(), &[0]).await;
    wire.receive.stop(quinn::VarInt::from_u32(0x0806)).unwrap();
    let told = within(wire.answers.stopped()).await.unwrap();
    assert_eq!(told, Some(ErrorCode::CANCELLED));
}
