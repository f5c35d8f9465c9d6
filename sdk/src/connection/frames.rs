//! Frames on one QUIC stream.
//!
//! Invariant: a frame's length is checked against its kind's cap before memory is taken; reading
//! is cancel-safe, a begun frame waits in the receiver.

use std::collections::VecDeque;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use quinn::ReadError;
use quinn::RecvStream;
use quinn::SendStream;
use quinn::VarInt;
use quinn::WriteError;
use quorate_protocol::ErrorCode;
use quorate_protocol::FRAME_HEADER_LEN;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use quorate_protocol::Message;

use crate::connection::refusal::refusal;
use crate::error::Error;
use crate::error::Result;

/// Chunks taken from the transport at once.
const CHUNKS: usize = 32;
/// Memory taken for a frame before its bytes arrive.
const FIRST_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// One whole frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) body: Bytes,
}

impl Frame {
    /// Decodes the body as `M`.
    pub(crate) fn decode<M: Message>(&self) -> Result<M> {
        M::decode_frame(&self.header, &self.body)
            .map_err(|error| Error::new(error.code(), error.to_string()))
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct FrameReceiver {
    stream: RecvStream,
    address: std::sync::Arc<str>,
    limits: Limits,
    chunks: VecDeque<Bytes>,
    header: Option<FrameHeader>,
    body: BytesMut,
}

impl FrameReceiver {
    pub(super) fn new(stream: RecvStream, address: std::sync::Arc<str>, limits: Limits) -> Self {
        Self {
            stream,
            address,
            limits,
            chunks: VecDeque::new(),
            header: None,
            body: BytesMut::new(),
        }
    }

    /// After the greeting other kinds and sizes are allowed.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The next frame of a known kind; none after the broker's orderly end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            while let Some(frame) = self.take_frame()? {
                if is_known(frame.header.kind) {
                    return Ok(Some(frame));
                }
                if frame.header.is_critical() {
                    let message = format!("{:?} cannot be skipped", frame.header.kind);
                    return Err(Error::new(ErrorCode::UNKNOWN_FRAME, message).at(&self.address));
                }
            }
            if !self.fill().await? {
                return self.end();
            }
        }
    }

    fn end(&self) -> Result<Option<Frame>> {
        if self.header.is_none() && self.body.is_empty() {
            return Ok(None);
        }
        let message = "the stream ended inside a frame";
        Err(Error::new(ErrorCode::MALFORMED, message).at(&self.address))
    }

    /// A frame from what has arrived.
    fn take_frame(&mut self) -> Result<Option<Frame>> {
        let header = match self.header {
            Some(header) => header,
            None => match self.take_header()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        if !self.gather(header.body_len_usize()) {
            return Ok(None);
        }
        self.header = None;
        let mut body = std::mem::take(&mut self.body).freeze();
        body.advance(header.trace_len().min(body.len()));
        Ok(Some(Frame { header, body }))
    }

    fn take_header(&mut self) -> Result<Option<FrameHeader>> {
        if !self.gather(FRAME_HEADER_LEN) {
            return Ok(None);
        }
        let Some(bytes) = self.body.first_chunk::<FRAME_HEADER_LEN>() else {
            return Ok(None);
        };
        let header = FrameHeader::parse(bytes, &self.limits)
            .map_err(|error| Error::new(error.code(), error.to_string()).at(&self.address))?;
        self.header = Some(header);
        self.body = BytesMut::with_capacity(header.body_len_usize().min(FIRST_BYTES_MAX));
        Ok(Some(header))
    }

    /// Copies arrived bytes until there are `len`; whether there are.
    fn gather(&mut self, len: usize) -> bool {
        while self.body.len() < len {
            let Some(chunk) = self.chunks.front_mut() else {
                return false;
            };
            let part = chunk.split_to(chunk.len().min(len - self.body.len()));
            self.body.extend_from_slice(&part);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        true
    }

    /// Takes what has arrived from the transport; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        match self.stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => {
                self.chunks.extend(chunks.into_iter().take(count));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(ReadError::Reset(code)) => Err(reset(&self.address, code)),
            Err(ReadError::ConnectionLost(reason)) => Err(refusal(&self.address, &reason)),
            Err(error) => Err(Error::closed("stream").at(&self.address).at(error)),
        }
    }

    /// Tells the broker that nothing more is read.
    pub(crate) fn stop(&mut self) {
        // A stream that has ended cannot be stopped, and need not be.
        let _ended = self.stream.stop(VarInt::from_u32(0)).is_err();
    }
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct FrameSender {
    stream: SendStream,
    address: std::sync::Arc<str>,
}

impl FrameSender {
    pub(super) fn new(stream: SendStream, address: std::sync::Arc<str>) -> Self {
        Self { stream, address }
    }

    /// Sends one message. Not cancel-safe: part of the frame may have left.
    pub(crate) async fn send(&mut self, message: &impl Message) -> Result<()> {
        let written = self.stream.write_chunk(message.to_frame()).await;
        written.map_err(|error| self.failed(error))
    }

    /// Sends a frame that comes in pieces. Not cancel-safe.
    pub(crate) async fn send_pieces(&mut self, pieces: &mut [Bytes]) -> Result<()> {
        let written = self.stream.write_all_chunks(pieces).await;
        written.map_err(|error| self.failed(error))
    }

    /// Ends the stream in order.
    pub(crate) fn finish(&mut self) {
        // A stream that was reset cannot be finished, and need not be.
        let _ended = self.stream.finish().is_err();
    }

    /// Breaks the stream off: what was not sent yet never leaves.
    pub(crate) fn reset(&mut self) {
        // A stream that has ended cannot be reset, and need not be.
        let _ended = self.stream.reset(VarInt::from_u32(0)).is_err();
    }

    /// Streams of a higher priority go first.
    pub(crate) fn set_priority(&self, priority: i32) {
        let _ended = self.stream.set_priority(priority).is_err();
    }

    fn failed(&self, error: WriteError) -> Error {
        match error {
            WriteError::Stopped(code) => reset(&self.address, code),
            WriteError::ConnectionLost(reason) => refusal(&self.address, &reason),
            error => Error::closed("stream").at(&self.address).at(error),
        }
    }
}

fn reset(address: &str, code: VarInt) -> Error {
    let code = ErrorCode::new(u16::try_from(code.into_inner()).unwrap_or(u16::MAX));
    if code.is_ok() {
        let message = format!("{address} ended the stream");
        return Error::new(ErrorCode::LEADER_UNKNOWN, message);
    }
    let message = format!("{address} reset the stream: {}", code.name());
    Error::new(code, message)
}

fn is_known(kind: Kind) -> bool {
    KNOWN.contains(&kind)
}

/// The kinds a broker may send to a client.
const KNOWN: &[Kind] = &[
    Kind::HELLO_ACK,
    Kind::HELLO_REJECT,
    Kind::REPLY,
    Kind::PING,
    Kind::PONG,
    Kind::TOPOLOGY_UPDATE,
    Kind::GO_AWAY,
    Kind::STREAM_ACCEPT,
    Kind::STREAM_REJECT,
    Kind::ACKS,
    Kind::NACK,
    Kind::RECORDS,
    Kind::PROGRESS,
    Kind::GAP,
    Kind::END,
    Kind::READ_END,
];
