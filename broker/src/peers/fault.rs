//! What ends a connection that a peer opened, and how the peer is told.

use quorate_protocol::DecodeError;
use quorate_protocol::ErrorCode;

use crate::transport::ConnectionLost;
use crate::transport::ReceiveError;
use crate::transport::SendError;

/// Why a connection cannot go on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is gone already.
    Gone,
    /// The peer did something that is not allowed.
    Wrong {
        /// The code to close with.
        code: ErrorCode,
        /// What it was.
        text: String,
    },
}

impl Fault {
    pub(crate) fn violation(text: &str) -> Self {
        Self::Wrong {
            code: ErrorCode::PROTOCOL_VIOLATION,
            text: text.to_owned(),
        }
    }
}

impl From<ReceiveError> for Fault {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Lost(_) => Self::Gone,
            // An abandoned stream comes with the end of its connection.
            ReceiveError::Reset { .. } => Self::Gone,
            other => Self::Wrong {
                code: other.code(),
                text: other.to_string(),
            },
        }
    }
}

impl From<SendError> for Fault {
    fn from(_: SendError) -> Self {
        Self::Gone
    }
}

impl From<ConnectionLost> for Fault {
    fn from(_: ConnectionLost) -> Self {
        Self::Gone
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Wrong {
            code: error.code(),
            text: error.to_string(),
        }
    }
}
