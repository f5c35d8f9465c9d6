//! Wall time, monotonic time and hybrid logical time; the only room that asks the machine for them.

mod hybrid;
mod system;

use std::fmt::Debug;
use std::time::Duration;

pub use crate::clock::hybrid::HybridClock;
pub use crate::clock::system::SystemClock;

/// Where the server's time comes from.
///
/// Implementations are cheap to ask: a frame that waits for its bytes reads the clock.
pub trait Clock: Debug + Send + Sync {
    /// Microseconds since 1970. May jump in both directions when the machine's clock is set.
    fn now_micros(&self) -> u64;

    /// Time since an arbitrary fixed point. Never goes back.
    fn monotonic(&self) -> Duration;
}
