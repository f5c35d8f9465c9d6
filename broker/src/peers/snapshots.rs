//! The second connection to a peer, for snapshots: opened when one is wanted, closed when none is.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::ErrorCode;
use quorate_protocol::LaneOpen;
use quorate_protocol::Message;
use quorate_protocol::PeerPurpose;

use crate::peers::dial;
use crate::peers::dial::Greeted;
use crate::peers::dial::Unreached;
use crate::peers::door::Channel;
use crate::peers::door::PeerError;
use crate::peers::hub::Hub;
use crate::peers::peer::Peer;
use crate::transport::FrameReceiver;
use crate::transport::FrameSender;
use crate::transport::PeerConnection;
use crate::transport::WeakPeerConnection;

/// The connection for snapshots, if there is one.
#[derive(Debug, Default)]
pub(crate) struct SnapshotSlot {
    /// Held while a connection is made, so that there is only one.
    dialling: tokio::sync::Mutex<()>,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    /// Kept open for the next transfer, until the moment in it.
    kept: Option<(Greeted, Duration)>,
    /// Open as long as a transfer lasts.
    weak: Option<WeakPeerConnection>,
}

impl SnapshotSlot {
    /// Lets go of a connection that no transfer was begun on for so long. Transfers on it go on.
    pub(crate) fn close_if_idle(&self, now: Duration, idle: Duration) {
        let mut current = self.current.lock();
        let is_idle = |(_, used): &mut (Greeted, Duration)| now.saturating_sub(*used) >= idle;
        current.kept.take_if(is_idle);
    }

    /// Closes it, whatever it is used for.
    pub(crate) fn cut(&self, code: ErrorCode, text: &str) {
        let Current { kept, weak } = std::mem::take(&mut *self.current.lock());
        if let Some(connection) = weak.and_then(|weak| weak.upgrade()) {
            connection.close(code, text);
        }
        drop(kept);
    }

    fn open(&self, now: Duration) -> Option<PeerConnection> {
        let mut current = self.current.lock();
        let connection = current.weak.as_ref()?.upgrade()?;
        if connection.lost().is_some() {
            *current = Current::default();
            return None;
        }
        if let Some((_, used)) = &mut current.kept {
            *used = now;
        }
        Some(connection)
    }

    fn keep(&self, greeted: Greeted, now: Duration) -> PeerConnection {
        let connection = greeted.connection.clone();
        *self.current.lock() = Current {
            weak: Some(connection.downgrade()),
            kept: Some((greeted, now)),
        };
        connection
    }
}

/// Opens a stream for one transfer.
pub(crate) async fn open(
    hub: &Arc<Hub>,
    peer: &Arc<Peer>,
    channel: Channel,
) -> Result<(FrameSender, FrameReceiver), PeerError> {
    let connection = {
        let _one = peer.snapshots.dialling.lock().await;
        match peer.snapshots.open(hub.now()) {
            Some(connection) => connection,
            None => {
                let greeted = dial::greet(hub, peer, PeerPurpose::SNAPSHOT).await;
                let greeted = greeted.map_err(unreached)?;
                peer.snapshots.keep(greeted, hub.now())
            }
        }
    };
    let opened = connection.open_stream().await;
    let (mut sender, receiver) = opened.map_err(|lost| unreached(lost.into()))?;
    let lane = channel.lane();
    let sent = sender.send(LaneOpen { lane }.to_frame()).await;
    sent.map_err(|error| unreached(Unreached::Lost(error.to_string())))?;
    Ok((sender, receiver))
}

fn unreached(why: Unreached) -> PeerError {
    let (code, detail) = match why {
        Unreached::Lost(reason) => (ErrorCode::TIMEOUT, reason),
        Unreached::Refused(refusal) => (refusal.code, refusal.text),
    };
    PeerError {
        code,
        detail,
        sent: false,
    }
}
