//! The control stream of one connection: answers are matched with questions, news are passed on,
//! and a broker whose loop has stopped is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Blob;
use quorate_protocol::ErrorCode;
use quorate_protocol::GoAway;
use quorate_protocol::GoAwayReason;
use quorate_protocol::Kind;
use quorate_protocol::Ping;
use quorate_protocol::Pong;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::connection::frames::Frame;
use crate::connection::frames::FrameReceiver;
use crate::connection::frames::FrameSender;
use crate::connection::link::Call;
use crate::connection::link::Link;
use crate::connection::refusal::silence;
use crate::connection::silence::Heard;
use crate::connection::silence::Silence;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::event::EventBus;
use crate::topology::Topology;

/// Questions without an answer before new ones wait.
const PENDING_MAX: usize = 1024;
/// Unanswered pings after which the broker counts as gone.
const PINGS_MISSED_MAX: u32 = 2;

/// Time between two looks at whether anything still comes back.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What the control task of a connection works on.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) link: Arc<Link>,
    pub(super) sender: FrameSender,
    pub(super) receiver: FrameReceiver,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) topology: Arc<Topology>,
    pub(super) events: EventBus,
    pub(super) keepalive: Duration,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Bytes>>>,
}

impl Control {
    /// Runs until the connection ends; says why.
    pub(super) async fn run(mut self) -> Error {
        let mut pending = Pending::default();
        let mut unanswered = 0;
        let mut beat = tokio::time::interval(self.keepalive);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        beat.reset();
        let mut quiet = Silence::default();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = loop {
            let open = pending.waiting.len() < PENDING_MAX;
            let step = tokio::select! {
                frame = self.receiver.next() => match frame {
                    Ok(Some(frame)) => {
                        unanswered = 0;
                        self.take(&frame, &mut pending).await
                    }
                    Ok(None) => Err(self.link.closed().await),
                    Err(error) => Err(error),
                },
                Some(call) = self.calls.recv(), if open => self.ask(call, &mut pending).await,
                _ = beat.tick() => self.beat(&mut unanswered, &mut pending).await,
                _ = look.tick() => self.look(&mut quiet),
                () = self.link.ended.cancelled() => Err(self.link.end_error()),
            };
            if let Err(error) = step {
                break error;
            }
        };
        self.link.close("control stream ended");
        for (_, waiting) in pending.waiting {
            // Whoever asked may have stopped waiting.
            let _left = waiting.send(Err(end.clone())).is_err();
        }
        end
    }

    /// Whether anything was heard since the last look.
    fn look(&self, quiet: &mut Silence) -> Result<()> {
        match quiet.look(self.link.traffic()) {
            Heard::Yes => self.link.trust(),
            Heard::Waiting => {}
            Heard::Late => self.link.suspect(),
            Heard::Gone => {
                return Err(silence(&self.link.address, "nothing comes back any more"));
            }
        }
        Ok(())
    }

    async fn ask(&mut self, call: Call, pending: &mut Pending) -> Result<()> {
        let body = match Blob::new(call.body) {
            Ok(body) => body,
            Err(error) => {
                let _left = call
                    .answer
                    .send(Err(Error::invalid(error.to_string())))
                    .is_err();
                return Ok(());
            }
        };
        pending.next += 1;
        let request = Request {
            correlation: pending.next,
            deadline_ms: call.deadline_ms,
            op: call.op,
            body,
        };
        pending.waiting.insert(pending.next, call.answer);
        self.sender.send(&request).await
    }

    /// Questions nobody waits for any more make room.
    async fn beat(&mut self, unanswered: &mut u32, pending: &mut Pending) -> Result<()> {
        pending.waiting.retain(|_, answer| !answer.is_closed());
        if *unanswered >= PINGS_MISSED_MAX {
            let message = format!("{} answers no pings", self.link.address);
            return Err(Error::new(ErrorCode::CONNECT, message));
        }
        *unanswered += 1;
        let nonce = u64::from(*unanswered);
        self.sender.send(&Ping { nonce }).await
    }

    async fn take(&mut self, frame: &Frame, pending: &mut Pending) -> Result<()> {
        match frame.header.kind {
            Kind::REPLY => {
                let reply: Reply = frame.decode()?;
                if let Some(waiting) = pending.waiting.remove(&reply.correlation) {
                    let _left = waiting.send(answer(reply)).is_err();
                }
            }
            Kind::PING => {
                let Ping { nonce } = frame.decode()?;
                self.sender.send(&Pong { nonce }).await?;
            }
            Kind::TOPOLOGY_UPDATE => self.topology.update(&frame.decode()?),
            Kind::GO_AWAY => self.go_away(&frame.decode()?),
            _ => {}
        }
        Ok(())
    }

    fn go_away(&self, go_away: &GoAway) {
        let address = Arc::clone(&self.link.address);
        self.events.publish(match go_away.reason {
            GoAwayReason::SESSION_DEADLINE => Event::CertificateExpiring { address },
            _ => Event::Draining { address },
        });
        self.link.drain(go_away.prefer.to_vec());
    }
}

/// A reply's body, or the error it reports.
pub(crate) fn answer(reply: Reply) -> Result<Bytes> {
    if reply.code.is_ok() {
        return Ok(reply.body.into_bytes());
    }
    let detail = reply.detail.as_str();
    let detail = if detail.is_empty() {
        reply.code.name()
    } else {
        detail
    };
    Err(Error::new(reply.code, detail).with_retry_after_ms(reply.retry_after_ms))
}
