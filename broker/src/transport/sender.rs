//! The sending half of a stream, as frames.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use bytes::BytesMut;
use quinn::SendStream;
use quinn::StoppedError;
use quinn::WriteError;
use quinn::Written;
use quorate_protocol::ErrorCode;
use thiserror::Error;

use crate::transport::connection::Link;
use crate::transport::lost::ConnectionLost;
use crate::transport::lost::code_from;
use crate::transport::lost::to_varint;

/// Pieces below this size are worth copying together: the QUIC engine's work grows with their
/// number.
const SMALL_BYTES: usize = 4 * 1024;
/// How large a block of small pieces becomes.
const BLOCK_BYTES: usize = 64 * 1024;

/// Why nothing more can be sent on a stream.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The other side wants no more.
    #[error("the other side wants no more: {code}")]
    Stopped {
        /// Its reason.
        code: ErrorCode,
    },
    /// The other side stopped reading; the stream was reset.
    #[error("the other side did not read in time")]
    SlowConsumer,
    /// This side finished or reset the stream before.
    #[error("the stream is finished")]
    Finished,
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
}

/// Frames to the other side, in order.
#[derive(Debug)]
pub struct FrameSender {
    stream: SendStream,
    link: Arc<Link>,
    pending: Vec<Bytes>,
}

impl FrameSender {
    pub(crate) const fn new(stream: SendStream, link: Arc<Link>) -> Self {
        Self {
            stream,
            link,
            pending: Vec::new(),
        }
    }

    /// Sends one frame, or a piece of one; waits until the QUIC engine has taken it.
    ///
    /// Cancel-safe: what was handed over is sent by this call or the next one.
    ///
    /// # Errors
    /// The stream or its connection is over. After a stall it has been reset.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), SendError> {
        self.pending.push(frame);
        self.flush().await
    }

    /// Sends frames, or pieces of them, in order, without copying large ones. Empties `frames`.
    ///
    /// Cancel-safe: what was handed over is sent by this call or the next one.
    ///
    /// # Errors
    /// The stream or its connection is over. After a stall it has been reset.
    pub async fn send_all(&mut self, frames: &mut Vec<Bytes>) -> Result<(), SendError> {
        self.pending.append(frames);
        coalesce(&mut self.pending);
        self.flush().await
    }

    /// Announces the end, after everything that was sent. Call it with nothing left to send.
    ///
    /// # Errors
    /// The other side wants no more, or the stream is over already.
    pub fn finish(&mut self) -> Result<(), SendError> {
        self.stream.finish().map_err(|_| SendError::Finished)
    }

    /// Abandons the stream, with the reason.
    pub fn reset(&mut self, code: ErrorCode) {
        self.pending.clear();
        // An error says that the stream is over already.
        drop(self.stream.reset(to_varint(code)));
    }

    /// Sets the stream's priority; higher ones are sent first.
    pub fn set_priority(&self, priority: i32) {
        // An error says that the stream is over already.
        drop(self.stream.set_priority(priority));
    }

    /// Waits until the other side wants no more (with its reason), or has everything after
    /// [`finish`](Self::finish) (`None`). Cancel-safe.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn stopped(&self) -> Result<Option<ErrorCode>, ConnectionLost> {
        match self.stream.stopped().await {
            Ok(code) => Ok(code.map(code_from)),
            Err(StoppedError::ConnectionLost(error)) => Err(error.into()),
            Err(StoppedError::ZeroRttRejected) => Err(ConnectionLost::ClosedHere),
        }
    }

    async fn flush(&mut self) -> Result<(), SendError> {
        self.pending.retain(|piece| !piece.is_empty());
        while !self.pending.is_empty() {
            match self.write().await {
                Some(Ok(written)) => drop(self.pending.drain(..written.chunks)),
                Some(Err(error)) => return Err(write_error(error)),
                None => return Err(self.stall()),
            }
        }
        Ok(())
    }

    /// Writes what there is room for. Waits for room only as long as a stall may last: `None`.
    async fn write(&mut self) -> Option<Result<Written, WriteError>> {
        let mut writing = pin!(self.stream.write_chunks(&mut self.pending));
        let at_once = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context)));
        if let Poll::Ready(outcome) = at_once.await {
            return Some(outcome);
        }
        let stall = self.link.timings.write_stall;
        let outcome = tokio::time::timeout(stall, writing).await.ok()?;
        // Room that was waited for shows that the other side reads.
        self.link.handle_progress();
        Some(outcome)
    }

    fn stall(&mut self) -> SendError {
        self.reset(ErrorCode::SLOW_CONSUMER);
        self.link.handle_stall();
        SendError::SlowConsumer
    }
}

/// Copies runs of small pieces into blocks; leaves large ones as they are.
fn coalesce(pieces: &mut Vec<Bytes>) {
    let small = |piece: &Bytes| piece.len() < SMALL_BYTES;
    let worth = pieces.windows(2).any(|pair| pair.iter().all(small));
    if !worth {
        return;
    }
    let mut joined = Vec::with_capacity(pieces.len());
    let mut block = BytesMut::new();
    for piece in pieces.drain(..) {
        if !small(&piece) || block.len() + piece.len() > BLOCK_BYTES {
            push_block(&mut joined, &mut block);
        }
        if small(&piece) {
            block.extend_from_slice(&piece);
        } else {
            joined.push(piece);
        }
    }
    push_block(&mut joined, &mut block);
    *pieces = joined;
}

fn push_block(joined: &mut Vec<Bytes>, block: &mut BytesMut) {
    if !block.is_empty() {
        joined.push(block.split().freeze());
    }
}

fn write_error(error: WriteError) -> SendError {
    match error {
        WriteError::Stopped(code) => SendError::Stopped {
            code: code_from(code),
        },
        WriteError::ConnectionLost(error) => SendError::Lost(error.into()),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => SendError::Finished,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn large_pieces_are_not_copied_and_small_runs_become_one() {
        let large = Bytes::from(vec![7; SMALL_BYTES]);
        let mut pieces = vec![
            Bytes::from_static(b"a"),
            Bytes::from_static(b"b"),
            large.clone(),
            Bytes::from_static(b"c"),
        ];
        coalesce(&mut pieces);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0], Bytes::from_static(b"ab"));
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
    }

    proptest! {
        #[test]
        fn the_stream_of_bytes_is_the_same(sizes in prop::collection::vec(0..6_000_usize, 0..60)) {
            let mut pieces: Vec<Bytes> = sizes
                .iter()
                .zip(0_u8..)
                .map(|(size, byte)| Bytes::from(vec![byte; *size]))
                .collect();
            let before = pieces.concat();
            coalesce(&mut pieces);
            prop_assert_eq!(pieces.concat(), before);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= BLOCK_BYTES));
        }
    }
}
