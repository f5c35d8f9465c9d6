//! The task behind one partition of a producer: finds the leader, keeps a PRODUCE stream, sends
//! and sends again until everything is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Acks;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::InitProducer;
use quorate_protocol::Kind;
use quorate_protocol::Nack;
use quorate_protocol::ProduceParams;
use quorate_protocol::PublishHeader;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;

use crate::backoff::Backoff;
use crate::backoff::random;
use crate::connection::FrameReceiver;
use crate::connection::FrameSender;
use crate::connection::PRIORITY_PRODUCE;
use crate::connection::Rejected;
use crate::connection::Stream;
use crate::connection::milliseconds;
use crate::core::Core;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::level::AckLevel;
use crate::producer::lane::Lane;
use crate::producer::lane::Step;
use crate::producer::window::Verdict;
use crate::topology::partition;

/// The first wait before a stream is opened or a batch is sent again.
const RETRY_MIN: Duration = Duration::from_millis(20);

/// Serves a lane until its producer is closed and everything is answered.
pub(super) async fn run(lane: Arc<Lane>) {
    let cancel = lane.common.cancel.clone();
    tokio::select! {
        () = serve(&lane) => {}
        () = cancel.cancelled() => {
            let whole = lane.common.core.cancel.is_cancelled();
            let error = Error::closed(if whole { "client" } else { "producer" });
            lane.close(error.clone());
            lane.fail_all(&error);
        }
    }
}

async fn serve(lane: &Arc<Lane>) {
    let options = &lane.common.core.options.client;
    let mut backoff = Backoff::new(RETRY_MIN, options.reconnect_max);
    let mut renew = false;
    while wait_for_work(lane).await {
        let ended = match open(lane, &mut renew).await {
            Ok(stream) => {
                backoff.reset();
                match pump(lane, stream).await {
                    Ok(()) => return,
                    Err(ended) => ended,
                }
            }
            Err(rejected) => rejected,
        };
        let error = ended.error.at(&lane.place);
        match error.code().class() {
            ErrorClass::Fenced => {
                lane.close(error.clone());
                lane.fail_all(&error);
                return;
            }
            _ if is_final(&error) => {
                lane.common.core.topology.forget(&lane.place.topic);
                lane.fail_all(&error);
                renew = true;
            }
            _ => {
                if lane.common.level == AckLevel::None {
                    // Nothing is sent twice, so nothing in flight has another chance.
                    lane.fail_in_flight(&error);
                    renew = true;
                }
                pause(lane, &error, ended.leader, &mut backoff).await;
            }
        }
    }
}

/// Whether trying again is pointless.
fn is_final(error: &Error) -> bool {
    let code = error.code();
    !code.is_retryable()
        && matches!(
            code.class(),
            ErrorClass::Fault | ErrorClass::Auth | ErrorClass::Data
        )
        || matches!(
            code,
            ErrorCode::IDENTITY_FILES | ErrorCode::CLOSED | ErrorCode::TLS
        )
}

/// Waits until there is something to send; false when nothing will come.
async fn wait_for_work(lane: &Lane) -> bool {
    loop {
        let woken = lane.wake.notified();
        if lane.has_work() {
            return true;
        }
        if lane.is_closed() {
            return false;
        }
        woken.await;
    }
}

/// Waits before the next attempt, while what is too old expires.
async fn pause(lane: &Lane, error: &Error, leader: Option<BrokerId>, backoff: &mut Backoff) {
    let core = &lane.common.core;
    if error.code().class() == ErrorClass::Throttled {
        core.events.publish(Event::Throttled {
            topic: Arc::clone(&lane.place.topic),
            partition: lane.place.partition,
            error: error.clone(),
        });
    }
    let wait = match leader {
        Some(leader) if backoff.attempts() == 0 => {
            core.topology
                .set_leader(lane.common.topic_id, lane.place.partition, leader);
            core.events.publish(Event::LeaderChanged {
                topic: Arc::clone(&lane.place.topic),
                partition: lane.place.partition,
                leader: Some(leader),
            });
            let _counted = backoff.next(0);
            return;
        }
        _ => backoff.next(random()),
    };
    core.topology.forget(&lane.place.topic);
    let wait = error.retry_after().unwrap_or(wait);
    let until = core.clock.monotonic() + wait;
    while_expiring(lane, core.clock.sleep_until(until)).await;
}

/// Runs `work` and meanwhile ends the wait of batches that take too long.
async fn while_expiring<T>(lane: &Lane, work: impl Future<Output = T>) -> T {
    let clock = lane.common.core.clock;
    let mut work = std::pin::pin!(work);
    loop {
        // What has no deadline yet is looked at again soon.
        let soon = clock.monotonic() + Duration::from_secs(1);
        let deadline = lane.next_deadline().unwrap_or(soon).min(soon);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = clock.sleep_until(deadline) => lane.expire(clock.monotonic()),
        }
    }
}

/// Opens a stream with the partition's leader.
async fn open(lane: &Lane, renew: &mut bool) -> Result<Stream, Rejected> {
    while_expiring(lane, async {
        let core = &lane.common.core;
        if *renew {
            start_over(lane, core).await?;
            *renew = false;
        }
        let topic = core.topic(&lane.place.topic, false).await?;
        if topic.id != lane.common.topic_id {
            let message = "the topic was deleted and created again; open a new producer";
            return Err(Error::new(ErrorCode::UNKNOWN_PRODUCER, message).into());
        }
        let known = partition(&topic, lane.place.partition);
        let Some(leader) = known.and_then(|known| known.leader) else {
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, "it has no leader now").into());
        };
        let open = stream_open(lane, core);
        core.pool.open(Some(leader), &open, PRIORITY_PRODUCE).await
    })
    .await
}

/// Takes a new identity: under the old one a sequence would be missing.
async fn start_over(lane: &Lane, core: &Core) -> Result<()> {
    if lane.window.lock().is_fresh() {
        return Ok(());
    }
    let question = InitProducer {
        name: lane.common.name.clone(),
        resume: None,
    };
    let granted = core.init_producer(&question).await?;
    let given_up = lane.window.lock().start_over(granted);
    for sent in given_up {
        lane.common.room.give(sent.cost);
    }
    Ok(())
}

fn stream_open(lane: &Lane, core: &Core) -> StreamOpen {
    let window = lane.window.lock();
    let params = ProduceParams {
        producer: window.producer(),
        epoch: window.epoch(),
    };
    StreamOpen {
        stream: StreamType::PRODUCE,
        topic: lane.common.topic_id,
        partition: lane.place.partition,
        topology_epoch: core.topology.epoch(),
        deadline_ms: milliseconds(core.options.client.request_timeout),
        on_behalf_of: None,
        params: params.to_blob().unwrap_or_default(),
    }
}

/// Sends and takes answers until the lane is done or the stream ends.
async fn pump(lane: &Lane, stream: Stream) -> Result<(), Rejected> {
    let Stream {
        mut sender,
        mut receiver,
        accept,
        ..
    } = stream;
    lane.window.lock().reopen(accept.credit);
    tokio::select! {
        written = write(lane, &mut sender) => written.map_err(Rejected::from),
        ended = read(lane, &mut receiver) => Err(ended),
    }
}

async fn write(lane: &Lane, sender: &mut FrameSender) -> Result<()> {
    let core = &lane.common.core;
    let header = PublishHeader {
        level: lane.common.level.asked_on_the_wire(),
        flags: 0,
        deadline_ms: milliseconds(core.options.client.request_timeout),
        expect_offset: None,
    };
    loop {
        match lane.next_step(core.clock.monotonic()) {
            Step::Publish(batch) => {
                let len = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                let prefix = Bytes::copy_from_slice(&header.frame_prefix(len));
                let mut pieces = [prefix, batch];
                // A stalled write must not keep others from their deadline.
                while_expiring(lane, sender.send_pieces(&mut pieces)).await?;
                if lane.common.level == AckLevel::None {
                    lane.sent_without_ack();
                }
            }
            Step::Rewind(rewind) => while_expiring(lane, sender.send(&rewind)).await?,
            Step::Wait(until) => wait(lane, until).await,
            Step::Done => {
                sender.finish();
                return Ok(());
            }
        }
    }
}

async fn wait(lane: &Lane, until: Option<Duration>) {
    let clock = lane.common.core.clock;
    let deadline = lane.next_deadline();
    let Some(alarm) = until.into_iter().chain(deadline).min() else {
        return lane.wake.notified().await;
    };
    tokio::select! {
        () = lane.wake.notified() => {}
        () = clock.sleep_until(alarm) => {
            let now = clock.monotonic();
            if deadline.is_some_and(|deadline| deadline <= now) {
                lane.expire(now);
            }
        }
    }
}

/// Takes answers until the stream ends; says why.
async fn read(lane: &Lane, receiver: &mut FrameReceiver) -> Rejected {
    loop {
        let frame = match receiver.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                let message = "the broker ended the stream";
                return Error::new(ErrorCode::LEADER_UNKNOWN, message).into();
            }
            Err(error) => return error.into(),
        };
        let taken = match frame.header.kind {
            Kind::ACKS => frame.decode().and_then(|acks| take_acks(lane, &acks)),
            Kind::NACK => match frame.decode() {
                Ok(nack) => match take_nack(lane, &nack) {
                    Some(rejected) => return rejected,
                    None => Ok(()),
                },
                Err(error) => Err(error),
            },
            kind => {
                let message = format!("{kind:?} does not belong on a PRODUCE stream");
                Err(Error::new(ErrorCode::PROTOCOL_VIOLATION, message))
            }
        };
        if let Err(error) = taken {
            // Nothing is known to have failed: another stream settles it.
            tracing::warn!(%error, "broken PRODUCE stream");
            return Error::new(ErrorCode::INTERNAL, error.to_string()).into();
        }
    }
}

fn take_acks(lane: &Lane, acks: &Acks) -> Result<()> {
    lane.window.lock().grant(acks.credit);
    if acks.acks.is_empty() {
        lane.wake.notify_one();
    }
    acks.acks.iter().try_for_each(|ack| lane.acked(ack))
}

/// None if the stream goes on.
fn take_nack(lane: &Lane, nack: &Nack) -> Option<Rejected> {
    let now = lane.common.core.clock.monotonic();
    let verdict = lane.window.lock().nack(nack, now, RETRY_MIN);
    match verdict {
        Verdict::GoesOn(answered) => {
            for (sent, with) in answered {
                lane.answered(&sent, with);
            }
            lane.wake.notify_one();
            None
        }
        Verdict::Ends(error) => Some(Rejected {
            error,
            leader: nack.leader,
        }),
    }
}
