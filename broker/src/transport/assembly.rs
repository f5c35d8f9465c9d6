//! Puts frames together from the pieces a stream delivers. No I/O, no clock.
//!
//! A body is copied once, from the received piece into the frame's own buffer, and no buffer is
//! much larger than what has arrived or what the stream has delivered in one frame before.

use std::collections::VecDeque;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use quorate_protocol::FRAME_HEADER_LEN;
use quorate_protocol::FrameError;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use thiserror::Error;

/// What a buffer may hold before its bytes have arrived.
const UNPROVEN_BYTES: usize = 64 * 1024;
/// How much a buffer grows at a time, as a multiple of what has arrived.
const GROWTH: usize = 4;

/// One complete frame.
#[derive(Debug)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its body, without the trace context.
    pub body: BytesMut,
}

/// Why the bytes of a stream are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum AssemblyError {
    #[error(transparent)]
    Header(#[from] FrameError),
    #[error("critical frame of unknown kind {0:?}")]
    UnknownKind(Kind),
}

#[derive(Debug)]
enum Phase {
    Header {
        bytes: [u8; FRAME_HEADER_LEN],
        filled: usize,
    },
    Body {
        header: FrameHeader,
        body: BytesMut,
    },
    Skip {
        remaining: usize,
    },
}

const BETWEEN_FRAMES: Phase = Phase::Header {
    bytes: [0; FRAME_HEADER_LEN],
    filled: 0,
};

/// The state between two reads of a stream.
#[derive(Debug)]
pub(crate) struct Assembly {
    limits: Limits,
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    waiting: usize,
    phase: Phase,
    /// Bytes of the begun frame taken from `pieces` so far.
    taken: u64,
    /// The largest body this stream has delivered.
    proven: usize,
}

impl Assembly {
    pub(crate) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            pieces: VecDeque::new(),
            waiting: 0,
            phase: BETWEEN_FRAMES,
            taken: 0,
            proven: 0,
        }
    }

    /// Changes what later frames may hold.
    pub(crate) const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds the stream's next piece.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.waiting += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Bytes of an incomplete frame that have arrived; `None` between frames.
    ///
    /// Meaningful after [`poll_frame`](Self::poll_frame) found none.
    pub(crate) const fn begun(&self) -> Option<u64> {
        match self.taken {
            0 => None,
            taken => Some(taken),
        }
    }

    /// The next complete frame, if its bytes are here. Unknown frames that may be skipped are.
    ///
    /// # Errors
    /// The bytes are no acceptable frame. The assembly must not be used afterwards.
    pub(crate) fn poll_frame(&mut self) -> Result<Option<Frame>, AssemblyError> {
        loop {
            let complete = match &mut self.phase {
                Phase::Header { .. } => self.fill_header()?,
                Phase::Body { .. } => match self.fill_body() {
                    Some(frame) => return Ok(Some(frame)),
                    None => false,
                },
                Phase::Skip { .. } => self.skip(),
            };
            if !complete {
                return Ok(None);
            }
        }
    }

    /// Whether the header is complete; the phase has moved on then.
    fn fill_header(&mut self) -> Result<bool, AssemblyError> {
        let Phase::Header { bytes, filled } = &mut self.phase else {
            return Ok(false);
        };
        while let Some(empty) = bytes.get_mut(*filled..).filter(|empty| !empty.is_empty()) {
            let Some(piece) = self.pieces.front_mut() else {
                return Ok(false);
            };
            let count = piece.len().min(empty.len());
            if let Some(slots) = empty.get_mut(..count) {
                piece.copy_to_slice(slots);
            }
            *filled += count;
            self.waiting -= count;
            self.taken += count as u64;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        let header = FrameHeader::parse(bytes, &self.limits)?;
        self.phase = match header.kind.name() {
            Some(_) => Phase::Body {
                header,
                body: BytesMut::new(),
            },
            None if header.is_critical() => return Err(AssemblyError::UnknownKind(header.kind)),
            None => Phase::Skip {
                remaining: header.body_len_usize(),
            },
        };
        Ok(true)
    }

    fn fill_body(&mut self) -> Option<Frame> {
        let Phase::Body { header, body } = &mut self.phase else {
            return None;
        };
        let len = header.body_len_usize();
        grow(body, len, self.waiting, self.proven);
        while body.len() < len {
            let piece = self.pieces.front_mut()?;
            let part = piece.split_to(piece.len().min(len - body.len()));
            body.extend_from_slice(&part);
            self.waiting -= part.len();
            self.taken += part.len() as u64;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        let header = *header;
        let mut body = std::mem::take(body);
        body.advance(header.trace_len());
        self.proven = self.proven.max(len);
        self.restart();
        Some(Frame { header, body })
    }

    /// Whether the frame is skipped to its end.
    fn skip(&mut self) -> bool {
        let Phase::Skip { remaining } = &mut self.phase else {
            return false;
        };
        while *remaining > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                return false;
            };
            let count = piece.len().min(*remaining);
            piece.advance(count);
            *remaining -= count;
            self.waiting -= count;
            self.taken += count as u64;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.restart();
        true
    }

    fn restart(&mut self) {
        self.phase = BETWEEN_FRAMES;
        self.taken = 0;
    }
}

/// Makes room for what has arrived of a body of `len` bytes, and for as much more as is proven.
fn grow(body: &mut BytesMut, len: usize, waiting: usize, proven: usize) {
    let arrived = body.len() + waiting;
    if body.capacity() >= arrived.min(len) {
        return;
    }
    let target = arrived
        .saturating_mul(GROWTH)
        .max(UNPROVEN_BYTES)
        .max(proven)
        .min(len);
    body.reserve(target - body.len());
}
