//! Collecting messages into batches: one that grows, the full ones behind it.
//!
//! Pure: time is an argument. With nothing in flight a batch leaves at once; else it grows until
//! it is full or the batches before it are answered. With a linger it waits that long instead.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BatchBuilder;
use quorate_protocol::BatchError;
use quorate_protocol::MessageId;
use quorate_protocol::RECORDS_PER_BATCH_MAX;
use quorate_protocol::RECORDS_WITH_IDS_MAX;
use quorate_protocol::RecordDraft;

use crate::error::Error;
use crate::message::MessageRef;
use crate::producer::budget::Room;
use crate::producer::delivery::BatchState;
use crate::producer::delivery::Place;

/// A batch takes no more messages after this age, so that they share one deadline.
const OPEN_US_MAX: u64 = 100_000;
/// Room is taken in pieces of at most this much.
const ROOM_PIECE_MAX: usize = 64 << 10;
/// A batch's first memory when nothing is known of its size.
const CAPACITY_MIN: usize = 1 << 10;

/// When a batch is full, and how long it may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes_max: usize,
    pub(super) linger: Duration,
}

/// A batch that has not been sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) builder: BatchBuilder,
    pub(super) state: Arc<BatchState>,
    /// Room taken for its messages, now and then more than they need.
    pub(super) room: usize,
    /// Room they need.
    used: usize,
    pub(super) deadline: Duration,
    /// Counts the partition's batches.
    pub(super) number: u64,
    opened: Duration,
    opened_us: u64,
    timeout: Duration,
    /// The message ids in it; a batch must not name one twice.
    ids: HashSet<MessageId>,
    has_ids: bool,
    /// What the application calls its messages; up to the last that has a tag.
    tags: Vec<Option<NonZeroU64>>,
    /// How many messages it will probably hold.
    expected: usize,
}

/// What a message needs besides its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Room it needs.
    pub(super) cost: usize,
    /// The room was taken by the caller.
    pub(super) prepaid: bool,
    /// The wall clock, some milliseconds late at most.
    pub(super) wall_us: u64,
    pub(super) timeout: Duration,
    /// What the application calls it.
    pub(super) tag: Option<NonZeroU64>,
}

/// The exact time, asked for once per batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic: Duration,
    pub(super) wall_us: u64,
}

/// Where a message went.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) state: Arc<BatchState>,
    pub(super) index: u32,
    /// The sender has something new to look at.
    pub(super) wake: bool,
    /// A batch became full.
    pub(super) filled: bool,
}

/// Why a message was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The queue takes no more.
    Closed(Error),
    /// This message can never be sent.
    Invalid(Error),
    /// This message fits no batch.
    Batch(BatchError),
    /// There is no room now.
    Full,
}

/// What the sender may take now.
#[derive(Debug)]
pub(super) enum Next {
    /// This batch.
    Batch(Box<Pending>),
    /// Nothing before this time, unless woken.
    At(Duration),
    /// Nothing, unless woken.
    Nothing,
}

/// The unsent batches of one partition.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    place: Arc<Place>,
    room: Room,
    open: Option<Box<Pending>>,
    full: VecDeque<Box<Pending>>,
    closed: Option<Error>,
    next_number: u64,
    /// Batches below this number do not linger.
    hurry_below: u64,
    capacity: usize,
    /// Messages of the batch before.
    expected: usize,
    /// Messages taken so far.
    accepted: u64,
}

impl Queue {
    pub(super) fn new(limits: Limits, place: Arc<Place>, room: Room) -> Self {
        Self {
            limits,
            place,
            room,
            open: None,
            full: VecDeque::new(),
            closed: None,
            next_number: 0,
            hurry_below: 0,
            capacity: CAPACITY_MIN,
            expected: 0,
            accepted: 0,
        }
    }

    /// Appends a message. `now` is asked only when a batch is opened.
    #[inline]
    pub(super) fn push(
        &mut self,
        message: &MessageRef<'_>,
        terms: Terms,
        now: impl FnOnce() -> Now,
    ) -> Result<Pushed, Refused> {
        if let Some(closed) = &self.closed {
            return Err(Refused::Closed(closed.clone()));
        }
        let mut filled = false;
        if let Some(open) = &self.open
            && !self.takes(open, message, terms)
        {
            filled = true;
            self.seal();
        }
        let opened = self.open.is_none();
        if opened {
            self.open = Some(self.fresh(message, terms, now()));
        }
        let Some(open) = self.open.as_mut() else {
            return Err(Refused::Closed(Error::closed("producer")));
        };
        let index = open.builder.record_count();
        let added = match open.take_room(terms, &self.room) {
            true => open.append(message, terms).map_err(Refused::Batch),
            false => Err(Refused::Full),
        };
        if let Err(refused) = added {
            if terms.prepaid {
                // It goes back to whoever paid.
                open.room -= terms.cost;
            }
            if index == 0 {
                self.discard_open();
            }
            return Err(refused);
        }
        self.accepted += 1;
        let state = Arc::clone(&open.state);
        if open.builder.len() >= self.limits.bytes_max {
            filled = true;
            self.seal();
        }
        Ok(Pushed {
            state,
            index,
            wake: opened || filled,
            filled,
        })
    }

    fn takes(&self, open: &Pending, message: &MessageRef<'_>, terms: Terms) -> bool {
        let records_max = if open.has_ids {
            RECORDS_WITH_IDS_MAX
        } else {
            RECORDS_PER_BATCH_MAX
        };
        open.builder.len() + terms.cost <= self.limits.bytes_max
            && open.builder.record_count() < records_max
            && open.has_ids == message.id.is_some()
            && message.id.is_none_or(|id| !open.ids.contains(&id))
            && open.timeout == terms.timeout
            && terms.wall_us.abs_diff(open.opened_us) <= self.open_us_max()
    }

    fn open_us_max(&self) -> u64 {
        let linger = u64::try_from(self.limits.linger.as_micros()).unwrap_or(u64::MAX);
        OPEN_US_MAX.max(linger)
    }

    fn fresh(&mut self, message: &MessageRef<'_>, terms: Terms, now: Now) -> Box<Pending> {
        let number = self.next_number;
        self.next_number += 1;
        Box::new(Pending {
            builder: BatchBuilder::new(self.capacity.max(terms.cost)),
            state: BatchState::new(&self.place),
            room: 0,
            used: 0,
            deadline: now.monotonic.saturating_add(terms.timeout),
            number,
            opened: now.monotonic,
            opened_us: now.wall_us,
            timeout: terms.timeout,
            ids: HashSet::new(),
            has_ids: message.id.is_some(),
            tags: Vec::new(),
            expected: self.expected,
        })
    }

    /// Forgets a batch that got no message.
    #[cold]
    fn discard_open(&mut self) {
        if let Some(open) = self.open.take() {
            self.room.give(open.room);
        }
    }

    fn seal(&mut self) {
        if let Some(mut open) = self.open.take() {
            self.note_size(open.builder.len());
            let messages = open.builder.record_count();
            self.expected = usize::try_from(messages).unwrap_or_default();
            open.state.seal(messages, std::mem::take(&mut open.tags));
            self.full.push_back(open);
        }
    }

    /// The next batch will probably be as large as this one.
    fn note_size(&mut self, len: usize) {
        let target = len.saturating_add(len / 8).max(CAPACITY_MIN);
        self.capacity = target
            .max(self.capacity - self.capacity / 4)
            .min(self.limits.bytes_max.saturating_add(CAPACITY_MIN));
    }

    /// The next batch to send; `idle`: nobody waits for anything in flight.
    pub(super) fn next(&mut self, now: Duration, idle: bool) -> Next {
        if let Some(full) = self.full.pop_front() {
            return Next::Batch(full);
        }
        let Some(open) = &self.open else {
            return Next::Nothing;
        };
        let hurry = open.number < self.hurry_below || self.closed.is_some();
        let lingers_until = open.opened.saturating_add(self.limits.linger);
        let due = match self.limits.linger {
            Duration::ZERO => idle,
            _ => now >= lingers_until,
        };
        if !due && !hurry {
            return match self.limits.linger {
                Duration::ZERO => Next::Nothing,
                _ => Next::At(lingers_until),
            };
        }
        self.seal();
        self.full.pop_front().map_or(Next::Nothing, Next::Batch)
    }

    /// What is there now is not to linger. The number all of it is below.
    pub(super) fn hurry(&mut self) -> u64 {
        self.hurry_below = self.next_number;
        self.next_number
    }

    /// Takes no more messages; what is there goes on.
    pub(super) fn close(&mut self, error: Error) {
        self.closed.get_or_insert(error);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.full.is_empty()
    }

    /// Messages taken so far.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The number of the next batch to be opened.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The number of the oldest batch.
    pub(super) fn oldest_number(&self) -> Option<u64> {
        let oldest = self.full.front().or(self.open.as_ref());
        oldest.map(|pending| pending.number)
    }

    /// When the first batch expires.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let all = self.full.iter().chain(&self.open);
        all.map(|pending| pending.deadline).min()
    }

    /// Takes out what has expired.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Pending> {
        let mut expired = Vec::new();
        if self.open.as_ref().is_some_and(|open| open.deadline <= now) {
            self.seal();
        }
        for pending in std::mem::take(&mut self.full) {
            if pending.deadline <= now {
                expired.push(*pending);
            } else {
                self.full.push_back(pending);
            }
        }
        expired
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Vec<Pending> {
        self.seal();
        self.full.drain(..).map(|pending| *pending).collect()
    }
}

impl Pending {
    /// Makes sure of room for one more message. Taken in growing pieces, since each costs as much
    /// as the rest of the work; never more than as much again as the batch needs.
    #[inline]
    fn take_room(&mut self, terms: Terms, room: &Room) -> bool {
        if terms.prepaid {
            self.room += terms.cost;
            return true;
        }
        let needed = (self.used + terms.cost).saturating_sub(self.room);
        if needed == 0 {
            return true;
        }
        let piece = self.used.clamp(needed, ROOM_PIECE_MAX.max(needed));
        let taken = match (room.try_take(piece), piece > needed) {
            (true, _) => piece,
            (false, true) if room.try_take(needed) => needed,
            (false, _) => return false,
        };
        self.room += taken;
        true
    }

    #[inline]
    fn append(&mut self, message: &MessageRef<'_>, terms: Terms) -> Result<(), BatchError> {
        self.builder.push(&RecordDraft {
            key: message.key,
            value: message.value,
            headers: message.headers,
            timestamp_us: match message.timestamp_us {
                Some(micros) => micros,
                None => terms.wall_us.max(self.opened_us),
            },
            id: message.id,
        })?;
        self.used += terms.cost;
        if let Some(id) = message.id {
            self.ids.insert(id);
        }
        if terms.tag.is_some() {
            self.tag(terms.tag);
        }
        Ok(())
    }

    /// Notes the tag of the message appended last; those before it may have none.
    #[inline]
    fn tag(&mut self, tag: Option<NonZeroU64>) {
        let count = usize::try_from(self.builder.record_count()).unwrap_or_default();
        if self.tags.is_empty() {
            self.tags.reserve(self.expected.max(count));
        }
        self.tags.resize(count.saturating_sub(1), None);
        self.tags.push(tag);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_protocol::PartitionId;

    use super::*;
    use crate::message::Message;
    use crate::producer::budget::Budget;
    use crate::producer::delivery::Settled;
    use crate::producer::report::BatchReport;
    use crate::producer::report::ReportSink;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue(bytes_max: usize, linger: Duration) -> Queue {
        queue_within(&Budget::new(1 << 30), bytes_max, linger)
    }

    fn queue_within(budget: &Arc<Budget>, bytes_max: usize, linger: Duration) -> Queue {
        let place = Place::new(Arc::from("t"), PartitionId::new(0), None);
        let room = Room::new(1 << 30, budget);
        Queue::new(Limits { bytes_max, linger }, place, room)
    }

    fn push_at(queue: &mut Queue, message: &Message, now: Duration) -> Pushed {
        push(queue, message, terms(cost(message), now), now).unwrap()
    }

    fn push(
        queue: &mut Queue,
        message: &Message,
        terms: Terms,
        now: Duration,
    ) -> Result<Pushed, Refused> {
        message.lend(|message| queue.push(message, terms, || exact(now)))
    }

    fn cost(message: &Message) -> usize {
        message.lend(|message| message.cost())
    }

    fn terms(cost: usize, now: Duration) -> Terms {
        Terms {
            cost,
            prepaid: false,
            wall_us: exact(now).wall_us,
            timeout: 30 * SECOND,
            tag: None,
        }
    }

    fn exact(monotonic: Duration) -> Now {
        Now {
            monotonic,
            wall_us: u64::try_from(monotonic.as_micros()).unwrap(),
        }
    }

    fn records(next: Next) -> Option<u32> {
        match next {
            Next::Batch(pending) => Some(pending.builder.record_count()),
            Next::At(_) | Next::Nothing => None,
        }
    }

    #[test]
    fn with_nothing_in_flight_a_message_leaves_at_once() {
        let mut queue = queue(1 << 20, Duration::ZERO);
        assert!(push_at(&mut queue, &Message::new("a"), SECOND).wake);
        assert_eq!(records(queue.next(SECOND, true)), Some(1));
        assert!(queue.is_empty());
    }

    #[test]
    fn behind_others_a_batch_grows_until_they_are_answered_or_it_is_full() {
        let mut queue = queue(4096, Duration::ZERO);
        let message = Message::new(vec![0; 1000]);
        assert!(push_at(&mut queue, &message, SECOND).wake);
        assert!(!push_at(&mut queue, &message, SECOND).wake);
        assert!(records(queue.next(SECOND, false)).is_none());
        let filled = (0..3).any(|_| push_at(&mut queue, &message, SECOND).filled);
        assert!(filled);
        assert_eq!(records(queue.next(SECOND, false)), Some(3));
        assert!(records(queue.next(SECOND, false)).is_none());
        assert_eq!(records(queue.next(SECOND, true)), Some(1));
    }

    #[test]
    fn a_lingering_batch_waits_for_its_time_or_a_flush() {
        let linger = Duration::from_millis(5);
        let mut queue = queue(4096, linger);
        push_at(&mut queue, &Message::new("a"), SECOND);
        assert!(matches!(queue.next(SECOND, true), Next::At(time) if time == SECOND + linger));
        assert_eq!(records(queue.next(SECOND + linger, false)), Some(1));
        push_at(&mut queue, &Message::new("b"), SECOND);
        queue.hurry();
        assert_eq!(records(queue.next(SECOND, false)), Some(1));
    }

    #[test]
    fn messages_with_and_without_ids_do_not_share_a_batch_nor_do_equal_ids() {
        let mut queue = queue(1 << 20, Duration::ZERO);
        let with = |id| Message::new("a").id(MessageId::new(id));
        for message in [
            Message::new("a"),
            with(1),
            with(2),
            with(1),
            Message::new("b"),
        ] {
            push_at(&mut queue, &message, SECOND);
        }
        let counts: Vec<_> = std::iter::from_fn(|| records(queue.next(SECOND, true))).collect();
        assert_eq!(counts, [1, 2, 1, 1]);
    }

    #[test]
    fn a_batch_expires_whole_and_only_when_its_time_is_over() {
        let mut queue = queue(1 << 20, Duration::ZERO);
        push_at(&mut queue, &Message::new("a"), SECOND);
        push_at(&mut queue, &Message::new("b"), 5 * SECOND);
        assert_eq!(queue.next_deadline(), Some(31 * SECOND));
        assert!(queue.expire(30 * SECOND).is_empty());
        assert_eq!(queue.expire(31 * SECOND).len(), 1);
        assert_eq!(queue.expire(35 * SECOND).len(), 1);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_has_and_takes_no_more() {
        let mut queue = queue(1 << 20, SECOND);
        let message = Message::new("a");
        push_at(&mut queue, &message, SECOND);
        queue.close(Error::closed("producer"));
        let refused = push(&mut queue, &message, terms(1, SECOND), SECOND);
        assert!(matches!(refused, Err(Refused::Closed(_))));
        assert_eq!(records(queue.next(SECOND, false)), Some(1));
    }

    #[test]
    fn a_message_that_fits_no_batch_leaves_no_trace() {
        let budget = Budget::new(1 << 30);
        let mut queue = queue_within(&budget, 1 << 20, Duration::ZERO);
        let message = Message::new(vec![0; 9 << 20]);
        let refused = push(&mut queue, &message, terms(9 << 20, SECOND), SECOND);
        assert!(matches!(refused, Err(Refused::Batch(_))));
        assert!(queue.is_empty());
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn room_is_taken_ahead_but_never_more_than_as_much_again() {
        let budget = Budget::new(1 << 30);
        let mut queue = queue_within(&budget, 1 << 20, Duration::ZERO);
        let message = Message::new(vec![0; 100]);
        for count in 1..=2000 {
            push_at(&mut queue, &message, SECOND);
            let needed = count * cost(&message);
            let taken = budget.taken();
            assert!(
                (needed..=2 * needed).contains(&taken),
                "{taken} for {needed}"
            );
        }
        let Next::Batch(pending) = queue.next(SECOND, true) else {
            panic!("a batch is there");
        };
        assert_eq!(pending.room, budget.taken());
    }

    #[test]
    fn without_room_nothing_is_taken_and_prepaid_messages_still_fit() {
        let budget = Budget::new(500);
        let mut queue = queue_within(&budget, 1 << 20, Duration::ZERO);
        let message = Message::new(vec![0; 100]);
        while push(&mut queue, &message, terms(164, SECOND), SECOND).is_ok() {}
        assert_eq!(budget.taken(), 3 * 164);
        let prepaid = Terms {
            prepaid: true,
            ..terms(164, SECOND)
        };
        let pushed = push(&mut queue, &message, prepaid, SECOND).unwrap();
        assert_eq!(pushed.index, 3);
    }

    #[derive(Debug, Default)]
    struct Heard(parking_lot::Mutex<Vec<(usize, Vec<Option<u64>>)>>);

    impl ReportSink for Heard {
        fn batch_ended(&self, report: BatchReport) {
            let tags = (0..report.len()).map(|index| report.tag(index).map(NonZeroU64::get));
            let failed = (0..report.len()).filter(|index| report.receipt(*index).is_err());
            self.0.lock().push((failed.count(), tags.collect()));
        }
    }

    #[test]
    fn tags_are_reported_once_per_batch_and_only_where_there_are_any() {
        let heard = Arc::new(Heard::default());
        let sink: Arc<dyn ReportSink> = Arc::<Heard>::clone(&heard);
        let place = Place::new(Arc::from("t"), PartitionId::new(0), Some(sink));
        let limits = Limits {
            bytes_max: 4096,
            linger: Duration::ZERO,
        };
        let room = Room::new(1 << 30, &Budget::new(1 << 30));
        let mut queue = Queue::new(limits, Arc::clone(&place), room);
        let message = Message::new("a");
        let tagged = |tag| Terms {
            tag: NonZeroU64::new(tag),
            ..terms(cost(&message), SECOND)
        };
        for tags in [&[0, 7, 0, 8, 0][..], &[0, 0]] {
            for tag in tags {
                push(&mut queue, &message, tagged(*tag), SECOND).unwrap();
            }
            let Next::Batch(pending) = queue.next(SECOND, true) else {
                panic!("a batch is there");
            };
            let failed = || Settled::Failed(Error::closed("producer"));
            pending.state.settle(failed());
            pending.state.settle(failed());
        }
        let tags = vec![None, Some(7), None, Some(8)];
        assert_eq!(*heard.0.lock(), [(4, tags)]);
        assert_eq!((queue.accepted(), place.answered()), (7, 7));
    }

    proptest! {
        #[test]
        fn every_message_comes_out_once_in_order_and_no_batch_is_too_large(
            sizes in proptest::collection::vec((0usize..3000, any::<bool>(), any::<bool>()), 1..200)
        ) {
            let mut queue = queue(4096, Duration::ZERO);
            let mut sent = Vec::new();
            let mut given = Vec::new();
            let mut id = 0;
            for (size, has_id, take) in sizes {
                let mut message = Message::new(vec![0; size]);
                if has_id {
                    id += 1;
                    message = message.id(MessageId::new(id));
                }
                let pushed = push_at(&mut queue, &message, SECOND);
                sent.push(pushed.index);
                if take {
                    drain(&mut queue, false, &mut given);
                }
            }
            drain(&mut queue, true, &mut given);
            prop_assert_eq!(sent.len(), given.len());
            prop_assert!(queue.is_empty());

            prop_assert_eq!(sent, given);
        }
    }

    /// Notes each record's index in its batch, in order.
    fn drain(queue: &mut Queue, idle: bool, given: &mut Vec<u32>) {
        while let Next::Batch(pending) = queue.next(SECOND, idle) {
            let one_alone = pending.builder.record_count() == 1;
            assert!(pending.builder.len() <= 4096 || one_alone);
            given.extend(0..pending.builder.record_count());
        }
    }
}
