//! Turning a batch into records, one at a time and without copying.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use quorate_protocol::ErrorCode;
use quorate_protocol::HybridTime;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::RecordBatch;
use quorate_protocol::RecordView;
use quorate_protocol::Term;
use quorate_protocol::records;

use crate::clock::time_of;
use crate::codec;
use crate::error::Error;
use crate::error::Result;
use crate::record::Headers;
use crate::record::Record;

/// Where a batch comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) broker: Arc<str>,
}

/// The records of one batch.
#[derive(Debug)]
pub(crate) struct BatchReader {
    source: Source,
    batch: RecordBatch,
    /// What is not yet read, decompressed.
    payload: Bytes,
    left: u32,
    index: u32,
    offset: Offset,
    until: Offset,
    term: Term,
    hlc: HybridTime,
    timestamp: SystemTime,
    base_timestamp_us: u64,
    has_ids: bool,
}

impl BatchReader {
    /// The records from `from` on and below `until`.
    pub(crate) fn new(
        source: Source,
        batch: RecordBatch,
        from: Offset,
        until: Offset,
    ) -> Result<Self> {
        let attributes = batch.attributes();
        let payload = codec::unpack(batch.payload(), attributes.codec, batch.uncompressed_len())
            .map_err(|error| error.at(format_args!("{}/{}", source.topic, source.partition)))?;
        let mut reader = Self {
            payload,
            left: batch.record_count(),
            index: 0,
            offset: batch.base_offset(),
            until,
            term: batch.term(),
            hlc: batch.append_time(),
            timestamp: time_of(batch.append_time().micros()),
            base_timestamp_us: batch.base_timestamp_us(),
            has_ids: attributes.has_ids,
            source,
            batch,
        };
        while reader.offset < from && reader.left > 0 {
            reader.take(|_, _| ())?;
        }
        Ok(reader)
    }

    /// Bytes of the batch, as counted by credit.
    pub(crate) fn batch_len(&self) -> usize {
        self.batch.len()
    }

    /// The offset of the next record.
    pub(crate) fn position(&self) -> Offset {
        self.offset
    }

    /// The next record.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Result<Record>> {
        if self.left == 0 || self.offset >= self.until {
            return None;
        }
        Some(self.take(|reader, view| reader.record(view)))
    }

    /// Reads a record where it lies.
    #[inline]
    fn take<T>(&mut self, use_it: impl FnOnce(&Self, &RecordView<'_>) -> T) -> Result<T> {
        let mut rest = records(&self.payload, self.left, self.base_timestamp_us);
        let view = match rest.next() {
            Some(Ok(view)) => view,
            Some(Err(error)) => return Err(self.corrupt(&error.to_string())),
            None => return Err(self.corrupt("it ends early")),
        };
        let read = self.payload.len() - rest.rest().len();
        let used = use_it(self, &view);
        bytes::Buf::advance(&mut self.payload, read);
        self.left -= 1;
        self.index += 1;
        self.offset = self.offset.next();
        if self.left == 0 && !self.payload.is_empty() {
            return Err(self.corrupt("bytes follow its last record"));
        }
        Ok(used)
    }

    #[inline]
    fn record(&self, view: &RecordView<'_>) -> Record {
        let slice = |field: &[u8]| self.payload.slice_ref(field);
        let headers = view.headers();
        Record {
            topic: Arc::clone(&self.source.topic),
            partition: self.source.partition,
            offset: self.offset,
            term: self.term,
            timestamp: self.timestamp,
            hlc: self.hlc,
            producer_timestamp: time_of(view.timestamp_us),
            id: match self.has_ids {
                true => self.batch.message_ids().nth(index(self.index)),
                false => None,
            },
            key: view.key.map(slice),
            value: view.value.map(slice),
            headers: match headers.len() {
                0 => Headers::default(),
                _ => Headers::new(
                    headers
                        .map(|(name, value)| (name.to_owned(), value.map(slice)))
                        .collect(),
                ),
            },
            broker: Arc::clone(&self.source.broker),
        }
    }

    #[cold]
    fn corrupt(&mut self, why: &str) -> Error {
        self.left = 0;
        let Source {
            topic, partition, ..
        } = &self.source;
        let offset = self.offset;
        let message = format!("{topic}/{partition}: the batch at offset {offset}: {why}");
        Error::new(ErrorCode::CORRUPT_BATCH, message)
    }
}

fn index(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::BatchBuilder;
    use quorate_protocol::BatchIdentity;
    use quorate_protocol::Codec;
    use quorate_protocol::GroupId;
    use quorate_protocol::MessageId;
    use quorate_protocol::ProducerEpoch;
    use quorate_protocol::ProducerId;
    use quorate_protocol::RecordDraft;
    use quorate_protocol::Sequence;
    use quorate_protocol::Stamp;

    use super::*;

    fn batch(count: u64, codec: Codec) -> RecordBatch {
        let mut builder = BatchBuilder::new(0);
        for n in 0..count {
            let value = format!("value {n} {}", "x".repeat(40));
            builder
                .push(&RecordDraft {
                    key: (n % 2 == 0).then_some(b"even".as_slice()),
                    value: Some(value.as_bytes()),
                    headers: &[("h", Some(b"v")), ("none", None)],
                    timestamp_us: 5_000_000 + n,
                    id: Some(MessageId::new(u128::from(n) + 1)),
                })
                .unwrap();
        }
        let identity = BatchIdentity {
            producer_id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::ZERO,
            topic_hash: 0,
        };
        let draft = match codec {
            Codec::LZ4 => builder.finish_with(identity, codec, codec::pack),
            _ => builder.finish(identity),
        };
        draft.stamp(Stamp {
            base_offset: Offset::new(100),
            term: Term::new(3),
            append_time: HybridTime::from_parts(9_000_000, 1),
            group: GroupId::new(1),
        })
    }

    fn reader(batch: RecordBatch, from: u64, until: u64) -> BatchReader {
        let source = Source {
            topic: Arc::from("t"),
            partition: PartitionId::new(2),
            broker: Arc::from("broker-1"),
        };
        BatchReader::new(source, batch, Offset::new(from), Offset::new(until)).unwrap()
    }

    fn offsets(mut reader: BatchReader) -> Vec<u64> {
        std::iter::from_fn(|| reader.next())
            .map(|record| record.unwrap().offset.get())
            .collect()
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        for codec in [Codec::NONE, Codec::LZ4] {
            let mut reader = reader(batch(3, codec), 0, u64::MAX);
            let first = reader.next().unwrap().unwrap();
            assert_eq!(first.key.as_deref(), Some(b"even".as_slice()));
            assert!(first.text().unwrap().starts_with("value 0"));
            assert_eq!(first.headers.get("h"), Some(b"v".as_slice()));
            assert_eq!(first.id, Some(MessageId::new(1)));
            assert_eq!(first.producer_timestamp, time_of(5_000_000));
            let second = reader.next().unwrap().unwrap();
            assert_eq!((second.key, second.id), (None, Some(MessageId::new(2))));
            assert_eq!(second.offset, Offset::new(101));
        }
    }

    #[test]
    fn only_the_range_asked_for_is_given() {
        assert_eq!(offsets(reader(batch(5, Codec::NONE), 102, 104)), [102, 103]);
        assert_eq!(offsets(reader(batch(5, Codec::NONE), 0, 100)), []);
        assert_eq!(offsets(reader(batch(5, Codec::NONE), 105, u64::MAX)), []);
    }
}
