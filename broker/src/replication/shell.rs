//! The shell around a shard: a task that feeds it and does what it asks for.
//!
//! The task runs on the caller's runtime, beside the sessions: a proposal reaches the shard, and its
//! outcome the session, without waking another thread. Only disks have threads. After some turns it
//! lets others run, however much there is to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::{GroupId, HybridTime};
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::replication::flush::Disk;
use crate::replication::gate::Gate;
use crate::replication::inbox::Inbox;
use crate::replication::machine::StateMachine;
use crate::replication::outbox::Outbox;
use crate::replication::shard::event::{Act, In};
use crate::replication::shard::{Halt, INPUTS_MAX, Shard};
use crate::replication::snapshot::Office;

/// Ticks between attempts to write to a full disk.
const RETRY_TICKS: u32 = 20;
/// Turns before messages leave and others run.
const TURNS_MAX: usize = 8;

/// Replicas that ended, and why.
pub(super) type Halted = watch::Sender<BTreeMap<GroupId, Halt>>;

/// What a shell is made of.
pub(super) struct Parts<M: StateMachine> {
    pub(super) shard: Shard<M>,
    pub(super) inbox: Arc<Inbox<In<M>>>,
    pub(super) disk: Arc<Disk<M>>,
    pub(super) gate: Arc<Gate<M>>,
    pub(super) outbox: Outbox,
    pub(super) office: Arc<Office<M>>,
    pub(super) now: Arc<dyn Fn() -> HybridTime + Send + Sync>,
    pub(super) closing: Arc<Mutex<BTreeMap<GroupId, oneshot::Sender<()>>>>,
    pub(super) halted: Arc<Halted>,
    pub(super) tick: Duration,
}

/// The shard with everything around it.
pub(super) struct Shell<M: StateMachine> {
    parts: Parts<M>,
    input: Vec<In<M>>,
    acts: Vec<Act<M>>,
    /// Bytes of messages in `input`.
    heard: usize,
    ticks: u32,
    poisoned: bool,
}

impl<M: StateMachine> Shell<M> {
    pub(super) fn new(parts: Parts<M>) -> Self {
        Self {
            parts,
            input: Vec::new(),
            acts: Vec::new(),
            heard: 0,
            ticks: 0,
            poisoned: false,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut clock = tokio::time::interval(self.parts.tick);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ticking = self.parts.shard.needs_ticks() || self.parts.disk.needs_ticks();
            let busy = self.is_busy();
            tokio::select! {
                biased;
                // First, or a busy inbox would keep heartbeats back.
                _ = clock.tick(), if ticking => self.note_tick(),
                () = tokio::task::yield_now(), if busy => {}
                () = self.parts.inbox.filled(), if !busy => {}
                () = stop.cancelled() => return,
            }
            self.turns();
        }
    }

    /// Is there work that needs no further input?
    fn is_busy(&self) -> bool {
        !self.input.is_empty() || self.parts.shard.is_busy()
    }

    fn note_tick(&mut self) {
        // In front: within the next turn, after whatever came before that turn.
        self.input.insert(0, In::Tick);
        self.parts.disk.tick();
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(RETRY_TICKS) {
            self.parts.disk.retry();
        }
    }

    /// Turns until there is nothing left to do at once, but not for long; then everything that was
    /// said leaves.
    fn turns(&mut self) {
        self.take();
        for _ in 0..TURNS_MAX {
            self.turn();
            self.take();
            if !self.is_busy() {
                break;
            }
        }
        let nowhere = self.parts.outbox.send();
        if !nowhere.is_empty() {
            self.parts.inbox.put(In::Lost(nowhere));
        }
    }

    /// Takes what came in, unless there is more than a turn's worth already.
    fn take(&mut self) {
        if self.input.is_empty() {
            self.parts.gate.release(std::mem::take(&mut self.heard));
        }
        if self.input.len() < INPUTS_MAX {
            let heard = self.parts.gate.delivered();
            self.parts.inbox.take(&mut self.input);
            self.heard = heard;
        }
        let lost = self.parts.gate.take_lost();
        if !lost.is_empty() {
            self.input.push(In::Lost(lost));
        }
    }

    fn turn(&mut self) {
        let now = (self.parts.now)();
        if !self.poisoned && self.parts.disk.is_poisoned() {
            self.poisoned = true;
            self.parts.shard.poison();
        }
        let mut acts = std::mem::take(&mut self.acts);
        self.parts.shard.turn(now, &mut self.input, &mut acts);
        for act in acts.drain(..) {
            self.perform(act);
        }
        self.acts = acts;
    }

    fn perform(&mut self, act: Act<M>) {
        let disk = &self.parts.disk;
        match act {
            Act::Write(job) => disk.write(job),
            Act::Hint(replica, hard) => disk.hint(replica, hard),
            Act::Fetch(job) => disk.fetch(job),
            Act::Checkpoint(job) => disk.checkpoint(job),
            Act::Trim(group, point) => disk.trim(group, point),
            Act::Send(message) => self.parts.outbox.put(message),
            Act::Closed(group) => drop(self.parts.closing.lock().remove(&group)),
            Act::Repair(group, why) => {
                tracing::error!(%group, %why, "a replica ended");
                let halted = &self.parts.halted;
                halted.send_modify(|halted| drop(halted.insert(group, why)));
            }
            Act::Install(install) => self.parts.office.install(install),
            Act::SnapshotDone(install, finished) => {
                self.parts.office.done(&install);
                self.parts.outbox.put(install.report(finished));
            }
            Act::Swap(swap) => self.parts.office.swap(*swap),
        }
    }
}
