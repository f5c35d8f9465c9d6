//! A broker that is killed again and again under a client that publishes.

use std::sync::Arc;
use std::thread::JoinHandle;

use quorate::Client;
use quorate::Delivery;
use quorate::End;
use quorate::Start;
use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::InitMode;
use quorate_storage::Crash;
use quorate_storage::MemoryStorage;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::sdk::connect;
use crate::sdk::free_port;
use crate::world::Site;
use crate::world::runtime;
use crate::world::within;

const MESSAGES: usize = 3000;
const MESSAGES_PER_LIFE: usize = 400;

/// A broker in a runtime of its own, on a disk that forgets what was not synced.
struct Mortal {
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Mortal {
    async fn start(site: &Site, storage: &Arc<MemoryStorage>) -> (Self, std::net::SocketAddr) {
        let (kill, killed) = oneshot::channel();
        let (ready, address) = oneshot::channel();
        let (config, storage) = (site.config(), Arc::clone(storage));
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let environment = Environment {
                    storage,
                    ..Environment::machine()
                };
                let started = Broker::start(config, InitMode::Init, environment);
                let broker = within(started).await.unwrap();
                ready.send(broker.client_address()).unwrap();
                killed.await.unwrap();
            });
        });
        (Self { kill, thread }, within(address).await.unwrap())
    }

    /// Nothing is said, flushed or closed.
    fn kill(self) {
        self.kill.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

/// Publishes numbers without waiting for receipts.
async fn publish(client: Client, deliveries: mpsc::Sender<Delivery>) {
    let producer = client.producer("orders").await.unwrap();
    for number in 0..MESSAGES {
        let delivery = producer.send(number.to_string()).await.unwrap();
        deliveries.send(delivery).await.unwrap();
    }
}

#[tokio::test]
async fn kills_lose_nothing_that_was_acked_and_repeat_nothing() {
    let site = Site::new()
        .with_setting("node.data_dir", "/memory")
        .with_setting("listeners.client", &free_port().await);
    let storage = Arc::new(MemoryStorage::inline());
    let (mut broker, address) = Mortal::start(&site, &storage).await;
    let client = connect(&site, address).await;
    within(client.admin().create_topic("orders")).await.unwrap();
    let (sender, mut deliveries) = mpsc::channel(100);
    let publishing = TaskTracker::new().spawn(publish(client.clone(), sender));
    let mut lives = 1;
    for number in 0..MESSAGES {
        let delivery = within(deliveries.recv()).await.unwrap();
        let receipt = within(delivery).await.unwrap();
        let place = receipt.offset.map(|offset| offset.get());
        assert_eq!(place, u64::try_from(number).ok(), "each in its own place");
        if number % MESSAGES_PER_LIFE == MESSAGES_PER_LIFE / 2 {
            broker.kill();
            storage.crash(Crash::Seeded(lives));
            (broker, _) = Mortal::start(&site, &storage).await;
            lives += 1;
        }
    }
    publishing.await.unwrap();
    assert_eq!(lives, 8);
    let all = client
        .subscribe("orders")
        .from(Start::Earliest)
        .until(End::Tail);
    let mut all = within(all).await.unwrap();
    for number in 0..MESSAGES {
        let record = within(all.next()).await.unwrap().unwrap();
        assert_eq!(record.text(), Some(number.to_string().as_str()));
    }
    assert!(within(all.next()).await.is_none());
    broker.kill();
}
