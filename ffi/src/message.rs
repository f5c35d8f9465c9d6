//! Reading a message where C has it, without copying.

use std::ffi::c_void;

use quorate::ErrorCode;
use quorate::Message;
use quorate::MessageId;
use quorate::MessageRef;

use crate::abi::QUORATE_MSG_HAS_PARTITION;
use crate::abi::quorate_header_t;
use crate::abi::quorate_message_t;
use crate::border;
use crate::failure::Failure;

/// No field of a message can be larger, whatever a topic allows.
const FIELD_BYTES_MAX: usize = 8 << 20;
/// A message has at most so many headers.
const HEADERS_MAX: usize = 4096;
/// So many headers need no memory of their own.
const HEADERS_INLINE: usize = 16;
/// No version of a message will be larger.
const STRUCT_BYTES_MAX: usize = 1024;

type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Borrows the message that C lends and hands it to `use_it`.
///
/// # Safety
/// `message` is NULL or points to `struct_size` bytes of a message, each of whose pointers is NULL
/// or valid for the length beside it; none of it changes during the call.
#[inline]
pub(crate) unsafe fn read<T>(
    message: *const quorate_message_t,
    use_it: impl FnOnce(&MessageRef<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // SAFETY: as the caller promises.
    let message = unsafe { checked(message) }?;
    let plain = MessageRef {
        // SAFETY: as the caller promises.
        value: unsafe { bytes(message.payload, message.payload_len, "payload") }?,
        // SAFETY: as the caller promises.
        key: unsafe { bytes(message.key, message.key_len, "key") }?,
        headers: &[],
        // SAFETY: as the caller promises.
        id: unsafe { id(message.id) },
        partition: match message.flags {
            0 => None,
            QUORATE_MSG_HAS_PARTITION => Some(message.partition),
            flags => {
                return Err(Failure::invalid(format!(
                    "unknown message flags {flags:#x}"
                )));
            }
        },
        timestamp_us: match message.timestamp_us {
            0 => None,
            micros => Some(u64::try_from(micros).map_err(|_| {
                Failure::invalid(format!("timestamp_us is {micros}; it counts from 1970"))
            })?),
        },
    };
    if message.headers_len == 0 {
        return use_it(&plain);
    }
    // SAFETY: as the caller promises.
    unsafe { with_headers(message, &plain, use_it) }
}

/// How far messages in an array are apart.
///
/// # Safety
/// As for [`read`], of the first message.
pub(crate) unsafe fn stride(messages: *const quorate_message_t) -> Result<usize, Failure> {
    // SAFETY: as the caller promises.
    Ok(unsafe { checked(messages) }?.struct_size)
}

/// An owned copy, for calls that outlive the borrow.
pub(crate) fn owned(message: &MessageRef<'_>) -> Message {
    let mut copy = match message.value {
        Some(value) => Message::new(value.to_vec()),
        None => Message::empty(),
    };
    if let Some(key) = message.key {
        copy = copy.key(key.to_vec());
    }
    for (name, value) in message.headers {
        copy = copy.header(*name, value.unwrap_or_default().to_vec());
    }
    if let Some(id) = message.id {
        copy = copy.id(id);
    }
    if let Some(partition) = message.partition {
        copy = copy.partition(partition);
    }
    if let Some(micros) = message.timestamp_us {
        copy = copy.timestamp_us(micros);
    }
    copy
}

/// Borrows the structure once its size is known to be right.
///
/// # Safety
/// As for [`read`].
#[inline]
unsafe fn checked<'a>(message: *const quorate_message_t) -> Result<&'a quorate_message_t, Failure> {
    if message.is_null() {
        return Err(Failure::invalid("the message is NULL"));
    }
    if !message.is_aligned() {
        return Err(Failure::invalid("the message is not aligned"));
    }
    // SAFETY: not NULL and aligned; the first field is there whatever the version is.
    let size = unsafe { message.cast::<usize>().read() };
    if size != size_of::<quorate_message_t>() {
        // SAFETY: as the caller promises.
        unsafe { newer(message, size) }?;
    }
    // SAFETY: aligned, and at least as large as this version's.
    Ok(unsafe { &*message })
}

/// A message of a newer header is understood if it uses nothing new.
///
/// # Safety
/// As for [`read`].
#[cold]
unsafe fn newer(message: *const quorate_message_t, size: usize) -> Result<(), Failure> {
    let known = size_of::<quorate_message_t>();
    let wrong = |why: &str| {
        let text = format!("struct_size is {size}, {why}; begin with QUORATE_MESSAGE_INIT");
        Err(Failure::new(ErrorCode::ABI_MISMATCH, text))
    };
    if !(known..=STRUCT_BYTES_MAX).contains(&size) {
        return wrong("which no version has");
    }
    // SAFETY: the structure has `size` bytes.
    let all = unsafe { std::slice::from_raw_parts(message.cast::<u8>(), size) };
    match all.iter().skip(known).all(|byte| *byte == 0) {
        true => Ok(()),
        false => wrong("and fields are used that this library does not know"),
    }
}

/// # Safety
/// `data` is NULL or valid for `len` bytes for `'a`.
#[inline]
unsafe fn bytes<'a>(
    data: *const c_void,
    len: usize,
    what: &str,
) -> Result<Option<&'a [u8]>, Failure> {
    if data.is_null() {
        return match len {
            0 => Ok(None),
            _ => Err(Failure::invalid(format!(
                "{what} is NULL, but {what}_len is {len}"
            ))),
        };
    }
    if len > FIELD_BYTES_MAX {
        return Err(too_large(len, what));
    }
    // SAFETY: not NULL, of a possible size, and valid as the caller promises.
    Ok(Some(unsafe {
        std::slice::from_raw_parts(data.cast(), len)
    }))
}

#[cold]
fn too_large(len: usize, what: &str) -> Failure {
    let text = format!("{what}_len is {len}; no message is larger than {FIELD_BYTES_MAX} bytes");
    Failure::new(ErrorCode::BATCH_TOO_LARGE, text)
}

/// # Safety
/// `id` is NULL or points to 16 bytes.
#[inline]
unsafe fn id(id: *const u8) -> Option<MessageId> {
    if id.is_null() {
        return None;
    }
    // SAFETY: as the caller promises; bytes need no alignment.
    let bytes = unsafe { id.cast::<[u8; 16]>().read() };
    Some(MessageId::new(u128::from_be_bytes(bytes)))
}

/// # Safety
/// As for [`read`].
unsafe fn with_headers<T>(
    message: &quorate_message_t,
    plain: &MessageRef<'_>,
    use_it: impl FnOnce(&MessageRef<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let len = usize::try_from(message.headers_len).unwrap_or(usize::MAX);
    if message.headers.is_null() || !message.headers.is_aligned() {
        return Err(Failure::invalid("headers is no array of headers"));
    }
    if len > HEADERS_MAX {
        let text = format!("headers_len is {len}; a message has at most {HEADERS_MAX} headers");
        return Err(Failure::invalid(text));
    }
    // SAFETY: not NULL, aligned, of a possible size, and valid as the caller promises.
    let headers = unsafe { std::slice::from_raw_parts(message.headers, len) };
    let mut inline: [Header<'_>; HEADERS_INLINE] = [("", None); HEADERS_INLINE];
    let mut large = Vec::new();
    let room = match inline.get_mut(..len) {
        Some(room) => room,
        None => {
            large.resize(len, ("", None));
            &mut large
        }
    };
    for (slot, given) in room.iter_mut().zip(headers) {
        // SAFETY: as the caller promises.
        *slot = unsafe { header(given) }?;
    }
    use_it(&MessageRef {
        headers: room,
        ..*plain
    })
}

/// # Safety
/// The header's pointers are NULL or valid.
unsafe fn header(given: &quorate_header_t) -> Result<Header<'_>, Failure> {
    // SAFETY: as the caller promises.
    let name = unsafe { border::text(given.name, "a header's name") }?;
    // SAFETY: as the caller promises.
    let value = unsafe { bytes(given.value, given.value_len, "value") }?;
    Ok((name, Some(value.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use std::ptr::null;

    use super::*;
    use crate::status::QUORATE_E_ABI_MISMATCH;
    use crate::status::QUORATE_E_BATCH_TOO_LARGE;
    use crate::status::QUORATE_E_INVALID_ARGUMENT;

    fn empty() -> quorate_message_t {
        quorate_message_t {
            struct_size: size_of::<quorate_message_t>(),
            payload: null(),
            payload_len: 0,
            key: null(),
            key_len: 0,
            id: null(),
            headers: null(),
            timestamp_us: 0,
            headers_len: 0,
            partition: 0,
            flags: 0,
            reserved: 0,
        }
    }

    fn status(message: &quorate_message_t) -> i32 {
        // SAFETY: what the message points to is a constant or NULL.
        let read = unsafe { read(message, |_| Ok(())) };
        read.unwrap_err().note()
    }

    #[test]
    fn every_field_is_read() {
        let headers: Vec<_> = (0..20)
            .map(|n: usize| quorate_header_t {
                name: c"origin".as_ptr(),
                value: if n == 0 {
                    null()
                } else {
                    b"till-7".as_ptr().cast()
                },
                value_len: if n == 0 { 0 } else { 6 },
            })
            .collect();
        let message = quorate_message_t {
            payload: b"3 apples".as_ptr().cast(),
            payload_len: 8,
            key: b"k".as_ptr().cast(),
            key_len: 0,
            id: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2].as_ptr(),
            headers: headers.as_ptr(),
            headers_len: 20,
            timestamp_us: 5,
            partition: 3,
            flags: QUORATE_MSG_HAS_PARTITION,
            ..empty()
        };
        let check = |read: &MessageRef<'_>| {
            assert_eq!(
                (read.value, read.key),
                (Some(&b"3 apples"[..]), Some(&b""[..]))
            );
            assert_eq!(read.id, Some(MessageId::new(0x102)));
            assert_eq!(read.headers[0], ("origin", Some(&b""[..])));
            assert_eq!(read.headers[19], ("origin", Some(&b"till-7"[..])));
            assert_eq!((read.timestamp_us, read.partition), (Some(5), Some(3)));
            Ok(())
        };
        // SAFETY: everything lives until the end of this test.
        unsafe { read(&raw const message, check) }.unwrap();
    }

    #[test]
    fn what_cannot_be_a_message_is_refused_before_it_is_followed() {
        let huge = quorate_message_t {
            payload: b"x".as_ptr().cast(),
            payload_len: usize::MAX,
            ..empty()
        };
        assert_eq!(status(&huge), QUORATE_E_BATCH_TOO_LARGE);
        let none = quorate_message_t {
            key_len: 3,
            ..empty()
        };
        assert_eq!(status(&none), QUORATE_E_INVALID_ARGUMENT);
        for message in [
            quorate_message_t {
                flags: 6,
                ..empty()
            },
            quorate_message_t {
                timestamp_us: -1,
                ..empty()
            },
            quorate_message_t {
                headers_len: 1,
                ..empty()
            },
        ] {
            assert_eq!(status(&message), QUORATE_E_INVALID_ARGUMENT);
        }
        let nameless = quorate_header_t {
            name: c"\xff".as_ptr(),
            value: null(),
            value_len: 0,
        };
        let odd = quorate_message_t {
            headers: &raw const nameless,
            headers_len: 1,
            ..empty()
        };
        assert_eq!(status(&odd), QUORATE_E_INVALID_ARGUMENT);
        let many = quorate_message_t {
            headers_len: u32::MAX,
            ..odd
        };
        assert_eq!(status(&many), QUORATE_E_INVALID_ARGUMENT);
    }

    #[test]
    fn another_headers_message_is_understood_as_far_as_possible() {
        #[repr(C)]
        struct Newer(quorate_message_t, u64);
        let size = size_of::<Newer>();
        for (added, understood) in [(0, true), (1, false)] {
            let message = Newer(
                quorate_message_t {
                    struct_size: size,
                    ..empty()
                },
                added,
            );
            // SAFETY: the structure is as large as it says.
            let read = unsafe { read((&raw const message).cast(), |_| Ok(())) };
            assert_eq!(read.is_ok(), understood);
        }
        for struct_size in [0, 8, 1 << 20, usize::MAX] {
            let message = quorate_message_t {
                struct_size,
                ..empty()
            };
            assert_eq!(status(&message), QUORATE_E_ABI_MISMATCH);
        }
    }
}
