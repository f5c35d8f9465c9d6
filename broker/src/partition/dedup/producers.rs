//! What each producer last wrote, so that a resent batch finds its first copy.
//!
//! The table is bounded as a function of the log: a producer leaves it when it is the one longest
//! silent of too many, or silent for a week of log time.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;

use quorate_protocol::HybridTime;
use quorate_protocol::LogIndex;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::Sequence;

use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;
use crate::partition::dedup::Numbers;
use crate::partition::dedup::Place;

/// Batches remembered per producer: as many as one may have in flight.
pub(crate) const BATCHES_REMEMBERED: usize = 16;
/// Producers remembered per partition.
pub(crate) const PRODUCERS_MAX: usize = 10_000;
/// Silence in log time after which a producer is forgotten.
const IDLE_MICROS_MAX: u64 = 7 * 24 * 3_600 * 1_000_000;

/// What the numbers of a batch say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next batch of its producer.
    Fresh,
    /// Applied before, at this place.
    Duplicate(Place),
    /// Applied before the batches that are remembered.
    DuplicateForgotten,
    /// Appended as entry `index`, not applied yet.
    InFlight { index: LogIndex, place: Place },
    /// The producer has a newer epoch.
    Fenced { current: ProducerEpoch },
    /// Batches before this one are missing.
    OutOfOrder { expected: Sequence },
    /// Its numbers belong to another batch.
    Reused,
    /// Nothing is known of the producer and this is not its first batch.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remembered {
    base_sequence: Sequence,
    count: u32,
    body_crc: u32,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    next: Sequence,
    last_index: LogIndex,
    last_time: HybridTime,
    batches: VecDeque<Remembered>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    index: LogIndex,
    numbers: Numbers,
    place: Place,
}

/// The producers of one partition: applied state, and what is in flight beside it.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    applied: HashMap<ProducerId, Producer>,
    /// Who wrote last at which index; the first is the one longest silent.
    recency: BTreeMap<LogIndex, ProducerId>,
    in_flight: HashMap<ProducerId, VecDeque<InFlight>>,
    order: VecDeque<(LogIndex, ProducerId)>,
}

impl Producers {
    pub(crate) fn judge(&self, numbers: &Numbers) -> Verdict {
        let flying = self.in_flight.get(&numbers.producer);
        let applied = self.applied.get(&numbers.producer);
        let newest = flying.and_then(VecDeque::back).map(|last| &last.numbers);
        let head = match (newest, applied) {
            (Some(last), _) => Some((last.epoch, following(last))),
            (None, Some(producer)) => Some((producer.epoch, producer.next)),
            (None, None) => None,
        };
        let zero = Sequence::new(0);
        let Some((epoch, next)) = head else {
            let first = numbers.base_sequence == zero;
            return if first {
                Verdict::Fresh
            } else {
                Verdict::Unknown
            };
        };
        if numbers.epoch < epoch {
            return Verdict::Fenced { current: epoch };
        }
        let expected = if numbers.epoch > epoch { zero } else { next };
        if numbers.base_sequence == expected {
            return Verdict::Fresh;
        }
        if numbers.base_sequence > expected {
            return Verdict::OutOfOrder { expected };
        }
        resent(numbers, flying, applied)
    }

    pub(crate) fn appended(&mut self, index: LogIndex, numbers: Numbers, place: Place) {
        let flight = InFlight {
            index,
            numbers,
            place,
        };
        self.in_flight
            .entry(numbers.producer)
            .or_default()
            .push_back(flight);
        self.order.push_back((index, numbers.producer));
    }

    pub(crate) fn drop_in_flight(&mut self, from: LogIndex) {
        let flying = |order: &VecDeque<(LogIndex, ProducerId)>| {
            order
                .back()
                .filter(|(flying, _)| *flying >= from)
                .map(|(_, producer)| *producer)
        };
        while let Some(producer) = flying(&self.order) {
            self.order.pop_back();
            self.release(producer, VecDeque::pop_back);
        }
    }

    pub(crate) fn apply(
        &mut self,
        index: LogIndex,
        numbers: Numbers,
        place: Place,
        log_time: HybridTime,
    ) {
        let flying = |order: &VecDeque<(LogIndex, ProducerId)>| {
            order
                .front()
                .filter(|(flying, _)| *flying <= index)
                .map(|(_, producer)| *producer)
        };
        while let Some(producer) = flying(&self.order) {
            self.order.pop_front();
            self.release(producer, VecDeque::pop_front);
        }
        self.remember(index, numbers, place, log_time);
        self.evict(log_time);
    }

    fn release(
        &mut self,
        producer: ProducerId,
        take: fn(&mut VecDeque<InFlight>) -> Option<InFlight>,
    ) {
        if let Some(flying) = self.in_flight.get_mut(&producer) {
            take(flying);
            if flying.is_empty() {
                self.in_flight.remove(&producer);
            }
        }
    }

    fn remember(&mut self, index: LogIndex, numbers: Numbers, place: Place, time: HybridTime) {
        let producer = self
            .applied
            .entry(numbers.producer)
            .or_insert_with(|| Producer {
                epoch: numbers.epoch,
                next: Sequence::new(0),
                last_index: index,
                last_time: time,
                batches: VecDeque::new(),
            });
        // The bytes of a checkpoint say where a run of batches ends, so a run has no holes.
        if producer.epoch != numbers.epoch || producer.next != numbers.base_sequence {
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        let Numbers {
            base_sequence,
            count,
            body_crc,
            ..
        } = numbers;
        producer.batches.push_back(Remembered {
            base_sequence,
            count,
            body_crc,
            place,
        });
        producer.epoch = numbers.epoch;
        producer.next = following(&numbers);
        self.recency.remove(&producer.last_index);
        producer.last_index = index;
        producer.last_time = time;
        self.recency.insert(index, numbers.producer);
    }

    fn evict(&mut self, log_time: HybridTime) {
        while let Some(oldest) = self.recency.first_entry() {
            let id = *oldest.get();
            let silent = self.applied.get(&id).map_or(u64::MAX, |producer| {
                log_time
                    .micros()
                    .saturating_sub(producer.last_time.micros())
            });
            if silent <= IDLE_MICROS_MAX && self.applied.len() <= PRODUCERS_MAX {
                return;
            }
            oldest.remove();
            self.applied.remove(&id);
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.count(self.recency.len());
        for (index, id) in &self.recency {
            if let Some(producer) = self.applied.get(id) {
                encode_producer(writer, *index, *id, producer);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut producers = Self::default();
        let mut last = None;
        for _ in 0..reader.count("producers", PRODUCERS_MAX)? {
            let (id, producer) = decode_producer(reader)?;
            let index = producer.last_index;
            if last.is_some_and(|last| last >= index) {
                return Err(CodecError::Invalid(
                    "producers are not in the order of the log",
                ));
            }
            last = Some(index);
            producers.recency.insert(index, id);
            if producers.applied.insert(id, producer).is_some() {
                return Err(CodecError::Invalid("a producer appears twice"));
            }
        }
        Ok(producers)
    }
}

fn following(numbers: &Numbers) -> Sequence {
    after(numbers.base_sequence, numbers.count)
}

fn after(base: Sequence, count: u32) -> Sequence {
    Sequence::new(base.get().saturating_add(u64::from(count)))
}

/// Finds a batch whose numbers lie before the next one of its epoch.
fn resent(
    numbers: &Numbers,
    flying: Option<&VecDeque<InFlight>>,
    applied: Option<&Producer>,
) -> Verdict {
    let flying = flying
        .into_iter()
        .flatten()
        .filter(|flight| flight.numbers.epoch == numbers.epoch);
    let applied = applied.filter(|producer| producer.epoch == numbers.epoch);
    let mut oldest = None;
    for batch in applied.into_iter().flat_map(|producer| &producer.batches) {
        oldest = oldest.or(Some(batch.base_sequence));
        if batch.base_sequence == numbers.base_sequence {
            let same = batch.count == numbers.count && batch.body_crc == numbers.body_crc;
            return if same {
                Verdict::Duplicate(batch.place)
            } else {
                Verdict::Reused
            };
        }
    }
    for InFlight {
        index,
        numbers: first,
        place,
    } in flying.copied()
    {
        oldest = oldest.or(Some(first.base_sequence));
        if first.base_sequence == numbers.base_sequence {
            return if first == *numbers {
                Verdict::InFlight { index, place }
            } else {
                Verdict::Reused
            };
        }
    }
    let before_all = oldest.is_some_and(|oldest| following(numbers) <= oldest);
    if before_all {
        Verdict::DuplicateForgotten
    } else {
        Verdict::Reused
    }
}

fn encode_producer(writer: &mut Writer, index: LogIndex, id: ProducerId, producer: &Producer) {
    writer.u64(id.get());
    writer.u32(producer.epoch.get());
    writer.u64(producer.next.get());
    writer.u64(index.get());
    writer.u64(producer.last_time.get());
    writer.count(producer.batches.len());
    let mut last = Place::ZERO;
    for batch in &producer.batches {
        writer.varint(u64::from(batch.count));
        writer.u32(batch.body_crc);
        batch.place.encode(writer, &last);
        last = batch.place;
    }
}

fn decode_producer(reader: &mut Reader<'_>) -> Result<(ProducerId, Producer), CodecError> {
    let id = ProducerId::new(reader.u64()?);
    let epoch = ProducerEpoch::new(reader.u32()?);
    let next = Sequence::new(reader.u64()?);
    let last_index = LogIndex::new(reader.u64()?);
    let last_time = HybridTime::new(reader.u64()?);
    let count = reader.count("batches of a producer", BATCHES_REMEMBERED)?;
    let mut batches = VecDeque::with_capacity(count);
    let mut place = Place::ZERO;
    for _ in 0..count {
        let (records, body_crc) = (reader.varint_u32()?, reader.u32()?);
        place = Place::decode(reader, &place)?;
        batches.push_back(Remembered {
            base_sequence: Sequence::new(0),
            count: records,
            body_crc,
            place,
        });
    }
    number_backwards(next, &mut batches)?;
    Ok((
        id,
        Producer {
            epoch,
            next,
            last_index,
            last_time,
            batches,
        },
    ))
}

/// The batches of a producer follow each other, so the last end gives every start.
fn number_backwards(next: Sequence, batches: &mut VecDeque<Remembered>) -> Result<(), CodecError> {
    let mut end = next.get();
    for batch in batches.iter_mut().rev() {
        end = end
            .checked_sub(u64::from(batch.count))
            .ok_or(CodecError::Invalid(
                "a producer has more records than sequence numbers",
            ))?;
        batch.base_sequence = Sequence::new(end);
    }
    Ok(())
}
