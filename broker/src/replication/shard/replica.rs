//! One replica of one group: the engine, its store, the machine, and what waits between them.

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::{GroupId, LogIndex, Offset, ReplicaId, Term};
use quorate_storage::{Entry, LogIdentity};
use raft::eraftpb;
use raft::{RawNode, StateRole};
use tokio::sync::watch;

use crate::replication::config::{ElectionWindow, ReplicationConfig};
use crate::replication::engine;
use crate::replication::group::GroupStatus;
use crate::replication::inspect::{Inspection, Progress};
use crate::replication::machine::{Role, StateMachine};
use crate::replication::message::{Body, Message};
use crate::replication::offsets::Place;
use crate::replication::shard::Halt;
use crate::replication::shard::event::{Act, Epoch, Opening, ReadyNumber};
use crate::replication::shard::membership::Membership;
use crate::replication::shard::read::Reads;
use crate::replication::shard::screen::{Verdict, screen};
use crate::replication::shard::tickets::Tickets;
use crate::replication::store::Store;
use crate::replication::ticket::{Answer, Failure};

/// Ticks between hints of the commit index: they only shorten recovery.
const HINT_TICKS: u32 = 20;

/// A Ready whose turn on the disk has not come.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) number: ReadyNumber,
    /// A write job was made for it; otherwise it only keeps its place.
    pub(super) writes: bool,
    pub(super) messages: Vec<eraftpb::Message>,
}

/// A replica's place in its group, as last told to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) role: Role,
    pub(super) term: Term,
    pub(super) ready: bool,
    pub(super) leader: Option<ReplicaId>,
}

/// What was last given to the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) number: ReadyNumber,
    pub(super) term: Term,
    pub(super) vote: ReplicaId,
}

/// Bytes each replica may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) append: usize,
    pub(super) uncommitted: usize,
    pub(super) tail: usize,
    pub(super) page: usize,
}

pub(super) struct Replica<M: StateMachine> {
    pub(super) identity: LogIdentity,
    pub(super) opening: Epoch,
    pub(super) raw: RawNode<Store>,
    pub(super) machine: M,
    pub(super) limits: Limits,
    pub(super) standing: Standing,
    pub(super) held: VecDeque<Held>,
    /// Our form of entries that the engine holds and has not given to us yet.
    pub(super) staged: BTreeMap<(LogIndex, Term), Entry>,
    pub(super) waiting: VecDeque<(M::Proposal, Answer<M::Reply>)>,
    pub(super) tickets: Tickets<M::Reply>,
    pub(super) change: Option<(LogIndex, Answer<()>)>,
    pub(super) reads: Reads,
    /// Who is to lead next, while nobody else is known to.
    pub(super) successor: Option<ReplicaId>,
    /// Peers that files were offered to, and when, in ticks.
    pub(super) offered: Vec<(ReplicaId, u64)>,
    /// Why this leader has to end, and at which tick it does even if nobody took over.
    pub(super) doomed: Option<(Halt, u64)>,
    /// When each peer was last heard, in ticks.
    pub(super) heard: Vec<(ReplicaId, u64)>,
    pub(super) ticks: u64,
    pub(super) membership: Membership,
    pub(super) applied: Place,
    /// Committed and given to us for applying.
    pub(super) apply_until: LogIndex,
    /// First index of a read for applying that is on its way.
    pub(super) apply_fetch: Option<LogIndex>,
    pub(super) replies: Vec<(Answer<M::Reply>, M::Reply)>,
    pub(super) log_start: Offset,
    /// The newest checkpoint taken, and the newest that is durable.
    pub(super) checkpoints: (LogIndex, LogIndex),
    /// Files up to here may go once the checkpoint there is durable.
    pub(super) unlink: Option<LogIndex>,
    pub(super) disk_full: bool,
    /// Acknowledged entries may be missing, here or where the votes came from, and the log does
    /// not say so yet.
    pub(super) lost: bool,
    pub(super) written: Written,
    pub(super) hinted: (LogIndex, u32),
    pub(super) told: (LogIndex, Offset, Offset),
    /// Peers whose message could not be made.
    pub(super) unsent: Vec<ReplicaId>,
    pub(super) repaired_progress: u64,
    pub(super) status: watch::Sender<GroupStatus>,
}

/// What a replica looks like from outside: for checks, not for decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The replica.
    pub replica: ReplicaId,
    /// Its part.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// A leader that takes proposals.
    pub ready: bool,
    /// The entry before the log's first.
    pub point: LogIndex,
    /// The last entry.
    pub last: LogIndex,
    /// Durable up to here, as far as the engine was told.
    pub persisted: LogIndex,
    /// Committed up to here.
    pub committed: LogIndex,
    /// Applied up to here.
    pub applied: LogIndex,
    /// The members as applied.
    pub membership: Membership,
    /// Writes under way.
    pub writes: usize,
    /// How often the engine was answered without payloads.
    pub headers_only: u64,
    /// How often a peer's progress had to be put right.
    pub repaired_progress: u64,
}

impl<M: StateMachine> Replica<M> {
    pub(super) fn open(
        opening: Opening<M>,
        epoch: Epoch,
        config: &ReplicationConfig,
    ) -> Result<Self, Halt> {
        let Opening {
            recovered,
            window,
            status,
        } = opening;
        let identity = recovered.identity;
        let applied = recovered.applied;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let engine = engine_config(identity.replica, applied.index, window, config);
        let raw = RawNode::new(&engine, recovered.store, &logger)
            .map_err(|error| Halt(format!("the engine refused to start: {error}")))?;
        let bytes =
            |size: quorate_protocol::ByteSize| usize::try_from(size.get()).unwrap_or(usize::MAX);
        let term = Term::new(raw.raft.term);
        Ok(Self {
            identity,
            opening: epoch,
            raw,
            machine: recovered.machine,
            limits: Limits {
                append: bytes(config.append_bytes_max),
                uncommitted: bytes(config.uncommitted_bytes_max),
                tail: bytes(config.tail_bytes_max),
                page: bytes(config.page_bytes_max),
            },
            standing: Standing {
                role: Role::Follower,
                term,
                ready: false,
                leader: None,
            },
            held: VecDeque::new(),
            staged: BTreeMap::new(),
            waiting: VecDeque::new(),
            tickets: Tickets::new(),
            change: None,
            reads: Reads::default(),
            successor: None,
            offered: Vec::new(),
            doomed: None,
            heard: Vec::new(),
            ticks: 0,
            membership: recovered.membership,
            applied,
            apply_until: applied.index,
            apply_fetch: None,
            replies: Vec::new(),
            log_start: recovered.log_start,
            checkpoints: (recovered.checkpoint, recovered.checkpoint),
            unlink: recovered.trim,
            disk_full: false,
            lost: recovered.lost,
            written: Written {
                number: ReadyNumber(0),
                term: recovered.saved.term,
                vote: recovered.saved.vote,
            },
            hinted: (LogIndex::new(0), 0),
            told: (LogIndex::new(0), Offset::ZERO, Offset::ZERO),
            unsent: Vec::new(),
            repaired_progress: 0,
            status,
        })
    }

    /// The first step of an opened replica: nobody else could lead a group of one.
    pub(super) fn begin(&mut self, out: &mut Vec<Act<M>>) -> Result<(), Halt> {
        let standing = self.standing;
        self.machine.role_changed(
            standing.role,
            standing.term,
            standing.ready,
            standing.leader,
        );
        self.unlink(out);
        if self.membership.sole_voter(self.identity.replica) {
            self.campaign()
        } else {
            Ok(())
        }
    }

    /// Nothing more is answered.
    pub(super) fn end(mut self, failure: Failure) {
        let term = self.term();
        self.machine.role_changed(Role::Follower, term, false, None);
        for (_, answer) in self.waiting.drain(..) {
            answer.settle(Err(failure));
        }
        self.tickets.fail(if failure == Failure::Closed {
            Failure::Unknown
        } else {
            failure
        });
        if let Some((_, answer)) = self.change.take() {
            answer.settle(Err(Failure::Unknown));
        }
        self.reads.fail(failure);
        self.status.send_modify(|status| {
            status.role = Role::Follower;
            status.leader = None;
            status.poisoned = failure == Failure::Poisoned;
        });
    }

    /// Gives its machine away for the exchange of its files.
    pub(super) fn stand_aside(mut self) -> (M, watch::Sender<GroupStatus>) {
        self.tickets.fail(Failure::Unknown);
        self.reads.fail(Failure::Closed);
        (self.machine, self.status)
    }

    pub(super) const fn group(&self) -> GroupId {
        self.identity.group
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.opening
    }

    pub(super) const fn machine(&self) -> &M {
        &self.machine
    }

    pub(super) fn term(&self) -> Term {
        Term::new(self.raw.raft.term)
    }

    pub(super) fn committed(&self) -> LogIndex {
        LogIndex::new(self.raw.raft.raft_log.committed)
    }

    pub(super) fn persisted_index(&self) -> LogIndex {
        LogIndex::new(self.raw.raft.raft_log.persisted)
    }

    pub(super) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Has nobody to talk to.
    pub(super) fn is_alone(&self) -> bool {
        self.raw
            .raft
            .prs()
            .iter()
            .all(|(id, _)| *id == self.identity.replica.get())
    }

    /// A leader without peers has nobody to remind of itself.
    pub(super) fn needs_ticks(&self) -> bool {
        !(self.is_leader() && self.is_alone())
    }

    pub(super) fn tick(&mut self, out: &mut Vec<Act<M>>) -> Result<(), Halt> {
        // A sole voter elects itself within the tick, and must hold nothing that is not durable then.
        let sole = self.membership.sole_voter(self.identity.replica);
        if !sole || self.held.is_empty() {
            self.raw.tick();
        }
        self.ticks += 1;
        if self.is_leader() && self.raw.raft.lead_transferee.is_none() {
            self.successor = None;
        }
        self.meet_doom()?;
        if !self.offered.is_empty() {
            self.renew_offers()?;
        }
        self.hinted.1 += 1;
        if self.hinted.1 >= HINT_TICKS {
            self.hint(out);
        }
        Ok(())
    }

    /// Is there anything to do since the last turn? Most ticks change nothing.
    pub(super) fn wants_a_turn(&self) -> bool {
        self.raw.has_ready() || self.can_propose()
    }

    /// Never above what the own disk holds: a hint that is durable before its entries would, after
    /// a crash, commit a stale tail.
    fn hint(&mut self, out: &mut Vec<Act<M>>) {
        let hard = self.hard_state();
        self.hinted.1 = 0;
        if hard.commit > self.hinted.0 && !self.held.iter().any(|held| held.writes) {
            self.hinted.0 = hard.commit;
            out.push(Act::Hint(self.identity.replica, hard));
        }
    }

    pub(super) fn campaign(&mut self) -> Result<(), Halt> {
        if self.held.is_empty() {
            self.raw
                .campaign()
                .map_err(|error| Halt(format!("no campaign: {error}")))?;
        }
        Ok(())
    }

    pub(super) fn transfer(&mut self, to: ReplicaId) -> Result<(), Halt> {
        if self.is_leader() {
            self.raw.transfer_leader(to.get());
            self.successor = self.raw.raft.lead_transferee.map(ReplicaId::new);
        }
        Ok(())
    }

    pub(super) fn unreachable(&mut self, peer: ReplicaId) -> Result<(), Halt> {
        self.raw.report_unreachable(peer.get());
        self.repair_progress();
        Ok(())
    }

    /// A peer's message: whatever contradicts this replica's durable state ends it.
    pub(super) fn hear(&mut self, message: Message, out: &mut Vec<Act<M>>) -> Result<(), Halt> {
        let ours = message.tag == self.identity.tag && message.to == self.identity.replica;
        if !ours || message.from == message.to || message.from.get() == 0 {
            return Ok(());
        }
        match screen(&self.raw, &message) {
            Verdict::Drop => return Ok(()),
            Verdict::Repair(why) => return Err(Halt(why.to_owned())),
            Verdict::Pass => {}
        }
        self.note_heard(message.from);
        match message.body {
            Body::Snapshot { .. } => return self.hear_snapshot(&message, out),
            Body::SnapshotStatus { index, finished } => {
                return self.hear_snapshot_status(message.from, index, finished);
            }
            // Led by such a vote, it may lack what a majority once had.
            Body::VoteReply {
                pre: false,
                granted: true,
                forgetful,
                ..
            } => self.lost |= forgetful,
            _ => {}
        }
        let entries = self.stage(&message)?;
        self.step(&message, entries)
    }

    fn note_heard(&mut self, peer: ReplicaId) {
        let now = self.ticks;
        match self.heard.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, at)) => *at = now,
            None if self.membership.contains(peer) => self.heard.push((peer, now)),
            None => {}
        }
    }

    pub(super) fn step(
        &mut self,
        message: &Message,
        entries: Vec<eraftpb::Entry>,
    ) -> Result<(), Halt> {
        let (led, committed) = (self.leads_as_told(), self.committed());
        // What the engine refuses (an unknown peer's answer) is not ours to judge.
        if let Some(message) = engine::inbound(message, entries) {
            drop(self.raw.step(message));
        }
        if led && !self.leads_as_told() {
            // From here on an index may be committed with another leader's entry.
            self.tickets.lose(committed);
        }
        self.repair_progress();
        Ok(())
    }

    /// Keeps our form of the entries for the Ready that gives them back.
    fn stage(&mut self, message: &Message) -> Result<Vec<eraftpb::Entry>, Halt> {
        let Body::Append { entries, .. } = &message.body else {
            return Ok(Vec::new());
        };
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            out.push(self.stage_one(entry.clone())?);
        }
        Ok(out)
    }

    pub(super) fn stage_one(&mut self, entry: Entry) -> Result<eraftpb::Entry, Halt> {
        let out = engine::of(&entry).map_err(|error| Halt(error.to_string()))?;
        self.staged.insert((entry.index, entry.batch.term()), entry);
        Ok(out)
    }

    /// A reordered rejection can leave the next index at or below what the peer confirmed.
    fn repair_progress(&mut self) {
        if !self.is_leader() {
            return;
        }
        for (_, progress) in self.raw.raft.mut_prs().iter_mut() {
            if progress.next_idx <= progress.matched {
                progress.next_idx = progress.matched + 1;
                self.repaired_progress += 1;
            }
        }
    }

    pub(super) fn stalled(&mut self) -> Result<(), Halt> {
        self.disk_full = true;
        self.refuse_waiting();
        Ok(())
    }

    pub(super) fn wants_pages(&self) -> bool {
        self.raw.store().is_asked()
    }

    pub(super) fn pages(&self) -> usize {
        self.raw.store().pages()
    }

    pub(super) fn drop_pages(&mut self) {
        self.raw.mut_store().drop_pages();
    }

    pub(super) fn tail_bytes(&self) -> usize {
        self.raw.store().tail().bytes()
    }

    /// Memory held by entries that are not durable here.
    pub(super) fn unwritten(&self) -> usize {
        let behind = self.persisted_index();
        self.raw.store().tail().bytes_behind(behind)
    }

    /// Drops what can be read from disk again; answers how much that was.
    pub(super) fn shrink_tail(&mut self) -> usize {
        let before = self.tail_bytes();
        self.evict(0);
        before - self.tail_bytes()
    }

    /// What is applied and durable can be read from disk again; the rest cannot.
    pub(super) fn evict(&mut self, bytes_max: usize) {
        let limit = self.applied.index.min(self.persisted_index());
        self.raw.mut_store().evict(limit, bytes_max);
    }

    pub(super) fn glance(&self) -> Glance {
        Glance {
            replica: self.identity.replica,
            role: self.role(),
            term: self.term(),
            ready: self.standing.ready,
            point: self.raw.store().point().index,
            last: LogIndex::new(self.raw.raft.raft_log.last_index()),
            persisted: self.persisted_index(),
            committed: self.committed(),
            applied: self.applied.index,
            membership: self.membership.clone(),
            writes: self.held.iter().filter(|held| held.writes).count(),
            headers_only: self.raw.store().headers_only(),
            repaired_progress: self.repaired_progress,
        }
    }

    pub(super) fn inspect(&self) -> Inspection {
        let progress = |(id, progress): (&u64, &raft::Progress)| {
            let replica = ReplicaId::new(*id);
            Progress {
                replica,
                matched: LogIndex::new(progress.matched),
                active: self.is_active(replica),
                snapshot: progress.state == raft::ProgressState::Snapshot,
            }
        };
        let mut members: Vec<_> = if self.is_leader() {
            self.raw.raft.prs().iter().map(progress).collect()
        } else {
            Vec::new()
        };
        members.sort_unstable_by_key(|member| member.replica);
        Inspection {
            role: self.role(),
            term: self.term(),
            ready: self.standing.ready,
            last: LogIndex::new(self.raw.raft.raft_log.last_index()),
            commit: self.committed(),
            applied: self.applied.index,
            membership: self.membership.clone(),
            progress: members,
        }
    }

    fn is_active(&self, peer: ReplicaId) -> bool {
        let span = u64::try_from(self.raw.raft.election_timeout()).unwrap_or(u64::MAX);
        let mut heard = self.heard.iter();
        peer == self.identity.replica
            || heard.any(|(known, at)| *known == peer && self.ticks.saturating_sub(*at) <= span)
    }

    pub(super) fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }
}

impl<M: StateMachine> std::fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

fn engine_config(
    replica: ReplicaId,
    applied: LogIndex,
    window: ElectionWindow,
    config: &ReplicationConfig,
) -> raft::Config {
    raft::Config {
        id: replica.get(),
        applied: applied.get(),
        election_tick: config.election_ticks,
        heartbeat_tick: config.heartbeat_ticks,
        min_election_tick: window.min,
        max_election_tick: window.max,
        max_size_per_msg: config.append_bytes_max.get(),
        max_inflight_msgs: config.inflight_appends_max,
        // Proposals are held back at the group's own limit; the engine's must never drop one.
        max_uncommitted_size: config.uncommitted_bytes_max.get().saturating_mul(2),
        max_committed_size_per_ready: config.apply_bytes_max.get(),
        check_quorum: true,
        pre_vote: true,
        ..Default::default()
    }
}
