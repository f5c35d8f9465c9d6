//! Publishers of numbered messages, each with a task that takes its receipts in order.

use std::time::Duration;

use quorate::Client;
use quorate::Delivery;
use quorate::Message;
use quorate::Producer;
use quorate::Receipt;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock;
use crate::clock::Moment;
use crate::failure::Failure;
use crate::values::Rate;

/// Messages whose receipts may be outstanding.
const UNACKED_MAX: usize = 65_536;
/// Messages between two looks at whether others want to run.
const TURN: u64 = 256;

/// Time between two looks at a number that changes too often to be told each time.
const LOOK: Duration = Duration::from_millis(2);

/// What is published.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The first word of each message; its number is the second.
    pub(super) name: &'static str,
    /// `None`: as fast as possible.
    pub(super) rate: Option<Rate>,
    /// `None`: until it is stopped.
    pub(super) count: Option<u64>,
}

/// How far a publisher is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub(super) sent: u64,
    pub(super) acked: u64,
    /// The highest term in a receipt, and when the first of them came.
    pub(super) term: u64,
    pub(super) since: Moment,
}

/// A running publisher.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) name: &'static str,
    pub(super) progress: watch::Receiver<Progress>,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Publisher {
    /// Starts one; it goes on until `stop`.
    pub(super) async fn start(
        client: &Client,
        topic: &str,
        task: Task,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, Failure> {
        let producer = client.producer(topic).await?;
        let (report, progress) = watch::channel(Progress {
            sent: 0,
            acked: 0,
            term: 0,
            since: clock::now(),
        });
        let (queue, deliveries) = mpsc::channel(UNACKED_MAX);
        let name = task.name;
        let mut tasks = JoinSet::new();
        let sending = Sending {
            task,
            producer,
            queue,
            report: report.clone(),
        };
        tasks.spawn(sending.run(stop));
        tasks.spawn(acknowledge(deliveries, report));
        Ok(Self {
            name,
            progress,
            tasks,
        })
    }

    /// Waits for one more receipt than there are, or for the end.
    pub(super) async fn next_ack(&self) {
        let acked = self.progress.borrow().acked;
        let mut looks = tokio::time::interval(LOOK);
        while self.progress.borrow().acked == acked && self.progress.has_changed().is_ok() {
            looks.tick().await;
        }
    }

    /// Waits until everything that was sent has its receipt.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap_or(Ok(()))?;
        }
        Ok(())
    }
}

struct Sending {
    task: Task,
    producer: Producer,
    queue: mpsc::Sender<Delivery>,
    report: watch::Sender<Progress>,
}

impl Sending {
    async fn run(self, stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let begin = clock::now();
        let mut number = 0;
        while !*stop.borrow() && self.task.count != Some(number) {
            if let Some(rate) = self.task.rate {
                tokio::time::sleep_until(begin + rate.due(number)).await;
            } else if number.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
            let message = Message::new(format!("{} {number}", self.task.name));
            let delivery = self.producer.send(message).await?;
            number += 1;
            self.report.send_if_modified(|progress| {
                progress.sent = number;
                false
            });
            if self.queue.send(delivery).await.is_err() {
                // Whoever takes the receipts has met an error, and tells it.
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn acknowledge(
    mut deliveries: mpsc::Receiver<Delivery>,
    report: watch::Sender<Progress>,
) -> Result<(), Failure> {
    while let Some(delivery) = deliveries.recv().await {
        let receipt: Receipt = delivery.await?;
        let term = receipt.term.map_or(0, |term| term.get());
        report.send_if_modified(|progress| {
            progress.acked += 1;
            let newer = term > progress.term;
            if newer {
                progress.term = term;
                progress.since = clock::now();
            }
            newer
        });
    }
    Ok(())
}

/// The time until a publisher has a receipt of a later term than `before`.
pub(super) async fn gap(
    progress: &mut watch::Receiver<Progress>,
    before: u64,
    killed: Moment,
) -> Option<Duration> {
    let later = progress.wait_for(|progress| progress.term > before).await;
    let since = later.ok()?.since;
    Some(since.saturating_duration_since(killed))
}
