//! A subscriber that goes on until it is told to stop, through whatever happens to the brokers.

use std::sync::Arc;

use quorate::Client;
use quorate::Start;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::history::History;
use crate::patience::eventually;
use crate::patience::within;

/// A running subscriber; an error that it sees fails the test.
#[derive(Debug)]
pub struct Follower {
    name: String,
    history: Arc<History>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Follower {
    /// Subscribes from the beginning.
    pub async fn start(client: &Client, topic: &str, name: &str, history: &Arc<History>) -> Self {
        let subscription = client.subscribe(topic).from(Start::Earliest);
        let mut subscription = within(subscription).await.unwrap();
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let (consumer, seen) = (name.to_owned(), Arc::clone(history));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let record = tokio::select! {
                    record = subscription.next() => record.expect("it does not end by itself"),
                    _ = stopped.wait_for(|stop| *stop) => return,
                };
                seen.deliver(&consumer, &record.expect("nothing is missing"));
            }
        });
        Self {
            name: name.to_owned(),
            history: Arc::clone(history),
            stop,
            tasks,
        }
    }

    /// Waits for so many records in all, and ends.
    pub async fn finish(mut self, records: usize) {
        eventually("everything is delivered", async || {
            assert!(!self.tasks.is_empty());
            (self.history.delivered(&self.name) >= records).then_some(())
        })
        .await;
        self.stop.send_replace(true);
        while let Some(ended) = within(self.tasks.join_next()).await {
            ended.expect("a subscriber goes on until it is stopped");
        }
    }
}
