//! The cluster's status as it is printed: tables for people, one object for programs.

use std::time::Duration;
use std::time::SystemTime;

use quorate::BrokerId;
use quorate::BrokerState;
use quorate::BrokerStatus;
use quorate::ClusterHealth;
use quorate::ClusterStatus;
use quorate::PartitionHealth;
use serde::Serialize;

use crate::encoding;
use crate::failure::Failure;
use crate::output::Output;

const KIB: u64 = 1 << 10;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
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
    pub(super) fn new(status: &ClusterStatus, partitions: &[PartitionHealth]) -> Self {
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

    /// Whether some of the cluster cannot be used.
    pub(super) fn is_down(&self) -> bool {
        self.health == "down"
    }

    pub(super) fn show(&self, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            return output.object(self);
        }
        let MetadataLine { leader, term, .. } = &self.metadata;
        output.line(format_args!(
            "cluster `{}`: {}, metadata led by {} in term {term}",
            self.cluster,
            self.health,
            one(*leader),
        ))?;
        self.show_brokers(output)?;
        self.show_partitions(output)?;
        for alarm in &self.alarms {
            output.line(format_args!("alarm {}: {}", alarm.code, alarm.text))?;
        }
        Ok(())
    }

    fn show_brokers(&self, output: &Output) -> Result<(), Failure> {
        let head = [
            "BROKER", "NAME", "STATE", "CLIENT", "PEER", "LEADS", "HOLDS", "CLOCK", "FREE", "UP",
        ];
        let rows = self.brokers.iter().map(|broker| {
            vec![
                broker.id.to_string(),
                broker.name.clone(),
                broker.state.to_owned(),
                broker.client.clone(),
                broker.peer.clone(),
                broker.leaders.to_string(),
                broker.replicas.to_string(),
                format!("{:+}us ±{}", broker.clock_offset_us, broker.clock_error_us),
                size(broker.disk_free_bytes),
                time(broker.uptime_s),
            ]
        });
        output.table(&head, rows.collect())
    }

    fn show_partitions(&self, output: &Output) -> Result<(), Failure> {
        let Counts {
            total,
            leaderless,
            under_replicated,
        } = &self.partitions;
        output.line(format_args!(
            "{total} partitions, {leaderless} without a leader, {under_replicated} with too few \
             complete copies"
        ))?;
        if self.partition_list.is_empty() {
            return Ok(());
        }
        let head = [
            "PARTITION",
            "LEADER",
            "TERM",
            "REPLICAS",
            "IN SYNC",
            "LAG",
            "HIGH WATERMARK",
        ];
        let rows = self.partition_list.iter().map(|partition| {
            vec![
                format!("{}/{}", partition.topic, partition.partition),
                one(partition.leader),
                partition.term.to_string(),
                list(&partition.replicas),
                list(&partition.in_sync),
                lags(&partition.lags),
                partition.high_watermark.to_string(),
            ]
        });
        output.table(&head, rows.collect())
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
            cert_not_after: expires.filter(|_| known).map(encoding::seconds),
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

fn one(broker: Option<u16>) -> String {
    broker.map_or_else(|| "none".to_owned(), |id| id.to_string())
}

fn list(ids: &[u16]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}

/// Only those that lack something.
fn lags(lags: &[Lag]) -> String {
    let behind = lags.iter().filter(|lag| lag.entries > 0);
    let behind: Vec<_> = behind
        .map(|lag| format!("{}:{}", lag.broker, lag.entries))
        .collect();
    match behind.as_slice() {
        [] => "-".to_owned(),
        some => some.join(" "),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    for unit in UNITS {
        if value < 10 * KIB {
            return format!("{value} {unit}");
        }
        value /= KIB;
    }
    format!("{value} PiB")
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(20 << 20), "20 MiB");
        assert_eq!(size(u64::MAX), "16383 PiB");
        assert_eq!(time(59), "59s");
        assert_eq!(time(3_600), "60m");
        assert_eq!(time(200_000), "2d");
    }

    #[test]
    fn only_replicas_that_lack_something_are_shown_with_their_lag() {
        let lag = |broker, entries| Lag { broker, entries };
        assert_eq!(lags(&[lag(2, 0), lag(3, 0)]), "-");
        assert_eq!(lags(&[lag(2, 7), lag(3, 0)]), "2:7");
    }
}
