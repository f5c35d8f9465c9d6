//! Settings of the shard and of one group, and what the engine makes of them.

use std::path::PathBuf;
use std::time::Duration;

use quorate_protocol::{BrokerId, ByteSize, GroupId, GroupTag, ReplicaId};
use quorate_storage::{LogConfig, LogIdentity};

/// One group as this broker holds it.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// The group's number.
    pub group: GroupId,
    /// Its incarnation.
    pub tag: GroupTag,
    /// Our replica of it.
    pub replica: ReplicaId,
    /// The first voters, in order of preference; used only when the group is born.
    pub voters: Vec<ReplicaId>,
    /// Where its replicas live by now, the preferred leader first.
    pub holders: Vec<(ReplicaId, BrokerId)>,
    /// The replica's folder.
    pub dir: PathBuf,
    /// Segment limits.
    pub log: LogConfig,
    /// When an entry counts as persisted.
    pub durability: Durability,
    /// Open it even if its log may have lost what was acknowledged: what is left is all there is.
    pub release: bool,
}

impl GroupSpec {
    /// Whose log it is.
    pub(super) const fn identity(&self) -> LogIdentity {
        LogIdentity {
            group: self.group,
            tag: self.tag,
            replica: self.replica,
        }
    }
}

/// When an entry counts as persisted on a replica. Votes and terms are flushed always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once a flush covered it.
    #[default]
    Flush,
    /// Once it was written; a flush follows after this time.
    Interval(Duration),
    /// Once it is in memory; it never reaches a disk.
    Memory,
}

/// Settings of replication. Limits in bytes are per group unless said otherwise.
#[derive(Clone, Debug)]
pub struct ReplicationConfig {
    /// One step of the engine's clock. Default: 50 ms.
    pub tick: Duration,
    /// Ticks between heartbeats. Default: 2.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader after which votes may move. Default: 10.
    pub election_ticks: usize,
    /// Ticks over which the members' election windows are spread. Default: 10.
    pub election_spread_ticks: usize,
    /// Limit of one append message and of one proposal to the engine. Default: 1 MiB.
    pub append_bytes_max: ByteSize,
    /// Append messages on their way to one peer. Default: 256.
    pub inflight_appends_max: usize,
    /// Proposals whose outcome is open. Default: 16 MiB.
    pub uncommitted_bytes_max: ByteSize,
    /// The same over all groups. Default: 256 MiB.
    pub uncommitted_bytes_total_max: ByteSize,
    /// Applied in one step. Default: 4 MiB.
    pub apply_bytes_max: ByteSize,
    /// One flush takes at most this much. Default: 4 MiB.
    pub group_commit_bytes_max: ByteSize,
    /// Entries kept for followers that are a little behind. Default: 4 MiB.
    pub tail_bytes_max: ByteSize,
    /// The same over all groups. Default: 64 MiB.
    pub tail_bytes_total_max: ByteSize,
    /// One page read for a follower that is far behind. Default: 1 MiB.
    pub page_bytes_max: ByteSize,
    /// All such pages. Default: 64 MiB.
    pub pages_bytes_total_max: ByteSize,
    /// Files that leave for replicas which are too far behind, all together. Default: 256 MiB.
    pub snapshot_bytes_per_second: ByteSize,
    /// Replicas whose files come in at a time. Default: 2.
    pub snapshots_received_max: usize,
    /// Replicas whose files go out at a time. Default: 4.
    pub snapshots_served_max: usize,
    /// Logs that never reach a disk. Default: 1 GiB.
    pub memory_bytes_max: ByteSize,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks: 10,
            election_spread_ticks: 10,
            append_bytes_max: ByteSize::new(MIB),
            inflight_appends_max: 256,
            uncommitted_bytes_max: ByteSize::new(16 * MIB),
            uncommitted_bytes_total_max: ByteSize::new(256 * MIB),
            apply_bytes_max: ByteSize::new(4 * MIB),
            group_commit_bytes_max: ByteSize::new(4 * MIB),
            tail_bytes_max: ByteSize::new(4 * MIB),
            tail_bytes_total_max: ByteSize::new(64 * MIB),
            page_bytes_max: ByteSize::new(1024 * KIB),
            pages_bytes_total_max: ByteSize::new(64 * MIB),
            snapshot_bytes_per_second: ByteSize::new(256 * MIB),
            snapshots_received_max: 2,
            snapshots_served_max: 4,
            memory_bytes_max: ByteSize::new(1024 * MIB),
        }
    }
}

/// Ticks after which a replica asks for votes: `[min, max)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionWindow {
    /// The first tick that may fire.
    pub min: usize,
    /// The first that may not.
    pub max: usize,
}

impl ElectionWindow {
    /// Windows of different members do not overlap, so candidates rarely meet. `place` is the
    /// replica's place among `members`; the preferred replica (place 0) comes last.
    pub fn of(place: usize, members: usize, config: &ReplicationConfig) -> Self {
        let members = members.max(1);
        let stride = (config.election_spread_ticks / members).max(1);
        let order = (members - 1).saturating_sub(place);
        let min = config.election_ticks + 1 + order * stride;
        Self {
            min,
            max: min + stride.saturating_sub(1).max(1),
        }
    }

    /// The same behind the windows of all members: for one that may have forgotten something, and
    /// leaves it to the others to lead.
    pub fn behind(self, config: &ReplicationConfig) -> Self {
        Self {
            min: self.min + config.election_spread_ticks,
            max: self.max + config.election_spread_ticks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_three_do_not_overlap_and_the_preferred_is_last() {
        let windows: Vec<_> = (0..3)
            .map(|place| ElectionWindow::of(place, 3, &ReplicationConfig::default()))
            .collect();
        let pairs: Vec<_> = windows.iter().map(|w| (w.min, w.max)).collect();
        assert_eq!(pairs, [(17, 19), (14, 16), (11, 13)]);
    }

    #[test]
    fn many_members_still_get_a_window_each() {
        for place in 0..20 {
            let window = ElectionWindow::of(place, 20, &ReplicationConfig::default());
            assert!(window.min > 10 && window.max > window.min);
        }
    }
}
