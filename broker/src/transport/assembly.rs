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

/// A frame of which a part has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Its number on the stream, skipped frames included.
    pub(crate) frame: u64,
    /// Bytes of it, header included.
    pub(crate) received: u64,
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
    /// Frames that are over, skipped ones included.
    frames: u64,
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
            frames: 0,
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

    /// The incomplete frame; `None` between frames.
    ///
    /// Meaningful after [`poll_frame`](Self::poll_frame) found none.
    pub(crate) const fn begun(&self) -> Option<Begun> {
        match self.taken {
            0 => None,
            received => Some(Begun {
                frame: self.frames,
                received,
            }),
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
        self.frames += 1;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_protocol::ErrorCode;
    use quorate_protocol::Flags;

    use super::*;

    const LIMITS: Limits = Limits {
        batch_bytes_max: 1 << 20,
        established: true,
    };

    fn header(kind: Kind, flags: Flags, body_len: u32) -> FrameHeader {
        FrameHeader {
            body_len,
            kind,
            flags,
            version: 1,
        }
    }

    fn frame(kind: Kind, flags: Flags, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap();
        [&header(kind, flags, len).encode()[..], body].concat()
    }

    fn bodies(assembly: &mut Assembly) -> Result<Vec<(Kind, Vec<u8>)>, AssemblyError> {
        let mut found = Vec::new();
        while let Some(frame) = assembly.poll_frame()? {
            found.push((frame.header.kind, frame.body.to_vec()));
        }
        Ok(found)
    }

    fn fed(bytes: &[u8]) -> Result<Vec<(Kind, Vec<u8>)>, AssemblyError> {
        let mut assembly = Assembly::new(LIMITS);
        assembly.push(Bytes::copy_from_slice(bytes));
        bodies(&mut assembly)
    }

    #[test]
    fn an_announced_length_allocates_nothing_by_itself() {
        let mut assembly = Assembly::new(LIMITS);
        let announced = header(Kind::PUBLISH, Flags::CRITICAL, 1 << 20);
        assembly.push(Bytes::copy_from_slice(&announced.encode()));
        assert!(assembly.poll_frame().unwrap().is_none());
        assert_eq!(capacity(&assembly), 0);
        for _ in 0..16 {
            assembly.push(Bytes::from(vec![0; 50_000]));
            assert!(assembly.poll_frame().unwrap().is_none());
            let arrived = usize::try_from(assembly.taken).unwrap();
            assert!(capacity(&assembly) <= arrived * GROWTH * 2);
        }
    }

    fn capacity(assembly: &Assembly) -> usize {
        match &assembly.phase {
            Phase::Body { body, .. } => body.capacity(),
            Phase::Header { .. } | Phase::Skip { .. } => 0,
        }
    }

    #[test]
    fn a_stream_that_delivered_a_large_frame_gets_the_next_buffer_at_once() {
        let large = frame(Kind::PUBLISH, Flags::CRITICAL, &[1; 300_000]);
        let mut assembly = Assembly::new(LIMITS);
        assembly.push(Bytes::from(large.clone()));
        assert_eq!(bodies(&mut assembly).unwrap().len(), 1);
        assembly.push(Bytes::from(large).slice(..100));
        assert!(assembly.poll_frame().unwrap().is_none());
        assert_eq!(capacity(&assembly), 300_000);
    }

    #[test]
    fn lengths_below_and_far_above_what_is_allowed_are_refused_unallocated() {
        for (len, code) in [
            (0, ErrorCode::MALFORMED),
            (3, ErrorCode::MALFORMED),
            (u32::MAX, ErrorCode::FRAME_TOO_LARGE),
            ((1 << 20) + 4_097 + 4, ErrorCode::FRAME_TOO_LARGE),
        ] {
            let mut bytes = header(Kind::PUBLISH, Flags::CRITICAL, 0).encode();
            bytes[..4].copy_from_slice(&u32::to_le_bytes(len));
            let error = fed(&bytes).unwrap_err();
            let AssemblyError::Header(error) = error else {
                panic!("{error:?}");
            };
            assert_eq!(error.code(), code, "{len}");
        }
    }

    #[test]
    fn unknown_kinds_are_skipped_unless_critical() {
        let ping = frame(Kind::PING, Flags::CRITICAL, b"ping");
        let grease = frame(Kind::GREASE, Flags::NONE, &[9; 60_000]);
        let bytes = [&grease[..], &ping, &grease, &ping].concat();
        let expected = vec![(Kind::PING, b"ping".to_vec()); 2];
        assert_eq!(fed(&bytes).unwrap(), expected);
        let critical = frame(Kind::GREASE, Flags::CRITICAL, &[]);
        assert_eq!(
            fed(&critical).unwrap_err(),
            AssemblyError::UnknownKind(Kind::GREASE)
        );
    }

    #[test]
    fn a_trace_context_is_no_part_of_the_body() {
        let body = [&[7; 26][..], b"body"].concat();
        let traced = frame(Kind::PING, Flags::CRITICAL.union(Flags::TRACE), &body);
        assert_eq!(fed(&traced).unwrap(), [(Kind::PING, b"body".to_vec())]);
    }

    #[test]
    fn an_incomplete_frame_is_begun_and_a_complete_one_is_not() {
        let mut assembly = Assembly::new(LIMITS);
        let bytes = Bytes::from(frame(Kind::PING, Flags::CRITICAL, b"12345"));
        assert_eq!(assembly.begun(), None);
        for split in 1..bytes.len() {
            assembly.push(bytes.slice(split - 1..split));
            assert!(assembly.poll_frame().unwrap().is_none());
            let received = split as u64;
            assert_eq!(assembly.begun(), Some(Begun { frame: 0, received }));
        }
        assembly.push(bytes.slice(bytes.len() - 1..));
        assert!(assembly.poll_frame().unwrap().is_some());
        assert_eq!(assembly.begun(), None);
    }

    proptest! {
        #[test]
        fn frames_come_out_whole_however_the_stream_is_cut(
            sizes in prop::collection::vec((0..3_usize, 0..9_000_usize), 1..12),
            cuts in prop::collection::vec(1..4_000_usize, 1..40),
        ) {
            let kinds = [Kind::PING, Kind::PUBLISH, Kind::GREASE];
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (number, (kind, size)) in (0_u8..).zip(sizes) {
                let body = vec![number; size];
                stream.extend(frame(kinds[kind], Flags::NONE, &body));
                if kinds[kind] != Kind::GREASE {
                    expected.push((kinds[kind], body));
                }
            }
            let mut assembly = Assembly::new(LIMITS);
            let mut found = Vec::new();
            let mut rest = Bytes::from(stream);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                assembly.push(rest.split_to((*cut).min(rest.len())));
                found.extend(bodies(&mut assembly).unwrap());
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(assembly.begun(), None);
            prop_assert_eq!(assembly.waiting, 0);
        }

        #[test]
        fn any_bytes_give_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(found) = fed(&bytes) {
                let kept: usize = found.iter().map(|(_, body)| body.len()).sum();
                prop_assert!(kept <= bytes.len());
            }
        }
    }
}
