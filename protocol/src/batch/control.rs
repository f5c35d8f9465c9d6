//! Records that the cluster writes into its own logs.
//!
//! Invariant: a control batch holds exactly one record and takes no offset.

use bytes::Bytes;

use crate::batch::builder::BatchBuilder;
use crate::batch::builder::RecordDraft;
use crate::batch::draft::Stamp;
use crate::batch::layout::BATCH_HEADER_LEN;
use crate::batch::layout::BatchError;
use crate::batch::record_batch::RecordBatch;
use crate::batch::records::records;
use crate::ids::LogIndex;
use crate::ids::Offset;
use crate::wire_code::wire_code;

wire_code! {
    /// Types of control records.
    ControlType(u16) {
        /// See [`ControlRecord::Blank`].
        BLANK = 0,
        /// See [`ControlRecord::Membership`].
        MEMBERSHIP = 1,
        /// See [`ControlRecord::Trim`].
        TRIM = 2,
        /// See [`ControlRecord::DataLoss`].
        DATA_LOSS = 3,
        /// See [`ControlRecord::Metadata`].
        METADATA = 4,
        /// See [`ControlRecord::Duplicates`].
        DUPLICATES = 5,
    }
}

/// One entry of a log that is not a producer's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlRecord {
    /// A new leader's first entry.
    Blank,
    /// A change of the group's members, in the layout of the replication engine.
    Membership(Bytes),
    /// Entries up to and including this one are no longer kept.
    Trim {
        /// The last entry to go.
        up_to: LogIndex,
    },
    /// Acknowledged records from this offset on were lost.
    DataLoss {
        /// The first lost offset.
        from: Offset,
    },
    /// A command of the metadata group, in that group's layout.
    Metadata(Bytes),
    /// The messages of a producer's batch are all in the log already; its numbers are used up. In
    /// the layout of the partition's rules.
    Duplicates(Bytes),
}

/// A control record as a stamped batch.
///
/// # Errors
/// The record's content exceeds what a batch may hold.
pub fn control_batch(record: &ControlRecord, stamp: Stamp) -> Result<RecordBatch, BatchError> {
    let timestamp_us = stamp.append_time.micros();
    let value = record.encode();
    let mut builder = BatchBuilder::new(BATCH_HEADER_LEN + value.len() + 32);
    builder.push(&RecordDraft {
        key: None,
        value: Some(&value),
        headers: &[],
        timestamp_us,
        id: None,
    })?;
    Ok(builder.finish_control().stamp(stamp))
}

impl ControlRecord {
    /// Reads the record of a control batch.
    ///
    /// # Errors
    /// The batch is a producer's, or its record is of an unknown type or malformed.
    pub fn decode(batch: &RecordBatch) -> Result<Self, BatchError> {
        if !batch.attributes().control {
            let why = "the batch is a producer's";
            return Err(BatchError::Control { why });
        }
        let payload = batch.payload();
        let mut all = records(&payload, batch.record_count(), batch.base_timestamp_us());
        let first = all.next().transpose()?;
        if let Some(more) = all.next() {
            more?;
        }
        let Some(value) = first.and_then(|record| record.value) else {
            let why = "it has no value";
            return Err(BatchError::Control { why });
        };
        Self::from_value(&payload.slice_ref(value))
    }

    fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Blank => (ControlType::BLANK, &[][..]),
            Self::Membership(change) => (ControlType::MEMBERSHIP, &change[..]),
            Self::Trim { up_to } => (ControlType::TRIM, &up_to.get().to_le_bytes()[..]),
            Self::DataLoss { from } => (ControlType::DATA_LOSS, &from.get().to_le_bytes()[..]),
            Self::Metadata(command) => (ControlType::METADATA, &command[..]),
            Self::Duplicates(note) => (ControlType::DUPLICATES, &note[..]),
        };
        let mut value = Vec::with_capacity(2 + body.len());
        value.extend_from_slice(&kind.get().to_le_bytes());
        value.extend_from_slice(body);
        value
    }

    fn from_value(value: &Bytes) -> Result<Self, BatchError> {
        let malformed = |why| BatchError::Control { why };
        let Some((kind, body)) = value.split_first_chunk() else {
            return Err(malformed("it ends inside its type"));
        };
        let number = || {
            let bytes = body
                .try_into()
                .map_err(|_| malformed("it is not 8 bytes long"))?;
            Ok(u64::from_le_bytes(bytes))
        };
        match ControlType::new(u16::from_le_bytes(*kind)) {
            ControlType::BLANK if body.is_empty() => Ok(Self::Blank),
            ControlType::BLANK => Err(malformed("a blank record has content")),
            ControlType::MEMBERSHIP => Ok(Self::Membership(value.slice_ref(body))),
            ControlType::TRIM => number().map(|raw| Self::Trim {
                up_to: LogIndex::new(raw),
            }),
            ControlType::DATA_LOSS => number().map(|raw| Self::DataLoss {
                from: Offset::new(raw),
            }),
            ControlType::METADATA => Ok(Self::Metadata(value.slice_ref(body))),
            ControlType::DUPLICATES => Ok(Self::Duplicates(value.slice_ref(body))),
            _ => Err(malformed("its type is not known")),
        }
    }
}
