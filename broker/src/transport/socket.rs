//! The UDP socket under the QUIC engine: large kernel buffers, and sends the kernel can take.

use std::io;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use quinn::AsyncUdpSocket;
use quinn::UdpPoller;
use quinn::udp::RecvMeta;
use quinn::udp::Transmit;

/// Wanted, and acceptable, size of the kernel's buffers.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;
const BUFFER_BYTES_MIN: usize = 4 * 1024 * 1024;
/// What the kernel takes in one segmented send; it leaves as one datagram of at most 64 KiB.
const SEND_BYTES_MAX: usize = 65_000;
/// What the kernel may join into one receive.
const RECEIVE_BYTES_MAX: usize = 65_535;
const SEGMENTS_MAX: usize = 64;

/// Asks for large kernel buffers, and warns where the machine does not allow them.
pub(crate) fn enlarge_buffers(socket: &UdpSocket) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    // The kernel reports twice the usable size.
    let granted = [
        ("net.core.rmem_max", socket.recv_buffer_size()? / 2),
        ("net.core.wmem_max", socket.send_buffer_size()? / 2),
    ];
    for (setting, bytes) in granted {
        if bytes < BUFFER_BYTES_MIN {
            tracing::warn!(
                "the kernel grants UDP buffers of {bytes} bytes only, so packets may be lost \
                 under load: run `sysctl -w {setting}={BUFFER_BYTES}`"
            );
        }
    }
    Ok(())
}

/// A socket that cuts segmented sends to what the kernel takes, which the engine does not do.
#[derive(Debug)]
pub(crate) struct SegmentedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    receive_segments: usize,
}

impl SegmentedSocket {
    /// Wraps a socket whose datagrams hold at most `payload_max` bytes.
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, payload_max: u64) -> Self {
        let payload_max = usize::try_from(payload_max).unwrap_or(RECEIVE_BYTES_MAX);
        Self {
            inner,
            receive_segments: receive_segments(payload_max),
        }
    }
}

impl AsyncUdpSocket for SegmentedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(segment) = transmit.segment_size else {
            return self.inner.try_send(transmit);
        };
        // If a later part would block, the engine repeats the whole: QUIC drops the duplicates.
        for part in transmit.contents.chunks(part_bytes(segment)) {
            self.inner.try_send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents: part,
                segment_size: (part.len() > segment).then_some(segment),
                src_ip: transmit.src_ip,
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments().min(self.receive_segments)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// The most whole segments that one send may hold, in bytes.
const fn part_bytes(segment: usize) -> usize {
    let segment = if segment == 0 { 1 } else { segment };
    let whole = SEND_BYTES_MAX / segment;
    segment * if whole == 0 { 1 } else { whole }
}

/// The receive buffer must hold what the kernel may join, whatever the segment size was.
fn receive_segments(payload_max: usize) -> usize {
    RECEIVE_BYTES_MAX
        .div_ceil(payload_max.max(1))
        .clamp(1, SEGMENTS_MAX)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(usize, Option<usize>)>>);

    impl AsyncUdpSocket for Recorder {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nothing is sent through the engine here")
        }

        fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
            self.0
                .lock()
                .push((transmit.contents.len(), transmit.segment_size));
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }
    }

    fn sent(total: usize, segment_size: Option<usize>) -> Vec<(usize, Option<usize>)> {
        let recorder = Arc::new(Recorder::default());
        let socket = SegmentedSocket::new(recorder.clone(), 16_384);
        let transmit = Transmit {
            destination: SocketAddr::from(([127, 0, 0, 1], 9)),
            ecn: None,
            contents: &vec![0; total],
            segment_size,
            src_ip: None,
        };
        socket.try_send(&transmit).unwrap();
        let sent = recorder.0.lock();
        sent.clone()
    }

    #[test]
    fn a_send_the_kernel_would_refuse_is_cut_at_segment_borders() {
        assert_eq!(
            sent(10 * 16_384 - 7, Some(16_384)),
            [
                (3 * 16_384, Some(16_384)),
                (3 * 16_384, Some(16_384)),
                (3 * 16_384, Some(16_384)),
                (16_384 - 7, None)
            ]
        );
        assert_eq!(sent(10 * 1_452, Some(1_452)), [(10 * 1_452, Some(1_452))]);
        assert_eq!(sent(1_200, None), [(1_200, None)]);
    }

    #[test]
    fn a_receive_buffer_holds_whatever_the_kernel_joins() {
        for payload_max in [1_200, 1_472, 9_000, 16_384, 65_527] {
            assert!(receive_segments(payload_max) * payload_max >= RECEIVE_BYTES_MAX);
        }
    }
}
