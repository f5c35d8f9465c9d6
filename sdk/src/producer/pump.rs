//! One PRODUCE stream of a lane: batches go out, answers come in, and a leader that falls silent is
//! noticed.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Acks;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::Nack;
use quorate_protocol::PublishHeader;
use quorate_protocol::Term;

use crate::connection::FrameReceiver;
use crate::connection::FrameSender;
use crate::connection::Rejected;
use crate::connection::Stream;
use crate::connection::milliseconds;
use crate::core::PATIENCE;
use crate::error::Error;
use crate::error::Result;
use crate::level::AckLevel;
use crate::producer::lane::Lane;
use crate::producer::lane::Step;
use crate::producer::window::Verdict;
use crate::retry::RETRY_MIN;

/// How long a leader that was replaced may still answer.
const FAREWELL: Duration = Duration::from_millis(20);

/// Sends and takes answers until the lane is done, the stream ends or another broker leads.
pub(super) async fn pump(lane: &Lane, stream: Stream) -> Result<(), Rejected> {
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

/// Notices that a leader does not answer.
#[derive(Debug, Default)]
pub(super) struct Stall {
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
pub(super) async fn while_expiring<T>(
    lane: &Lane,
    stall: &mut Stall,
    work: impl Future<Output = T>,
) -> T {
    let clock = lane.common.core.clock;
    let mut work = pin!(work);
    // Nearly all writes are done at once.
    if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        return done;
    }
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
