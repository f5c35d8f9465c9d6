//! Frame kinds and how large a frame of each may be.

use crate::frame::Limits;
use crate::wire_code::wire_code;

wire_code! {
    /// What a frame holds. `0x7F` is never assigned: peers send it to keep skipping exercised.
    Kind(u8) {
        /// First frame of a client connection.
        HELLO = 0x01,
        /// The broker accepts the connection.
        HELLO_ACK = 0x02,
        /// The broker refuses the connection.
        HELLO_REJECT = 0x03,
        /// A question that carries a correlation number.
        REQUEST = 0x04,
        /// Its answer.
        REPLY = 0x05,
        /// Proves that the peer's loop turns.
        PING = 0x06,
        /// Answer to a ping.
        PONG = 0x07,
        /// Topics changed.
        TOPOLOGY_UPDATE = 0x08,
        /// The broker asks the client to move.
        GO_AWAY = 0x0A,
        /// First frame of every other stream.
        STREAM_OPEN = 0x10,
        /// The stream may be used.
        STREAM_ACCEPT = 0x11,
        /// The stream is refused.
        STREAM_REJECT = 0x12,
        /// One batch to append.
        PUBLISH = 0x20,
        /// Receipts, in order.
        ACKS = 0x21,
        /// Batches that were not appended, or whose fate is unknown.
        NACK = 0x22,
        /// Publishing resumes at a sequence.
        REWIND = 0x23,
        /// The subscriber has room for more.
        CREDIT = 0x30,
        /// Stored batches, verbatim.
        RECORDS = 0x31,
        /// How far behind the subscriber is.
        PROGRESS = 0x32,
        /// Records that will never be delivered.
        GAP = 0x33,
        /// The subscription ended.
        END = 0x37,
        /// The range was read.
        READ_END = 0x38,
        /// First frame of a connection between brokers.
        PEER_HELLO = 0x40,
        /// The dialled broker accepts the connection.
        PEER_HELLO_ACK = 0x41,
        /// First frame of a stream of envelopes.
        LANE_OPEN = 0x42,
        /// Messages of replicas.
        ENVELOPE = 0x43,
        /// A replica asks for a snapshot.
        SNAPSHOT_OPEN = 0x48,
        /// The files of a snapshot.
        SNAPSHOT_MANIFEST = 0x49,
        /// What of them is there already.
        SNAPSHOT_RESUME = 0x4A,
        /// A piece of a file.
        SNAPSHOT_CHUNK = 0x4B,
        /// All files were sent.
        SNAPSHOT_DONE = 0x4C,
    }
}

impl Kind {
    /// The kind that is never assigned.
    pub const GREASE: Self = Self::new(0x7F);

    /// Frames before the connection is established.
    const HELLO_BYTES: u32 = 4 * 1024;
    /// Control, open and admin frames, and kinds this build does not know.
    const CONTROL_BYTES: u32 = 64 * 1024;
    /// Replies and topology pages.
    const PAGE_BYTES: u32 = 1024 * 1024;
    /// What Publish and Records may hold besides batches.
    const BATCH_EXTRA_BYTES: u32 = 4 * 1024;

    /// One batch of the largest size, or many small ones, with their messages.
    pub(crate) const ENVELOPE_BYTES: u32 = 8 * 1024 * 1024 + 64 * 1024;
    /// Lists of a snapshot's files.
    const MANIFEST_BYTES: u32 = 4 * 1024 * 1024;
    /// A piece of a file and where it belongs.
    const CHUNK_BYTES: u32 = 1024 * 1024 + 64;

    /// The most bytes a frame of this kind may hold behind its header.
    pub const fn body_len_max(self, limits: &Limits) -> u32 {
        match self {
            Self::HELLO_ACK => Self::CONTROL_BYTES,
            _ if !limits.established => Self::HELLO_BYTES,
            Self::REPLY | Self::TOPOLOGY_UPDATE => Self::PAGE_BYTES,
            Self::PUBLISH | Self::RECORDS => limits
                .batch_bytes_max
                .saturating_add(Self::BATCH_EXTRA_BYTES),
            Self::ENVELOPE => Self::ENVELOPE_BYTES,
            Self::SNAPSHOT_MANIFEST | Self::SNAPSHOT_RESUME => Self::MANIFEST_BYTES,
            Self::SNAPSHOT_CHUNK => Self::CHUNK_BYTES,
            _ => Self::CONTROL_BYTES,
        }
    }
}
