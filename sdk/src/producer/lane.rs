//! One partition of a producer: the queue its handles fill, the window its sender empties.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_protocol::Ack;
use quorate_protocol::Codec;
use quorate_protocol::ErrorCode;
use quorate_protocol::Outcome;
use quorate_protocol::ProducerGranted;
use quorate_protocol::Rewind;
use quorate_protocol::Text;
use quorate_protocol::TopicId;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::level::AckLevel;
use crate::message::MessageRef;
use crate::producer::batcher::Limits;
use crate::producer::batcher::Next;
use crate::producer::batcher::Now;
use crate::producer::batcher::Pending;
use crate::producer::batcher::Pushed;
use crate::producer::batcher::Queue;
use crate::producer::batcher::Refused;
use crate::producer::batcher::Terms;
use crate::producer::budget::Room;
use crate::producer::delivery::BatchState;
use crate::producer::delivery::Place;
use crate::producer::delivery::Settled;
use crate::producer::rebuild::finish;
use crate::producer::window::Sent;
use crate::producer::window::Window;
use crate::topology::Spot;

/// What all lanes of a producer have in common.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) core: Arc<Core>,
    pub(super) room: Room,
    /// The producer's name, if it has one.
    pub(super) name: Option<Text<128>>,
    pub(super) topic_id: TopicId,
    pub(super) level: AckLevel,
    /// What a committed record of the topic promises.
    pub(super) committed: AckLevel,
    pub(super) codec: Codec,
    pub(super) limits: Limits,
    /// Ends every lane of the producer, at the latest with the client.
    pub(super) cancel: CancellationToken,
}

/// One partition of a producer.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) common: Common,
    pub(super) place: Arc<Place>,
    queue: Mutex<Queue>,
    pub(super) window: Mutex<Window>,
    /// The sender has something to look at.
    pub(super) wake: Notify,
    /// Batches below this number are answered.
    answered_below: watch::Sender<u64>,
    /// The first failure since the last flush.
    failed: Mutex<Option<Error>>,
    pub(super) tally: Tally,
}

/// Messages accepted and answered, counted per batch.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) acked: u64,
    pub(super) failed: u64,
}

impl Tally {
    pub(super) fn read(&self) -> Counts {
        *self.counts.lock()
    }
}

/// What the sender does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this batch.
    Publish(Bytes),
    /// Tell the broker where publishing resumes.
    Rewind(Rewind),
    /// Wait to be woken, or until this time.
    Wait(Option<Duration>),
    /// Everything is answered and nothing more will come.
    Done,
}

impl Lane {
    pub(super) fn new(common: Common, place: Arc<Place>, producer: ProducerGranted) -> Self {
        let topic_hash = common.topic_id.hash32();
        Self {
            queue: Mutex::new(Queue::new(
                common.limits,
                Arc::clone(&place),
                common.room.clone(),
            )),
            window: Mutex::new(Window::new(producer, topic_hash, common.committed)),
            common,
            place,
            wake: Notify::new(),
            answered_below: watch::Sender::new(0),
            failed: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// Accepts a message.
    #[inline]
    pub(super) fn push(&self, message: &MessageRef<'_>, terms: Terms) -> Result<Pushed, Refused> {
        let clock = &self.common.core.clock;
        let now = || Now {
            monotonic: clock.monotonic(),
            wall_us: clock.wall_micros(),
        };
        let pushed = self.queue.lock().push(message, terms, now);
        if pushed.as_ref().map_or(true, |pushed| pushed.wake) {
            self.wake.notify_one();
        }
        pushed
    }

    /// What the sender does next on a stream that is open.
    pub(super) fn next_step(&self, now: Duration) -> Step {
        let mut window = self.window.lock();
        if now < window.paused_until() {
            return Step::Wait(Some(window.paused_until()));
        }
        if let Some(sequence) = window.take_rewind() {
            return Step::Rewind(Rewind { sequence });
        }
        if let Some(again) = window.resend() {
            self.common.core.counters.batches_resent.add(1);
            return Step::Publish(again);
        }
        let next = match window.has_room() {
            true => self.queue.lock().next(now, window.is_idle()),
            false => Next::Nothing,
        };
        match next {
            Next::Batch(pending) => Step::Publish(self.number(&mut window, *pending)),
            Next::At(time) => Step::Wait(Some(time)),
            Next::Nothing if window.is_empty() && self.is_finished() => Step::Done,
            Next::Nothing => Step::Wait(None),
        }
    }

    /// The partition as the topology knows it.
    pub(super) fn spot(&self) -> Spot<'_> {
        Spot {
            name: &self.place.topic,
            topic: self.common.topic_id,
            partition: self.place.partition,
        }
    }

    /// Answers so far.
    pub(super) fn answers(&self) -> u64 {
        self.window.lock().answers()
    }

    /// Answers so far, if any are awaited.
    pub(super) fn awaited(&self) -> Option<u64> {
        let window = self.window.lock();
        (!window.is_empty()).then(|| window.answers())
    }

    /// Gives a batch its sequence; from here on its bytes stay as they are.
    fn number(&self, window: &mut Window, pending: Pending) -> Bytes {
        let identity = window.next_identity();
        let count = pending.builder.record_count();
        let bytes = finish(pending.builder, identity, self.common.codec);
        let counters = &self.common.core.counters;
        counters.messages_sent.add(u64::from(count));
        counters.batches_sent.add(1);
        counters
            .bytes_sent
            .add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        window.push(Sent {
            base: identity.base_sequence,
            count,
            bytes: bytes.clone(),
            state: pending.state,
            cost: pending.room,
            deadline: pending.deadline,
            number: pending.number,
            maybe_applied: true,
            doubtful: false,
            told: false,
            damaged: false,
            refused: None,
        });
        bytes
    }

    fn is_finished(&self) -> bool {
        let queue = self.queue.lock();
        queue.is_closed() && queue.is_empty()
    }

    /// Whether there is anything to send.
    pub(super) fn has_work(&self) -> bool {
        !self.window.lock().is_empty() || !self.queue.lock().is_empty()
    }

    /// Messages accepted whose end is not known.
    pub(super) fn in_flight(&self) -> u64 {
        let accepted = self.queue.lock().accepted();
        accepted.saturating_sub(self.place.answered())
    }

    /// Whether the producer is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().is_closed()
    }

    /// Takes in an ack.
    pub(super) fn acked(&self, ack: &Ack) -> Result<()> {
        let answered = self.window.lock().ack(ack)?;
        for (sent, base_offset) in answered {
            self.common.room.give(sent.cost);
            let counters = &self.common.core.counters;
            if !sent.told {
                counters.messages_acked.add(u64::from(sent.count));
                self.tally.counts.lock().acked += u64::from(sent.count);
            }
            if ack.duplicate {
                counters.duplicates.add(u64::from(sent.count));
            }
            sent.state.settle(Settled::Acked {
                base_offset,
                term: ack.term,
                append_time: ack.append_time,
                level: AckLevel::granted(ack.level),
                duplicate: ack.duplicate,
            });
        }
        self.note_answered();
        self.wake.notify_one();
        Ok(())
    }

    /// Level `none`: what was handed to the transport is answered.
    pub(super) fn sent_without_ack(&self) {
        let sent = self.window.lock().expire(Duration::MAX);
        for (state, count) in sent {
            state.settle(Settled::Sent);
            self.tally.counts.lock().acked += u64::from(count);
        }
        self.note_answered();
    }

    /// Ends the wait of batches that took too long.
    pub(super) fn expire(&self, now: Duration) {
        let late = |sent: &str| {
            Error::new(
                ErrorCode::TIMEOUT,
                format!("{}: {sent} in time", self.place),
            )
        };
        let refused = self.window.lock().take_refused(now);
        for (sent, with) in refused {
            self.answered(&sent, with);
        }
        let in_flight = self.window.lock().expire(now);
        for (state, count) in in_flight {
            let error = late("no answer came").with_outcome(Outcome::Unknown);
            self.fail(&state, count, &error);
        }
        let unsent = self.queue.lock().expire(now);
        for pending in unsent {
            let error = match self.window.lock().refusal() {
                Some(refusal) => refusal.at(&self.place),
                None => late("the message could not be sent"),
            };
            let error = error.with_outcome(Outcome::NotApplied);
            self.common.room.give(pending.room);
            self.fail(&pending.state, pending.builder.record_count(), &error);
        }
        self.note_answered();
    }

    /// When something expires next.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let in_flight = self.window.lock().next_deadline();
        let unsent = self.queue.lock().next_deadline();
        in_flight.into_iter().chain(unsent).min()
    }

    /// One batch that was in flight leaves the window without an ack.
    pub(super) fn answered(&self, sent: &Sent, with: Settled) {
        self.common.room.give(sent.cost);
        match with {
            _ if sent.told => {}
            Settled::Failed(error) => self.fail(&sent.state, sent.count, &error.at(&self.place)),
            settled => {
                let counters = &self.common.core.counters;
                counters.messages_acked.add(u64::from(sent.count));
                counters.duplicates.add(u64::from(sent.count));
                self.tally.counts.lock().acked += u64::from(sent.count);
                sent.state.settle(settled);
            }
        }
        self.note_answered();
    }

    /// Everything fails; what may be in the log is `Unknown`.
    pub(super) fn fail_all(&self, error: &Error) {
        self.fail_in_flight(error);
        let unsent = self.queue.lock().drain();
        for pending in unsent {
            let error = error.clone().with_outcome(Outcome::NotApplied);
            self.common.room.give(pending.room);
            self.fail(&pending.state, pending.builder.record_count(), &error);
        }
        self.note_answered();
    }

    /// Gives up what was sent and not answered; what may be in the log is `Unknown`.
    pub(super) fn fail_in_flight(&self, error: &Error) {
        let in_flight = self.window.lock().drain();
        for sent in in_flight {
            let outcome = match sent.maybe_applied {
                true => Outcome::Unknown,
                false => Outcome::NotApplied,
            };
            self.common.room.give(sent.cost);
            if !sent.told {
                self.fail(
                    &sent.state,
                    sent.count,
                    &error.clone().with_outcome(outcome),
                );
            }
        }
        self.note_answered();
    }

    fn fail(&self, state: &Arc<BatchState>, count: u32, error: &Error) {
        state.settle(Settled::Failed(error.clone()));
        let messages = u64::from(count);
        self.tally.counts.lock().failed += messages;
        self.failed.lock().get_or_insert_with(|| error.clone());
        let core = &self.common.core;
        core.counters.messages_failed.add(messages);
        core.events.publish(Event::DeliveryFailed {
            topic: Arc::clone(&self.place.topic),
            partition: self.place.partition,
            messages,
            error: error.clone(),
        });
    }

    /// Takes no more messages; what was accepted goes on.
    pub(super) fn close(&self, error: Error) {
        self.queue.lock().close(error);
        self.wake.notify_one();
    }

    /// Sends what is there without lingering; done when it is answered. The first failure since
    /// the last flush is returned. Cancel-safe.
    pub(super) async fn flush(&self) -> Result<()> {
        let number = self.queue.lock().hurry();
        self.wake.notify_one();
        let mut answered = self.answered_below.subscribe();
        // The sender of this watch is `self`.
        let _open = answered
            .wait_for(|answered| *answered >= number)
            .await
            .is_ok();
        match self.failed.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn note_answered(&self) {
        let window = self.window.lock();
        let queue = self.queue.lock();
        let oldest = window.oldest_number().or_else(|| queue.oldest_number());
        let below = oldest.unwrap_or_else(|| queue.next_number());
        drop((window, queue));
        self.answered_below.send_if_modified(|answered| {
            let moved = *answered != below;
            *answered = below;
            moved
        });
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::PartitionId;
    use quorate_protocol::ProducerEpoch;
    use quorate_protocol::ProducerId;

    use super::*;
    use crate::config::Options;
    use crate::message::Message;
    use crate::producer::delivery::Delivery;

    fn lane(level: AckLevel) -> Lane {
        let core = Core::new(Options::default());
        let common = Common {
            room: Room::new(1 << 20, &core.budget),
            cancel: core.cancel.child_token(),
            core,
            name: None,
            topic_id: TopicId::new(1),
            level,
            committed: AckLevel::Quorum,
            codec: Codec::NONE,
            limits: Limits {
                bytes_max: 1 << 16,
                linger: Duration::ZERO,
            },
        };
        let place = Place::new(Arc::from("t"), PartitionId::new(0), None);
        let producer = ProducerGranted {
            producer: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
        };
        let lane = Lane::new(common, place, producer);
        lane.window
            .lock()
            .reopen(quorate_protocol::Credit::new(1 << 20));
        lane
    }

    fn push(lane: &Lane) -> Delivery {
        let terms = Terms {
            cost: 100,
            prepaid: false,
            wall_us: 0,
            timeout: Duration::from_secs(30),
            tag: None,
        };
        let pushed = Message::new("v").lend(|message| lane.push(message, terms));
        let pushed = pushed.unwrap();
        Delivery::new(pushed.state, pushed.index)
    }

    #[tokio::test]
    async fn what_was_given_up_half_sent_is_answered_and_the_rest_goes_on() {
        let lane = lane(AckLevel::None);
        let half_sent = push(&lane);
        assert!(matches!(lane.next_step(Duration::ZERO), Step::Publish(_)));
        let unsent = push(&lane);
        lane.fail_in_flight(&Error::new(ErrorCode::CONNECT, "lost"));
        let error = half_sent.await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(unsent.try_receipt().is_none() && lane.has_work());
        lane.fail_all(&Error::closed("client"));
        assert!(lane.flush().await.is_err());
        assert_eq!(lane.common.core.budget.taken(), 0);
    }
}
