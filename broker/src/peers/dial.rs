//! Keeps one connection to one peer: dials, greets, and tries again for as long as it is a member.

use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ErrorCode;
use quorate_protocol::HelloReject;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::PeerHelloAck;
use quorate_protocol::PeerPurpose;

use crate::peers::ask;
use crate::peers::greeting;
use crate::peers::hub::Hub;
use crate::peers::lanes;
use crate::peers::peer::Peer;
use crate::peers::retry::Retry;
use crate::peers::seen::Refusal;
use crate::transport::ConnectionLost;
use crate::transport::DialError;
use crate::transport::FrameReceiver;
use crate::transport::FrameSender;
use crate::transport::PeerConnection;
use crate::transport::ReceiveError;
use crate::transport::Traffic;

/// An attempt younger than this is not given up because the peer was heard of.
const YOUNG: Duration = Duration::from_millis(100);
/// The control stream goes before all others.
const CONTROL_PRIORITY: i32 = 7;

/// Why there is no connection to a peer.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// It cannot be reached, or the connection was lost.
    Lost(String),
    /// One of the two does not want the other.
    Refused(Refusal),
}

/// A connection on which both have said who they are.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) connection: PeerConnection,
    pub(crate) sender: FrameSender,
    pub(crate) receiver: FrameReceiver,
    /// The peer's process.
    pub(crate) incarnation: u64,
}

/// Keeps the connection until the peer is gone.
pub(crate) async fn run(hub: Arc<Hub>, peer: Arc<Peer>) {
    let gone = peer.gone.clone();
    gone.run_until_cancelled(keep(&hub, &peer)).await;
    peer.close();
}

async fn keep(hub: &Arc<Hub>, peer: &Arc<Peer>) {
    let timings = &hub.config.timings;
    let mut retry = Retry::new(timings.retry_min, timings.retry_max);
    loop {
        let unreached = match attempt(hub, peer).await {
            Ok(greeted) => {
                retry.handle_success();
                serve(hub, peer, greeted).await
            }
            Err(unreached) => unreached,
        };
        handle_unreached(hub, peer, unreached, &mut retry);
        let wait = retry.next((hub.environment.entropy)());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = peer.redial.notified() => {}
        }
    }
}

/// One attempt; it begins anew when the peer is heard of, because first packets may be lost
/// while a broker starts.
async fn attempt(hub: &Hub, peer: &Peer) -> Result<Greeted, Unreached> {
    loop {
        let began = hub.now();
        let greeting = greet(hub, peer, PeerPurpose::RAFT);
        let heard = async {
            loop {
                peer.redial.notified().await;
                if hub.now().saturating_sub(began) > YOUNG {
                    return;
                }
            }
        };
        tokio::select! {
            outcome = greeting => return outcome,
            () = heard => {}
        }
    }
}

/// Connects to a peer, and makes sure that it is the one that was meant.
pub(crate) async fn greet(
    hub: &Hub,
    peer: &Peer,
    purpose: PeerPurpose,
) -> Result<Greeted, Unreached> {
    let member = peer.member.lock().clone();
    let timings = &hub.config.timings;
    let traffic = match purpose {
        PeerPurpose::SNAPSHOT => Traffic::Snapshots,
        _ => Traffic::Replication,
    };
    let dialling = hub
        .endpoint
        .dial(&member.address, &member.name, traffic, timings.dial);
    let connection = dialling.await?;
    let talking = introduce(hub, peer, &connection, purpose);
    let talked = tokio::time::timeout(timings.greeting, talking).await;
    let talked = talked.map_err(|_| {
        connection.close(ErrorCode::FRAME_TIMEOUT, "no answer to the greeting");
        Unreached::Lost("no answer to the greeting".to_owned())
    })?;
    let (sender, receiver, ack) = talked?;
    let shown = greeting::shown_by_ack(&ack);
    let fits = greeting::check_ack(peer.id, &ack).and_then(|()| {
        let mut seen = peer.seen.lock();
        seen.judge(&member, &shown)?;
        seen.believe(shown.storage);
        Ok(())
    });
    if let Err(refusal) = fits {
        connection.close(refusal.code, &refusal.text);
        return Err(Unreached::Refused(refusal));
    }
    Ok(Greeted {
        connection,
        sender,
        receiver,
        incarnation: shown.incarnation,
    })
}

async fn introduce(
    hub: &Hub,
    peer: &Peer,
    connection: &PeerConnection,
    purpose: PeerPurpose,
) -> Result<(FrameSender, FrameReceiver, PeerHelloAck), Unreached> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender.set_priority(CONTROL_PRIORITY);
    let hello = greeting::hello(&hub.config, peer.id, purpose, (hub.environment.now)());
    // What the peer has against it is known from its answer.
    drop(sender.send(hello.to_frame()).await);
    let Some(frame) = receiver.next().await? else {
        return Err(Unreached::Lost("the greeting was not answered".to_owned()));
    };
    if frame.header.kind == Kind::HELLO_REJECT {
        let reject = HelloReject::decode_body(&frame.body);
        return Err(reject.map_or_else(
            |error| wrong(&error),
            |reject| {
                Unreached::Refused(Refusal {
                    code: reject.code,
                    text: reject.text.as_str().to_owned(),
                })
            },
        ));
    }
    let ack = PeerHelloAck::decode_frame(&frame.header, &frame.body);
    let ack = ack.map_err(|error| wrong(&error))?;
    receiver.set_limits(PeerConnection::LIMITS);
    Ok((sender, receiver, ack))
}

/// Uses a greeted connection until it ends.
async fn serve(hub: &Arc<Hub>, peer: &Arc<Peer>, greeted: Greeted) -> Unreached {
    let connection = greeted.connection.clone();
    let token = peer.gone.child_token();
    *peer.dialled.lock() = Some(connection.downgrade());
    peer.open();
    peer.observed.lock().handle_connection(hub.now(), true);
    hub.judge(peer);
    let lanes = lanes::open(hub, peer, &connection, &token);
    let opened = tokio::time::timeout(hub.config.timings.greeting, lanes).await;
    let end = match opened {
        Ok(Ok(())) => ask::run(hub, peer, greeted, &token).await,
        Ok(Err(lost)) => lost.into(),
        Err(_) => Unreached::Lost("it allows no further stream".to_owned()),
    };
    // A lane that ends with its connection does not say why; the connection does.
    let end = connection.lost().map_or(end, Unreached::from);
    // Before its streams go: what they still have to say could hold the goodbye up.
    connection.close(ErrorCode::OK, "another connection follows");
    token.cancel();
    peer.close();
    peer.observed.lock().handle_connection(hub.now(), false);
    hub.losses.notify_one();
    end
}

fn handle_unreached(hub: &Hub, peer: &Peer, unreached: Unreached, retry: &mut Retry) {
    match unreached {
        Unreached::Lost(reason) => {
            tracing::debug!(broker = %peer.id, "no connection to broker: {reason}");
        }
        Unreached::Refused(refusal) => {
            let text = format!("{} {}", refusal.code, refusal.text);
            let known = peer.observed.lock().state().refused.as_ref() == Some(&text);
            if !known {
                tracing::error!(broker = %peer.id, "this broker and broker {} do not work together: {text}", peer.id);
            }
            peer.observed.lock().handle_refusal(text);
            retry.handle_refusal();
        }
    }
    hub.judge(peer);
}

fn wrong(error: &quorate_protocol::DecodeError) -> Unreached {
    Unreached::Lost(format!("its answer to the greeting is wrong: {error}"))
}

impl From<ConnectionLost> for Unreached {
    fn from(lost: ConnectionLost) -> Self {
        match lost {
            ConnectionLost::ClosedByPeer { code, reason } if is_refusal(code) => {
                Self::Refused(Refusal { code, text: reason })
            }
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<DialError> for Unreached {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Stranger { .. } => Self::Refused(Refusal {
                code: ErrorCode::IDENTITY_REJECTED,
                text: error.to_string(),
            }),
            DialError::Handshake {
                lost: lost @ ConnectionLost::ClosedByPeer { .. },
                ..
            } => lost.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<ReceiveError> for Unreached {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Lost(lost) => lost.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// Whether a close means that the other broker will not work with this one, as they are.
const fn is_refusal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::IDENTITY_REJECTED
            | ErrorCode::INCARNATION_FENCED
            | ErrorCode::NOT_MEMBER
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::WRONG_CLUSTER
    )
}
