//! A listener on loopback, and raw QUIC clients that dial it.

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::ConnectionError;
use quinn::Endpoint;
use quinn::crypto::rustls::QuicClientConfig;
use quorate_broker::auth::TrustDomain;
use quorate_broker::clock::Clock;
use quorate_broker::clock::SystemClock;
use quorate_broker::config::TlsMaterial;
use quorate_broker::transport::BindError;
use quorate_broker::transport::Config;
use quorate_broker::transport::Connection;
use quorate_broker::transport::Crypto;
use quorate_broker::transport::Limits;
use quorate_broker::transport::Listener;
use quorate_broker::transport::Parts;
use quorate_broker::transport::Timings;
use quorate_protocol::ErrorCode;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use tokio_util::task::TaskTracker;

use crate::authority::Authority;
use crate::authority::Identity;
use crate::authority::Leaf;

/// What a test waits for at most; nothing in a passing test takes that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The machine's time, moved by a fixed amount.
#[derive(Debug)]
pub(crate) struct ShiftedClock(SystemClock, i64);

impl ShiftedClock {
    pub(crate) fn by_micros(micros: i64) -> Self {
        Self(SystemClock::new(), micros)
    }
}

impl Clock for ShiftedClock {
    fn now_micros(&self) -> u64 {
        self.0.now_micros().checked_add_signed(self.1).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

/// How a listener differs from the usual one.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) timings: Timings,
    pub(crate) clock_shift_days: i64,
}

pub(crate) struct World {
    pub(crate) peer_authority: Authority,
    pub(crate) client_authority: Authority,
    pub(crate) listener: Arc<Listener>,
    pub(crate) tracker: TaskTracker,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let peer_authority = Authority::new();
        let client_authority = Authority::new();
        let broker = broker_certificate(&peer_authority);
        let material = material(&peer_authority, &client_authority, &broker);
        let tracker = TaskTracker::new();
        let listener = listen(setup, material, &tracker).unwrap();
        Self {
            peer_authority,
            client_authority,
            listener: Arc::new(listener),
            tracker,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// An ordinary client's identity.
    pub(crate) fn alice(&self) -> Identity {
        self.client_authority.client("spiffe://prod/client/alice")
    }

    /// The TLS configuration of an ordinary client.
    pub(crate) fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        self.tls_with(identity, aws_lc_rs::default_provider())
    }

    pub(crate) fn tls_with(
        &self,
        identity: Option<&Identity>,
        provider: CryptoProvider,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.peer_authority.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.private_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"quorate/1".to_vec()];
        tls
    }

    /// Dials, and leaves the listener's end to the listener.
    pub(crate) async fn dial(&self, tls: ClientConfig) -> Result<Client, ConnectionError> {
        dial_from("127.0.0.1:0", self.address(), tls).await
    }

    /// Both ends of a good connection.
    pub(crate) async fn connect(&self) -> (Client, Connection) {
        let client = self.dial(self.tls(Some(&self.alice()))).await.unwrap();
        let server = within(self.listener.accept()).await.unwrap();
        (client, server)
    }

    /// What a client with this identity is told.
    pub(crate) async fn refusal(&self, identity: Option<&Identity>) -> Refusal {
        self.refusal_of(self.tls(identity)).await
    }

    pub(crate) async fn refusal_of(&self, tls: ClientConfig) -> Refusal {
        let told = async {
            match self.dial(tls).await {
                Ok(client) => client.connection.closed().await,
                Err(error) => error,
            }
        };
        tokio::select! {
            accepted = self.listener.accept() => panic!("accepted: {accepted:?}"),
            told = within(told) => Refusal::from(told),
        }
    }
}

/// A raw client.
pub(crate) struct Client {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: quinn::Connection,
}

/// What a refused client learns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A TLS alert.
    Alert(u64),
    /// A code of ours, and its text.
    Code(ErrorCode, String),
}

impl From<ConnectionError> for Refusal {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionClosed(close) => {
                let code = u64::from(close.error_code);
                assert_eq!(code >> 8, 1, "not a TLS alert: {close}");
                assert!(!close.reason.is_empty(), "an alert comes with its reason");
                Self::Alert(code & 0xff)
            }
            ConnectionError::ApplicationClosed(close) => {
                let code = u16::try_from(close.error_code.into_inner()).unwrap();
                let text = String::from_utf8(close.reason.to_vec()).unwrap();
                Self::Code(ErrorCode::new(code), text)
            }
            other => panic!("neither alert nor code: {other}"),
        }
    }
}

pub(crate) fn broker_certificate(authority: &Authority) -> Identity {
    authority.issue(Leaf {
        usages: vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        ..Leaf::named(&["spiffe://prod/broker/one"])
    })
}

pub(crate) fn material(peer: &Authority, client: &Authority, broker: &Identity) -> TlsMaterial {
    TlsMaterial {
        peer_ca: peer.pem.clone().into_bytes(),
        client_ca: client.pem.clone().into_bytes(),
        certificate: broker.pem.clone().into_bytes(),
        key: broker.key.serialize_pem().into_bytes(),
    }
}

pub(crate) fn listen(
    setup: Setup,
    material: TlsMaterial,
    tracker: &TaskTracker,
) -> Result<Listener, BindError> {
    let shift = setup.clock_shift_days * 86_400 * 1_000_000;
    let config = Config {
        cluster: TrustDomain::parse("prod").unwrap(),
        material,
        limits: setup.limits,
        timings: setup.timings,
    };
    let parts = Parts {
        socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
        crypto: Crypto::aws_lc(),
        clock: Arc::new(ShiftedClock(SystemClock::new(), shift)),
        tracker: tracker.clone(),
    };
    Listener::bind(config, parts)
}

pub(crate) async fn dial_from(
    local: &str,
    to: SocketAddr,
    tls: ClientConfig,
) -> Result<Client, ConnectionError> {
    let endpoint = Endpoint::client(local.parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let connecting = endpoint.connect_with(config, to, "localhost").unwrap();
    Ok(Client {
        connection: connecting.await?,
        endpoint,
    })
}

/// Fails instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it happens in time")
}
