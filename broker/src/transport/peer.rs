//! The peer plane's endpoint: brokers listen and dial on one socket, and both prove who they are.
//!
//! A connection leaves this file only if the other side's certificate comes from the peer
//! authority and names a broker of this cluster; a dialled one only if it names the very broker
//! that was meant.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use quinn::Endpoint;
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use quorate_protocol::ErrorCode;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::sync::mpsc;

use crate::auth::TrustDomain;
use crate::clock::Clock;
use crate::config::TlsMaterial;
use crate::transport::admission::Gate;
use crate::transport::admission::Places;
use crate::transport::bind::BindError;
use crate::transport::bind::Parts;
use crate::transport::bind::Site;
use crate::transport::bind::bind;
use crate::transport::connection::ConnectionStats;
use crate::transport::connection::Established;
use crate::transport::connection::Link;
use crate::transport::door::ACCEPTED_MAX;
use crate::transport::door::Door;
use crate::transport::handshake::Reception;
use crate::transport::handshake::identity_of;
use crate::transport::lost::ConnectionLost;
use crate::transport::lost::close_reason;
use crate::transport::lost::to_varint;
use crate::transport::plane::Plane;
use crate::transport::quic;
use crate::transport::quic::PEER_STREAMS;
use crate::transport::quic::Path;
use crate::transport::quic::receive_window;
use crate::transport::receiver::FrameReceiver;
use crate::transport::report::Reporter;
use crate::transport::sender::FrameSender;
use crate::transport::settings::Limits;
use crate::transport::settings::Timings;
use crate::transport::tls;

/// What TLS is told as the server's name: brokers are told apart by their certificates' URI.
const SERVER_NAME: &str = "peer.invalid";

/// Everything a peer endpoint needs to know before it is bound.
#[derive(Debug)]
pub struct PeerConfig {
    /// The cluster whose brokers are accepted.
    pub cluster: TrustDomain,
    /// PEM text of certificates and keys.
    pub material: TlsMaterial,
    /// Caps.
    pub limits: Limits,
    /// Deadlines.
    pub timings: Timings,
}

/// What a connection between brokers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Control and lanes: a little of everything, and soon.
    Replication,
    /// Snapshots: a lot, and not in a hurry.
    Snapshots,
}

/// Why a broker cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address means nothing to this machine.
    #[error("the address {address} cannot be used: {reason}")]
    Address {
        /// The configured address.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// Nobody completed the handshake in time.
    #[error("no answer from {address}")]
    Timeout {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// The handshake failed.
    #[error("the handshake with {address} failed: {lost}")]
    Handshake {
        /// Where it was tried.
        address: SocketAddr,
        /// What happened.
        lost: ConnectionLost,
    },
    /// Somebody else is there.
    #[error("at {address} there is not broker `{expected}`: {found}")]
    Stranger {
        /// Where it was tried.
        address: SocketAddr,
        /// Who was meant.
        expected: String,
        /// Who was found, or what is wrong with the certificate.
        found: String,
    },
}

/// Listens for the other brokers of the cluster, and dials them.
///
/// Its tasks run on the tracker it was given; they end once it is closed and dropped.
pub struct PeerEndpoint {
    endpoint: Endpoint,
    address: SocketAddr,
    name: String,
    cluster: TrustDomain,
    accepted: Mutex<mpsc::Receiver<Established>>,
    dialling: Arc<QuicClientConfig>,
    clock: Arc<dyn Clock>,
    timings: Timings,
}

impl fmt::Debug for PeerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerEndpoint")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl PeerEndpoint {
    /// Listens on a bound socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The certificates or the socket cannot be used.
    pub fn bind(config: PeerConfig, parts: Parts) -> Result<Self, BindError> {
        let tracker = parts.tracker.clone();
        let clock = parts.clock.clone();
        let site = Site {
            plane: Plane::Peer,
            cluster: &config.cluster,
            material: &config.material,
            idle: config.timings.idle,
        };
        let bound = bind(&site, parts)?;
        let dialling = Arc::new(tls::dial_config(&bound.own, &config.material)?);
        let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        let door = Door {
            endpoint: bound.endpoint.clone(),
            loopback: bound.loopback,
            network: bound.network,
            gate: Gate::new(config.limits.clone()),
            reception: Arc::new(Reception {
                plane: Plane::Peer,
                cluster: config.cluster.clone(),
                places: Places::new(config.limits),
                timings: config.timings.clone(),
                clock: clock.clone(),
                reporter: Reporter::default(),
            }),
            sender,
            tracker: tracker.clone(),
        };
        tracker.spawn(door.run());
        Ok(Self {
            endpoint: bound.endpoint,
            address: bound.address,
            name: bound.own.name().to_owned(),
            cluster: config.cluster,
            accepted: Mutex::new(accepted),
            dialling,
            clock,
            timings: config.timings,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The name in this broker's own certificate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next connection of a broker whose certificate was verified. `None`: the endpoint was
    /// closed, or it died. Cancel-safe.
    pub async fn accept(&self) -> Option<PeerConnection> {
        let established = self.accepted.lock().await.recv().await?;
        Some(self.connection(established))
    }

    /// Connects to the broker of this name at an address such as `host:port`, within `patience`.
    /// Dropping the future gives up.
    ///
    /// # Errors
    /// It cannot be reached, or somebody else is there.
    pub async fn dial(
        &self,
        address: &str,
        expected: &str,
        traffic: Traffic,
        patience: Duration,
    ) -> Result<PeerConnection, DialError> {
        let address = self.resolve(address).await?;
        let handshake = |lost| DialError::Handshake { address, lost };
        let shape = match traffic {
            Traffic::Replication => quic::PEER_DIALLED,
            Traffic::Snapshots => quic::SNAPSHOT_DIALLED,
        };
        let path = Path {
            idle: self.timings.idle,
            loopback: address.ip().to_canonical().is_loopback(),
        };
        let config = quic::client_config(shape, self.dialling.clone(), path);
        let connecting = self.endpoint.connect_with(config, address, SERVER_NAME);
        let connecting = connecting.map_err(|error| DialError::Address {
            address: address.to_string(),
            reason: error.to_string(),
        })?;
        let quinn = tokio::time::timeout(patience, connecting)
            .await
            .map_err(|_| DialError::Timeout { address })?
            .map_err(|error| handshake(error.into()))?;
        self.recognise(quinn, expected)
    }

    /// Closes the endpoint and every connection, with a code and a text.
    pub fn close(&self, code: ErrorCode, text: &str) {
        self.endpoint.close(to_varint(code), close_reason(text));
    }

    /// Waits until every connection is gone and its last packets are sent.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }

    fn recognise(
        &self,
        quinn: quinn::Connection,
        expected: &str,
    ) -> Result<PeerConnection, DialError> {
        let stranger = |found: String| DialError::Stranger {
            address: quinn.remote_address(),
            expected: expected.to_owned(),
            found,
        };
        let found = match identity_of(&quinn, &self.cluster) {
            Ok((found, not_after)) if Plane::Peer.admits(&found) && found.name() == expected => {
                return Ok(self.connection(Established {
                    quinn,
                    principal: found,
                    not_after,
                    place: None,
                }));
            }
            Ok((found, _)) => stranger(format!("its certificate names {found}")),
            Err(error) => stranger(error.to_string()),
        };
        let text = found.to_string();
        quinn.close(to_varint(ErrorCode::IDENTITY_REJECTED), close_reason(&text));
        Err(found)
    }

    fn connection(&self, established: Established) -> PeerConnection {
        let name = established.principal.name().into();
        let link = Link::new(established, self.clock.clone(), self.timings.clone());
        PeerConnection {
            link: Arc::new(link),
            name,
        }
    }

    /// The first address that this socket can send to.
    async fn resolve(&self, address: &str) -> Result<SocketAddr, DialError> {
        let unusable = |reason: String| DialError::Address {
            address: address.to_owned(),
            reason,
        };
        let found = tokio::net::lookup_host(address)
            .await
            .map_err(|error| unusable(error.to_string()))?;
        let mut reachable = found.filter(|to| can_reach(self.address.ip(), to.ip()));
        let none = || unusable("it has no address of this socket's family".to_owned());
        reachable.next().ok_or_else(none)
    }
}

const fn can_reach(from: IpAddr, to: IpAddr) -> bool {
    match from {
        IpAddr::V4(_) => to.is_ipv4(),
        IpAddr::V6(from) => to.is_ipv6() || from.is_unspecified(),
    }
}

/// A connection to a broker of this cluster, whose certificate was verified.
///
/// It closes with code 0 when this, its clones and all its streams are dropped.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    link: Arc<Link>,
    name: Arc<str>,
}

/// Does not keep its connection open.
#[derive(Clone, Debug)]
pub struct WeakPeerConnection {
    link: Weak<Link>,
    name: Arc<str>,
}

impl WeakPeerConnection {
    /// The connection, if something keeps it open.
    #[must_use]
    pub fn upgrade(&self) -> Option<PeerConnection> {
        Some(PeerConnection {
            link: self.link.upgrade()?,
            name: self.name.clone(),
        })
    }
}

impl PeerConnection {
    /// What frames of a greeted peer may hold.
    pub const LIMITS: quorate_protocol::Limits = quorate_protocol::Limits {
        batch_bytes_max: quic::PEER_BATCH_BYTES_MAX,
        established: true,
    };

    /// The broker's name, from its certificate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the broker is.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.link.quinn.remote_address()
    }

    /// Opens a stream; waits until the other side allows one more. The first stream's frames are
    /// held to the limits before the greeting. Cancel-safe.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn open_stream(&self) -> Result<(FrameSender, FrameReceiver), ConnectionLost> {
        Ok(self.frames(self.link.quinn.open_bi().await?))
    }

    /// The next stream the other side opens. Its frames are held to the limits before the
    /// greeting on the first stream, until [`FrameReceiver::set_limits`] raises them. Cancel-safe.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn accept_stream(&self) -> Result<(FrameSender, FrameReceiver), ConnectionLost> {
        Ok(self.frames(self.link.quinn.accept_bi().await?))
    }

    /// Lets the other side open all streams a connection has. Called once, with the greeting.
    pub fn raise_limits(&self) {
        let quinn = &self.link.quinn;
        quinn.set_receive_window(receive_window(PEER_STREAMS, quic::PEER.stream_window));
        quinn.set_max_concurrent_bi_streams(VarInt::from_u32(PEER_STREAMS));
    }

    /// Closes the connection and all its streams, with a code and a text.
    pub fn close(&self, code: ErrorCode, text: &str) {
        self.link.close(code, text);
    }

    /// Waits until the connection is gone. Cancel-safe.
    pub async fn closed(&self) -> ConnectionLost {
        self.link.quinn.closed().await.into()
    }

    /// Why the connection is gone; `None` while it is not.
    #[must_use]
    pub fn lost(&self) -> Option<ConnectionLost> {
        self.link.quinn.close_reason().map(Into::into)
    }

    /// A handle that does not keep the connection open.
    #[must_use]
    pub fn downgrade(&self) -> WeakPeerConnection {
        WeakPeerConnection {
            link: Arc::downgrade(&self.link),
            name: self.name.clone(),
        }
    }

    /// Its figures so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.link.stats()
    }

    fn frames(
        &self,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
    ) -> (FrameSender, FrameReceiver) {
        let limits = quorate_protocol::Limits {
            established: receive.id().index() > 0,
            ..Self::LIMITS
        };
        (
            FrameSender::new(send, self.link.clone()),
            FrameReceiver::new(receive, self.link.clone(), limits),
        )
    }
}
