//! The streams of a connection that a peer opened.
//!
//! Whatever is wrong on one of them ends that connection and no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::LaneOpen;
use quorate_protocol::Message;
use quorate_protocol::Op;
use quorate_protocol::PeerClock;
use quorate_protocol::PeerClockReply;
use quorate_protocol::Ping;
use quorate_protocol::Pong;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use quorate_protocol::Text;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::peers::door::Channel;
use crate::peers::door::PeerError;
use crate::peers::fault::Fault;
use crate::peers::hub::Hub;
use crate::peers::lanes;
use crate::peers::peer::Peer;
use crate::transport::Frame;
use crate::transport::FrameReceiver;
use crate::transport::FrameSender;
use crate::transport::PeerConnection;
use crate::transport::SendError;

/// Requests of one peer that are answered at a time.
const REQUESTS_MAX: usize = 64;
/// Replies that wait to be sent.
const REPLIES_MAX: usize = 2 * REQUESTS_MAX;
/// Time for a request that names none, and the most any may have.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// What the streams of one connection share.
pub(crate) struct Streams {
    pub(crate) hub: Arc<Hub>,
    pub(crate) peer: Arc<Peer>,
    /// Ends all of them.
    pub(crate) token: CancellationToken,
}

impl Streams {
    /// Serves the control stream, and each lane the peer opens, until one of them fails.
    pub(crate) async fn run(
        self,
        connection: &PeerConnection,
        sender: FrameSender,
        receiver: FrameReceiver,
    ) -> Result<(), Fault> {
        let (faults, mut fault) = mpsc::channel(1);
        let (replies, outgoing) = mpsc::channel(REPLIES_MAX);
        let streams = Arc::new(self);
        streams.spawn(&faults, async move { Ok(write(sender, outgoing).await?) });
        let control = streams.clone().answer(receiver, replies);
        streams.spawn(&faults, control);
        loop {
            let stream = tokio::select! {
                stream = connection.accept_stream() => stream,
                Some(fault) = fault.recv() => return Err(fault),
                () = streams.token.cancelled() => return Ok(()),
            };
            let (_, receiver) = stream?;
            let one = streams.clone();
            let lane = async move {
                let Self { hub, peer, token } = &*one;
                lanes::receive(hub, peer, token, receiver).await
            };
            streams.spawn(&faults, lane);
        }
    }

    fn spawn(
        self: &Arc<Self>,
        faults: &mpsc::Sender<Fault>,
        stream: impl Future<Output = Result<(), Fault>> + Send + 'static,
    ) {
        let (token, faults) = (self.token.clone(), faults.clone());
        self.hub.environment.tracker.spawn(async move {
            if let Some(Err(fault)) = token.run_until_cancelled(stream).await {
                // The first fault ends the connection; others do not matter.
                drop(faults.try_send(fault));
            }
        });
    }

    async fn answer(
        self: Arc<Self>,
        mut receiver: FrameReceiver,
        replies: mpsc::Sender<Bytes>,
    ) -> Result<(), Fault> {
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        while let Some(frame) = receiver.next().await? {
            if frame.header.kind == Kind::PING {
                let Ping { nonce } = Ping::decode_frame(&frame.header, &frame.body)?;
                // Nobody hears it if this fails.
                drop(replies.try_send(Pong { nonce }.to_frame()));
                continue;
            }
            self.handle_request(&frame, &places, &replies)?;
        }
        // Without its control stream a connection is of no use.
        Err(Fault::Gone)
    }

    fn handle_request(
        &self,
        frame: &Frame,
        places: &Arc<Semaphore>,
        replies: &mpsc::Sender<Bytes>,
    ) -> Result<(), Fault> {
        let request = Request::decode_frame(&frame.header, &frame.body)?;
        let correlation = request.correlation;
        if request.op == Op::PEER_CLOCK {
            let outcome = self.tell_time(request.body.as_bytes())?;
            drop(replies.try_send(reply(correlation, Ok(outcome))));
            return Ok(());
        }
        let answers = self.hub.answers.read().clone();
        let (Some(answers), Ok(place)) = (answers, places.clone().try_acquire_owned()) else {
            let busy = PeerError {
                code: ErrorCode::OVERLOADED,
                detail: format!("broker {} cannot answer now", self.hub.config.me),
                sent: true,
            };
            drop(replies.try_send(reply(correlation, Err(busy))));
            return Ok(());
        };
        let deadline = deadline(request.deadline_ms);
        let answer = answers.answer(self.peer.id, request.op, request.body.into_bytes());
        let (token, replies) = (self.token.clone(), replies.clone());
        self.hub.environment.tracker.spawn(async move {
            let answering = tokio::time::timeout(deadline, answer);
            let Some(answer) = token.run_until_cancelled(answering).await else {
                return;
            };
            // Without an answer in time nobody waits for one any more.
            if let Ok(answer) = answer {
                drop(replies.try_send(reply(correlation, answer)));
            }
            drop(place);
        });
        Ok(())
    }

    fn tell_time(&self, question: &[u8]) -> Result<Bytes, Fault> {
        PeerClock::from_bytes(question)?;
        let now = self.hub.environment.clock.now_micros();
        let answer = PeerClockReply {
            received_us: now,
            replied_us: now,
        };
        Ok(answer.to_bytes())
    }
}

async fn write(
    mut sender: FrameSender,
    mut outgoing: mpsc::Receiver<Bytes>,
) -> Result<(), SendError> {
    while let Some(frame) = outgoing.recv().await {
        sender.send(frame).await?;
    }
    Ok(())
}

/// Gives each stream the peer opens for snapshots to whoever serves them.
pub(crate) async fn snapshots(
    hub: &Arc<Hub>,
    peer: &Arc<Peer>,
    connection: &PeerConnection,
    token: &CancellationToken,
) -> Result<(), Fault> {
    loop {
        let stream = tokio::select! {
            stream = connection.accept_stream() => stream,
            () = token.cancelled() => return Ok(()),
        };
        let (sender, receiver) = stream?;
        let serving = serve_snapshot(Arc::clone(hub), peer.id, sender, receiver);
        let token = token.clone();
        hub.environment.tracker.spawn(async move {
            token.run_until_cancelled(serving).await;
        });
    }
}

/// Gives one stream to whoever serves its channel. What is wrong with it ends no other transfer.
async fn serve_snapshot(
    hub: Arc<Hub>,
    from: BrokerId,
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
) {
    let lane = match receiver.next().await {
        Ok(Some(frame)) => LaneOpen::decode_frame(&frame.header, &frame.body).ok(),
        _ => None,
    };
    let channel = lane.and_then(|LaneOpen { lane }| Channel::of_appends(lane));
    let Some(channel) = channel else {
        sender.reset(ErrorCode::PROTOCOL_VIOLATION);
        return;
    };
    let server = hub.snapshots(channel).read().clone();
    match server {
        Some(server) => server.serve(from, sender, receiver).await,
        None => sender.reset(ErrorCode::LEADER_NOT_READY),
    }
}

fn reply(correlation: u64, answer: Result<Bytes, PeerError>) -> Bytes {
    let refused = |code, detail: &str| Reply {
        correlation,
        code,
        detail: Text::clipped(detail),
        retry_after_ms: 0,
        body: Blob::empty(),
    };
    let reply = match answer {
        Err(error) => refused(error.code, &error.detail),
        Ok(body) => match Blob::new(body) {
            Err(error) => refused(ErrorCode::INTERNAL, &error.to_string()),
            Ok(body) => Reply {
                body,
                ..refused(ErrorCode::OK, "")
            },
        },
    };
    reply.to_frame()
}

fn deadline(millis: u32) -> Duration {
    match millis {
        0 => DEADLINE_DEFAULT,
        millis => Duration::from_millis(millis.into()).min(DEADLINE_MAX),
    }
}
