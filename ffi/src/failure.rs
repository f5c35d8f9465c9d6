//! What went wrong in a call, and the last of it for each thread, as C reads it.
//!
//! Invariant: the text is in a fixed buffer of its thread, NUL-terminated and valid UTF-8.

use std::cell::Cell;
use std::cell::UnsafeCell;
use std::ffi::c_char;

use quorate::Error;
use quorate::ErrorCode;
use quorate::Outcome;

use crate::abi::QUORATE_OUTCOME_APPLIED;
use crate::abi::QUORATE_OUTCOME_NOT_APPLIED;
use crate::abi::QUORATE_OUTCOME_UNKNOWN;
use crate::abi::quorate_status_t;
use crate::status;

/// Bytes of the buffer, the final NUL among them.
const TEXT_BYTES: usize = 512;

/// A failed call.
#[derive(Debug)]
pub(crate) struct Failure {
    code: ErrorCode,
    text: String,
    outcome: Outcome,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            outcome: code.outcome(),
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_ARGUMENT, text)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorCode::CLOSED, format!("the {what} was closed"))
    }

    pub(crate) fn forked() -> Self {
        let text = "this process was forked after it connected; connect in the child instead";
        Self::new(ErrorCode::FORKED, text)
    }

    /// The call would have to wait.
    pub(crate) fn would_block(what: &str) -> Self {
        Self::new(ErrorCode::WOULD_BLOCK, what).with_outcome(Outcome::NotApplied)
    }

    pub(crate) fn with_outcome(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// Puts the place in front of the text.
    pub(crate) fn at(self, place: &str) -> Self {
        let text = format!("{place}: {}", self.text);
        Self { text, ..self }
    }

    /// The same under another code.
    pub(crate) fn with_code(self, code: ErrorCode) -> Self {
        Self { code, ..self }
    }

    pub(crate) fn status(&self) -> quorate_status_t {
        status::of(self.code)
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Keeps it as the last error of this thread; its status.
    pub(crate) fn note(&self) -> quorate_status_t {
        let code = self.code;
        let text = format!("{code} {}: {}", code.name(), self.text);
        LAST.with(|last| last.set(&text, outcome(self.outcome), code.is_retryable()));
        status::of(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = match error.help() {
            Some(help) => format!("{error} (help: {help})"),
            None => error.to_string(),
        };
        Self {
            code: error.code(),
            text,
            outcome: error.outcome(),
        }
    }
}

/// `QUORATE_OUTCOME_...`
pub(crate) fn outcome(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::NotApplied => QUORATE_OUTCOME_NOT_APPLIED,
        Outcome::Applied => QUORATE_OUTCOME_APPLIED,
        _ => QUORATE_OUTCOME_UNKNOWN,
    }
}

/// The last error of a thread.
struct Last {
    text: UnsafeCell<[u8; TEXT_BYTES]>,
    outcome: Cell<u8>,
    retryable: Cell<bool>,
}

thread_local! {
    static LAST: Last = const {
        Last {
            text: UnsafeCell::new([0; TEXT_BYTES]),
            outcome: Cell::new(QUORATE_OUTCOME_NOT_APPLIED),
            retryable: Cell::new(false),
        }
    };
}

impl Last {
    fn set(&self, text: &str, outcome: u8, retryable: bool) {
        // SAFETY: only this thread reaches its buffer, and no reference to it outlives this block;
        // C programs were told that the text changes with the next failed call of their thread.
        let buffer = unsafe { &mut *self.text.get() };
        let cut = text.floor_char_boundary(TEXT_BYTES - 1);
        // A NUL would end the text early.
        let kept = text.bytes().take(cut).map(|byte| byte.max(1));
        let end = std::iter::repeat_n(0, TEXT_BYTES);
        for (slot, byte) in buffer.iter_mut().zip(kept.chain(end)) {
            *slot = byte;
        }
        self.outcome.set(outcome);
        self.retryable.set(retryable);
    }
}

/// What went wrong in the last failed call of this thread, as one line of UTF-8; empty if none has
/// failed. A successful call leaves it as it is. Never NULL; the buffer belongs to the thread: not
/// to be freed, changed by the thread's next failed call. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_last_error() -> *const c_char {
    LAST.with(|last| last.text.get().cast_const().cast())
}

/// `QUORATE_OUTCOME_...` of the last failed call of this thread: whether what was asked for took
/// effect. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_last_error_outcome() -> u8 {
    LAST.with(|last| last.outcome.get())
}

/// 1 if the last failed call of this thread may succeed later without a change by the caller, else
/// 0. Does not block.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_last_error_retryable() -> u8 {
    LAST.with(|last| u8::from(last.retryable.get()))
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last() -> String {
        // SAFETY: the text is NUL-terminated and unchanged during this call.
        let text = unsafe { CStr::from_ptr(quorate_last_error()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_long_text_is_cut_between_letters_and_a_short_one_leaves_nothing_of_it() {
        assert_eq!(last(), "");
        Failure::invalid("é".repeat(600)).note();
        assert!(last().len() < TEXT_BYTES && last().ends_with('é'));
        let status = Failure::invalid("a\0b").note();
        assert_eq!(status, status::QUORATE_E_INVALID_ARGUMENT);
        assert_eq!(last(), "QRT-0408 InvalidArgument: a\u{1}b");
    }

    #[test]
    fn each_thread_has_its_own() {
        Failure::new(ErrorCode::AMBIGUOUS_COMMIT, "here").note();
        let other = std::thread::scope(|scope| scope.spawn(last).join().unwrap());
        assert_eq!(other, "");
        assert_eq!(quorate_last_error_outcome(), QUORATE_OUTCOME_UNKNOWN);
        assert_eq!(quorate_last_error_retryable(), 1);
    }
}
