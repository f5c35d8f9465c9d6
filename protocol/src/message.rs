//! How messages become frame bodies and back.
//!
//! Invariant: the layout of a `(kind, version)` is frozen; a change is a new type with a new
//! version.

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Blob;
use crate::bounded::TooLong;
use crate::error_code::ErrorCode;
use crate::frame::FRAME_HEADER_LEN;
use crate::frame::Flags;
use crate::frame::FrameHeader;
use crate::kind::Kind;

/// Something that travels as the body of one frame.
pub trait Message: Sized {
    /// The frame kind.
    const KIND: Kind;
    /// The version of the body's layout.
    const VERSION: u16;

    /// Appends the body to `out`.
    fn encode_body(&self, out: &mut Vec<u8>);

    /// Reads a body from the front of `bytes` and returns what follows it.
    ///
    /// # Errors
    /// The bytes are not of this layout.
    fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError>;

    /// Reads a body of exactly this version.
    ///
    /// # Errors
    /// The bytes are not of this layout, or some are left over.
    fn decode_body(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (message, rest) = Self::decode_prefix(bytes)?;
        finish(Self::KIND, rest)?;
        Ok(message)
    }

    /// Reads the body of the frame behind `header`; a trace context has been taken off already.
    ///
    /// A newer version that is not critical may have more fields, which are ignored.
    ///
    /// # Errors
    /// The frame is of another kind or of a version that cannot be read, or its bytes are wrong.
    fn decode_frame(header: &FrameHeader, body: &[u8]) -> Result<Self, DecodeError> {
        if header.kind != Self::KIND {
            return Err(DecodeError::Kind {
                expected: Self::KIND,
                got: header.kind,
            });
        }
        if header.version == Self::VERSION {
            return Self::decode_body(body);
        }
        if header.version < Self::VERSION || header.is_critical() {
            return Err(DecodeError::Version {
                kind: header.kind,
                version: header.version,
            });
        }
        Self::decode_prefix(body).map(|(message, _)| message)
    }

    /// The whole frame, marked critical.
    fn to_frame(&self) -> Bytes {
        let mut frame = vec![0; FRAME_HEADER_LEN];
        self.encode_body(&mut frame);
        let body_len = u32::try_from(frame.len() - FRAME_HEADER_LEN).unwrap_or(u32::MAX);
        let header = FrameHeader {
            body_len,
            kind: Self::KIND,
            flags: Flags::CRITICAL,
            version: Self::VERSION,
        };
        if let Some(front) = frame.first_chunk_mut() {
            *front = header.encode();
        }
        Bytes::from(frame)
    }
}

/// Something that travels inside a message: stream parameters, a request's or reply's content.
pub trait Body: Sized {
    /// The encoded content.
    fn to_bytes(&self) -> Bytes;

    /// Reads the content, all of it.
    ///
    /// # Errors
    /// The bytes are not of this layout, or some are left over.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The encoded content as a message field.
    ///
    /// # Errors
    /// It takes more than `N` bytes.
    fn to_blob<const N: usize>(&self) -> Result<Blob<N>, TooLong> {
        Blob::new(self.to_bytes())
    }
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame holds another kind than the one expected here.
    #[error("a frame of kind {got:?} came where {expected:?} was expected")]
    Kind {
        /// What was expected.
        expected: Kind,
        /// What came.
        got: Kind,
    },
    /// The layout is of a version this build cannot read.
    #[error("version {version} of frame kind {kind:?} is not supported")]
    Version {
        /// The kind.
        kind: Kind,
        /// Its version.
        version: u16,
    },
    /// The bytes are not of the layout.
    #[error("{what} does not decode: {why}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Why it failed.
        why: &'static str,
    },
    /// Bytes follow the last field.
    #[error("{count} bytes follow the end of frame kind {kind:?}")]
    Trailing {
        /// The kind.
        kind: Kind,
        /// How many.
        count: usize,
    },
}

impl DecodeError {
    /// The code the stream is reset with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Kind { .. } => ErrorCode::PROTOCOL_VIOLATION,
            Self::Version { .. } => ErrorCode::UNSUPPORTED_VERSION,
            Self::Malformed { .. } | Self::Trailing { .. } => ErrorCode::MALFORMED,
        }
    }
}

/// Refuses left-over bytes.
fn finish(kind: Kind, rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() {
        return Ok(());
    }
    let count = rest.len();
    Err(DecodeError::Trailing { kind, count })
}

/// Appends `value` field by field.
pub(crate) fn encode_fields<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let done = postcard::serialize_with_flavor(value, Tail(out));
    assert!(
        done.is_ok(),
        "wire types have lengths known in advance and always encode"
    );
}

/// Reads a value field by field from the front of `bytes`.
pub(crate) fn decode_fields<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), DecodeError> {
    postcard::take_from_bytes(bytes).map_err(|error| DecodeError::Malformed {
        what,
        why: reason(&error),
    })
}

/// Reads a value that fills `bytes`.
pub(crate) fn decode_all<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    let (value, rest) = decode_fields(what, bytes)?;
    if rest.is_empty() {
        return Ok(value);
    }
    let why = "bytes follow its end";
    Err(DecodeError::Malformed { what, why })
}

fn reason(error: &postcard::Error) -> &'static str {
    match error {
        postcard::Error::DeserializeUnexpectedEnd => "the bytes end inside a field",
        postcard::Error::DeserializeBadVarint => "a number is too large for its field",
        postcard::Error::DeserializeBadBool => "a yes/no field is neither 0 nor 1",
        postcard::Error::DeserializeBadOption => "an optional field is neither absent nor present",
        postcard::Error::DeserializeBadUtf8 => "a text field is not UTF-8",
        _ => "a field has a length or value that is not allowed",
    }
}

/// Lets the serializer append to a vector.
struct Tail<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Tail<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Implements [`Message`] for types encoded field by field.
macro_rules! messages {
    ($($name:ty: $kind:ident v $version:literal,)+) => {$(
        impl crate::message::Message for $name {
            const KIND: crate::kind::Kind = crate::kind::Kind::$kind;
            const VERSION: u16 = $version;

            fn encode_body(&self, out: &mut Vec<u8>) {
                crate::message::encode_fields(self, out);
            }

            fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), crate::message::DecodeError> {
                crate::message::decode_fields(stringify!($name), bytes)
            }
        }
    )+};
}

/// Implements [`Body`] for types encoded field by field.
macro_rules! bodies {
    ($($name:ty,)+) => {$(
        impl crate::message::Body for $name {
            fn to_bytes(&self) -> bytes::Bytes {
                let mut out = Vec::new();
                crate::message::encode_fields(self, &mut out);
                bytes::Bytes::from(out)
            }

            fn from_bytes(bytes: &[u8]) -> Result<Self, crate::message::DecodeError> {
                crate::message::decode_all(stringify!($name), bytes)
            }
        }
    )+};
}

pub(crate) use bodies;
pub(crate) use messages;
