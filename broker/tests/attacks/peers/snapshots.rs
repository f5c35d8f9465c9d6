//! Snapshots travel on a connection of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_broker::peers::Boxed;
use quorate_broker::peers::Channel;
use quorate_broker::peers::SnapshotServer;
use quorate_broker::peers::Timings;
use quorate_broker::transport::FrameReceiver;
use quorate_broker::transport::FrameSender;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Flags;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::SnapshotDone;
use tokio::sync::Notify;

use crate::peers::world::Cluster;
use crate::peers::world::Setup;
use crate::peers::world::noise;
use crate::world::within;

const CHUNK: usize = 1024 * 1024;
const CHUNKS: u64 = 24;

/// Sends chunks, whatever it is asked.
#[derive(Debug, Default)]
struct Server {
    ended: Arc<Notify>,
}

fn chunk(number: u64) -> Bytes {
    let header = FrameHeader {
        body_len: u32::try_from(CHUNK).unwrap(),
        kind: Kind::SNAPSHOT_CHUNK,
        flags: Flags::CRITICAL,
        version: 1,
    };
    [&header.encode()[..], &noise(number, CHUNK)]
        .concat()
        .into()
}

impl SnapshotServer for Server {
    fn serve(
        &self,
        from: BrokerId,
        mut sender: FrameSender,
        mut receiver: FrameReceiver,
    ) -> Boxed<()> {
        assert_eq!(from, BrokerId::new(1));
        let ended = self.ended.clone();
        Box::pin(async move {
            assert!(receiver.next().await.unwrap().is_some());
            for number in 0..CHUNKS {
                if sender.send(chunk(number)).await.is_err() {
                    break;
                }
            }
            drop(sender.finish());
            drop(sender.stopped().await);
            ended.notify_one();
        })
    }
}

async fn receive(receiver: &mut FrameReceiver) {
    for number in 0..CHUNKS {
        let frame = within(receiver.next()).await.unwrap().unwrap();
        assert_eq!(frame.body, noise(number, CHUNK), "chunk {number}");
    }
    assert!(within(receiver.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_transfer_arrives_whole_while_others_are_not_read() {
    let cluster = Cluster::of(2);
    let (one, two) = (cluster.start(1), cluster.start(2));
    let server = Server::default();
    let ended = server.ended.clone();
    two.peers
        .serve_snapshots(Channel::PARTITIONS, Arc::new(server));
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (mut sender, receiver) = within(one.peers.open_snapshot(two.id, Channel::PARTITIONS))
            .await
            .unwrap();
        sender
            .send(SnapshotDone { bytes: 0 }.to_frame())
            .await
            .unwrap();
        streams.push((sender, receiver));
    }
    let (_, last) = streams.last_mut().unwrap();
    receive(last).await;
    streams.pop();
    within(ended.notified()).await;
    one.wait_until_up(2).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_under_a_transfer() {
    let cluster = Cluster::of(2);
    let timings = Timings {
        suspect: Duration::from_millis(40),
        snapshot_idle: Duration::from_millis(50),
        ..Timings::default()
    };
    let one = cluster.start_as(
        1,
        Setup {
            timings,
            ..Setup::of(1)
        },
    );
    let two = cluster.start(2);
    two.peers
        .serve_snapshots(Channel::PARTITIONS, Arc::new(Server::default()));
    let (mut sender, mut receiver) = within(one.peers.open_snapshot(two.id, Channel::PARTITIONS))
        .await
        .unwrap();
    sender
        .send(SnapshotDone { bytes: 0 }.to_frame())
        .await
        .unwrap();
    let idle = Duration::from_millis(300);
    tokio::time::timeout(idle, std::future::pending::<()>())
        .await
        .unwrap_err();
    receive(&mut receiver).await;
    let busy = two.tracker.len();
    drop((sender, receiver));
    let closed = async {
        while two.tracker.len() >= busy {
            tokio::task::yield_now().await;
        }
    };
    within(closed).await;
    // The next transfer opens another one.
    let (mut sender, mut receiver) = within(one.peers.open_snapshot(two.id, Channel::PARTITIONS))
        .await
        .unwrap();
    sender
        .send(SnapshotDone { bytes: 0 }.to_frame())
        .await
        .unwrap();
    receive(&mut receiver).await;
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_or_refuses_gives_an_error() {
    let cluster = Cluster::of(3);
    let timings = Timings {
        dial: Duration::from_millis(200),
        ..Timings::default()
    };
    let one = cluster.start_as(
        1,
        Setup {
            timings,
            ..Setup::of(1)
        },
    );
    let error = within(
        one.peers
            .open_snapshot(BrokerId::new(2), Channel::PARTITIONS),
    )
    .await
    .unwrap_err();
    assert_eq!((error.code, error.sent), (ErrorCode::TIMEOUT, false));
    let members = Some(cluster.members(&[2, 3]));
    let _three = cluster.start_as(
        3,
        Setup {
            members,
            ..Setup::of(3)
        },
    );
    let error = within(
        one.peers
            .open_snapshot(BrokerId::new(3), Channel::PARTITIONS),
    )
    .await
    .unwrap_err();
    assert_eq!(error.code, ErrorCode::NOT_MEMBER);
    let error = within(
        one.peers
            .open_snapshot(BrokerId::new(9), Channel::PARTITIONS),
    )
    .await
    .unwrap_err();
    assert_eq!(error.code, ErrorCode::NOT_MEMBER);
}

#[tokio::test]
async fn a_broker_that_serves_no_snapshots_resets_the_stream() {
    let cluster = Cluster::of(2);
    let (one, _two) = (cluster.start(1), cluster.start(2));
    let (mut sender, mut receiver) = within(
        one.peers
            .open_snapshot(BrokerId::new(2), Channel::PARTITIONS),
    )
    .await
    .unwrap();
    sender
        .send(SnapshotDone { bytes: 0 }.to_frame())
        .await
        .unwrap();
    let error = within(receiver.next()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::LEADER_NOT_READY);
}

#[tokio::test]
async fn each_channel_has_its_own_server() {
    let cluster = Cluster::of(2);
    let (one, two) = (cluster.start(1), cluster.start(2));
    two.peers
        .serve_snapshots(Channel::METADATA, Arc::new(Server::default()));
    for (channel, served) in [(Channel::PARTITIONS, false), (Channel::METADATA, true)] {
        let opened = within(one.peers.open_snapshot(two.id, channel)).await;
        let (mut sender, mut receiver) = opened.unwrap();
        let asked = sender.send(SnapshotDone { bytes: 0 }.to_frame()).await;
        let first = within(receiver.next()).await;
        assert_eq!(matches!(first, Ok(Some(_))), served, "{asked:?} {first:?}");
    }
}
