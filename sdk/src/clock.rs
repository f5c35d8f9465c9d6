//! Where time comes from; the only file of this crate that reads a clock.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// The clocks of one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn start() -> Self {
        Self {
            start: tokio::time::Instant::now(),
        }
    }

    /// Time since the start of the client; never goes back.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn monotonic(&self) -> Duration {
        tokio::time::Instant::now().saturating_duration_since(self.start)
    }

    /// Microseconds since 1970 by the wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn wall_micros(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// The same, cheaper and up to some milliseconds late.
    #[cfg(target_os = "linux")]
    pub(crate) fn wall_micros_coarse(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let micros = u64::try_from(time.tv_nsec / 1_000).unwrap_or_default();
        seconds.saturating_mul(1_000_000).saturating_add(micros)
    }

    /// The same, where there is nothing cheaper.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn wall_micros_coarse(&self) -> u64 {
        self.wall_micros()
    }

    /// Sleeps until `moment` on the scale of [`Self::monotonic`].
    pub(crate) async fn sleep_until(&self, moment: Duration) {
        tokio::time::sleep_until(self.start + moment).await;
    }
}

/// The moment `micros` microseconds after 1970.
pub(crate) fn time_of(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

/// Microseconds from 1970 to `time`; 0 for earlier times.
pub(crate) fn micros_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
