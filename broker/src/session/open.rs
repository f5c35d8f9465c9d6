//! What every stream on a partition is checked for before it is accepted.

use std::sync::Arc;

use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::PartitionId;
use quorate_protocol::StreamOpen;
use quorate_protocol::TopicId;

use crate::auth::Operation;
use crate::partition::Leadership;
use crate::partition::Partition;
use crate::replication::Role;
use crate::session::connection::Session;
use crate::session::deadline::limited;
use crate::session::stream::Refusal;

/// The parameters of a stream's type.
pub(super) fn params<B: Body>(open: &StreamOpen) -> Result<B, Refusal> {
    B::from_bytes(open.params.as_bytes())
        .map_err(|error| Refusal::new(error.code(), error.to_string()))
}

/// The partition a stream is for, if the client may use it so.
pub(super) fn target(
    session: &Session,
    open: &StreamOpen,
    operation: Operation,
) -> Result<Partition, Refusal> {
    session.check_permission(operation)?;
    if open.on_behalf_of.is_some() {
        let detail = "this principal may not act for another one";
        return Err(Refusal::new(ErrorCode::AUTHORIZATION_FAILED, detail));
    }
    let found = session.service().partition(open.topic, open.partition);
    found.ok_or_else(|| {
        let refusal = why_absent(session, open.topic, open.partition);
        let behind = session.service().topology().epoch() < open.topology_epoch;
        if refusal.code == ErrorCode::UNKNOWN_TOPIC && behind {
            let detail = "this broker lags behind and does not know the topic yet";
            return Refusal::new(ErrorCode::STALE_TOPOLOGY, detail).retry_after_ms(50);
        }
        refusal
    })
}

/// Why this broker has no such partition.
fn why_absent(session: &Session, topic: TopicId, partition: PartitionId) -> Refusal {
    let topology = session.service().topology();
    let Some(topic) = topology.topic(topic) else {
        let detail = format!("there is no topic with id {topic}");
        return Refusal::new(ErrorCode::UNKNOWN_TOPIC, detail);
    };
    let number = usize::try_from(partition.get()).unwrap_or(usize::MAX);
    let Some(assignment) = topic.partitions.get(number) else {
        let (name, last) = (&topic.name, topic.partitions.len().saturating_sub(1));
        let detail = format!("topic {name} has partitions 0 to {last}, not {partition}");
        return Refusal::new(ErrorCode::UNKNOWN_PARTITION, detail);
    };
    let place = format!("{}/{partition}", topic.name);
    let here = session.service().broker();
    if assignment
        .replicas
        .iter()
        .any(|replica| replica.broker == here)
    {
        let detail =
            format!("{place} is not open here yet; if that lasts, the broker's log says why");
        return Refusal::new(ErrorCode::LEADER_NOT_READY, detail).retry_after_ms(50);
    }
    let leader = session.service().lead(assignment.group);
    let leader = leader.map(|(leader, _)| leader);
    let preferred = assignment.replicas.first().map(|replica| replica.broker);
    Refusal::new(
        ErrorCode::NOT_LEADER,
        format!("{place} is not on this broker"),
    )
    .led_by(leader.or(preferred))
}

/// The broker that leads a partition that is open here, if it is known and another one.
pub(super) fn leader_elsewhere(session: &Session, partition: &Partition) -> Option<BrokerId> {
    let service = session.service();
    let (leader, _) = service.lead(partition.spec().group)?;
    (leader != service.broker()).then_some(leader)
}

/// Waits until this broker leads the partition and serves it, at most until the deadline.
pub(super) async fn await_leader(
    session: &Arc<Session>,
    partition: &Partition,
    deadline_ms: u32,
) -> Result<(), Refusal> {
    let mut leadership = partition.leadership();
    let decided = |now: &Leadership| now.ready || is_elsewhere(now);
    if !decided(&leadership.borrow()) {
        tokio::select! {
            outcome = leadership.wait_for(decided) => drop(outcome),
            () = tokio::time::sleep(limited(deadline_ms)) => {}
            () = session.ending() => return Err(session.farewell()),
        }
    }
    let now = *leadership.borrow();
    if now.ready {
        Ok(())
    } else {
        Err(not_serving(session, partition, now))
    }
}

fn is_elsewhere(now: &Leadership) -> bool {
    now.role != Role::Leader && now.leader.is_some()
}

/// Why a partition that is open here cannot be used here.
pub(super) fn not_serving(session: &Session, partition: &Partition, now: Leadership) -> Refusal {
    let spec = partition.spec();
    if session
        .service()
        .partition(spec.topic, spec.partition)
        .is_none()
    {
        return why_absent(session, spec.topic, spec.partition);
    }
    let place = format!("{}/{}", spec.name, spec.partition);
    match now.role {
        Role::Leader => {
            let detail = format!("the leader of {place} is still reading its log");
            Refusal::new(ErrorCode::LEADER_NOT_READY, detail)
        }
        _ if now.leader.is_some() => {
            let detail = format!("another broker leads {place}");
            Refusal::new(ErrorCode::NOT_LEADER, detail).led_by(leader_elsewhere(session, partition))
        }
        _ => Refusal::new(
            ErrorCode::LEADER_UNKNOWN,
            format!("{place} has no leader now"),
        ),
    }
}
