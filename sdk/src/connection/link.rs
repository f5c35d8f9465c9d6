//! One established connection: requests on its control stream, other streams beside it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::VarInt;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::HelloAck;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use quorate_protocol::Op;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamReject;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::connection::frames::Frame;
use crate::connection::frames::FrameReceiver;
use crate::connection::frames::FrameSender;
use crate::connection::refusal::refusal;
use crate::connection::silence::Traffic;
use crate::error::Error;
use crate::error::Result;

/// Requests that wait for the control stream.
pub(super) const REQUESTS_MAX: usize = 64;

/// A request on its way to the control task.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) op: Op,
    pub(super) body: bytes::Bytes,
    pub(super) deadline_ms: u32,
    pub(super) answer: oneshot::Sender<Result<bytes::Bytes>>,
}

/// A connection with one broker, after its HelloAck.
#[derive(Debug)]
pub(crate) struct Link {
    connection: quinn::Connection,
    /// `host:port` as dialled.
    pub(crate) address: Arc<str>,
    pub(crate) broker: BrokerId,
    /// The broker's name.
    pub(crate) name: Arc<str>,
    pub(crate) cluster: Arc<str>,
    pub(crate) principal: Arc<str>,
    limits: Limits,
    slots: Arc<Semaphore>,
    calls: mpsc::Sender<Call>,
    /// Somebody waited for this broker in vain, and nothing was heard of it since.
    suspect: AtomicBool,
    /// Topics the broker knows this client to use.
    told: Mutex<BTreeSet<String>>,
    /// Where the broker asked to go.
    successors: Mutex<Vec<BrokerId>>,
    /// Set when the broker asked to go elsewhere.
    pub(crate) draining: CancellationToken,
    /// Set when the connection is of no more use.
    pub(crate) ended: CancellationToken,
}

/// An accepted stream. Dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) sender: FrameSender,
    pub(crate) receiver: FrameReceiver,
    pub(crate) accept: StreamAccept,
    pub(crate) broker: BrokerId,
    /// The broker's name.
    pub(crate) name: Arc<str>,
    _slot: OwnedSemaphorePermit,
}

/// Why a stream was not opened.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) error: Error,
    pub(crate) leader: Option<BrokerId>,
}

impl Rejected {
    /// Another broker leads by now.
    pub(crate) fn moved(leader: BrokerId) -> Self {
        let message = format!("broker {leader} leads it now");
        Self {
            error: Error::new(ErrorCode::NOT_LEADER, message),
            leader: Some(leader),
        }
    }

    /// A broker that does not know a topic may only lag behind: who else is asked decides.
    pub(crate) fn unless_behind(self) -> Self {
        let code = self.error.code();
        if code != ErrorCode::UNKNOWN_TOPIC && code != ErrorCode::UNKNOWN_PARTITION {
            return self;
        }
        let message = self.error.to_string();
        Error::new(ErrorCode::STALE_TOPOLOGY, message).into()
    }
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self {
            error,
            leader: None,
        }
    }
}

impl Link {
    pub(super) fn new(
        connection: quinn::Connection,
        address: Arc<str>,
        ack: &HelloAck,
        calls: mpsc::Sender<Call>,
    ) -> Self {
        let known = ack.brokers.iter().find(|broker| broker.id == ack.broker);
        let name = match known {
            Some(broker) if !broker.name.is_empty() => Arc::from(broker.name.as_str()),
            _ => Arc::from(format!("broker-{}", ack.broker)),
        };
        let streams = usize::try_from(ack.max_streams).unwrap_or(usize::MAX);
        let streams = streams.saturating_sub(1).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            connection,
            address,
            broker: ack.broker,
            name,
            cluster: Arc::from(ack.cluster.as_str()),
            principal: Arc::from(ack.principal.as_str()),
            limits: established(ack),
            slots: Arc::new(Semaphore::new(streams)),
            calls,
            suspect: AtomicBool::new(false),
            told: Mutex::default(),
            successors: Mutex::default(),
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Whether new work may go here.
    pub(crate) fn is_usable(&self) -> bool {
        !self.ended.is_cancelled()
            && !self.draining.is_cancelled()
            && self.connection.close_reason().is_none()
    }

    /// Whether somebody waits for this broker in vain.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Somebody waits for this broker in vain.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// The broker was heard.
    pub(super) fn trust(&self) {
        self.suspect.store(false, Ordering::Relaxed);
    }

    /// Notes that the broker is about to be told of these topics; those it does not know yet.
    pub(crate) fn untold(&self, names: &[String]) -> Vec<String> {
        let mut told = self.told.lock();
        let untold = names.iter().filter(|name| told.insert((*name).clone()));
        untold.cloned().collect()
    }

    /// It was not told after all.
    pub(crate) fn forget_told(&self, names: &[String]) {
        let mut told = self.told.lock();
        names.iter().for_each(|name| {
            told.remove(name);
        });
    }

    /// Whom the broker named when it asked to go elsewhere, best first.
    pub(crate) fn successors(&self) -> Vec<BrokerId> {
        self.successors.lock().clone()
    }

    /// The broker asks to go elsewhere.
    pub(super) fn drain(&self, successors: Vec<BrokerId>) {
        *self.successors.lock() = successors;
        self.draining.cancel();
    }

    /// The largest batch the broker takes.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        usize::try_from(self.limits.batch_bytes_max).unwrap_or(usize::MAX)
    }

    /// Datagrams so far.
    pub(super) fn traffic(&self) -> Traffic {
        let stats = self.connection.stats();
        Traffic {
            sent: stats.udp_tx.datagrams,
            received: stats.udp_rx.datagrams,
        }
    }

    /// A place for one more stream, if there is one.
    pub(crate) fn try_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Asks something on the control stream.
    pub(crate) async fn request<Answer: Body>(
        &self,
        op: Op,
        question: &impl Body,
        timeout: Duration,
    ) -> Result<Answer> {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            op,
            body: question.to_bytes(),
            deadline_ms: milliseconds(timeout),
            answer,
        };
        let exchange = async {
            let gone = || self.end_error();
            self.calls.send(call).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        };
        let Ok(reply) = tokio::time::timeout(timeout, exchange).await else {
            let message = format!("{} did not answer within {timeout:?}", self.address);
            return Err(Error::new(ErrorCode::TIMEOUT, message));
        };
        Answer::from_bytes(&reply?)
            .map_err(|error| Error::new(error.code(), error.to_string()).at(&self.address))
    }

    /// Opens a stream and waits for the broker's answer.
    pub(crate) async fn open(
        &self,
        slot: OwnedSemaphorePermit,
        open: &StreamOpen,
        priority: i32,
    ) -> Result<Stream, Rejected> {
        let (mut sender, mut receiver) = self.open_raw(open, priority).await?;
        let Some(frame) = receiver.next().await? else {
            let message = format!("{} ended a new stream without an answer", self.address);
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, message).into());
        };
        match frame.header.kind {
            Kind::STREAM_ACCEPT => Ok(Stream {
                accept: frame.decode()?,
                sender,
                receiver,
                broker: self.broker,
                name: Arc::clone(&self.name),
                _slot: slot,
            }),
            Kind::STREAM_REJECT => {
                sender.finish();
                Err(self.rejection(&frame))
            }
            kind => {
                receiver.stop();
                let message = format!("{kind:?} came where an answer to a new stream belongs");
                Err(Error::new(ErrorCode::PROTOCOL_VIOLATION, message)
                    .at(&self.address)
                    .into())
            }
        }
    }

    /// What the broker said when it refused a stream.
    pub(crate) fn rejection(&self, frame: &Frame) -> Rejected {
        rejected(frame, &self.address)
    }

    /// Opens a stream that is not answered by an acceptance.
    pub(crate) async fn open_raw(
        &self,
        open: &StreamOpen,
        priority: i32,
    ) -> Result<(FrameSender, FrameReceiver)> {
        let (send, receive) = self
            .connection
            .open_bi()
            .await
            .map_err(|reason| refusal(&self.address, &reason))?;
        let mut sender = FrameSender::new(send, Arc::clone(&self.address));
        let receiver = FrameReceiver::new(receive, Arc::clone(&self.address), self.limits);
        sender.set_priority(priority);
        sender.send(open).await?;
        Ok((sender, receiver))
    }

    /// Why the connection ended, or that it is about to.
    pub(crate) fn end_error(&self) -> Error {
        match self.connection.close_reason() {
            Some(reason) => refusal(&self.address, &reason),
            None => Error::new(ErrorCode::CONNECT, "the connection is ending").at(&self.address),
        }
    }

    /// Waits for the end of the connection.
    pub(super) async fn closed(&self) -> Error {
        let reason = self.connection.closed().await;
        refusal(&self.address, &reason)
    }

    /// Closes the connection; its streams end.
    pub(crate) fn close(&self, why: &str) {
        self.ended.cancel();
        self.connection.close(VarInt::from_u32(0), why.as_bytes());
    }
}

fn rejected(frame: &Frame, address: &str) -> Rejected {
    let reject: StreamReject = match frame.decode() {
        Ok(reject) => reject,
        Err(error) => return error.at(address).into(),
    };
    let detail = reject.detail.as_str();
    let detail = if detail.is_empty() {
        reject.code.name()
    } else {
        detail
    };
    Rejected {
        error: Error::new(reject.code, detail)
            .with_retry_after_ms(reject.retry_after_ms)
            .with_range(reject.range),
        leader: reject.leader,
    }
}

pub(super) fn established(ack: &HelloAck) -> Limits {
    Limits {
        batch_bytes_max: ack.max_frame,
        established: true,
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
