//! Three brokers, spoken to frame by frame: who leads is known everywhere and told when it changes.

use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::GoAway;
use quorate_protocol::GoAwayReason;
use quorate_protocol::InitProducer;
use quorate_protocol::MetadataReply;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Nack;
use quorate_protocol::Op;
use quorate_protocol::PartitionInfo;
use quorate_protocol::ProduceParams;
use quorate_protocol::ProducerGranted;
use quorate_protocol::StreamReject;
use quorate_protocol::StreamType;
use quorate_protocol::Text;
use quorate_protocol::TopologyUpdate;

use crate::brokers::Brokers;
use crate::brokers::Life;
use crate::client::Client;
use crate::world::within;

async fn clients(brokers: &Brokers, lives: &[Life]) -> Vec<Client> {
    let mut clients = Vec::new();
    for life in lives {
        clients.push(brokers.client(life).await);
    }
    clients
}

/// What a broker says of the only partition of `orders`, once it has heard of a leader.
async fn partition(client: &mut Client) -> (u64, PartitionInfo) {
    let wanted = MetadataRequest {
        topics: Bounded::clipped([Text::clipped("orders")]),
        create: false,
    };
    let asking = async {
        loop {
            let reply: MetadataReply = client.ask(Op::METADATA, &wanted).await;
            let partition = reply
                .topics
                .first()
                .map(|topic| topic.partitions[0].clone());
            match partition {
                Some(known) if known.leader.is_some() && known.term.get() > 0 => {
                    return (reply.epoch, known);
                }
                _ => tokio::task::yield_now().await,
            }
        }
    };
    within(asking).await
}

fn place(broker: BrokerId) -> usize {
    usize::from(broker.get()) - 1
}

#[tokio::test]
async fn every_broker_knows_the_leader_and_names_it_when_it_refuses_a_stream() {
    let brokers = Brokers::new(3);
    let lives = brokers.found(3).await;
    let mut clients = clients(&brokers, &lives).await;
    let topic = clients[0].create_topic("orders").await;
    let wanted = InitProducer {
        name: None,
        resume: None,
    };
    let granted: ProducerGranted = clients[0].ask(Op::INIT_PRODUCER, &wanted).await;
    let ProducerGranted { producer, epoch } = granted;
    let params = ProduceParams { producer, epoch };
    let (_, first) = partition(&mut clients[0]).await;
    let leader = first.leader.unwrap();
    for (at, client) in clients.iter_mut().enumerate() {
        let (_, known) = partition(client).await;
        assert_eq!((known.leader, known.term), (Some(leader), first.term));
        assert_eq!(known.replicas.len(), 3);
        if at != place(leader) {
            let reject: StreamReject = client.rejection(StreamType::PRODUCE, topic, &params).await;
            assert_eq!(reject.code, ErrorCode::NOT_LEADER, "{}", reject.detail);
            assert_eq!(reject.leader, Some(leader));
        }
    }
    let leading = &clients[place(leader)];
    leading
        .producer_as(topic, granted)
        .await
        .publish(&["a"])
        .await;
}

#[tokio::test]
async fn a_leader_that_leaves_sends_producers_on_and_the_others_tell_of_the_next() {
    let brokers = Brokers::new(3);
    let mut lives = brokers.found(3).await;
    let mut clients = clients(&brokers, &lives).await;
    let topic = clients[0].create_topic("orders").await;
    let (_, before) = partition(&mut clients[0]).await;
    let old = before.leader.unwrap();
    let mut watching = clients.remove((place(old) + 1) % 3);
    let (epoch, _) = partition(&mut watching).await;
    let mut leading = brokers.client(&lives[place(old)]).await;
    let mut producer = leading.producer(topic).await;
    assert_eq!(producer.publish(&["a", "b"]).await, 0);

    let life = lives.remove(place(old));
    let leaving = std::thread::spawn(move || life.drain());
    let moving = async {
        let update: TopologyUpdate = loop {
            let update: TopologyUpdate = watching.control.skip_to().await;
            let found = update
                .topics
                .iter()
                .find(|topic| topic.name.as_str() == "orders");
            if found.is_some_and(|topic| topic.partitions[0].term > before.term) {
                break update;
            }
        };
        let next = update.topics[0].partitions[0].clone();
        assert_ne!(next.leader, Some(old));
        assert!(update.epoch >= epoch);
        let go: GoAway = leading.control.skip_to().await;
        assert_eq!(go.reason, GoAwayReason::DRAINING);
        assert_eq!(go.prefer.len(), 2);
        assert!(!go.prefer.contains(&old));
        let nack: Nack = producer.pipe.skip_to().await;
        assert_eq!(nack.code.class(), ErrorClass::Reroute);
        // The next leader may not have spoken to this one yet.
        assert!(nack.leader.is_none() || nack.leader == next.leader);
        drop(leading);
        next.leader.unwrap()
    };
    let new = within(moving).await;
    leaving.join().unwrap();
    let at = place(new) - usize::from(new > old);
    let mut client = brokers.client(&lives[at]).await;
    let mut again = client.producer(topic).await;
    assert_eq!(again.publish(&["c"]).await, 2);
}
