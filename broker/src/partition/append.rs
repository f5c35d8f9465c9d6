//! The outcome of handing a batch to its partition, as a future.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Offset;
use quorate_protocol::Outcome;

use crate::partition::machine::Reply;
use crate::partition::receipt::Receipt;
use crate::partition::receipt::Refusal;
use crate::partition::spec::Members;
use crate::replication::Failure;
use crate::replication::Ticket;

/// Why a batch has no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
#[non_exhaustive]
pub struct AppendError {
    /// The class and kind of the failure; tells whether the batch may be in the log.
    pub code: ErrorCode,
    /// What failed, and what to do.
    pub detail: String,
    /// Who leads the partition, if it is another broker and known.
    pub leader: Option<BrokerId>,
    /// Records that are in the log already: index in the batch, offset.
    pub duplicates: Vec<(u32, Offset)>,
}

impl AppendError {
    /// Whether the batch is in the log.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.code.outcome()
    }

    pub(crate) fn of_refusal(refusal: Refusal) -> Self {
        let Refusal {
            code,
            detail,
            duplicates,
        } = refusal;
        Self {
            code,
            detail,
            leader: None,
            duplicates,
        }
    }

    pub(crate) fn of_failure(failure: &Failure, members: &Members) -> Self {
        let leader = match failure {
            Failure::NotLeader {
                leader: Some(replica),
                ..
            } => members.broker_of(*replica),
            _ => None,
        };
        let code = match failure {
            Failure::NotLeader { .. } if leader.is_some() => ErrorCode::NOT_LEADER,
            Failure::NotLeader { .. } => ErrorCode::LEADER_UNKNOWN,
            Failure::NotReady => ErrorCode::LEADER_NOT_READY,
            Failure::DiskFull => ErrorCode::DISK_FULL,
            Failure::Closed => ErrorCode::STALE_TOPOLOGY,
            _ => ErrorCode::AMBIGUOUS_COMMIT,
        };
        Self {
            code,
            detail: failure.to_string(),
            leader,
            duplicates: Vec::new(),
        }
    }
}

/// A batch with its place in the queue: resolves once its outcome is known.
///
/// Dropping it abandons the answer, not the batch.
#[derive(Debug)]
#[must_use = "the receipt comes from here"]
pub struct PendingAppend {
    ticket: Ticket<Reply>,
    members: Members,
}

impl PendingAppend {
    pub(crate) fn new(ticket: Ticket<Reply>, members: Members) -> Self {
        Self { ticket, members }
    }
}

impl Future for PendingAppend {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let settled = ready!(Pin::new(&mut self.ticket).poll(context));
        Poll::Ready(match settled {
            Ok(Reply::Published(receipt)) => Ok(receipt),
            Ok(Reply::Refused(refusal)) => Err(AppendError::of_refusal(refusal)),
            Ok(Reply::Noted) => Err(AppendError::of_failure(&Failure::Unknown, &self.members)),
            Err(failure) => Err(AppendError::of_failure(&failure, &self.members)),
        })
    }
}
