//! Members, ordered lanes between them, a seeded scheduler, the invariants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quorate_protocol::{Envelope, FRAME_HEADER_LEN, Term};
use quorate_storage::{CheckpointStore, Lane as Work, StateLog, create_log, open_log};

use crate::replication::machine::Role;
use crate::replication::message::{Body, Lane, Message};
use crate::replication::shard::event::{Act, In, Install, Swap};
use crate::replication::shard::membership::Membership;
use crate::replication::tests::Rng;
use crate::replication::tests::book::{Ask, Book, GROUP, Receipt};
use crate::replication::tests::world::{Node, replica};
use crate::replication::ticket::{Answer, Failure, Ticket};
use crate::replication::wire;

/// How often the interesting things happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) crashes: u64,
    pub(super) committed: u64,
    pub(super) acked: u64,
    pub(super) ahead: u64,
    pub(super) conflicts: u64,
    pub(super) trims: u64,
    pub(super) installs: u64,
    pub(super) refused: u64,
    pub(super) fetches: u64,
    pub(super) headers: u64,
    pub(super) transfers: u64,
    pub(super) duplicated: u64,
    pub(super) repaired: u64,
    pub(super) replaced: u64,
    pub(super) messages: u64,
    pub(super) reads: u64,
    pub(super) early: u64,
}

/// A number's fate, as its asker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Applied(Receipt),
    NotApplied,
    Unknown,
}

pub(super) struct Sim {
    pub(super) rng: Rng,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) lanes: BTreeMap<(u64, u64, Lane), VecDeque<Message>>,
    pub(super) installs: Vec<(u64, Install)>,
    /// Folders of files that came, by receiver.
    staged: BTreeMap<u64, PathBuf>,
    stagings: u64,
    /// Index to term and content, from the first that saw it committed, or applied.
    pub(super) truth: BTreeMap<u64, (Term, Option<u64>)>,
    leaders: BTreeMap<u64, u64>,
    seen: BTreeMap<u64, (u64, u64)>,
    open: Vec<(u64, Ticket<Receipt>)>,
    /// Who reads, and what was committed when it began to.
    pub(super) readers: Vec<(u64, u64, Ticket<()>)>,
    /// Batches whose answer promises nothing.
    pub(super) early: BTreeSet<u64>,
    pub(super) reading: bool,
    /// Whoever is to end.
    pub(super) doomed: Option<u64>,
    /// Now and then one member is cut off.
    pub(super) lonely: bool,
    pub(super) fates: BTreeMap<u64, Fate>,
    pub(super) numbers: u64,
    now: u64,
    pub(super) stats: Stats,
    pub(super) trimming: bool,
    /// Messages are duplicated and reordered, as no connection of ours would do.
    pub(super) unruly: bool,
    pub(super) transferring: bool,
    pub(super) stay_down: Option<u64>,
    pub(super) silent: Option<u64>,
    /// (dead, new): the membership plan to follow.
    pub(super) plan: Option<(u64, u64)>,
    pub(super) tail_bytes_max: u64,
}

impl Sim {
    pub(super) fn new(seed: u64, voters: &[u64]) -> Self {
        Self::with_tail(seed, voters, 1 << 20)
    }

    pub(super) fn with_tail(seed: u64, voters: &[u64], tail_bytes_max: u64) -> Self {
        let mut sim = Self {
            rng: Rng(seed),
            nodes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            installs: Vec::new(),
            staged: BTreeMap::new(),
            stagings: 0,
            truth: BTreeMap::new(),
            leaders: BTreeMap::new(),
            seen: BTreeMap::new(),
            open: Vec::new(),
            readers: Vec::new(),
            early: BTreeSet::new(),
            reading: false,
            doomed: None,
            lonely: false,
            fates: BTreeMap::new(),
            numbers: 0,
            now: 1,
            stats: Stats::default(),
            trimming: false,
            unruly: false,
            transferring: false,
            stay_down: None,
            silent: None,
            plan: None,
            tail_bytes_max,
        };
        for id in voters {
            sim.nodes
                .insert(*id, Node::new(*id, voters, tail_bytes_max));
            sim.restart(*id);
        }
        sim
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn is_up(&self, id: u64) -> bool {
        self.nodes[&id].life.is_some()
    }

    /// The leader of the highest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let glances = self
            .nodes
            .values()
            .filter_map(|node| Some((node.id, node.glance()?)));
        let leaders = glances.filter(|(_, glance)| glance.role == Role::Leader);
        leaders
            .max_by_key(|(_, glance)| glance.term)
            .map(|(id, _)| id)
    }

    /// Gives a member events, carries what it says, checks the invariants.
    pub(super) fn feed(&mut self, id: u64, events: Vec<In<Book>>) {
        self.now += 1;
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life.is_some()) else {
            return;
        };
        let before = node.glance();
        let acts = node.turn(now, events);
        if let (Some(before), Some(after)) = (&before, node.glance()) {
            self.stats.conflicts += u64::from(after.last < before.last);
            self.stats.headers += after.headers_only.saturating_sub(before.headers_only);
            self.stats.repaired += after
                .repaired_progress
                .saturating_sub(before.repaired_progress);
        }
        let membership = before.map_or_else(Membership::default, |before| before.membership);
        self.check(id, &membership);
        for act in acts {
            self.carry(id, act);
        }
    }

    fn carry(&mut self, id: u64, act: Act<Book>) {
        match act {
            Act::Send(message) => {
                let message = as_carried(message);
                let lane = (id, message.to.get(), message.lane());
                self.lanes.entry(lane).or_default().push_back(message);
            }
            Act::Install(install) => self.installs.push((id, install)),
            Act::SnapshotDone(install, finished) => {
                self.stats.refused += u64::from(!finished);
                self.report(install.from.get(), id, finished);
            }
            Act::Swap(swap) => self.swap(id, *swap),
            Act::Repair(_, why) => {
                assert_eq!(self.doomed, Some(id), "replica {id} ended: {why}");
            }
            other => panic!("nobody does {other:?}"),
        }
    }

    fn report(&mut self, sender: u64, peer: u64, finished: bool) {
        let peer = replica(peer);
        self.feed(
            sender,
            vec![In::SnapshotReport {
                group: GROUP,
                peer,
                finished,
            }],
        );
    }

    fn check(&mut self, id: u64, before: &Membership) {
        let node = &self.nodes[&id];
        let Some(glance) = node.glance() else { return };
        if glance.role == Role::Leader {
            let owner = *self.leaders.entry(glance.term.get()).or_insert(id);
            assert_eq!(owner, id, "two leaders in term {}", glance.term);
        }
        let (committed, applied) = self.seen.get(&id).copied().unwrap_or((1, 1));
        let from = committed.max(glance.point.get());
        for index in from + 1..=glance.committed.get() {
            let term = self.nodes[&id].term_at(index).unwrap();
            if let Some((known, _)) = self.truth.get(&index) {
                assert_eq!(*known, term, "entry {index} committed twice, differently");
                continue;
            }
            self.stats.ahead += u64::from(index > glance.persisted.get());
            let majority = [before, &glance.membership]
                .iter()
                .any(|m| self.durable(m, index, term));
            assert!(majority, "{index} committed without a durable majority");
            self.truth.insert(index, (term, None));
            self.stats.committed += 1;
        }
        self.check_applied(id, applied);
        self.seen
            .insert(id, (glance.committed.get(), glance.applied.get()));
        self.settle();
    }

    /// What is applied is the same everywhere, byte for byte.
    fn check_applied(&mut self, id: u64, applied: u64) {
        let Some(book) = self.nodes[&id].book() else {
            return;
        };
        for (index, digest) in book.digests.range(applied + 1..) {
            let (_, known) = self.truth.get_mut(index).expect("applied is committed");
            assert_eq!(
                *known.get_or_insert(*digest),
                *digest,
                "entry {index} applied differently"
            );
        }
    }

    fn durable(&self, membership: &Membership, index: u64, term: Term) -> bool {
        let majority = |ids: &[quorate_protocol::ReplicaId]| {
            let holds = ids
                .iter()
                .filter(|id| self.nodes[&id.get()].shadow.has(index, term));
            ids.is_empty() || holds.count() > ids.len() / 2
        };
        majority(&membership.voters) && majority(&membership.outgoing)
    }

    /// Hears the outcomes of proposals.
    fn settle(&mut self) {
        let mut waiting = Vec::new();
        for (number, mut ticket) in std::mem::take(&mut self.open) {
            let mut context = Context::from_waker(Waker::noop());
            let fate = match Pin::new(&mut ticket).poll(&mut context) {
                Poll::Pending => {
                    waiting.push((number, ticket));
                    continue;
                }
                Poll::Ready(Ok(_)) if self.early.contains(&number) => {
                    self.stats.early += 1;
                    Fate::Unknown
                }
                Poll::Ready(Ok(receipt)) => Fate::Applied(receipt),
                Poll::Ready(Err(Failure::Unknown | Failure::Poisoned)) => Fate::Unknown,
                Poll::Ready(Err(_)) => Fate::NotApplied,
            };
            if let Fate::Applied(receipt) = fate {
                self.stats.acked += 1;
                assert!(
                    self.truth.contains_key(&receipt.index.get()),
                    "acknowledged before the commit"
                );
            }
            self.fates.insert(number, fate);
        }
        self.open = waiting;
        self.hear_readers();
    }

    pub(super) fn ask(&mut self, id: u64, ask: Ask, number: u64) {
        let (answer, ticket) = Answer::new(Vec::new());
        self.open.push((number, ticket));
        self.feed(
            id,
            vec![In::Propose {
                group: GROUP,
                proposal: ask,
                answer,
            }],
        );
    }

    pub(super) fn propose(&mut self, id: u64, count: usize, len: usize) {
        let mut events = Vec::new();
        for _ in 0..count {
            self.numbers += 1;
            let (answer, ticket) = Answer::new(Vec::new());
            self.open.push((self.numbers, ticket));
            let proposal = Ask::Write {
                number: self.numbers,
                records: 1 + (len % 3) as u32,
                len,
            };
            events.push(In::Propose {
                group: GROUP,
                proposal,
                answer,
            });
        }
        self.feed(id, events);
    }

    /// Some of what waits for a member's disk is done.
    pub(super) fn work(&mut self, id: u64, lane: Work, all: bool) {
        let node = &self.nodes[&id];
        let mut times = if all {
            usize::MAX
        } else {
            1 + self.rng.below(3)
        };
        while times > 0 && node.work(lane) {
            self.stats.fetches += u64::from(lane == Work::Read);
            times -= 1;
        }
        self.feed(id, Vec::new());
    }

    pub(super) fn work_all(&mut self, id: u64) {
        while self.nodes[&id].storage.run_one() {}
        self.feed(id, Vec::new());
    }

    pub(super) fn tick(&mut self, id: u64) {
        self.feed(id, vec![In::Tick]);
    }

    pub(super) fn crash(&mut self, id: u64) {
        if !self.is_up(id) {
            return;
        }
        let mut rng = Rng(self.rng.draw());
        self.nodes.get_mut(&id).unwrap().crash(&mut rng);
        self.stats.crashes += 1;
        self.settle();
        self.hang_up(id);
    }

    pub(super) fn restart(&mut self, id: u64) {
        if self.is_up(id) || self.stay_down == Some(id) {
            return;
        }
        let tail_bytes_max = self.tail_bytes_max;
        let node = self.nodes.get_mut(&id).unwrap();
        node.tail_bytes_max = tail_bytes_max;
        node.start();
        self.seen.remove(&id);
        self.feed(id, Vec::new());
        if let Some(glance) = self.nodes[&id].glance() {
            self.seen
                .insert(id, (glance.committed.get(), glance.applied.get()));
        }
    }

    /// The connections of a process break; its peers are told.
    pub(super) fn hang_up(&mut self, id: u64) {
        let (cut, kept): (BTreeMap<_, _>, _) = std::mem::take(&mut self.lanes)
            .into_iter()
            .partition(|((from, to, _), _)| *from == id || *to == id);
        self.lanes = kept;
        for message in cut.into_values().flatten() {
            self.lost(&message);
        }
        for peer in self.ids() {
            if peer != id {
                self.feed(
                    peer,
                    vec![In::Unreachable {
                        group: GROUP,
                        peer: replica(id),
                    }],
                );
            }
        }
        let (lost, kept): (Vec<_>, _) = std::mem::take(&mut self.installs)
            .into_iter()
            .partition(|(to, install)| *to == id || install.from.get() == id);
        self.installs = kept;
        for (to, install) in lost {
            self.report(install.from.get(), to, false);
        }
    }

    /// A lost snapshot is owed a report of its own.
    pub(super) fn lost(&mut self, message: &Message) {
        let (from, to) = (message.from.get(), message.to.get());
        if matches!(message.body, Body::Snapshot { .. }) {
            self.report(from, to, false);
        }
        self.feed(
            from,
            vec![In::Unreachable {
                group: GROUP,
                peer: message.to,
            }],
        );
    }

    pub(super) fn deliver(&mut self, lane: (u64, u64, Lane)) {
        let Some(queue) = self.lanes.get_mut(&lane) else {
            return;
        };
        let unruly = self.unruly && self.rng.one_in(6) && queue.len() > 1;
        let at = if unruly {
            self.rng.below(queue.len())
        } else {
            0
        };
        let Some(message) = queue.remove(at) else {
            return;
        };
        if self.unruly && self.rng.one_in(12) {
            self.stats.duplicated += 1;
            let queue = self.lanes.entry(lane).or_default();
            queue.push_back(message.clone());
        }
        self.stats.messages += 1;
        let (from, to) = (lane.0, lane.1);
        if self
            .silent
            .is_some_and(|silent| silent == from || silent == to)
        {
            return;
        }
        if self.is_up(to) {
            self.feed(to, vec![In::Peer(message)]);
        } else {
            self.lost(&message);
        }
    }

    pub(super) fn full_lanes(&self) -> Vec<(u64, u64, Lane)> {
        let full = self.lanes.iter().filter(|(_, queue)| !queue.is_empty());
        full.map(|(lane, _)| *lane).collect()
    }

    /// A transfer ends: checkpoint X and all sealed segments that are committed, beside the own files.
    pub(super) fn install(&mut self, at: usize) {
        let (to, install) = self.installs.swap_remove(at);
        let staged = self.is_up(to) && self.stage(to, &install).is_some();
        self.feed(to, vec![In::Staged { install, staged }]);
    }

    fn stage(&mut self, to: u64, install: &Install) -> Option<()> {
        self.stagings += 1;
        let dir = PathBuf::from(format!("/staged-{}", self.stagings));
        self.staged.insert(to, dir.clone());
        let (source, target) = (&self.nodes[&install.from.get()], &self.nodes[&to]);
        let (life, glance) = (source.life.as_ref()?, source.glance()?);
        let identity = target_identity(source);
        let store = CheckpointStore::new(source.volume(), &source.dir, identity);
        let checkpoint = store.load(install.index).ok()?;
        let sealed = life.reader.segments();
        let whole = sealed
            .iter()
            .filter(|s| s.sealed && s.last_index <= glance.committed);
        let last = whole
            .map(|segment| segment.last_index)
            .max()
            .unwrap_or(install.index);
        let mut entries = Vec::new();
        let mut next = install.index.next();
        while next <= last {
            entries.extend(life.reader.entries(next, last.next(), 1 << 20).ok()?);
            next = entries.last()?.index.next();
        }
        let volume = target.volume();
        create_log(&volume, &dir, target_identity(target), &checkpoint).unwrap();
        let mut opened = open_log(&volume, &dir, target.spec(&dir).log).unwrap();
        opened.writer.write(&entries, true).unwrap();
        opened.writer.close().unwrap();
        Some(())
    }

    /// The staged files replace the replica's own; it is opened again as after a restart.
    fn swap(&mut self, id: u64, swap: Swap<Book>) {
        let dir = self.staged.remove(&id).expect("it was staged");
        let node = self.nodes.get_mut(&id).unwrap();
        node.life = None;
        while node.storage.run_one() {}
        node.dir = dir;
        let volume = node.volume();
        let opened = open_log(&volume, &node.dir, node.spec(&node.dir).log).unwrap();
        let mut hard = swap.hard;
        hard.commit = opened.recovery.last_index;
        drop(opened);
        let (mut states, _) = StateLog::open(&volume, std::path::Path::new("/state.log")).unwrap();
        states.write(&[(replica(id), hard)], true).unwrap();
        drop(states);
        node.shadow.terms.clear();
        self.stats.installs += 1;
        self.restart(id);
        self.report(swap.install.from.get(), id, true);
    }

    /// Rounds without faults until one leads.
    pub(super) fn elect(&mut self) -> u64 {
        for _ in 0..80 {
            self.round();
            let ready = |id: &u64| self.nodes[id].glance().is_some_and(|glance| glance.ready);
            if let Some(leader) = self.leader().filter(ready) {
                return leader;
            }
        }
        panic!("nobody leads");
    }

    pub(super) fn glance(&self, id: u64) -> crate::replication::shard::Glance {
        self.nodes[&id].glance().expect("it is up")
    }

    /// What a member was asked last, as its asker knows it by now.
    pub(super) fn outcome(&self, number: u64) -> Option<Fate> {
        self.fates.get(&number).copied()
    }

    /// The number of the last batch.
    pub(super) const fn number(&self) -> u64 {
        self.numbers
    }
}

/// What arrives of a message that travels in an envelope.
fn as_carried(message: Message) -> Message {
    let sent = Envelope {
        channel: 1,
        messages: vec![wire::outbound(message)],
    };
    let frame = sent.encode().concat();
    let body = Bytes::copy_from_slice(&frame[FRAME_HEADER_LEN..]);
    let mut received = Envelope::decode(body).expect("what is sent can be read");
    assert_eq!(received, sent);
    wire::inbound(received.messages.remove(0)).expect("what is sent is understood")
}

fn target_identity(node: &Node) -> quorate_storage::LogIdentity {
    let spec = node.spec(&node.dir);
    quorate_storage::LogIdentity {
        group: spec.group,
        tag: spec.tag,
        replica: spec.replica,
    }
}
