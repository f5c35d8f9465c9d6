//! Several brokers through the public door: tasks, gates, envelopes; the network is a struct.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_protocol::{
    BrokerId, ByteSize, Envelope, FRAME_HEADER_LEN, GroupId, LogIndex, PeerMessage,
};
use quorate_storage::{Crash, LogConfig, MemoryStorage, Storage};
use tokio_util::task::TaskTracker;

use crate::peers::Inbound;
use crate::replication::config::{Durability, GroupSpec, ReplicationConfig};
use crate::replication::gate::Gate;
use crate::replication::group::Group;
use crate::replication::machine::Role;
use crate::replication::message::Lane;
use crate::replication::outbox::Carrier;
use crate::replication::recovery::OpenError;
use crate::replication::shard::membership::Change;
use crate::replication::task::{Environment, Links, Replication};
use crate::replication::tests::book::{Ask, Book, GROUP, Receipt, time};
use crate::replication::tests::world::{TAG, replica};
use crate::replication::ticket::{Failure, Ticket};

#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) gates: Mutex<BTreeMap<BrokerId, Arc<Gate<Book>>>>,
    /// Brokers that nothing reaches, and that reach nobody.
    pub(super) cut: Mutex<BTreeSet<BrokerId>>,
    /// Starts of each broker: what an earlier process says is not heard.
    lives: Mutex<BTreeMap<BrokerId, u64>>,
    /// How often something was handed over, and how many messages.
    carried: Mutex<(u64, u64)>,
}

#[derive(Debug)]
struct Cable {
    net: Arc<Net>,
    me: BrokerId,
    life: u64,
}

impl Carrier for Cable {
    fn carry(&self, to: BrokerId, _lane: Lane, messages: Vec<PeerMessage>) {
        if self.net.lives.lock().get(&self.me) != Some(&self.life) {
            return;
        }
        {
            let mut carried = self.net.carried.lock();
            *carried = (carried.0 + 1, carried.1 + messages.len() as u64);
        }
        let gates = self.net.gates.lock();
        let cut = self.net.cut.lock();
        match gates.get(&to) {
            Some(gate)
                if gates.contains_key(&self.me)
                    && !cut.contains(&self.me)
                    && !cut.contains(&to) =>
            {
                let envelope = Envelope {
                    channel: 1,
                    messages,
                };
                let frame = envelope.encode().concat();
                let body = Bytes::copy_from_slice(&frame[FRAME_HEADER_LEN..]);
                let bytes = body.len();
                gate.deliver(self.me, Envelope::decode(body).unwrap().messages, bytes);
            }
            // One that was stopped says nothing, and nobody tells it anything.
            _ => drop(gates.get(&self.me).map(|gate| gate.lost(to))),
        }
    }
}

pub(super) fn broker(id: u64) -> BrokerId {
    BrokerId::new(u16::try_from(id).unwrap())
}

pub(super) struct Member {
    pub(super) replication: Replication<Book>,
    pub(super) group: Group<Book>,
}

pub(super) struct Trio {
    pub(super) net: Arc<Net>,
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) disks: BTreeMap<u64, Arc<MemoryStorage>>,
    pub(super) starts: u64,
}

pub(super) fn spec(group: GroupId, id: u64, holders: &[u64]) -> GroupSpec {
    GroupSpec {
        group,
        tag: TAG,
        replica: replica(id),
        voters: [1, 2, 3].map(replica).to_vec(),
        holders: holders
            .iter()
            .map(|id| (replica(*id), broker(*id)))
            .collect(),
        dir: PathBuf::from(format!("/g{group}")),
        log: LogConfig {
            segment_bytes: ByteSize::new(1 << 20),
            segment_age: Duration::ZERO,
        },
        durability: Durability::Flush,
        release: false,
    }
}

impl Trio {
    async fn start() -> Self {
        Self::start_as(Durability::Flush).await
    }

    pub(super) async fn start_as(durability: Durability) -> Self {
        let mut trio = Self {
            net: Arc::default(),
            members: BTreeMap::new(),
            disks: BTreeMap::new(),
            starts: 0,
        };
        for id in 1..=3 {
            let spec = GroupSpec {
                durability,
                ..spec(GROUP, id, &[1, 2, 3])
            };
            trio.open(id, spec).await.unwrap();
        }
        trio
    }

    async fn join(&mut self, id: u64, holders: &[u64]) {
        self.open(id, spec(GROUP, id, holders)).await.unwrap();
    }

    /// A broker on the disk it had, or on an empty one.
    pub(super) async fn open(&mut self, id: u64, spec: GroupSpec) -> Result<(), OpenError> {
        let disk = self.disks.entry(id);
        let disk = disk.or_insert_with(|| Arc::new(MemoryStorage::inline()));
        let storage = Arc::clone(disk) as Arc<dyn Storage>;
        let environment = Environment {
            storage,
            now: Arc::new(|| time(1)),
            tracker: TaskTracker::new(),
            state_log: "/state.log".into(),
            peers: None,
        };
        let config = ReplicationConfig {
            tick: Duration::from_millis(5),
            ..ReplicationConfig::default()
        };
        let life = {
            let mut lives = self.net.lives.lock();
            let life = lives.entry(broker(id)).or_default();
            self.starts += 1;
            *life = self.starts;
            *life
        };
        let cable = Cable {
            net: Arc::clone(&self.net),
            me: broker(id),
            life,
        };
        let links = Links {
            carrier: Some(Arc::new(cable)),
            door: None,
        };
        let replication = Replication::start_with(environment, config, links).unwrap();
        let gate = Arc::clone(&replication.0.gate);
        self.net.gates.lock().insert(broker(id), gate);
        let group = replication.open(spec, Book::default()).await?;
        self.members.insert(id, Member { replication, group });
        Ok(())
    }

    /// The process of a broker is gone, and perhaps what its machine had not flushed.
    pub(super) fn crash(&mut self, id: u64, crash: Crash) {
        self.net.gates.lock().remove(&broker(id));
        self.net.lives.lock().remove(&broker(id));
        drop(self.members.remove(&id));
        self.disks[&id].crash(crash);
    }

    pub(super) fn group(&self, id: u64) -> &Group<Book> {
        &self.members[&id].group
    }

    /// One of these members leads, by its own word.
    pub(super) async fn leader(&self, among: &[u64]) -> u64 {
        loop {
            for id in among {
                if self.group(*id).status().ready {
                    return *id;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn propose(&self, id: u64, number: u64) -> Ticket<Receipt> {
        let ask = Ask::Write {
            number,
            records: 2,
            len: 30,
        };
        self.group(id).propose(ask).await.unwrap()
    }

    pub(super) async fn applied(&self, id: u64, index: LogIndex) {
        let mut status = self.group(id).watch();
        status
            .wait_for(|status| status.applied >= index)
            .await
            .unwrap();
    }
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test)
            .await
            .expect("nothing hangs");
    });
}

#[test]
fn three_brokers_agree_and_outlive_their_leader() {
    run(async {
        let mut trio = Trio::start().await;
        let leader = trio.leader(&[1, 2, 3]).await;
        for number in 0..20 {
            let receipt = trio.propose(leader, number).await.await.unwrap();
            assert_eq!(receipt.offset.get(), number * 2);
        }
        let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
        let last = trio.group(leader).status().last;
        for id in 1..=3 {
            trio.applied(id, last).await;
        }
        trio.net.gates.lock().remove(&broker(leader));
        drop(trio.members.remove(&leader));
        let next = trio.leader(&others).await;
        let receipt = trio.propose(next, 20).await.await.unwrap();
        assert_eq!(receipt.offset.get(), 40, "nothing was lost");
    });
}

#[test]
fn one_hand_over_carries_what_many_groups_say_to_a_broker() {
    run(async {
        let trio = Trio::start().await;
        trio.leader(&[1, 2, 3]).await;
        let mut groups = Vec::new();
        for group in 100..200 {
            for id in 1..=3 {
                let spec = spec(GroupId::new(group), id, &[1, 2, 3]);
                let opened = trio.members[&id].replication.open(spec, Book::default());
                groups.push(opened.await.unwrap());
            }
        }
        for chunk in groups.chunks(3) {
            while !chunk.iter().any(|group| group.status().ready) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let before = *trio.net.carried.lock();
        while trio.net.carried.lock().1 < before.1 + 5000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let after = *trio.net.carried.lock();
        let (times, messages) = (after.0 - before.0, after.1 - before.1);
        assert!(
            messages > 5 * times,
            "{messages} messages in {times} envelopes"
        );
        let led = trio.members[&1].replication.inspect_led().await;
        for (_, seen) in led {
            assert_eq!(seen.progress.len(), 3);
            assert!(seen.progress.iter().all(|member| member.active));
        }
    });
}

#[test]
fn leadership_moves_on_demand_and_what_waited_is_told_where() {
    run(async {
        let trio = Trio::start().await;
        let leader = trio.leader(&[1, 2, 3]).await;
        let next = leader % 3 + 1;
        trio.propose(leader, 0).await.await.unwrap();
        trio.group(leader).transfer(replica(next));
        let waiting = trio.propose(leader, 1).await;
        let Err(Failure::NotLeader { leader: hint, .. }) = waiting.await else {
            panic!("nothing is appended while leadership moves");
        };
        assert_eq!(hint, Some(replica(next)));
        assert_eq!(trio.leader(&[1, 2, 3]).await, next);
        // Towards nobody it is given up, and what waited goes on.
        let nobody = next % 3 + 1;
        trio.net.cut.lock().insert(broker(nobody));
        trio.group(next).transfer(replica(nobody));
        trio.propose(next, 2).await.await.unwrap();
    });
}

#[test]
fn a_leader_that_is_cut_off_confirms_no_read() {
    run(async {
        let trio = Trio::start().await;
        let leader = trio.leader(&[1, 2, 3]).await;
        let receipt = trio.propose(leader, 0).await.await.unwrap();
        trio.group(leader).read_barrier().await.unwrap();
        assert!(trio.group(leader).status().applied >= receipt.index);
        let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
        let refused = trio.group(others[0]).read_barrier().await;
        assert!(matches!(refused, Err(Failure::NotLeader { .. })));
        trio.net.cut.lock().insert(broker(leader));
        let stale = trio.group(leader).read_barrier();
        let elsewhere = async {
            let next = trio.leader(&others).await;
            trio.propose(next, 1).await.await.unwrap();
            trio.group(next).read_barrier().await
        };
        let (stale, fresh) = tokio::join!(stale, elsewhere);
        assert!(matches!(stale, Err(Failure::NotLeader { .. })), "{stale:?}");
        fresh.unwrap();
    });
}

#[test]
fn a_learner_becomes_a_voter_in_another_ones_place() {
    run(async {
        let mut trio = Trio::start().await;
        let leader = trio.leader(&[1, 2, 3]).await;
        let gone = leader % 3 + 1;
        for number in 0..5 {
            trio.propose(leader, number).await.await.unwrap();
        }
        let mut holders = vec![1, 2, 3, 4];
        trio.join(4, &holders).await;
        let changed = trio.group(leader).change(vec![Change::Voter(replica(4))]);
        assert!(matches!(changed.await, Err(Failure::ChangeRefused(_))));
        holders.retain(|id| *id != gone);
        let told = spec(GROUP, leader, &holders).holders;
        trio.members[&leader].replication.set_holders(GROUP, told);
        let learner = trio.group(leader).change(vec![Change::Learner(replica(4))]);
        learner.await.unwrap();
        let last = trio.group(leader).status().last;
        trio.applied(4, last).await;
        let swap = vec![Change::Voter(replica(4)), Change::Remove(replica(gone))];
        trio.group(leader).change(swap).await.unwrap();
        loop {
            let seen = trio.group(leader).inspect().await.unwrap();
            if !seen.membership.joint() {
                let voters: Vec<_> = holders.iter().copied().map(replica).collect();
                assert_eq!(seen.membership.voters, voters);
                break;
            }
            tokio::task::yield_now().await;
        }
        trio.net.cut.lock().insert(broker(gone));
        trio.propose(leader, 5).await.await.unwrap();
    });
}

#[test]
fn a_replica_answers_whoever_speaks_to_it_though_nobody_told_where() {
    run(async {
        let mut trio = Trio::start().await;
        let leader = trio.leader(&[1, 2, 3]).await;
        trio.join(4, &[4]).await;
        let told = spec(GROUP, leader, &[1, 2, 3, 4]).holders;
        trio.members[&leader].replication.set_holders(GROUP, told);
        let learner = trio.group(leader).change(vec![Change::Learner(replica(4))]);
        learner.await.unwrap();
        let receipt = trio.propose(leader, 0).await.await.unwrap();
        trio.applied(4, receipt.index).await;
        assert_eq!(trio.group(4).status().role, Role::Follower);
        assert_eq!(trio.group(4).status().leader, Some(replica(leader)));
    });
}

#[test]
fn a_full_gate_holds_the_next_envelope_back() {
    run(async {
        let trio = Trio::start().await;
        let gate = Arc::clone(&trio.net.gates.lock()[&broker(1)]);
        assert!(gate.has_room().is_none());
        gate.deliver(broker(2), Vec::new(), 33 << 20);
        let room = gate.has_room().expect("nobody looked at so much yet");
        // The next message makes the shard look.
        trio.group(1).inspect().await;
        room.await;
        assert!(gate.has_room().is_none());
    });
}
