//! Peers that come, go and come back, and what is known of them meanwhile.

use std::sync::Arc;
use std::time::Duration;

use quorate_broker::peers::Channel;
use quorate_broker::peers::Lane;
use quorate_broker::peers::Reach;
use quorate_broker::peers::Timings;
use quorate_protocol::BrokerId;
use quorate_protocol::Message;
use tokio::sync::oneshot;

use crate::peers::world::Cluster;
use crate::peers::world::Setup;
use crate::peers::world::ack;
use crate::peers::world::number;
use crate::peers::world::numbered;
use crate::world::within;

#[tokio::test]
async fn a_restarted_peer_is_connected_both_ways_again() {
    let cluster = Cluster::of(2);
    let one = cluster.start(1);
    let mut two = cluster.start(2);
    for starts in 2..6 {
        one.wait_until_up(2).await;
        two.wait_until_up(1).await;
        let before = (one.metadata.count(), starts);
        one.peers.send(
            two.id,
            Channel::METADATA,
            Lane::Append,
            vec![numbered(starts)],
        );
        two.peers.send(
            one.id,
            Channel::METADATA,
            Lane::Append,
            vec![numbered(starts)],
        );
        let delivered = two.metadata.wait_for(1).await;
        assert_eq!(number(&delivered[0].1), starts);
        one.metadata.wait_for(before.0 + 1).await;
        two.end().await;
        one.wait_for(2, |state| state.state != Reach::Up).await;
        let again = Setup {
            incarnation: starts * 1_000,
            starts,
            ..Setup::of(2)
        };
        two = cluster.start_as(2, again);
    }
}

#[tokio::test]
async fn a_killed_peer_is_suspected_then_down_and_the_first_to_dial_is_dialled_at_once() {
    let cluster = Cluster::of(2);
    let timings = Timings {
        probe: Duration::from_millis(20),
        suspect: Duration::from_millis(100),
        down: Duration::from_millis(400),
        // Its own attempts would come far too late.
        retry_min: Duration::from_secs(600),
        retry_max: Duration::from_secs(600),
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
    one.wait_until_up(2).await;
    two.end().await;
    one.wait_for(2, |state| state.state == Reach::Suspect).await;
    one.wait_for(2, |state| state.state == Reach::Down).await;
    let two = cluster.start_as(
        2,
        Setup {
            incarnation: 9,
            starts: 2,
            ..Setup::of(2)
        },
    );
    one.wait_until_up(2).await;
    two.wait_until_up(1).await;
}

#[tokio::test]
async fn a_peer_that_was_killed_and_started_again_replaces_its_dead_connections_at_once() {
    let cluster = Arc::new(Cluster::of(2));
    let never = Duration::from_secs(600);
    // Nothing but the greeting of the new process can tell that the old one is dead.
    let timings = Timings {
        probe: never,
        suspect: never,
        down: never,
        retry_min: never / 2,
        retry_max: never,
        ..Timings::default()
    };
    let one = cluster.start_as(
        1,
        Setup {
            timings,
            ..Setup::of(1)
        },
    );
    let (kill, killed) = oneshot::channel::<()>();
    let (there, cluster_there) = (oneshot::channel(), cluster.clone());
    let (up, is_up) = there;
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let two = cluster_there.start(2);
            two.wait_until_up(1).await;
            up.send(()).unwrap();
            killed.await.unwrap();
        });
    });
    within(is_up).await.unwrap();
    one.wait_until_up(2).await;
    kill.send(()).unwrap();
    process.join().unwrap();
    let again = Setup {
        incarnation: 9,
        starts: 2,
        ..Setup::of(2)
    };
    let two = cluster.start_as(2, again);
    two.wait_until_up(1).await;
    one.wait_until_up(2).await;
    let send = |message| {
        one.peers
            .send(two.id, Channel::METADATA, Lane::Append, vec![message]);
    };
    let arrived = async {
        // Until the old connection is replaced, messages may be lost with it.
        while two.metadata.count() == 0 {
            send(numbered(1));
            tokio::task::yield_now().await;
        }
    };
    within(arrived).await;
}

#[tokio::test]
async fn a_peer_that_hears_but_does_not_answer_is_down() {
    let cluster = Cluster::of(2);
    let timings = Timings {
        probe: Duration::from_millis(20),
        suspect: Duration::from_millis(100),
        down: Duration::from_millis(300),
        ..Timings::default()
    };
    let one = cluster.start_as(
        1,
        Setup {
            timings,
            ..Setup::of(1)
        },
    );
    let mute = cluster.server(2, &cluster.identity("spiffe://prod/broker/b2"));
    let connection = within(async { mute.accept().await.unwrap().await.unwrap() }).await;
    let (mut send, mut receive) = within(connection.accept_bi()).await.unwrap();
    let mut some = [0; 100];
    within(receive.read(&mut some)).await.unwrap();
    send.write_all(&ack(2).to_frame()).await.unwrap();
    one.wait_for(2, |state| state.state == Reach::Up).await;
    one.wait_for(2, |state| state.state == Reach::Suspect).await;
    let state = one.wait_for(2, |state| state.state == Reach::Down).await;
    assert_eq!(state.refused, None);
}

#[tokio::test]
async fn the_offset_of_a_peers_clock_is_known_within_its_error() {
    let cluster = Cluster::of(2);
    let shift_us = -3_600_000_000;
    let one = cluster.start(1);
    let _two = cluster.start_as(
        2,
        Setup {
            clock_shift_us: shift_us,
            ..Setup::of(2)
        },
    );
    one.wait_until_up(2).await;
    let known = async {
        loop {
            let state = one.peers.states().borrow()[&BrokerId::new(2)].clone();
            if state.clock_error_us < u64::MAX {
                return state;
            }
            tokio::task::yield_now().await;
        }
    };
    let state = within(known).await;
    assert!(
        state.clock_offset_us.abs_diff(shift_us) <= state.clock_error_us + 1_000,
        "{state:?}"
    );
    assert!(state.rtt > Duration::ZERO);
}

#[tokio::test]
async fn whoever_is_no_member_any_more_is_cut_off_and_leaves_no_task() {
    let cluster = Cluster::of(2);
    let one = cluster.start(1);
    let two = cluster.start(2);
    two.wait_until_up(1).await;
    one.wait_until_up(2).await;
    one.peers.set_members(cluster.members(&[1]));
    assert!(one.peers.states().borrow().is_empty());
    let text = two.refusal(1).await;
    assert!(text.contains("no member of"), "{text}");
    let alone = one.tracker.len();
    for _ in 0..10 {
        one.peers.set_members(cluster.members(&[1, 2]));
        one.wait_until_up(2).await;
        one.peers.set_members(cluster.members(&[1]));
    }
    let quiet = async {
        while one.tracker.len() > alone {
            tokio::task::yield_now().await;
        }
    };
    within(quiet).await;
}

#[tokio::test]
async fn a_member_that_moved_is_found_at_its_new_address() {
    let cluster = Cluster::of(3);
    let one = cluster.start_as(
        1,
        Setup {
            members: Some(cluster.members(&[1])),
            ..Setup::of(1)
        },
    );
    let mut elsewhere = cluster.member(2);
    elsewhere.address = cluster.member(3).address;
    one.peers.set_members(vec![elsewhere]);
    let _two = cluster.start_as(
        2,
        Setup {
            members: Some(Vec::new()),
            ..Setup::of(2)
        },
    );
    one.peers.set_members(cluster.members(&[2]));
    // Broker 2 knows nobody, so it refuses; but it was found.
    let text = one.refusal(2).await;
    assert!(text.contains("broker 1 named `b1` is no member"), "{text}");
}

#[tokio::test]
async fn everything_ends_with_the_broker() {
    let cluster = Cluster::of(3);
    let (one, two, three) = (cluster.start(1), cluster.start(2), cluster.start(3));
    one.wait_until_up(2).await;
    two.wait_until_up(3).await;
    let stream = within(one.peers.open_snapshot(two.id, Channel::PARTITIONS))
        .await
        .unwrap();
    for node in [one, two, three] {
        node.end().await;
    }
    drop(stream);
}
