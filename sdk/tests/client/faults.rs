//! A broker that goes away and comes back: nothing is lost, doubled or reordered.

use std::time::Duration;

use quorate::ErrorKind;
use quorate::Event;
use quorate::Outcome;
use quorate::Start;
use quorate::State;

use crate::world::Site;
use crate::world::within;

#[tokio::test]
async fn a_restart_is_invisible_on_producers_and_subscriptions() {
    let site = Site::new();
    let broker = site.start().await;
    let address = broker.client_address();
    let client = site.client(address).await;
    let mut events = client.events();
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    let subscribe = client.subscribe("orders").from(Start::Earliest);
    let mut subscription = within(subscribe.into_future()).await.unwrap();

    let mut deliveries = Vec::new();
    for n in 0..1000u32 {
        deliveries.push(within(producer.send(n.to_string())).await.unwrap());
    }
    within(broker.drain(Duration::from_secs(1))).await;
    for n in 1000..2000u32 {
        deliveries.push(within(producer.send(n.to_string())).await.unwrap());
    }
    let site = site.with_setting("listeners.client", &address.to_string());
    let _broker = site.start().await;

    for (n, delivery) in (0..).zip(deliveries) {
        let receipt = within(delivery).await.unwrap();
        assert_eq!(receipt.offset.unwrap().get(), n);
    }
    for n in 0..2000u32 {
        let record = within(subscription.next()).await.unwrap().unwrap();
        assert_eq!(record.text(), Some(n.to_string().as_str()));
    }
    let mut lost = false;
    while let Some(event) = within(events.next()).await {
        match event {
            Event::Disconnected { .. } => lost = true,
            Event::Connected { .. } => break,
            _ => {}
        }
    }
    assert!(lost);
    assert_eq!(client.state(), State::Connected);
}

#[tokio::test]
async fn without_a_broker_messages_expire_with_an_honest_outcome() {
    let site = Site::new();
    let broker = site.start().await;
    let client = site.client(broker.client_address()).await;
    let builder = client
        .producer("orders")
        .delivery_timeout(Duration::from_millis(500));
    let producer = within(builder.into_future()).await.unwrap();
    within(within(producer.send("1")).await.unwrap())
        .await
        .unwrap();
    within(broker.drain(Duration::from_secs(1))).await;
    let error = within(within(producer.send("2")).await.unwrap())
        .await
        .unwrap_err();
    // What the draining broker still said of it, if it said anything, tells more than the time.
    let kinds = [ErrorKind::Timeout, ErrorKind::Draining];
    assert!(kinds.contains(&error.kind()), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    let mut events = client.events();
    within(producer.send("3")).await.unwrap().detach();
    while let Some(event) = within(events.next()).await {
        if let Event::DeliveryFailed { messages, .. } = event {
            assert_eq!(messages, 1);
            break;
        }
    }
    assert_eq!(client.stats().in_flight_bytes, 0);
}

#[tokio::test]
async fn a_client_survives_many_restarts_in_order() {
    let site = Site::new();
    let broker = site.start().await;
    let address = broker.client_address();
    let site = site.with_setting("listeners.client", &address.to_string());
    let client = site
        .builder(address)
        .set("client.reconnect_ms_min", "20")
        .set("client.reconnect_ms_max", "100");
    let client = within(client.into_future()).await.unwrap();
    let producer = client.producer("orders").batch_bytes_max(4096);
    let producer = within(producer.into_future()).await.unwrap();
    let mut broker = Some(broker);
    let mut deliveries = Vec::new();
    for round in 0..5u32 {
        for n in 0..400u32 {
            let message = (round * 400 + n).to_string();
            deliveries.push(within(producer.send(message)).await.unwrap());
            tokio::task::yield_now().await;
        }
        if let Some(broker) = broker.take() {
            within(broker.drain(Duration::ZERO)).await;
        }
        broker = Some(site.start().await);
    }
    for (n, delivery) in (0..).zip(deliveries) {
        assert_eq!(within(delivery).await.unwrap().offset.unwrap().get(), n);
    }
    let page = client.read("orders").limit(10_000);
    let page = within(page.into_future()).await.unwrap();
    let texts: Vec<_> = page
        .records
        .iter()
        .map(|record| record.text().unwrap())
        .collect();
    let expected: Vec<_> = (0..2000).map(|n: u32| n.to_string()).collect();
    assert_eq!(texts, expected);
}

/// A broker in a thread of its own, so that it can vanish without a word.
struct Mortal {
    kill: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    address: std::net::SocketAddr,
}

impl Mortal {
    async fn start(site: Site) -> Self {
        let (kill, killed) = tokio::sync::oneshot::channel();
        let (tell, told) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let broker = site.start().await;
                tell.send(broker.client_address()).unwrap();
                killed.await.unwrap();
            });
            // Everything stops where it is; nobody is told.
            runtime.shutdown_background();
        });
        let address = within(told).await.unwrap();
        Self {
            kill,
            thread,
            address,
        }
    }

    fn kill(self) {
        self.kill.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_broker_that_vanishes_without_a_word_is_noticed_and_nothing_is_lost_or_doubled() {
    let site = Site::new();
    let broker = Mortal::start(site.clone()).await;
    let site = site.with_setting("listeners.client", &broker.address.to_string());
    let client = site.client(broker.address).await;
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    let mut deliveries = Vec::new();
    for n in 0..500u32 {
        deliveries.push(within(producer.send(n.to_string())).await.unwrap());
        tokio::task::yield_now().await;
    }
    broker.kill();
    for n in 500..1000u32 {
        deliveries.push(within(producer.send(n.to_string())).await.unwrap());
    }
    let _broker = Mortal::start(site).await;
    for (n, delivery) in (0..).zip(deliveries) {
        assert_eq!(within(delivery).await.unwrap().offset.unwrap().get(), n);
    }
    let page = within(client.read("orders").limit(10_000).into_future())
        .await
        .unwrap();
    let texts: Vec<_> = page
        .records
        .iter()
        .map(|record| record.text().unwrap())
        .collect();
    let expected: Vec<_> = (0..1000).map(|n: u32| n.to_string()).collect();
    assert_eq!(texts, expected);
}
