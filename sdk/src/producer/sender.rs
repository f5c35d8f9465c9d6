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
use quorate_protocol::Term;

use crate::backoff::random;
use crate::connection::FrameReceiver;
use crate::connection::FrameSender;
use crate::connection::PRIORITY_PRODUCE;
use crate::connection::Rejected;
use crate::connection::Stream;
use crate::connection::milliseconds;
use crate::core::Core;
use crate::core::PATIENCE;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::level::AckLevel;
use crate::producer::lane::Lane;
use crate::producer::lane::Step;
use crate::producer::window::Verdict;
use crate::retry::RETRY_MIN;
use crate::retry::Retry;
use crate::topology::partition;

/// How long a leader that was replaced may still answer.
const FAREWELL: Duration = Duration::from_millis(20);

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

/// One attempt to serve a lane.
#[derive(Debug, Default)]
struct Attempt {
    /// Under the old identity a sequence would be missing.
    renew: bool,
    /// Who was taken for the leader.
    tried: Option<BrokerId>,
    /// The topology that said so.
    seen: u64,
}

async fn serve(lane: &Arc<Lane>) {
    let core = &lane.common.core;
    let _user = core.pool.enter();
    let mut retry = Retry::new(core.options.client.reconnect_max);
    let mut attempt = Attempt::default();
    while wait_for_work(lane).await {
        let ended = match open(lane, &mut attempt).await {
            Ok(stream) => {
                let (since, before) = (core.clock.monotonic(), lane.answers());
                let ended = pump(lane, stream).await;
                let lasted = core.clock.monotonic().saturating_sub(since);
                retry.ended(lane.answers() != before, lasted);
                match ended {
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
                core.topology.forget(&lane.place.topic);
                lane.fail_all(&error);
                attempt.renew = true;
            }
            _ => {
                if lane.common.level == AckLevel::None {
                    // Nothing is sent twice, so nothing in flight has another chance.
                    lane.fail_in_flight(&error);
                    attempt.renew = true;
                }
                pause(lane, &error, ended.leader, &attempt, &mut retry).await;
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

/// Waits before the next attempt, while what is too old expires: not at all if another broker is
/// known to lead and redirects are not too many.
async fn pause(
    lane: &Lane,
    error: &Error,
    named: Option<BrokerId>,
    attempt: &Attempt,
    retry: &mut Retry,
) {
    let (core, spot) = (&lane.common.core, lane.spot());
    if error.code().class() == ErrorClass::Throttled {
        core.events.publish(Event::Throttled {
            topic: Arc::clone(&lane.place.topic),
            partition: lane.place.partition,
            error: error.clone(),
        });
    }
    let now = core.clock.monotonic();
    let elsewhere = core.topology.redirect(spot, attempt.tried, named);
    if elsewhere && retry.hop(now) {
        return;
    }
    if !elsewhere {
        core.topology.doubt(spot.name, attempt.seen);
    }
    let wait = retry.wait(random());
    let wait = error.retry_after().unwrap_or(wait);
    let waiting = core.pause(spot, attempt.tried, retry, wait);
    while_expiring(lane, &mut Stall::default(), waiting).await;
}

/// Notices that a leader does not answer.
#[derive(Debug, Default)]
struct Stall {
    leader: Option<BrokerId>,
    answers: u64,
    since: Duration,
}

impl Stall {
    fn of(leader: BrokerId) -> Self {
        Self {
            leader: Some(leader),
            ..Self::default()
        }
    }

    /// Asks others about a leader that is late; when to look again.
    fn look(&mut self, lane: &Lane, now: Duration) -> Duration {
        let (Some(leader), Some(answers)) = (self.leader, lane.awaited()) else {
            self.since = now;
            return Duration::MAX;
        };
        if self.answers != answers || self.since.is_zero() {
            (self.answers, self.since) = (answers, now);
        }
        if now.saturating_sub(self.since) >= PATIENCE {
            lane.common.core.probe(&lane.place.topic, leader);
            self.since = now;
        }
        self.since.saturating_add(PATIENCE)
    }
}

/// Runs `work` and meanwhile ends the wait of batches that take too long.
async fn while_expiring<T>(lane: &Lane, stall: &mut Stall, work: impl Future<Output = T>) -> T {
    let clock = lane.common.core.clock;
    let mut work = std::pin::pin!(work);
    loop {
        let now = clock.monotonic();
        // What has no deadline yet is looked at again soon.
        let soon = now + Duration::from_secs(1);
        let deadline = lane.next_deadline().unwrap_or(soon).min(soon);
        let alarm = deadline.min(stall.look(lane, now));
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = clock.sleep_until(alarm) => lane.expire(clock.monotonic()),
        }
    }
}

/// Opens a stream with the partition's leader.
async fn open(lane: &Lane, attempt: &mut Attempt) -> Result<Stream, Rejected> {
    let opening = async {
        let core = &lane.common.core;
        attempt.tried = None;
        if attempt.renew {
            start_over(lane, core).await?;
            attempt.renew = false;
        }
        let topic = core.topic(&lane.place.topic, false).await?;
        attempt.seen = core.topology.version();
        if topic.id != lane.common.topic_id {
            let message = "the topic was deleted and created again; open a new producer";
            return Err(Error::new(ErrorCode::UNKNOWN_PRODUCER, message).into());
        }
        let known = partition(&topic, lane.place.partition);
        let Some(leader) = known.and_then(|known| known.leader) else {
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, "it has no leader now").into());
        };
        attempt.tried = Some(leader);
        let open = stream_open(lane, core);
        let opening = core.pool.open(Some(leader), &open, PRIORITY_PRODUCE);
        let opened = core.while_led(lane.spot(), leader, opening).await;
        opened.map_err(Rejected::unless_behind)
    };
    while_expiring(lane, &mut Stall::default(), opening).await
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

/// Sends and takes answers until the lane is done, the stream ends or another broker leads.
async fn pump(lane: &Lane, stream: Stream) -> Result<(), Rejected> {
    let Stream {
        mut sender,
        mut receiver,
        accept,
        broker,
        ..
    } = stream;
    let core = &lane.common.core;
    lane.window.lock().reopen(accept.credit);
    let mut reading = Reading {
        lane,
        receiver: &mut receiver,
        broker,
        proved: Term::ZERO,
    };
    let ended = tokio::select! {
        written = write(lane, &mut sender, broker) => written.map_err(Rejected::from),
        ended = reading.run() => Err(ended),
        leader = core.topology.moved(lane.spot(), Some(broker)) => {
            // What the old leader still says need not be asked of the new one.
            let farewell = tokio::time::timeout(FAREWELL, reading.finish());
            let _late = farewell.await.is_err();
            Err(Rejected::moved(leader))
        }
    };
    if ended.is_err() {
        sender.reset();
        receiver.stop();
    }
    ended
}

async fn write(lane: &Lane, sender: &mut FrameSender, broker: BrokerId) -> Result<()> {
    let core = &lane.common.core;
    let header = PublishHeader {
        level: lane.common.level.asked_on_the_wire(),
        flags: 0,
        deadline_ms: milliseconds(core.options.client.request_timeout),
        expect_offset: None,
    };
    let mut stall = Stall::of(broker);
    loop {
        let now = core.clock.monotonic();
        match lane.next_step(now) {
            Step::Publish(batch) => {
                let len = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                let prefix = Bytes::copy_from_slice(&header.frame_prefix(len));
                let mut pieces = [prefix, batch];
                // A stalled write must not keep others from their deadline.
                while_expiring(lane, &mut stall, sender.send_pieces(&mut pieces)).await?;
                if lane.common.level == AckLevel::None {
                    lane.sent_without_ack();
                }
            }
            Step::Rewind(rewind) => {
                while_expiring(lane, &mut stall, sender.send(&rewind)).await?;
            }
            Step::Wait(until) => {
                let late = stall.look(lane, now);
                wait(lane, until.unwrap_or(Duration::MAX).min(late)).await;
            }
            Step::Done => {
                sender.finish();
                return Ok(());
            }
        }
    }
}

async fn wait(lane: &Lane, until: Duration) {
    let clock = lane.common.core.clock;
    let deadline = lane.next_deadline().unwrap_or(Duration::MAX);
    let alarm = until.min(deadline);
    if alarm == Duration::MAX {
        return lane.wake.notified().await;
    }
    tokio::select! {
        () = lane.wake.notified() => {}
        () = clock.sleep_until(alarm) => {
            let now = clock.monotonic();
            if deadline <= now {
                lane.expire(now);
            }
        }
    }
}

/// The answers of one stream.
struct Reading<'a> {
    lane: &'a Lane,
    receiver: &'a mut FrameReceiver,
    broker: BrokerId,
    /// The term in which the broker is known to lead.
    proved: Term,
}

impl Reading<'_> {
    /// Takes answers until the stream ends; says why.
    async fn run(&mut self) -> Rejected {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }

    /// Takes answers until the stream ends or nothing is awaited any more.
    async fn finish(&mut self) {
        while self.lane.awaited().is_some() && self.next().await.is_ok() {}
    }

    /// Takes one frame. Cancel-safe.
    async fn next(&mut self) -> Result<(), Rejected> {
        let Some(frame) = self.receiver.next().await? else {
            let message = "the broker ended the stream";
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, message).into());
        };
        let taken = match frame.header.kind {
            Kind::ACKS => frame.decode().and_then(|acks| self.take_acks(&acks)),
            Kind::NACK => match frame.decode() {
                Ok(nack) => match take_nack(self.lane, &nack) {
                    Some(rejected) => return Err(rejected),
                    None => Ok(()),
                },
                Err(error) => Err(error),
            },
            kind => {
                let message = format!("{kind:?} does not belong on a PRODUCE stream");
                Err(Error::new(ErrorCode::PROTOCOL_VIOLATION, message))
            }
        };
        taken.map_err(|error| {
            // Nothing is known to have failed: another stream settles it.
            tracing::warn!(%error, "broken PRODUCE stream");
            Error::new(ErrorCode::INTERNAL, error.to_string()).into()
        })
    }

    fn take_acks(&mut self, acks: &Acks) -> Result<()> {
        let lane = self.lane;
        lane.window.lock().grant(acks.credit);
        if acks.acks.is_empty() {
            lane.wake.notify_one();
        }
        if let Some(ack) = acks.acks.last()
            && ack.term > self.proved
            && !ack.duplicate
        {
            self.proved = ack.term;
            let topology = &lane.common.core.topology;
            topology.prove(lane.spot(), self.broker, ack.term);
        }
        acks.acks.iter().try_for_each(|ack| lane.acked(ack))
    }
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
