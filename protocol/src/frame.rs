//! The eight bytes in front of every message.
//!
//! Invariant: a length is compared with its kind's maximum before anyone allocates for it.

use crate::error_code::ErrorCode;
use crate::kind::Kind;

/// Bytes of a frame header.
pub const FRAME_HEADER_LEN: usize = 8;

/// Bytes of the trace context that stands before the body if [`Flags::TRACE`] is set.
pub const TRACE_LEN: usize = 26;

/// Header bytes that the length field counts.
const COUNTED_HEADER_LEN: u32 = 4;

/// What a receiver accepts right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest batch, as negotiated.
    pub batch_bytes_max: u32,
    /// Whether HelloAck has been sent or received.
    pub established: bool,
}

/// A frame's flag bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

/// The parsed header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes behind the header, trace context included.
    pub body_len: u32,
    /// What the body holds.
    pub kind: Kind,
    /// How to treat it.
    pub flags: Flags,
    /// The version of the body's layout.
    pub version: u16,
}

/// Why eight bytes are no acceptable frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length field is smaller than the header it counts.
    #[error("frame length {len} of kind {kind:?} does not cover the frame's own header")]
    TooShort {
        /// The kind.
        kind: Kind,
        /// The length field.
        len: u32,
    },
    /// The body is larger than its kind may be.
    #[error("{body_len} byte frame of kind {kind:?} exceeds the limit of {max}")]
    TooLarge {
        /// The kind.
        kind: Kind,
        /// The announced body length.
        body_len: u32,
        /// The largest allowed.
        max: u32,
    },
    /// Flag bits are set that have no meaning.
    #[error("frame of kind {kind:?} has reserved flags {flags:#04x} set")]
    ReservedFlags {
        /// The kind.
        kind: Kind,
        /// All flag bits.
        flags: u8,
    },
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// A receiver that does not know the kind ends the stream instead of skipping the frame.
    pub const CRITICAL: Self = Self(1);
    /// A trace context of [`TRACE_LEN`] bytes stands before the body.
    pub const TRACE: Self = Self(2);

    const KNOWN: u8 = Self::CRITICAL.0 | Self::TRACE.0;

    /// The raw bits.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FrameHeader {
    /// Reads a header and checks its length against what the kind may have.
    ///
    /// # Errors
    /// The length or a flag is not acceptable; the stream cannot go on.
    pub fn parse(bytes: &[u8; FRAME_HEADER_LEN], limits: &Limits) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, kind, flags, v0, v1] = *bytes;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let kind = Kind::new(kind);
        let Some(body_len) = len.checked_sub(COUNTED_HEADER_LEN) else {
            return Err(FrameError::TooShort { kind, len });
        };
        if flags & !Flags::KNOWN != 0 {
            return Err(FrameError::ReservedFlags { kind, flags });
        }
        let header = Self {
            body_len,
            kind,
            flags: Flags(flags),
            version: u16::from_le_bytes([v0, v1]),
        };
        if header.body_len_usize() < header.trace_len() {
            return Err(FrameError::TooShort { kind, len });
        }
        let max = kind.body_len_max(limits);
        if body_len > max {
            return Err(FrameError::TooLarge {
                kind,
                body_len,
                max,
            });
        }
        Ok(header)
    }

    /// The header's bytes. `body_len` must be at most `u32::MAX - 4`, as every limit is.
    pub const fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let [l0, l1, l2, l3] = self
            .body_len
            .saturating_add(COUNTED_HEADER_LEN)
            .to_le_bytes();
        let [v0, v1] = self.version.to_le_bytes();
        [l0, l1, l2, l3, self.kind.get(), self.flags.get(), v0, v1]
    }

    /// Bytes of trace context between header and body: 0 or [`TRACE_LEN`], never above `body_len`.
    pub const fn trace_len(&self) -> usize {
        if self.flags.contains(Flags::TRACE) {
            TRACE_LEN
        } else {
            0
        }
    }

    /// Bytes behind the header.
    pub const fn body_len_usize(&self) -> usize {
        self.body_len as usize
    }

    /// Whether a receiver that does not know the kind must end the stream.
    pub const fn is_critical(&self) -> bool {
        self.flags.contains(Flags::CRITICAL)
    }
}

impl FrameError {
    /// The code the stream is reset with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FRAME_TOO_LARGE,
            Self::TooShort { .. } | Self::ReservedFlags { .. } => ErrorCode::MALFORMED,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN: Limits = Limits {
        batch_bytes_max: 1024 * 1024,
        established: true,
    };
    const GREETING: Limits = Limits {
        batch_bytes_max: 1024 * 1024,
        established: false,
    };

    fn header(kind: Kind, body_len: u32) -> FrameHeader {
        FrameHeader {
            body_len,
            kind,
            flags: Flags::CRITICAL,
            version: 1,
        }
    }

    #[test]
    fn caps_follow_kind_and_phase() {
        for (kind, limits, max) in [
            (Kind::HELLO, GREETING, 4096),
            (Kind::REPLY, GREETING, 4096),
            (Kind::GREASE, GREETING, 4096),
            (Kind::HELLO_ACK, GREETING, 65_536),
            (Kind::REQUEST, OPEN, 65_536),
            (Kind::GREASE, OPEN, 65_536),
            (Kind::REPLY, OPEN, 1_048_576),
            (Kind::PUBLISH, OPEN, 1_052_672),
            (Kind::RECORDS, OPEN, 1_052_672),
        ] {
            assert!(FrameHeader::parse(&header(kind, max).encode(), &limits).is_ok());
            let refused = FrameHeader::parse(&header(kind, max + 1).encode(), &limits);
            assert_eq!(refused.unwrap_err().code(), ErrorCode::FRAME_TOO_LARGE);
        }
    }

    #[test]
    fn a_length_below_the_header_is_refused() {
        let mut bytes = header(Kind::PING, 0).encode();
        bytes[0] = 3;
        assert!(matches!(
            FrameHeader::parse(&bytes, &OPEN),
            Err(FrameError::TooShort { len: 3, .. })
        ));
    }

    #[test]
    fn a_traced_frame_holds_at_least_its_trace() {
        let mut traced = header(Kind::PING, 25);
        traced.flags = Flags::CRITICAL.union(Flags::TRACE);
        assert!(FrameHeader::parse(&traced.encode(), &OPEN).is_err());
        traced.body_len = 26;
        assert_eq!(
            FrameHeader::parse(&traced.encode(), &OPEN)
                .unwrap()
                .trace_len(),
            26
        );
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail_and_what_parses_encodes_back(bytes: [u8; 8], established: bool) {
            let limits = Limits { batch_bytes_max: 8 << 20, established };
            if let Ok(header) = FrameHeader::parse(&bytes, &limits) {
                prop_assert_eq!(header.encode(), bytes);
                prop_assert!(header.body_len <= header.kind.body_len_max(&limits));
            }
        }
    }
}
