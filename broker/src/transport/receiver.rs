//! The receiving half of a stream, as frames.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::ReadError;
use quinn::RecvStream;
use quorate_protocol::ErrorCode;
use quorate_protocol::FrameError;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use thiserror::Error;

use crate::transport::assembly::Assembly;
use crate::transport::assembly::AssemblyError;
use crate::transport::assembly::Begun;
use crate::transport::assembly::Frame;
use crate::transport::connection::Link;
use crate::transport::lost::ConnectionLost;
use crate::transport::lost::code_from;
use crate::transport::lost::to_varint;
use crate::transport::pace::Pace;

/// Pieces taken from the QUIC engine at a time.
const PIECES: usize = 16;

/// Why no further frame comes from a stream.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A frame header is not acceptable.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A critical frame of a kind this build does not know.
    #[error("critical frame of unknown kind {kind:?}")]
    UnknownKind {
        /// The kind.
        kind: Kind,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame, {received} bytes after its beginning")]
    Truncated {
        /// Bytes of the frame that had arrived.
        received: u64,
    },
    /// The first frame, or the rest of a begun one, did not come in time.
    #[error("a frame did not arrive in time: {received} bytes of it came")]
    Timeout {
        /// Bytes of the frame that had arrived.
        received: u64,
    },
    /// The other side abandoned the stream.
    #[error("the other side abandoned the stream: {code}")]
    Reset {
        /// Its reason.
        code: ErrorCode,
    },
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
}

impl ReceiveError {
    /// The code to answer with, where an answer is still possible.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.code(),
            Self::UnknownKind { .. } => ErrorCode::UNKNOWN_FRAME,
            Self::Truncated { .. } => ErrorCode::MALFORMED,
            Self::Timeout { .. } => ErrorCode::FRAME_TIMEOUT,
            Self::Reset { code } => *code,
            Self::Lost(ConnectionLost::ClosedByPeer { code, .. }) => *code,
            Self::Lost(_) => ErrorCode::INTERNAL,
        }
    }
}

impl From<AssemblyError> for ReceiveError {
    fn from(error: AssemblyError) -> Self {
        match error {
            AssemblyError::Header(error) => Self::Frame(error),
            AssemblyError::UnknownKind(kind) => Self::UnknownKind { kind },
        }
    }
}

/// Frames from the other side, in order.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: RecvStream,
    assembly: Assembly,
    pace: Pace,
    link: Arc<Link>,
    finished: bool,
}

impl FrameReceiver {
    pub(crate) fn new(stream: RecvStream, link: Arc<Link>, limits: Limits) -> Self {
        Self {
            stream,
            assembly: Assembly::new(limits),
            pace: Pace::new(link.clock.monotonic()),
            link,
            finished: false,
        }
    }

    /// The next frame; `None` once the other side finished the stream between two frames.
    ///
    /// Frames that have already arrived are given out without waiting. Frames of unknown kinds
    /// are skipped unless they are critical.
    ///
    /// Cancel-safe: a frame that has arrived in part is kept for the next call.
    ///
    /// # Errors
    /// The stream has no further frame. Nothing useful follows; the caller answers with
    /// [`stop`](Self::stop) and [`ReceiveError::code`], or closes the connection.
    pub async fn next(&mut self) -> Result<Option<Frame>, ReceiveError> {
        loop {
            if let Some(frame) = self.assembly.poll_frame()? {
                self.pace.handle_frame();
                return Ok(Some(frame));
            }
            if self.finished {
                return match self.assembly.begun() {
                    None => Ok(None),
                    Some(Begun { received, .. }) => Err(ReceiveError::Truncated { received }),
                };
            }
            self.read().await?;
        }
    }

    /// Changes what later frames may hold: after HelloAck they may be large.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.assembly.set_limits(limits);
    }

    /// Tells the other side to send no more, and why. What has not been read is discarded.
    pub fn stop(&mut self, code: ErrorCode) {
        // An error says that the stream is over already.
        drop(self.stream.stop(to_varint(code)));
        self.finished = true;
    }

    /// Waits for bytes and hands them to the assembly.
    async fn read(&mut self) -> Result<(), ReceiveError> {
        let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
        let patience = self.patience();
        let reading = self.stream.read_chunks(&mut pieces);
        let outcome = match patience {
            None => reading.await,
            Some(patience) => match tokio::time::timeout(patience, reading).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let received = self.assembly.begun().map_or(0, |begun| begun.received);
                    return Err(ReceiveError::Timeout { received });
                }
            },
        };
        match outcome {
            Ok(Some(count)) => {
                let arrived = pieces.into_iter().take(count);
                arrived.for_each(|piece| self.assembly.push(piece));
                Ok(())
            }
            Ok(None) => {
                self.finished = true;
                Ok(())
            }
            Err(error) => Err(read_error(error)),
        }
    }

    fn patience(&mut self) -> Option<Duration> {
        let now = self.link.clock.monotonic();
        let begun = self.assembly.begun();
        self.pace.patience(now, begun, &self.link.timings)
    }
}

fn read_error(error: ReadError) -> ReceiveError {
    match error {
        ReadError::Reset(code) => ReceiveError::Reset {
            code: code_from(code),
        },
        ReadError::ConnectionLost(error) => ReceiveError::Lost(error.into()),
        other @ (ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected) => ReceiveError::Lost(ConnectionLost::Transport {
            reason: other.to_string(),
        }),
    }
}
