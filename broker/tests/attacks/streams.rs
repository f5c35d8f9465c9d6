//! Streams opened too often, or never read.

use std::time::Duration;

use bytes::Bytes;
use quorate_broker::transport::ConnectionLost;
use quorate_broker::transport::SendError;
use quorate_broker::transport::Timings;
use quorate_protocol::ErrorCode;
use quorate_protocol::Flags;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::Limits;

use crate::world::Refusal;
use crate::world::Setup;
use crate::world::World;
use crate::world::within;

fn impatient() -> Setup {
    Setup {
        timings: Timings {
            write_stall: Duration::from_millis(100),
            ..Timings::default()
        },
        ..Setup::default()
    }
}

/// Whether a stream can be opened now.
async fn opens(client: &quinn::Connection) -> Option<(quinn::SendStream, quinn::RecvStream)> {
    let opening = tokio::time::timeout(Duration::from_millis(200), client.open_bi());
    opening.await.ok().map(|opened| opened.unwrap())
}

#[tokio::test]
async fn a_client_has_one_stream_until_it_is_welcomed() {
    let world = World::start();
    let (client, server) = world.connect().await;
    let mut open = vec![opens(&client.connection).await.unwrap()];
    assert!(opens(&client.connection).await.is_none());
    server.raise_limits(33);
    for _ in 1..33 {
        open.push(within(client.connection.open_bi()).await.unwrap());
    }
    assert!(opens(&client.connection).await.is_none());
}

#[tokio::test]
async fn opening_streams_in_a_loop_ends_the_connection() {
    let world = World::with(Setup {
        timings: Timings {
            stream_pressure: Duration::from_millis(500),
            ..Timings::default()
        },
        ..Setup::default()
    });
    let (client, server) = world.connect().await;
    server.raise_limits(33);
    let opening = async {
        for _ in 0..100_000 {
            let Ok((mut send, mut receive)) = client.connection.open_bi().await else {
                break;
            };
            // Either may find the connection closed already.
            drop(send.reset(quinn::VarInt::from_u32(0)));
            drop(receive.stop(quinn::VarInt::from_u32(0)));
        }
        client.connection.closed().await
    };
    let accepting = async {
        let mut accepted = 0_u32;
        while server.accept_stream().await.is_ok() {
            accepted += 1;
        }
        accepted
    };
    let (told, accepted) = within(async { tokio::join!(opening, accepting) }).await;
    // The burst, and the rate for as long as it took.
    assert!((400..5_000).contains(&accepted), "{accepted}");
    let Refusal::Code(code, text) = Refusal::from(told) else {
        panic!("no code");
    };
    assert_eq!(code, ErrorCode::STREAM_RATE);
    assert!(text.contains("200 per second"), "{text}");
    assert_eq!(server.closed().await, ConnectionLost::ClosedHere);
}

#[tokio::test]
async fn unread_streams_do_not_stall_the_control_stream() {
    let request = FrameHeader {
        body_len: 60_000,
        kind: Kind::REQUEST,
        flags: Flags::CRITICAL,
        version: 1,
    };
    let request = [&request.encode()[..], &vec![1; 60_000]].concat();
    let world = World::start();
    let (client, server) = world.connect().await;
    let (mut control, _answers) = client.connection.open_bi().await.unwrap();
    control.write_all(&request[..1]).await.unwrap();
    let (_, mut frames) = within(server.accept_stream()).await.unwrap();
    frames.set_limits(Limits {
        batch_bytes_max: 1 << 20,
        established: true,
    });
    server.raise_limits(33);
    let mut unread = Vec::new();
    for _ in 1..33 {
        let (mut send, receive) = within(client.connection.open_bi()).await.unwrap();
        within(send.write_all(&[0; 256 * 1024])).await.unwrap();
        let ends = within(server.accept_stream()).await.unwrap();
        unread.push((send, receive, ends));
    }
    let rest = [&request[1..], &request, &request, &request, &request].concat();
    let reading = async {
        for _ in 0..5 {
            let frame = frames.next().await.unwrap().unwrap();
            assert_eq!(frame.body.len(), 60_000);
        }
    };
    let (written, ()) = within(async { tokio::join!(control.write_all(&rest), reading) }).await;
    written.unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_is_reset_and_after_three_in_a_row_disconnected() {
    let world = World::with(impatient());
    let (client, server) = world.connect().await;
    server.raise_limits(33);
    let mut unread = Vec::new();
    for stalls in 1..=3 {
        let (mut send, receive) = within(client.connection.open_bi()).await.unwrap();
        send.write_all(&[0]).await.unwrap();
        let (mut frames, _receiver) = within(server.accept_stream()).await.unwrap();
        let flood = async {
            loop {
                if let Err(error) = frames.send(Bytes::from(vec![0; 1 << 20])).await {
                    return error;
                }
            }
        };
        let error = within(flood).await;
        assert_eq!(error, SendError::SlowConsumer, "{stalls}");
        unread.push((send, receive));
    }
    let told = Refusal::from(within(client.connection.closed()).await);
    assert!(
        matches!(told, Refusal::Code(ErrorCode::SLOW_CONSUMER, _)),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_was_handed_over_is_sent_once_and_in_order_though_sends_are_cancelled() {
    let world = World::start();
    let (client, server) = world.connect().await;
    let (mut send, mut receive) = client.connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    let (mut frames, _receiver) = within(server.accept_stream()).await.unwrap();
    let count = 64_u32;
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.unwrap() {
            bytes.extend_from_slice(&chunk.bytes);
        }
        bytes
    };
    let sending = async {
        for number in 0..count {
            let piece = Bytes::from(number.to_le_bytes().repeat(64 * 1024));
            // Often too short for the window to open: the next call goes on.
            let sent = tokio::time::timeout(Duration::from_micros(300), frames.send(piece)).await;
            assert!(sent.is_err() || sent.unwrap().is_ok());
        }
        frames.send_all(&mut Vec::new()).await.unwrap();
        frames.finish().unwrap();
    };
    let (bytes, ()) = within(async { tokio::join!(reading, sending) }).await;
    let expected: Vec<u8> = (0..count)
        .flat_map(|number| number.to_le_bytes().repeat(64 * 1024))
        .collect();
    assert!(bytes == expected, "{} bytes", bytes.len());
}

#[tokio::test]
async fn a_finished_stream_is_seen_finished() {
    let world = World::start();
    let (client, server) = world.connect().await;
    let (mut send, mut receive) = client.connection.open_bi().await.unwrap();
    send.write_all(&[0]).await.unwrap();
    let (mut frames, _receiver) = within(server.accept_stream()).await.unwrap();
    frames.set_priority(7);
    frames.send(Bytes::from_static(b"end")).await.unwrap();
    frames.finish().unwrap();
    assert_eq!(within(receive.read_to_end(10)).await.unwrap(), b"end");
    assert_eq!(within(frames.stopped()).await.unwrap(), None);
    assert_eq!(frames.finish().unwrap_err(), SendError::Finished);
}
