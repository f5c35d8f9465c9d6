//! One authenticated client connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::VarInt;
use quorate_protocol::ErrorCode;
use quorate_protocol::Limits;

use crate::auth::Principal;
use crate::clock::Clock;
use crate::transport::admission::Place;
use crate::transport::admission::STREAMS_PER_SECOND;
use crate::transport::admission::StreamRate;
use crate::transport::admission::Turn;
use crate::transport::lost::ConnectionLost;
use crate::transport::lost::close_reason;
use crate::transport::lost::to_varint;
use crate::transport::quic::CLIENT;
use crate::transport::quic::receive_window;
use crate::transport::receiver::FrameReceiver;
use crate::transport::sender::FrameSender;
use crate::transport::settings::Timings;

/// Stalled writes in a row that end the connection.
const STALLS_MAX: u32 = 3;

/// What a connection and its streams share. The place among the connections is given back when
/// the last of them is dropped.
pub(crate) struct Link {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timings: Timings,
    pub(crate) quinn: quinn::Connection,
    /// `None` where this side dialled.
    place: Option<Place>,
    stalls: AtomicU32,
}

impl Link {
    pub(crate) fn new(established: Established, clock: Arc<dyn Clock>, timings: Timings) -> Self {
        Self {
            clock,
            timings,
            quinn: established.quinn,
            place: established.place,
            stalls: AtomicU32::new(0),
        }
    }

    /// The other side read something.
    pub(crate) fn handle_progress(&self) {
        self.stalls.store(0, Ordering::Relaxed);
    }

    /// A write stalled: after several in a row the other side is given up.
    pub(crate) fn handle_stall(&self) {
        if self.stalls.fetch_add(1, Ordering::Relaxed) + 1 >= STALLS_MAX {
            let text = "several streams in a row were not read for too long";
            self.close(ErrorCode::SLOW_CONSUMER, text);
        }
    }

    pub(crate) fn close(&self, code: ErrorCode, text: &str) {
        self.quinn.close(to_varint(code), close_reason(text));
    }

    pub(crate) fn stats(&self) -> ConnectionStats {
        let stats = self.quinn.stats();
        ConnectionStats {
            rtt: stats.path.rtt,
            mtu: stats.path.current_mtu,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("remote", &self.quinn.remote_address())
            .finish_non_exhaustive()
    }
}

/// A client whose certificate was verified and names a principal that may connect.
///
/// Dropping it, with all its streams, closes it with code 0.
#[derive(Debug)]
pub struct Connection {
    link: Arc<Link>,
    principal: Principal,
    not_after: Duration,
    batch_bytes_max: u32,
    opens: Mutex<StreamRate>,
}

/// Figures of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Round trip.
    pub rtt: Duration,
    /// Payload of the largest datagram the path carries.
    pub mtu: u16,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets lost.
    pub lost_packets: u64,
}

/// What a finished handshake and identity check establish.
pub(crate) struct Established {
    pub(crate) quinn: quinn::Connection,
    pub(crate) principal: Principal,
    pub(crate) not_after: Duration,
    pub(crate) place: Option<Place>,
}

impl Connection {
    pub(crate) fn new(
        established: Established,
        clock: Arc<dyn Clock>,
        timings: Timings,
        batch_bytes_max: u32,
    ) -> Self {
        let opens = StreamRate::new(clock.monotonic());
        let (principal, not_after) = (established.principal.clone(), established.not_after);
        Self {
            link: Arc::new(Link::new(established, clock, timings)),
            principal,
            not_after,
            batch_bytes_max,
            opens: Mutex::new(opens),
        }
    }

    /// Who the client is.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where the client is now; it may move.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.link.quinn.remote_address()
    }

    /// The last moment its certificate is valid, since 1970.
    #[must_use]
    pub const fn certificate_not_after(&self) -> Duration {
        self.not_after
    }

    /// The next stream the client opens. Cancel-safe.
    ///
    /// A client that opens them too fast waits. Its frames are held to the limits before HelloAck
    /// on the first stream, until [`FrameReceiver::set_limits`] raises them.
    ///
    /// # Errors
    /// The connection is gone, or was closed here because the client kept opening too fast.
    pub async fn accept_stream(&self) -> Result<(FrameSender, FrameReceiver), ConnectionLost> {
        self.await_turn().await?;
        let (send, receive) = self.link.quinn.accept_bi().await?;
        self.opens.lock().handle_stream(self.link.clock.monotonic());
        if let Some(place) = &self.link.place {
            place.move_to(self.remote().ip());
        }
        let limits = Limits {
            batch_bytes_max: self.batch_bytes_max,
            established: receive.id().index() > 0,
        };
        Ok((
            FrameSender::new(send, self.link.clone()),
            FrameReceiver::new(receive, self.link.clone(), limits),
        ))
    }

    async fn await_turn(&self) -> Result<(), ConnectionLost> {
        loop {
            let now = self.link.clock.monotonic();
            let turn = self
                .opens
                .lock()
                .turn(now, self.link.timings.stream_pressure);
            match turn {
                Turn::Now => return Ok(()),
                Turn::Later(wait) => tokio::time::sleep(wait).await,
                Turn::Never => {
                    let text = format!(
                        "streams are opened too fast: more than {STREAMS_PER_SECOND} per second"
                    );
                    self.link.close(ErrorCode::STREAM_RATE, &text);
                    return Err(ConnectionLost::ClosedHere);
                }
            }
        }
    }

    /// Lets the client open `streams` streams at a time, with the connection window they need.
    /// Called once, with HelloAck.
    pub fn raise_limits(&self, streams: u32) {
        let quinn = &self.link.quinn;
        quinn.set_receive_window(receive_window(streams, CLIENT.stream_window));
        quinn.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
    }

    /// Closes the connection and all its streams, with a code and a text for the person who
    /// reads the client's error.
    pub fn close(&self, code: ErrorCode, text: &str) {
        self.link.close(code, text);
    }

    /// Waits until the connection is gone. Cancel-safe.
    pub async fn closed(&self) -> ConnectionLost {
        self.link.quinn.closed().await.into()
    }

    /// Its figures so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.link.stats()
    }
}
