//! Record batches: the same bytes on the wire, in the Raft entry and on disk.
//!
//! ```text
//! broker's: a producer sends zeros except 28 and 36..39; patched once by the leader
//!  0 u64 base_offset                    24 u32 header_crc: CRC32C of 0..24, 28..40
//!  8 u64 term                           28 u32 batch_len: bytes after 40
//! 16 u64 append time                    32 u32 group
//!                                       36 u16 magic 51 42 | 38 u8 version 1 | 39 u8 0
//! producer's: never changed
//! 40 u32 body_crc: CRC32C of 44..end    64 u64 base_sequence
//! 44 u16 attributes                     72 u64 base_timestamp_us
//! 46 u16 0                              80 u64 max_timestamp_us
//! 48 u64 producer_id                    88 u32 uncompressed_len
//! 56 u32 producer_epoch                 92 u32 topic_hash
//! 60 u32 record_count
//! 96 message ids, 16 bytes per record, if attribute bit 4; then the records
//! ```
//!
//! Invariant: a [`RecordBatch`] or [`DraftBatch`] exists only with checked structure and checksums.

mod builder;
mod control;
mod draft;
mod layout;
mod record_batch;
mod records;

pub use builder::BatchBuilder;
pub use builder::BatchIdentity;
pub use builder::RecordDraft;
pub use control::ControlRecord;
pub use control::ControlType;
pub use control::control_batch;
pub use draft::DraftBatch;
pub use draft::Stamp;
pub use layout::Attributes;
pub use layout::BATCH_BYTES_MAX;
pub use layout::BATCH_HEADER_LEN;
pub use layout::BROKER_HEADER_LEN;
pub use layout::BatchError;
pub use layout::Codec;
pub use layout::RECORDS_PER_BATCH_MAX;
pub use layout::RECORDS_WITH_IDS_MAX;
pub use layout::UNCOMPRESSED_BYTES_MAX;
pub use record_batch::RecordBatch;
pub use records::Headers;
pub use records::RecordView;
pub use records::Records;
pub use records::records;
