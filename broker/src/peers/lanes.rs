//! The ordered streams of replicas' messages, at both ends.

use std::sync::Arc;

use quorate_protocol::Envelope;
use quorate_protocol::LaneOpen;
use quorate_protocol::Message;
use tokio_util::sync::CancellationToken;

use crate::peers::door::Channel;
use crate::peers::door::Inbound;
use crate::peers::door::Lane;
use crate::peers::fault::Fault;
use crate::peers::hub::Hub;
use crate::peers::peer::Peer;
use crate::peers::peer::Queued;
use crate::peers::queue::Queue;
use crate::transport::ConnectionLost;
use crate::transport::FrameReceiver;
use crate::transport::FrameSender;
use crate::transport::PeerConnection;
use crate::transport::SendError;

/// Messages that wait are put into one envelope up to this size.
const ENVELOPE_BYTES: usize = 1024 * 1024;

/// The lanes that a broker opens on the connection it dialled: number, lane, channel (of an
/// urgent lane: any), and how soon what is sent goes out.
const LANES: [(u8, Lane, Channel, i32); 3] = [
    (0, Lane::Urgent, Channel::METADATA, 6),
    (1, Lane::Append, Channel::METADATA, 5),
    (2, Lane::Append, Channel::PARTITIONS, 4),
];

/// Opens all lanes of a greeted connection, and sends on them until it ends.
pub(crate) async fn open(
    hub: &Hub,
    peer: &Arc<Peer>,
    connection: &PeerConnection,
    token: &CancellationToken,
) -> Result<(), ConnectionLost> {
    for (number, lane, channel, priority) in LANES {
        let (sender, _) = connection.open_stream().await?;
        sender.set_priority(priority);
        let (peer, token) = (peer.clone(), token.clone());
        hub.environment.tracker.spawn(async move {
            let queue = peer.lane(channel, lane);
            let sending = send(number, queue, sender);
            if let Some(Err(error)) = token.run_until_cancelled(sending).await {
                tracing::debug!(broker = %peer.id, lane = number, "lane ended: {error}");
            }
            token.cancel();
        });
    }
    Ok(())
}

async fn send(lane: u8, queue: &Queue<Queued>, mut sender: FrameSender) -> Result<(), SendError> {
    sender.send(LaneOpen { lane }.to_frame()).await?;
    loop {
        match next_envelope(queue) {
            Some(envelope) => sender.send_all(&mut envelope.encode()).await?,
            None => queue.filled().await,
        }
    }
}

/// As many of the waiting messages as travel together.
fn next_envelope(queue: &Queue<Queued>) -> Option<Envelope> {
    let (mut channel, mut bytes) = (None, 0);
    let taken = queue.take_while(|(of, _), len| {
        bytes += len;
        let first = channel.is_none();
        channel = channel.or(Some(*of));
        first || (channel == Some(*of) && bytes <= ENVELOPE_BYTES)
    });
    let messages = taken.into_iter().map(|(_, message)| message).collect();
    Some(Envelope {
        channel: channel?.get(),
        messages,
    })
}

/// Delivers what comes on a lane the peer opened, until the stream ends.
pub(crate) async fn receive(
    hub: &Hub,
    peer: &Peer,
    token: &CancellationToken,
    mut receiver: FrameReceiver,
) -> Result<(), Fault> {
    let Some(frame) = receiver.next().await? else {
        return Ok(());
    };
    let LaneOpen { lane } = LaneOpen::decode_frame(&frame.header, &frame.body)?;
    let known = LANES.into_iter().find(|(number, ..)| *number == lane);
    let (_, lane, only, _) = known.ok_or_else(|| Fault::violation("there is no such lane"))?;
    while let Some(frame) = receiver.next().await? {
        if frame.header.kind != Envelope::KIND || frame.header.version != Envelope::VERSION {
            return Err(Fault::violation("a lane carries envelopes only"));
        }
        let bytes = frame.body.len();
        let envelope = Envelope::decode(frame.body.freeze())?;
        let channel =
            Channel::of(envelope.channel).filter(|of| lane == Lane::Urgent || *of == only);
        let channel = channel.ok_or_else(|| Fault::violation("a channel is on a foreign lane"))?;
        let Some(inbound) = hub.inbound(channel).read().clone() else {
            continue;
        };
        if lane == Lane::Append {
            wait_for_room(inbound.as_ref()).await;
        }
        // A newer connection may have taken over meanwhile: what is older must not follow it.
        if token.is_cancelled() {
            return Ok(());
        }
        inbound.deliver(peer.id, envelope.messages, bytes);
    }
    Ok(())
}

async fn wait_for_room(inbound: &dyn Inbound) {
    while let Some(room) = inbound.has_room() {
        room.await;
    }
}
