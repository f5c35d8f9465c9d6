//! Replicas here that are lost or damaged are made anew from their peers, under another number: they
//! never vote under the old one again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use quorate_protocol::GroupId;

use crate::metadata::command::Command;
use crate::metadata::plan::command::PlanCommand;
use crate::metadata::plan::command::Site;
use crate::metadata::plan::outlook::able;
use crate::metadata::plan::outlook::successor;
use crate::metadata::plan::safety;
use crate::metadata::plan::steward::Office;
use crate::partition::Damage;
use crate::partition::Partition;

/// Rounds without a leader after which a replica that may have lost something is opened with what it
/// has, if a majority of the brokers is there.
const ROUNDS_TO_RELEASE: u32 = 10;

/// What is remembered between two rounds.
#[derive(Debug, Default)]
pub(in crate::metadata) struct Cases {
    /// What people were told about, so that they are told once.
    told: BTreeMap<GroupId, String>,
    /// Rounds in which nobody led the others.
    leaderless: BTreeMap<GroupId, u32>,
}

impl Office {
    /// Has damaged replicas made anew, as far as their peers can do without them.
    pub(in crate::metadata) async fn repair(&self, cases: &mut Cases) {
        let damaged = self.registry.damaged();
        let Cases { told, leaderless } = cases;
        told.retain(|group, _| damaged.iter().any(|one| one.group == *group));
        leaderless.retain(|group, _| damaged.iter().any(|one| one.group == *group));
        for damage in damaged {
            if damage.forgetful {
                self.wait_for_leader(&damage, leaderless);
            }
            let group = damage.group;
            let led = self.registry.by_group(group).filter(Partition::is_led);
            let obstacle = match led {
                Some(partition) => self.step_back(&partition).await,
                None => self.renew(&damage).await,
            };
            let Some(obstacle) = obstacle else {
                continue;
            };
            if told.get(&group) != Some(&obstacle) {
                let Damage { label, why, .. } = damage;
                tracing::error!(
                    partition = label,
                    why,
                    obstacle,
                    "a damaged replica stays as it is"
                );
                told.insert(group, obstacle);
            }
        }
    }

    /// Where so many replicas lost their memory that nobody can lead, what they still have is all
    /// there is.
    fn wait_for_leader(&self, damage: &Damage, leaderless: &mut BTreeMap<GroupId, u32>) {
        let group = damage.group;
        let rounds = leaderless.entry(group).or_default();
        if self.outlook.leader_of(group).is_some() || !self.has_majority(damage) {
            *rounds = 0;
            return;
        }
        *rounds = rounds.saturating_add(1);
        if *rounds == ROUNDS_TO_RELEASE {
            let (partition, why) = (&damage.label, &damage.why);
            tracing::warn!(partition, why, "nobody leads: it goes on with what is left");
            self.registry.release(damage.replica);
        }
    }

    /// Whether a majority of a group's brokers is there, this one included.
    fn has_majority(&self, damage: &Damage) -> bool {
        let (topology, up) = (self.topology(), self.outlook.up());
        let site = damage_site(damage);
        topology.assignment(site).is_some_and(|assignment| {
            let replicas = &assignment.replicas;
            let there = replicas.iter().filter(|held| up.contains(&held.broker));
            there.count() > replicas.len() / 2
        })
    }

    /// A damaged replica does not lead.
    async fn step_back(&self, partition: &Partition) -> Option<String> {
        let able = able(&self.topology(), self.outlook.as_ref());
        let (own, members) = (partition.spec().replica, partition.members());
        let now = partition.inspect().await?;
        match successor(&now, own, &members, &able, &BTreeSet::new()) {
            Some(next) => {
                partition.transfer(next);
                None
            }
            None => Some("it leads, and nobody can take over".to_owned()),
        }
    }

    /// Answers what is in the way.
    async fn renew(&self, damage: &Damage) -> Option<String> {
        let (group, replica) = (damage.group, damage.replica);
        let up = self.outlook.up();
        let leader = self.outlook.leader_of(group);
        if !leader.is_some_and(|leader| leader != self.me() && up.contains(&leader)) {
            return Some("nobody leads the others".to_owned());
        }
        let site = damage_site(damage);
        let command = PlanCommand::Renew { site, replica };
        if let Err(refused) = safety::check(&self.topology(), &command, &up) {
            return Some(refused.detail);
        }
        let (partition, why) = (&damage.label, &damage.why);
        match self.proposer.propose(&Command::Plan(command)).await {
            Ok(_) => {
                tracing::warn!(
                    partition,
                    why,
                    "a damaged replica is made anew from its peers"
                );
                None
            }
            Err(error) => Some(error.detail),
        }
    }
}

const fn damage_site(damage: &Damage) -> Site {
    Site {
        topic: damage.topic,
        partition: damage.partition,
        group: damage.group,
    }
}
