//! Whether a change of members can be carried out and leaves enough behind, as far as can be seen.
//!
//! The log of each group keeps its own promises whatever is asked of it; this is so that nobody
//! asks for something that ends in a group without a majority.

use std::collections::BTreeSet;

use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::ReplicaId;

use crate::metadata::error::MetadataError;
use crate::metadata::plan::command::PlanCommand;
use crate::metadata::plan::command::Site;
use crate::metadata::topology::Replica;
use crate::metadata::topology::Topology;

/// Voters of group 0, however many brokers there are.
const ZERO_VOTERS_MAX: usize = 5;

/// Refuses a change that would wait for ever or cost a majority, with the reason.
pub(in crate::metadata) fn check(
    topology: &Topology,
    command: &PlanCommand,
    up: &BTreeSet<BrokerId>,
) -> Result<(), MetadataError> {
    match command {
        PlanCommand::Remove { id } => {
            others_carry_metadata(topology, *id, up)?;
            each_keeps_majority(topology, *id, up, Loss::Leaves)
        }
        PlanCommand::Replace { id } => {
            if up.contains(id) {
                return Err(refused(format!(
                    "broker {id} is up: only one that has lost its disk is replaced; stop it first"
                )));
            }
            others_carry_metadata(topology, *id, up)?;
            each_keeps_majority(topology, *id, up, Loss::Gone)
        }
        PlanCommand::Drain { id, draining: true } => {
            let mut others = topology.brokers.iter();
            let ready = others
                .any(|(other, broker)| other != id && broker.may_lead() && up.contains(other));
            if ready {
                return Ok(());
            }
            Err(refused(format!(
                "no other broker that may lead is up: broker {id} has nobody to hand over to"
            )))
        }
        PlanCommand::Move { site, to } => check_move(topology, *site, to, up),
        PlanCommand::Renew { site, replica } => check_renew(topology, *site, *replica, up),
        _ => Ok(()),
    }
}

/// How a broker's replica goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It helps until another has taken its place.
    Leaves,
    /// It is of no help any more.
    Gone,
}

fn each_keeps_majority(
    topology: &Topology,
    id: BrokerId,
    up: &BTreeSet<BrokerId>,
    loss: Loss,
) -> Result<(), MetadataError> {
    for (site, assignment) in topology.sites() {
        let replicas = &assignment.replicas;
        if !replicas.iter().any(|held| held.broker == id) {
            continue;
        }
        let helps = |held: &&Replica| {
            (loss == Loss::Leaves || held.broker != id) && !assignment.is_gone(held)
        };
        let ready = replicas
            .iter()
            .filter(helps)
            .filter(|held| up.contains(&held.broker));
        let needed = majority(replicas.len());
        if ready.count() < needed {
            let down = names(replicas, up);
            return Err(refused(format!(
                "{} would have no majority without broker {id}: {needed} of its {} replicas must be \
                 up. Down: {down}",
                topology.label(site),
                replicas.len()
            )));
        }
    }
    Ok(())
}

/// Group 0 goes on with those that stay.
fn others_carry_metadata(
    topology: &Topology,
    id: BrokerId,
    up: &BTreeSet<BrokerId>,
) -> Result<(), MetadataError> {
    let others = topology
        .brokers
        .iter()
        .filter(|(other, broker)| **other != id && !broker.leaving && broker.storage.is_some());
    let others: Vec<_> = others.map(|(other, _)| *other).collect();
    let ready = others.iter().filter(|other| up.contains(other)).count();
    let needed = majority(others.len().min(ZERO_VOTERS_MAX));
    if ready >= needed {
        return Ok(());
    }
    Err(refused(format!(
        "the metadata group would have no majority without broker {id}: {ready} of the {} other \
         brokers are up, {needed} are needed",
        others.len()
    )))
}

fn check_move(
    topology: &Topology,
    site: Site,
    to: &[BrokerId],
    up: &BTreeSet<BrokerId>,
) -> Result<(), MetadataError> {
    if let Some(down) = to.iter().find(|broker| !up.contains(broker)) {
        return Err(refused(format!(
            "broker {down} is down: it could not take a replica"
        )));
    }
    let Some(assignment) = topology.assignment(site) else {
        return Ok(());
    };
    let ready = assignment
        .replicas
        .iter()
        .filter(|held| up.contains(&held.broker));
    if ready.count() >= majority(assignment.replicas.len()) {
        return Ok(());
    }
    Err(refused(format!(
        "{} has no majority now, so it cannot change its members. Down: {}",
        topology.label(site),
        names(&assignment.replicas, up)
    )))
}

fn check_renew(
    topology: &Topology,
    site: Site,
    replica: ReplicaId,
    up: &BTreeSet<BrokerId>,
) -> Result<(), MetadataError> {
    let Some(assignment) = topology.assignment(site) else {
        return Ok(());
    };
    let replicas = &assignment.replicas;
    let settled = replicas.iter().any(|held| held.replica == replica);
    let others = replicas.iter().filter(|held| held.replica != replica);
    let ready = others.filter(|held| up.contains(&held.broker)).count();
    if !settled || ready >= majority(replicas.len()) {
        return Ok(());
    }
    Err(refused(format!(
        "{} has no majority without the damaged replica {replica}: it is made anew once more of \
         the others are up. Down: {}",
        topology.label(site),
        names(replicas, up)
    )))
}

const fn majority(of: usize) -> usize {
    of / 2 + 1
}

fn names(replicas: &[Replica], up: &BTreeSet<BrokerId>) -> String {
    let down = replicas.iter().filter(|held| !up.contains(&held.broker));
    let names: Vec<_> = down.map(|held| format!("broker {}", held.broker)).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

fn refused(detail: String) -> MetadataError {
    MetadataError::new(ErrorCode::PRECONDITION_FAILED, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_protocol::ByteSize;
    use quorate_protocol::GroupId;
    use quorate_protocol::GroupTag;
    use quorate_protocol::PartitionId;
    use quorate_protocol::StorageId;
    use quorate_protocol::TopicId;
    use quorate_protocol::TopicName;
    use quorate_protocol::TopicSettings;

    use super::*;
    use crate::config::PeerSeed;
    use crate::metadata::command::Command;
    use crate::metadata::state::State;
    use crate::metadata::state::founder;
    use crate::metadata::topology::Assignment;
    use crate::metadata::topology::Broker;
    use crate::metadata::topology::Registration;
    use crate::metadata::topology::Topic;

    const SITE: Site = Site {
        topic: TopicId::new(1),
        partition: PartitionId::new(0),
        group: GroupId::new(7),
    };

    fn broker(id: u16) -> (BrokerId, Broker) {
        let broker = Broker {
            name: format!("broker-{id}"),
            client_address: String::new(),
            peer_address: String::new(),
            replica: ReplicaId::new(u64::from(id)),
            storage: Some(StorageId::new(u128::from(id))),
            draining: false,
            leaving: false,
        };
        (BrokerId::new(id), broker)
    }

    /// Brokers 1 to `count`, and one partition on some of them.
    fn partition_on(count: u16, held: &[u16]) -> Topology {
        let replicas: Vec<_> = held
            .iter()
            .map(|id| Replica {
                broker: BrokerId::new(*id),
                replica: ReplicaId::new(100 + u64::from(*id)),
                made: true,
            })
            .collect();
        let name = TopicName::try_from("orders").unwrap();
        let topic = Topic {
            id: SITE.topic,
            name: name.clone(),
            epoch: 1,
            settings: TopicSettings::default(),
            segment_bytes: ByteSize::new(1 << 20),
            partitions: vec![Assignment {
                group: SITE.group,
                tag: GroupTag::new(1),
                birth: replicas.iter().map(|held| held.replica).collect(),
                replicas,
                moving: None,
            }],
        };
        Topology {
            epoch: 1,
            brokers: (1..=count).map(broker).collect(),
            topics: [(SITE.topic, Arc::new(topic))].into(),
            names: [(name, SITE.topic)].into(),
        }
    }

    fn allowed(topology: &Topology, command: &PlanCommand, up: &[u16]) -> bool {
        let up = up.iter().copied().map(BrokerId::new).collect();
        check(topology, command, &up).is_ok()
    }

    #[test]
    fn a_broker_goes_only_if_majorities_stay() {
        let topology = partition_on(4, &[1, 2, 3]);
        let remove = PlanCommand::Remove {
            id: BrokerId::new(3),
        };
        assert!(allowed(&topology, &remove, &[1, 2, 3, 4]));
        assert!(allowed(&topology, &remove, &[1, 2, 4]), "it is dead");
        assert!(
            allowed(&topology, &remove, &[1, 3, 4]),
            "it helps until it is gone"
        );
        assert!(!allowed(&topology, &remove, &[1, 4]));
        let lonely = partition_on(3, &[3]);
        assert!(allowed(&lonely, &remove, &[1, 2, 3]));
        assert!(
            !allowed(&lonely, &remove, &[1, 2]),
            "nobody has its records"
        );
    }

    #[test]
    fn only_a_broker_that_is_down_is_replaced_and_only_if_the_others_have_it_all() {
        let topology = partition_on(3, &[1, 2, 3]);
        let replace = PlanCommand::Replace {
            id: BrokerId::new(3),
        };
        assert!(allowed(&topology, &replace, &[1, 2]));
        assert!(!allowed(&topology, &replace, &[1, 2, 3]));
        assert!(!allowed(&topology, &replace, &[1]));
    }

    #[test]
    fn a_damaged_replica_is_made_anew_only_by_a_majority_of_others() {
        let topology = partition_on(3, &[1, 2, 3]);
        let renew = PlanCommand::Renew {
            site: SITE,
            replica: ReplicaId::new(103),
        };
        assert!(allowed(&topology, &renew, &[1, 2, 3]));
        assert!(!allowed(&topology, &renew, &[1, 3]));
    }

    #[test]
    fn nothing_moves_to_a_broker_that_is_down_or_without_a_majority() {
        let topology = partition_on(4, &[1, 2, 3]);
        let to = [1, 2, 4].map(BrokerId::new).to_vec();
        let to = PlanCommand::Move { site: SITE, to };
        assert!(allowed(&topology, &to, &[1, 2, 4]));
        assert!(!allowed(&topology, &to, &[1, 2, 3]));
        assert!(!allowed(&topology, &to, &[3, 4]));
        let drain = PlanCommand::Drain {
            id: BrokerId::new(1),
            draining: true,
        };
        assert!(allowed(&topology, &drain, &[1, 2]));
        assert!(!allowed(&topology, &drain, &[1]));
    }

    fn seed(id: u16) -> PeerSeed {
        PeerSeed {
            id: BrokerId::new(id),
            name: format!("broker-{id}"),
            address: format!("10.0.0.{id}:4748"),
        }
    }

    fn register(state: &mut State, id: u16, storage: u128) {
        let registration = Registration {
            name: seed(id).name,
            client_address: String::new(),
            peer_address: seed(id).address,
            storage: StorageId::new(storage),
        };
        let id = BrokerId::new(id);
        state.apply(Command::Register { id, registration }).unwrap();
    }

    /// Five brokers, and a topic with three replicas.
    fn cluster() -> State {
        let mut state = State::default();
        let voters = [1, 2, 3].map(|id| founder(BrokerId::new(id))).to_vec();
        let seeds = [1, 2, 3, 4, 5].map(seed).to_vec();
        state.apply(Command::Found { voters, seeds }).unwrap();
        (1..=5).for_each(|id| register(&mut state, id, u128::from(id)));
        let create = Command::Create {
            id: TopicId::new(1),
            name: TopicName::try_from("t").unwrap(),
            partitions: 1,
            replicas: 3,
            settings: TopicSettings::default(),
            segment_bytes: ByteSize::new(1 << 20),
        };
        state.apply(create).unwrap();
        state
    }

    #[test]
    fn a_second_disk_is_not_given_up_before_the_first_is_made_good() {
        let mut state = cluster();
        let (_, assignment) = state.topology.sites().next().unwrap();
        let held: Vec<_> = assignment.replicas.iter().map(|held| held.broker).collect();
        let replace = |id| PlanCommand::Replace { id };
        let all: BTreeSet<_> = (1..=5).map(BrokerId::new).collect();
        let without = |down: BrokerId| {
            let mut up = all.clone();
            up.remove(&down);
            up
        };
        let (first, second) = (held[0], held[1]);
        check(&state.topology, &replace(first), &without(first)).unwrap();
        state.apply(Command::Plan(replace(first))).unwrap();
        register(&mut state, first.get(), 99);
        let refused = check(&state.topology, &replace(second), &without(second));
        assert_eq!(refused.unwrap_err().code, ErrorCode::PRECONDITION_FAILED);
        let leave = PlanCommand::Remove { id: second };
        check(&state.topology, &leave, &all).unwrap();
    }
}
