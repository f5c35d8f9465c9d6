//! Deduplication: what is already in the log is answered, never written twice.
//!
//! Applied state is a function of the applied entries alone, so replicas agree on it; what a leader
//! has appended but not yet seen committed lies beside it and can be dropped at any time.

mod place;
mod producers;
mod window;

use quorate_protocol::HybridTime;
use quorate_protocol::LogIndex;
use quorate_protocol::MessageId;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::Sequence;

pub(crate) use place::Place;
use producers::Producers;
pub(crate) use producers::Verdict;
pub use window::DEDUP_IDS_MAX;
pub(crate) use window::IdVerdict;
pub(crate) use window::IdWindow;
pub(crate) use window::WindowLimits;

use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

/// The numbers by which a producer's batch is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) base_sequence: Sequence,
    pub(crate) count: u32,
    pub(crate) body_crc: u32,
}

/// Both kinds of deduplication of one partition.
#[derive(Debug)]
pub(crate) struct Dedup {
    producers: Producers,
    window: IdWindow,
}

impl Dedup {
    pub(crate) fn new(limits: WindowLimits) -> Self {
        Self {
            producers: Producers::default(),
            window: IdWindow::new(limits),
        }
    }

    /// What the numbers of a batch say about it.
    pub(crate) fn judge(&self, numbers: &Numbers) -> Verdict {
        self.producers.judge(numbers)
    }

    /// Enters the message ids of a batch about to be appended at `index`, unless one is known.
    pub(crate) fn enter_ids(
        &mut self,
        index: LogIndex,
        place: Place,
        ids: impl Iterator<Item = MessageId>,
    ) -> IdVerdict {
        self.window.enter(index, place, ids)
    }

    /// Takes back the ids of entries from `index` on: they were not appended after all.
    pub(crate) fn leave_ids(&mut self, index: LogIndex) {
        self.window.drop_in_flight(index);
    }

    /// Notes a batch appended at `index` and not yet applied.
    pub(crate) fn appended(&mut self, index: LogIndex, numbers: Numbers, place: Place) {
        self.producers.appended(index, numbers, place);
    }

    /// Forgets what was in flight from `index` on: those entries may never commit.
    pub(crate) fn drop_in_flight(&mut self, index: LogIndex) {
        self.producers.drop_in_flight(index);
        self.window.drop_in_flight(index);
    }

    /// Applies a committed data batch.
    pub(crate) fn apply_batch(
        &mut self,
        index: LogIndex,
        numbers: Numbers,
        place: Place,
        ids: Option<impl Iterator<Item = MessageId>>,
    ) {
        self.producers
            .apply(index, numbers, place, place.append_time);
        match ids {
            Some(ids) => self.window.apply(index, place, ids),
            None => self.window.age(place.append_time),
        }
    }

    /// Applies a committed note that all messages of a batch are already in the log at `place`.
    pub(crate) fn apply_duplicates(
        &mut self,
        index: LogIndex,
        numbers: Numbers,
        place: Place,
        log_time: HybridTime,
    ) {
        self.producers.apply(index, numbers, place, log_time);
        self.window.age(log_time);
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        self.producers.encode(writer);
        self.window.encode(writer);
    }

    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        limits: WindowLimits,
    ) -> Result<Self, CodecError> {
        let producers = Producers::decode(reader)?;
        let window = IdWindow::decode(reader, limits)?;
        Ok(Self { producers, window })
    }
}
