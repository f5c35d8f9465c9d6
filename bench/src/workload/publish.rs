//! `pub`: publish on a schedule, or as fast as the window allows, and await every receipt.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use quorate::Client;
use quorate::Delivery;
use quorate::Message;
use quorate::Producer;

use super::Measured;
use super::measured_time;
use super::pause_until;
use super::run_number;
use crate::clock::Clock;
use crate::clock::Timer;
use crate::error::BenchError;
use crate::meter::Meter;
use crate::params::Params;
use crate::payload;
use crate::payload::Stamp;
use crate::schedule::Schedule;
use crate::tracker::Tracker;

/// How many messages a closed loop sends between looks at the clock.
const BURST: u64 = 64;

/// One producer's part of a run.
pub(super) struct Publisher<'a> {
    producer: Producer,
    stamp_run: u64,
    params: &'a Params,
    clock: Clock,
    meter: &'a RefCell<Meter>,
    waiting: VecDeque<(Duration, Delivery)>,
    number: u64,
}

pub(super) async fn run(
    client: &Client,
    topic: &str,
    params: &Params,
) -> Result<Measured, BenchError> {
    let (from, until) = measured_time(params);
    let meter = RefCell::new(Meter::new(from, until)?);
    let clock = Clock::start();
    publish_all(client, topic, params, (clock, run_number()), &meter).await?;
    let meter = meter.into_inner();
    let elapsed = meter.last_ack.max(until).saturating_sub(from);
    Ok(Measured {
        counted: meter.acked,
        meter,
        tracker: None,
        elapsed,
    })
}

/// Publishes with all producers until the time is over and every receipt is there.
pub(super) async fn publish_all(
    client: &Client,
    topic: &str,
    params: &Params,
    (clock, run): (Clock, u64),
    meter: &RefCell<Meter>,
) -> Result<(), BenchError> {
    let mut publishers = Vec::new();
    for index in 0..params.producers {
        let mut builder = client.producer(topic);
        if let Some(level) = params.ack {
            builder = builder.ack(level);
        }
        publishers.push(Publisher {
            producer: builder.await?,
            stamp_run: Tracker::run_of(run, index),
            params,
            clock,
            meter,
            waiting: VecDeque::new(),
            number: 0,
        });
    }
    let mut running: Vec<_> = publishers
        .iter_mut()
        .map(|one| Box::pin(one.run()))
        .collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        running.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                done.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().collect()
}

impl Publisher<'_> {
    async fn run(&mut self) -> Result<(), BenchError> {
        if self.params.rate > 0.0 {
            self.open_loop().await?;
        } else {
            self.closed_loop().await?;
        }
        while !self.waiting.is_empty() {
            self.settle_front().await;
        }
        let end = self.params.warmup + self.params.duration;
        self.meter.borrow_mut().roll(end);
        Ok(())
    }

    async fn open_loop(&mut self) -> Result<(), BenchError> {
        let timer = Timer::new()?;
        let schedule = Schedule::new(self.params.rate / f64::from(self.params.producers));
        let count = schedule.count(self.params.warmup + self.params.duration);
        while self.number < count {
            let due = schedule.due(self.number);
            if self.clock.now() >= due {
                self.send(due).await?;
                continue;
            }
            self.meter.borrow_mut().roll(self.clock.now());
            tokio::select! {
                biased;
                slept = pause_until(self.clock, due, &timer) => slept?,
                settled = settled(&mut self.waiting) => self.note(settled),
            }
            self.settle_ready();
        }
        Ok(())
    }

    async fn closed_loop(&mut self) -> Result<(), BenchError> {
        let end = self.params.warmup + self.params.duration;
        loop {
            let now = self.clock.now();
            if now >= end {
                return Ok(());
            }
            self.meter.borrow_mut().roll(now);
            for _ in 0..BURST {
                if self.waiting.len() >= self.params.in_flight {
                    self.settle_front().await;
                    break;
                }
                self.send(now).await?;
            }
            self.settle_ready();
        }
    }

    async fn send(&mut self, intended: Duration) -> Result<(), BenchError> {
        let stamp = Stamp {
            run: self.stamp_run,
            number: self.number,
            intended,
        };
        let body = payload::write(stamp, self.params.size_bytes);
        let delivery = self.producer.send(Message::new(body)).await?;
        self.number += 1;
        self.meter.borrow_mut().sent(intended);
        self.waiting.push_back((intended, delivery));
        Ok(())
    }

    async fn settle_front(&mut self) {
        let first = settled(&mut self.waiting).await;
        self.note(first);
        self.settle_ready();
    }

    /// Takes all receipts that are there, without waiting.
    fn settle_ready(&mut self) {
        let now = self.clock.now();
        let mut meter = self.meter.borrow_mut();
        while let Some((intended, delivery)) = self.waiting.front_mut() {
            let Some(outcome) = delivery.try_receipt() else {
                return;
            };
            count(&mut meter, *intended, now, outcome);
            self.waiting.pop_front();
        }
    }

    fn note(&self, (intended, outcome): (Duration, quorate::Result<quorate::Receipt>)) {
        count(
            &mut self.meter.borrow_mut(),
            intended,
            self.clock.now(),
            outcome,
        );
    }
}

fn count(
    meter: &mut Meter,
    intended: Duration,
    now: Duration,
    outcome: quorate::Result<quorate::Receipt>,
) {
    match outcome {
        Ok(_receipt) => meter.acked(intended, now),
        Err(error) => meter.failed(intended, &error),
    }
}

/// Awaits the oldest receipt and takes it off the queue; for ever when none is awaited. Cancel-safe.
async fn settled(
    waiting: &mut VecDeque<(Duration, Delivery)>,
) -> (Duration, quorate::Result<quorate::Receipt>) {
    let Some((intended, delivery)) = waiting.front_mut() else {
        return std::future::pending().await;
    };
    let outcome = delivery.await;
    let intended = *intended;
    waiting.pop_front();
    (intended, outcome)
}
