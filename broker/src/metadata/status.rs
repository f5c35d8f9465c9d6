//! How the cluster is, as this broker sees it: reach, reports and metadata joined in one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_protocol::Alarm;
use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerState;
use quorate_protocol::BrokerStatus;
use quorate_protocol::ClusterHealth;
use quorate_protocol::ClusterStatus;
use quorate_protocol::ClusterStatusRequest;
use quorate_protocol::PartitionCursor;
use quorate_protocol::PartitionHealth;
use quorate_protocol::PartitionId;
use quorate_protocol::Text;

use crate::clock::Clock;
use crate::metadata::describe::holders;
use crate::metadata::describe::views;
use crate::metadata::leaders::Facts;
use crate::metadata::leaders::Leaders;
use crate::metadata::leaders::View;
use crate::metadata::propose::Proposer;
use crate::metadata::report::Vitals;
use crate::metadata::topology::Assignment;
use crate::metadata::topology::Broker;
use crate::metadata::topology::Topic;
use crate::metadata::topology::Topology;
use crate::peers::PeerState;
use crate::peers::PeerStates;
use crate::peers::Reach;

/// A difference of clocks that somebody should look at.
const CLOCK_SKEW_US_MAX: u64 = 500_000;
/// The last days of a certificate.
const CERTIFICATE_DAYS_MIN: u64 = 7;
const DAY_S: u64 = 24 * 3_600;
/// Partitions in one answer: even with 16 replicas each they fit into it.
const PARTITIONS_PER_PAGE: usize = 64;
/// The feature level of this build; none has been finalised above it.
const FEATURE_LEVEL: u16 = 1;

/// What the picture is made of, at one moment.
pub(super) struct Sight<'a> {
    pub(super) cluster: &'a str,
    pub(super) proposer: &'a Proposer,
    pub(super) leaders: &'a Leaders,
    pub(super) topology: Arc<Topology>,
    pub(super) vitals: Vitals,
    pub(super) damaged: Vec<String>,
    pub(super) clock: &'a dyn Clock,
}

/// Counts over all partitions.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    all: u32,
    leaderless: u32,
    under_replicated: u32,
}

/// Counts of one broker.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    leaders: u32,
    replicas: u32,
}

impl Sight<'_> {
    /// The answer to a question about the cluster.
    pub(super) fn status(&self, request: &ClusterStatusRequest) -> ClusterStatus {
        let group = self.proposer.group().status();
        let states = self.states();
        let (totals, shares) = self.count();
        let brokers = self.brokers(&states, &shares);
        let alarms = self.alarms(&states, &brokers);
        let (partitions, more) = match request.partitions {
            true => self.partitions(request.after.as_ref()),
            false => (Vec::new(), false),
        };
        let metadata_leader = self.proposer.leader();
        let health = health(totals, metadata_leader, &brokers, &alarms);
        ClusterStatus {
            cluster: Text::clipped(self.cluster),
            feature_level: FEATURE_LEVEL,
            health,
            brokers: Bounded::clipped(brokers),
            metadata_leader,
            metadata_term: group.term,
            metadata_applied: group.applied,
            total: totals.all,
            leaderless: totals.leaderless,
            under_replicated: totals.under_replicated,
            alarms: Bounded::clipped(alarms),
            partitions: Bounded::clipped(partitions),
            more,
        }
    }

    fn states(&self) -> PeerStates {
        let peers = self.proposer.colleagues().peers.as_ref();
        peers.map_or_else(Arc::default, |peers| Arc::clone(&peers.states().borrow()))
    }

    fn count(&self) -> (Totals, BTreeMap<BrokerId, Share>) {
        let mut totals = Totals::default();
        let mut shares: BTreeMap<BrokerId, Share> = BTreeMap::new();
        for topic in self.topology.topics() {
            for (_, assignment, view) in views(topic, self.leaders) {
                totals.all += 1;
                totals.leaderless += u32::from(view.leader.is_none());
                totals.under_replicated += u32::from(is_short(assignment, &view));
                for holder in holders(assignment) {
                    shares.entry(holder).or_default().replicas += 1;
                }
                if let Some(leader) = view.leader {
                    shares.entry(leader).or_default().leaders += 1;
                }
            }
        }
        (totals, shares)
    }

    fn brokers(
        &self,
        states: &PeerStates,
        shares: &BTreeMap<BrokerId, Share>,
    ) -> Vec<BrokerStatus> {
        let facts = self.leaders.facts();
        let status = |(id, broker): (&BrokerId, &Broker)| {
            let share = shares.get(id).copied().unwrap_or_default();
            self.broker(*id, broker, states.get(id), facts.get(id), share)
        };
        self.topology.brokers().iter().map(status).collect()
    }

    fn broker(
        &self,
        id: BrokerId,
        broker: &Broker,
        peer: Option<&PeerState>,
        facts: Option<&Facts>,
        share: Share,
    ) -> BrokerStatus {
        let here = id == self.proposer.colleagues().me;
        // Before the first probe nothing is known of its clock.
        let probed = peer.filter(|peer| peer.clock_error_us != u64::MAX);
        BrokerStatus {
            id,
            name: Text::clipped(&broker.name),
            state: state_of(here, broker, peer, facts),
            client_address: Text::clipped(&broker.client_address),
            peer_address: Text::clipped(&broker.peer_address),
            version: Text::clipped(facts.map_or("", |facts| &facts.version)),
            leaders: share.leaders,
            replicas: share.replicas,
            clock_offset_us: probed.map_or(0, |peer| peer.clock_offset_us),
            clock_error_us: probed.map_or(0, |peer| peer.clock_error_us),
            disk_free_bytes: facts.map_or(0, |facts| facts.disk_free_bytes),
            cert_not_after_s: facts.map_or(0, |facts| facts.cert_not_after_s),
            uptime_s: facts.map_or(0, |facts| facts.uptime_s),
        }
    }

    fn alarms(&self, states: &PeerStates, brokers: &[BrokerStatus]) -> Vec<Alarm> {
        let me = self.proposer.colleagues().me;
        let mut alarms = Vec::new();
        if self.vitals.disk_full {
            alarms.push(alarm(
                "disk_full",
                me,
                "the disk is full: publishing is refused".into(),
            ));
        } else if self.vitals.disk_low {
            alarms.push(alarm("disk_low", me, "the disk is nearly full".into()));
        }
        let damaged = self.damaged.iter();
        alarms.extend(damaged.map(|text| alarm("replica_damaged", me, text.clone())));
        for (id, peer) in states.iter() {
            if let Some(reason) = &peer.refused {
                alarms.push(alarm("peer_refused", *id, reason.clone()));
            }
            let skew = peer.clock_offset_us.unsigned_abs();
            let certain = peer.clock_error_us.saturating_add(CLOCK_SKEW_US_MAX);
            if skew > certain {
                let text = format!("its clock differs by {} ms from ours", skew / 1_000);
                alarms.push(alarm("clock_skew", *id, text));
            }
        }
        let now_s = self.clock.now_micros() / 1_000_000;
        alarms.extend(
            brokers
                .iter()
                .filter_map(|broker| certificate(broker, now_s)),
        );
        alarms
    }

    fn partitions(&self, after: Option<&PartitionCursor>) -> (Vec<PartitionHealth>, bool) {
        let all = self
            .topology
            .topics()
            .flat_map(|topic| healths(topic, self.leaders));
        let behind = |health: &PartitionHealth| {
            after.is_none_or(|after| {
                let place = (after.topic.as_str(), after.partition);
                (health.topic.as_str(), health.partition) > place
            })
        };
        let mut page: Vec<_> = all.filter(behind).take(PARTITIONS_PER_PAGE + 1).collect();
        let more = page.len() > PARTITIONS_PER_PAGE;
        page.truncate(PARTITIONS_PER_PAGE);
        (page, more)
    }
}

fn healths<'a>(topic: &'a Topic, leaders: &'a Leaders) -> impl Iterator<Item = PartitionHealth> {
    let name: Text<128> = topic.name.to_text();
    views(topic, leaders).map(move |(partition, assignment, view)| {
        let lags = view.followers.iter().map(|one| (one.broker, one.lag));
        health_of(name.clone(), partition, assignment, &view, lags.collect())
    })
}

fn health_of(
    topic: Text<128>,
    partition: PartitionId,
    assignment: &Assignment,
    view: &View,
    lags: Vec<(BrokerId, u64)>,
) -> PartitionHealth {
    PartitionHealth {
        topic,
        partition,
        leader: view.leader,
        term: view.term,
        replicas: Bounded::clipped(holders(assignment)),
        in_sync: Bounded::clipped(view.in_sync()),
        lags: Bounded::clipped(lags),
        high_watermark: view.high_watermark,
    }
}

/// Whether a copy is missing or not complete.
fn is_short(assignment: &Assignment, view: &View) -> bool {
    let complete: Vec<_> = view.in_sync().collect();
    holders(assignment).any(|holder| !complete.contains(&holder))
}

fn state_of(
    here: bool,
    broker: &Broker,
    peer: Option<&PeerState>,
    facts: Option<&Facts>,
) -> BrokerState {
    let reach = peer.map_or(Reach::Down, |peer| peer.state);
    match (here, reach) {
        (false, Reach::Down) => BrokerState::DOWN,
        (false, Reach::Suspect) => BrokerState::SUSPECT,
        _ if broker.draining || facts.is_some_and(|facts| facts.draining) => BrokerState::DRAINING,
        _ if facts.is_none_or(|facts| facts.catching_up) && !here => BrokerState::CATCHING_UP,
        _ => BrokerState::UP,
    }
}

fn health(
    totals: Totals,
    metadata_leader: Option<BrokerId>,
    brokers: &[BrokerStatus],
    alarms: &[Alarm],
) -> ClusterHealth {
    let whole = |broker: &BrokerStatus| {
        broker.state == BrokerState::UP || broker.state == BrokerState::DRAINING
    };
    if totals.leaderless > 0 || metadata_leader.is_none() {
        ClusterHealth::DOWN
    } else if totals.under_replicated > 0 || !brokers.iter().all(whole) || !alarms.is_empty() {
        ClusterHealth::DEGRADED
    } else {
        ClusterHealth::OK
    }
}

fn certificate(broker: &BrokerStatus, now_s: u64) -> Option<Alarm> {
    let until = broker.cert_not_after_s;
    if until == 0 || until > now_s.saturating_add(CERTIFICATE_DAYS_MIN * DAY_S) {
        return None;
    }
    let text = match until.checked_sub(now_s) {
        Some(left) => format!("its certificate expires in {} hours", left / 3_600),
        None => "its certificate has expired".to_owned(),
    };
    Some(alarm("certificate_expiring", broker.id, text))
}

fn alarm(code: &str, broker: BrokerId, text: String) -> Alarm {
    Alarm {
        code: Text::clipped(code),
        broker: Some(broker),
        text: Text::clipped(&text),
    }
}
