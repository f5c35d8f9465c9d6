//! Shipping a replica's files to one that is too far behind for its log.

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Bounded;
use crate::checksum::crc32c;
use crate::frame::FRAME_HEADER_LEN;
use crate::frame::Flags;
use crate::frame::FrameHeader;
use crate::ids::GroupId;
use crate::ids::GroupTag;
use crate::ids::LogIndex;
use crate::ids::ReplicaId;
use crate::ids::Term;
use crate::kind::Kind;
use crate::message::DecodeError;
use crate::message::messages;
use crate::peer::cursor::Cursor;
use crate::wire_code::wire_code;

/// Bytes of a chunk's body before the piece of the file.
pub const SNAPSHOT_CHUNK_HEADER_LEN: usize = 16;

/// Bytes of a chunk's frame before the piece of the file.
pub const SNAPSHOT_CHUNK_PREFIX_LEN: usize = FRAME_HEADER_LEN + SNAPSHOT_CHUNK_HEADER_LEN;

/// The largest piece of a file in one chunk.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1024 * 1024;

wire_code! {
    /// What a file of a snapshot is.
    SnapshotFileKind(u16) {
        /// The state behind the last entry that is not kept.
        CHECKPOINT = 1,
        /// A closed segment.
        SEGMENT = 2,
    }
}

/// First frame of a snapshot stream: a replica asks for the files it needs. A refusal is a
/// [`StreamReject`](crate::StreamReject).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOpen {
    /// The group.
    pub group: GroupId,
    /// The group's incarnation.
    pub tag: GroupTag,
    /// The replica that asks.
    pub from: ReplicaId,
    /// The retention point it was told of.
    pub index: LogIndex,
    /// The term of the entry there.
    pub term: Term,
}

/// The files that will come, in this order: a checkpoint, then the segments behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotManifest {
    /// The files.
    pub files: Bounded<SnapshotFile, 65_536>,
    /// The last entry of the last file; committed.
    pub commit: LogIndex,
}

/// One file of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// What it is.
    pub kind: SnapshotFileKind,
    /// A segment's first entry; of a checkpoint the same as `last`.
    pub base: LogIndex,
    /// The last entry it covers.
    pub last: LogIndex,
    /// Its length in bytes.
    pub len: u64,
    /// CRC32C of all its bytes.
    pub crc: u32,
}

/// Where to begin in each file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotResume {
    /// Per file of the manifest, how many of its first bytes are there already.
    pub have: Bounded<u64, 65_536>,
}

/// Everything was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDone {
    /// Bytes of files that were sent on this stream.
    pub bytes: u64,
}

/// A piece of a file. Fixed layout: file, checksum, place, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The file's number in the manifest.
    pub file: u32,
    /// Where in the file the piece begins.
    pub at: u64,
    /// The piece, never empty; checked against its checksum.
    pub bytes: Bytes,
}

messages! {
    SnapshotOpen: SNAPSHOT_OPEN v 1,
    SnapshotManifest: SNAPSHOT_MANIFEST v 1,
    SnapshotResume: SNAPSHOT_RESUME v 1,
    SnapshotDone: SNAPSHOT_DONE v 1,
}

impl SnapshotChunk {
    /// The kind of its frame.
    pub const KIND: Kind = Kind::SNAPSHOT_CHUNK;
    /// The version of the body's layout.
    pub const VERSION: u16 = 1;

    /// The frame without the piece itself, which follows as it is; at most
    /// [`SNAPSHOT_CHUNK_BYTES_MAX`] bytes of it.
    pub fn frame_prefix(&self) -> [u8; SNAPSHOT_CHUNK_PREFIX_LEN] {
        let len = self.bytes.len() + SNAPSHOT_CHUNK_HEADER_LEN;
        let header = FrameHeader {
            body_len: u32::try_from(len).unwrap_or(u32::MAX),
            kind: Self::KIND,
            flags: Flags::CRITICAL,
            version: Self::VERSION,
        };
        let mut prefix = [0; SNAPSHOT_CHUNK_PREFIX_LEN];
        let fields = header.encode().into_iter();
        let fields = fields.chain(self.file.to_le_bytes());
        let fields = fields.chain(crc32c(&self.bytes).to_le_bytes());
        for (slot, byte) in prefix.iter_mut().zip(fields.chain(self.at.to_le_bytes())) {
            *slot = byte;
        }
        prefix
    }

    /// Reads the body of a chunk; the piece shares its bytes.
    ///
    /// # Errors
    /// The body is no chunk, the piece is empty, or its checksum is wrong.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut fields = Cursor::new("SnapshotChunk", body);
        let (file, crc, at) = (fields.u32()?, fields.u32()?, fields.u64()?);
        if fields.len() == 0 {
            return Err(fields.malformed("it holds no piece of a file"));
        }
        if fields.len() > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(fields.malformed("it holds more than 1 MiB"));
        }
        let bytes = std::mem::take(fields.left());
        if crc32c(&bytes) != crc {
            return Err(fields.malformed("its checksum is wrong"));
        }
        Ok(Self { file, at, bytes })
    }
}
