//! A broker with real certificates and a real folder, and clients for it.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::InitMode;
use quorate_broker::StartError;
use quorate_broker::config::Config;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::Initialised;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use crate::client::Client;

/// What a test waits for at most; nothing in a passing test takes that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Fails instead of hanging.
pub(crate) async fn within<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future.into_future())
        .await
        .expect("it happens in time")
}

/// A runtime like the product's; dropping it kills what runs in it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Certificates and a folder that outlive a broker.
#[derive(Clone)]
pub(crate) struct Site {
    dir: Arc<TempDir>,
    certificates: Initialised,
    settings: Vec<(String, String)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With settings other than the defaults.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let request = InitRequest {
            cluster: "test".to_owned(),
            out: dir.path().join("pki"),
            brokers: vec![BrokerRequest {
                name: "one".to_owned(),
                hosts,
            }],
            development: true,
            now: now(),
        };
        let certificates = quorate_certs::init(&request).unwrap();
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            dir: Arc::new(dir),
            certificates,
            settings: settings.iter().map(owned).collect(),
        }
    }

    /// The same site with one more setting.
    pub(crate) fn with_setting(&self, key: &str, value: &str) -> Self {
        let mut site = self.clone();
        site.settings.push((key.to_owned(), value.to_owned()));
        site
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn config(&self) -> Config {
        let issued = &self.certificates.brokers[0];
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let mut flags: Vec<(String, String)> = [
            ("node.id", "1".to_owned()),
            ("node.cluster", "test".to_owned()),
            ("node.data_dir", path(&self.data_dir())),
            ("listeners.client", "127.0.0.1:0".to_owned()),
            ("listeners.peer", "127.0.0.1:0".to_owned()),
            ("tls.peer_ca_file", path(&issued.ca_file)),
            (
                "tls.client_ca_file",
                path(issued.client_ca_file.as_ref().unwrap()),
            ),
            ("tls.cert_file", path(&issued.cert_file)),
            ("tls.key_file", path(issued.key_file.as_ref().unwrap())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        for (key, value) in &self.settings {
            flags.retain(|(set, _)| set != key);
            flags.push((key.clone(), value.clone()));
        }
        Config::load(None, [], &flags).unwrap()
    }

    pub(crate) async fn try_start(&self, mode: InitMode) -> Result<Broker, StartError> {
        within(Broker::start(self.config(), mode, Environment::machine())).await
    }

    pub(crate) async fn start(&self) -> Broker {
        self.try_start(InitMode::Init).await.unwrap()
    }

    /// How long from now an administrator's certificate is valid.
    pub(crate) fn admin_lifetime(&self) -> Duration {
        self.certificates
            .admin
            .not_after
            .duration_since(now())
            .unwrap()
    }

    /// CA, certificate and key of an administrator.
    pub(crate) fn admin_files(&self) -> (PathBuf, PathBuf, PathBuf) {
        let admin = &self.certificates.admin;
        (
            admin.ca_file.clone(),
            admin.cert_file.clone(),
            admin.key_file.clone().unwrap(),
        )
    }

    pub(crate) fn tls(&self) -> rustls::ClientConfig {
        tls_of(&self.certificates)
    }

    /// A connected and greeted client.
    pub(crate) async fn client(&self, address: SocketAddr) -> Client {
        within(Client::connect(self.tls(), address)).await
    }
}

/// What an administrator's client connects with.
pub(crate) fn tls_of(certificates: &Initialised) -> rustls::ClientConfig {
    let admin = &certificates.admin;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&admin.ca_file).unwrap())
        .unwrap();
    let chain = CertificateDer::pem_file_iter(&admin.cert_file).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(admin.key_file.as_ref().unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"quorate/1".to_vec()];
    tls
}

fn now() -> SystemTime {
    let micros = Environment::machine().clock.now_micros();
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

/// A broker with one client, for tests that need no more.
pub(crate) async fn broker_and_client(site: &Site) -> (Broker, Client) {
    let broker = site.start().await;
    let client = site.client(broker.client_address()).await;
    (broker, client)
}
