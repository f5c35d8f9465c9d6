//! How the cluster is, as `quorate cluster status --json` prints it.

use std::time::Duration;
use std::time::SystemTime;

use jiff::Timestamp;
use quorate::BrokerId;
use quorate::BrokerState;
use quorate::BrokerStatus;
use quorate::ClusterHealth;
use quorate::ClusterStatus;
use quorate::PartitionHealth;
use serde::Serialize;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    cluster: String,
    feature_level: u16,
    health: &'static str,
    brokers: Vec<BrokerLine>,
    metadata: MetadataLine,
    partitions: Counts,
    alarms: Vec<AlarmLine>,
    partition_list: Vec<PartitionLine>,
}

#[derive(Debug, Serialize)]
struct BrokerLine {
    id: u16,
    name: String,
    state: &'static str,
    client: String,
    peer: String,
    version: String,
    leaders: u32,
    replicas: u32,
    clock_offset_us: i64,
    clock_error_us: u64,
    disk_free_bytes: u64,
    /// `None`: not known.
    cert_not_after: Option<String>,
    uptime_s: u64,
}

#[derive(Debug, Serialize)]
struct MetadataLine {
    leader: Option<u16>,
    term: u64,
    applied: u64,
}

#[derive(Debug, Serialize)]
struct Counts {
    total: u32,
    leaderless: u32,
    under_replicated: u32,
}

#[derive(Debug, Serialize)]
struct AlarmLine {
    code: String,
    broker: Option<u16>,
    text: String,
}

#[derive(Debug, Serialize)]
struct PartitionLine {
    topic: String,
    partition: u32,
    leader: Option<u16>,
    term: u64,
    replicas: Vec<u16>,
    in_sync: Vec<u16>,
    lags: Vec<Lag>,
    high_watermark: u64,
}

/// Log entries that a replica does not have yet.
#[derive(Debug, Serialize)]
struct Lag {
    broker: u16,
    entries: u64,
}

impl Report {
    pub(crate) fn new(status: &ClusterStatus, partitions: &[PartitionHealth]) -> Self {
        let alarms = status.alarms.iter().map(|alarm| AlarmLine {
            code: alarm.code.clone(),
            broker: alarm.broker.map(BrokerId::get),
            text: alarm.text.clone(),
        });
        Self {
            cluster: status.cluster.clone(),
            feature_level: status.feature_level,
            health: match status.health {
                ClusterHealth::Ok => "ok",
                ClusterHealth::Down => "down",
                _ => "degraded",
            },
            brokers: status.brokers.iter().map(BrokerLine::from).collect(),
            metadata: MetadataLine {
                leader: status.metadata.leader.map(BrokerId::get),
                term: status.metadata.term.get(),
                applied: status.metadata.applied.get(),
            },
            partitions: Counts {
                total: status.partitions.total,
                leaderless: status.partitions.leaderless,
                under_replicated: status.partitions.under_replicated,
            },
            alarms: alarms.collect(),
            partition_list: partitions.iter().map(PartitionLine::from).collect(),
        }
    }
}

impl From<&BrokerStatus> for BrokerLine {
    fn from(status: &BrokerStatus) -> Self {
        let expires = Duration::from_secs(status.cert_not_after_s);
        let expires = SystemTime::UNIX_EPOCH.checked_add(expires);
        let known = status.cert_not_after_s > 0;
        Self {
            id: status.id.get(),
            name: status.name.clone(),
            state: match status.state {
                BrokerState::Up => "up",
                BrokerState::Down => "down",
                BrokerState::Draining => "draining",
                BrokerState::CatchingUp => "catching_up",
                _ => "suspect",
            },
            client: status.client_address.clone(),
            peer: status.peer_address.clone(),
            version: status.version.clone(),
            leaders: status.leaders,
            replicas: status.replicas,
            clock_offset_us: status.clock_offset_us,
            clock_error_us: micros(status.clock_error),
            disk_free_bytes: status.disk_free_bytes,
            cert_not_after: expires.filter(|_| known).map(seconds),
            uptime_s: status.uptime.as_secs(),
        }
    }
}

impl From<&PartitionHealth> for PartitionLine {
    fn from(health: &PartitionHealth) -> Self {
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.get()).collect();
        let lag = |(broker, entries): &(BrokerId, u64)| Lag {
            broker: broker.get(),
            entries: *entries,
        };
        Self {
            topic: health.topic.clone(),
            partition: health.partition.get(),
            leader: health.leader.map(BrokerId::get),
            term: health.term.get(),
            replicas: ids(&health.replicas),
            in_sync: ids(&health.in_sync),
            lags: health.lags.iter().map(lag).collect(),
            high_watermark: health.high_watermark.get(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC; a time that a calendar cannot name stands at its end.
fn seconds(time: SystemTime) -> String {
    let stamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    format!("{stamp:.0}")
}
