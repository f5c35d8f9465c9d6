//! Following and reading a partition.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Text;
use crate::error_code::ErrorCode;
use crate::frame::FRAME_HEADER_LEN;
use crate::frame::Flags;
use crate::frame::FrameHeader;
use crate::ids::Credit;
use crate::ids::Offset;
use crate::kind::Kind;
use crate::message::messages;
use crate::wire_code::wire_code;

wire_code! {
    /// Why records are missing.
    GapReason(u16) {
        /// Retention removed them.
        RETENTION = 1,
        /// The subscriber was slow and asked to skip.
        SLOW = 2,
        /// The cluster lost them.
        DATA_LOSS = 3,
    }
}

/// The subscriber has room for more; both counts only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditGrant {
    /// Bytes, cumulative from the stream's start.
    pub bytes: Credit,
    /// Records, cumulative from the stream's start.
    pub records: Credit,
}

/// How far behind the subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The first offset that is not committed.
    pub high_watermark: Offset,
    /// Committed records not sent yet.
    pub lag: u64,
}

/// Records `[from, to)` will not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first missing offset.
    pub from: Offset,
    /// The first offset after the gap.
    pub to: Offset,
    /// Why.
    pub reason: GapReason,
}

/// The subscription ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why; `OK` if its end was reached.
    pub code: ErrorCode,
    /// For people.
    pub detail: Text<1024>,
}

/// The range was read as far as the limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadEnd {
    /// Where the next read continues.
    pub next: Offset,
    /// The first kept offset.
    pub log_start: Offset,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
}

messages! {
    CreditGrant: CREDIT v 1,
    Progress: PROGRESS v 1,
    Gap: GAP v 1,
    End: END v 1,
    ReadEnd: READ_END v 1,
}

/// The header of a Records frame whose batches take `total_len` bytes.
pub const fn records_header(total_len: u32) -> [u8; FRAME_HEADER_LEN] {
    let header = FrameHeader {
        body_len: total_len,
        kind: Kind::RECORDS,
        flags: Flags::CRITICAL,
        version: 1,
    };
    header.encode()
}
