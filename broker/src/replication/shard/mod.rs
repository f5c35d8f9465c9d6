//! The shard: many groups in one plain struct. Values in, actions out.
//!
//! No clock, files, sockets or tasks: time is an argument, and everything that takes time is an
//! action whose completion comes back as an input.

mod apply;
mod doom;
pub mod event;
mod install;
mod intake;
pub mod membership;
mod propose;
mod read;
mod ready;
mod replica;
mod screen;
mod tickets;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_protocol::{GroupId, HybridTime, LogIndex, Term};

use crate::replication::config::ReplicationConfig;
use crate::replication::machine::StateMachine;
use crate::replication::shard::event::{Act, Epoch, In, Opening};
use crate::replication::shard::replica::Replica;
use crate::replication::ticket::Failure;

pub use crate::replication::shard::replica::Glance;

/// Inputs taken per turn: bounds how long one turn lasts.
pub(in crate::replication) const INPUTS_MAX: usize = 1024;

/// Why a group's replica ended: its files stay, it takes no part any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Halt(pub String);

/// Many groups, driven by one caller.
#[derive(Debug)]
pub struct Shard<M: StateMachine> {
    config: ReplicationConfig,
    groups: BTreeMap<GroupId, Replica<M>>,
    /// Replicas that ended; they refuse until they are opened again.
    halted: BTreeMap<GroupId, Halt>,
    /// Replicas whose files are being exchanged, and their terms.
    aside: BTreeMap<GroupId, Term>,
    dirty: BTreeSet<GroupId>,
    /// Groups that time means something to.
    ticking: BTreeSet<GroupId>,
    openings: u64,
    /// More waits for the disk than memory is given for: nothing is appended until less does.
    crowded: bool,
}

impl<M: StateMachine> Shard<M> {
    /// A shard without groups.
    pub fn new(config: ReplicationConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            halted: BTreeMap::new(),
            aside: BTreeMap::new(),
            dirty: BTreeSet::new(),
            ticking: BTreeSet::new(),
            openings: 0,
            crowded: false,
        }
    }

    /// Takes inputs from the front, then at most one tick, then drives what they touched.
    pub fn turn(&mut self, now: HybridTime, input: &mut Vec<In<M>>, out: &mut Vec<Act<M>>) {
        let taken = input.len().min(INPUTS_MAX);
        let mut tick = false;
        for event in input.drain(..taken) {
            match event {
                In::Tick => tick = true,
                event => self.take(event, now, out),
            }
        }
        if tick {
            self.tick(out);
        }
        let crowded = self.crowded;
        for group in std::mem::take(&mut self.dirty) {
            self.call(group, out, |replica, out| replica.cycle(now, crowded, out));
            self.fetch(group, out);
            let Some(replica) = self.groups.get(&group) else {
                continue;
            };
            if replica.can_propose() && !crowded {
                self.dirty.insert(group);
            }
            if replica.needs_ticks() {
                self.ticking.insert(group);
            } else {
                self.ticking.remove(&group);
            }
        }
    }

    /// Starts the reads a group asked for, within what all groups may hold.
    fn fetch(&mut self, group: GroupId, out: &mut Vec<Act<M>>) {
        if !self.groups.get(&group).is_some_and(Replica::wants_pages) {
            return;
        }
        let max = self.config.pages_bytes_total_max.get() / self.config.page_bytes_max.get().max(1);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if self.pages() >= max {
            // What came and was not read at once may never be.
            self.groups.values_mut().for_each(Replica::drop_pages);
        }
        let free = max.saturating_sub(self.pages());
        self.call(group, out, |replica, out| {
            replica.fetch(free, out);
            Ok(())
        });
    }

    fn pages(&self) -> usize {
        self.groups.values().map(Replica::pages).sum()
    }

    /// Is there work that needs no further input?
    pub fn is_busy(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Would a tick do anything?
    pub fn needs_ticks(&self) -> bool {
        !self.ticking.is_empty() || self.crowded
    }

    /// What a group's replica looks like from outside.
    pub fn glance(&self, group: GroupId) -> Option<Glance> {
        self.groups.get(&group).map(Replica::glance)
    }

    /// The term of an entry, if the log still knows it.
    pub fn term_at(&self, group: GroupId, index: LogIndex) -> Option<Term> {
        self.groups.get(&group)?.raw.store().term_at(index)
    }

    /// The machine of a group.
    pub fn machine(&self, group: GroupId) -> Option<&M> {
        self.groups.get(&group).map(Replica::machine)
    }

    /// Nothing is acknowledged from here on.
    pub fn poison(&mut self) {
        self.ticking.clear();
        self.dirty.clear();
        for replica in std::mem::take(&mut self.groups).into_values() {
            self.halted
                .insert(replica.group(), Halt("the volume has failed".into()));
            replica.end(Failure::Poisoned);
        }
    }

    fn open(&mut self, opening: Opening<M>, out: &mut Vec<Act<M>>) {
        self.openings += 1;
        let (group, epoch) = (opening.recovered.group(), Epoch(self.openings));
        let config = self.config.clone();
        let opened = catch_unwind(AssertUnwindSafe(|| Replica::open(opening, epoch, &config)));
        match opened {
            Ok(Ok(replica)) => {
                self.halted.remove(&group);
                self.aside.remove(&group);
                if let Some(old) = self.groups.insert(group, replica) {
                    old.end(Failure::Closed);
                }
                self.drive(group, out, |replica, out| replica.begin(out));
            }
            Ok(Err(halt)) => self.halt(group, halt, out),
            Err(panic) => self.halt(group, Halt(words(panic.as_ref())), out),
        }
    }

    fn close(&mut self, group: GroupId, out: &mut Vec<Act<M>>) {
        self.ticking.remove(&group);
        self.halted.remove(&group);
        self.aside.remove(&group);
        self.dirty.remove(&group);
        if let Some(replica) = self.groups.remove(&group) {
            replica.end(Failure::Closed);
        }
        out.push(Act::Closed(group));
    }

    fn tick(&mut self, out: &mut Vec<Act<M>>) {
        for group in self.ticking.iter().copied().collect::<Vec<_>>() {
            self.call(group, out, Replica::tick);
            if self.groups.get(&group).is_some_and(Replica::wants_a_turn) {
                self.dirty.insert(group);
            }
        }
        self.shrink_tails();
    }

    /// Keeps all tails together within their bound; what is not durable has to stay.
    fn shrink_tails(&mut self) {
        let bytes =
            |size: quorate_protocol::ByteSize| usize::try_from(size.get()).unwrap_or(usize::MAX);
        let max = bytes(self.config.tail_bytes_total_max);
        let mut held: usize = self.groups.values().map(Replica::tail_bytes).sum();
        for replica in self.groups.values_mut() {
            if held <= max {
                break;
            }
            held -= replica.shrink_tail();
        }
        let most = max.saturating_add(bytes(self.config.uncommitted_bytes_total_max));
        // What is durable but not committed waits for others: it must not keep them away.
        let crowded =
            held > most && self.groups.values().map(Replica::unwritten).sum::<usize>() > most;
        let was = std::mem::replace(&mut self.crowded, crowded);
        if was && !self.crowded {
            let waiting = self.groups.iter().filter(|(_, one)| one.can_propose());
            self.dirty.extend(waiting.map(|(group, _)| *group));
        }
    }

    /// A completion counts for the opening that asked for it only.
    fn complete(
        &mut self,
        group: GroupId,
        epoch: Epoch,
        out: &mut Vec<Act<M>>,
        call: impl FnOnce(&mut Replica<M>, &mut Vec<Act<M>>) -> Result<(), Halt>,
    ) {
        if self
            .groups
            .get(&group)
            .is_some_and(|replica| replica.epoch() == epoch)
        {
            self.drive(group, out, call);
        }
    }

    /// Calls one replica, which is then driven in this turn.
    fn drive(
        &mut self,
        group: GroupId,
        out: &mut Vec<Act<M>>,
        call: impl FnOnce(&mut Replica<M>, &mut Vec<Act<M>>) -> Result<(), Halt>,
    ) {
        if self.groups.contains_key(&group) {
            self.dirty.insert(group);
            self.call(group, out, call);
        }
    }

    /// Calls one replica. A panic of the engine, or lost state, ends that replica alone.
    fn call(
        &mut self,
        group: GroupId,
        out: &mut Vec<Act<M>>,
        call: impl FnOnce(&mut Replica<M>, &mut Vec<Act<M>>) -> Result<(), Halt>,
    ) {
        let Some(replica) = self.groups.get_mut(&group) else {
            return;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call(replica, out)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(halt)) => self.halt(group, halt, out),
            Err(panic) => self.halt(group, Halt(words(panic.as_ref())), out),
        }
    }

    fn halt(&mut self, group: GroupId, halt: Halt, out: &mut Vec<Act<M>>) {
        self.ticking.remove(&group);
        self.dirty.remove(&group);
        self.aside.remove(&group);
        if let Some(replica) = self.groups.remove(&group) {
            replica.end(Failure::Poisoned);
        }
        self.halted.insert(group, halt.clone());
        out.push(Act::Repair(group, halt));
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the engine gave up").to_owned()
}
