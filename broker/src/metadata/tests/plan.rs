//! Plans of members and places, carried out by leaders that come and go: whatever is asked for and
//! wherever it is interrupted, each group has one plan, enough voters, and numbers of its own.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::ReplicaId;
use quorate_protocol::StorageId;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::config::PeerSeed;
use crate::metadata::checkpoint;
use crate::metadata::command::Command;
use crate::metadata::plan::PlanCommand;
use crate::metadata::plan::Site;
use crate::metadata::plan::agenda::agenda;
use crate::metadata::plan::step::Sight;
use crate::metadata::plan::step::Step;
use crate::metadata::plan::step::Target;
use crate::metadata::plan::step::next_step;
use crate::metadata::state::State;
use crate::metadata::state::founder;
use crate::metadata::topology::Registration;
use crate::replication::Change;
use crate::replication::Membership;

/// A group as its replicas know it.
#[derive(Debug, Clone)]
struct Group {
    members: Membership,
    leader: ReplicaId,
}

/// The metadata, and the groups that follow its plans.
struct Cluster {
    state: State,
    groups: BTreeMap<GroupId, Group>,
    /// Which group and broker each number ever stood for.
    minted: BTreeMap<ReplicaId, (GroupId, BrokerId)>,
    storage: u128,
}

#[derive(Debug, Clone)]
enum Action {
    Ask(Ask),
    /// The leader of a group takes one step, if there is one.
    Step(usize),
    /// Another voter of a group leads.
    Elect(usize, usize),
    /// A plan that was carried out is reported, perhaps once more.
    Report(usize),
    /// A broker reports all its replicas as made and all that are to go as removed.
    Follow(u16),
}

#[derive(Debug, Clone)]
enum Ask {
    Add(u16),
    Remove(u16),
    Replace(u16),
    Drain(u16, bool),
    Move(usize, Vec<u16>),
    Prefer(usize, u16),
    Renew(usize, usize),
    Forget(u16),
}

fn broker(raw: u16) -> BrokerId {
    BrokerId::new(raw)
}

fn ask() -> impl Strategy<Value = Ask> {
    let id = 1u16..8;
    prop_oneof![
        3 => id.clone().prop_map(Ask::Add),
        1 => id.clone().prop_map(Ask::Remove),
        2 => id.clone().prop_map(Ask::Replace),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, draining)| Ask::Drain(id, draining)),
        4 => (0usize..8, Just((1..8).collect::<Vec<u16>>()).prop_shuffle(), 1usize..4)
            .prop_map(|(at, brokers, count)| Ask::Move(at, brokers[..count].to_vec())),
        1 => (0usize..8, id.clone()).prop_map(|(at, id)| Ask::Prefer(at, id)),
        3 => (0usize..8, 0usize..4).prop_map(|(at, which)| Ask::Renew(at, which)),
        2 => id.prop_map(Ask::Forget),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => ask().prop_map(Action::Ask),
        8 => (0usize..8).prop_map(Action::Step),
        2 => (0usize..8, 0usize..5).prop_map(|(at, voter)| Action::Elect(at, voter)),
        3 => (0usize..8).prop_map(Action::Report),
        2 => (1u16..8).prop_map(Action::Follow),
    ]
}

impl Cluster {
    fn new(brokers: u16, topics: &[(u32, u32)]) -> Self {
        let mut cluster = Self {
            state: State::default(),
            groups: BTreeMap::new(),
            minted: BTreeMap::new(),
            storage: 0,
        };
        let seeds = (1..=brokers).map(|id| PeerSeed {
            id: broker(id),
            name: format!("broker-{id}"),
            address: format!("10.0.0.{id}:4748"),
        });
        cluster.apply(Command::Found {
            voters: vec![founder(broker(1))],
            seeds: seeds.collect(),
        });
        for id in 1..=brokers {
            cluster.register(broker(id));
        }
        for (number, (partitions, replicas)) in (1u128..).zip(topics) {
            cluster.apply(Command::Create {
                id: TopicId::new(number),
                name: TopicName::try_from(format!("t{number}").as_str()).unwrap(),
                partitions: *partitions,
                replicas: *replicas,
                settings: TopicSettings::default(),
                segment_bytes: ByteSize::new(1 << 20),
            });
        }
        let topology = cluster.state.topology.clone();
        for (site, assignment) in topology.sites() {
            let members = Membership::of(&assignment.birth);
            let leader = assignment.birth[0];
            cluster.groups.insert(site.group, Group { members, leader });
        }
        cluster.check();
        cluster
    }

    fn apply(&mut self, command: Command) -> bool {
        let before = self.state.clone();
        let applied = self.state.apply(command).is_ok();
        if !applied {
            assert_eq!(self.state, before, "a refused command changes nothing");
        }
        applied
    }

    fn register(&mut self, id: BrokerId) {
        self.storage += 1;
        let registration = Registration {
            name: format!("broker-{id}"),
            client_address: format!("10.0.0.{id}:4747"),
            peer_address: format!("10.0.0.{id}:4748"),
            storage: StorageId::new(self.storage),
        };
        self.apply(Command::Register { id, registration });
    }

    fn site(&self, at: usize) -> Site {
        let sites: Vec<_> = self.state.topology.sites().map(|(site, _)| site).collect();
        sites[at % sites.len()]
    }

    fn ask(&mut self, ask: Ask) {
        let command = match ask {
            Ask::Add(id) => PlanCommand::Add {
                id: broker(id),
                name: format!("broker-{id}"),
                address: format!("10.0.0.{id}:4748"),
            },
            Ask::Remove(id) => PlanCommand::Remove { id: broker(id) },
            Ask::Replace(id) => PlanCommand::Replace { id: broker(id) },
            Ask::Drain(id, draining) => PlanCommand::Drain {
                id: broker(id),
                draining,
            },
            Ask::Move(at, to) => PlanCommand::Move {
                site: self.site(at),
                to: to.into_iter().map(broker).collect(),
            },
            Ask::Prefer(at, id) => PlanCommand::Prefer {
                site: self.site(at),
                broker: broker(id),
            },
            Ask::Renew(at, which) => {
                let site = self.site(at);
                let replicas = self.state.topology.assignment(site).unwrap().planned();
                let replica = replicas[which % replicas.len()].replica;
                PlanCommand::Renew { site, replica }
            }
            Ask::Forget(id) => PlanCommand::Forget { id: broker(id) },
        };
        let comes = match &command {
            PlanCommand::Add { id, .. } | PlanCommand::Replace { id } => Some(*id),
            _ => None,
        };
        if self.apply(Command::Plan(command))
            && let Some(id) = comes
        {
            self.register(id);
        }
    }

    /// One step of a leader, as the engine would carry it out.
    fn step(&mut self, at: usize) -> bool {
        let site = self.site(at);
        let Some(errand) = agenda(&self.state.topology).remove(&site.group) else {
            return false;
        };
        let group = self.groups.get_mut(&site.group).unwrap();
        let members = &mut group.members;
        let all = members.voters.iter().chain(&members.learners);
        let sight = Sight {
            own: group.leader,
            membership: &members.clone(),
            keep_up: &all.copied().collect(),
        };
        let target = Target {
            voters: errand.to,
            learners: Vec::new(),
        };
        match next_step(&target, &sight) {
            Step::Done => return self.report(at),
            Step::Wait => {}
            Step::Transfer(next) => group.leader = next,
            Step::Change(changes) => {
                for change in changes {
                    let id = change.replica();
                    members.voters.retain(|voter| *voter != id);
                    members.learners.retain(|learner| *learner != id);
                    match change {
                        Change::Voter(_) => members.voters.push(id),
                        Change::Learner(_) => members.learners.push(id),
                        Change::Remove(_) => {}
                    }
                }
            }
        }
        true
    }

    /// Reports the members of a group, as its leader would if they are those of some plan.
    fn report(&mut self, at: usize) -> bool {
        let site = self.site(at);
        let members = &self.groups[&site.group].members;
        if !members.learners.is_empty() {
            return false;
        }
        let to = members.voters.clone();
        self.apply(Command::Plan(PlanCommand::Moved { site, to }))
    }

    fn follow(&mut self, id: BrokerId) {
        let specs = self.state.topology.specs_of(id);
        let made: Vec<_> = specs.map(|spec| (spec.group, spec.replica)).collect();
        self.apply(Command::Made {
            broker: id,
            replicas: made,
        });
        let deleted = self.state.deleted.iter();
        let removed = deleted
            .filter_map(|(group, deleted)| Some((*group, *deleted.holders.get(&id)?)))
            .collect();
        self.apply(Command::Removed {
            broker: id,
            replicas: removed,
        });
    }

    fn check(&mut self) {
        for (site, assignment) in self.state.topology.sites() {
            let group = &self.groups[&site.group];
            let planned = assignment.planned();
            let brokers: BTreeSet<_> = planned.iter().map(|held| held.broker).collect();
            assert_eq!(brokers.len(), planned.len(), "two replicas on one broker");
            assert_eq!(
                planned.len(),
                assignment.birth.len(),
                "another number of replicas"
            );
            let voters = &group.members.voters;
            assert!(
                voters.len() >= assignment.birth.len(),
                "too few voters: {group:?}"
            );
            assert!(voters.contains(&group.leader));
            for held in planned.iter().chain(&assignment.replicas) {
                let whose = (site.group, held.broker);
                let known = self.minted.entry(held.replica).or_insert(whose);
                assert_eq!(*known, whose, "a number given out twice");
                assert!(self.state.topology.brokers.contains_key(&held.broker));
            }
            for voter in voters {
                assert!(self.minted.contains_key(voter), "a voter nobody planned");
            }
        }
        let bytes = checkpoint::encode(&self.state);
        assert_eq!(checkpoint::decode(&bytes).unwrap(), self.state);
    }

    /// Lets everybody do what is to be done, until nothing is.
    fn settle(&mut self) {
        let sites = self.state.topology.sites().count();
        for _ in 0..200 {
            for at in 0..sites {
                self.step(at);
                self.check();
            }
        }
        for (site, assignment) in self.state.topology.sites() {
            assert_eq!(assignment.moving, None, "a plan that does not end");
            let wanted: BTreeSet<_> = assignment
                .replicas
                .iter()
                .map(|held| held.replica)
                .collect();
            let voters = &self.groups[&site.group].members.voters;
            assert_eq!(voters.iter().copied().collect::<BTreeSet<_>>(), wanted);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plans_end_wherever_they_were_interrupted_and_never_cost_a_voter(
        brokers in 1u16..6,
        topics in proptest::collection::vec((1u32..4, 1u32..4), 1..4),
        actions in proptest::collection::vec(action(), 0..120),
    ) {
        let topics: Vec<_> = topics
            .into_iter()
            .map(|(partitions, replicas)| (partitions, replicas.min(u32::from(brokers))))
            .collect();
        let mut cluster = Cluster::new(brokers, &topics);
        for action in actions {
            match action {
                Action::Ask(ask) => cluster.ask(ask),
                Action::Step(at) => drop(cluster.step(at)),
                Action::Elect(at, voter) => {
                    let group = cluster.site(at).group;
                    let group = cluster.groups.get_mut(&group).unwrap();
                    let voters = &group.members.voters;
                    group.leader = voters[voter % voters.len()];
                }
                Action::Report(at) => drop(cluster.report(at)),
                Action::Follow(id) => cluster.follow(broker(id)),
            }
            cluster.check();
        }
        cluster.settle();
        let leaving: Vec<_> = cluster.state.topology.brokers.iter()
            .filter(|(_, one)| one.leaving)
            .map(|(id, _)| *id)
            .collect();
        for id in leaving {
            let forget = Command::Plan(PlanCommand::Forget { id });
            prop_assert!(cluster.apply(forget));
        }
    }
}

#[test]
fn a_broker_without_another_home_for_its_replicas_stays() {
    let mut cluster = Cluster::new(3, &[(2, 3)]);
    let refused = cluster
        .state
        .apply(Command::Plan(PlanCommand::Remove { id: broker(2) }));
    let detail = refused.unwrap_err().detail;
    assert!(detail.contains("no other"), "{detail}");
    cluster.ask(Ask::Add(4));
    cluster.ask(Ask::Remove(2));
    cluster.settle();
    let mut sites = cluster.state.topology.sites();
    assert!(sites.all(|(_, one)| !one.holds(broker(2)) && one.holds(broker(4))));
}

#[test]
fn a_partition_that_moves_is_not_moved_again_and_its_only_replica_is_not_made_anew() {
    let mut cluster = Cluster::new(3, &[(1, 1)]);
    let site = cluster.site(0);
    let replica = cluster.state.topology.assignment(site).unwrap().replicas[0];
    let renew = PlanCommand::Renew {
        site,
        replica: replica.replica,
    };
    assert!(!cluster.apply(Command::Plan(renew)));
    let elsewhere = broker(replica.broker.get() % 3 + 1);
    let to = vec![elsewhere];
    let again = Command::Plan(PlanCommand::Move { site, to });
    assert!(cluster.apply(again.clone()));
    assert!(!cluster.apply(again));
    cluster.settle();
    let deleted = &cluster.state.deleted[&site.group];
    assert_eq!(
        deleted.holders,
        BTreeMap::from([(replica.broker, replica.replica)])
    );
}

#[test]
fn the_last_that_may_lead_is_not_drained() {
    let mut cluster = Cluster::new(2, &[(1, 2)]);
    let drain = |id| {
        Command::Plan(PlanCommand::Drain {
            id: broker(id),
            draining: true,
        })
    };
    assert!(cluster.apply(drain(1)));
    assert!(!cluster.apply(drain(2)));
}
