//! Several brokers: one metadata for all, whoever leads it, whoever is asked.

use std::fs;

use quorate_broker::InitMode;
use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerState;
use quorate_protocol::ClusterChange;
use quorate_protocol::ClusterChangeKind;
use quorate_protocol::ClusterChanged;
use quorate_protocol::ClusterStatus;
use quorate_protocol::DescribeTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::InitProducer;
use quorate_protocol::ListTopics;
use quorate_protocol::Op;
use quorate_protocol::PartitionId;
use quorate_protocol::ProducerGranted;
use quorate_protocol::Text;
use quorate_protocol::TopicDescription;
use quorate_protocol::TopicList;
use quorate_protocol::TopicSettings;

use crate::brokers::Brokers;
use crate::brokers::Life;
use crate::brokers::status_when;
use crate::client::Client;
use crate::client::create;

/// Every broker is there, and every partition led and complete; the machine's disk may be full.
fn is_whole(status: &ClusterStatus) -> bool {
    let mut brokers = status.brokers.iter();
    let led = status.metadata_leader.is_some() && status.leaderless == 0;
    led && status.under_replicated == 0 && brokers.all(|broker| broker.state == BrokerState::UP)
}

fn state(status: &ClusterStatus, id: u16) -> BrokerState {
    let mut brokers = status.brokers.iter();
    let found = brokers.find(|broker| broker.id == BrokerId::new(id));
    found.map_or(BrokerState::DOWN, |broker| broker.state)
}

async fn describe(client: &mut Client, name: &str) -> TopicDescription {
    let name = Text::clipped(name);
    client
        .ask(Op::DESCRIBE_TOPIC, &DescribeTopic { name })
        .await
}

/// The next epoch of a named producer: a command with a number for an effect.
async fn claim(client: &mut Client) -> ProducerGranted {
    let wanted = InitProducer {
        name: Some(Text::clipped("till")),
        resume: None,
    };
    let reply = client
        .request_within(30_000, Op::INIT_PRODUCER, &wanted)
        .await;
    assert_eq!(reply.code, ErrorCode::OK, "{}", reply.detail);
    quorate_protocol::Body::from_bytes(reply.body.as_bytes()).unwrap()
}

async fn clients(brokers: &Brokers, lives: &[Life]) -> Vec<Client> {
    let mut clients = Vec::new();
    for life in lives {
        clients.push(brokers.client(life).await);
    }
    clients
}

#[tokio::test]
async fn each_broker_changes_the_metadata_and_answers_for_every_partition() {
    let brokers = Brokers::new(3);
    let lives = brokers.found(3).await;
    let mut clients = clients(&brokers, &lives).await;
    for (number, client) in clients.iter_mut().enumerate() {
        let name = format!("topic-{number}");
        client
            .create_topic_with(&name, 2, TopicSettings::default())
            .await;
        let made = describe(client, &name).await;
        assert_eq!(made.summary.replicas, 3);
        // It was answered once every partition had a leader.
        assert!(made.partitions.iter().all(|one| one.leader.is_some()));
    }
    let again = clients[1]
        .request(
            Op::CREATE_TOPIC,
            &create("topic-0", 2, TopicSettings::default()),
        )
        .await;
    assert_eq!(again.code, ErrorCode::ALREADY_EXISTS);
    for client in &mut clients {
        let status = status_when(client, is_whole).await;
        assert_eq!((status.total, status.leaderless), (6, 0));
        let list: TopicList = client
            .ask(Op::LIST_TOPICS, &ListTopics { internal: false })
            .await;
        assert_eq!(list.topics.len(), 3);
    }
    let mut told = Vec::new();
    for client in &mut clients {
        let described = describe(client, "topic-1").await;
        let leaders = described
            .partitions
            .iter()
            .map(|one| (one.leader, one.term));
        told.push(leaders.collect::<Vec<_>>());
    }
    assert!(told.iter().all(|leaders| *leaders == told[0]), "{told:?}");
    lives.into_iter().for_each(Life::kill);
}

#[tokio::test]
async fn a_command_has_one_effect_though_the_leader_that_took_it_dies() {
    let brokers = Brokers::new(3);
    let mut lives: Vec<_> = brokers.found(3).await.into_iter().map(Some).collect();
    for round in 0u32..2 {
        let mut watcher = brokers.client(lives[0].as_ref().unwrap()).await;
        let status = status_when(&mut watcher, |status| status.metadata_leader.is_some()).await;
        let leader = status.metadata_leader.unwrap().get();
        let asked = usize::from(leader % 3);
        let mut client = brokers.client(lives[asked].as_ref().unwrap()).await;
        let first = claim(&mut client).await;
        let claims = async {
            let mut epochs = vec![first.epoch.get()];
            for _ in 0..40 {
                epochs.push(claim(&mut client).await.epoch.get());
            }
            epochs
        };
        let kill = async {
            // Somewhere between two claims, or within one.
            for _ in 0..(200 + round * 77) {
                tokio::task::yield_now().await;
            }
            lives[usize::from(leader) - 1].take().unwrap().kill();
        };
        let (epochs, ()) = tokio::join!(claims, kill);
        let expected: Vec<_> = (epochs[0]..).take(epochs.len()).collect();
        assert_eq!(epochs, expected);
        let mut back = brokers.begin(leader, InitMode::Open, &[]);
        back.ready().await.unwrap();
        lives[usize::from(leader) - 1] = Some(back);
    }
    lives.into_iter().flatten().for_each(Life::kill);
}

#[tokio::test]
async fn a_whole_cluster_comes_back_without_being_told_who_belongs_to_it() {
    let brokers = Brokers::new(3);
    let lives = brokers.found(3).await;
    let mut client = brokers.client(&lives[2]).await;
    client.create_topic("orders").await;
    status_when(&mut client, is_whole).await;
    lives.into_iter().for_each(Life::kill);
    let begin = |id| brokers.begin(id, InitMode::Open, &[]);
    let mut lives: Vec<_> = (1..=3).map(begin).collect();
    for life in &mut lives {
        life.ready().await.unwrap();
    }
    let mut client = brokers.client(&lives[0]).await;
    let status = status_when(&mut client, is_whole).await;
    assert_eq!(status.brokers.len(), 3);
    assert_eq!(describe(&mut client, "orders").await.partitions.len(), 1);
    // A client that stays would be waited for.
    drop(client);
    lives.into_iter().for_each(Life::drain);
}

fn change(kind: ClusterChangeKind, broker: u16, brokers: &Brokers) -> ClusterChange {
    ClusterChange {
        kind,
        broker: BrokerId::new(broker),
        name: Text::clipped(&format!("broker-{broker}")),
        address: Text::clipped(&brokers.peer_address(broker).to_string()),
        topic: Text::default(),
        partition: PartitionId::new(0),
        replicas: Bounded::default(),
        dry_run: false,
    }
}

#[tokio::test]
async fn a_broker_that_was_added_finds_its_place_and_an_uninvited_one_does_not() {
    let brokers = Brokers::new(2);
    let lives = brokers.found(1).await;
    let mut client = brokers.client(&lives[0]).await;
    client.create_topic("orders").await;
    let mut joiner = brokers.begin(2, InitMode::Init, &[1]);
    // It knocks, and is told that it is no member.
    let add = change(ClusterChangeKind::ADD, 2, &brokers);
    let uninvited = tokio::time::timeout(
        std::time::Duration::from_secs(1),
        joiner.ready.as_mut().unwrap(),
    );
    assert!(uninvited.await.is_err());
    let changed: ClusterChanged = client.ask(Op::CLUSTER_CHANGE, &add).await;
    assert!(changed.changed);
    joiner.ready().await.unwrap();
    let mut at_joiner = brokers.client(&joiner).await;
    let status = status_when(&mut at_joiner, is_whole).await;
    assert_eq!(state(&status, 2), BrokerState::UP);
    assert_eq!(describe(&mut at_joiner, "orders").await.summary.replicas, 1);
    at_joiner
        .create_topic_with("both", 1, TopicSettings::default())
        .await;
    assert_eq!(describe(&mut client, "both").await.summary.replicas, 2);
    joiner.kill();
    lives.into_iter().for_each(Life::kill);
}

#[tokio::test]
async fn a_member_that_lost_its_disk_is_not_let_in_as_if_nothing_had_happened() {
    let brokers = Brokers::new(3);
    let mut lives = brokers.found(3).await;
    let mut client = brokers.client(&lives[0]).await;
    status_when(&mut client, is_whole).await;
    lives.pop().unwrap().kill();
    fs::remove_dir_all(brokers.data_dir(3)).unwrap();
    let impostor = brokers.begin(3, InitMode::Init, &[1, 2, 3]);
    let refused = |status: &ClusterStatus| {
        let mut alarms = status.alarms.iter();
        alarms.any(|alarm| alarm.code.as_str() == "peer_refused")
    };
    let status = status_when(&mut client, refused).await;
    assert_ne!(state(&status, 3), BrokerState::UP);
    assert_eq!(status.leaderless, 0);
    client.create_topic("orders").await;
    impostor.kill();
    lives.into_iter().for_each(Life::kill);
}
