//! Where the command reads the time.

use std::time::Duration;
use std::time::SystemTime;

/// A moment on the scale that never goes back.
pub(crate) type Moment = tokio::time::Instant;

/// The present time by the wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock of the commands"
)]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// The present moment on the scale that never goes back.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock of the commands"
)]
pub(crate) fn now() -> Moment {
    tokio::time::Instant::now()
}

/// The time since `start`.
pub(crate) fn since(start: Moment) -> Duration {
    now().saturating_duration_since(start)
}
