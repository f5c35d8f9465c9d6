//! Dialling a broker: handshake, Hello, and the answer that alone makes a connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use quorate_protocol::Bounded;
use quorate_protocol::ErrorCode;
use quorate_protocol::Hello;
use quorate_protocol::HelloAck;
use quorate_protocol::HelloReject;
use quorate_protocol::InstanceId;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use quorate_protocol::PROTOCOL_VERSION;
use quorate_protocol::Text;
use tokio::sync::mpsc;

use crate::config::ClientOptions;
use crate::connection::control::Control;
use crate::connection::endpoint::Endpoints;
use crate::connection::frames::FrameReceiver;
use crate::connection::frames::FrameSender;
use crate::connection::identity::Identity;
use crate::connection::link::Link;
use crate::connection::link::REQUESTS_MAX;
use crate::connection::link::established;
use crate::connection::refusal::refusal;
use crate::connection::refusal::silence;
use crate::error::Error;
use crate::error::Result;
use crate::event::EventBus;
use crate::topology::Topology;

const SDK: &str = concat!("quorate-rust/", env!("CARGO_PKG_VERSION"));
/// The largest batch this client takes.
const BATCH_BYTES_MAX: u32 = 8 << 20;
/// How long the first address of a host may be silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(100);
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

/// Every frame kind with the newest version this client knows.
const KINDS: [Kind; 22] = [
    Kind::HELLO,
    Kind::HELLO_ACK,
    Kind::HELLO_REJECT,
    Kind::REQUEST,
    Kind::REPLY,
    Kind::PING,
    Kind::PONG,
    Kind::TOPOLOGY_UPDATE,
    Kind::GO_AWAY,
    Kind::STREAM_OPEN,
    Kind::STREAM_ACCEPT,
    Kind::STREAM_REJECT,
    Kind::PUBLISH,
    Kind::ACKS,
    Kind::NACK,
    Kind::REWIND,
    Kind::CREDIT,
    Kind::RECORDS,
    Kind::PROGRESS,
    Kind::GAP,
    Kind::END,
    Kind::READ_END,
];

/// A handshake on its way.
type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Dialled>> + Send + 'a>>;

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    options: ClientOptions,
    endpoints: Endpoints,
    instance: InstanceId,
    topology: Arc<Topology>,
    events: EventBus,
}

/// A new connection, and the task that must run for it.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) link: Arc<Link>,
    pub(crate) ack: HelloAck,
    control: Control,
}

impl Dialled {
    /// Serves the control stream until the connection ends; says why.
    pub(crate) async fn serve(self) -> Error {
        self.control.run().await
    }
}

impl Dialer {
    pub(crate) fn new(
        options: ClientOptions,
        instance: InstanceId,
        topology: Arc<Topology>,
        events: EventBus,
    ) -> Self {
        Self {
            options,
            endpoints: Endpoints::default(),
            instance,
            topology,
            events,
        }
    }

    /// A value that changes when the identity files do.
    pub(crate) fn identity_fingerprint(&self) -> Result<u64> {
        Identity::load(&self.options).map(|identity| identity.fingerprint)
    }

    /// Connects to `host:port`; done when the broker has accepted this client.
    pub(crate) async fn dial(&self, server: &str) -> Result<Dialled> {
        let identity = Identity::load(&self.options)?;
        let limit = self.options.connect_timeout;
        match tokio::time::timeout(limit, self.try_addresses(server, &identity)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(silence(
                server,
                &format!("no answer over UDP within {limit:?}"),
            )),
        }
    }

    async fn try_addresses(&self, server: &str, identity: &Identity) -> Result<Dialled> {
        let unresolved = |why: String| {
            Error::new(
                ErrorCode::CONNECT,
                format!("cannot resolve {server}: {why}"),
            )
            .with_help("check the host name in client.servers")
        };
        let addresses = tokio::net::lookup_host(server)
            .await
            .map_err(|error| unresolved(error.to_string()))?;
        let mut addresses = addresses.peekable();
        let mut dials: Vec<Dialling<'_>> = Vec::new();
        let mut last = unresolved("it has no address".to_owned());
        loop {
            match addresses.next() {
                Some(address) => dials.push(Box::pin(self.handshake(server, address, identity))),
                None if dials.is_empty() => return Err(last),
                None => {}
            }
            // A host with several addresses may have one that is silent.
            let more = addresses.peek().is_some();
            tokio::select! {
                dialled = poll_fn(|context| poll_first(&mut dials, context)) => match dialled {
                    Ok(dialled) => return Ok(dialled),
                    Err(error) => last = error,
                },
                () = tokio::time::sleep(STAGGER), if more => {}
            }
        }
    }

    async fn handshake(
        &self,
        server: &str,
        address: SocketAddr,
        identity: &Identity,
    ) -> Result<Dialled> {
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let connection = self
            .endpoints
            .connect(address, host, identity)?
            .await
            .map_err(|reason| refusal(server, &reason))?;
        let greeted = self.greet(server, &connection, identity).await;
        if let Err(error) = &greeted {
            connection.close(quinn::VarInt::from_u32(0), error.code().name().as_bytes());
        }
        greeted
    }

    async fn greet(
        &self,
        server: &str,
        connection: &quinn::Connection,
        identity: &Identity,
    ) -> Result<Dialled> {
        let address: Arc<str> = Arc::from(server);
        let limits = Limits {
            batch_bytes_max: BATCH_BYTES_MAX,
            established: false,
        };
        let opened = connection.open_bi().await;
        let (send, receive) = opened.map_err(|reason| refusal(server, &reason))?;
        let mut sender = FrameSender::new(send, Arc::clone(&address));
        let mut receiver = FrameReceiver::new(receive, Arc::clone(&address), limits);
        sender.set_priority(crate::connection::PRIORITY_CONTROL);
        let hello = self.hello(identity);
        let answered = async {
            sender.send(&hello).await?;
            receiver.next().await
        };
        let Ok(Some(frame)) = answered.await else {
            // The reason of a refusal is the connection's, not the stream's.
            return Err(refusal(server, &connection.closed().await));
        };
        let ack: HelloAck = match frame.header.kind {
            Kind::HELLO_ACK => frame.decode()?,
            Kind::HELLO_REJECT => return Err(hello_rejected(server, &frame.decode()?)),
            kind => {
                let message = format!("{server} answered Hello with {kind:?}");
                return Err(Error::new(ErrorCode::PROTOCOL_VIOLATION, message));
            }
        };
        receiver.set_limits(established(&ack));
        let (calls, waiting_calls) = mpsc::channel(REQUESTS_MAX);
        let link = Arc::new(Link::new(connection.clone(), address, &ack, calls));
        let keepalive = Duration::from_millis(u64::from(ack.keepalive_ms)).max(KEEPALIVE_MIN);
        let control = Control {
            link: Arc::clone(&link),
            sender,
            receiver,
            calls: waiting_calls,
            topology: Arc::clone(&self.topology),
            events: self.events.clone(),
            keepalive,
        };
        Ok(Dialled { link, ack, control })
    }

    fn hello(&self, identity: &Identity) -> Hello {
        Hello {
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            features: 0,
            sdk: Text::clipped(SDK),
            client_name: Text::clipped(&self.options.client_id),
            instance_id: self.instance,
            cluster: Some(Text::clipped(&identity.trust_domain)),
            max_frame: BATCH_BYTES_MAX,
            kinds: Bounded::clipped(KINDS.map(|kind| (kind, 1))),
        }
    }

    /// Closes every connection; waits until the brokers know.
    pub(crate) async fn close(&self) {
        self.endpoints.close().await;
    }
}

/// Takes out whichever is done first.
fn poll_first(dials: &mut Vec<Dialling<'_>>, context: &mut Context<'_>) -> Poll<Result<Dialled>> {
    for at in 0..dials.len() {
        let polled = dials.get_mut(at).map(|dial| dial.as_mut().poll(context));
        if let Some(Poll::Ready(dialled)) = polled {
            drop(dials.swap_remove(at));
            return Poll::Ready(dialled);
        }
    }
    Poll::Pending
}

fn hello_rejected(server: &str, reject: &HelloReject) -> Error {
    let text = reject.text.as_str();
    let why = if text.is_empty() {
        reject.code.name()
    } else {
        text
    };
    let error = Error::new(reject.code, format!("{server} refused this client: {why}"));
    let error = error.with_retry_after_ms(reject.retry_after_ms);
    if reject.code == ErrorCode::UNSUPPORTED_VERSION {
        let (min, max) = (reject.min_version, reject.max_version);
        return error.with_help(format!(
            "the broker speaks protocol versions {min} to {max}, this client {PROTOCOL_VERSION}"
        ));
    }
    error
}
