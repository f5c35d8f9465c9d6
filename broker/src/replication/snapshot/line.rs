//! One stream with another broker, as frames. Every wait has an end.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::{BrokerId, ErrorCode, FrameHeader, Message, StreamReject, Text};

use crate::peers::{Boxed, Channel, Peers};
use crate::transport::{FrameReceiver, FrameSender};

/// Without progress for so long a transfer ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A future that borrows its line.
pub(in crate::replication) type Waiting<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Broken>> + Send + 'a>>;

/// Why nothing more comes or goes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::replication) struct Broken(pub(in crate::replication) String);

/// A frame that came.
#[derive(Debug)]
pub(in crate::replication) struct Received {
    pub(in crate::replication) header: FrameHeader,
    pub(in crate::replication) body: Bytes,
}

/// One stream in both directions.
pub(in crate::replication) trait Line: Send {
    /// Sends the pieces of one or more frames. Waits until they are taken.
    fn send(&mut self, pieces: Vec<Bytes>) -> Waiting<'_, ()>;

    /// The next frame; none once the other side has no more.
    fn receive(&mut self) -> Waiting<'_, Option<Received>>;
}

/// Opens lines to brokers that have snapshots.
pub(in crate::replication) trait Door: Debug + Send + Sync {
    /// A line to one broker.
    fn open(&self, to: BrokerId) -> Boxed<Result<Box<dyn Line>, Broken>>;
}

impl Door for (Peers, Channel) {
    fn open(&self, to: BrokerId) -> Boxed<Result<Box<dyn Line>, Broken>> {
        let (peers, channel) = self.clone();
        Box::pin(async move {
            let opened = peers.open_snapshot(to, channel).await;
            let stream = opened.map_err(|error| Broken(error.to_string()))?;
            Ok(Box::new(stream) as Box<dyn Line>)
        })
    }
}

impl Line for (FrameSender, FrameReceiver) {
    fn send(&mut self, mut pieces: Vec<Bytes>) -> Waiting<'_, ()> {
        Box::pin(async move {
            let sent = self.0.send_all(&mut pieces).await;
            sent.map_err(|error| Broken(error.to_string()))
        })
    }

    fn receive(&mut self) -> Waiting<'_, Option<Received>> {
        Box::pin(async move {
            let frame = self.1.next().await;
            let frame = frame.map_err(|error| Broken(error.to_string()))?;
            Ok(frame.map(|frame| Received {
                header: frame.header,
                body: frame.body.freeze(),
            }))
        })
    }
}

/// Sends within [`PATIENCE`].
pub(super) async fn send(line: &mut dyn Line, pieces: Vec<Bytes>) -> Result<(), Broken> {
    let sending = tokio::time::timeout(PATIENCE, line.send(pieces));
    sending.await.map_err(|_| slow("took nothing"))?
}

/// The next frame, within [`PATIENCE`].
pub(super) async fn receive(line: &mut dyn Line) -> Result<Received, Broken> {
    let receiving = tokio::time::timeout(PATIENCE, line.receive());
    let frame = receiving.await.map_err(|_| slow("said nothing"))?;
    frame?.ok_or_else(|| Broken("the other broker ended the transfer".into()))
}

/// Refuses a transfer.
pub(super) async fn reject(line: &mut dyn Line, code: ErrorCode, why: &str) -> Result<(), Broken> {
    let reject = StreamReject {
        code,
        detail: Text::clipped(why),
        leader: None,
        retry_after_ms: 0,
        range: None,
    };
    send(line, vec![reject.to_frame()]).await
}

fn slow(what: &str) -> Broken {
    let seconds = PATIENCE.as_secs();
    Broken(format!("the other broker {what} for {seconds} s"))
}
