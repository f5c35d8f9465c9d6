//! Growing a batch record by record, in the place where it will be sent from.
//!
//! Invariant: a refused record leaves the batch as it was.

use bytes::Bytes;
use bytes::BytesMut;

use crate::batch::draft::DraftBatch;
use crate::batch::layout;
use crate::batch::layout::Attributes;
use crate::batch::layout::BATCH_BYTES_MAX;
use crate::batch::layout::BATCH_HEADER_LEN;
use crate::batch::layout::BROKER_HEADER_LEN;
use crate::batch::layout::BatchError;
use crate::batch::layout::COMPRESSION_RATIO_MAX;
use crate::batch::layout::Codec;
use crate::batch::layout::MESSAGE_ID_LEN;
use crate::batch::layout::RECORDS_PER_BATCH_MAX;
use crate::batch::layout::RECORDS_WITH_IDS_MAX;
use crate::ids::MessageId;
use crate::ids::ProducerEpoch;
use crate::ids::ProducerId;
use crate::ids::Sequence;
use crate::varint::SCRATCH_LEN;
use crate::varint::Scratch;
use crate::varint::VARINT_LEN_MAX;
use crate::varint::varint_len;
use crate::varint::zigzag;

/// One message to be added to a batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordDraft<'a> {
    /// The key; records of one key keep their order.
    pub key: Option<&'a [u8]>,
    /// The value; none marks a key as deleted.
    pub value: Option<&'a [u8]>,
    /// Names with values, in order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// The producer's clock, in microseconds since 1970.
    pub timestamp_us: u64,
    /// The application's identity of the message.
    pub id: Option<MessageId>,
}

/// Who sends a batch, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchIdentity {
    /// Who numbers it.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub base_sequence: Sequence,
    /// The topic, as [`TopicId::hash32`](crate::TopicId::hash32).
    pub topic_hash: u32,
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    ids: Vec<MessageId>,
    count: u32,
    base_timestamp_us: u64,
    max_timestamp_us: u64,
}

impl BatchBuilder {
    /// A builder with room for `capacity` bytes of batch.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(BATCH_HEADER_LEN, BATCH_BYTES_MAX);
        let mut bytes = Vec::with_capacity(capacity);
        bytes.resize(BATCH_HEADER_LEN, 0);
        Self {
            bytes,
            ids: Vec::new(),
            count: 0,
            base_timestamp_us: 0,
            max_timestamp_us: 0,
        }
    }

    /// How many records there are.
    pub const fn record_count(&self) -> u32 {
        self.count
    }

    /// The batch's length in bytes if it were finished now.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.ids.len() * MESSAGE_ID_LEN
    }

    /// Whether there is no record.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a record.
    ///
    /// # Errors
    /// The batch would have too many records or bytes, or only some records with a message id.
    #[inline]
    pub fn push(&mut self, record: &RecordDraft<'_>) -> Result<(), BatchError> {
        let base = if self.count == 0 {
            record.timestamp_us
        } else {
            self.base_timestamp_us
        };
        let delta = zigzag(record.timestamp_us.wrapping_sub(base).cast_signed());
        let content = content_len(record, delta);
        self.check_room(record, content)?;

        self.base_timestamp_us = base;
        self.max_timestamp_us = self.max_timestamp_us.max(record.timestamp_us);
        self.count += 1;
        if let Some(id) = record.id {
            self.ids.push(id);
        }
        self.bytes.reserve(content + SCRATCH_LEN);
        self.write(record, content, delta);
        Ok(())
    }

    /// Completes the batch without compression.
    ///
    /// # Panics
    /// The batch has no record.
    pub fn finish(mut self, identity: BatchIdentity) -> DraftBatch {
        let records_len = self.records_len();
        self.insert_ids();
        let attributes = self.attributes(Codec::NONE);
        self.seal(identity, attributes, records_len)
    }

    /// Completes the batch, with its records compressed if that makes them smaller.
    ///
    /// # Panics
    /// The batch has no record.
    pub fn finish_with(
        mut self,
        identity: BatchIdentity,
        codec: Codec,
        compress: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> DraftBatch {
        let plain = self.bytes.get(BATCH_HEADER_LEN..).unwrap_or_default();
        let packed = compress(plain);
        let worth = packed.len() < plain.len()
            && plain.len() as u64 <= (packed.len() as u64).saturating_mul(COMPRESSION_RATIO_MAX);
        if !worth {
            return self.finish(identity);
        }
        let uncompressed = plain.len();
        self.bytes.truncate(BATCH_HEADER_LEN);
        self.bytes.extend_from_slice(&packed);
        self.insert_ids();
        let attributes = self.attributes(codec);
        self.seal(identity, attributes, uncompressed)
    }

    const fn attributes(&self, codec: Codec) -> Attributes {
        Attributes {
            codec,
            control: false,
            has_ids: !self.ids.is_empty(),
        }
    }

    /// Bytes of the records, before message ids are put in front of them.
    fn records_len(&self) -> usize {
        self.bytes.len() - BATCH_HEADER_LEN
    }

    #[inline]
    fn check_room(&self, record: &RecordDraft<'_>, content: usize) -> Result<(), BatchError> {
        let max = if record.id.is_some() {
            RECORDS_WITH_IDS_MAX
        } else {
            RECORDS_PER_BATCH_MAX
        };
        if self.count >= max {
            let count = u64::from(self.count) + 1;
            return Err(BatchError::RecordCount { count, max });
        }
        if self.count > 0 && record.id.is_some() == self.ids.is_empty() {
            return Err(BatchError::MixedIds);
        }
        let len = self.len().saturating_add(content) + VARINT_LEN_MAX + MESSAGE_ID_LEN;
        if len > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { len: len as u64 });
        }
        Ok(())
    }

    #[inline]
    fn write(&mut self, record: &RecordDraft<'_>, content: usize, delta: u64) {
        let mut front = Scratch::new();
        front.varint(content as u64);
        front.byte(0);
        front.varint(delta);
        match record.key {
            None => front.byte(0),
            Some(key) => {
                front.varint(key.len() as u64 + 1);
                front.append_to(&mut self.bytes);
                self.bytes.extend_from_slice(key);
                front = Scratch::new();
            }
        }
        match record.value {
            None => {
                front.byte(0);
                front.append_to(&mut self.bytes);
            }
            Some(value) => {
                front.varint(value.len() as u64 + 1);
                front.append_to(&mut self.bytes);
                self.bytes.extend_from_slice(value);
            }
        }
        if record.headers.is_empty() {
            self.bytes.push(0);
        } else {
            self.write_headers(record.headers);
        }
    }

    fn write_headers(&mut self, headers: &[(&str, Option<&[u8]>)]) {
        let mut front = Scratch::new();
        front.varint(headers.len() as u64);
        for (name, value) in headers {
            front.varint(name.len() as u64);
            front.append_to(&mut self.bytes);
            self.bytes.extend_from_slice(name.as_bytes());
            front = Scratch::new();
            match value {
                None => front.byte(0),
                Some(value) => {
                    front.varint(value.len() as u64 + 1);
                    front.append_to(&mut self.bytes);
                    self.bytes.extend_from_slice(value);
                    front = Scratch::new();
                }
            }
        }
        front.append_to(&mut self.bytes);
    }

    /// Moves the records back and puts the message ids before them.
    fn insert_ids(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let (end, area) = (self.bytes.len(), self.ids.len() * MESSAGE_ID_LEN);
        self.bytes.resize(end + area, 0);
        self.bytes
            .copy_within(BATCH_HEADER_LEN..end, BATCH_HEADER_LEN + area);
        let room = self.bytes.get_mut(BATCH_HEADER_LEN..).unwrap_or_default();
        let (slots, _) = room.as_chunks_mut::<MESSAGE_ID_LEN>();
        for (slot, id) in slots.iter_mut().zip(&self.ids) {
            *slot = id.get().to_le_bytes();
        }
    }

    /// Completes a batch that is the cluster's own.
    pub(crate) fn finish_control(self) -> DraftBatch {
        let identity = BatchIdentity {
            producer_id: ProducerId::new(0),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::ZERO,
            topic_hash: 0,
        };
        let attributes = Attributes {
            codec: Codec::NONE,
            control: true,
            has_ids: false,
        };
        let records_len = self.records_len();
        self.seal(identity, attributes, records_len)
    }

    fn seal(
        mut self,
        identity: BatchIdentity,
        attributes: Attributes,
        uncompressed: usize,
    ) -> DraftBatch {
        assert!(self.count > 0, "a batch has at least one record");
        let (count, base, max) = (self.count, self.base_timestamp_us, self.max_timestamp_us);
        let bytes = &mut self.bytes;
        let length_field = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let batch_len = length_field(bytes.len() - BROKER_HEADER_LEN);
        layout::put(bytes, layout::BATCH_LEN, &batch_len);
        layout::put(bytes, layout::MAGIC, &layout::MAGIC_AND_VERSION);
        layout::put(bytes, layout::ATTRIBUTES, &attributes.bits().to_le_bytes());
        layout::put(
            bytes,
            layout::PRODUCER_ID,
            &identity.producer_id.get().to_le_bytes(),
        );
        layout::put(
            bytes,
            layout::PRODUCER_EPOCH,
            &identity.epoch.get().to_le_bytes(),
        );
        layout::put(bytes, layout::RECORD_COUNT, &count.to_le_bytes());
        layout::put(
            bytes,
            layout::BASE_SEQUENCE,
            &identity.base_sequence.get().to_le_bytes(),
        );
        layout::put(bytes, layout::BASE_TIMESTAMP, &base.to_le_bytes());
        layout::put(bytes, layout::MAX_TIMESTAMP, &max.to_le_bytes());
        layout::put(bytes, layout::UNCOMPRESSED_LEN, &length_field(uncompressed));
        layout::put(
            bytes,
            layout::TOPIC_HASH,
            &identity.topic_hash.to_le_bytes(),
        );
        let checksum = layout::body_checksum(bytes);
        layout::put(bytes, layout::BODY_CRC, &checksum.to_le_bytes());
        DraftBatch::built(BytesMut::from(Bytes::from(self.bytes)))
    }
}

/// Bytes of a record behind its length field.
#[inline]
fn content_len(record: &RecordDraft<'_>, delta: u64) -> usize {
    let mut len = 1 + varint_len(delta) + optional_len(record.key) + optional_len(record.value);
    len += varint_len(record.headers.len() as u64);
    for (name, value) in record.headers {
        len += varint_len(name.len() as u64) + name.len() + optional_len(*value);
    }
    len
}

#[inline]
fn optional_len(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varint_len(bytes.len() as u64 + 1) + bytes.len(),
    }
}
