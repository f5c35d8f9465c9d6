//! Stable numbers for everything that can go wrong, the same on the wire, in C and in text.
//!
//! Invariant: a code is never reused or renamed; an unknown code acts as its class.

mod table;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

pub use crate::error_code::table::ErrorInfo;

/// What went wrong; the high byte is the class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(u16);

/// What a client does about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// 00: nothing went wrong.
    Success,
    /// 01: retry on the same broker with the same sequence.
    Transient,
    /// 02: retry on another broker with the same sequence.
    Reroute,
    /// 03: retry after the time the broker names.
    Throttled,
    /// 04 and unassigned classes: do not retry, surface.
    Fault,
    /// 05: do not dial again until the credentials change.
    Auth,
    /// 06: as the code says, else surface.
    Data,
    /// 07: do not retry, the handle ends.
    Fenced,
    /// 08: raised by the client itself, never on the wire.
    Local,
    /// 0F: retry only with the same sequence.
    Internal,
}

/// What became of the work that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It did not happen and will not.
    NotApplied,
    /// It happened.
    Applied,
    /// It may have happened or may still happen.
    Unknown,
}

/// The text is no error code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no error code: expected four hexadecimal digits, as in QRT-0201")]
pub struct ParseCodeError {
    text: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $value:literal $name:literal,)+) => {
        impl ErrorCode {
            /// Nothing went wrong.
            pub const OK: Self = Self(0);
            $($(#[$doc])* pub const $constant: Self = Self($value);)+

            /// The name of an assigned code, "Unassigned" for others.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::OK => "Ok",
                    $(Self::$constant => $name,)+
                    _ => "Unassigned",
                }
            }
        }

    };
}

codes! {
    /// The deadline passed before the work was begun.
    TIMEOUT = 0x0101 "Timeout",
    /// Too few replicas are reachable to decide anything.
    NOT_ENOUGH_REPLICAS = 0x0102 "NotEnoughReplicas",
    /// The batch was proposed, its fate is not known here.
    AMBIGUOUS_COMMIT = 0x0103 "AmbiguousCommit",
    /// The leader was elected but has not applied its log yet.
    LEADER_NOT_READY = 0x0104 "LeaderNotReady",
    /// Another broker leads the partition.
    NOT_LEADER = 0x0201 "NotLeader",
    /// No leader is known at the moment.
    LEADER_UNKNOWN = 0x0202 "LeaderUnknown",
    /// The connection reached its greatest age.
    SESSION_EXPIRED = 0x0203 "SessionExpired",
    /// The broker is shutting down.
    DRAINING = 0x0204 "Draining",
    /// The client's picture of the cluster is too old.
    STALE_TOPOLOGY = 0x0205 "StaleTopology",
    /// A quota of the principal is used up.
    QUOTA_EXCEEDED = 0x0301 "QuotaExceeded",
    /// The broker or the principal has as many connections as it may.
    TOO_MANY_CONNECTIONS = 0x0302 "TooManyConnections",
    /// The broker's disk is nearly full.
    DISK_FULL = 0x0303 "DiskFull",
    /// The broker has no memory or queue room left.
    OVERLOADED = 0x0304 "Overloaded",
    /// Streams are opened too fast.
    STREAM_RATE = 0x0305 "StreamRate",
    /// The receiver did not keep up.
    SLOW_CONSUMER = 0x0306 "SlowConsumer",
    /// The peer broke a rule of the protocol.
    PROTOCOL_VIOLATION = 0x0401 "ProtocolViolation",
    /// No common protocol version.
    UNSUPPORTED_VERSION = 0x0402 "UnsupportedVersion",
    /// A critical frame of an unknown kind.
    UNKNOWN_FRAME = 0x0403 "UnknownFrame",
    /// A frame exceeds the limit of its kind.
    FRAME_TOO_LARGE = 0x0404 "FrameTooLarge",
    /// A frame's bytes are not what its kind and version say.
    MALFORMED = 0x0405 "Malformed",
    /// A begun frame did not arrive in time.
    FRAME_TIMEOUT = 0x0406 "FrameTimeout",
    /// More was sent than credit allowed.
    CREDIT_EXCEEDED = 0x0407 "CreditExceeded",
    /// A field has a value that is not allowed.
    INVALID_ARGUMENT = 0x0408 "InvalidArgument",
    /// A batch or record exceeds its limit.
    BATCH_TOO_LARGE = 0x0409 "BatchTooLarge",
    /// The topic does not exist.
    UNKNOWN_TOPIC = 0x040A "UnknownTopic",
    /// The topic has no such partition.
    UNKNOWN_PARTITION = 0x040B "UnknownPartition",
    /// The name is taken.
    ALREADY_EXISTS = 0x040C "AlreadyExists",
    /// The cluster has not finalized the feature.
    FEATURE_NOT_FINALIZED = 0x040D "FeatureNotFinalized",
    /// A stated expectation does not hold.
    PRECONDITION_FAILED = 0x040E "PreconditionFailed",
    /// The broker belongs to another cluster.
    WRONG_CLUSTER = 0x040F "WrongCluster",
    /// The principal may not do this.
    AUTHORIZATION_FAILED = 0x0501 "AuthorizationFailed",
    /// The certificate is past its validity.
    CERTIFICATE_EXPIRED = 0x0502 "CertificateExpired",
    /// The certificate names no acceptable identity.
    IDENTITY_REJECTED = 0x0503 "IdentityRejected",
    /// The certificate was revoked.
    REVOKED = 0x0504 "Revoked",
    /// The identity was not proved in time.
    AUTH_TIMEOUT = 0x0505 "AuthTimeout",
    /// The broker is no member of the cluster.
    NOT_MEMBER = 0x0506 "NotMember",
    /// A batch's checksum or structure is wrong.
    CORRUPT_BATCH = 0x0601 "CorruptBatch",
    /// The offset is not in the log.
    OFFSET_OUT_OF_RANGE = 0x0602 "OffsetOutOfRange",
    /// The batch is compressed in an unknown way.
    UNSUPPORTED_CODEC = 0x0603 "UnsupportedCodec",
    /// The batch was made for another topic.
    TOPIC_MISMATCH = 0x0604 "TopicMismatch",
    /// The data exists but cannot be read right now.
    DATA_UNAVAILABLE = 0x0605 "DataUnavailable",
    /// A newer owner of the producer exists.
    PRODUCER_FENCED = 0x0701 "ProducerFenced",
    /// Sequences are missing before this batch.
    OUT_OF_ORDER_SEQUENCE = 0x0702 "OutOfOrderSequence",
    /// The partition remembers nothing of this producer.
    UNKNOWN_PRODUCER = 0x0703 "UnknownProducer",
    /// A sequence came again with other content.
    SEQUENCE_REUSED = 0x0704 "SequenceReused",
    /// Some messages of the batch were published before.
    PARTIAL_DUPLICATE = 0x0705 "PartialDuplicate",
    /// The consumer group has moved on.
    STALE_GENERATION = 0x0706 "StaleGeneration",
    /// A newer incarnation of the broker exists.
    INCARNATION_FENCED = 0x0707 "IncarnationFenced",
    /// No broker could be reached.
    CONNECT = 0x0801 "Connect",
    /// The broker's certificate was not accepted.
    TLS = 0x0802 "Tls",
    /// The client's own identity files cannot be used.
    IDENTITY_FILES = 0x0803 "IdentityFiles",
    /// The call would have to wait.
    WOULD_BLOCK = 0x0804 "WouldBlock",
    /// The handle was closed.
    CLOSED = 0x0805 "Closed",
    /// The call was cancelled.
    CANCELLED = 0x0806 "Cancelled",
    /// The process was forked.
    FORKED = 0x0807 "Forked",
    /// Header and library do not match.
    ABI_MISMATCH = 0x0808 "AbiMismatch",
    /// The caller's own time limit passed.
    WAIT_TIMEOUT = 0x0809 "WaitTimeout",
    /// Records are missing from a subscription.
    GAP = 0x080A "Gap",
    /// A defect in the broker.
    INTERNAL = 0x0F01 "Internal",
}

impl ErrorCode {
    /// Wraps a raw code, assigned or not.
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// The raw code.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether nothing went wrong.
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// What a client does about this code.
    pub const fn class(self) -> ErrorClass {
        match self.0 >> 8 {
            0x00 if self.0 == 0 => ErrorClass::Success,
            0x01 => ErrorClass::Transient,
            0x02 => ErrorClass::Reroute,
            0x03 => ErrorClass::Throttled,
            0x05 => ErrorClass::Auth,
            0x06 => ErrorClass::Data,
            0x07 => ErrorClass::Fenced,
            0x08 => ErrorClass::Local,
            0x0F => ErrorClass::Internal,
            _ => ErrorClass::Fault,
        }
    }

    /// Whether the same work may succeed later without anybody changing anything.
    ///
    /// A publish is retried with its original sequence, or not at all.
    pub const fn is_retryable(self) -> bool {
        match self.class() {
            ErrorClass::Transient
            | ErrorClass::Reroute
            | ErrorClass::Throttled
            | ErrorClass::Internal => true,
            ErrorClass::Data => matches!(self, Self::CORRUPT_BATCH | Self::DATA_UNAVAILABLE),
            ErrorClass::Local => {
                matches!(self, Self::CONNECT | Self::WOULD_BLOCK | Self::WAIT_TIMEOUT)
            }
            ErrorClass::Success | ErrorClass::Fault | ErrorClass::Auth | ErrorClass::Fenced => {
                false
            }
        }
    }

    /// What became of work that was *answered* with this code.
    ///
    /// Work that was sent and never answered is `Unknown` whatever code ended the connection.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::OK => Outcome::Applied,
            Self::AMBIGUOUS_COMMIT | Self::WAIT_TIMEOUT => Outcome::Unknown,
            _ => match self.class() {
                ErrorClass::Internal => Outcome::Unknown,
                _ => Outcome::NotApplied,
            },
        }
    }

    /// Reads `QRT-0201` or `0201`.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(text: &str) -> Result<Self, ParseCodeError> {
        let wrong = || ParseCodeError {
            text: text.chars().take(32).collect(),
        };
        let digits = match text.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("QRT-") => text.get(4..),
            _ => Some(text),
        };
        let digits = digits.filter(|d| d.len() == 4 && d.bytes().all(|b| b.is_ascii_hexdigit()));
        let raw = digits.and_then(|d| u16::from_str_radix(d, 16).ok());
        raw.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QRT-{:04X}", self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {}", self.name())
    }
}

impl FromStr for ErrorCode {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned() -> impl Iterator<Item = ErrorCode> {
        ErrorCode::ALL.iter().map(|info| info.code)
    }

    #[test]
    fn codes_print_and_parse() {
        assert_eq!(ErrorCode::UNKNOWN_TOPIC.to_string(), "QRT-040A");
        for code in assigned() {
            assert_eq!(ErrorCode::parse(&code.to_string()), Ok(code));
        }
        assert_eq!(ErrorCode::parse("qrt-040a"), Ok(ErrorCode::UNKNOWN_TOPIC));
        assert_eq!(ErrorCode::parse("0201"), Ok(ErrorCode::NOT_LEADER));
        for text in [
            "",
            "QRT-",
            "QRT-1",
            "QRT-+201",
            "02010",
            "é201",
            "NotLeader",
        ] {
            assert!(ErrorCode::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_named_code_is_explained() {
        let named = (0..=u16::MAX)
            .map(ErrorCode::new)
            .filter(|code| !matches!(code.name(), "Ok" | "Unassigned"));
        assert!(assigned().eq(named));
        let mut names: Vec<_> = assigned().map(ErrorCode::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn an_unassigned_code_acts_as_its_class() {
        let code = ErrorCode::new(0x02ff);
        assert_eq!(code.class(), ErrorClass::Reroute);
        assert_eq!(code.name(), "Unassigned");
        assert!(code.is_retryable());
        assert_eq!(ErrorCode::new(0xee01).class(), ErrorClass::Fault);
    }

    #[test]
    fn only_marked_codes_leave_the_outcome_open() {
        let open = assigned().filter(|code| code.outcome() == Outcome::Unknown);
        let expected = [
            ErrorCode::AMBIGUOUS_COMMIT,
            ErrorCode::WAIT_TIMEOUT,
            ErrorCode::INTERNAL,
        ];
        assert!(open.eq(expected));
    }
}
