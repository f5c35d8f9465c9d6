//! Producers that publish until they are told to stop, through whatever happens to the broker.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate::Client;
use quorate::Delivery;
use quorate::Message;
use quorate::MessageId;
use quorate::Producer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::history::Attempt;
use crate::history::Content;
use crate::history::History;
use crate::patience::within;

/// Receipts a producer waits for at most.
const IN_FLIGHT_MAX: usize = 64;
/// One message in so many is as large as a record may be.
const LARGE_ONE_IN: u64 = 97;
const LARGE_BYTES: usize = 1 << 20;

/// What is published.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many producers there are; every other one gives its messages ids.
    pub producers: u32,
    /// Whether some messages are as large as a record may be.
    pub large: bool,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Opens the producers and starts them.
    pub async fn start(client: &Client, plan: &Plan, history: &Arc<History>) -> Self {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for number in 0..plan.producers {
            let source = Source {
                producer: within(client.producer(&plan.topic)).await.unwrap(),
                number,
                plan: plan.clone(),
                history: Arc::clone(history),
            };
            tasks.spawn(source.run(stop.subscribe()));
        }
        Self { stop, tasks }
    }

    /// Publishes nothing new and waits until everything is answered.
    pub async fn finish(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = within(self.tasks.join_next()).await {
            ended.expect("a producer goes on until it is stopped");
        }
    }
}

/// One producer: the same object from the beginning to the end.
struct Source {
    producer: Producer,
    number: u32,
    plan: Plan,
    history: Arc<History>,
}

impl Source {
    async fn run(self, stop: watch::Receiver<bool>) {
        let mut waiting: VecDeque<(String, Delivery)> = VecDeque::new();
        let mut sent = 0;
        while !*stop.borrow() {
            let accepted = self.send(sent).await;
            waiting.push_back(accepted);
            sent += 1;
            if waiting.len() >= IN_FLIGHT_MAX {
                self.answered(waiting.pop_front()).await;
            }
        }
        while let Some(oldest) = waiting.pop_front() {
            self.answered(Some(oldest)).await;
        }
    }

    async fn send(&self, number: u64) -> (String, Delivery) {
        let key = format!("{}-{number}", self.number);
        let value = self.value(number);
        let partition = u32::try_from(number / 3 % u64::from(self.plan.partitions)).unwrap();
        let attempt = Attempt {
            producer: self.number,
            partition,
            number,
            content: Content::of(&value),
            answers: Vec::new(),
        };
        let mut message = Message::new(value).key(key.clone()).partition(partition);
        if self.number % 2 == 1 {
            message = message.id(MessageId::hash(&key));
        }
        self.history.invoke(&key, attempt);
        let delivery = self.producer.send(message).await;
        (key, delivery.expect("the message is accepted"))
    }

    async fn answered(&self, delivery: Option<(String, Delivery)>) {
        if let Some((key, delivery)) = delivery {
            self.history.answer(&key, &delivery.await);
        }
    }

    /// From nothing to the largest there is; unlike any other of its length.
    fn value(&self, number: u64) -> Vec<u8> {
        let large = self.plan.large && number % LARGE_ONE_IN == LARGE_ONE_IN - 1;
        let length = match (large, number % 4) {
            (true, _) => LARGE_BYTES,
            (false, 0) => 0,
            (false, 1) => 100,
            (false, 2) => 1000,
            (false, _) => 10_000,
        };
        let seed = number.wrapping_mul(31).wrapping_add(u64::from(self.number));
        let bytes = seed.to_le_bytes();
        bytes.iter().copied().cycle().take(length).collect()
    }
}
