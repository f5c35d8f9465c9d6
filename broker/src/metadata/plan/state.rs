//! What changes of members and places do to the metadata.
//!
//! Invariants: a group has one plan at a time; numbers of replicas are never given out twice; a
//! partition keeps as many replicas as it had; a replica leaves the books only after its group's
//! leader has reported that the others are its members.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::ReplicaId;

use crate::metadata::error::MetadataError;
use crate::metadata::plan::command::PlanCommand;
use crate::metadata::plan::command::Site;
use crate::metadata::state::BROKERS_MAX;
use crate::metadata::state::Deleted;
use crate::metadata::state::Effect;
use crate::metadata::state::State;
use crate::metadata::state::founder;
use crate::metadata::state::not_member;
use crate::metadata::topology::Assignment;
use crate::metadata::topology::Broker;
use crate::metadata::topology::Moving;
use crate::metadata::topology::Replica;

type Applied = Result<Effect, MetadataError>;

impl State {
    /// Applies one change of members or places. A refused one changes nothing.
    pub(in crate::metadata) fn apply_plan(&mut self, command: PlanCommand) -> Applied {
        let next_replica = self.next_replica;
        let applied = self.apply_change(command);
        if applied.is_err() {
            self.next_replica = next_replica;
        }
        applied
    }

    fn apply_change(&mut self, command: PlanCommand) -> Applied {
        match command {
            PlanCommand::Add { id, name, address } => self.add(id, name, address),
            PlanCommand::Remove { id } => self.remove(id),
            PlanCommand::Replace { id } => self.replace(id),
            PlanCommand::Drain { id, draining } => self.drain(id, draining),
            PlanCommand::Move { site, to } => self.move_to(site, &to),
            PlanCommand::Prefer { site, broker } => self.prefer(site, broker),
            PlanCommand::Renew { site, replica } => self.renew(site, replica),
            PlanCommand::Moved { site, to } => self.moved(site, &to),
            PlanCommand::Forget { id } => self.forget(id),
        }
    }

    pub(in crate::metadata) fn mint_replica(&mut self) -> ReplicaId {
        let replica = ReplicaId::new(self.next_replica);
        self.next_replica += 1;
        replica
    }

    fn add(&mut self, id: BrokerId, name: String, address: String) -> Applied {
        let brokers = &self.topology.brokers;
        if let Some(known) = brokers.get(&id) {
            if known.name == name && known.peer_address == address && !known.leaving {
                return Ok(self.unchanged());
            }
            let detail = format!(
                "broker {id} is a member already: {} at {}",
                known.name, known.peer_address
            );
            return Err(MetadataError::new(ErrorCode::ALREADY_EXISTS, detail));
        }
        if name.is_empty() || brokers.values().any(|known| known.name == name) {
            let detail = format!("the name {name:?} is empty or another broker's");
            return Err(MetadataError::new(ErrorCode::ALREADY_EXISTS, detail));
        }
        if brokers.len() >= BROKERS_MAX {
            let detail = format!("the cluster has {BROKERS_MAX} brokers: remove one first");
            return Err(MetadataError::new(ErrorCode::QUOTA_EXCEEDED, detail));
        }
        let broker = Broker {
            name,
            client_address: String::new(),
            peer_address: address,
            replica: self.mint_replica(),
            storage: None,
            draining: false,
            leaving: false,
        };
        self.proposers.remove(&id);
        let epoch = self.change(|topology| {
            topology.brokers.insert(id, broker);
        });
        Ok(Effect::Done { epoch })
    }

    fn remove(&mut self, id: BrokerId) -> Applied {
        let known = self.member(id)?;
        if known.leaving {
            return Ok(self.unchanged());
        }
        let mut homes = self.homes();
        homes.retain(|broker, _| *broker != id);
        if homes.is_empty() {
            return Err(refused(format!(
                "broker {id} is the last one: there is nowhere to move to"
            )));
        }
        let planned = self.each_assignment(|state, name, assignment| {
            state.without(id, &mut homes, name, assignment)
        })?;
        let epoch = self.replan(planned, |topology| {
            if let Some(broker) = topology.get_mut(&id) {
                broker.leaving = true;
            }
        });
        Ok(Effect::Done { epoch })
    }

    /// A plan under which a broker holds nothing of a partition.
    fn without(
        &mut self,
        id: BrokerId,
        homes: &mut BTreeMap<BrokerId, usize>,
        name: &str,
        assignment: &Assignment,
    ) -> Result<Option<Moving>, MetadataError> {
        let mut to = assignment.planned().to_vec();
        let Some(own) = to.iter_mut().find(|replica| replica.broker == id) else {
            return Ok(None);
        };
        let taken = self.brokers_of(assignment);
        let free = homes.iter().filter(|(broker, _)| !taken.contains(broker));
        let Some(home) = free.min_by_key(|(broker, load)| (**load, **broker)) else {
            return Err(refused(format!(
                "{name} would lose a replica: its {} replicas need as many brokers, and no other \
                 has joined; add a broker, or delete the topic",
                assignment.replicas.len()
            )));
        };
        let broker = *home.0;
        *own = self.fresh(broker);
        homes.entry(broker).and_modify(|load| *load += 1);
        Ok(Some(Moving { to }))
    }

    fn replace(&mut self, id: BrokerId) -> Applied {
        let known = self.member(id)?;
        if known.leaving {
            return Err(refused(format!(
                "broker {id} is being removed: it cannot come back"
            )));
        }
        let planned = self.each_assignment(|state, name, assignment| {
            let mut to = assignment.planned().to_vec();
            let Some(own) = to.iter_mut().find(|replica| replica.broker == id) else {
                return Ok(None);
            };
            if assignment.replicas.iter().all(|held| held.broker == id) {
                return Err(refused(format!(
                    "{name} has its only replica on broker {id}: bring back its disk, or delete \
                     the topic"
                )));
            }
            *own = state.fresh(id);
            Ok(Some(Moving { to }))
        })?;
        let replica = self.mint_replica();
        self.proposers.remove(&id);
        self.forget_deleted(id);
        let epoch = self.replan(planned, |brokers| {
            if let Some(broker) = brokers.get_mut(&id) {
                broker.storage = None;
                broker.replica = replica;
                broker.draining = false;
            }
        });
        Ok(Effect::Done { epoch })
    }

    fn drain(&mut self, id: BrokerId, draining: bool) -> Applied {
        if self.member(id)?.draining == draining {
            return Ok(self.unchanged());
        }
        let others = self.topology.brokers.iter();
        let mut others = others.filter(|(other, broker)| **other != id && broker.may_lead());
        if draining && others.next().is_none() {
            return Err(refused(format!(
                "broker {id} is the last that may lead: there is nobody to hand over to"
            )));
        }
        let epoch = self.change(|topology| {
            if let Some(broker) = topology.brokers.get_mut(&id) {
                broker.draining = draining;
            }
        });
        Ok(Effect::Done { epoch })
    }

    fn move_to(&mut self, site: Site, brokers: &[BrokerId]) -> Applied {
        let assignment = self.assignment_at(site)?.clone();
        let label = self.topology.label(site);
        if assignment.moving.is_some() {
            return Err(refused(format!(
                "{label} is being moved already: wait until that is done"
            )));
        }
        let distinct: BTreeSet<_> = brokers.iter().collect();
        let count = assignment.replicas.len();
        if distinct.len() != brokers.len() || brokers.len() != count {
            return Err(MetadataError::invalid(format!(
                "{label} has {count} replicas: name {count} different brokers"
            )));
        }
        let homes = self.homes();
        let mut to = Vec::new();
        for broker in brokers {
            let held = assignment
                .replicas
                .iter()
                .find(|held| held.broker == *broker);
            match held {
                Some(held) => to.push(*held),
                None if !homes.contains_key(broker) => return Err(no_home(*broker)),
                None if self.is_deleting(&assignment, *broker) => {
                    return Err(refused(format!(
                        "broker {broker} has not removed its earlier replica of {label} yet"
                    )));
                }
                None => to.push(self.fresh(*broker)),
            }
        }
        if brokers.iter().all(|broker| assignment.holds(*broker)) {
            return Ok(self.rearrange(site, |assignment| assignment.replicas = to));
        }
        let epoch = self.replan(vec![(site, Moving { to })], |_| {});
        Ok(Effect::Done { epoch })
    }

    fn prefer(&mut self, site: Site, broker: BrokerId) -> Applied {
        let assignment = self.assignment_at(site)?;
        if !assignment.holds(broker) {
            return Err(MetadataError::invalid(format!(
                "broker {broker} has no replica of {}",
                self.topology.label(site)
            )));
        }
        if assignment
            .replicas
            .first()
            .is_some_and(|first| first.broker == broker)
        {
            return Ok(self.unchanged());
        }
        Ok(self.rearrange(site, |assignment| {
            assignment
                .replicas
                .sort_by_key(|held| held.broker != broker);
            if let Some(moving) = &mut assignment.moving {
                moving.to.sort_by_key(|held| held.broker != broker);
            }
        }))
    }

    fn renew(&mut self, site: Site, replica: ReplicaId) -> Applied {
        let assignment = self.assignment_at(site)?;
        let mut to = assignment.planned().to_vec();
        let Some(own) = to.iter_mut().find(|held| held.replica == replica) else {
            // It is being replaced already, or has left.
            return Ok(self.unchanged());
        };
        let settled = assignment
            .replicas
            .iter()
            .any(|held| held.replica == replica);
        if settled && assignment.replicas.len() == 1 {
            return Err(refused(format!(
                "the only replica of {} cannot be made anew: restore it, or delete the topic",
                self.topology.label(site)
            )));
        }
        if settled && assignment.moving.is_some() {
            return Err(refused(format!(
                "{} is being changed: its replica {replica} is made anew after that",
                self.topology.label(site)
            )));
        }
        let broker = own.broker;
        *own = self.fresh(broker);
        let epoch = self.replan(vec![(site, Moving { to })], |_| {});
        Ok(Effect::Done { epoch })
    }

    fn moved(&mut self, site: Site, members: &[ReplicaId]) -> Applied {
        let assignment = self.assignment_at(site)?;
        let reported: BTreeSet<_> = members.iter().copied().collect();
        let planned = assignment.moving.as_ref().map(|moving| &moving.to);
        let planned = planned.filter(|to| {
            to.len() == reported.len() && to.iter().all(|held| reported.contains(&held.replica))
        });
        let Some(to) = planned.cloned() else {
            let label = self.topology.label(site);
            return Err(refused(format!("{label} has another plan by now")));
        };
        let (group, tag) = (assignment.group, assignment.tag);
        let gone = assignment.replicas.iter().filter(|held| {
            let stays = to.iter().any(|other| other.broker == held.broker);
            !stays && self.topology.brokers.contains_key(&held.broker)
        });
        let gone: Vec<_> = gone.map(|held| (held.broker, held.replica)).collect();
        if !gone.is_empty() {
            let holders = BTreeMap::new();
            let deleted = self
                .deleted
                .entry(group)
                .or_insert(Deleted { tag, holders });
            deleted.holders.extend(gone);
        }
        Ok(self.rearrange(site, |assignment| {
            assignment.replicas = to;
            assignment.moving = None;
        }))
    }

    fn forget(&mut self, id: BrokerId) -> Applied {
        let Some(known) = self.topology.brokers.get(&id) else {
            return Ok(self.unchanged());
        };
        let busy = self.topology.sites().any(|(_, one)| one.concerns(id));
        if !known.leaving || busy {
            return Err(refused(format!("broker {id} still holds partitions")));
        }
        self.proposers.remove(&id);
        self.forget_deleted(id);
        let epoch = self.change(|topology| {
            topology.brokers.remove(&id);
        });
        Ok(Effect::Done { epoch })
    }

    fn forget_deleted(&mut self, id: BrokerId) {
        self.deleted.retain(|_, deleted| {
            deleted.holders.remove(&id);
            !deleted.holders.is_empty()
        });
    }

    fn member(&self, id: BrokerId) -> Result<&Broker, MetadataError> {
        self.topology.brokers.get(&id).ok_or_else(|| not_member(id))
    }

    fn fresh(&mut self, broker: BrokerId) -> Replica {
        Replica {
            broker,
            replica: self.mint_replica(),
            made: false,
        }
    }

    /// Brokers that may get replicas of what is there, with how many they have or will have.
    fn homes(&self) -> BTreeMap<BrokerId, usize> {
        let mut homes = self.places();
        homes.retain(|id, _| {
            let broker = self.topology.brokers.get(id);
            broker.is_some_and(|broker| broker.storage.is_some())
        });
        homes
    }

    /// Brokers that may get replicas of a new topic, with how many they have or will have: those of
    /// the beginning may still be on their way.
    pub(in crate::metadata) fn places(&self) -> BTreeMap<BrokerId, usize> {
        let brokers = self.topology.brokers.iter().filter(|(id, broker)| {
            !broker.leaving && (broker.storage.is_some() || broker.replica == founder(**id))
        });
        let mut homes: BTreeMap<_, _> = brokers.map(|(id, _)| (*id, 0)).collect();
        for assignment in self
            .topology
            .topics
            .values()
            .flat_map(|topic| &topic.partitions)
        {
            for held in assignment.planned() {
                homes.entry(held.broker).and_modify(|load| *load += 1);
            }
        }
        homes
    }

    /// Every broker that has, had or will have a replica of a group.
    fn brokers_of(&self, assignment: &Assignment) -> BTreeSet<BrokerId> {
        let deleted = self.deleted.get(&assignment.group);
        let deleted = deleted
            .into_iter()
            .flat_map(|deleted| deleted.holders.keys().copied());
        let planned = assignment.planned().iter().map(|held| held.broker);
        let held = assignment.replicas.iter().map(|held| held.broker);
        held.chain(planned).chain(deleted).collect()
    }

    fn is_deleting(&self, assignment: &Assignment, broker: BrokerId) -> bool {
        let deleted = self.deleted.get(&assignment.group);
        deleted.is_some_and(|deleted| deleted.holders.contains_key(&broker))
    }

    fn assignment_at(&self, site: Site) -> Result<&Assignment, MetadataError> {
        self.topology.assignment(site).ok_or_else(|| {
            let detail = format!("there is no {site} any more");
            MetadataError::new(ErrorCode::UNKNOWN_PARTITION, detail)
        })
    }

    /// New plans for the partitions that a change concerns. None is made if one is refused.
    fn each_assignment(
        &mut self,
        mut plan: impl FnMut(&mut Self, &str, &Assignment) -> Result<Option<Moving>, MetadataError>,
    ) -> Result<Vec<(Site, Moving)>, MetadataError> {
        let topology = Arc::clone(&self.topology);
        let mut planned = Vec::new();
        for topic in topology.topics.values() {
            for (site, assignment) in topic.sites() {
                let name = format!("{}/{}", topic.name, site.partition);
                if let Some(moving) = plan(self, &name, assignment)? {
                    planned.push((site, moving));
                }
            }
        }
        Ok(planned)
    }

    /// Writes plans, and something about brokers. Clients see plans only once they are carried out.
    fn replan(
        &mut self,
        planned: Vec<(Site, Moving)>,
        edit: impl FnOnce(&mut BTreeMap<BrokerId, Broker>),
    ) -> u64 {
        self.change(|topology| {
            for (site, moving) in planned {
                if let Some(assignment) = topology.assignment_mut(site) {
                    assignment.moving = Some(moving);
                }
            }
            edit(&mut topology.brokers);
        })
    }

    /// Changes what clients see of one partition.
    fn rearrange(&mut self, site: Site, edit: impl FnOnce(&mut Assignment)) -> Effect {
        let epoch = self.change(|topology| {
            let epoch = topology.epoch;
            if let Some(topic) = topology.topics.get_mut(&site.topic) {
                Arc::make_mut(topic).epoch = epoch;
            }
            if let Some(assignment) = topology.assignment_mut(site) {
                edit(assignment);
            }
        });
        Effect::Done { epoch }
    }
}

fn refused(detail: String) -> MetadataError {
    MetadataError::new(ErrorCode::PRECONDITION_FAILED, detail)
}

fn no_home(broker: BrokerId) -> MetadataError {
    refused(format!(
        "broker {broker} cannot take a replica: it is no member, has not joined yet, or is being \
         removed"
    ))
}
