//! Lets the other brokers in: greets each connection, and hands it to what it is for.

use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ErrorCode;
use quorate_protocol::Message;
use quorate_protocol::PeerHello;
use quorate_protocol::PeerPurpose;
use tokio_util::sync::CancellationToken;

use crate::peers::fault::Fault;
use crate::peers::greeting;
use crate::peers::hub::Hub;
use crate::peers::peer::Admitted;
use crate::peers::peer::Peer;
use crate::peers::seen::Refusal;
use crate::peers::serve;
use crate::transport::FrameReceiver;
use crate::transport::FrameSender;
use crate::transport::PeerConnection;

/// How long a refused broker may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Accepts connections until the broker stops, and ends the endpoint then.
pub(crate) async fn run(hub: Arc<Hub>) {
    let stop = hub.environment.stop.clone();
    let accepting = async {
        while let Some(connection) = hub.endpoint.accept().await {
            hub.environment
                .tracker
                .spawn(welcome(hub.clone(), connection));
        }
    };
    if stop.run_until_cancelled(accepting).await.is_some() && !stop.is_cancelled() {
        tracing::error!("the endpoint for other brokers ended by itself");
        hub.failed.cancel();
    }
    // Connections are closed before what uses them ends: streams that go first could hold the
    // goodbye up, and the others would wait for nothing until they suspect this broker.
    let text = "the broker is shutting down";
    hub.cut_all(ErrorCode::OK, text);
    hub.endpoint.close(ErrorCode::OK, text);
    hub.ended.cancel();
    hub.endpoint.wait_idle().await;
    hub.forget_attached();
}

async fn welcome(hub: Arc<Hub>, connection: PeerConnection) {
    let patience = hub.config.timings.greeting;
    let greeting = tokio::time::timeout(patience, greet(&hub, &connection)).await;
    let Ok(greeted) = greeting else {
        return end(
            &hub,
            &connection,
            ErrorCode::FRAME_TIMEOUT,
            "no greeting came in time",
        );
    };
    let served = match greeted {
        Ok(greeted) => serve_greeted(&hub, &connection, greeted).await,
        Err(fault) => Err(fault),
    };
    match served {
        Err(Fault::Wrong { code, text }) => end(&hub, &connection, code, &text),
        Ok(()) | Err(Fault::Gone) => connection.close(ErrorCode::OK, "no longer used"),
    }
}

/// A connection whose other end said who it is, and may come in.
struct Greeted {
    peer: Arc<Peer>,
    purpose: PeerPurpose,
    token: CancellationToken,
    sender: FrameSender,
    receiver: FrameReceiver,
}

async fn greet(hub: &Hub, connection: &PeerConnection) -> Result<Greeted, Fault> {
    let (mut sender, mut receiver) = connection.accept_stream().await?;
    let Some(frame) = receiver.next().await? else {
        return Err(Fault::violation("the stream ended before PeerHello"));
    };
    let hello = PeerHello::decode_frame(&frame.header, &frame.body)?;
    let peer = match judge(hub, connection, &hello) {
        Ok(peer) => peer,
        Err(refusal) => {
            // The close that follows says the same, for the case that this does not arrive.
            sender.send(greeting::reject(&refusal).to_frame()).await?;
            if sender.finish().is_ok() {
                drop(tokio::time::timeout(FAREWELL, sender.stopped()).await);
            }
            let Refusal { code, text } = refusal;
            return Err(Fault::Wrong { code, text });
        }
    };
    let token = admit(hub, &peer, connection, &hello);
    connection.raise_limits();
    receiver.set_limits(PeerConnection::LIMITS);
    let ack = greeting::ack(&hub.config, &hello, (hub.environment.now)());
    sender.send(ack.to_frame()).await?;
    Ok(Greeted {
        peer,
        purpose: hello.purpose,
        token,
        sender,
        receiver,
    })
}

/// Whether the broker with this certificate may be who it says it is.
fn judge(hub: &Hub, connection: &PeerConnection, hello: &PeerHello) -> Result<Arc<Peer>, Refusal> {
    greeting::check(&hub.config, hello)?;
    let name = connection.name();
    let named = hub.named(name).filter(|peer| peer.id == hello.broker);
    let peer = named.ok_or_else(|| Refusal {
        code: ErrorCode::NOT_MEMBER,
        text: format!(
            "broker {} named `{name}` is no member of cluster `{}`; add it with `quorate cluster \
             add`",
            hello.broker, hub.config.cluster
        ),
    })?;
    let member = peer.member.lock().clone();
    peer.seen.lock().judge(&member, &greeting::shown(hello))?;
    Ok(peer)
}

/// Makes this the peer's connection; the one before it is fenced.
fn admit(
    hub: &Hub,
    peer: &Peer,
    connection: &PeerConnection,
    hello: &PeerHello,
) -> CancellationToken {
    if hello.purpose != PeerPurpose::RAFT {
        return peer.process();
    }
    if peer.seen.lock().admit(&greeting::shown(hello)) {
        peer.end_process();
    }
    let token = peer.process();
    let admitted = Admitted {
        connection: connection.downgrade(),
        token: token.clone(),
    };
    let older = peer.admitted.lock().replace(admitted);
    if let Some(older) = older {
        if let Some(connection) = older.connection.upgrade() {
            let text = "a newer connection of this broker took over";
            connection.close(ErrorCode::INCARNATION_FENCED, text);
        }
        older.token.cancel();
    }
    tracing::debug!(broker = %peer.id, remote = %connection.remote(), "broker let in");
    hub.judge(peer);
    // It is there: this broker's own attempts to reach it need not wait.
    peer.redial.notify_one();
    token
}

async fn serve_greeted(
    hub: &Arc<Hub>,
    connection: &PeerConnection,
    greeted: Greeted,
) -> Result<(), Fault> {
    let Greeted {
        peer,
        purpose,
        token,
        sender,
        receiver,
    } = greeted;
    let _ended = token.clone().drop_guard();
    if purpose == PeerPurpose::SNAPSHOT {
        // The stream of the greeting stays open as long as the connection.
        let _greeting = (sender, receiver);
        return serve::snapshots(hub, &peer, connection, &token).await;
    }
    let streams = serve::Streams {
        hub: hub.clone(),
        peer,
        token,
    };
    streams.run(connection, sender, receiver).await
}

fn end(hub: &Hub, connection: &PeerConnection, code: ErrorCode, text: &str) {
    hub.complain(
        connection.name(),
        &format!("connection closed: {code} {text}"),
    );
    connection.close(code, text);
}
