//! What the QUIC engine gets from the outside: tasks on the tracker, time from the clock.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use quinn::AsyncTimer;
use quinn::AsyncUdpSocket;
use quinn::Runtime;
use quinn::TimeSource;
use quinn::TokioRuntime;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;

/// Tokio, with every task of the engine on the owner's tracker.
#[derive(Debug)]
pub(crate) struct TrackedRuntime(pub(crate) TaskTracker);

impl Runtime for TrackedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// The clock's wall time, for certificate validity and the age of retry tokens.
#[derive(Debug)]
pub(crate) struct WallTime(pub(crate) Arc<dyn Clock>);

impl WallTime {
    fn since_1970(&self) -> Duration {
        Duration::from_micros(self.0.now_micros())
    }
}

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_1970()))
    }
}

impl TimeSource for WallTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since_1970()
    }
}
