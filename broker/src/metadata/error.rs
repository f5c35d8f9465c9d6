//! Why the metadata was not changed or not told.

use quorate_protocol::ErrorCode;

use crate::replication::Failure;

/// A refused or failed request to the metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
#[non_exhaustive]
pub struct MetadataError {
    /// The class and kind of the failure.
    pub code: ErrorCode,
    /// What failed, and what to do.
    pub detail: String,
}

impl MetadataError {
    pub(crate) fn new(code: ErrorCode, detail: String) -> Self {
        Self { code, detail }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_ARGUMENT, detail.into())
    }

    pub(crate) fn unknown_topic(name: &str) -> Self {
        Self::new(
            ErrorCode::UNKNOWN_TOPIC,
            format!("there is no topic {name}"),
        )
    }

    pub(super) fn of_failure(failure: &Failure) -> Self {
        let code = match failure {
            Failure::NotLeader { .. } => ErrorCode::LEADER_UNKNOWN,
            Failure::NotReady => ErrorCode::LEADER_NOT_READY,
            Failure::DiskFull => ErrorCode::DISK_FULL,
            Failure::Closed => ErrorCode::DRAINING,
            _ => ErrorCode::AMBIGUOUS_COMMIT,
        };
        Self::new(code, format!("metadata group: {failure}"))
    }
}
