//! Changes of the cluster that people ask for: checked, explained, written to group 0.

use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ClusterChange;
use quorate_protocol::ClusterChangeKind;
use quorate_protocol::ClusterChanged;
use quorate_protocol::ErrorCode;
use quorate_protocol::GroupId;
use quorate_protocol::Op;
use quorate_protocol::PeerTransfer;
use quorate_protocol::Text;
use quorate_protocol::TopicName;

use crate::metadata::command::Command;
use crate::metadata::error::MetadataError;
use crate::metadata::plan::command::PlanCommand;
use crate::metadata::plan::command::Site;
use crate::metadata::plan::safety;
use crate::metadata::plan::steward::Office;
use crate::metadata::state::State;
use crate::metadata::topology::Assignment;
use crate::metadata::topology::Topology;

/// The longest name of a broker.
const NAME_BYTES_MAX: usize = 128;
/// How long a transfer is waited for; it goes on by itself.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(2);

impl Office {
    /// Makes one change, or says what it would do.
    pub(in crate::metadata) async fn change_cluster(
        &self,
        change: &ClusterChange,
    ) -> Result<ClusterChanged, MetadataError> {
        if change.kind == ClusterChangeKind::FINALIZE {
            return Ok(said(false, "the feature level is the newest there is"));
        }
        let before = self.topology();
        let command = command_of(change, &before)?;
        safety::check(&before, &command, &self.outlook.up())?;
        // All brokers judge alike, so this one knows the answer.
        let after = self.try_out(command.clone())?;
        let effect = effect_of(&command, &before, &after);
        let changed = before.epoch != after.epoch;
        if change.dry_run {
            return Ok(said(changed, &effect));
        }
        if changed {
            self.proposer
                .propose(&Command::Plan(command.clone()))
                .await?;
        }
        if let PlanCommand::Prefer { site, broker } = command {
            self.lead_elsewhere(site.group, broker).await;
        }
        Ok(said(changed, &effect))
    }

    fn try_out(&self, command: PlanCommand) -> Result<Arc<Topology>, MetadataError> {
        let mut state: State = self.view.state.read().clone();
        state.apply_plan(command)?;
        Ok(state.topology)
    }

    /// Asks who leads a group now to let the replica of `to` lead. If that fails, leadership goes
    /// there by itself a little later.
    async fn lead_elsewhere(&self, group: GroupId, to: BrokerId) {
        let colleagues = self.proposer.colleagues();
        match self.outlook.leader_of(group) {
            Some(leader) if leader == colleagues.me => {
                let partition = self.registry.by_group(group);
                let Some(partition) = partition.filter(|_| to != colleagues.me) else {
                    return;
                };
                let members = partition.members();
                let heir = members.holders().find(|(_, holder)| *holder == to);
                if let Some((replica, _)) = heir {
                    partition.transfer(replica);
                }
            }
            Some(leader) if leader != to => {
                let body = PeerTransfer { group, to }.to_bytes();
                let asked = colleagues.request(leader, Op::PEER_TRANSFER, body, TRANSFER_TIME_MAX);
                if let Err(error) = asked.await {
                    tracing::debug!(%group, detail = error.detail, "leadership moves later");
                }
            }
            _ => {}
        }
    }
}

fn command_of(change: &ClusterChange, topology: &Topology) -> Result<PlanCommand, MetadataError> {
    let id = change.broker;
    Ok(match change.kind {
        ClusterChangeKind::ADD => added(change)?,
        ClusterChangeKind::REMOVE => PlanCommand::Remove { id },
        ClusterChangeKind::REPLACE => PlanCommand::Replace { id },
        ClusterChangeKind::DRAIN => PlanCommand::Drain { id, draining: true },
        ClusterChangeKind::UNDRAIN => PlanCommand::Drain {
            id,
            draining: false,
        },
        ClusterChangeKind::TRANSFER => PlanCommand::Prefer {
            site: site_of(change, topology)?,
            broker: id,
        },
        ClusterChangeKind::MOVE => PlanCommand::Move {
            site: site_of(change, topology)?,
            to: change.replicas.iter().copied().collect(),
        },
        kind => {
            let detail = format!("this broker does not know cluster changes of kind {kind:?}");
            return Err(MetadataError::invalid(detail));
        }
    })
}

fn added(change: &ClusterChange) -> Result<PlanCommand, MetadataError> {
    let (id, name) = (change.broker, change.name.as_str());
    let well_formed = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(
            |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-'),
        );
    if id.get() == 0 || name.is_empty() || !well_formed {
        return Err(MetadataError::invalid(format!(
            "broker {id} with the name {name:?}: its number is 1 to 65535, its name that of its \
             certificate"
        )));
    }
    let address = change.address.as_str();
    let port = address
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    if !matches!(port, Some((host, Ok(1..))) if !host.is_empty()) {
        return Err(MetadataError::invalid(format!(
            "{address:?} is no address for brokers: HOST:PORT is needed"
        )));
    }
    Ok(PlanCommand::Add {
        id,
        name: name.to_owned(),
        address: address.to_owned(),
    })
}

fn site_of(change: &ClusterChange, topology: &Topology) -> Result<Site, MetadataError> {
    let name = change.topic.as_str();
    let unknown = || MetadataError::unknown_topic(name);
    let topic = TopicName::try_from(name).ok();
    let topic = topic.and_then(|name| topology.topic_named(&name));
    let topic = topic.ok_or_else(unknown)?;
    let mut sites = topic.sites().map(|(site, _)| site);
    sites
        .find(|site| site.partition == change.partition)
        .ok_or_else(|| {
            let detail = format!("topic {name} has no partition {}", change.partition);
            MetadataError::new(ErrorCode::UNKNOWN_PARTITION, detail)
        })
}

/// What follows from a change, for people.
fn effect_of(command: &PlanCommand, before: &Topology, after: &Topology) -> String {
    if before.epoch == after.epoch {
        return "nothing to change".to_owned();
    }
    let name = |id: &BrokerId| match after.brokers.get(id) {
        Some(broker) => broker.name.clone(),
        None => format!("broker {id}"),
    };
    let planned = planned(before, after);
    match command {
        PlanCommand::Add { id, .. } => format!(
            "{} may join: start it with --init and the [[peers]] of this cluster",
            name(id)
        ),
        PlanCommand::Remove { id } if planned == 0 => {
            format!("{} holds nothing and is removed", name(id))
        }
        PlanCommand::Remove { id } => format!(
            "{planned} replicas of {} move to other brokers; it is removed when that is done",
            name(id)
        ),
        PlanCommand::Replace { id } => format!(
            "{planned} replicas of {} are made anew: start it with an empty data folder and --replace",
            name(id)
        ),
        PlanCommand::Drain { id, draining: true } => {
            format!("{} gives away what it leads, and leads nothing", name(id))
        }
        PlanCommand::Drain { id, .. } => format!("{} may lead again", name(id)),
        PlanCommand::Prefer { site, broker } => {
            format!("{} is to lead {}", name(broker), after.label(*site))
        }
        PlanCommand::Move { site, .. } if planned == 0 => {
            format!("{} has another preferred leader", after.label(*site))
        }
        PlanCommand::Move { site, to } => {
            let names: Vec<_> = to.iter().map(name).collect();
            format!("{} moves to {}", after.label(*site), names.join(", "))
        }
        _ => "done".to_owned(),
    }
}

/// How many partitions got another plan.
fn planned(before: &Topology, after: &Topology) -> usize {
    let plan = |topology: &Topology, site| {
        let assignment: Option<&Assignment> = topology.assignment(site);
        assignment.and_then(|one| one.moving.clone())
    };
    let sites = after.sites().filter(|(_, one)| one.moving.is_some());
    sites
        .filter(|(site, one)| plan(before, *site) != one.moving)
        .count()
}

fn said(changed: bool, detail: &str) -> ClusterChanged {
    ClusterChanged {
        changed,
        detail: Text::clipped(detail),
    }
}
