//! `e2e`: publish on a schedule and receive everything; both ends share one clock.

use std::cell::Cell;
use std::cell::RefCell;
use std::time::Duration;

use quorate::Client;
use quorate::Start;
use quorate::Subscription;

use super::Measured;
use super::measured_time;
use super::publish;
use super::run_number;
use crate::clock::Clock;
use crate::error::BenchError;
use crate::meter::Meter;
use crate::params::Params;
use crate::payload;
use crate::tracker::Tracker;

const RECORDS_AT_ONCE: usize = 4096;
/// How long after the last receipt a delivery may still come before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(
    client: &Client,
    topic: &str,
    params: &Params,
) -> Result<Measured, BenchError> {
    let (from, until) = measured_time(params);
    let meter = RefCell::new(Meter::new(from, until)?);
    let run = run_number();
    let tracker = RefCell::new(Tracker::new(run, params.producers));
    let mut subscription = client.subscribe(topic).from(Start::Latest).await?;
    let clock = Clock::start();
    let published = Cell::new(None);
    {
        let publishing = publish::publish_all(client, topic, params, (clock, run), &meter);
        let receiving = receive(&mut subscription, clock, &meter, &tracker, &published);
        tokio::pin!(publishing, receiving);
        tokio::select! {
            sent = &mut publishing => sent?,
            ended = &mut receiving => ended?,
        }
        let acked = meter.borrow().acked;
        published.set(Some(acked));
        if meter.borrow().received < acked {
            tokio::select! {
                ended = &mut receiving => ended?,
                () = tokio::time::sleep(PATIENCE) => {}
            }
        }
    }
    let (meter, tracker) = (meter.into_inner(), tracker.into_inner());
    let elapsed = meter.last_ack.max(until).saturating_sub(from);
    Ok(Measured {
        counted: meter.acked,
        meter,
        tracker: Some(tracker),
        elapsed,
    })
}

/// Receives until as many messages as `published` says are there.
async fn receive(
    subscription: &mut Subscription,
    clock: Clock,
    meter: &RefCell<Meter>,
    tracker: &RefCell<Tracker>,
    published: &Cell<Option<u64>>,
) -> Result<(), BenchError> {
    loop {
        let records = subscription.next_batch(RECORDS_AT_ONCE).await?;
        let now = clock.now();
        let (mut meter, mut tracker) = (meter.borrow_mut(), tracker.borrow_mut());
        for record in &records {
            let Some(stamp) = record.value.as_deref().and_then(payload::read) else {
                continue;
            };
            let before = tracker.duplicates;
            if tracker.arrived(stamp.run, stamp.number, record.partition.get())
                && tracker.duplicates == before
            {
                meter.received(stamp.intended, now);
            }
        }
        if published.get().is_some_and(|acked| meter.received >= acked) {
            return Ok(());
        }
    }
}
