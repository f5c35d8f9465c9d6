//! Tells the other brokers how this one is and what it leads: changes at once, everything now and
//! then.
//!
//! One question to all groups per report, whatever their number.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_protocol::Body;
use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::FollowerState;
use quorate_protocol::GroupId;
use quorate_protocol::LedPartition;
use quorate_protocol::LogIndex;
use quorate_protocol::Op;
use quorate_protocol::PeerStatus;
use quorate_protocol::Text;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::metadata::leaders::Leaders;
use crate::metadata::propose::Proposer;
use crate::partition::Partition;
use crate::peers::Reach;
use crate::replication::Inspection;

/// Time between two reports without a change of leadership.
const INTERVAL: Duration = Duration::from_secs(1);
/// Reports after which everything is told again, also to those that heard it.
const REPORTS_PER_LIST: u32 = 10;
/// Time in which changes of leadership become one report.
const COALESCED: Duration = Duration::from_millis(20);
/// Partitions in one message: its body stays below what a request may hold, with 16 replicas each.
const LED_PER_PAGE: usize = 200;
/// How long a report may wait for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// How this broker is, apart from its partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Free bytes of the data folder's volume.
    pub disk_free_bytes: u64,
    /// When its certificate expires, in seconds since 1970.
    pub cert_not_after_s: u64,
    /// The room on the disk is a matter of concern.
    pub disk_low: bool,
    /// Publishing is refused for lack of room.
    pub disk_full: bool,
    /// It is shutting down.
    pub draining: bool,
}

/// The task that reports.
pub(super) struct Reporter {
    pub(super) proposer: Arc<Proposer>,
    pub(super) leaders: Leaders,
    pub(super) vitals: watch::Receiver<Vitals>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) began: Duration,
    /// Whether this broker's metadata is that of the cluster.
    pub(super) entered: Arc<AtomicBool>,
    pub(super) tracker: TaskTracker,
    pub(super) memory: Memory,
}

/// What earlier reports said.
#[derive(Debug, Default)]
pub(super) struct Memory {
    said: BTreeMap<GroupId, LedPartition>,
    /// What was committed at the last regular report: who has that is in sync.
    committed: BTreeMap<GroupId, LogIndex>,
    reports: u32,
    /// Brokers that were reached then; one that was not has to hear everything.
    reached: BTreeSet<BrokerId>,
}

impl Reporter {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut leaderships = self.leaders.registry().leaderships();
        loop {
            let next = timeout(INTERVAL, leaderships.changed());
            let Some(woken) = stop.run_until_cancelled(next).await else {
                return;
            };
            let hurried = woken.is_ok();
            if hurried {
                self.leaders.note_change();
                let pause = tokio::time::sleep(COALESCED);
                if stop.run_until_cancelled(pause).await.is_none() {
                    return;
                }
                leaderships.mark_unchanged();
            }
            self.report(!hurried).await;
        }
    }

    async fn report(&mut self, regular: bool) {
        let led = self.led(regular).await;
        if regular {
            self.memory.reports = self.memory.reports.wrapping_add(1);
        }
        let whole = regular && self.memory.reports.is_multiple_of(REPORTS_PER_LIST);
        if whole {
            self.forget_deleted();
        }
        let changed = led
            .iter()
            .filter(|led| self.memory.said.get(&led.group) != Some(led));
        let changed: Vec<_> = changed.cloned().collect();
        // A table of its own broker serves this one like all others.
        for page in self.pages(&led, true) {
            self.leaders.handle_status(self.me(), page);
        }
        let reached = self.reached();
        for broker in &reached {
            let all = whole || !self.memory.reached.contains(broker);
            let pages = if all {
                self.pages(&led, true)
            } else {
                self.pages(&changed, false)
            };
            self.send(*broker, pages);
        }
        self.memory.reached = reached;
        self.memory.said = led.into_iter().map(|led| (led.group, led)).collect();
    }

    /// What this broker leads, in its own words.
    async fn led(&mut self, regular: bool) -> Vec<LedPartition> {
        let registry = self.leaders.registry();
        let inspected = registry.inspect_led().await;
        let ready = inspected.iter().filter(|(_, inspection)| inspection.ready);
        let led = ready.filter_map(|(group, inspection)| {
            let partition = registry.by_group(*group)?;
            let before = self.memory.committed.get(group).copied();
            Some(told(&partition, inspection, before))
        });
        let led = led.collect();
        if regular {
            let commits = inspected.iter().map(|(group, seen)| (*group, seen.commit));
            self.memory.committed = commits.collect();
        }
        led
    }

    fn pages(&self, led: &[LedPartition], full: bool) -> Vec<PeerStatus> {
        let mut pages: Vec<_> = led.chunks(LED_PER_PAGE).map(|led| self.page(led)).collect();
        if pages.is_empty() {
            pages.push(self.page(&[]));
        }
        if let Some(first) = pages.first_mut() {
            first.full = full;
        }
        pages
    }

    fn page(&self, led: &[LedPartition]) -> PeerStatus {
        let vitals = *self.vitals.borrow();
        let uptime = self.clock.monotonic().saturating_sub(self.began);
        PeerStatus {
            version: Text::clipped(env!("CARGO_PKG_VERSION")),
            uptime_s: uptime.as_secs(),
            disk_free_bytes: vitals.disk_free_bytes,
            cert_not_after_s: vitals.cert_not_after_s,
            // Whoever has no room for records gives away what it leads, as if it were to stop.
            draining: vitals.draining || vitals.disk_full,
            catching_up: !self.entered.load(Ordering::Relaxed),
            full: false,
            led: Bounded::clipped(led.iter().cloned()),
        }
    }

    /// Without waiting: a broker that does not answer makes no other one wait, and its answer says
    /// nothing.
    fn send(&self, to: BrokerId, pages: Vec<PeerStatus>) {
        let colleagues = self.proposer.colleagues();
        let Some(peers) = &colleagues.peers else {
            return;
        };
        for page in pages {
            let asked = peers.request(to, Op::PEER_STATUS, page.to_bytes(), ANSWER_TIME_MAX);
            self.tracker.spawn(async move { drop(asked.await) });
        }
    }
    /// The brokers that are connected now.
    fn reached(&self) -> BTreeSet<BrokerId> {
        let colleagues = self.proposer.colleagues();
        let Some(peers) = &colleagues.peers else {
            return BTreeSet::new();
        };
        let states = peers.states();
        let states = states.borrow();
        let up = states.iter().filter(|(_, state)| state.state == Reach::Up);
        up.map(|(broker, _)| *broker).collect()
    }

    fn forget_deleted(&self) {
        let topology = self.proposer.colleagues().view.topology.borrow().clone();
        let partitions = topology.topics().flat_map(|topic| &topic.partitions);
        self.leaders
            .retain(&partitions.map(|one| one.group).collect());
    }

    fn me(&self) -> BrokerId {
        self.proposer.colleagues().me
    }
}

/// A partition led here.
fn told(
    partition: &Partition,
    inspection: &Inspection,
    committed_before: Option<LogIndex>,
) -> LedPartition {
    let status = partition.describe();
    let members = partition.members();
    let own = partition.spec().replica;
    let goal = committed_before.unwrap_or(inspection.commit);
    // One that only learns stands in for nobody yet: whoever stops another broker must see that.
    let votes = |replica| inspection.membership.voters.contains(&replica);
    let others = inspection.progress.iter().filter(|one| one.replica != own);
    let followers = others.filter_map(|progress| {
        Some(FollowerState {
            broker: members.broker_of(progress.replica)?,
            lag: inspection.last.get().saturating_sub(progress.matched.get()),
            in_sync: votes(progress.replica)
                && progress.active
                && !progress.snapshot
                && progress.matched >= goal,
        })
    });
    LedPartition {
        group: partition.spec().group,
        term: inspection.term,
        high_watermark: status.high_watermark,
        log_start: status.log_start,
        bytes: status.bytes.get(),
        subscribers: u32::try_from(status.subscribers).unwrap_or(u32::MAX),
        followers: Bounded::clipped(followers),
    }
}
