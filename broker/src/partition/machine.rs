//! The rules of one partition, driven by its replica: who may append what, and what was applied.
//!
//! Applied state changes only in `apply`; what `admit` remembers beside it is dropped with the
//! leadership.

use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::ControlRecord;
use quorate_protocol::DraftBatch;
use quorate_protocol::ErrorCode;
use quorate_protocol::LogIndex;
use quorate_protocol::Offset;
use quorate_protocol::RecordBatch;
use quorate_protocol::ReplicaId;
use quorate_protocol::Stamp;
use quorate_protocol::Term;
use quorate_protocol::control_batch;
use quorate_storage::Entry;
use quorate_storage::EntryKind;

use crate::partition::checkpoint;
use crate::partition::dedup::Dedup;
use crate::partition::dedup::IdVerdict;
use crate::partition::dedup::Numbers;
use crate::partition::dedup::Place;
use crate::partition::dedup::Verdict;
use crate::partition::progress::Leadership;
use crate::partition::progress::Progress;
use crate::partition::receipt::Receipt;
use crate::partition::receipt::Refusal;
use crate::partition::rules::Rules;
use crate::replication::Admission;
use crate::replication::Applied;
use crate::replication::RestoreError;
use crate::replication::Role;
use crate::replication::Seat;
use crate::replication::StateMachine;

/// What is asked of the leader of a partition.
#[derive(Debug)]
pub enum Proposal {
    /// Append a producer's batch, if its first record gets the expected offset.
    Publish {
        /// The batch as it came from the producer.
        draft: DraftBatch,
        /// The offset the first record must get, if the producer cares.
        expect_offset: Option<Offset>,
        /// Answer once it is in the leader's log, before it is committed.
        early: bool,
    },
    /// Let go of all entries up to this one.
    Trim {
        /// The last entry that goes.
        up_to: LogIndex,
    },
    /// Append an entry without records.
    Roll,
    /// Append the note that acknowledged records from here on may have been lost.
    Loss,
}

/// The answer to a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The batch is in the log, now or since earlier.
    Published(Receipt),
    /// The batch was not appended.
    Refused(Refusal),
    /// An entry without records was appended.
    Noted,
}

/// The state machine of one partition.
#[derive(Debug)]
pub struct PartitionMachine {
    rules: Rules,
    dedup: Dedup,
    progress: Arc<Progress>,
}

impl PartitionMachine {
    pub(crate) fn new(rules: Rules, progress: Arc<Progress>) -> Self {
        let dedup = Dedup::new(rules.window);
        Self {
            rules,
            dedup,
            progress,
        }
    }

    fn publish(
        &mut self,
        draft: DraftBatch,
        expect_offset: Option<Offset>,
        early: bool,
        seat: Seat,
    ) -> Admission<Reply> {
        if let Err(refusal) = self.rules.check(&draft) {
            return Admission::Answer(Reply::Refused(refusal));
        }
        let numbers = numbers_of(&draft);
        match self.dedup.judge(&numbers) {
            Verdict::Fresh => self.append_fresh(draft, numbers, expect_offset, early, seat),
            Verdict::Duplicate(place) => {
                Admission::Answer(Reply::Published(Receipt::duplicate(place, numbers.count)))
            }
            Verdict::DuplicateForgotten => {
                Admission::Answer(Reply::Published(Receipt::forgotten(numbers.count)))
            }
            Verdict::InFlight { index, place } => {
                let reply = Reply::Published(Receipt::duplicate(place, numbers.count));
                if early {
                    Admission::Answer(reply)
                } else {
                    Admission::Join { index, reply }
                }
            }
            verdict => Admission::Answer(Reply::Refused(Refusal::of_numbers(verdict, &numbers))),
        }
    }

    fn append_fresh(
        &mut self,
        draft: DraftBatch,
        numbers: Numbers,
        expect_offset: Option<Offset>,
        early: bool,
        seat: Seat,
    ) -> Admission<Reply> {
        let place = place_of(&seat);
        if draft.attributes().has_ids {
            match self.dedup.enter_ids(seat.index, place, draft.message_ids()) {
                IdVerdict::Fresh => {}
                IdVerdict::Known(first) => return self.note_duplicates(numbers, first, seat),
                IdVerdict::Partial { known, in_flight } => {
                    let reply = Reply::Refused(Refusal::partial_duplicate(known, numbers.count));
                    return match in_flight {
                        Some(index) => Admission::Join { index, reply },
                        None => Admission::Answer(reply),
                    };
                }
                IdVerdict::Repeated(at) => {
                    return Admission::Answer(Reply::Refused(Refusal::repeated_id(at)));
                }
            }
        }
        if let Some(expected) = expect_offset.filter(|expected| *expected != seat.next_offset) {
            self.dedup.leave_ids(seat.index);
            let refusal = Refusal::precondition(expected, seat.next_offset);
            return Admission::Answer(Reply::Refused(refusal));
        }
        self.dedup.appended(seat.index, numbers, place);
        let receipt = Receipt::first(place, numbers.count);
        let batch = draft.stamp(stamp_of(&seat));
        Admission::Append {
            batch,
            reply: Some(Reply::Published(receipt)),
            early,
        }
    }

    /// All messages are in the log already, under other sequence numbers: a control record uses
    /// up the numbers, so that the producer's next batch follows and a retry finds this answer.
    fn note_duplicates(&mut self, numbers: Numbers, first: Place, seat: Seat) -> Admission<Reply> {
        self.dedup.appended(seat.index, numbers, first);
        let record = checkpoint::duplicates_record(numbers, first);
        append_control(
            &record,
            seat,
            Reply::Published(Receipt::duplicate(first, numbers.count)),
        )
    }

    fn apply_data(&mut self, index: LogIndex, batch: &RecordBatch) {
        let numbers = Numbers {
            producer: batch.producer_id(),
            epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            count: batch.record_count(),
            body_crc: batch.body_crc(),
        };
        let place = Place {
            base_offset: batch.base_offset(),
            term: batch.term(),
            append_time: batch.append_time(),
        };
        let ids = batch.attributes().has_ids.then(|| batch.message_ids());
        self.dedup.apply_batch(index, numbers, place, ids);
    }

    fn apply_control(&mut self, index: LogIndex, batch: &RecordBatch) -> Option<LogIndex> {
        match ControlRecord::decode(batch) {
            Ok(ControlRecord::Trim { up_to }) => return Some(up_to),
            Ok(ControlRecord::Duplicates(note)) => self.apply_duplicates(index, batch, &note),
            Ok(ControlRecord::DataLoss { .. }) => {}
            record => assert!(
                record.is_ok(),
                "the committed control record at index {index} is of a kind this build does not know"
            ),
        }
        None
    }

    fn apply_duplicates(&mut self, index: LogIndex, batch: &RecordBatch, note: &[u8]) {
        let decoded = checkpoint::decode_duplicates(note);
        assert!(
            decoded.is_ok(),
            "the committed note of duplicates at index {index} is malformed"
        );
        if let Ok((numbers, first)) = decoded {
            self.dedup
                .apply_duplicates(index, numbers, first, batch.append_time());
        }
    }
}

impl StateMachine for PartitionMachine {
    type Proposal = Proposal;
    type Reply = Reply;

    fn size(proposal: &Proposal) -> usize {
        match proposal {
            Proposal::Publish { draft, .. } => draft.len(),
            Proposal::Trim { .. } | Proposal::Roll | Proposal::Loss => 0,
        }
    }

    fn admit(&mut self, proposal: Proposal, seat: Seat) -> Admission<Reply> {
        // An entry that was admitted for this seat or a later one was never appended.
        self.dedup.drop_in_flight(seat.index);
        let record = match proposal {
            Proposal::Publish {
                draft,
                expect_offset,
                early,
            } => {
                return self.publish(draft, expect_offset, early, seat);
            }
            Proposal::Trim { up_to } => ControlRecord::Trim { up_to },
            Proposal::Roll => ControlRecord::Blank,
            Proposal::Loss => ControlRecord::DataLoss {
                from: seat.next_offset,
            },
        };
        append_control(&record, seat, Reply::Noted)
    }

    fn apply(&mut self, entry: &Entry) -> Applied<Reply> {
        let trim = match entry.kind {
            EntryKind::Data => {
                self.apply_data(entry.index, &entry.batch);
                None
            }
            EntryKind::Control => self.apply_control(entry.index, &entry.batch),
            EntryKind::Blank | EntryKind::Membership => None,
        };
        Applied { reply: None, trim }
    }

    fn committed(&mut self, _commit: LogIndex, high_watermark: Offset, log_start: Offset) {
        self.progress.moved(high_watermark, log_start);
    }

    fn role_changed(&mut self, role: Role, term: Term, ready: bool, leader: Option<ReplicaId>) {
        if role != Role::Leader || !ready {
            self.dedup.drop_in_flight(LogIndex::new(0));
        }
        self.progress.led_by(Leadership {
            role,
            term,
            ready,
            leader,
        });
    }

    fn loss(&self) -> Option<Proposal> {
        Some(Proposal::Loss)
    }

    fn checkpoint(&self) -> Bytes {
        checkpoint::encode(&self.dedup)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        self.dedup = checkpoint::decode(state, self.rules.window)
            .map_err(|error| RestoreError(format!("checkpoint of a partition: {error}")))?;
        Ok(())
    }
}

fn append_control(record: &ControlRecord, seat: Seat, reply: Reply) -> Admission<Reply> {
    match control_batch(record, stamp_of(&seat)) {
        Ok(batch) => Admission::Append {
            batch,
            reply: Some(reply),
            early: false,
        },
        Err(error) => {
            let refusal = Refusal::new(ErrorCode::INVALID_ARGUMENT, error.to_string());
            Admission::Answer(Reply::Refused(refusal))
        }
    }
}

fn numbers_of(draft: &DraftBatch) -> Numbers {
    Numbers {
        producer: draft.producer_id(),
        epoch: draft.producer_epoch(),
        base_sequence: draft.base_sequence(),
        count: draft.record_count(),
        body_crc: draft.body_crc(),
    }
}

fn place_of(seat: &Seat) -> Place {
    Place {
        base_offset: seat.next_offset,
        term: seat.term,
        append_time: seat.append_time,
    }
}

fn stamp_of(seat: &Seat) -> Stamp {
    Stamp {
        base_offset: seat.next_offset,
        term: seat.term,
        append_time: seat.append_time,
        group: seat.group,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use quorate_protocol::BatchBuilder;
    use quorate_protocol::BatchIdentity;
    use quorate_protocol::ByteSize;
    use quorate_protocol::GroupId;
    use quorate_protocol::HybridTime;
    use quorate_protocol::MessageId;
    use quorate_protocol::ProducerEpoch;
    use quorate_protocol::ProducerId;
    use quorate_protocol::RecordDraft;
    use quorate_protocol::Sequence;
    use quorate_protocol::TopicId;
    use quorate_protocol::TopicSettings;

    use super::*;

    const TOPIC: TopicId = TopicId::new(77);
    const REMEMBERED: usize = 16;

    fn settings(ids_max: u32, window_ms: u64) -> TopicSettings {
        TopicSettings {
            dedup_ids_max: ids_max,
            dedup_window_ms: window_ms,
            ..Default::default()
        }
    }

    fn machine(settings: &TopicSettings) -> PartitionMachine {
        let rules = Rules::new(TOPIC, settings, ByteSize::new(1 << 16));
        PartitionMachine::new(rules, Arc::new(Progress::new(Arc::default())))
    }

    #[derive(Debug, Clone)]
    struct Batch {
        producer: u64,
        epoch: u32,
        base: u64,
        values: Vec<u8>,
        ids: Option<Vec<u128>>,
    }

    impl Batch {
        fn draft(&self) -> DraftBatch {
            let mut builder = BatchBuilder::new(1024);
            for (position, value) in self.values.iter().enumerate() {
                let record = RecordDraft {
                    key: None,
                    value: Some(std::slice::from_ref(value)),
                    headers: &[],
                    timestamp_us: 5,
                    id: self.ids.as_ref().map(|ids| MessageId::new(ids[position])),
                };
                builder.push(&record).unwrap();
            }
            builder.finish(BatchIdentity {
                producer_id: ProducerId::new(self.producer),
                epoch: ProducerEpoch::new(self.epoch),
                base_sequence: Sequence::new(self.base),
                topic_hash: TOPIC.hash32(),
            })
        }
    }

    fn batch(producer: u64, epoch: u32, base: u64, count: u8) -> Batch {
        Batch {
            producer,
            epoch,
            base,
            values: (0..count).collect(),
            ids: None,
        }
    }

    fn with_ids(base: u64, ids: &[u128]) -> Batch {
        let count = u8::try_from(ids.len()).unwrap();
        Batch {
            ids: Some(ids.to_vec()),
            ..batch(1, 0, base, count)
        }
    }

    /// A leader and a follower without disk or network: the leader appends, both apply what is
    /// committed when told to, and they change places.
    struct Replica {
        settings: TopicSettings,
        machine: PartitionMachine,
        follower: PartitionMachine,
        log: Vec<Entry>,
        applied: usize,
        term: u64,
        micros: u64,
    }

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Heard {
        Now(Reply),
        At(u64, Reply),
    }

    impl Replica {
        fn new(settings: TopicSettings) -> Self {
            let mut machine = machine(&settings);
            machine.role_changed(Role::Leader, Term::new(1), true, None);
            let follower = self::machine(&settings);
            Self {
                settings,
                machine,
                follower,
                log: Vec::new(),
                applied: 0,
                term: 1,
                micros: 1_000_000,
            }
        }

        fn next_offset(&self) -> Offset {
            self.log
                .last()
                .map_or(Offset::ZERO, |entry| entry.batch.next_offset())
        }

        fn seat(&self) -> Seat {
            let last = self
                .log
                .last()
                .map_or(HybridTime::new(0), |entry| entry.batch.append_time());
            Seat {
                group: GroupId::new(3),
                index: LogIndex::new(self.log.len() as u64 + 1),
                term: Term::new(self.term),
                next_offset: self.next_offset(),
                append_time: last.next_after(self.micros),
            }
        }

        fn propose(&mut self, proposal: Proposal) -> Heard {
            let seat = self.seat();
            match self.machine.admit(proposal, seat) {
                Admission::Append { batch, reply, .. } => {
                    let control = batch.attributes().control;
                    let kind = if control {
                        EntryKind::Control
                    } else {
                        EntryKind::Data
                    };
                    self.log.push(Entry {
                        index: seat.index,
                        kind,
                        batch,
                    });
                    Heard::At(seat.index.get(), reply.unwrap())
                }
                Admission::Join { index, reply } => Heard::At(index.get(), reply),
                Admission::Answer(reply) => Heard::Now(reply),
            }
        }

        fn publish(&mut self, batch: &Batch) -> Heard {
            self.propose(Proposal::Publish {
                draft: batch.draft(),
                expect_offset: None,
                early: false,
            })
        }

        fn commit(&mut self, entries: usize) {
            for _ in 0..entries.min(self.log.len() - self.applied) {
                self.machine.apply(&self.log[self.applied]);
                self.follower.apply(&self.log[self.applied]);
                self.applied += 1;
            }
        }

        fn commit_all(&mut self) {
            self.commit(usize::MAX);
        }

        /// What was not committed is gone; the other replica leads.
        fn lose_leadership(&mut self) {
            self.log.truncate(self.applied);
            self.term += 1;
            let term = Term::new(self.term);
            self.machine.role_changed(Role::Follower, term, false, None);
            self.follower.role_changed(Role::Leader, term, true, None);
            let states = [self.machine.checkpoint(), self.follower.checkpoint()];
            assert_eq!(states[0], states[1], "replicas agree");
            std::mem::swap(&mut self.machine, &mut self.follower);
        }

        /// Starts over from a checkpoint after `at` entries and what follows it in the log.
        fn restart(&mut self, at: usize) {
            let at = at.min(self.applied);
            let mut first = machine(&self.settings);
            self.log[..at]
                .iter()
                .for_each(|entry| drop(first.apply(entry)));
            let state = first.checkpoint();
            let mut second = machine(&self.settings);
            second.restore(&state).unwrap();
            assert_eq!(
                second.checkpoint(),
                state,
                "a restored state has the bytes it came from"
            );
            self.log[at..self.applied]
                .iter()
                .for_each(|entry| drop(second.apply(entry)));
            assert_eq!(
                second.checkpoint(),
                self.machine.checkpoint(),
                "replicas agree"
            );
            self.machine = second;
            self.lose_leadership();
        }
    }

    fn refusal(heard: &Heard) -> Option<ErrorCode> {
        match heard {
            Heard::Now(Reply::Refused(refusal)) | Heard::At(_, Reply::Refused(refusal)) => {
                Some(refusal.code)
            }
            _ => None,
        }
    }

    fn receipt(heard: &Heard) -> Receipt {
        match heard {
            Heard::Now(Reply::Published(receipt)) | Heard::At(_, Reply::Published(receipt)) => {
                *receipt
            }
            other => panic!("no receipt: {other:?}"),
        }
    }

    #[test]
    fn a_resent_batch_gets_its_first_receipt_again() {
        let mut replica = Replica::new(TopicSettings::default());
        let first = receipt(&replica.publish(&batch(1, 0, 0, 3)));
        replica.commit_all();
        replica.micros += 50;
        let again = replica.publish(&batch(1, 0, 0, 3));
        assert_eq!(
            again,
            Heard::Now(Reply::Published(Receipt {
                duplicate: true,
                ..first
            }))
        );
        assert_eq!(replica.log.len(), 1);
    }

    #[test]
    fn a_duplicate_of_an_uncommitted_batch_waits_for_its_commit() {
        let mut replica = Replica::new(TopicSettings::default());
        replica.publish(&batch(1, 0, 0, 3));
        replica.publish(&batch(1, 0, 3, 1));
        assert!(matches!(
            replica.publish(&batch(1, 0, 0, 3)),
            Heard::At(1, Reply::Published(_))
        ));
    }

    #[test]
    fn an_entry_that_was_never_appended_leaves_no_trace() {
        let mut replica = Replica::new(TopicSettings::default());
        replica.publish(&with_ids(0, &[7, 8]));
        replica.log.pop();
        let again = replica.publish(&with_ids(0, &[7, 8]));
        assert!(matches!(again, Heard::At(1, _)));
        assert!(!receipt(&again).duplicate);
    }

    #[test]
    fn what_a_lost_leader_appended_is_accepted_again() {
        let mut replica = Replica::new(TopicSettings::default());
        replica.publish(&with_ids(0, &[7, 8]));
        replica.lose_leadership();
        assert!(!receipt(&replica.publish(&with_ids(0, &[7, 8]))).duplicate);
    }

    #[test]
    fn numbers_out_of_place_are_refused_by_name() {
        let mut replica = Replica::new(TopicSettings::default());
        let code = |heard: &Heard| refusal(heard).unwrap();
        assert_eq!(
            code(&replica.publish(&batch(1, 0, 5, 1))),
            ErrorCode::UNKNOWN_PRODUCER
        );
        replica.publish(&batch(1, 1, 0, 4));
        assert_eq!(
            code(&replica.publish(&batch(1, 0, 0, 4))),
            ErrorCode::PRODUCER_FENCED
        );
        assert_eq!(
            code(&replica.publish(&batch(1, 1, 9, 1))),
            ErrorCode::OUT_OF_ORDER_SEQUENCE
        );
        assert_eq!(
            code(&replica.publish(&batch(1, 2, 4, 1))),
            ErrorCode::OUT_OF_ORDER_SEQUENCE
        );
        assert_eq!(
            code(&replica.publish(&batch(1, 1, 0, 3))),
            ErrorCode::SEQUENCE_REUSED
        );
        let other = Batch {
            values: vec![9; 4],
            ..batch(1, 1, 0, 4)
        };
        assert_eq!(code(&replica.publish(&other)), ErrorCode::SEQUENCE_REUSED);
        assert_eq!(
            code(&replica.publish(&batch(1, 1, 2, 1))),
            ErrorCode::SEQUENCE_REUSED
        );
        assert!(!receipt(&replica.publish(&batch(1, 2, 0, 1))).duplicate);
    }

    #[test]
    fn batches_older_than_remembered_are_acked_without_an_offset() {
        let mut replica = Replica::new(TopicSettings::default());
        for base in 0..20 {
            replica.publish(&batch(1, 0, base, 1));
        }
        replica.commit_all();
        assert_eq!(
            receipt(&replica.publish(&batch(1, 0, 3, 1))),
            Receipt::forgotten(1)
        );
        assert_eq!(
            receipt(&replica.publish(&batch(1, 0, 4, 1))).base_offset,
            Some(Offset::new(4))
        );
        replica.restart(18);
        assert_eq!(
            receipt(&replica.publish(&batch(1, 0, 3, 1))),
            Receipt::forgotten(1)
        );
        assert_eq!(
            receipt(&replica.publish(&batch(1, 0, 4, 1))).base_offset,
            Some(Offset::new(4))
        );
    }

    #[test]
    fn a_batch_of_known_messages_is_acked_with_their_first_offsets() {
        let mut replica = Replica::new(TopicSettings::default());
        replica.publish(&batch(9, 0, 0, 5));
        let first = receipt(&replica.publish(&with_ids(0, &[1, 2, 3])));
        let again = replica.publish(&Batch {
            producer: 2,
            ..with_ids(0, &[2, 3])
        });
        let Heard::At(3, Reply::Published(again)) = again else {
            panic!("{again:?}")
        };
        assert_eq!(again.base_offset, Some(Offset::new(6)));
        assert_eq!(
            (again.term, again.append_time),
            (first.term, first.append_time)
        );
        assert!(again.duplicate);
        let next = replica.publish(&Batch {
            producer: 2,
            ..with_ids(2, &[4])
        });
        assert_eq!(
            receipt(&next).base_offset,
            Some(Offset::new(8)),
            "its numbers go on"
        );
        replica.commit_all();
        let resent = replica.publish(&Batch {
            producer: 2,
            ..with_ids(0, &[2, 3])
        });
        assert_eq!(resent, Heard::Now(Reply::Published(again)));
    }

    #[test]
    fn a_batch_of_known_and_new_messages_is_refused_with_the_known_ones() {
        let mut replica = Replica::new(TopicSettings::default());
        replica.publish(&with_ids(0, &[1, 2, 3]));
        let mixed = Batch {
            producer: 2,
            ..with_ids(0, &[9, 3, 1])
        };
        let expected = vec![(1, Offset::new(2)), (2, Offset::ZERO)];
        let in_flight = replica.publish(&mixed);
        let Heard::At(1, Reply::Refused(refusal)) = in_flight else {
            panic!("{in_flight:?}")
        };
        assert_eq!(refusal.code, ErrorCode::PARTIAL_DUPLICATE);
        assert_eq!(refusal.duplicates, expected);
        replica.commit_all();
        assert!(
            matches!(replica.publish(&mixed), Heard::Now(Reply::Refused(same)) if same == refusal)
        );
        assert!(
            !receipt(&replica.publish(&Batch {
                producer: 2,
                ..with_ids(0, &[9])
            }))
            .duplicate
        );
    }

    #[test]
    fn a_batch_that_names_an_id_twice_is_refused_whole() {
        let mut replica = Replica::new(TopicSettings::default());
        let code = refusal(&replica.publish(&with_ids(0, &[1, 2, 1])));
        assert_eq!(code, Some(ErrorCode::INVALID_ARGUMENT));
        assert!(!receipt(&replica.publish(&with_ids(0, &[1, 2]))).duplicate);
    }

    #[test]
    fn an_expected_offset_holds_for_new_batches_only() {
        let mut replica = Replica::new(TopicSettings::default());
        let mut publish = |batch: &Batch, offset| {
            let expect_offset = Some(Offset::new(offset));
            replica.propose(Proposal::Publish {
                draft: batch.draft(),
                expect_offset,
                early: false,
            })
        };
        let code = refusal(&publish(&with_ids(0, &[1]), 4));
        assert_eq!(code, Some(ErrorCode::PRECONDITION_FAILED));
        assert!(!receipt(&publish(&with_ids(0, &[1]), 0)).duplicate);
        assert!(receipt(&publish(&with_ids(0, &[1]), 0)).duplicate);
    }

    #[test]
    fn the_longest_silent_of_too_many_producers_is_forgotten() {
        let mut replica = Replica::new(TopicSettings::default());
        for producer in 0..10_001 {
            replica.publish(&batch(producer, 0, 0, 1));
            replica.commit_all();
        }
        assert_eq!(
            refusal(&replica.publish(&batch(0, 0, 1, 1))),
            Some(ErrorCode::UNKNOWN_PRODUCER)
        );
        assert!(receipt(&replica.publish(&batch(1, 0, 0, 1))).duplicate);
        replica.restart(5_000);
        assert!(receipt(&replica.publish(&batch(10_000, 0, 0, 1))).duplicate);
    }

    #[test]
    fn a_producer_silent_for_a_week_of_log_time_is_forgotten() {
        let mut replica = Replica::new(TopicSettings::default());
        replica.publish(&batch(1, 0, 0, 1));
        replica.publish(&batch(2, 0, 0, 1));
        replica.commit_all();
        replica.micros += 8 * 24 * 3_600 * 1_000_000;
        assert!(!receipt(&replica.publish(&batch(2, 0, 1, 1))).duplicate);
        replica.commit_all();
        assert_eq!(
            refusal(&replica.publish(&batch(1, 0, 1, 1))),
            Some(ErrorCode::UNKNOWN_PRODUCER)
        );
        assert!(!receipt(&replica.publish(&batch(2, 0, 2, 1))).duplicate);
    }

    #[test]
    fn damaged_states_are_refused() {
        let mut replica = Replica::new(TopicSettings::default());
        replica.publish(&with_ids(0, &[1, 2, 3]));
        replica.publish(&with_ids(3, &[4]));
        replica.commit_all();
        let state = replica.machine.checkpoint();
        for length in 1..state.len() {
            assert!(
                machine(&replica.settings)
                    .restore(&state[..length])
                    .is_err(),
                "cut at {length}"
            );
        }
        let longer = [&state[..], &[0]].concat();
        assert!(machine(&replica.settings).restore(&longer).is_err());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Next {
            producer: u64,
            count: u8,
            ids: Option<Vec<u128>>,
        },
        Resend {
            producer: u64,
            back: usize,
        },
        Gap {
            producer: u64,
        },
        Altered {
            producer: u64,
            back: usize,
        },
        Fence {
            producer: u64,
        },
        Commit(usize),
        LoseLeadership,
        Restart(usize),
        Wait(u64),
        /// Another leader's clock may be behind.
        ClockBack(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let producer = 1u64..4;
        let ids = proptest::option::of(proptest::collection::vec(0u128..40, 4));
        prop_oneof![
            8 => (producer.clone(), 1u8..5, ids)
                .prop_map(|(producer, count, ids)| Step::Next { producer, count, ids }),
            5 => (producer.clone(), 0usize..24)
                .prop_map(|(producer, back)| Step::Resend { producer, back }),
            1 => producer.clone().prop_map(|producer| Step::Gap { producer }),
            1 => (producer.clone(), 0usize..20)
                .prop_map(|(producer, back)| Step::Altered { producer, back }),
            1 => producer.prop_map(|producer| Step::Fence { producer }),
            5 => (1usize..6).prop_map(Step::Commit),
            1 => Just(Step::LoseLeadership),
            1 => (0usize..80).prop_map(Step::Restart),
            2 => (1u64..800_000).prop_map(Step::Wait),
            1 => (1u64..800_000).prop_map(Step::ClockBack),
        ]
    }

    /// The twin: it looks at the whole log for each answer.
    #[derive(Default)]
    struct Twin {
        epochs: BTreeMap<u64, u32>,
        sent: BTreeMap<u64, Vec<Batch>>,
    }

    /// A batch in the log, with the offset its receipt names.
    struct Logged {
        batch: Batch,
        base_offset: u64,
        index: u64,
    }

    const IDS_MAX: usize = 12;
    const WINDOW_MICROS: u64 = 1_000_000;

    impl Twin {
        fn of_producer(log: &[Logged], producer: u64) -> Vec<&Logged> {
            log.iter()
                .filter(|logged| logged.batch.producer == producer)
                .collect()
        }

        /// The answer to a batch whose numbers are not the next, or none if they are.
        fn numbers(&self, log: &[Logged], applied: u64, batch: &Batch) -> Option<Expected> {
            let of_producer = Self::of_producer(log, batch.producer);
            let Some(last) = of_producer.last() else {
                return (batch.base > 0).then_some(Expected::Code(ErrorCode::UNKNOWN_PRODUCER));
            };
            let (epoch, next) = (
                last.batch.epoch,
                last.batch.base + last.batch.values.len() as u64,
            );
            if batch.epoch < epoch {
                return Some(Expected::Code(ErrorCode::PRODUCER_FENCED));
            }
            let next = if batch.epoch > epoch { 0 } else { next };
            if batch.base >= next {
                let gap = batch.base > next;
                return gap.then_some(Expected::Code(ErrorCode::OUT_OF_ORDER_SEQUENCE));
            }
            let same_epoch: Vec<_> = of_producer
                .into_iter()
                .filter(|one| one.batch.epoch == epoch)
                .collect();
            let flying = same_epoch.iter().filter(|one| one.index > applied).count();
            let known = &same_epoch[same_epoch.len().saturating_sub(REMEMBERED + flying)..];
            if let Some(first) = known.iter().find(|one| one.batch.base == batch.base) {
                let same = first.batch.values == batch.values && first.batch.ids == batch.ids;
                return Some(match same {
                    true => Expected::Duplicate(Some(first.base_offset), first.index > applied),
                    false => Expected::Code(ErrorCode::SEQUENCE_REUSED),
                });
            }
            let older = batch.base + batch.values.len() as u64 <= known[0].batch.base;
            Some(match older {
                true => Expected::Duplicate(None, false),
                false => Expected::Code(ErrorCode::SEQUENCE_REUSED),
            })
        }
    }

    /// Ids in the window for a batch at `now`: those of the log, as far as they were kept.
    fn window(log: &[Entry], applied: usize, now: u64) -> BTreeMap<u128, (u64, u64)> {
        let mut kept: Vec<(u128, u64, u64, u64)> = Vec::new();
        for (position, entry) in log.iter().enumerate() {
            let time = entry.batch.append_time().micros();
            if position < applied {
                kept.retain(|(_, _, appended, _)| time - appended <= WINDOW_MICROS);
            }
            if entry.kind == EntryKind::Data && entry.batch.attributes().has_ids {
                let base = entry.batch.base_offset().get();
                for (offset, id) in (base..).zip(entry.batch.message_ids()) {
                    kept.push((id.get(), offset, time, entry.index.get()));
                }
            }
            if position < applied && kept.len() > IDS_MAX {
                kept.drain(..kept.len() - IDS_MAX);
            }
        }
        kept.retain(|(_, _, appended, _)| now.saturating_sub(*appended) <= WINDOW_MICROS);
        kept.into_iter()
            .map(|(id, offset, _, index)| (id, (offset, index)))
            .collect()
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Expected {
        Code(ErrorCode),
        Duplicate(Option<u64>, bool),
        Partial(Vec<(u32, Offset)>, bool),
        Fresh,
    }

    fn expected_for_ids(replica: &Replica, batch: &Batch) -> Expected {
        let Some(ids) = &batch.ids else {
            return Expected::Fresh;
        };
        let now = replica.seat().append_time.micros();
        let kept = window(&replica.log, replica.applied, now);
        let mut new = BTreeSet::new();
        if !ids.iter().all(|id| kept.contains_key(id) || new.insert(id)) {
            return Expected::Code(ErrorCode::INVALID_ARGUMENT);
        }
        let known: Vec<_> = (0u32..)
            .zip(ids)
            .filter_map(|(at, id)| kept.get(id).map(|(offset, index)| (at, *offset, *index)))
            .collect();
        let Some((_, first, _)) = known.first().copied() else {
            return Expected::Fresh;
        };
        let contiguous = known
            .iter()
            .all(|(at, offset, _)| first + u64::from(*at) == *offset);
        if known.len() == ids.len() && contiguous {
            return Expected::Duplicate(Some(first), true);
        }
        let flying = known
            .iter()
            .any(|(_, _, index)| *index > replica.applied as u64);
        let known = known
            .into_iter()
            .map(|(at, offset, _)| (at, Offset::new(offset)));
        Expected::Partial(known.collect(), flying)
    }

    fn as_expected(heard: Heard) -> Expected {
        let (reply, waits) = match heard {
            Heard::Now(reply) => (reply, false),
            Heard::At(_, reply) => (reply, true),
        };
        match reply {
            Reply::Published(receipt) if receipt.duplicate => {
                Expected::Duplicate(receipt.base_offset.map(Offset::get), waits)
            }
            Reply::Published(_) => Expected::Fresh,
            Reply::Refused(refusal) if refusal.code == ErrorCode::PARTIAL_DUPLICATE => {
                Expected::Partial(refusal.duplicates, waits)
            }
            Reply::Refused(refusal) => Expected::Code(refusal.code),
            Reply::Noted => panic!("not an answer to a batch"),
        }
    }

    fn next_batch(twin: &Twin, log: &[Logged], producer: u64) -> (u32, u64) {
        let epoch = twin.epochs.get(&producer).copied().unwrap_or(0);
        let last = Twin::of_producer(log, producer)
            .into_iter()
            .rfind(|one| one.batch.epoch == epoch);
        let next = last.map_or(0, |one| one.batch.base + one.batch.values.len() as u64);
        (epoch, next)
    }

    /// The batch a step sends, if it sends one.
    fn sent_by(step: &Step, twin: &Twin, log: &[Logged], salt: u8) -> Option<Batch> {
        match step {
            Step::Next {
                producer,
                count,
                ids,
            } => {
                let (epoch, base) = next_batch(twin, log, *producer);
                let ids = ids.as_ref().map(|ids| ids[..usize::from(*count)].to_vec());
                let values = vec![salt; usize::from(*count)];
                Some(Batch {
                    producer: *producer,
                    epoch,
                    base,
                    values,
                    ids,
                })
            }
            Step::Resend { producer, back } => {
                let sent = twin.sent.get(producer)?;
                sent.iter().rev().nth(*back).cloned()
            }
            Step::Altered { producer, back } => {
                let mut batch = twin.sent.get(producer)?.iter().rev().nth(*back)?.clone();
                batch.values.iter_mut().for_each(|value| *value ^= 0x80);
                Some(batch)
            }
            Step::Gap { producer } => {
                let (epoch, next) = next_batch(twin, log, *producer);
                Some(batch(*producer, epoch, next + 1, 1))
            }
            _ => None,
        }
    }

    fn run(steps: Vec<Step>) {
        let ids_max = u32::try_from(IDS_MAX).unwrap();
        let mut replica = Replica::new(settings(ids_max, WINDOW_MICROS / 1_000));
        let (mut twin, mut log) = (Twin::default(), Vec::<Logged>::new());
        for (number, step) in steps.into_iter().enumerate() {
            let salt = u8::try_from(number % 0x80).unwrap();
            if let Some(batch) = sent_by(&step, &twin, &log, salt) {
                let by_numbers = twin.numbers(&log, replica.applied as u64, &batch);
                let expected = by_numbers.unwrap_or_else(|| expected_for_ids(&replica, &batch));
                let before = replica.log.len();
                let heard = replica.publish(&batch);
                assert_eq!(
                    as_expected(heard.clone()),
                    expected,
                    "{step:?} sent {batch:?}"
                );
                if replica.log.len() > before {
                    let base_offset = receipt(&heard).base_offset.unwrap().get();
                    let index = replica.log.len() as u64;
                    log.push(Logged {
                        batch: batch.clone(),
                        base_offset,
                        index,
                    });
                    twin.sent.entry(batch.producer).or_default().push(batch);
                }
                continue;
            }
            match step {
                Step::Fence { producer } => *twin.epochs.entry(producer).or_default() += 1,
                Step::Commit(entries) => replica.commit(entries),
                Step::LoseLeadership => replica.lose_leadership(),
                Step::Restart(at) => replica.restart(at),
                Step::Wait(micros) => replica.micros += micros,
                Step::ClockBack(micros) => replica.micros = replica.micros.saturating_sub(micros),
                _ => {}
            }
            log.retain(|logged| logged.index <= replica.log.len() as u64);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn every_answer_is_that_of_a_search_through_the_whole_log(
            steps in proptest::collection::vec(step(), 1..160)
        ) {
            run(steps);
        }
    }
}
