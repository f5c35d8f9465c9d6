//! READ: ranges and limits.

use quorate_protocol::Credit;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::Offset;
use quorate_protocol::ReadEnd;
use quorate_protocol::ReadParams;
use quorate_protocol::Start;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamType;
use quorate_protocol::TopicId;
use quorate_protocol::Until;

use crate::client::Client;
use crate::client::values;
use crate::world::Site;
use crate::world::broker_and_client;

async fn numbered(client: &mut Client, count: u64) -> TopicId {
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    for at in 0..count {
        producer.publish(&[&at.to_string()]).await;
    }
    topic
}

/// Offsets sent, and the end of the range.
async fn read(
    client: &Client,
    topic: TopicId,
    from: Start,
    until: Until,
    max: u32,
) -> (Vec<u64>, ReadEnd) {
    let mut pipe = client.read(topic, from, until, max).await;
    let accept: StreamAccept = pipe.expect().await;
    assert!(accept.credit >= Credit::new(0));
    let mut offsets = Vec::new();
    loop {
        let frame = pipe.next().await;
        match frame.kind() {
            Kind::RECORDS => {
                offsets.extend(
                    values(&frame.batches())
                        .into_iter()
                        .map(|(offset, _)| offset),
                );
            }
            _ => {
                let end = frame.decode();
                pipe.expect_end().await;
                return (offsets, end);
            }
        }
    }
}

#[tokio::test]
async fn a_range_is_read_exactly() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = numbered(&mut client, 10).await;
    let from = Start::Offset(Offset::new(3));
    let until = Until::Offset(Offset::new(6));
    let (offsets, end) = read(&client, topic, from, until, 100).await;
    assert_eq!(offsets, [3, 4, 5]);
    assert_eq!(
        (end.next, end.high_watermark),
        (Offset::new(6), Offset::new(10))
    );
    let (offsets, end) = read(&client, topic, Start::Earliest, Until::Tail, 4).await;
    assert_eq!((offsets, end.next), (vec![0, 1, 2, 3], Offset::new(4)));
    let (offsets, end) = read(&client, topic, Start::Last(2), Until::Tail, 100).await;
    assert_eq!((offsets, end.next), (vec![8, 9], Offset::new(10)));
    let (offsets, end) = read(&client, topic, Start::Latest, Until::Never, 100).await;
    assert_eq!((offsets, end.next), (vec![], Offset::new(10)));
}

#[tokio::test]
async fn a_limit_inside_a_batch_says_where_to_go_on() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["0", "1", "2", "3"]).await;
    let (offsets, end) = read(
        &client,
        topic,
        Start::Offset(Offset::new(1)),
        Until::Tail,
        2,
    )
    .await;
    assert_eq!(offsets, [0, 1, 2, 3], "batches are whole");
    assert_eq!(end.next, Offset::new(3));
}

#[tokio::test]
async fn a_range_outside_the_log_is_refused() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = numbered(&mut client, 2).await;
    let params = ReadParams {
        from: Start::Offset(Offset::new(50)).into(),
        until: Until::Tail.into(),
        records_max: 10,
        bytes_max: 0,
    };
    let reject = client.rejection(StreamType::READ, topic, &params).await;
    assert_eq!(reject.code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(reject.range, Some((Offset::ZERO, Offset::new(2))));
}
