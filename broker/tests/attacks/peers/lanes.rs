//! Messages keep their order, and nobody waits for a peer that does not read.

use std::sync::atomic::Ordering;

use quorate_broker::peers::Channel;
use quorate_broker::peers::Lane;
use quorate_protocol::BatchBuilder;
use quorate_protocol::BatchIdentity;
use quorate_protocol::BrokerId;
use quorate_protocol::GroupId;
use quorate_protocol::HybridTime;
use quorate_protocol::LogIndex;
use quorate_protocol::Offset;
use quorate_protocol::PeerBody;
use quorate_protocol::PeerEntry;
use quorate_protocol::PeerMessage;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::RecordBatch;
use quorate_protocol::RecordDraft;
use quorate_protocol::Sequence;
use quorate_protocol::Stamp;
use quorate_protocol::Term;

use crate::peers::world::Cluster;
use crate::peers::world::Node;
use crate::peers::world::noise;
use crate::peers::world::number;
use crate::peers::world::numbered;

fn batch(seed: u64, len: usize) -> RecordBatch {
    let value = noise(seed, len);
    let mut builder = BatchBuilder::new(256 + len);
    let draft = RecordDraft {
        key: None,
        value: Some(&value),
        headers: &[],
        timestamp_us: 1,
        id: None,
    };
    builder.push(&draft).unwrap();
    let identity = BatchIdentity {
        producer_id: ProducerId::new(1),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(0),
        topic_hash: 0,
    };
    builder.finish(identity).stamp(Stamp {
        base_offset: Offset::new(0),
        term: Term::new(1),
        append_time: HybridTime::new(0),
        group: GroupId::new(1),
    })
}

fn append(index: u64, lens: &[usize]) -> PeerMessage {
    let entry = |len: &usize| PeerEntry {
        kind: 0,
        batch: batch(index, *len),
    };
    PeerMessage {
        body: PeerBody::Append {
            previous: LogIndex::new(index),
            previous_term: Term::new(1),
            commit: LogIndex::new(0),
            entries: lens.iter().map(entry).collect(),
        },
        ..numbered(0)
    }
}

async fn pair(cluster: &Cluster) -> (Node, Node) {
    let (one, two) = (cluster.start(1), cluster.start(2));
    one.wait_until_up(2).await;
    two.wait_until_up(1).await;
    (one, two)
}

#[tokio::test]
async fn each_lane_keeps_its_order_over_ten_thousand_messages() {
    let cluster = Cluster::of(2);
    let (one, two) = pair(&cluster).await;
    let to = two.id;
    for chunk in 0..1_000 {
        let messages = |lane: u64| {
            (0..10)
                .map(move |n| numbered((lane << 32) | (chunk * 10 + n)))
                .collect()
        };
        one.peers
            .send(to, Channel::PARTITIONS, Lane::Append, messages(0));
        one.peers
            .send(to, Channel::METADATA, Lane::Append, messages(1));
        one.peers
            .send(to, Channel::PARTITIONS, Lane::Urgent, messages(2));
        one.peers
            .send(to, Channel::METADATA, Lane::Urgent, messages(3));
        if chunk % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for (recorder, lanes) in [(&two.partitions, [0, 2]), (&two.metadata, [1, 3])] {
        let delivered = recorder.wait_for(20_000).await;
        for lane in lanes {
            let numbers = delivered.iter().map(|(_, message)| number(message));
            let of_lane = numbers.filter(|number| number >> 32 == lane);
            assert!(
                of_lane.eq((0..10_000).map(|n| (lane << 32) | n)),
                "lane {lane}"
            );
        }
        assert_eq!(delivered.len(), 20_000);
        assert!(delivered.iter().all(|(from, _)| *from == one.id));
    }
    assert_eq!(one.partitions.lost.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn batches_of_all_sizes_arrive_as_they_were() {
    let cluster = Cluster::of(2);
    let (one, two) = pair(&cluster).await;
    let sent = vec![
        append(1, &[100, 5_000, 1, 300_000]),
        append(2, &[1_000_000]),
        append(3, &[8_000_000]),
        append(4, &[]),
    ];
    one.peers
        .send(two.id, Channel::PARTITIONS, Lane::Append, sent.clone());
    let delivered = two.partitions.wait_for(4).await;
    let delivered: Vec<_> = delivered.into_iter().map(|(_, message)| message).collect();
    assert!(delivered == sent);
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_messages_and_delays_nobody() {
    let cluster = Cluster::of(3);
    let (one, two) = pair(&cluster).await;
    let three = cluster.start(3);
    one.wait_until_up(3).await;
    two.partitions.shut();
    let sent = 40;
    for index in 0..sent {
        for to in [two.id, three.id] {
            let messages = vec![append(index, &[1_000_000])];
            one.peers
                .send(to, Channel::PARTITIONS, Lane::Append, messages);
        }
        // To the broker that reads, everything arrives meanwhile.
        three
            .partitions
            .wait_for(usize::try_from(index).unwrap() + 1)
            .await;
    }
    one.partitions.wait_for_loss().await;
    assert_eq!(
        one.metadata.lost.load(Ordering::SeqCst),
        0,
        "only that lane"
    );
    // Its other lanes are alive.
    let messages = vec![numbered(1)];
    one.peers
        .send(two.id, Channel::PARTITIONS, Lane::Urgent, messages.clone());
    two.partitions.wait_for(1).await;
    one.peers
        .send(two.id, Channel::METADATA, Lane::Append, messages);
    two.metadata.wait_for(1).await;
    // What was taken arrives in order once it reads again, and no more than may wait.
    two.partitions.open();
    one.peers.send(
        two.id,
        Channel::PARTITIONS,
        Lane::Append,
        vec![append(sent, &[1])],
    );
    let last = |message: &PeerMessage| matches!(&message.body, PeerBody::Append { previous, .. } if previous.get() == sent);
    let mut count = 2;
    let delivered = loop {
        let delivered = two.partitions.wait_for(count).await;
        if delivered.last().is_some_and(|(_, message)| last(message)) {
            break delivered;
        }
        count = delivered.len() + 1;
    };
    let indexes: Vec<_> = delivered
        .iter()
        .filter_map(|(_, message)| match &message.body {
            PeerBody::Append { previous, .. } => Some(previous.get()),
            _ => None,
        })
        .collect();
    assert!(indexes.is_sorted_by(|a, b| a < b), "{indexes:?}");
    assert!((16..30).contains(&indexes.len()), "{}", indexes.len());
}

#[tokio::test]
async fn messages_without_a_connection_are_dropped_and_reported() {
    let cluster = Cluster::of(2);
    let one = cluster.start(1);
    let to = BrokerId::new(2);
    one.peers
        .send(to, Channel::METADATA, Lane::Append, vec![numbered(1)]);
    one.metadata.wait_for_loss().await;
    assert_eq!(one.partitions.lost.load(Ordering::SeqCst), 0);
    // Nothing old is sent later.
    let two = cluster.start(2);
    one.wait_until_up(2).await;
    one.peers
        .send(to, Channel::METADATA, Lane::Append, vec![numbered(2)]);
    let delivered = two.metadata.wait_for(1).await;
    assert_eq!(number(&delivered[0].1), 2);
}

#[tokio::test]
async fn a_lost_connection_is_reported_to_both_channels() {
    let cluster = Cluster::of(2);
    let (one, two) = pair(&cluster).await;
    two.end().await;
    one.metadata.wait_for_loss().await;
    one.partitions.wait_for_loss().await;
}
