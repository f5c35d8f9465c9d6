//! The control stream of a dialled connection: requests out, answers in, and a probe now and then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::Op;
use quorate_protocol::PeerClock;
use quorate_protocol::PeerClockReply;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::peers::dial::Greeted;
use crate::peers::dial::Unreached;
use crate::peers::door::PeerError;
use crate::peers::hub::Hub;
use crate::peers::peer::Ask;
use crate::peers::peer::Peer;
use crate::peers::samples::Sample;
use crate::peers::states::Reach;
use crate::transport::Frame;
use crate::transport::FrameSender;
use crate::transport::SendError;

/// Probes without an answer that are remembered.
const PROBES_MAX: usize = 16;

/// A probe without an answer yet.
struct Probe {
    correlation: u64,
    /// Wall and monotonic time when it was queued.
    sent_us: u64,
    sent: Duration,
}

/// Asks and probes until the connection ends, or the peer turns out to be another process.
pub(crate) async fn run(
    hub: &Arc<Hub>,
    peer: &Arc<Peer>,
    greeted: Greeted,
    token: &CancellationToken,
) -> Unreached {
    let Greeted {
        sender,
        mut receiver,
        incarnation,
        connection: _connection,
    } = greeted;
    spawn_writer(hub, peer, sender, token);
    let mut probes = VecDeque::new();
    let mut ticks = tokio::time::interval(hub.config.timings.probe);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            frame = receiver.next() => match frame {
                Ok(Some(frame)) => if let Err(why) = handle_frame(hub, peer, &mut probes, &frame) {
                    return Unreached::Lost(why);
                },
                Ok(None) => return Unreached::Lost("it ended the control stream".to_owned()),
                Err(error) => return error.into(),
            },
            _ = ticks.tick() => {
                if peer.observed.lock().state().state == Reach::Down {
                    return Unreached::Lost("it fell silent".to_owned());
                }
                probe(hub, peer, &mut probes);
            }
            () = peer.redial.notified() => {
                let current = peer.seen.lock().incarnation();
                if current.is_some_and(|current| current != incarnation) {
                    // The process that was heard of waits to be dialled.
                    peer.redial.notify_one();
                    return Unreached::Lost("it was started again".to_owned());
                }
            }
            () = token.cancelled() => return Unreached::Lost("a stream ended".to_owned()),
        }
    }
}

fn spawn_writer(hub: &Hub, peer: &Arc<Peer>, sender: FrameSender, token: &CancellationToken) {
    let (peer, token) = (peer.clone(), token.clone());
    hub.environment.tracker.spawn(async move {
        let ended = token.run_until_cancelled(write(&peer, sender)).await;
        if let Some(Err(error)) = ended {
            tracing::debug!(broker = %peer.id, "control stream ended: {error}");
        }
        token.cancel();
    });
}

async fn write(peer: &Peer, mut sender: FrameSender) -> Result<(), SendError> {
    loop {
        let asks = peer.control.take_while(|_, _| true);
        if asks.is_empty() {
            peer.control.filled().await;
            continue;
        }
        let handle = |ask: Ask| {
            peer.handle_sent(ask.correlation);
            ask.frame
        };
        let mut frames = asks.into_iter().map(handle).collect();
        sender.send_all(&mut frames).await?;
    }
}

/// Asks what time it is there; that it answers at all is half of what is wanted.
fn probe(hub: &Hub, peer: &Peer, probes: &mut VecDeque<Probe>) {
    let sent_us = hub.environment.clock.now_micros();
    let correlation = peer.next_correlation();
    let question = PeerClock { sent: sent_us }.to_bytes();
    let Ok(body) = Blob::new(question) else {
        return;
    };
    let request = Request {
        correlation,
        deadline_ms: 0,
        op: Op::PEER_CLOCK,
        body,
    };
    let frame = request.to_frame();
    let len = frame.len();
    if !peer.control.push_all([(Ask { correlation, frame }, len)]) {
        return;
    }
    if probes.len() == PROBES_MAX {
        probes.pop_front();
    }
    probes.push_back(Probe {
        correlation,
        sent_us,
        sent: hub.now(),
    });
}

fn handle_frame(
    hub: &Hub,
    peer: &Peer,
    probes: &mut VecDeque<Probe>,
    frame: &Frame,
) -> Result<(), String> {
    if frame.header.kind == Kind::PONG {
        return Ok(());
    }
    let reply = Reply::decode_frame(&frame.header, &frame.body);
    let reply = reply.map_err(|error| format!("it answers with a wrong frame: {error}"))?;
    let probe = probes
        .iter()
        .position(|probe| probe.correlation == reply.correlation)
        .and_then(|at| probes.drain(..=at).next_back());
    let Some(probe) = probe else {
        let correlation = reply.correlation;
        peer.handle_answer(correlation, content(reply));
        return Ok(());
    };
    let answer = PeerClockReply::from_bytes(reply.body.as_bytes());
    let answer = answer.map_err(|error| format!("it answers a probe wrongly: {error}"))?;
    let now = hub.now();
    let sample = Sample::new(probe.sent_us, now.saturating_sub(probe.sent), &answer);
    peer.observed.lock().handle_sample(now, sample);
    hub.judge(peer);
    hub.publish();
    Ok(())
}

fn content(reply: Reply) -> Result<bytes::Bytes, PeerError> {
    if reply.code == ErrorCode::OK {
        return Ok(reply.body.into_bytes());
    }
    Err(PeerError {
        code: reply.code,
        detail: reply.detail.into_string(),
        sent: true,
    })
}
