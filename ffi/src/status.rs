//! Status codes: minus the protocol's error codes, with names and one line of text each.
//!
//! Invariant: a constant is never renumbered or reused; a test compares them with the protocol's.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_char;
use std::sync::OnceLock;

use quorate::ErrorCode;

use crate::abi::QUORATE_END;
use crate::abi::QUORATE_OK;
use crate::abi::quorate_status_t;

/// The deadline passed before the work was begun.
pub const QUORATE_E_TIMEOUT: quorate_status_t = -0x0101;
/// Too few replicas are reachable to decide anything.
pub const QUORATE_E_NOT_ENOUGH_REPLICAS: quorate_status_t = -0x0102;
/// The batch was proposed, its fate is not known here.
pub const QUORATE_E_AMBIGUOUS_COMMIT: quorate_status_t = -0x0103;
/// The leader was elected but has not applied its log yet.
pub const QUORATE_E_LEADER_NOT_READY: quorate_status_t = -0x0104;
/// Another broker leads the partition.
pub const QUORATE_E_NOT_LEADER: quorate_status_t = -0x0201;
/// No leader is known at the moment.
pub const QUORATE_E_LEADER_UNKNOWN: quorate_status_t = -0x0202;
/// The connection reached its greatest age.
pub const QUORATE_E_SESSION_EXPIRED: quorate_status_t = -0x0203;
/// The broker is shutting down.
pub const QUORATE_E_DRAINING: quorate_status_t = -0x0204;
/// The client's picture of the cluster is too old.
pub const QUORATE_E_STALE_TOPOLOGY: quorate_status_t = -0x0205;
/// A quota of the principal is used up.
pub const QUORATE_E_QUOTA_EXCEEDED: quorate_status_t = -0x0301;
/// The broker or the principal has as many connections as it may.
pub const QUORATE_E_TOO_MANY_CONNECTIONS: quorate_status_t = -0x0302;
/// The broker's disk is nearly full.
pub const QUORATE_E_DISK_FULL: quorate_status_t = -0x0303;
/// The broker has no memory or queue room left.
pub const QUORATE_E_OVERLOADED: quorate_status_t = -0x0304;
/// Streams are opened too fast.
pub const QUORATE_E_STREAM_RATE: quorate_status_t = -0x0305;
/// The receiver did not keep up.
pub const QUORATE_E_SLOW_CONSUMER: quorate_status_t = -0x0306;
/// The peer broke a rule of the protocol.
pub const QUORATE_E_PROTOCOL_VIOLATION: quorate_status_t = -0x0401;
/// No common protocol version.
pub const QUORATE_E_UNSUPPORTED_VERSION: quorate_status_t = -0x0402;
/// A critical frame of an unknown kind.
pub const QUORATE_E_UNKNOWN_FRAME: quorate_status_t = -0x0403;
/// A frame exceeds the limit of its kind.
pub const QUORATE_E_FRAME_TOO_LARGE: quorate_status_t = -0x0404;
/// A frame's bytes are not what its kind and version say.
pub const QUORATE_E_MALFORMED: quorate_status_t = -0x0405;
/// A begun frame did not arrive in time.
pub const QUORATE_E_FRAME_TIMEOUT: quorate_status_t = -0x0406;
/// More was sent than credit allowed.
pub const QUORATE_E_CREDIT_EXCEEDED: quorate_status_t = -0x0407;
/// A field has a value that is not allowed.
pub const QUORATE_E_INVALID_ARGUMENT: quorate_status_t = -0x0408;
/// A batch or record exceeds its limit.
pub const QUORATE_E_BATCH_TOO_LARGE: quorate_status_t = -0x0409;
/// The topic does not exist.
pub const QUORATE_E_UNKNOWN_TOPIC: quorate_status_t = -0x040A;
/// The topic has no such partition.
pub const QUORATE_E_UNKNOWN_PARTITION: quorate_status_t = -0x040B;
/// The name is taken.
pub const QUORATE_E_ALREADY_EXISTS: quorate_status_t = -0x040C;
/// The cluster has not finalized the feature.
pub const QUORATE_E_FEATURE_NOT_FINALIZED: quorate_status_t = -0x040D;
/// A stated expectation does not hold.
pub const QUORATE_E_PRECONDITION_FAILED: quorate_status_t = -0x040E;
/// The broker belongs to another cluster.
pub const QUORATE_E_WRONG_CLUSTER: quorate_status_t = -0x040F;
/// The principal may not do this.
pub const QUORATE_E_AUTHORIZATION_FAILED: quorate_status_t = -0x0501;
/// The certificate is past its validity.
pub const QUORATE_E_CERTIFICATE_EXPIRED: quorate_status_t = -0x0502;
/// The certificate names no acceptable identity.
pub const QUORATE_E_IDENTITY_REJECTED: quorate_status_t = -0x0503;
/// The certificate was revoked.
pub const QUORATE_E_REVOKED: quorate_status_t = -0x0504;
/// The identity was not proved in time.
pub const QUORATE_E_AUTH_TIMEOUT: quorate_status_t = -0x0505;
/// The broker is no member of the cluster.
pub const QUORATE_E_NOT_MEMBER: quorate_status_t = -0x0506;
/// A batch's checksum or structure is wrong.
pub const QUORATE_E_CORRUPT_BATCH: quorate_status_t = -0x0601;
/// The offset is not in the log.
pub const QUORATE_E_OFFSET_OUT_OF_RANGE: quorate_status_t = -0x0602;
/// The batch is compressed in an unknown way.
pub const QUORATE_E_UNSUPPORTED_CODEC: quorate_status_t = -0x0603;
/// The batch was made for another topic.
pub const QUORATE_E_TOPIC_MISMATCH: quorate_status_t = -0x0604;
/// The data exists but cannot be read right now.
pub const QUORATE_E_DATA_UNAVAILABLE: quorate_status_t = -0x0605;
/// A newer owner of the producer exists.
pub const QUORATE_E_PRODUCER_FENCED: quorate_status_t = -0x0701;
/// Sequences are missing before this batch.
pub const QUORATE_E_OUT_OF_ORDER_SEQUENCE: quorate_status_t = -0x0702;
/// The partition remembers nothing of this producer.
pub const QUORATE_E_UNKNOWN_PRODUCER: quorate_status_t = -0x0703;
/// A sequence came again with other content.
pub const QUORATE_E_SEQUENCE_REUSED: quorate_status_t = -0x0704;
/// Some messages of the batch were published before.
pub const QUORATE_E_PARTIAL_DUPLICATE: quorate_status_t = -0x0705;
/// The consumer group has moved on.
pub const QUORATE_E_STALE_GENERATION: quorate_status_t = -0x0706;
/// A newer incarnation of the broker exists.
pub const QUORATE_E_INCARNATION_FENCED: quorate_status_t = -0x0707;
/// No broker could be reached.
pub const QUORATE_E_CONNECT: quorate_status_t = -0x0801;
/// The broker's certificate was not accepted.
pub const QUORATE_E_TLS: quorate_status_t = -0x0802;
/// The client's own identity files cannot be used.
pub const QUORATE_E_IDENTITY_FILES: quorate_status_t = -0x0803;
/// The call would have to wait.
pub const QUORATE_E_WOULD_BLOCK: quorate_status_t = -0x0804;
/// The handle was closed.
pub const QUORATE_E_CLOSED: quorate_status_t = -0x0805;
/// The call was cancelled.
pub const QUORATE_E_CANCELLED: quorate_status_t = -0x0806;
/// The process was forked.
pub const QUORATE_E_FORKED: quorate_status_t = -0x0807;
/// Header and library do not match.
pub const QUORATE_E_ABI_MISMATCH: quorate_status_t = -0x0808;
/// The caller's own time limit passed.
pub const QUORATE_E_WAIT_TIMEOUT: quorate_status_t = -0x0809;
/// Records are missing from a subscription.
pub const QUORATE_E_GAP: quorate_status_t = -0x080A;
/// A defect in the broker.
pub const QUORATE_E_INTERNAL: quorate_status_t = -0x0F01;

/// The status of a code.
pub(crate) fn of(code: ErrorCode) -> quorate_status_t {
    -quorate_status_t::from(code.get())
}

/// The code of a status; none for those that are no errors and those that cannot be.
fn code(status: quorate_status_t) -> Option<ErrorCode> {
    let raw = u16::try_from(status.checked_neg()?).ok()?;
    (raw != 0).then(|| ErrorCode::new(raw))
}

/// What is told about a status, for ever.
struct Known {
    status: quorate_status_t,
    name: CString,
    title: CString,
}

fn known(status: quorate_status_t) -> Option<&'static Known> {
    static TABLE: OnceLock<Vec<Known>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let known = |info: &quorate::ErrorInfo| Known {
            status: of(info.code),
            name: CString::new(constant_name(info.name)).unwrap_or_default(),
            title: CString::new(info.title).unwrap_or_default(),
        };
        ErrorCode::ALL.iter().map(known).collect()
    });
    table.iter().find(|known| known.status == status)
}

/// `NotLeader` as `QUORATE_E_NOT_LEADER`.
fn constant_name(name: &str) -> String {
    let mut constant = String::from("QUORATE_E");
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            constant.push('_');
        }
        constant.push(letter.to_ascii_uppercase());
    }
    constant
}

/// The name of a status as in this header, such as "QUORATE_E_NOT_LEADER". Never NULL; not to be
/// freed. Does not block; may be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_status_name(status: quorate_status_t) -> *const c_char {
    let name: &CStr = match status {
        QUORATE_OK => c"QUORATE_OK",
        QUORATE_END => c"QUORATE_END",
        _ => known(status).map_or(c"unassigned", |known| &known.name),
    };
    name.as_ptr()
}

/// One line about what a status means, for people. Never NULL; not to be freed. Does not block;
/// may be called from any thread. `quorate_last_error()` says more about the call that failed.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_strerror(status: quorate_status_t) -> *const c_char {
    let title: &CStr = match status {
        QUORATE_OK => c"done",
        QUORATE_END => c"the end that was asked for is reached",
        _ => known(status).map_or(c"a code that this version does not know", |known| {
            &known.title
        }),
    };
    title.as_ptr()
}

/// 1 if the same call may succeed later without a change by the caller, else 0. Does not block; may
/// be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_status_retryable(status: quorate_status_t) -> u8 {
    u8::from(code(status).is_some_and(ErrorCode::is_retryable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pointer: *const c_char) -> &'static str {
        // SAFETY: the functions above return static text.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
    }

    #[test]
    fn constants_are_the_protocols_codes_and_all_of_them() {
        let source = include_str!("status.rs");
        let mut constants = std::collections::BTreeMap::new();
        for line in source.lines() {
            let Some(rest) = line.strip_prefix("pub const QUORATE_E_") else {
                continue;
            };
            let (name, value) = rest.split_once(": quorate_status_t = -0x").unwrap();
            let value = u16::from_str_radix(value.trim_end_matches(';'), 16).unwrap();
            constants.insert(value, format!("QUORATE_E_{name}"));
        }
        let codes = ErrorCode::ALL.iter();
        let codes: std::collections::BTreeMap<_, _> = codes
            .map(|info| (info.code.get(), constant_name(info.name)))
            .collect();
        assert_eq!(constants, codes);
    }

    #[test]
    fn each_status_has_a_name_and_a_sentence() {
        assert_eq!(
            text(quorate_status_name(QUORATE_E_NOT_LEADER)),
            "QUORATE_E_NOT_LEADER"
        );
        assert_eq!(
            text(quorate_strerror(QUORATE_E_UNKNOWN_TOPIC)),
            "the topic does not exist"
        );
        for odd in [2, i32::MIN, i32::MAX, -1, -0x10_0000] {
            assert_eq!(text(quorate_status_name(odd)), "unassigned");
            assert!(!text(quorate_strerror(odd)).is_empty());
        }
        assert_eq!(quorate_status_retryable(QUORATE_E_NOT_LEADER), 1);
        assert_eq!(quorate_status_retryable(QUORATE_E_UNKNOWN_TOPIC), 0);
        assert_eq!(quorate_status_retryable(QUORATE_OK), 0);
    }
}
