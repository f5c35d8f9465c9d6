//! The door of the room.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Blob;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Message;
use quorate_protocol::Op;
use quorate_protocol::PeerMessage;
use quorate_protocol::Request;
use tokio::sync::watch;

use crate::peers::accept;
use crate::peers::dial;
use crate::peers::door::Answers;
use crate::peers::door::Channel;
use crate::peers::door::Inbound;
use crate::peers::door::Lane;
use crate::peers::door::PeerError;
use crate::peers::door::SnapshotServer;
use crate::peers::hub::Hub;
use crate::peers::monitor;
use crate::peers::peer::Ask;
use crate::peers::peer::Peer;
use crate::peers::settings::Config;
use crate::peers::settings::Environment;
use crate::peers::settings::Member;
use crate::peers::snapshots;
use crate::peers::states::PeerStates;
use crate::transport::FrameReceiver;
use crate::transport::FrameSender;
use crate::transport::PeerEndpoint;

/// The other brokers of the cluster. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Hub>);

impl Peers {
    /// Accepts the other brokers and connects to each. Must be called within a tokio runtime.
    ///
    /// Everything runs on the environment's tracker and ends with its `stop`.
    #[must_use]
    pub fn start(config: Config, endpoint: PeerEndpoint, environment: Environment) -> Self {
        let members = config.members.clone();
        let hub = Arc::new(Hub::new(config, endpoint, environment));
        let tracker = &hub.environment.tracker;
        tracker.spawn(accept::run(hub.clone()));
        tracker.spawn(monitor::watch_reach(hub.clone()));
        tracker.spawn(monitor::report_losses(hub.clone()));
        let peers = Self(hub);
        peers.set_members(members);
        peers
    }

    /// Replaces the list of brokers: whoever is not on it is cut off and refused.
    pub fn set_members(&self, members: Vec<Member>) {
        for peer in self.0.adopt(members) {
            let hub = self.0.clone();
            self.0.environment.tracker.spawn(dial::run(hub, peer));
        }
    }

    /// Who takes the messages of a channel. Until then they are dropped.
    pub fn attach(&self, channel: Channel, inbound: Arc<dyn Inbound>) {
        *self.0.inbound(channel).write() = Some(inbound);
    }

    /// Queues messages for a peer. Never waits.
    ///
    /// What waits together travels together. Without a connection, or with the lane's queue full,
    /// messages are dropped and [`Inbound::lost`] is called soon after.
    pub fn send(&self, to: BrokerId, channel: Channel, lane: Lane, messages: Vec<PeerMessage>) {
        let peers = self.0.peers.read();
        let Some(peer) = peers.get(&to) else {
            return;
        };
        if !peer.send(channel, lane, messages) {
            self.0.losses.notify_one();
        }
    }

    /// Asks a peer and waits for its answer. Dropping the future gives up waiting.
    ///
    /// # Errors
    /// The peer refused, is not connected, or did not answer within `deadline`.
    pub fn request(
        &self,
        to: BrokerId,
        op: Op,
        body: Bytes,
        deadline: Duration,
    ) -> impl Future<Output = Result<Bytes, PeerError>> + Send + use<> {
        let asked = self.ask(to, op, body, deadline);
        async move { asked?.answer(deadline).await }
    }

    /// Who answers the requests of others.
    pub fn answer_with(&self, answers: Arc<dyn Answers>) {
        *self.0.answers.write() = Some(answers);
    }

    /// How the peers are reached. The receiver is woken when that changes; clock offsets and round
    /// trips are kept current without.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<PeerStates> {
        self.0.states.subscribe()
    }

    /// Opens a stream to a peer that serves snapshots of the channel's groups, on a connection of
    /// its own. The caller speaks first.
    ///
    /// # Errors
    /// The peer cannot be reached, or refuses.
    pub async fn open_snapshot(
        &self,
        from: BrokerId,
        channel: Channel,
    ) -> Result<(FrameSender, FrameReceiver), PeerError> {
        let peer = self.0.peer(from).ok_or_else(|| no_member(from))?;
        snapshots::open(&self.0, &peer, channel).await
    }

    /// Who serves the snapshots that others ask for.
    pub fn serve_snapshots(&self, channel: Channel, server: Arc<dyn SnapshotServer>) {
        *self.0.snapshots(channel).write() = Some(server);
    }

    /// Resolves if the endpoint ends by itself; the broker cannot go on then. Cancel-safe.
    pub async fn failed(&self) {
        self.0.failed.cancelled().await;
    }

    fn ask(
        &self,
        to: BrokerId,
        op: Op,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Asked, PeerError> {
        let peer = self.0.peer(to).ok_or_else(|| no_member(to))?;
        let correlation = peer.next_correlation();
        let body = Blob::new(body.to_vec()).map_err(|error| PeerError {
            code: ErrorCode::INVALID_ARGUMENT,
            detail: error.to_string(),
            sent: false,
        })?;
        let request = Request {
            correlation,
            deadline_ms: u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX),
            op,
            body,
        };
        let answer = peer.expect(correlation);
        let asked = Asked {
            peer,
            correlation,
            answer,
        };
        let frame = request.to_frame();
        let len = frame.len();
        let ask = Ask { correlation, frame };
        if asked.peer.control.push_all([(ask, len)]) {
            Ok(asked)
        } else {
            Err(PeerError {
                code: ErrorCode::OVERLOADED,
                detail: format!("broker {to} is not connected, or does not keep up"),
                sent: false,
            })
        }
    }
}

/// A request under way; dropping it gives up the answer.
struct Asked {
    peer: Arc<Peer>,
    correlation: u64,
    answer: tokio::sync::oneshot::Receiver<Result<Bytes, PeerError>>,
}

impl Asked {
    async fn answer(mut self, deadline: Duration) -> Result<Bytes, PeerError> {
        match tokio::time::timeout(deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(PeerError {
                code: ErrorCode::TIMEOUT,
                detail: format!("broker {} did not answer within {deadline:?}", self.peer.id),
                sent: self.peer.forget(self.correlation),
            }),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.peer.forget(self.correlation);
    }
}

fn no_member(id: BrokerId) -> PeerError {
    PeerError {
        code: ErrorCode::NOT_MEMBER,
        detail: format!("broker {id} is no member of this cluster"),
        sent: false,
    }
}
