//! Carries out what group 0 has planned for the groups led here, and gives leadership back to whom
//! it belongs. One task for all groups.
//!
//! It remembers nothing that matters: whoever leads next takes up any plan where it stands.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::GroupId;
use quorate_protocol::ReplicaId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metadata::command::Command;
use crate::metadata::machine::View;
use crate::metadata::plan::agenda::Errand;
use crate::metadata::plan::agenda::agenda;
use crate::metadata::plan::command::PlanCommand;
use crate::metadata::plan::keep_up::KeepUp;
use crate::metadata::plan::outlook::Outlook;
use crate::metadata::plan::outlook::able;
use crate::metadata::plan::repair::Cases;
use crate::metadata::plan::step::Sight;
use crate::metadata::plan::step::Step;
use crate::metadata::plan::step::Target;
use crate::metadata::plan::step::next_step;
use crate::metadata::propose::Proposer;
use crate::metadata::report::Vitals;
use crate::metadata::together::together;
use crate::metadata::topology::Topology;
use crate::partition::Members;
use crate::partition::Partition;
use crate::partition::Registry;
use crate::replication::Change;
use crate::replication::Inspection;
use crate::replication::Role;

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds that a learner keeps up before it votes.
const ROUNDS_TO_VOTE: u32 = 2;
/// Rounds that the preferred leader keeps up before it leads again.
const ROUNDS_TO_LEAD: u32 = 3;
/// Leaderships given back in one round.
const RETURNED_AT_ONCE: usize = 64;
/// How long a round waits for changes of members; they go on without it.
const CHANGE_TIME_MAX: Duration = Duration::from_millis(500);

/// What is needed to change members and leaders.
#[derive(Debug, Clone)]
pub(in crate::metadata) struct Office {
    pub(in crate::metadata) proposer: Arc<Proposer>,
    pub(in crate::metadata) view: Arc<View>,
    pub(in crate::metadata) registry: Registry,
    pub(in crate::metadata) outlook: Arc<dyn Outlook>,
    pub(in crate::metadata) vitals: watch::Receiver<Vitals>,
    /// Whether leadership returns to the first replica of a partition.
    pub(in crate::metadata) preferred_leader: bool,
    /// Whether this broker was removed from its cluster.
    pub(in crate::metadata) removed: Arc<watch::Sender<bool>>,
}

/// The task and what it remembers between two rounds.
pub(in crate::metadata) struct Steward {
    office: Office,
    agenda: (u64, BTreeMap<GroupId, Errand>),
    watched: BTreeMap<GroupId, KeepUp>,
    cases: Cases,
    /// This broker has seen itself as a member.
    entered: bool,
}

impl Office {
    pub(in crate::metadata) fn me(&self) -> BrokerId {
        self.proposer.colleagues().me
    }

    pub(in crate::metadata) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.view.topology.borrow())
    }

    /// The replicas of group 0.
    pub(in crate::metadata) fn metadata_members(&self) -> Members {
        let topology = self.topology();
        let brokers = topology.brokers.iter();
        Members::new(brokers.map(|(id, broker)| (*id, broker.replica)).collect())
    }
}

impl Steward {
    pub(in crate::metadata) fn new(office: Office) -> Self {
        Self {
            office,
            agenda: (0, BTreeMap::new()),
            watched: BTreeMap::new(),
            cases: Cases::default(),
            entered: false,
        }
    }

    pub(in crate::metadata) async fn run(mut self, stop: CancellationToken) {
        let mut topology = self.office.view.topology.subscribe();
        loop {
            if stop.run_until_cancelled(self.round()).await.is_none() {
                return;
            }
            let pause = tokio::time::sleep(ROUND);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            topology.mark_unchanged();
        }
    }

    async fn round(&mut self) {
        let topology = self.office.topology();
        if self.agenda.0 != topology.epoch {
            self.agenda = (topology.epoch, agenda(&topology));
        }
        let own = topology.brokers.get(&self.office.me());
        let full = self.office.vitals.borrow().disk_full;
        if full || own.is_some_and(|own| own.draining || own.leaving) {
            self.office.hand_over().await;
        }
        // Those that stay cut the connection before this broker can hear of its removal.
        let gone = match own {
            Some(own) => own.leaving && self.office.outlook.is_outcast(),
            None => self.entered,
        };
        self.entered |= own.is_some();
        if gone {
            self.office.removed.send_replace(true);
        }
        self.office.repair(&mut self.cases).await;
        let watched = self.look(&topology).await;
        self.carry_out(&watched).await;
        if self.office.preferred_leader {
            self.give_back(&topology, &watched);
        }
        self.forget_leavers(&topology).await;
    }

    /// The groups led here that something is to be done about.
    async fn look(&mut self, topology: &Topology) -> Vec<(Partition, Inspection)> {
        let able = able(topology, self.office.outlook.as_ref());
        let led = self.office.registry.led().into_iter();
        let concerned = led.filter(|partition| {
            let spec = partition.spec();
            let preferred = partition.members().holders().next();
            let elsewhere = preferred
                .is_some_and(|(replica, broker)| replica != spec.replica && able.contains(&broker));
            elsewhere || self.agenda.1.contains_key(&spec.group)
        });
        let concerned = concerned.map(|partition| async {
            let now = partition.inspect().await;
            (partition, now)
        });
        let looks = together(concerned).await.into_iter();
        let looks: Vec<_> = looks
            .filter_map(|(partition, now)| Some((partition, now.filter(|now| now.ready)?)))
            .collect();
        let groups: BTreeSet<_> = looks.iter().map(|(one, _)| one.spec().group).collect();
        self.watched.retain(|group, _| groups.contains(group));
        for (partition, now) in &looks {
            let watched = self.watched.entry(partition.spec().group).or_default();
            watched.note(now.last, &now.progress);
        }
        looks
    }

    fn keeping_up(&self, group: GroupId, rounds: u32) -> BTreeSet<ReplicaId> {
        let watched = self.watched.get(&group);
        watched
            .map(|watched| watched.since(rounds))
            .unwrap_or_default()
    }

    async fn carry_out(&self, looks: &[(Partition, Inspection)]) {
        let (mut changes, mut done) = (Vec::new(), Vec::new());
        for (partition, now) in looks {
            let group = partition.spec().group;
            let Some(errand) = self.agenda.1.get(&group) else {
                continue;
            };
            let target = Target {
                voters: errand.to.clone(),
                learners: Vec::new(),
            };
            let sight = Sight {
                own: partition.spec().replica,
                membership: &now.membership,
                keep_up: &self.keeping_up(group, ROUNDS_TO_VOTE),
            };
            match next_step(&target, &sight) {
                Step::Wait => {}
                Step::Transfer(next) => partition.transfer(next),
                Step::Change(step) => changes.push((partition.clone(), step)),
                Step::Done => done.push(errand.clone()),
            }
        }
        together(
            changes
                .into_iter()
                .map(|(partition, step)| change(partition, step)),
        )
        .await;
        for Errand { site, to } in done {
            let report = Command::Plan(PlanCommand::Moved { site, to });
            match self.office.proposer.propose(&report).await {
                Ok(_) => tracing::info!(%site, "its members are those planned"),
                Err(error) => tracing::debug!(%site, %error, "reported again later"),
            }
        }
    }

    /// Leadership goes back to the first replica of each partition once that keeps up.
    fn give_back(&self, topology: &Topology, looks: &[(Partition, Inspection)]) {
        let able = able(topology, self.office.outlook.as_ref());
        let settled = looks
            .iter()
            .filter(|(partition, _)| !self.agenda.1.contains_key(&partition.spec().group));
        let returns = settled.filter_map(|(partition, now)| {
            let (preferred, broker) = partition.members().holders().next()?;
            let keeps_up = self
                .keeping_up(partition.spec().group, ROUNDS_TO_LEAD)
                .contains(&preferred);
            let votes = now.membership.voters.contains(&preferred);
            (keeps_up && votes && able.contains(&broker)).then_some((partition, preferred))
        });
        for (partition, preferred) in returns.take(RETURNED_AT_ONCE) {
            tracing::debug!(partition = %partition.spec().label(), "leadership goes back to where it belongs");
            partition.transfer(preferred);
        }
    }

    /// The leader of group 0 strikes out brokers that were removed and hold nothing any more.
    async fn forget_leavers(&self, topology: &Topology) {
        let status = self.office.proposer.group().status();
        if status.role != Role::Leader || !status.ready {
            return;
        }
        let leaving = topology.brokers.iter().filter(|(_, broker)| broker.leaving);
        let empty = leaving.filter(|(id, _)| {
            let mut sites = topology.sites();
            **id != self.office.me() && !sites.any(|(_, one)| one.concerns(**id))
        });
        for (id, broker) in empty {
            let command = Command::Plan(PlanCommand::Forget { id: *id });
            match self.office.proposer.propose(&command).await {
                Ok(_) => {
                    tracing::info!(broker = %id, name = broker.name, "it is no member any more")
                }
                Err(error) => tracing::debug!(broker = %id, %error, "it is struck out later"),
            }
        }
    }
}

async fn change(partition: Partition, step: Vec<Change>) {
    let label = partition.spec().label();
    tracing::info!(partition = label, ?step, "its members change");
    let changed = tokio::time::timeout(CHANGE_TIME_MAX, partition.change(step)).await;
    if let Ok(Err(failure)) = changed {
        tracing::warn!(partition = label, %failure, "its members change later");
    }
}
