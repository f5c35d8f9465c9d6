//! Hello: who is let in, and what the others are told.

use quorate_protocol::Blob;
use quorate_protocol::ErrorCode;
use quorate_protocol::Hello;
use quorate_protocol::HelloAck;
use quorate_protocol::HelloReject;
use quorate_protocol::Message;
use quorate_protocol::Op;
use quorate_protocol::Ping;
use quorate_protocol::Request;
use quorate_protocol::Text;

use crate::client::Dialled;
use crate::client::dial;
use crate::client::hello;
use crate::world::Site;
use crate::world::within;

async fn refused(client: &Dialled, frame: &[u8]) -> HelloReject {
    let mut pipe = client.open().await;
    pipe.send.write_all(frame).await.unwrap();
    let reject = pipe.expect().await;
    pipe.expect_end().await;
    reject
}

#[tokio::test]
async fn an_ordinary_client_learns_who_it_is_and_where() {
    let site = Site::new();
    let broker = site.start().await;
    let client = site.client(broker.client_address()).await;
    let HelloAck {
        cluster,
        principal,
        broker,
        brokers,
        max_streams,
        ..
    } = client.ack;
    assert_eq!(cluster.as_str(), "test");
    assert_eq!(principal.as_str(), "spiffe://test/admin/admin");
    assert_eq!(broker.get(), 1);
    assert_eq!(brokers.len(), 1);
    assert_eq!(max_streams, 33);
    let day = 24 * 3600 * 1000;
    assert!((day - 60_000..=day).contains(&client.ack.session_deadline_ms));
}

#[tokio::test]
async fn hellos_that_do_not_fit_are_refused_with_the_reason() {
    let site = Site::new();
    let broker = site.start().await;
    let mut foreign_magic = hello().to_frame().to_vec();
    foreign_magic[8] = b'X';
    let future = Hello {
        min_version: 2,
        max_version: 9,
        ..hello()
    };
    let elsewhere = Hello {
        cluster: Some(Text::clipped("prod")),
        ..hello()
    };
    for (frame, code) in [
        (foreign_magic, ErrorCode::MALFORMED),
        (future.to_frame().to_vec(), ErrorCode::UNSUPPORTED_VERSION),
        (elsewhere.to_frame().to_vec(), ErrorCode::WRONG_CLUSTER),
        (
            Ping { nonce: 1 }.to_frame().to_vec(),
            ErrorCode::PROTOCOL_VIOLATION,
        ),
    ] {
        let client = within(dial(site.tls(), broker.client_address())).await;
        let reject = refused(&client, &frame).await;
        assert_eq!(reject.code, code);
        assert_eq!((reject.min_version, reject.max_version), (1, 1));
        let (closed, text) = client.closed().await;
        assert_eq!(closed, code);
        assert_eq!(text, reject.text.as_str());
    }
}

#[tokio::test]
async fn before_the_greeting_frames_are_small() {
    let site = Site::new();
    let broker = site.start().await;
    let client = within(dial(site.tls(), broker.client_address())).await;
    let mut pipe = client.open().await;
    let request = Request {
        correlation: 1,
        deadline_ms: 0,
        op: Op::METADATA,
        body: Blob::new(vec![0; 10_000]).unwrap(),
    };
    pipe.send.write_all(&request.to_frame()).await.ok();
    assert_eq!(client.closed().await.0, ErrorCode::FRAME_TOO_LARGE);
}

#[tokio::test]
async fn a_bad_frame_on_the_control_stream_closes_the_connection() {
    let site = Site::new();
    let broker = site.start().await;
    let mut client = site.client(broker.client_address()).await;
    client.control.send(&hello()).await;
    assert_eq!(client.raw.closed().await.0, ErrorCode::PROTOCOL_VIOLATION);
    let other = site.client(broker.client_address()).await;
    assert!(other.raw.connection.close_reason().is_none());
}

#[tokio::test]
async fn closing_the_control_stream_closes_the_connection() {
    let site = Site::new();
    let broker = site.start().await;
    let mut client = site.client(broker.client_address()).await;
    client.control.send.finish().unwrap();
    assert_eq!(client.raw.closed().await.0, ErrorCode::OK);
}
