//! Where each field of a batch stands, and what makes a batch well-formed.

use crate::checksum::crc32c;
use crate::error_code::ErrorCode;
use crate::wire_code::wire_code;

/// Bytes of the part the leader patches.
pub const BROKER_HEADER_LEN: usize = 40;
/// Bytes before the message ids and records.
pub const BATCH_HEADER_LEN: usize = 96;
/// The largest batch.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most records of a batch.
pub const RECORDS_PER_BATCH_MAX: u32 = 65_536;
/// The most records of a batch that carries message ids.
pub const RECORDS_WITH_IDS_MAX: u32 = 4096;
/// The most bytes a batch's records may have before compression.
pub const UNCOMPRESSED_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// How many times larger than stored records may be before compression.
pub(crate) const COMPRESSION_RATIO_MAX: u64 = 1000;
/// Bytes of one message id.
pub(crate) const MESSAGE_ID_LEN: usize = 16;
/// The fewest bytes a record takes: six one-byte fields.
const RECORD_BYTES_MIN: u64 = 6;

pub(crate) const BASE_OFFSET: usize = 0;
pub(crate) const TERM: usize = 8;
pub(crate) const APPEND_TIME: usize = 16;
pub(crate) const HEADER_CRC: usize = 24;
pub(crate) const BATCH_LEN: usize = 28;
pub(crate) const GROUP: usize = 32;
pub(crate) const MAGIC: usize = 36;
pub(crate) const BODY_CRC: usize = 40;
pub(crate) const ATTRIBUTES: usize = 44;
const RESERVED: usize = 46;
pub(crate) const PRODUCER_ID: usize = 48;
pub(crate) const PRODUCER_EPOCH: usize = 56;
pub(crate) const RECORD_COUNT: usize = 60;
pub(crate) const BASE_SEQUENCE: usize = 64;
pub(crate) const BASE_TIMESTAMP: usize = 72;
pub(crate) const MAX_TIMESTAMP: usize = 80;
pub(crate) const UNCOMPRESSED_LEN: usize = 88;
pub(crate) const TOPIC_HASH: usize = 92;

/// Magic, version and a zero byte.
pub(crate) const MAGIC_AND_VERSION: [u8; 4] = [0x51, 0x42, 1, 0];

wire_code! {
    /// How a batch's records are compressed.
    Codec(u8) {
        /// Not at all.
        NONE = 0,
        /// LZ4 block.
        LZ4 = 1,
        /// Zstandard frame.
        ZSTD = 2,
    }
}

/// A batch's attribute bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// How the records are compressed.
    pub codec: Codec,
    /// Whether the batch is the cluster's own, not a producer's.
    pub control: bool,
    /// Whether message ids stand before the records.
    pub has_ids: bool,
}

/// Why bytes are no batch, or a record does not fit into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch has {have} of {need} bytes")]
    Truncated {
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// Bytes follow the batch.
    #[error("{count} bytes follow the batch")]
    Trailing {
        /// How many.
        count: u64,
    },
    /// The bytes are of another format or a newer version.
    #[error("the bytes do not begin like a version 1 batch: magic and version are {found:02x?}")]
    Format {
        /// What stands at bytes 36 to 39.
        found: [u8; 4],
    },
    /// The broker's header was changed after it was written.
    #[error("header checksum {computed:08x} differs from the stored {stored:08x}")]
    HeaderChecksum {
        /// What the header says.
        stored: u32,
        /// What it is.
        computed: u32,
    },
    /// The producer's bytes were changed after they were written.
    #[error("body checksum {computed:08x} differs from the stored {stored:08x}")]
    BodyChecksum {
        /// What the batch says.
        stored: u32,
        /// What it is.
        computed: u32,
    },
    /// A producer filled in what only the leader may.
    #[error("the fields that the leader fills in are not zero")]
    AlreadyStamped,
    /// Bits are set that have no meaning.
    #[error("reserved attribute bits are set: {attributes:#06x}")]
    ReservedBits {
        /// All attribute bits.
        attributes: u16,
    },
    /// The batch is compressed in a way this build does not know.
    #[error("compression codec {codec} is not known")]
    UnsupportedCodec {
        /// The codec's number.
        codec: u8,
    },
    /// The number of records is zero or too large.
    #[error("a batch of {count} records is not allowed: 1 to {max}")]
    RecordCount {
        /// The number.
        count: u64,
        /// The most allowed.
        max: u32,
    },
    /// The batch exceeds [`BATCH_BYTES_MAX`].
    #[error("a batch of {len} bytes exceeds the maximum of 8 MiB")]
    TooLarge {
        /// Its length.
        len: u64,
    },
    /// The uncompressed length cannot be true or is more than a reader accepts.
    #[error("{uncompressed} uncompressed bytes cannot stand for {stored} stored ones")]
    UncompressedLength {
        /// The stated length.
        uncompressed: u32,
        /// Bytes of the stored records.
        stored: u64,
    },
    /// The largest timestamp is smaller than the first.
    #[error("the batch's largest timestamp is before its first")]
    Timestamps,
    /// A record is not laid out as it must be.
    #[error("record {index} of the batch is malformed: {why}")]
    Record {
        /// The record's place in the batch.
        index: u32,
        /// Why.
        why: &'static str,
    },
    /// Some records of a batch have message ids and some have not.
    #[error("either all records of a batch have a message id or none has")]
    MixedIds,
    /// A control batch does not hold exactly one readable control record.
    #[error("the control record is malformed: {why}")]
    Control {
        /// Why.
        why: &'static str,
    },
}

impl BatchError {
    /// The code for a peer that sent such a batch.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } | Self::RecordCount { .. } => ErrorCode::BATCH_TOO_LARGE,
            Self::UnsupportedCodec { .. } => ErrorCode::UNSUPPORTED_CODEC,
            Self::MixedIds => ErrorCode::INVALID_ARGUMENT,
            _ => ErrorCode::CORRUPT_BATCH,
        }
    }
}

impl Attributes {
    const CODEC_MASK: u16 = 0b111;
    const CONTROL: u16 = 1 << 3;
    const IDS: u16 = 1 << 4;
    const KNOWN: u16 = Self::CODEC_MASK | Self::CONTROL | Self::IDS;

    pub(crate) const fn from_bits(bits: u16) -> Self {
        let [low, _] = (bits & Self::CODEC_MASK).to_le_bytes();
        Self {
            codec: Codec::new(low),
            control: bits & Self::CONTROL != 0,
            has_ids: bits & Self::IDS != 0,
        }
    }

    pub(crate) const fn bits(self) -> u16 {
        let mut bits = self.codec.get() as u16 & Self::CODEC_MASK;
        if self.control {
            bits |= Self::CONTROL;
        }
        if self.has_ids {
            bits |= Self::IDS;
        }
        bits
    }
}

/// Reads an array; a batch is never shorter than its header, so the default is never seen.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|tail| tail.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// Writes `value` at a place inside the header.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let room = bytes.get_mut(at..at + value.len());
    assert!(
        room.is_some(),
        "a batch under construction holds its header"
    );
    if let Some(room) = room {
        room.copy_from_slice(value);
    }
}

pub(crate) fn attributes(bytes: &[u8]) -> Attributes {
    Attributes::from_bits(u16_at(bytes, ATTRIBUTES))
}

/// Where the records begin, behind header and message ids.
pub(crate) fn records_at(bytes: &[u8]) -> usize {
    if attributes(bytes).has_ids {
        let count = u32_at(bytes, RECORD_COUNT) as usize;
        BATCH_HEADER_LEN.saturating_add(count.saturating_mul(MESSAGE_ID_LEN))
    } else {
        BATCH_HEADER_LEN
    }
}

/// CRC32C of the broker's header without the checksum itself.
pub(crate) fn header_checksum(bytes: &[u8]) -> u32 {
    let mut covered = [0; BROKER_HEADER_LEN - 4];
    let before = bytes.get(..HEADER_CRC).unwrap_or_default();
    let after = bytes.get(BATCH_LEN..BROKER_HEADER_LEN).unwrap_or_default();
    for (slot, byte) in covered.iter_mut().zip(before.iter().chain(after)) {
        *slot = *byte;
    }
    crc32c(&covered)
}

/// CRC32C of the producer's bytes without the checksum itself.
pub(crate) fn body_checksum(bytes: &[u8]) -> u32 {
    crc32c(bytes.get(ATTRIBUTES..).unwrap_or_default())
}

/// The whole length of the batch that `bytes` begin with.
pub(crate) fn whole_len(bytes: &[u8]) -> Result<usize, BatchError> {
    let have = bytes.len() as u64;
    if bytes.len() < BATCH_HEADER_LEN {
        let need = BATCH_HEADER_LEN as u64;
        return Err(BatchError::Truncated { need, have });
    }
    let found = array_at(bytes, MAGIC);
    if found != MAGIC_AND_VERSION {
        return Err(BatchError::Format { found });
    }
    let need = u64::from(u32_at(bytes, BATCH_LEN)) + BROKER_HEADER_LEN as u64;
    if need > BATCH_BYTES_MAX as u64 {
        return Err(BatchError::TooLarge { len: need });
    }
    if need < BATCH_HEADER_LEN as u64 {
        return Err(BatchError::Truncated {
            need: BATCH_HEADER_LEN as u64,
            have: need,
        });
    }
    if need > have {
        return Err(BatchError::Truncated { need, have });
    }
    usize::try_from(need).map_err(|_| BatchError::TooLarge { len: need })
}

/// Refuses bytes that are not exactly one batch.
pub(crate) fn check_whole(bytes: &[u8]) -> Result<(), BatchError> {
    let len = whole_len(bytes)?;
    match bytes.len().saturating_sub(len) as u64 {
        0 => Ok(()),
        count => Err(BatchError::Trailing { count }),
    }
}

/// Checks everything the producer wrote; `bytes` are exactly one batch.
pub(crate) fn check_producer_section(bytes: &[u8]) -> Result<(), BatchError> {
    let bits = u16_at(bytes, ATTRIBUTES);
    if bits & !Attributes::KNOWN != 0 || u16_at(bytes, RESERVED) != 0 {
        return Err(BatchError::ReservedBits { attributes: bits });
    }
    let attributes = Attributes::from_bits(bits);
    if attributes.codec.name().is_none() {
        let codec = attributes.codec.get();
        return Err(BatchError::UnsupportedCodec { codec });
    }
    check_count(bytes, attributes)?;
    check_sizes(bytes, attributes)?;
    if u64_at(bytes, MAX_TIMESTAMP) < u64_at(bytes, BASE_TIMESTAMP) {
        return Err(BatchError::Timestamps);
    }
    let (stored, computed) = (u32_at(bytes, BODY_CRC), body_checksum(bytes));
    if stored != computed {
        return Err(BatchError::BodyChecksum { stored, computed });
    }
    Ok(())
}

fn check_count(bytes: &[u8], attributes: Attributes) -> Result<(), BatchError> {
    let count = u32_at(bytes, RECORD_COUNT);
    let max = match attributes {
        Attributes { control: true, .. } => 1,
        Attributes { has_ids: true, .. } => RECORDS_WITH_IDS_MAX,
        _ => RECORDS_PER_BATCH_MAX,
    };
    if count == 0 || count > max {
        let count = u64::from(count);
        return Err(BatchError::RecordCount { count, max });
    }
    if attributes.control && (attributes.has_ids || attributes.codec != Codec::NONE) {
        let why = "it is compressed or has a message id";
        return Err(BatchError::Control { why });
    }
    Ok(())
}

fn check_sizes(bytes: &[u8], attributes: Attributes) -> Result<(), BatchError> {
    let (have, need) = (bytes.len() as u64, records_at(bytes) as u64);
    let Some(stored) = have.checked_sub(need) else {
        return Err(BatchError::Truncated { need, have });
    };
    let uncompressed = u32_at(bytes, UNCOMPRESSED_LEN);
    let least = u64::from(u32_at(bytes, RECORD_COUNT)) * RECORD_BYTES_MIN;
    let plausible = u64::from(uncompressed) >= least
        && uncompressed <= UNCOMPRESSED_BYTES_MAX
        && if attributes.codec == Codec::NONE {
            u64::from(uncompressed) == stored
        } else {
            u64::from(uncompressed) <= stored.saturating_mul(COMPRESSION_RATIO_MAX)
        };
    if plausible {
        return Ok(());
    }
    Err(BatchError::UncompressedLength {
        uncompressed,
        stored,
    })
}

/// Generates accessors of what the producer wrote; the type's first field holds the bytes.
macro_rules! producer_section {
    ($name:ty) => {
        impl $name {
            /// The batch's length in bytes.
            #[expect(clippy::len_without_is_empty, reason = "a batch always has bytes")]
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// CRC32C of the producer's section.
            pub fn body_crc(&self) -> u32 {
                crate::batch::layout::u32_at(&self.0, crate::batch::layout::BODY_CRC)
            }

            /// What kind of batch it is.
            pub fn attributes(&self) -> crate::batch::layout::Attributes {
                crate::batch::layout::attributes(&self.0)
            }

            /// Who numbered the batch.
            pub fn producer_id(&self) -> crate::ids::ProducerId {
                let raw = crate::batch::layout::u64_at(&self.0, crate::batch::layout::PRODUCER_ID);
                crate::ids::ProducerId::new(raw)
            }

            /// The producer's epoch.
            pub fn producer_epoch(&self) -> crate::ids::ProducerEpoch {
                let at = crate::batch::layout::PRODUCER_EPOCH;
                crate::ids::ProducerEpoch::new(crate::batch::layout::u32_at(&self.0, at))
            }

            /// The sequence of the first record.
            pub fn base_sequence(&self) -> crate::ids::Sequence {
                let at = crate::batch::layout::BASE_SEQUENCE;
                crate::ids::Sequence::new(crate::batch::layout::u64_at(&self.0, at))
            }

            /// How many records there are.
            pub fn record_count(&self) -> u32 {
                crate::batch::layout::u32_at(&self.0, crate::batch::layout::RECORD_COUNT)
            }

            /// The first record's time by the producer's clock.
            pub fn base_timestamp_us(&self) -> u64 {
                crate::batch::layout::u64_at(&self.0, crate::batch::layout::BASE_TIMESTAMP)
            }

            /// The latest record's time by the producer's clock.
            pub fn max_timestamp_us(&self) -> u64 {
                crate::batch::layout::u64_at(&self.0, crate::batch::layout::MAX_TIMESTAMP)
            }

            /// Bytes of the records before compression.
            pub fn uncompressed_len(&self) -> u32 {
                crate::batch::layout::u32_at(&self.0, crate::batch::layout::UNCOMPRESSED_LEN)
            }

            /// The topic the batch was made for, as [`TopicId::hash32`](crate::TopicId::hash32).
            pub fn topic_hash(&self) -> u32 {
                crate::batch::layout::u32_at(&self.0, crate::batch::layout::TOPIC_HASH)
            }

            /// The records' message ids in order; none if the batch has no ids.
            pub fn message_ids(&self) -> impl ExactSizeIterator<Item = crate::ids::MessageId> + '_ {
                crate::batch::layout::message_ids(&self.0)
            }
        }
    };
}

pub(crate) use producer_section;

pub(crate) fn message_ids(
    bytes: &[u8],
) -> impl ExactSizeIterator<Item = crate::ids::MessageId> + '_ {
    let area = bytes
        .get(BATCH_HEADER_LEN..records_at(bytes))
        .unwrap_or_default();
    let (ids, _) = area.as_chunks::<MESSAGE_ID_LEN>();
    ids.iter()
        .map(|id| crate::ids::MessageId::new(u128::from_le_bytes(*id)))
}
