//! Texts that C was given and has to free.
//!
//! Invariant: the library owns them until then, so freeing twice does nothing.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ffi::c_char;

use parking_lot::Mutex;

use crate::border::cross;
use crate::failure::Failure;

static GIVEN: Mutex<BTreeMap<usize, CString>> = Mutex::new(BTreeMap::new());

/// Lends a text to C until it is freed.
pub(crate) fn give(text: String) -> Result<*mut c_char, Failure> {
    let text = CString::new(text);
    let text = text.map_err(|_| Failure::invalid("the result has a NUL in it"))?;
    let pointer = text.as_ptr().cast_mut();
    GIVEN.lock().insert(pointer.addr(), text);
    Ok(pointer)
}

/// Frees a text that this library gave out. NULL is fine; what is no such text, or was freed, is
/// left alone. Does not block; may be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_string_free(text: *mut c_char) {
    let _freed = cross(|| {
        GIVEN.lock().remove(&text.addr());
        Ok(())
    })
    .is_ok();
}
