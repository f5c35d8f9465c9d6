//! Topics: made, found, refused, deleted; what other connections are told.

use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::Bounded;
use quorate_protocol::CreateTopic;
use quorate_protocol::DeleteTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::ListTopics;
use quorate_protocol::MetadataReply;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Op;
use quorate_protocol::PartitionId;
use quorate_protocol::Ping;
use quorate_protocol::Pong;
use quorate_protocol::ProduceParams;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamReject;
use quorate_protocol::StreamType;
use quorate_protocol::Text;
use quorate_protocol::TopicCreated;
use quorate_protocol::TopicDeleted;
use quorate_protocol::TopicId;
use quorate_protocol::TopicList;
use quorate_protocol::TopicSettings;
use quorate_protocol::TopologyUpdate;

use crate::client::create;
use crate::world::Site;
use crate::world::broker_and_client;

fn everything() -> MetadataRequest {
    MetadataRequest {
        topics: Bounded::empty(),
        create: false,
    }
}

#[tokio::test]
async fn bad_names_are_refused_without_harm() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    for name in ["", "../x", "a/b", "__internal", "a b", "\u{1b}[31m", "ünï"] {
        let request = create(name, 1, TopicSettings::default());
        let reply = client.request(Op::CREATE_TOPIC, &request).await;
        assert_eq!(
            reply.code,
            ErrorCode::INVALID_ARGUMENT,
            "{name:?}: {}",
            reply.detail
        );
    }
    let list: TopicList = client
        .ask(Op::LIST_TOPICS, &ListTopics { internal: false })
        .await;
    assert!(list.topics.is_empty());
}

#[tokio::test]
async fn a_name_of_ten_kilobytes_does_not_decode() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    // A length, then that many letters: what the name's field would be on the wire.
    let mut body = vec![0x90, 0x4e];
    body.extend(std::iter::repeat_n(b'x', 10_000));
    let request = Request {
        correlation: 9,
        deadline_ms: 0,
        op: Op::DELETE_TOPIC,
        body: Blob::new(body).unwrap(),
    };
    client.control.send(&request).await;
    let reply: Reply = client.control.expect().await;
    assert_eq!((reply.correlation, reply.code), (9, ErrorCode::MALFORMED));
}

#[tokio::test]
async fn a_topic_is_made_once_and_found_by_name() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let id = client
        .create_topic_with("orders", 3, TopicSettings::default())
        .await;
    let again = create("orders", 3, TopicSettings::default());
    let reply = client.request(Op::CREATE_TOPIC, &again).await;
    assert_eq!(reply.code, ErrorCode::ALREADY_EXISTS);
    let tolerant = CreateTopic {
        if_not_exists: true,
        ..again
    };
    let found: TopicCreated = client.ask(Op::CREATE_TOPIC, &tolerant).await;
    assert_eq!((found.id, found.created, found.partitions), (id, false, 3));
    let reply: MetadataReply = client.ask(Op::METADATA, &everything()).await;
    let topic = &reply.topics[0];
    assert_eq!(
        (topic.name.as_str(), topic.id, topic.partitions.len()),
        ("orders", id, 3)
    );
    assert!(
        topic
            .partitions
            .iter()
            .all(|one| one.leader == Some(client.ack.broker))
    );
    assert_eq!(
        reply.brokers[0].client_address.as_str(),
        client.raw.connection.remote_address().to_string()
    );
}

#[tokio::test]
async fn changes_are_pushed_to_connections_that_asked() {
    let site = Site::new();
    let (broker, mut client) = broker_and_client(&site).await;
    let mut watcher = site.client(broker.client_address()).await;
    let seen: MetadataReply = watcher.ask(Op::METADATA, &everything()).await;
    let id = client.create_topic("orders").await;
    let update: TopologyUpdate = watcher.control.skip_to().await;
    assert!(update.epoch > seen.epoch);
    assert_eq!(update.topics[0].id, id);
    let delete = DeleteTopic {
        name: Text::clipped("orders"),
        dry_run: false,
    };
    let _: TopicDeleted = client.ask(Op::DELETE_TOPIC, &delete).await;
    let deleted = loop {
        let update: TopologyUpdate = watcher.control.skip_to().await;
        if !update.deleted.is_empty() {
            break update.deleted.to_vec();
        }
    };
    assert_eq!(deleted, [id]);
}

#[tokio::test]
async fn streams_on_what_does_not_exist_are_refused() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let params = ProduceParams {
        producer: ProducerId::new(1),
        epoch: ProducerEpoch::new(0),
    };
    let unknown = TopicId::new(topic.get() ^ 1);
    let reject = client
        .rejection(StreamType::PRODUCE, unknown, &params)
        .await;
    assert_eq!(reject.code, ErrorCode::UNKNOWN_TOPIC);
    let open = StreamOpen {
        stream: StreamType::PRODUCE,
        topic,
        partition: PartitionId::new(1),
        topology_epoch: 0,
        deadline_ms: 0,
        on_behalf_of: None,
        params: params.to_blob().unwrap(),
    };
    let reject: StreamReject = client.open_with(&open).await.expect().await;
    assert_eq!(reject.code, ErrorCode::UNKNOWN_PARTITION);
    let behalf = StreamOpen {
        partition: PartitionId::new(0),
        on_behalf_of: Some(Text::clipped("spiffe://test/client/bob")),
        ..open.clone()
    };
    let reject: StreamReject = client.open_with(&behalf).await.expect().await;
    assert_eq!(reject.code, ErrorCode::AUTHORIZATION_FAILED);
    let strange = StreamOpen {
        stream: StreamType::new(77),
        ..open
    };
    let reject: StreamReject = client.open_with(&strange).await.expect().await;
    assert_eq!(reject.code, ErrorCode::INVALID_ARGUMENT);
}

#[tokio::test]
async fn an_admin_stream_answers_one_request_and_ends() {
    let site = Site::new();
    let (_broker, client) = broker_and_client(&site).await;
    let open = StreamOpen {
        stream: StreamType::ADMIN,
        topic: TopicId::new(0),
        partition: PartitionId::new(0),
        topology_epoch: 0,
        deadline_ms: 0,
        on_behalf_of: None,
        params: Blob::empty(),
    };
    let mut pipe = client.open_with(&open).await;
    let _: StreamAccept = pipe.expect().await;
    let request = Request {
        correlation: 0,
        deadline_ms: 0,
        op: Op::LIST_TOPICS,
        body: ListTopics { internal: false }.to_blob().unwrap(),
    };
    pipe.send(&request).await;
    let reply: Reply = pipe.expect().await;
    assert_eq!(reply.code, ErrorCode::OK);
    pipe.expect_end().await;
}

#[tokio::test]
async fn a_first_use_creates_a_topic_only_where_that_is_configured() {
    let names = Bounded::clipped([Text::clipped("orders")]);
    let wanted = MetadataRequest {
        topics: names,
        create: true,
    };
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let reply: MetadataReply = client.ask(Op::METADATA, &wanted).await;
    assert!(reply.topics.is_empty());
    let site = Site::with(&[("limits.auto_create_partitions", "2")]);
    let (_broker, mut client) = broker_and_client(&site).await;
    let reply: MetadataReply = client.ask(Op::METADATA, &wanted).await;
    assert_eq!(reply.topics[0].partitions.len(), 2);
}

#[tokio::test]
async fn a_ping_is_answered() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    client.control.send(&Ping { nonce: 42 }).await;
    let pong: Pong = client.control.expect().await;
    assert_eq!(pong.nonce, 42);
}
