//! Every call from C comes through here: forks and panics end here, arguments are checked here.

use std::ffi::CStr;
use std::ffi::c_char;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

use quorate::ErrorCode;

use crate::abi::QUORATE_OK;
use crate::abi::quorate_status_t;
use crate::failure::Failure;
use crate::fork;

/// Runs the body of a call; a failure becomes this thread's last error, and its status.
#[inline]
pub(crate) fn cross<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, quorate_status_t> {
    if fork::is_child() {
        return Err(Failure::forked().note());
    }
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(failure.note()),
        Err(_) => {
            let text = "a defect in the library; please report it";
            Err(Failure::new(ErrorCode::INTERNAL, text).note())
        }
    }
}

/// The same for calls that give nothing but a status.
#[inline]
pub(crate) fn status(work: impl FnOnce() -> Result<(), Failure>) -> quorate_status_t {
    match cross(work) {
        Ok(()) => QUORATE_OK,
        Err(status) => status,
    }
}

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    Try,
    /// So long.
    For(Duration),
    /// As long as it takes.
    Ever,
}

impl Wait {
    /// 0: try; -1: for ever; else milliseconds.
    #[inline]
    pub(crate) fn new(timeout_ms: i32) -> Result<Self, Failure> {
        match timeout_ms {
            0 => Ok(Self::Try),
            -1 => Ok(Self::Ever),
            _ => match u64::try_from(timeout_ms) {
                Ok(milliseconds) => Ok(Self::For(Duration::from_millis(milliseconds))),
                Err(_) => Err(Failure::invalid(format!(
                    "timeout_ms is {timeout_ms}; write 0 to try, -1 to wait for ever"
                ))),
            },
        }
    }

    /// The limit as a duration.
    pub(crate) fn limit(self) -> Duration {
        match self {
            Self::Try => Duration::ZERO,
            Self::For(limit) => limit,
            Self::Ever => Duration::MAX,
        }
    }

    /// Refuses to try what always takes a round trip.
    pub(crate) fn for_an_answer(self) -> Result<Self, Failure> {
        match self {
            Self::Try => Err(Failure::would_block(
                "this call always waits for a broker; give it some time",
            )),
            wait => Ok(wait),
        }
    }
}

/// Text that C lends for a call.
///
/// # Safety
/// NULL, or NUL-terminated text that stays as it is for `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::invalid(format!("{what} is NULL")));
    }
    // SAFETY: not NULL, and the caller promises the rest.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|_| Failure::invalid(format!("{what} is not UTF-8")))
}

/// Where C wants a result.
///
/// # Safety
/// NULL, or valid for one write of `T` and not used by anybody else during the call.
pub(crate) unsafe fn out<'a, T>(pointer: *mut T, what: &str) -> Result<Out<'a, T>, Failure> {
    if pointer.is_null() {
        return Err(Failure::invalid(format!("{what} is NULL")));
    }
    Ok(Out {
        pointer,
        _lent: std::marker::PhantomData,
    })
}

/// A place for one result, perhaps not initialised yet.
pub(crate) struct Out<'a, T> {
    pointer: *mut T,
    _lent: std::marker::PhantomData<&'a mut T>,
}

impl<T> Out<'_, T> {
    pub(crate) fn set(&self, value: T) {
        // SAFETY: `out` was promised that this may be written; what was there is no value of ours.
        unsafe { self.pointer.write(value) }
    }
}

/// The version of the library that is running, such as "0.1.0". Never NULL; not to be freed. Does
/// not block; may be called from any thread, even in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The ABI of the library that is running. If it is not `QUORATE_ABI_VERSION`, the program was
/// compiled for another library. Does not block; may be called from any thread, even in a forked
/// child.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_abi_version() -> u32 {
    crate::abi::QUORATE_ABI_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;
    use crate::status::QUORATE_E_INTERNAL;
    use crate::status::QUORATE_E_INVALID_ARGUMENT;

    #[test]
    fn a_panic_ends_at_the_border() {
        let crossed = cross(|| -> Result<(), Failure> { panic!("on purpose") });
        assert_eq!(crossed, Err(QUORATE_E_INTERNAL));
    }

    #[test]
    fn timeouts_are_milliseconds_nothing_or_for_ever() {
        assert_eq!(Wait::new(0).unwrap(), Wait::Try);
        assert_eq!(Wait::new(-1).unwrap(), Wait::Ever);
        assert_eq!(
            Wait::new(1500).unwrap().limit(),
            Duration::from_millis(1500)
        );
        assert_eq!(
            status(|| Wait::new(-2).map(|_| ())),
            QUORATE_E_INVALID_ARGUMENT
        );
    }

    #[test]
    fn the_header_says_which_version_this_is() {
        let constants = [
            abi::QUORATE_VERSION_MAJOR,
            abi::QUORATE_VERSION_MINOR,
            abi::QUORATE_VERSION_PATCH,
        ];
        let [major, minor, patch] = constants;
        assert_eq!(
            env!("CARGO_PKG_VERSION"),
            format!("{major}.{minor}.{patch}")
        );
        assert_eq!(
            abi::QUORATE_VERSION_NUMBER,
            major * 10_000 + minor * 100 + patch
        );
    }

    #[test]
    fn structures_have_the_size_that_programs_were_compiled_for() {
        assert_eq!(size_of::<abi::quorate_delivery_t>(), 48);
        assert_eq!(size_of::<abi::quorate_message_t>(), 80);
        assert_eq!(size_of::<abi::quorate_record_t>(), 112);
        assert_eq!(size_of::<abi::quorate_header_t>(), 24);
        assert_eq!(size_of::<abi::quorate_close_report_t>(), 16);
    }
}
