//! The types and constants of `quorate.h`, laid out as C sees them.
//!
//! Invariant: fields are appended, never moved, renamed or given another type.
#![expect(
    non_camel_case_types,
    reason = "these are the names that C programs use"
)]

use std::ffi::c_char;
use std::ffi::c_void;

/// `QUORATE_OK`, `QUORATE_END`, or a negative `QUORATE_E_...`: minus the code that the protocol
/// and `quorate explain` use.
pub type quorate_status_t = i32;

/// Done.
pub const QUORATE_OK: quorate_status_t = 0;
/// The end that was asked for with `subscribe.until` is reached.
pub const QUORATE_END: quorate_status_t = 1;

/// The work did not happen and will not.
pub const QUORATE_OUTCOME_NOT_APPLIED: u8 = 0;
/// It happened.
pub const QUORATE_OUTCOME_APPLIED: u8 = 1;
/// It may have happened. Sending again with the same message id is safe.
pub const QUORATE_OUTCOME_UNKNOWN: u8 = 2;

/// Sent; nothing is promised.
pub const QUORATE_LEVEL_NONE: u8 = 0;
/// In the leader's log.
pub const QUORATE_LEVEL_LEADER: u8 = 1;
/// In the memory of a majority of the replicas.
pub const QUORATE_LEVEL_QUORUM_MEMORY: u8 = 2;
/// On the disks of a majority of the replicas.
pub const QUORATE_LEVEL_QUORUM: u8 = 3;

/// `quorate_delivery_t.flags`: the message was there already; this is the first copy's place.
pub const QUORATE_DUPLICATE: u8 = 1;
/// `quorate_delivery_t.flags`: `offset`, `term` and `timestamp_us` are not known.
pub const QUORATE_NO_OFFSET: u8 = 2;
/// `quorate_message_t.flags`: send to `partition`, whatever the key is.
pub const QUORATE_MSG_HAS_PARTITION: u32 = 1;

/// Most important log lines.
pub const QUORATE_LOG_ERROR: i32 = 1;
/// Something needs attention.
pub const QUORATE_LOG_WARN: i32 = 2;
/// What a person may want to know.
pub const QUORATE_LOG_INFO: i32 = 3;
/// What a developer may want to know.
pub const QUORATE_LOG_DEBUG: i32 = 4;
/// Everything.
pub const QUORATE_LOG_TRACE: i32 = 5;

/// The version of this header.
pub const QUORATE_VERSION_MAJOR: u32 = 0;
/// See `QUORATE_VERSION_MAJOR`.
pub const QUORATE_VERSION_MINOR: u32 = 1;
/// See `QUORATE_VERSION_MAJOR`.
pub const QUORATE_VERSION_PATCH: u32 = 0;
/// `major * 10000 + minor * 100 + patch`.
pub const QUORATE_VERSION_NUMBER: u32 = 100;
/// What a program was compiled for; compare it with `quorate_abi_version()`.
pub const QUORATE_ABI_VERSION: u32 = 0;

/// A set of options: `section.key` and text.
#[derive(Debug)]
pub struct quorate_config_t {
    _never: (),
}

/// A connection with a cluster, and the thread that serves it. Thread-safe.
#[derive(Debug)]
pub struct quorate_client_t {
    _never: (),
}

/// Publishes to one topic, in order. Thread-safe.
#[derive(Debug)]
pub struct quorate_producer_t {
    _never: (),
}

/// Follows one topic. Thread-safe; each record goes to one caller.
#[derive(Debug)]
pub struct quorate_consumer_t {
    _never: (),
}

/// Some records, read-only until `quorate_batch_free`.
#[derive(Debug)]
pub struct quorate_batch_t {
    _never: (),
}

/// A name and a value that travel with a message.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct quorate_header_t {
    /// UTF-8; a name that a Rust program published with a NUL in it ends there.
    pub name: *const c_char,
    /// May be NULL if `value_len` is 0.
    pub value: *const c_void,
    /// Bytes of `value`.
    pub value_len: usize,
}

/// A message to be published; begin with `QUORATE_MESSAGE_INIT`. Everything is copied during the
/// call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct quorate_message_t {
    /// `sizeof(quorate_message_t)`.
    pub struct_size: usize,
    /// The value. NULL: no value, which together with a key says that the key is gone.
    pub payload: *const c_void,
    /// Bytes of `payload`.
    pub payload_len: usize,
    /// Messages of the same key go to the same partition, in order. NULL: no key.
    pub key: *const c_void,
    /// Bytes of `key`.
    pub key_len: usize,
    /// 16 bytes that identify the message (a UUID in the order of its text): a second one with the
    /// same id within the topic's window is not stored. NULL: none.
    pub id: *const u8,
    /// `headers_len` headers, or NULL.
    pub headers: *const quorate_header_t,
    /// The application's time in microseconds since 1970; 0: now.
    pub timestamp_us: i64,
    /// How many headers there are.
    pub headers_len: u32,
    /// Used with `QUORATE_MSG_HAS_PARTITION`.
    pub partition: u32,
    /// `QUORATE_MSG_...`
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// How a message ended.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct quorate_delivery_t {
    /// What `quorate_producer_send` was given.
    pub user_data: *mut c_void,
    /// The position in the partition; see `QUORATE_NO_OFFSET`.
    pub offset: u64,
    /// When the leader appended it, in microseconds since 1970.
    pub timestamp_us: i64,
    /// The leader's term.
    pub term: u64,
    /// `QUORATE_OK` or why it failed.
    pub status: quorate_status_t,
    /// The partition.
    pub partition: u32,
    /// `QUORATE_LEVEL_...`: what is promised.
    pub level: u8,
    /// `QUORATE_OUTCOME_...`
    pub outcome: u8,
    /// `QUORATE_DUPLICATE | QUORATE_NO_OFFSET`
    pub flags: u8,
    /// 0.
    pub reserved: [u8; 5],
}

/// One record. Every pointer is valid until `quorate_batch_free`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct quorate_record_t {
    /// The topic.
    pub topic: *const c_char,
    /// The name of the broker that served it.
    pub broker: *const c_char,
    /// The value; NULL: published without one.
    pub payload: *const c_void,
    /// Bytes of `payload`.
    pub payload_len: usize,
    /// The key; NULL: none.
    pub key: *const c_void,
    /// Bytes of `key`.
    pub key_len: usize,
    /// The application's id, 16 bytes; NULL: none.
    pub id: *const u8,
    /// The headers, in order; NULL: none.
    pub headers: *const quorate_header_t,
    /// How many headers there are.
    pub headers_len: usize,
    /// The position in the partition.
    pub offset: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// The hybrid time of the append: comparable across partitions and brokers.
    pub hlc: u64,
    /// When the leader appended it, in microseconds since 1970; never decreases with the offset.
    pub timestamp_us: i64,
    /// The partition.
    pub partition: u32,
    /// How often it was handed out: 1 for a subscription.
    pub attempt: u32,
}

/// What closing did.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct quorate_close_report_t {
    /// Messages that got their receipt while closing.
    pub flushed: u64,
    /// Messages that were given up without one.
    pub abandoned: u64,
}
