//! One framed stream and the ways it ends.

use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::DecodeError;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::Offset;
use quorate_protocol::StreamReject;
use quorate_protocol::Text;

use crate::partition::PartitionReadError;
use crate::transport::FrameReceiver;
use crate::transport::FrameSender;
use crate::transport::ReceiveError;
use crate::transport::SendError;

/// How long the last frames of a stream may take to arrive.
const FAREWELL: Duration = Duration::from_secs(10);

/// Both directions of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Towards the client.
    pub(super) sender: FrameSender,
    /// From the client.
    pub(super) receiver: FrameReceiver,
}

impl Stream {
    /// Sends one message.
    pub(super) async fn send<M: Message>(&mut self, message: &M) -> Result<(), Stop> {
        self.sender.send(message.to_frame()).await?;
        Ok(())
    }

    /// Ends the stream in good order: waits until the client has everything.
    pub(super) async fn finish(&mut self) -> Result<(), Stop> {
        self.sender.finish()?;
        // Late or gone, the client gets no more; either way the stream is over.
        match tokio::time::timeout(FAREWELL, self.sender.stopped()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Stop::Gone),
        }
    }

    /// Tells the client why its stream is refused.
    pub(super) async fn reject(&mut self, refusal: Refusal) -> Result<(), Stop> {
        let reject = StreamReject {
            code: refusal.code,
            detail: Text::clipped(&refusal.detail),
            leader: refusal.leader,
            retry_after_ms: refusal.retry_after_ms,
            range: refusal.range,
        };
        self.send(&reject).await?;
        self.receiver.stop(refusal.code);
        self.finish().await
    }

    /// Breaks both directions off.
    pub(super) fn abort(&mut self, code: ErrorCode) {
        self.sender.reset(code);
        self.receiver.stop(code);
    }
}

/// Why the broker ends a stream early.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is refused before it is accepted.
    Reject(Box<Refusal>),
    /// The client broke a rule, or the broker cannot go on.
    Fault {
        /// Why.
        code: ErrorCode,
        /// For the log.
        detail: String,
    },
    /// The client or its connection is gone; nobody is left to be told.
    Gone,
}

impl Stop {
    /// A broken rule.
    pub(super) fn fault(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::Fault {
            code,
            detail: detail.into(),
        }
    }

    /// A frame where it does not belong.
    pub(super) fn unexpected(kind: Kind, stream: &str) -> Self {
        let detail = format!("frame {kind:?} does not belong on a {stream} stream");
        Self::fault(ErrorCode::PROTOCOL_VIOLATION, detail)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Reject(Box::new(refusal))
    }
}

impl From<SendError> for Stop {
    fn from(_: SendError) -> Self {
        Self::Gone
    }
}

impl From<ReceiveError> for Stop {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Lost(_) | ReceiveError::Reset { .. } => Self::Gone,
            other => Self::fault(other.code(), other.to_string()),
        }
    }
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::fault(error.code(), error.to_string())
    }
}

/// What a client is told when something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Why.
    pub(super) code: ErrorCode,
    /// For people.
    pub(super) detail: String,
    /// Who can do it.
    pub(super) leader: Option<BrokerId>,
    /// When to ask again; zero leaves that to the client.
    pub(super) retry_after_ms: u32,
    /// The offsets there are: first kept, first not committed.
    pub(super) range: Option<(Offset, Offset)>,
}

impl Refusal {
    /// A refusal with its reason.
    pub(super) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            leader: None,
            retry_after_ms: 0,
            range: None,
        }
    }

    /// Says when to ask again.
    pub(super) fn retry_after_ms(self, retry_after_ms: u32) -> Self {
        Self {
            retry_after_ms,
            ..self
        }
    }

    /// Says who can do it.
    pub(super) fn led_by(self, leader: Option<BrokerId>) -> Self {
        Self { leader, ..self }
    }
}

impl From<PartitionReadError> for Refusal {
    fn from(error: PartitionReadError) -> Self {
        let range = match &error {
            PartitionReadError::OutOfRange { start, end, .. } => Some((*start, *end)),
            _ => None,
        };
        Self {
            range,
            ..Self::new(error.code(), error.to_string())
        }
    }
}
