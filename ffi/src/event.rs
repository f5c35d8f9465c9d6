//! A file descriptor that is readable while something waits, for programs with an event loop.

use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Wake;

use quorate::ErrorCode;
use rustix::event::EventfdFlags;

use crate::failure::Failure;

/// An event descriptor of the library.
#[derive(Debug)]
pub(crate) struct Event {
    descriptor: OwnedFd,
}

impl Event {
    pub(crate) fn new() -> Result<Self, Failure> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let descriptor = rustix::event::eventfd(0, flags).map_err(|error| {
            Failure::new(
                ErrorCode::INTERNAL,
                format!("cannot make an eventfd: {error}"),
            )
        })?;
        Ok(Self { descriptor })
    }

    pub(crate) fn number(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Makes it readable. A full counter is readable already.
    pub(crate) fn set(&self) {
        let _readable = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes()).is_ok();
    }

    /// Makes it unreadable. An empty counter is so already.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        let _unreadable = rustix::io::read(&self.descriptor, &mut count).is_ok();
    }
}

impl Wake for Event {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}
