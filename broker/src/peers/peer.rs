//! One other broker: what waits for it, what is asked of it, what is known of it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_protocol::BrokerId;
use quorate_protocol::Envelope;
use quorate_protocol::ErrorCode;
use quorate_protocol::PeerMessage;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::peers::door::Channel;
use crate::peers::door::Lane;
use crate::peers::door::PeerError;
use crate::peers::queue::Queue;
use crate::peers::seen::Seen;
use crate::peers::settings::Member;
use crate::peers::snapshots::SnapshotSlot;
use crate::peers::states::Observed;
use crate::transport::WeakPeerConnection;

/// What may wait for one lane of one peer.
const LANE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What may wait to be asked of one peer.
const CONTROL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What travels on a lane.
pub(crate) type Queued = (Channel, PeerMessage);

/// A frame for the control stream.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Of the request it holds.
    pub(crate) correlation: u64,
    pub(crate) frame: Bytes,
}

/// A request without an answer yet.
struct Waiting {
    reply: oneshot::Sender<Result<Bytes, PeerError>>,
    sent: bool,
}

/// A connection of the peer that was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) connection: WeakPeerConnection,
    /// Ends everything that reads from it.
    pub(crate) token: CancellationToken,
}

/// What all tasks that serve one other broker share.
pub(crate) struct Peer {
    pub(crate) id: BrokerId,
    pub(crate) member: Mutex<Member>,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) observed: Mutex<Observed>,
    /// Ends everything that has to do with it: it is no member any more, or the broker stops.
    pub(crate) gone: CancellationToken,
    /// It was heard of just now: a wait before the next attempt to connect is over.
    pub(crate) redial: Notify,
    /// The connection this broker dialled.
    pub(crate) dialled: Mutex<Option<WeakPeerConnection>>,
    /// The connection the peer dialled, except those for snapshots.
    pub(crate) admitted: Mutex<Option<Admitted>>,
    pub(crate) snapshots: SnapshotSlot,
    /// Ends what serves the process that is the broker.
    process: Mutex<CancellationToken>,
    pub(crate) control: Queue<Ask>,
    urgent: Queue<Queued>,
    append_metadata: Queue<Queued>,
    append_partitions: Queue<Queued>,
    lost_metadata: AtomicBool,
    lost_partitions: AtomicBool,
    correlation: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
}

impl Peer {
    pub(crate) fn new(member: Member, now: Duration, gone: CancellationToken) -> Self {
        Self {
            id: member.id,
            member: Mutex::new(member),
            seen: Mutex::default(),
            observed: Mutex::new(Observed::new(now)),
            process: Mutex::new(gone.child_token()),
            gone,
            redial: Notify::new(),
            dialled: Mutex::default(),
            admitted: Mutex::default(),
            snapshots: SnapshotSlot::default(),
            control: Queue::closed(CONTROL_BYTES_MAX),
            urgent: Queue::closed(LANE_BYTES_MAX),
            append_metadata: Queue::closed(LANE_BYTES_MAX),
            append_partitions: Queue::closed(LANE_BYTES_MAX),
            lost_metadata: AtomicBool::new(false),
            lost_partitions: AtomicBool::new(false),
            correlation: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    /// The queue of a lane.
    pub(crate) const fn lane(&self, channel: Channel, lane: Lane) -> &Queue<Queued> {
        match (lane, channel) {
            (Lane::Urgent, _) => &self.urgent,
            (Lane::Append, Channel::METADATA) => &self.append_metadata,
            (Lane::Append, _) => &self.append_partitions,
        }
    }

    /// Queues messages; false if some were dropped.
    pub(crate) fn send(&self, channel: Channel, lane: Lane, messages: Vec<PeerMessage>) -> bool {
        let sized = messages.into_iter().map(|message| {
            let len = Envelope::encoded_len(&message);
            ((channel, message), len)
        });
        let taken = self.lane(channel, lane).push_all(sized);
        if !taken {
            self.lost(channel).store(true, Ordering::Relaxed);
        }
        taken
    }

    /// Whether messages of a channel may be lost and nobody was told yet.
    pub(crate) const fn lost(&self, channel: Channel) -> &AtomicBool {
        match channel {
            Channel::METADATA => &self.lost_metadata,
            _ => &self.lost_partitions,
        }
    }

    /// A greeted connection takes what is sent from now on.
    pub(crate) fn open(&self) {
        self.control.open();
        self.urgent.open();
        self.append_metadata.open();
        self.append_partitions.open();
    }

    /// No connection: nothing is queued, and what waits for an answer gets none.
    pub(crate) fn close(&self) {
        self.control.close();
        self.urgent.close();
        self.append_metadata.close();
        self.append_partitions.close();
        for channel in Channel::ALL {
            self.lost(channel).store(true, Ordering::Relaxed);
        }
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for one in waiting.into_values() {
            let error = PeerError {
                code: ErrorCode::TIMEOUT,
                detail: format!("the connection to broker {} was lost", self.id),
                sent: one.sent,
            };
            // Whoever asked may have given up.
            drop(one.reply.send(Err(error)));
        }
    }

    /// Closes every connection to and from it.
    pub(crate) fn cut(&self, code: ErrorCode, text: &str) {
        let dialled = self.dialled.lock().clone();
        let admitted = self.admitted.lock().take();
        let (admitted, token) = admitted.map(|one| (one.connection, one.token)).unzip();
        for connection in [dialled, admitted].into_iter().flatten() {
            if let Some(connection) = connection.upgrade() {
                connection.close(code, text);
            }
        }
        token.inspect(CancellationToken::cancel);
        self.snapshots.cut(code, text);
        self.end_process();
    }

    /// Another process is the broker from now on.
    pub(crate) fn end_process(&self) {
        let next = self.gone.child_token();
        std::mem::replace(&mut *self.process.lock(), next).cancel();
    }

    /// Ends with the process that is the broker now.
    pub(crate) fn process(&self) -> CancellationToken {
        self.process.lock().child_token()
    }

    /// A number that no other request to this broker has.
    pub(crate) fn next_correlation(&self) -> u64 {
        self.correlation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Waits for the answer to a request from now on.
    pub(crate) fn expect(&self, correlation: u64) -> oneshot::Receiver<Result<Bytes, PeerError>> {
        let (reply, answer) = oneshot::channel();
        let one = Waiting { reply, sent: false };
        self.waiting.lock().insert(correlation, one);
        answer
    }

    /// The request leaves.
    pub(crate) fn handle_sent(&self, correlation: u64) {
        if let Some(one) = self.waiting.lock().get_mut(&correlation) {
            one.sent = true;
        }
    }

    /// The answer to a request; nothing if nobody waits for it any more.
    pub(crate) fn handle_answer(&self, correlation: u64, answer: Result<Bytes, PeerError>) {
        if let Some(one) = self.waiting.lock().remove(&correlation) {
            // Whoever asked may have given up.
            drop(one.reply.send(answer));
        }
    }

    /// Nobody waits for the answer any more; whether the request has left.
    pub(crate) fn forget(&self, correlation: u64) -> bool {
        let one = self.waiting.lock().remove(&correlation);
        one.is_some_and(|one| one.sent)
    }
}
