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
    #[error("closed by the other side: {code} {reason}")]
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
    #[error("the other side fell silent")]
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
                reason: foreign_text(&String::from_utf8_lossy(&close.reason)),
            },
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::TimedOut => Self::TimedOut,
            other => Self::Transport {
                reason: foreign_text(&other.to_string()),
            },
        }
    }
}

/// The longest foreign text that is kept.
const FOREIGN_CHARS_MAX: usize = 256;

/// Text of the other side as it may be shown: cut, and without control characters.
fn foreign_text(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(FOREIGN_CHARS_MAX).map(plain).collect()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn::ApplicationClose;

    use super::*;

    fn closed(code: u64, reason: Bytes) -> ConnectionLost {
        let error_code = VarInt::from_u64(code).unwrap();
        ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason }).into()
    }

    #[test]
    fn foreign_text_cannot_control_a_terminal_or_fill_a_log() {
        let lost = closed(0x0204, Bytes::from_static(b"\x1b[2Jbye\r\n\xff"));
        let ConnectionLost::ClosedByPeer { code, reason } = lost else {
            panic!("{lost:?}");
        };
        assert_eq!(code, ErrorCode::DRAINING);
        assert_eq!(reason, "\u{fffd}[2Jbye\u{fffd}\u{fffd}\u{fffd}");
        let long = closed(0, Bytes::from(vec![b'x'; 5_000]));
        assert!(long.to_string().len() < 400);
    }

    #[test]
    fn a_code_that_is_none_of_ours_is_a_violation() {
        let lost = closed(1 << 40, Bytes::new());
        let code = ErrorCode::PROTOCOL_VIOLATION;
        let reason = String::new();
        assert_eq!(lost, ConnectionLost::ClosedByPeer { code, reason });
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let text = "\u{e9}".repeat(REASON_BYTES_MAX);
        let cut = std::str::from_utf8(close_reason(&text)).unwrap();
        assert_eq!(cut.len(), REASON_BYTES_MAX);
        let odd = format!("x{text}");
        let cut = std::str::from_utf8(close_reason(&odd)).unwrap();
        assert_eq!(cut.len(), REASON_BYTES_MAX - 1);
        assert_eq!(close_reason("short"), b"short");
    }
}
