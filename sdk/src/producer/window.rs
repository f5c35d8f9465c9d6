//! The batches of one partition that were sent and not answered, in order.
//!
//! Pure. Invariant: sequences are contiguous; a batch is sent again with the same bytes, unless
//! the broker said that it and all later ones were not written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Ack;
use quorate_protocol::BatchIdentity;
use quorate_protocol::Credit;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::Nack;
use quorate_protocol::Offset;
use quorate_protocol::PUBLISH_HEADER_LEN;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerGranted;
use quorate_protocol::ProducerId;
use quorate_protocol::Sequence;

use crate::error::Error;
use crate::error::Result;
use crate::level::AckLevel;
use crate::producer::delivery::BatchState;
use crate::producer::delivery::Settled;
use crate::producer::rebuild::rebuild;

/// The leader remembers this many batches, so whatever is sent again is recognised.
pub(super) const IN_FLIGHT_MAX: usize = 16;

/// After so many refusals in a row the wait no longer doubles.
const REFUSALS_DOUBLED_MAX: u32 = 6;
/// What a frame costs in credit besides its batch.
const FRAME_OVERHEAD: u64 = PUBLISH_HEADER_LEN as u64;

/// A batch that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) base: Sequence,
    pub(super) count: u32,
    pub(super) bytes: Bytes,
    pub(super) state: Arc<BatchState>,
    pub(super) cost: usize,
    pub(super) deadline: Duration,
    pub(super) number: u64,
    /// It may be in the log.
    pub(super) maybe_applied: bool,
    /// An earlier attempt may have put it there: a later refusal speaks of its own attempt only.
    pub(super) doubtful: bool,
    /// Its deliveries have been answered already; it stays for the sake of the sequence.
    pub(super) told: bool,
    /// It was answered as damaged before.
    pub(super) damaged: bool,
    /// Why it was refused last.
    pub(super) refused: Option<Error>,
}

impl Sent {
    fn next(&self) -> Sequence {
        let next = self.base.checked_add(u64::from(self.count));
        next.unwrap_or(Sequence::new(u64::MAX))
    }
}

/// Batches in flight of one producer on one partition.
#[derive(Debug)]
pub(super) struct Window {
    producer: ProducerGranted,
    topic_hash: u32,
    /// What a committed record of this topic promises.
    committed: AckLevel,
    next: Sequence,
    batches: VecDeque<Sent>,
    /// Batches before this one were sent on the current stream.
    cursor: usize,
    granted: u64,
    used: u64,
    rewind: Option<Sequence>,
    paused_until: Duration,
    /// Refusals since the last ack.
    refusals: u32,
    /// The last refusal on this stream, until something is answered.
    refusal: Option<Error>,
    /// Counts acks.
    answers: u64,
}

/// A batch that leaves the window, and how it ended.
pub(super) type Answered = (Sent, Settled);

/// What a refusal means for the stream.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The stream goes on from the refused sequence after a wait; these batches are answered.
    GoesOn(Vec<Answered>),
    /// The stream ends.
    Ends(Error),
}

impl Window {
    pub(super) fn new(producer: ProducerGranted, topic_hash: u32, committed: AckLevel) -> Self {
        Self {
            producer,
            topic_hash,
            committed,
            next: Sequence::ZERO,
            batches: VecDeque::new(),
            cursor: 0,
            granted: 0,
            used: 0,
            rewind: None,
            paused_until: Duration::ZERO,
            refusals: 0,
            refusal: None,
            answers: 0,
        }
    }

    /// Counts acks.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    pub(super) fn producer(&self) -> ProducerId {
        self.producer.producer
    }

    pub(super) fn epoch(&self) -> ProducerEpoch {
        self.producer.epoch
    }

    /// Whether a sequence was used.
    pub(super) fn is_fresh(&self) -> bool {
        self.next == Sequence::ZERO
    }

    /// The identity of the next batch.
    pub(super) fn next_identity(&self) -> BatchIdentity {
        self.identity(self.next)
    }

    fn identity(&self, base_sequence: Sequence) -> BatchIdentity {
        BatchIdentity {
            producer_id: self.producer.producer,
            epoch: self.producer.epoch,
            base_sequence,
            topic_hash: self.topic_hash,
        }
    }

    /// Starts over as another producer; what was in flight is given up.
    pub(super) fn start_over(&mut self, producer: ProducerGranted) -> Vec<Sent> {
        self.producer = producer;
        self.next = Sequence::ZERO;
        self.batches.drain(..).collect()
    }

    /// Starts over as another producer with everything in flight: none of it is in the log, because
    /// what went before it is not.
    pub(super) fn renew(&mut self, producer: ProducerGranted) -> Result<()> {
        self.producer = producer;
        let mut next = Sequence::ZERO;
        for index in 0..self.batches.len() {
            let identity = self.identity(next);
            let Some(batch) = self.batches.get_mut(index) else {
                break;
            };
            if let Some((bytes, count)) = rebuild(&batch.bytes, identity, &[])? {
                batch.bytes = bytes;
                batch.count = count;
            }
            batch.base = next;
            batch.maybe_applied = false;
            batch.doubtful = false;
            next = batch.next();
        }
        self.next = next;
        Ok(())
    }

    /// A new stream: everything in flight is to be sent again, before anything else.
    pub(super) fn reopen(&mut self, credit: Credit) {
        for batch in &mut self.batches {
            batch.doubtful = batch.maybe_applied;
        }
        self.cursor = 0;
        self.granted = credit.get();
        self.used = 0;
        self.rewind = None;
        self.refusal = None;
        self.paused_until = Duration::ZERO;
    }

    pub(super) fn grant(&mut self, credit: Credit) {
        self.granted = self.granted.max(credit.get());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether nobody waits for anything in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.batches.iter().all(|batch| batch.told)
    }

    pub(super) fn paused_until(&self) -> Duration {
        self.paused_until
    }

    /// The sequence to tell the broker before anything else is sent.
    pub(super) fn take_rewind(&mut self) -> Option<Sequence> {
        self.rewind.take()
    }

    /// Whether a batch may start now.
    fn has_credit(&self) -> bool {
        self.used < self.granted
    }

    /// Whether a new batch may be sent now.
    pub(super) fn has_room(&self) -> bool {
        self.cursor == self.batches.len() && self.batches.len() < IN_FLIGHT_MAX && self.has_credit()
    }

    /// The next batch to send again, and how many messages that are.
    pub(super) fn resend(&mut self) -> Option<Bytes> {
        if !self.has_credit() {
            return None;
        }
        let batch = self.batches.get_mut(self.cursor)?;
        batch.maybe_applied = true;
        let bytes = batch.bytes.clone();
        self.cursor += 1;
        self.spend(&bytes);
        Some(bytes)
    }

    /// Notes a new batch that is being sent.
    pub(super) fn push(&mut self, sent: Sent) {
        self.next = sent.next();
        self.spend(&sent.bytes);
        self.batches.push_back(sent);
        self.cursor = self.batches.len();
    }

    fn spend(&mut self, bytes: &Bytes) {
        let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.used = self
            .used
            .saturating_add(bytes.saturating_add(FRAME_OVERHEAD));
    }

    /// The batches an ack answers, oldest first, each with its first offset.
    pub(super) fn ack(&mut self, ack: &Ack) -> Result<Vec<(Sent, Option<Offset>)>> {
        let end = ack.base_sequence.checked_add(u64::from(ack.count));
        let end = end.unwrap_or(Sequence::new(u64::MAX));
        self.refusals = 0;
        self.refusal = None;
        self.answers += 1;
        let mut answered = Vec::new();
        while let Some(front) = self.batches.front() {
            if front.base < ack.base_sequence || front.next() > end {
                break;
            }
            let distance = front.base.distance_from(ack.base_sequence);
            let offset = ack.base_offset.and_then(|base| base.checked_add(distance));
            if let Some(front) = self.batches.pop_front() {
                self.cursor = self.cursor.saturating_sub(1);
                answered.push((front, offset));
            }
        }
        match self.batches.front() {
            Some(front) if front.base < end => {
                let (first, count) = (ack.base_sequence, ack.count);
                let message = format!("an ack of {count} from {first} on fits no batch in flight");
                Err(Error::new(ErrorCode::PROTOCOL_VIOLATION, message))
            }
            _ => Ok(answered),
        }
    }

    /// Takes in a refusal of everything from a sequence on.
    pub(super) fn nack(&mut self, nack: &Nack, now: Duration, wait: Duration) -> Verdict {
        let error = nack_error(nack);
        for batch in &mut self.batches {
            if batch.base >= nack.unproposed_sequence {
                batch.maybe_applied = batch.doubtful;
                batch.refused = Some(error.clone());
            } else {
                batch.doubtful = true;
            }
        }
        let stays = match nack.code.class() {
            ErrorClass::Reroute | ErrorClass::Auth => false,
            ErrorClass::Fenced => nack.code == ErrorCode::PARTIAL_DUPLICATE,
            _ => true,
        };
        let at = self
            .batches
            .iter()
            .position(|batch| batch.base == nack.from_sequence);
        let Some(at) = at.filter(|_| stays) else {
            let first = nack.unproposed_sequence;
            let refused = self.batches.partition_point(|batch| batch.base < first);
            self.cursor = self.cursor.min(refused);
            return Verdict::Ends(error);
        };
        self.refusal = Some(error.clone());
        let settled = self.amend(at, nack, &error);
        self.cursor = at;
        self.rewind = Some(nack.from_sequence);
        match settled {
            Ok(answered) => {
                if nack.code != ErrorCode::PARTIAL_DUPLICATE && answered.is_empty() {
                    let wait = wait * (1 << self.refusals.min(REFUSALS_DOUBLED_MAX));
                    self.refusals += 1;
                    self.paused_until = now + error.retry_after().unwrap_or(wait);
                }
                Verdict::GoesOn(answered)
            }
            Err(error) => Verdict::Ends(error),
        }
    }

    /// Takes out of the window what is not to be sent again.
    fn amend(&mut self, at: usize, nack: &Nack, error: &Error) -> Result<Vec<Answered>> {
        if nack.code == ErrorCode::PARTIAL_DUPLICATE {
            return self.drop_known(at, nack);
        }
        let Some(batch) = self.batches.get_mut(at) else {
            return Ok(Vec::new());
        };
        let first_damage = nack.code == ErrorCode::CORRUPT_BATCH && !batch.damaged;
        batch.damaged |= first_damage;
        let again =
            first_damage || (nack.code.is_retryable() && nack.code != ErrorCode::CORRUPT_BATCH);
        match again || (batch.maybe_applied && nack.code.is_retryable()) {
            true => Ok(Vec::new()),
            // Its sequence may be used, so nobody else can have it, and it will never be taken.
            false if batch.maybe_applied => Err(error.clone()),
            false => self.remove(at, nack.from_sequence, Settled::Failed(error.clone())),
        }
    }

    /// Takes out one batch; the later ones move up to its sequence.
    fn remove(&mut self, at: usize, next: Sequence, with: Settled) -> Result<Vec<Answered>> {
        let removed = self.batches.remove(at);
        self.renumber(at, next)?;
        Ok(removed.map(|sent| (sent, with)).into_iter().collect())
    }

    /// The log has some records of this batch; only the others are sent again.
    fn drop_known(&mut self, at: usize, nack: &Nack) -> Result<Vec<Answered>> {
        let identity = self.identity(nack.from_sequence);
        let committed = self.committed;
        let Some(batch) = self.batches.get_mut(at) else {
            return Ok(Vec::new());
        };
        let mut known = nack.duplicates.to_vec();
        known.sort_unstable();
        known.retain(|(index, _)| *index < batch.count);
        let indexes: Vec<u32> = known.iter().map(|(index, _)| *index).collect();
        let rebuilt = rebuild(&batch.bytes, identity, &indexes)?;
        batch.state.take_out(&known, committed);
        let Some((bytes, count)) = rebuilt else {
            return self.remove(at, nack.from_sequence, Settled::Known);
        };
        batch.bytes = bytes;
        batch.count = count;
        let next = batch.next();
        self.renumber(at + 1, next)?;
        Ok(Vec::new())
    }

    /// Gives the batches from `at` on the sequences from `next` on.
    fn renumber(&mut self, at: usize, mut next: Sequence) -> Result<()> {
        for index in at..self.batches.len() {
            let identity = self.identity(next);
            let Some(batch) = self.batches.get_mut(index) else {
                break;
            };
            if batch.base != next {
                if let Some((bytes, count)) = rebuild(&batch.bytes, identity, &[])? {
                    batch.bytes = bytes;
                    batch.count = count;
                }
                batch.base = next;
            }
            next = batch.next();
        }
        self.next = next;
        Ok(())
    }

    /// When batches expire; those already answered do not.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let open = self.batches.iter().filter(|batch| !batch.told);
        open.map(|batch| batch.deadline).min()
    }

    /// Marks what has expired as answered. It stays: leaving it out would tear the sequence.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<(Arc<BatchState>, u32)> {
        let expired = self
            .batches
            .iter_mut()
            .filter(|batch| !batch.told && batch.deadline <= now);
        expired
            .map(|batch| {
                batch.told = true;
                (Arc::clone(&batch.state), batch.count)
            })
            .collect()
    }

    /// Why what is sent now would probably be refused.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.refusal.clone()
    }

    /// Takes out what has expired and was refused ever since, so that it is surely not in the log.
    pub(super) fn take_refused(&mut self, now: Duration) -> Vec<Answered> {
        let mut taken = Vec::new();
        let sent_or_doubtful = self.batches.iter().rposition(|batch| batch.maybe_applied);
        let mut at = sent_or_doubtful.map_or(0, |last| last + 1).max(self.cursor);
        while let Some(batch) = self.batches.get(at) {
            let (base, expired) = (batch.base, !batch.told && batch.deadline <= now);
            match batch.refused.clone().filter(|_| expired) {
                Some(error) => match self.remove(at, base, Settled::Failed(error)) {
                    Ok(removed) => taken.extend(removed),
                    // What this window built can be built again; else the stream finds out.
                    Err(_) => break,
                },
                None => at += 1,
            }
        }
        taken
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Vec<Sent> {
        self.cursor = 0;
        self.batches.drain(..).collect()
    }

    /// The number of the oldest batch whose deliveries wait.
    pub(super) fn oldest_number(&self) -> Option<u64> {
        let waiting = self.batches.iter().find(|batch| !batch.told);
        waiting.map(|batch| batch.number)
    }
}

/// What a refusal says, as an error.
fn nack_error(nack: &Nack) -> Error {
    let detail = nack.detail.as_str();
    let detail = if detail.is_empty() {
        nack.code.name()
    } else {
        detail
    };
    Error::new(nack.code, detail).with_retry_after_ms(nack.retry_after_ms)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::AckLevel as WireLevel;
    use quorate_protocol::BatchBuilder;
    use quorate_protocol::Bounded;
    use quorate_protocol::DraftBatch;
    use quorate_protocol::HybridTime;
    use quorate_protocol::MessageId;
    use quorate_protocol::Outcome;
    use quorate_protocol::PartitionId;
    use quorate_protocol::RecordDraft;
    use quorate_protocol::Term;
    use quorate_protocol::Text;

    use super::*;
    use crate::producer::delivery::Place;

    const WAIT: Duration = Duration::from_millis(10);

    fn window() -> Window {
        let producer = ProducerGranted {
            producer: ProducerId::new(7),
            epoch: ProducerEpoch::new(1),
        };
        let mut window = Window::new(producer, 9, AckLevel::Quorum);
        window.reopen(Credit::new(1 << 20));
        window
    }

    fn send(window: &mut Window, count: u32) -> Arc<BatchState> {
        let mut builder = BatchBuilder::new(0);
        for n in 0..count {
            let id = u128::from(window.next.get()) * 1000 + u128::from(n);
            builder
                .push(&RecordDraft {
                    key: None,
                    value: Some(b"v"),
                    headers: &[],
                    timestamp_us: 1,
                    id: Some(MessageId::new(id)),
                })
                .unwrap();
        }
        let place = Place::new(Arc::from("t"), PartitionId::new(0), None);
        let state = BatchState::new(&place);
        let identity = window.next_identity();
        window.push(Sent {
            base: identity.base_sequence,
            count,
            bytes: builder.finish(identity).into_bytes(),
            state: Arc::clone(&state),
            cost: 1,
            deadline: Duration::from_secs(30),
            number: 0,
            maybe_applied: true,
            doubtful: false,
            told: false,
            damaged: false,
            refused: None,
        });
        state
    }

    fn send_all(window: &mut Window, counts: [u32; 3]) -> [Arc<BatchState>; 3] {
        counts.map(|count| send(window, count))
    }

    fn ack(base: u64, count: u32) -> Ack {
        Ack {
            base_sequence: Sequence::new(base),
            count,
            base_offset: Some(Offset::new(100 + base)),
            term: Term::new(1),
            append_time: HybridTime::ZERO,
            level: WireLevel::QUORUM,
            duplicate: false,
        }
    }

    fn nack(from: u64, unproposed: u64, code: ErrorCode) -> Nack {
        Nack {
            from_sequence: Sequence::new(from),
            unproposed_sequence: Sequence::new(unproposed),
            code,
            detail: Text::default(),
            leader: None,
            retry_after_ms: 0,
            duplicates: Bounded::empty(),
        }
    }

    fn bases(window: &Window) -> Vec<u64> {
        window
            .batches
            .iter()
            .map(|batch| batch.base.get())
            .collect()
    }

    /// What a broker would see: the bytes agree with the books.
    fn check_bytes(window: &Window) {
        let mut next = None;
        for batch in &window.batches {
            let bytes = bytes::BytesMut::from(batch.bytes.as_ref());
            let draft = DraftBatch::parse(bytes).unwrap();
            assert_eq!(draft.base_sequence(), batch.base);
            assert_eq!(draft.record_count(), batch.count);
            assert!(next.is_none_or(|next| next == batch.base));
            next = Some(batch.next());
        }
        assert!(next.is_none_or(|next| next == window.next));
    }

    fn resent(window: &mut Window) -> usize {
        std::iter::from_fn(|| window.resend()).count()
    }

    #[test]
    fn a_refusal_does_not_take_back_what_an_earlier_attempt_may_have_done() {
        let mut window = window();
        send_all(&mut window, [1, 1, 1]);
        window.reopen(Credit::new(1 << 20));
        while window.resend().is_some() {}
        send(&mut window, 1);
        window.nack(&nack(0, 0, ErrorCode::DISK_FULL), Duration::ZERO, WAIT);
        let doubts: Vec<_> = window
            .batches
            .iter()
            .map(|batch| batch.maybe_applied)
            .collect();
        assert_eq!(doubts, [true, true, true, false]);
        while window.resend().is_some() {}
        window.nack(
            &nack(0, 4, ErrorCode::AMBIGUOUS_COMMIT),
            Duration::ZERO,
            WAIT,
        );
        while window.resend().is_some() {}
        window.nack(&nack(0, 0, ErrorCode::DISK_FULL), Duration::ZERO, WAIT);
        assert!(window.batches.iter().all(|batch| batch.maybe_applied));
    }

    #[test]
    fn one_ack_may_answer_several_batches_in_order() {
        let mut window = window();
        send_all(&mut window, [3, 2, 4]);
        let answered = window.ack(&ack(0, 5)).unwrap();
        let offsets: Vec<_> = answered
            .iter()
            .map(|(_, offset)| offset.unwrap().get())
            .collect();
        assert_eq!(offsets, [100, 103]);
        assert_eq!(bases(&window), [5]);
    }

    #[test]
    fn an_ack_that_fits_no_batch_is_a_fault() {
        let mut window = window();
        send(&mut window, 3);
        assert!(window.ack(&ack(0, 2)).is_err());
        assert!(window.ack(&ack(1, 2)).is_err());
    }

    #[test]
    fn a_new_stream_gets_everything_in_flight_again_before_anything_new() {
        let mut window = window();
        send_all(&mut window, [3, 2, 4]);
        window.ack(&ack(0, 3)).unwrap();
        let before: Vec<_> = window
            .batches
            .iter()
            .map(|batch| batch.bytes.clone())
            .collect();
        window.reopen(Credit::new(1 << 20));
        assert!(!window.has_room());
        let again: Vec<_> = std::iter::from_fn(|| window.resend()).collect();
        assert_eq!(again, before);
        assert!(window.has_room());
    }

    #[test]
    fn credit_and_the_number_in_flight_bound_what_is_sent() {
        let mut window = window();
        window.reopen(Credit::new(1));
        assert!(window.has_room());
        send(&mut window, 1);
        assert!(!window.has_room());
        window.grant(Credit::new(1 << 20));
        for _ in 1..IN_FLIGHT_MAX {
            assert!(window.has_room());
            send(&mut window, 1);
        }
        assert!(!window.has_room());
        window.ack(&ack(0, 1)).unwrap();
        assert!(window.has_room());
    }

    #[test]
    fn a_transient_refusal_rewinds_and_sends_the_same_again() {
        let mut window = window();
        send_all(&mut window, [3, 2, 4]);
        let verdict = window.nack(&nack(3, 5, ErrorCode::AMBIGUOUS_COMMIT), WAIT, WAIT);
        assert!(matches!(verdict, Verdict::GoesOn(failed) if failed.is_empty()));
        assert_eq!(window.take_rewind(), Some(Sequence::new(3)));
        assert_eq!(window.paused_until(), WAIT * 2);
        assert_eq!(bases(&window), [0, 3, 5]);
        assert_eq!(resent(&mut window), 2);
        check_bytes(&window);
    }

    #[test]
    fn waits_double_until_an_ack_comes() {
        let mut window = window();
        send_all(&mut window, [1, 1, 1]);
        let mut pause = || {
            let refusal = nack(1, 1, ErrorCode::NOT_ENOUGH_REPLICAS);
            let verdict = window.nack(&refusal, Duration::ZERO, WAIT);
            assert!(matches!(verdict, Verdict::GoesOn(_)));
            window.paused_until()
        };
        assert_eq!([pause(), pause(), pause()], [WAIT, 2 * WAIT, 4 * WAIT]);
        window.ack(&ack(0, 1)).unwrap();
        let refusal = nack(1, 1, ErrorCode::NOT_ENOUGH_REPLICAS);
        window.nack(&refusal, Duration::ZERO, WAIT);
        assert_eq!(window.paused_until(), WAIT);
    }

    #[test]
    fn a_refused_batch_fails_alone_and_the_later_ones_move_up() {
        let mut window = window();
        send_all(&mut window, [3, 2, 4]);
        let verdict = window.nack(&nack(3, 3, ErrorCode::BATCH_TOO_LARGE), WAIT, WAIT);
        let Verdict::GoesOn(failed) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(failed.len(), 1);
        assert_eq!(bases(&window), [0, 3]);
        assert_eq!(window.next, Sequence::new(7));
        assert_eq!(window.take_rewind(), Some(Sequence::new(3)));
        assert_eq!(resent(&mut window), 1);
        check_bytes(&window);
    }

    #[test]
    fn known_records_are_dropped_and_the_rest_renumbered() {
        let mut window = window();
        let [_, state, _] = send_all(&mut window, [3, 3, 4]);
        let mut refusal = nack(3, 3, ErrorCode::PARTIAL_DUPLICATE);
        refusal.duplicates = Bounded::clipped([(1, Offset::new(42))]);
        let verdict = window.nack(&refusal, WAIT, WAIT);
        assert!(matches!(verdict, Verdict::GoesOn(failed) if failed.is_empty()));
        assert_eq!(bases(&window), [0, 3, 5]);
        check_bytes(&window);
        state.settle(Settled::Sent);
        let known = crate::producer::delivery::Delivery::new(state, 1);
        assert_eq!(
            known.try_receipt().unwrap().unwrap().offset,
            Some(Offset::new(42))
        );
    }

    #[test]
    fn a_wholly_known_batch_is_answered_and_its_sequence_used_again() {
        let mut window = window();
        let [_, state, _] = send_all(&mut window, [3, 2, 4]);
        let mut refusal = nack(3, 3, ErrorCode::PARTIAL_DUPLICATE);
        refusal.duplicates = Bounded::clipped([(0, Offset::new(9)), (1, Offset::new(4))]);
        let Verdict::GoesOn(answered) = window.nack(&refusal, WAIT, WAIT) else {
            panic!("the stream goes on");
        };
        assert!(matches!(answered.as_slice(), [(_, Settled::Known)]));
        state.settle(Settled::Known);
        let known = crate::producer::delivery::Delivery::new(state, 1);
        let receipt = known.try_receipt().unwrap().unwrap();
        assert_eq!(
            (receipt.offset, receipt.duplicate),
            (Some(Offset::new(4)), true)
        );
        assert_eq!(bases(&window), [0, 3]);
        check_bytes(&window);
    }

    #[test]
    fn damage_is_tried_once_more_and_then_surfaces() {
        let mut window = window();
        send(&mut window, 1);
        let refusal = nack(0, 0, ErrorCode::CORRUPT_BATCH);
        assert!(matches!(window.nack(&refusal, WAIT, WAIT), Verdict::GoesOn(f) if f.is_empty()));
        assert_eq!(resent(&mut window), 1);
        assert!(matches!(window.nack(&refusal, WAIT, WAIT), Verdict::GoesOn(f) if f.len() == 1));
        assert!(window.is_empty());
        assert!(window.is_fresh());
    }

    #[test]
    fn fencing_and_rerouting_end_the_stream_and_keep_the_batches() {
        for code in [ErrorCode::PRODUCER_FENCED, ErrorCode::NOT_LEADER] {
            let mut window = window();
            send(&mut window, 1);
            let verdict = window.nack(&nack(0, 0, code), WAIT, WAIT);
            assert!(matches!(verdict, Verdict::Ends(_)), "{code}");
            assert_eq!(bases(&window), [0]);
        }
    }

    #[test]
    fn what_was_refused_until_it_expired_is_not_applied_and_leaves() {
        let mut window = window();
        send_all(&mut window, [3, 2, 4]);
        window.nack(&nack(3, 3, ErrorCode::DISK_FULL), WAIT, WAIT);
        window.batches[2].deadline = Duration::from_secs(60);
        let late = Duration::from_secs(31);
        let answered = window.take_refused(late);
        let [(sent, Settled::Failed(error))] = answered.as_slice() else {
            panic!("{answered:?}");
        };
        assert_eq!((sent.count, error.code()), (2, ErrorCode::DISK_FULL));
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert_eq!(bases(&window), [0, 3]);
        check_bytes(&window);
        assert_eq!(window.take_rewind(), Some(Sequence::new(3)));
        // Sent again, nobody knows any more.
        assert_eq!(resent(&mut window), 1);
        assert!(window.take_refused(Duration::from_secs(61)).is_empty());
    }

    #[test]
    fn what_a_draining_broker_refused_is_not_applied() {
        let mut window = window();
        send_all(&mut window, [3, 2, 4]);
        let verdict = window.nack(&nack(3, 5, ErrorCode::DRAINING), WAIT, WAIT);
        assert!(matches!(verdict, Verdict::Ends(_)));
        let late = Duration::from_secs(31);
        assert_eq!(window.take_refused(late).len(), 1);
        assert_eq!((bases(&window), window.expire(late).len()), (vec![0, 3], 2));
    }

    #[test]
    fn what_was_refused_after_an_attempt_without_an_answer_stays_unknown() {
        let mut window = window();
        send(&mut window, 1);
        window.reopen(Credit::new(1 << 20));
        resent(&mut window);
        window.nack(&nack(0, 0, ErrorCode::DISK_FULL), WAIT, WAIT);
        let late = Duration::from_secs(31);
        assert!(window.take_refused(late).is_empty());
        assert_eq!(window.expire(late).len(), 1);
    }

    #[test]
    fn after_lost_receipts_everything_in_flight_begins_anew_in_order() {
        let mut window = window();
        send_all(&mut window, [3, 2, 4]);
        window.ack(&ack(0, 3)).unwrap();
        let verdict = window.nack(&nack(3, 3, ErrorCode::OUT_OF_ORDER_SEQUENCE), WAIT, WAIT);
        assert!(matches!(verdict, Verdict::Ends(_)));
        let granted = ProducerGranted {
            producer: ProducerId::new(8),
            epoch: ProducerEpoch::new(0),
        };
        window.renew(granted).unwrap();
        assert_eq!(bases(&window), [0, 2]);
        assert_eq!(window.next, Sequence::new(6));
        window.reopen(Credit::new(1 << 20));
        assert_eq!(resent(&mut window), 2);
        check_bytes(&window);
        for batch in &window.batches {
            let bytes = bytes::BytesMut::from(batch.bytes.as_ref());
            assert_eq!(DraftBatch::parse(bytes).unwrap().producer_id().get(), 8);
        }
    }

    #[test]
    fn an_expired_batch_is_answered_once_and_stays_for_the_sequence() {
        let mut window = window();
        send(&mut window, 1);
        let late = Duration::from_secs(31);
        assert_eq!(window.expire(late).len(), 1);
        assert_eq!(window.expire(late).len(), 0);
        assert_eq!(bases(&window), [0]);
        assert_eq!(window.oldest_number(), None);
    }

    #[test]
    fn a_refusal_for_good_of_what_may_be_in_the_log_ends_the_stream() {
        let mut window = window();
        send_all(&mut window, [1, 1, 1]);
        window.reopen(Credit::new(1 << 20));
        resent(&mut window);
        let refused = nack(0, 0, ErrorCode::BATCH_TOO_LARGE);
        let verdict = window.nack(&refused, Duration::ZERO, WAIT);
        assert!(matches!(verdict, Verdict::Ends(_)));
        assert!(window.drain().iter().all(|batch| batch.maybe_applied));
    }
}
