//! What went wrong: kind, stable code, retryable or not, outcome, and what to do about it.
//!
//! One error may answer many deliveries, so an `Error` is a cheap clone of one shared value.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ErrorCode;
use quorate_protocol::Offset;
use quorate_protocol::Outcome;

use crate::record::Gap;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    code: ErrorCode,
    message: String,
    help: Option<String>,
    outcome: Outcome,
    retry_after: Option<Duration>,
    gap: Option<Gap>,
    range: Option<(Offset, Offset)>,
}

impl Error {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                code,
                message: message.into(),
                help: None,
                outcome: code.outcome(),
                retry_after: None,
                gap: None,
                range: None,
            }),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_ARGUMENT, message)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorCode::CLOSED, format!("the {what} is closed"))
            .with_outcome(Outcome::NotApplied)
    }

    pub(crate) fn missing_records(gap: Gap) -> Self {
        Self::new(ErrorCode::GAP, gap.to_string()).change(|inner| inner.gap = Some(gap))
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        self.change(|inner| inner.help = Some(help.into()))
    }

    pub(crate) fn with_outcome(self, outcome: Outcome) -> Self {
        self.change(|inner| inner.outcome = outcome)
    }

    pub(crate) fn with_retry_after_ms(self, milliseconds: u32) -> Self {
        if milliseconds == 0 {
            return self;
        }
        let wait = Duration::from_millis(u64::from(milliseconds));
        self.change(|inner| inner.retry_after = Some(wait))
    }

    pub(crate) fn with_range(self, range: Option<(Offset, Offset)>) -> Self {
        self.change(|inner| inner.range = range)
    }

    /// Puts the place in front of the message: `orders/1: no leader`.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        self.change(|inner| inner.message = format!("{place}: {}", inner.message))
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    /// What kind of failure this is; one variant per code.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::of(self.inner.code)
    }

    /// The stable code, shown as `QRT-0201`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.inner.code
    }

    /// Whether the same request may succeed later without a change by the caller.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.inner.code.is_retryable()
    }

    /// Whether the operation took effect.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.inner.outcome
    }

    /// How long the broker asked to wait before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        let known = || {
            let known = ErrorCode::ALL;
            known.iter().find(|info| info.code == self.inner.code)
        };
        match &self.inner.help {
            Some(help) => Some(help),
            None => known().map(|info| info.fix),
        }
    }

    /// The records that are missing, if this is a [`ErrorKind::Gap`].
    #[must_use]
    pub fn gap(&self) -> Option<&Gap> {
        self.inner.gap.as_ref()
    }

    /// The offsets that exist (half-open), if this is a [`ErrorKind::OffsetOutOfRange`].
    #[must_use]
    pub fn offsets(&self) -> Option<(Offset, Offset)> {
        self.inner.range
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.inner.code)
            .field("kind", &self.kind())
            .field("message", &self.inner.message)
            .field("outcome", &self.inner.outcome)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $code:ident,)*) => {
        /// What kind of failure an [`Error`] is: one variant per code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[doc = $doc])* $kind,)*
            /// A code this version of the client does not know; its class still says what to do.
            Unrecognized,
        }

        impl ErrorKind {
            const KNOWN: &[(ErrorCode, Self)] = &[$((ErrorCode::$code, Self::$kind),)*];
        }
    };
}

kinds! {
    /// The broker did not take the request in time; nothing was written.
    Timeout = TIMEOUT,
    /// Too few replicas are reachable.
    NotEnoughReplicas = NOT_ENOUGH_REPLICAS,
    /// The leader changed while the batch was on its way.
    AmbiguousCommit = AMBIGUOUS_COMMIT,
    /// The new leader is still taking over.
    LeaderNotReady = LEADER_NOT_READY,
    /// Another broker leads the partition.
    NotLeader = NOT_LEADER,
    /// The partition has no leader now.
    LeaderUnknown = LEADER_UNKNOWN,
    /// The session reached its deadline.
    SessionExpired = SESSION_EXPIRED,
    /// The broker is shutting down.
    Draining = DRAINING,
    /// The client's view of the topology is out of date.
    StaleTopology = STALE_TOPOLOGY,
    /// A quota is used up.
    QuotaExceeded = QUOTA_EXCEEDED,
    /// Too many connections.
    TooManyConnections = TOO_MANY_CONNECTIONS,
    /// The broker's disk is full.
    DiskFull = DISK_FULL,
    /// The broker is overloaded.
    Overloaded = OVERLOADED,
    /// Streams are opened too fast.
    StreamRate = STREAM_RATE,
    /// This client reads too slowly.
    SlowConsumer = SLOW_CONSUMER,
    /// The other side broke the protocol.
    ProtocolViolation = PROTOCOL_VIOLATION,
    /// No common protocol version.
    UnsupportedVersion = UNSUPPORTED_VERSION,
    /// A frame of an unknown kind that must be understood.
    UnknownFrame = UNKNOWN_FRAME,
    /// A frame above its limit.
    FrameTooLarge = FRAME_TOO_LARGE,
    /// A frame that cannot be decoded.
    Malformed = MALFORMED,
    /// A frame that did not arrive in time.
    FrameTimeout = FRAME_TIMEOUT,
    /// More was sent than was granted.
    CreditExceeded = CREDIT_EXCEEDED,
    /// A bad option or parameter.
    InvalidArgument = INVALID_ARGUMENT,
    /// A record or batch above its limit.
    BatchTooLarge = BATCH_TOO_LARGE,
    /// No such topic.
    UnknownTopic = UNKNOWN_TOPIC,
    /// No such partition.
    UnknownPartition = UNKNOWN_PARTITION,
    /// The name is taken.
    AlreadyExists = ALREADY_EXISTS,
    /// The cluster has not enabled this feature yet.
    FeatureNotFinalized = FEATURE_NOT_FINALIZED,
    /// The expected offset was not the actual one.
    PreconditionFailed = PRECONDITION_FAILED,
    /// The broker belongs to another cluster.
    WrongCluster = WRONG_CLUSTER,
    /// The identity is not allowed to do this.
    AuthorizationFailed = AUTHORIZATION_FAILED,
    /// This client's certificate has expired.
    CertificateExpired = CERTIFICATE_EXPIRED,
    /// The broker does not accept this client's identity.
    IdentityRejected = IDENTITY_REJECTED,
    /// This client's certificate was revoked.
    Revoked = REVOKED,
    /// Authentication took too long.
    AuthTimeout = AUTH_TIMEOUT,
    /// Not a member of the cluster.
    NotMember = NOT_MEMBER,
    /// A batch failed its checksum.
    CorruptBatch = CORRUPT_BATCH,
    /// The offset is not, or no longer, in the log.
    OffsetOutOfRange = OFFSET_OUT_OF_RANGE,
    /// The batch is compressed in a way this side cannot read.
    UnsupportedCodec = UNSUPPORTED_CODEC,
    /// The batch was made for another topic.
    TopicMismatch = TOPIC_MISMATCH,
    /// The data cannot be read now.
    DataUnavailable = DATA_UNAVAILABLE,
    /// A newer producer of the same name took over.
    ProducerFenced = PRODUCER_FENCED,
    /// A sequence is missing.
    OutOfOrderSequence = OUT_OF_ORDER_SEQUENCE,
    /// The partition has forgotten this producer.
    UnknownProducer = UNKNOWN_PRODUCER,
    /// A sequence was used for other content.
    SequenceReused = SEQUENCE_REUSED,
    /// Some of a batch's message ids are known.
    PartialDuplicate = PARTIAL_DUPLICATE,
    /// A newer generation of the group owns the partition.
    StaleGeneration = STALE_GENERATION,
    /// A newer incarnation took over.
    IncarnationFenced = INCARNATION_FENCED,
    /// A fault inside the broker.
    Internal = INTERNAL,
    /// No connection to any broker.
    Connect = CONNECT,
    /// The broker's certificate was not accepted.
    Tls = TLS,
    /// The identity files cannot be used.
    IdentityFiles = IDENTITY_FILES,
    /// The operation would have to wait.
    WouldBlock = WOULD_BLOCK,
    /// The handle is closed.
    Closed = CLOSED,
    /// The operation was cancelled.
    Cancelled = CANCELLED,
    /// The process was forked.
    Forked = FORKED,
    /// Header and library do not fit.
    AbiMismatch = ABI_MISMATCH,
    /// The caller's time is up.
    WaitTimeout = WAIT_TIMEOUT,
    /// Records are missing here; the stream goes on.
    Gap = GAP,
}

impl ErrorKind {
    fn of(code: ErrorCode) -> Self {
        let known = Self::KNOWN.iter().find(|(known, _)| *known == code);
        known.map_or(Self::Unrecognized, |(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_code_has_a_kind_of_the_same_name() {
        for info in ErrorCode::ALL {
            let kind = ErrorKind::of(info.code);
            assert_eq!(format!("{kind:?}"), info.code.name(), "{}", info.code);
        }
    }

    #[test]
    fn an_unknown_code_is_unrecognized() {
        assert_eq!(
            ErrorKind::of(ErrorCode::new(0x01ee)),
            ErrorKind::Unrecognized
        );
    }

    #[test]
    fn a_changed_clone_leaves_the_original_alone() {
        let original = Error::new(ErrorCode::TIMEOUT, "late");
        let placed = original.clone().at("orders/1");
        assert_eq!(original.to_string(), "late");
        assert_eq!(placed.to_string(), "orders/1: late");
    }
}
