//! What brokers say to each other.
//!
//! Invariant: entries of a log travel as the batches they are; nothing here re-encodes or copies a
//! large one.

mod cursor;
mod envelope;
mod hello;
mod request;
mod snapshot;

pub use envelope::Envelope;
pub use envelope::PeerBody;
pub use envelope::PeerEntry;
pub use envelope::PeerMessage;
pub use hello::LaneOpen;
pub use hello::PeerHello;
pub use hello::PeerHelloAck;
pub use hello::PeerPurpose;
pub use request::FollowerState;
pub use request::LedPartition;
pub use request::PeerClock;
pub use request::PeerClockReply;
pub use request::PeerForward;
pub use request::PeerForwarded;
pub use request::PeerJoined;
pub use request::PeerMember;
pub use request::PeerStatus;
pub use request::PeerTransfer;
pub use snapshot::SNAPSHOT_CHUNK_BYTES_MAX;
pub use snapshot::SNAPSHOT_CHUNK_HEADER_LEN;
pub use snapshot::SNAPSHOT_CHUNK_PREFIX_LEN;
pub use snapshot::SnapshotChunk;
pub use snapshot::SnapshotDone;
pub use snapshot::SnapshotFile;
pub use snapshot::SnapshotFileKind;
pub use snapshot::SnapshotManifest;
pub use snapshot::SnapshotOpen;
pub use snapshot::SnapshotResume;
