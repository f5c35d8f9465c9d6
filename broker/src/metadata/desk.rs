//! Answers what other brokers ask about the metadata.

use std::fmt;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Op;
use quorate_protocol::PeerForward;
use quorate_protocol::PeerForwarded;
use quorate_protocol::PeerJoined;
use quorate_protocol::PeerMember;
use quorate_protocol::PeerStatus;
use quorate_protocol::PeerTransfer;
use quorate_protocol::Text;

use crate::metadata::command::Stamped;
use crate::metadata::encoding::encode_outcome;
use crate::metadata::error::MetadataError;
use crate::metadata::leaders::Leaders;
use crate::metadata::propose::Proposer;
use crate::metadata::state::Effect;
use crate::metadata::topology::Broker;
use crate::partition::codec::Writer;
use crate::peers::Answers;
use crate::peers::Boxed;
use crate::peers::PeerError;
use crate::replication::Failure;

/// How long the leader may take to tell a broker its place.
const JOIN_TIME_MAX: Duration = Duration::from_secs(2);
/// Of a question that a follower passes on: it is not passed on again.
const PASSED_ON: Bytes = Bytes::from_static(&[1]);

/// What the answers come from.
pub(super) struct Desk {
    pub(super) proposer: Arc<Proposer>,
    pub(super) leaders: Leaders,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// Answers as long as the metadata lives. It must not keep it alive: whoever carries the questions
/// is part of it.
#[derive(Debug)]
pub(super) struct Clerk(pub(super) Weak<Desk>);

impl Answers for Clerk {
    fn answer(&self, from: BrokerId, op: Op, body: Bytes) -> Boxed<Result<Bytes, PeerError>> {
        let desk = self.0.upgrade();
        Box::pin(async move {
            let Some(desk) = desk else {
                let detail = "the broker is shutting down".to_owned();
                return Err(refusal(ErrorCode::DRAINING, detail));
            };
            match op {
                Op::PEER_FORWARD => desk.forwarded(from, &body).await,
                Op::PEER_JOIN => desk.joined(body).await,
                Op::PEER_STATUS => desk.told(from, &body),
                Op::PEER_TRANSFER => desk.transferred(&body),
                _ => Err(refusal(
                    ErrorCode::UNKNOWN_FRAME,
                    format!("a request of type {} is not known here", op.get()),
                )),
            }
        })
    }
}

impl Desk {
    fn told(&self, from: BrokerId, body: &[u8]) -> Result<Bytes, PeerError> {
        let status = PeerStatus::from_bytes(body).map_err(|error| malformed(&error))?;
        self.leaders.handle_status(from, status);
        Ok(Bytes::new())
    }

    fn transferred(&self, body: &[u8]) -> Result<Bytes, PeerError> {
        let PeerTransfer { group, to } =
            PeerTransfer::from_bytes(body).map_err(|error| malformed(&error))?;
        let found = self.leaders.registry().by_group(group);
        let heir = found.and_then(|partition| {
            let mut holders = partition
                .members()
                .holders()
                .collect::<Vec<_>>()
                .into_iter();
            let (replica, _) = holders.find(|(_, broker)| *broker == to)?;
            Some((partition, replica))
        });
        match heir {
            Some((partition, replica)) if partition.is_led() => {
                partition.transfer(replica);
                Ok(Bytes::new())
            }
            Some(_) => Err(refusal(
                ErrorCode::NOT_LEADER,
                format!("group {group} is not led here"),
            )),
            None => Err(refusal(
                ErrorCode::INVALID_ARGUMENT,
                format!("broker {to} holds no replica of group {group}"),
            )),
        }
    }

    async fn forwarded(&self, from: BrokerId, body: &[u8]) -> Result<Bytes, PeerError> {
        let PeerForward { command } =
            PeerForward::from_bytes(body).map_err(|error| malformed(&error))?;
        let stamped = command.into_bytes();
        let origin = Stamped::decode(&stamped)
            .map_err(|error| malformed(&error))?
            .origin;
        if origin.broker != from {
            let detail = format!("broker {from} sent a command of broker {}", origin.broker);
            return Err(refusal(ErrorCode::PROTOCOL_VIOLATION, detail));
        }
        let answer = match self.proposer.propose_here(stamped).await {
            Ok(outcome) => applied(&outcome),
            Err(failure) => self.not_applied(&failure),
        };
        Ok(answer.to_bytes())
    }

    fn not_applied(&self, failure: &Failure) -> PeerForwarded {
        let mut why = MetadataError::of_failure(failure);
        let mut hint = Writer::default();
        if matches!(failure, Failure::NotLeader { .. })
            && let Some(leader) = self.proposer.leader()
        {
            why.code = ErrorCode::NOT_LEADER;
            hint.u16(leader.get());
        }
        PeerForwarded {
            code: why.code,
            detail: Text::clipped(&why.detail),
            effect: blob(hint),
        }
    }

    /// Where a broker that was added or replaced begins. Its replica of group 0 must be the newest
    /// one, so only a leader that is one for certain answers.
    async fn joined(&self, body: Bytes) -> Result<Bytes, PeerError> {
        let barrier = self.proposer.group().read_barrier().await;
        if barrier.is_ok() {
            return Ok(self.place().to_bytes());
        }
        let colleagues = self.proposer.colleagues();
        match self.proposer.leader() {
            Some(leader) if leader != colleagues.me && body != PASSED_ON => {
                let op = Op::PEER_JOIN;
                colleagues
                    .request(leader, op, PASSED_ON, JOIN_TIME_MAX)
                    .await
            }
            _ => Err(refusal(
                ErrorCode::LEADER_UNKNOWN,
                "nobody is known to lead the metadata group".to_owned(),
            )),
        }
    }

    fn place(&self) -> PeerJoined {
        let state = self.proposer.colleagues().view.state.read();
        let brokers = state.topology.brokers().iter();
        PeerJoined {
            birth: Bounded::clipped(state.birth.iter().copied()),
            members: Bounded::clipped(brokers.map(|(id, broker)| member(*id, broker))),
        }
    }
}

fn member(id: BrokerId, broker: &Broker) -> PeerMember {
    PeerMember {
        id,
        name: Text::clipped(&broker.name),
        client_address: Text::clipped(&broker.client_address),
        peer_address: Text::clipped(&broker.peer_address),
        storage: broker.storage,
        replica: broker.replica,
    }
}

/// The command stands in the log; whether it was refused there is part of its effect.
fn applied(outcome: &Result<Effect, MetadataError>) -> PeerForwarded {
    let mut effect = Writer::default();
    encode_outcome(&mut effect, outcome);
    PeerForwarded {
        code: ErrorCode::OK,
        detail: Text::default(),
        effect: blob(effect),
    }
}

/// Effects are far below the limit.
fn blob<const N: usize>(writer: Writer) -> Blob<N> {
    Blob::new(writer.into_bytes()).unwrap_or(Blob::empty())
}

fn malformed(error: &dyn fmt::Display) -> PeerError {
    refusal(ErrorCode::MALFORMED, error.to_string())
}

fn refusal(code: ErrorCode, detail: String) -> PeerError {
    PeerError {
        code,
        detail,
        sent: true,
    }
}
