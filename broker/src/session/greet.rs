//! The greeting: a connection becomes a session, or is refused in words the client understands.

use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ErrorCode;
use quorate_protocol::Hello;
use quorate_protocol::HelloAck;
use quorate_protocol::HelloReject;
use quorate_protocol::HybridTime;
use quorate_protocol::Limits;
use quorate_protocol::Message;
use quorate_protocol::Text;

use crate::metadata;
use crate::session::connection::Established;
use crate::session::connection::Session;
use crate::session::connection::printable;
use crate::session::hello;
use crate::session::hello::Agreed;
use crate::session::hello::Own;
use crate::session::lifetime::Lifetime;
use crate::session::service::Service;
use crate::session::stream::Stop;
use crate::session::stream::Stream;
use crate::transport::Connection;

/// From the end of the handshake to a complete Hello.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a refused client may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);
/// The control stream goes before all others.
const CONTROL_PRIORITY: i32 = 7;
/// How often a client should prove that it lives.
const KEEPALIVE_MS: u32 = 10_000;

/// Greets a client and serves it until its connection is gone.
pub(super) async fn serve(service: Arc<Service>, connection: Connection) {
    let Ok(heard) = tokio::time::timeout(PATIENCE, hear(&connection)).await else {
        return close(
            &connection,
            ErrorCode::FRAME_TIMEOUT,
            "no Hello came within 5 s",
        );
    };
    let (mut stream, said) = match heard {
        Ok(heard) => heard,
        Err(Stop::Fault { code, detail }) => return close(&connection, code, &detail),
        Err(_) => return,
    };
    match said.and_then(|hello| Ok((agree(&service, &hello)?, hello))) {
        Ok((agreed, hello)) => welcome(service, connection, stream, &hello, agreed).await,
        Err(reject) => refuse(&connection, &mut stream, &reject).await,
    }
}

/// The client's first frame on its first stream.
async fn hear(connection: &Connection) -> Result<(Stream, Result<Hello, HelloReject>), Stop> {
    let Ok((sender, receiver)) = connection.accept_stream().await else {
        return Err(Stop::Gone);
    };
    let mut stream = Stream { sender, receiver };
    stream.sender.set_priority(CONTROL_PRIORITY);
    let Some(frame) = stream.receiver.next().await? else {
        return Err(Stop::fault(
            ErrorCode::PROTOCOL_VIOLATION,
            "the stream ended before Hello",
        ));
    };
    let hello = Hello::decode_frame(&frame.header, &frame.body);
    Ok((
        stream,
        hello.map_err(|error| hello::reject(error.code(), &error.to_string())),
    ))
}

fn agree(service: &Service, hello: &Hello) -> Result<Agreed, HelloReject> {
    if service.is_draining() {
        return Err(hello::reject(
            ErrorCode::DRAINING,
            "the broker is shutting down",
        ));
    }
    let batch_bytes_max = service.batch_bytes_max();
    hello::negotiate(
        hello,
        Own {
            cluster: service.cluster(),
            batch_bytes_max,
        },
    )
}

fn close(connection: &Connection, code: ErrorCode, detail: &str) {
    tracing::info!(remote = %connection.remote(), %code, detail, "client refused");
    connection.close(code, detail);
}

async fn refuse(connection: &Connection, stream: &mut Stream, reject: &HelloReject) {
    // The close below carries code and text too, for a client that does not get this in time.
    if stream.send(reject).await.is_ok() {
        drop(tokio::time::timeout(FAREWELL, stream.finish()).await);
    }
    close(connection, reject.code, reject.text.as_str());
}

async fn welcome(
    service: Arc<Service>,
    connection: Connection,
    mut stream: Stream,
    hello: &Hello,
    agreed: Agreed,
) {
    let now = Duration::from_micros(service.clock().now_micros());
    let age_max = service.limits().session_age_max;
    let lifetime = Lifetime::new(now, connection.certificate_not_after(), age_max);
    let id = service.next_session();
    tracing::info!(
        session = %id,
        principal = %connection.principal(),
        remote = %connection.remote(),
        client = printable(hello.client_name.as_str()),
        sdk = printable(hello.sdk.as_str()),
        "client connected"
    );
    let batch_bytes_max = agreed.batch_bytes_max;
    let established = Established {
        id,
        batch_bytes_max,
        lifetime,
    };
    let ack = acknowledge(&service, &connection, agreed, &established);
    connection.raise_limits(service.limits().streams_per_connection_max);
    stream.receiver.set_limits(Limits {
        batch_bytes_max,
        established: true,
    });
    if stream.send(&ack).await.is_ok() {
        Session::new(service, connection, established)
            .run(stream)
            .await;
    }
}

fn acknowledge(
    service: &Service,
    connection: &Connection,
    agreed: Agreed,
    established: &Established,
) -> HelloAck {
    let topology = service.topology();
    let end_after = established.lifetime.end_after.as_millis();
    HelloAck {
        version: agreed.version,
        features: agreed.features,
        kinds: agreed.kinds,
        cluster: Text::clipped(service.cluster()),
        broker: service.broker(),
        session_id: established.id,
        principal: Text::clipped(&connection.principal().to_string()),
        session_deadline_ms: u64::try_from(end_after).unwrap_or(u64::MAX),
        max_frame: agreed.batch_bytes_max,
        max_streams: service.limits().streams_per_connection_max,
        keepalive_ms: KEEPALIVE_MS,
        topology_epoch: topology.epoch(),
        brokers: metadata::describe::brokers(&topology),
        now: HybridTime::from_parts(service.clock().now_micros(), 0),
    }
}
