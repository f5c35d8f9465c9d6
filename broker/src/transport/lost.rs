//! Why a connection is gone, and error codes as QUIC carries them.

use quinn::ConnectionError;
use quinn::VarInt;
use quorate_protocol::ErrorCode;
use thiserror::Error;

/// Why a connection can no longer be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectionLost {
    /// The other side closed it.
    #[error("closed by the client: {code} {reason}")]
    ClosedByPeer {
        /// With this code, [`ErrorCode::OK`] for a plain goodbye.
        code: ErrorCode,
        /// And this text.
        reason: String,
    },
    /// This side closed it.
    #[error("closed by this broker")]
    ClosedHere,
    /// The other side fell silent.
    #[error("the client fell silent")]
    TimedOut,
    /// The other side lost its state, or broke QUIC or TLS.
    #[error("{reason}")]
    Transport {
        /// What the QUIC engine says.
        reason: String,
    },
}

impl From<ConnectionError> for ConnectionLost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::ClosedByPeer {
                code: code_from(close.error_code),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::TimedOut => Self::TimedOut,
            other => Self::Transport {
                reason: other.to_string(),
            },
        }
    }
}

/// A code as QUIC carries it.
pub(crate) fn to_varint(code: ErrorCode) -> VarInt {
    VarInt::from_u32(u32::from(code.get()))
}

/// A code that came from the other side; one that is none of ours is its protocol violation.
pub(crate) fn code_from(raw: VarInt) -> ErrorCode {
    u16::try_from(raw.into_inner()).map_or(ErrorCode::PROTOCOL_VIOLATION, ErrorCode::new)
}

/// The longest text a close may carry: it must fit one packet.
const REASON_BYTES_MAX: usize = 512;

/// Cuts a text so that it fits a close.
pub(crate) fn close_reason(text: &str) -> &[u8] {
    let cut = |end| text.get(..end);
    let fitting = (0..=REASON_BYTES_MAX.min(text.len())).rev().find_map(cut);
    fitting.unwrap_or_default().as_bytes()
}
