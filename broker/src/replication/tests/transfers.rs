//! Files move between brokers through the public door; lines are structs that can break.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_protocol::{
    BrokerId, ByteSize, Envelope, ErrorCode, FRAME_HEADER_LEN, FrameHeader, Kind, Limits, LogIndex,
    Message, Offset, PeerMessage, SnapshotOpen, StreamReject, Term,
};
use quorate_storage::{DiskStorage, LogConfig, MemoryStorage, ReadMode, ReadOutcome, Storage};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::peers::{Boxed, Inbound};
use crate::replication::config::{Durability, GroupSpec, ReplicationConfig};
use crate::replication::gate::Gate;
use crate::replication::group::Group;
use crate::replication::message::Lane;
use crate::replication::outbox::Carrier;
use crate::replication::snapshot::Office;
use crate::replication::snapshot::line::{Broken, Door, Line, Received, Waiting};
use crate::replication::task::{Environment, Links, Replication};
use crate::replication::tests::book::{Ask, Book, GROUP, time};
use crate::replication::tests::world::{TAG, replica};

const LIMITS: Limits = Limits {
    batch_bytes_max: 1 << 20,
    established: true,
};

/// What a line does from some chunk on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Break,
    Stall,
    Flip,
}

#[derive(Debug, Default)]
struct Net {
    gates: Mutex<BTreeMap<BrokerId, Arc<Gate<Book>>>>,
    offices: Mutex<BTreeMap<BrokerId, Arc<Office<Book>>>>,
    cut: Mutex<BTreeSet<BrokerId>>,
    /// After so many chunks, once.
    fault: Mutex<Option<(u64, Fault)>>,
    tracker: TaskTracker,
    opened: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Clone, Debug)]
struct Cable {
    net: Arc<Net>,
    me: BrokerId,
}

impl Carrier for Cable {
    fn carry(&self, to: BrokerId, _lane: Lane, messages: Vec<PeerMessage>) {
        let gates = self.net.gates.lock();
        let cut = self.net.cut.lock();
        match gates.get(&to) {
            Some(gate) if !cut.contains(&self.me) && !cut.contains(&to) => {
                let channel = 1;
                let frame = Envelope { channel, messages }.encode().concat();
                let body = Bytes::copy_from_slice(&frame[FRAME_HEADER_LEN..]);
                let bytes = body.len();
                gate.deliver(self.me, Envelope::decode(body).unwrap().messages, bytes);
            }
            _ => gates[&self.me].lost(to),
        }
    }
}

impl Door for Cable {
    fn open(&self, to: BrokerId) -> Boxed<Result<Box<dyn Line>, Broken>> {
        let Self { net, me } = self.clone();
        Box::pin(async move {
            net.opened.fetch_add(1, Ordering::Relaxed);
            let office = net.offices.lock().get(&to).cloned();
            let office = office.ok_or_else(|| Broken("nobody is there".into()))?;
            let (ours, mut theirs) = Pipe::pair(&net);
            net.tracker
                .spawn(async move { office.serve(me, &mut theirs).await });
            Ok(Box::new(ours) as Box<dyn Line>)
        })
    }
}

/// One end of a line.
struct Pipe {
    net: Arc<Net>,
    out: mpsc::Sender<Bytes>,
    inward: mpsc::Receiver<Bytes>,
}

impl Pipe {
    fn pair(net: &Arc<Net>) -> (Self, Self) {
        let (there, from_here) = mpsc::channel(2);
        let (here, from_there) = mpsc::channel(2);
        let end = |out, inward| Self {
            net: Arc::clone(net),
            out,
            inward,
        };
        (end(there, from_there), end(here, from_here))
    }

    fn fault(&self) -> Option<Fault> {
        let chunk = self.net.chunks.fetch_add(1, Ordering::Relaxed);
        let due = |(after, _): &mut (u64, Fault)| chunk >= *after;
        self.net.fault.lock().take_if(due).map(|(_, fault)| fault)
    }
}

impl Line for Pipe {
    fn send(&mut self, pieces: Vec<Bytes>) -> Waiting<'_, ()> {
        Box::pin(async move {
            let mut frame = pieces.concat();
            if frame[4] == Kind::SNAPSHOT_CHUNK.get() {
                self.net
                    .bytes
                    .fetch_add(frame.len() as u64, Ordering::Relaxed);
                match self.fault() {
                    Some(Fault::Break) => return Err(Broken("the line broke".into())),
                    Some(Fault::Stall) => std::future::pending().await,
                    Some(Fault::Flip) => *frame.last_mut().unwrap() ^= 1,
                    None => {}
                }
            }
            let sent = self.out.send(frame.into()).await;
            sent.map_err(|_| Broken("nobody reads".into()))
        })
    }

    fn receive(&mut self) -> Waiting<'_, Option<Received>> {
        Box::pin(async move {
            let Some(frame) = self.inward.recv().await else {
                return Ok(None);
            };
            let header = FrameHeader::parse(frame.first_chunk().unwrap(), &LIMITS);
            let header = header.map_err(|error| Broken(error.to_string()))?;
            let body = frame.slice(FRAME_HEADER_LEN..);
            Ok(Some(Received { header, body }))
        })
    }
}

fn broker(id: u64) -> BrokerId {
    BrokerId::new(u16::try_from(id).unwrap())
}

struct Member {
    replication: Replication<Book>,
    group: Group<Book>,
    storage: Arc<dyn Storage>,
}

struct Cluster {
    net: Arc<Net>,
    root: PathBuf,
    segment_bytes: u64,
    members: BTreeMap<u64, Member>,
    numbers: u64,
}

impl Cluster {
    async fn in_memory() -> Self {
        let volume = || Arc::new(MemoryStorage::inline()) as Arc<dyn Storage>;
        Self::start("/".into(), 4096 + 3000, volume).await
    }

    async fn start(root: PathBuf, segment_bytes: u64, volume: fn() -> Arc<dyn Storage>) -> Self {
        let mut cluster = Self {
            net: Arc::default(),
            root,
            segment_bytes,
            members: BTreeMap::new(),
            numbers: 0,
        };
        for id in 1..=3 {
            cluster.join(id, volume()).await;
        }
        cluster
    }

    fn spec(&self, id: u64) -> GroupSpec {
        GroupSpec {
            group: GROUP,
            tag: TAG,
            replica: replica(id),
            voters: [1, 2, 3].map(replica).to_vec(),
            holders: [1, 2, 3].map(|id| (replica(id), broker(id))).to_vec(),
            dir: self.root.join(format!("g{id}")),
            log: LogConfig {
                segment_bytes: ByteSize::new(self.segment_bytes),
                segment_age: Duration::ZERO,
            },
            durability: Durability::Flush,
            release: false,
        }
    }

    async fn join(&mut self, id: u64, storage: Arc<dyn Storage>) {
        let environment = Environment {
            storage: Arc::clone(&storage),
            now: Arc::new(|| time(1)),
            tracker: TaskTracker::new(),
            state_log: self.root.join(format!("state{id}.log")),
            peers: None,
        };
        let config = ReplicationConfig {
            tick: Duration::from_millis(5),
            tail_bytes_max: ByteSize::new(2000),
            ..ReplicationConfig::default()
        };
        let cable = Arc::new(Cable {
            net: Arc::clone(&self.net),
            me: broker(id),
        });
        let links = Links {
            carrier: Some(Arc::clone(&cable) as Arc<dyn Carrier>),
            door: Some(cable),
        };
        let replication = Replication::start_with(environment, config, links).unwrap();
        let gate = Arc::clone(&replication.0.gate);
        let office = Arc::clone(&replication.0.office);
        self.net.gates.lock().insert(broker(id), gate);
        self.net.offices.lock().insert(broker(id), office);
        let opened = replication.open(self.spec(id), Book::default()).await;
        let member = Member {
            replication,
            group: opened.unwrap(),
            storage,
        };
        self.members.insert(id, member);
    }

    /// The process ends and begins again.
    async fn restart(&mut self, id: u64) {
        let member = self.members.remove(&id).unwrap();
        member.replication.shutdown().await;
        self.join(id, member.storage).await;
    }

    fn group(&self, id: u64) -> &Group<Book> {
        &self.members[&id].group
    }

    async fn leader(&self) -> u64 {
        loop {
            for id in 1..=3 {
                let cut = self.net.cut.lock().contains(&broker(id));
                if !cut && self.group(id).status().ready {
                    return id;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Writes so many batches of a length, by whoever leads.
    async fn write(&mut self, count: u64, len: usize) {
        let mut left = count;
        while left > 0 {
            let leader = self.leader().await;
            let number = self.numbers;
            self.numbers += 1;
            let ask = Ask::Write {
                number,
                records: 1,
                len,
            };
            let ticket = self.group(leader).propose(ask).await.unwrap();
            left -= u64::from(ticket.await.is_ok());
        }
    }

    /// Forgets all but the last segments, on whoever is reached.
    async fn trim(&self) -> LogIndex {
        let leader = self.leader().await;
        let segments = self.group(leader).reader().segments();
        let point = segments[segments.len() - 4].last_index;
        loop {
            let leader = self.leader().await;
            let asked = self.group(leader).propose(Ask::Trim(point)).await.unwrap();
            let trimmed = asked.await.is_ok();
            if trimmed && self.group(leader).reader().first_index() > point {
                return point;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One member is cut off while the others write and forget.
    async fn leave_behind(&mut self) -> (u64, LogIndex) {
        let behind = self.leader().await % 3 + 1;
        self.write(3, 500).await;
        self.net.cut.lock().insert(broker(behind));
        self.write(60, 500).await;
        (behind, self.trim().await)
    }

    fn heal(&self) {
        self.net.cut.lock().clear();
    }

    /// Everything that is committed now is applied by this member.
    async fn caught_up(&self, id: u64) {
        let last = self.group(self.leader().await).status().commit;
        let mut status = self.group(id).watch();
        let caught_up = status.wait_for(|status| status.applied >= last);
        caught_up.await.unwrap();
    }

    /// What a member can read, from its log start to what it applied.
    fn content(&self, id: u64) -> Vec<Bytes> {
        let reader = self.group(id).reader();
        let (mut next, end) = (reader.log_start(), reader.log_end());
        let mut all = Vec::new();
        while next < end {
            let read = reader.read(next, end, 1 << 20, ReadMode::Blocking).unwrap();
            let ReadOutcome::Batches(batches) = read else {
                panic!("a blocking read does not block");
            };
            next = batches.last().unwrap().next_offset();
            all.extend(batches.into_iter().map(|batch| batch.into_bytes()));
        }
        all
    }

    fn incoming(&self, id: u64) -> usize {
        let dir = self.spec(id).dir;
        let entries = self.members[&id].storage.list(&dir).unwrap();
        entries
            .iter()
            .filter(|entry| entry.name.ends_with(".incoming"))
            .count()
    }

    fn opened(&self) -> u64 {
        self.net.opened.load(Ordering::Relaxed)
    }

    fn all_alike(&self) {
        let contents = [1, 2, 3].map(|id| self.content(id));
        assert!(!contents[0].is_empty());
        assert_eq!(contents[0], contents[1]);
        assert_eq!(contents[0], contents[2]);
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("nothing hangs");
    });
}

#[test]
fn a_member_that_is_too_far_behind_gets_files_and_its_handles_go_on() {
    run(async {
        let mut cluster = Cluster::in_memory().await;
        let (behind, point) = cluster.leave_behind().await;
        let handle = cluster.group(behind).clone();
        let before = handle.reader().log_end();
        assert!(handle.status().commit < point && before > Offset::ZERO);
        cluster.heal();
        cluster.caught_up(behind).await;
        assert_eq!(cluster.opened(), 1);
        assert_eq!(handle.reader().first_index(), point.next());
        assert!(handle.reader().log_start() >= before, "what it had is gone");
        assert!(handle.status().applied > point);
        cluster.write(5, 500).await;
        cluster.caught_up(behind).await;
        cluster.all_alike();
        assert_eq!(cluster.incoming(behind), 0);
        // It votes and keeps its place: the others need it now.
        let away = (1..=3).find(|id| *id != behind).unwrap();
        cluster.net.cut.lock().insert(broker(away));
        cluster.write(5, 500).await;
        cluster.heal();
        cluster.restart(behind).await;
        cluster.caught_up(behind).await;
        cluster.all_alike();
    });
}

#[test]
fn files_move_between_disks_with_threads_of_their_own() {
    run(async {
        let root = tempfile::tempdir().unwrap();
        let volume = || Arc::new(DiskStorage::new()) as Arc<dyn Storage>;
        let mut cluster = Cluster::start(root.path().to_owned(), 3 << 20, volume).await;
        let behind = cluster.leader().await % 3 + 1;
        cluster.net.cut.lock().insert(broker(behind));
        cluster.write(40, 700_000).await;
        let point = cluster.trim().await;
        cluster.heal();
        cluster.caught_up(behind).await;
        assert_eq!(cluster.group(behind).reader().first_index(), point.next());
        assert!(cluster.net.chunks.load(Ordering::Relaxed) > 6);
        cluster.all_alike();
    });
}

#[test]
fn a_line_that_breaks_costs_only_what_was_on_it() {
    run(async {
        let mut cluster = Cluster::in_memory().await;
        let (behind, point) = cluster.leave_behind().await;
        *cluster.net.fault.lock() = Some((2, Fault::Break));
        cluster.heal();
        cluster.caught_up(behind).await;
        assert!(cluster.opened() >= 2);
        assert_eq!(cluster.group(behind).reader().first_index(), point.next());
        let files = cluster.net.chunks.load(Ordering::Relaxed);
        assert_eq!(files, 1 + 2 + 1, "whole files are not sent again");
        cluster.all_alike();
    });
}

#[test]
fn a_damaged_piece_ends_the_attempt_and_the_next_one_is_whole() {
    run(async {
        let mut cluster = Cluster::in_memory().await;
        let (behind, _) = cluster.leave_behind().await;
        *cluster.net.fault.lock() = Some((1, Fault::Flip));
        cluster.heal();
        cluster.caught_up(behind).await;
        assert!(cluster.opened() >= 2);
        cluster.all_alike();
    });
}

#[test]
fn a_transfer_without_progress_ends_and_is_tried_again() {
    run(async {
        let mut cluster = Cluster::in_memory().await;
        let (behind, _) = cluster.leave_behind().await;
        *cluster.net.fault.lock() = Some((1, Fault::Stall));
        cluster.heal();
        cluster.caught_up(behind).await;
        assert_eq!(cluster.opened(), 2);
        cluster.all_alike();
    });
}

#[test]
fn a_group_that_closes_takes_its_transfer_with_it() {
    run(async {
        let mut cluster = Cluster::in_memory().await;
        let (behind, _) = cluster.leave_behind().await;
        *cluster.net.fault.lock() = Some((1, Fault::Stall));
        cluster.heal();
        while cluster.net.chunks.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let dir = cluster.spec(behind).dir;
        let member = &cluster.members[&behind];
        member
            .replication
            .delete(GROUP, replica(behind), dir.clone())
            .await
            .unwrap();
        assert!(!member.storage.exists(&dir).unwrap());
    });
}

#[test]
fn a_restart_amid_a_transfer_begins_with_the_old_log() {
    run(async {
        let mut cluster = Cluster::in_memory().await;
        let (behind, point) = cluster.leave_behind().await;
        *cluster.net.fault.lock() = Some((2, Fault::Stall));
        cluster.heal();
        while cluster.net.chunks.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(cluster.incoming(behind) > 0);
        cluster.net.cut.lock().insert(broker(behind));
        cluster.restart(behind).await;
        assert_eq!(cluster.incoming(behind), 0);
        assert!(cluster.group(behind).reader().last_index() < point);
        cluster.heal();
        cluster.caught_up(behind).await;
        cluster.all_alike();
    });
}

#[test]
fn only_replicas_of_the_group_are_served_and_only_what_there_is() {
    run(async {
        let mut cluster = Cluster::in_memory().await;
        let (behind, point) = cluster.leave_behind().await;
        let leader = cluster.leader().await;
        let office = Arc::clone(&cluster.members[&leader].replication.0.office);
        let open = SnapshotOpen {
            group: GROUP,
            tag: TAG,
            from: replica(behind),
            index: point,
            term: Term::new(1),
        };
        let ask = async |from: u64, open: SnapshotOpen| {
            let (mut ours, mut theirs) = Pipe::pair(&cluster.net);
            let serving = office.serve(broker(from), &mut theirs);
            let asking = async {
                ours.send(vec![open.to_frame()]).await.unwrap();
                let answer = ours.receive().await.unwrap().unwrap();
                let reject = StreamReject::decode_frame(&answer.header, &answer.body);
                reject.unwrap().code
            };
            tokio::join!(serving, asking).1
        };
        let stranger = (1..=3).find(|id| *id != behind && *id != leader).unwrap();
        assert_eq!(ask(stranger, open).await, ErrorCode::AUTHORIZATION_FAILED);
        let other = SnapshotOpen {
            tag: quorate_protocol::GroupTag::new(77),
            ..open
        };
        assert_eq!(ask(behind, other).await, ErrorCode::UNKNOWN_PARTITION);
        for index in [point.prev(), point.next()] {
            let elsewhere = SnapshotOpen { index, ..open };
            assert_eq!(ask(behind, elsewhere).await, ErrorCode::PRECONDITION_FAILED);
        }
    });
}
