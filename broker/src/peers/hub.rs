//! What the tasks of the room share: the peers, and who is attached above.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use parking_lot::RwLock;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::peers::door::Answers;
use crate::peers::door::Channel;
use crate::peers::door::Inbound;
use crate::peers::door::SnapshotServer;
use crate::peers::peer::Peer;
use crate::peers::settings::Config;
use crate::peers::settings::Environment;
use crate::peers::settings::Member;
use crate::peers::states::PeerStates;
use crate::peers::states::Reach;
use crate::transport::PeerEndpoint;
use crate::transport::Sampler;

/// What the tasks of the room share.
pub(crate) struct Hub {
    pub(crate) config: Config,
    pub(crate) endpoint: PeerEndpoint,
    pub(crate) environment: Environment,
    pub(crate) peers: RwLock<BTreeMap<BrokerId, Arc<Peer>>>,
    pub(crate) states: watch::Sender<PeerStates>,
    pub(crate) answers: RwLock<Option<Arc<dyn Answers>>>,
    /// Who serves snapshots, per channel.
    snapshots: [RwLock<Option<Arc<dyn SnapshotServer>>>; 2],
    /// Some peer lost messages.
    pub(crate) losses: Notify,
    /// Connections are closed, and everything that uses them ends.
    pub(crate) ended: CancellationToken,
    /// The endpoint ended by itself.
    pub(crate) failed: CancellationToken,
    metadata: RwLock<Option<Arc<dyn Inbound>>>,
    partitions: RwLock<Option<Arc<dyn Inbound>>>,
    faults: Mutex<Sampler>,
}

impl Hub {
    pub(crate) fn new(config: Config, endpoint: PeerEndpoint, environment: Environment) -> Self {
        Self {
            config,
            endpoint,
            environment,
            peers: RwLock::default(),
            states: watch::Sender::default(),
            answers: RwLock::default(),
            snapshots: Default::default(),
            losses: Notify::new(),
            ended: CancellationToken::new(),
            failed: CancellationToken::new(),
            metadata: RwLock::default(),
            partitions: RwLock::default(),
            faults: Mutex::default(),
        }
    }

    /// Lets go of whoever was attached. They hold on to this room too, and nobody would ever end.
    pub(crate) fn forget_attached(&self) {
        *self.answers.write() = None;
        for inbound in [&self.metadata, &self.partitions] {
            *inbound.write() = None;
        }
        for server in &self.snapshots {
            *server.write() = None;
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.environment.clock.monotonic()
    }

    pub(crate) fn peer(&self, id: BrokerId) -> Option<Arc<Peer>> {
        self.peers.read().get(&id).cloned()
    }

    /// The member with this name in its certificate.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Peer>> {
        let peers = self.peers.read();
        let found = peers.values().find(|peer| peer.member.lock().name == name);
        found.cloned()
    }

    /// Where a channel's messages go.
    pub(crate) const fn inbound(&self, channel: Channel) -> &RwLock<Option<Arc<dyn Inbound>>> {
        match channel {
            Channel::METADATA => &self.metadata,
            _ => &self.partitions,
        }
    }

    /// Who serves a channel's snapshots.
    pub(crate) const fn snapshots(
        &self,
        channel: Channel,
    ) -> &RwLock<Option<Arc<dyn SnapshotServer>>> {
        let [metadata, partitions] = &self.snapshots;
        match channel {
            Channel::METADATA => metadata,
            _ => partitions,
        }
    }

    /// Adopts the member list: gives the peers that are new, ends those that are gone.
    pub(crate) fn adopt(&self, members: Vec<Member>) -> Vec<Arc<Peer>> {
        let others = members.into_iter().filter(|one| one.id != self.config.me);
        let mut others: BTreeMap<_, _> = others.map(|one| (one.id, one)).collect();
        let (mut gone, mut replaced, mut new) = (Vec::new(), Vec::new(), Vec::new());
        let mut peers = self.peers.write();
        peers.retain(|id, peer| {
            let Some(member) = others.remove(id) else {
                gone.push(peer.clone());
                return false;
            };
            if update(peer, member) {
                replaced.push(peer.clone());
            }
            true
        });
        for (id, member) in others {
            let gone = self.ended.child_token();
            let peer = Arc::new(Peer::new(member, self.now(), gone));
            peers.insert(id, peer.clone());
            new.push(peer);
        }
        drop(peers);
        for peer in gone {
            let text = format!("broker {} is no member of this cluster any more", peer.id);
            peer.cut(ErrorCode::NOT_MEMBER, &text);
            peer.gone.cancel();
        }
        for peer in replaced {
            peer.cut(ErrorCode::NOT_MEMBER, "the data folder was replaced");
        }
        self.publish();
        new
    }

    /// Closes every connection to and from every peer.
    pub(crate) fn cut_all(&self, code: ErrorCode, text: &str) {
        let peers: Vec<_> = self.peers.read().values().cloned().collect();
        peers.iter().for_each(|peer| peer.cut(code, text));
    }

    /// Tells those attached above which peers' messages may be lost.
    pub(crate) fn report_losses(&self) {
        let peers: Vec<_> = self.peers.read().values().cloned().collect();
        for channel in Channel::ALL {
            let inbound = self.inbound(channel).read().clone();
            for peer in &peers {
                if peer.lost(channel).swap(false, Ordering::Relaxed)
                    && let Some(inbound) = &inbound
                {
                    inbound.lost(peer.id);
                }
            }
        }
    }

    /// Draws the conclusions for one peer, and tells about a change once.
    pub(crate) fn judge(&self, peer: &Peer) {
        let mut observed = peer.observed.lock();
        if !observed.judge(self.now(), &self.config.timings) {
            return;
        }
        let state = observed.state().clone();
        drop(observed);
        let refused = state.refused.as_deref().unwrap_or("no answer");
        match state.state {
            Reach::Up => tracing::info!(broker = %peer.id, "broker is reached"),
            Reach::Suspect => tracing::warn!(broker = %peer.id, "broker has not answered lately"),
            Reach::Down => tracing::warn!(broker = %peer.id, "broker is down: {refused}"),
        }
        self.publish();
    }

    /// Makes the peers' states known; wakes only if one is reached differently than before.
    pub(crate) fn publish(&self) {
        let peers = self.peers.read();
        let states = peers.iter().map(|(id, peer)| {
            let observed = peer.observed.lock();
            (*id, observed.state().clone())
        });
        let states: BTreeMap<_, _> = states.collect();
        drop(peers);
        self.states.send_if_modified(|current| {
            let news = current.len() != states.len()
                || current.iter().zip(&states).any(|((a, old), (b, new))| {
                    (a, old.state, &old.refused) != (b, new.state, &new.refused)
                });
            *current = Arc::new(states);
            news
        });
    }

    /// Tells the operator what a peer did wrong, once per second at most.
    pub(crate) fn complain(&self, name: &str, what: &str) {
        let Some(suppressed) = self.faults.lock().sample(self.now()) else {
            return;
        };
        tracing::warn!(peer = name, suppressed, "{what}");
    }
}

/// Notes a member's record; true if its data folder was replaced.
fn update(peer: &Peer, member: Member) -> bool {
    let mut current = peer.member.lock();
    if *current == member {
        return false;
    }
    let replaced = peer.seen.lock().handle_record(&current, &member);
    let moved = current.address != member.address || current.name != member.name;
    *current = member;
    drop(current);
    if moved || replaced {
        peer.redial.notify_one();
    }
    replaced
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("me", &self.config.me)
            .field("states", &*self.states.borrow())
            .finish_non_exhaustive()
    }
}
