//! A broker with real certificates and a real folder, and clients for it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use quorate::Client;
use quorate::ClientBuilder;
use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::InitMode;
use quorate_broker::config::Config;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::Initialised;
use tempfile::TempDir;

/// What a test waits for at most; nothing in a passing test takes that long.
const PATIENCE: Duration = Duration::from_secs(40);

/// Fails instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it happens in time")
}

/// Certificates and a folder that outlive a broker.
#[derive(Clone)]
pub(crate) struct Site {
    dir: Arc<TempDir>,
    pub(crate) certificates: Initialised,
    settings: Vec<(String, String)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::named("test")
    }

    pub(crate) fn named(cluster: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let request = InitRequest {
            cluster: cluster.to_owned(),
            out: dir.path().join("pki"),
            brokers: vec![BrokerRequest {
                name: "one".to_owned(),
                hosts,
            }],
            development: true,
            now: now(),
        };
        Self {
            certificates: quorate_certs::init(&request).unwrap(),
            dir: Arc::new(dir),
            settings: vec![("limits.auto_create_partitions".to_owned(), "1".to_owned())],
        }
    }

    pub(crate) fn with_setting(&self, key: &str, value: &str) -> Self {
        let mut site = self.clone();
        site.settings.retain(|(set, _)| set != key);
        site.settings.push((key.to_owned(), value.to_owned()));
        site
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn config(&self) -> Config {
        let issued = &self.certificates.brokers[0];
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let flags = [
            ("node.id", "1".to_owned()),
            ("node.cluster", self.cluster()),
            ("node.data_dir", text(&self.dir.path().join("data"))),
            ("listeners.client", "127.0.0.1:0".to_owned()),
            ("listeners.peer", "127.0.0.1:0".to_owned()),
            ("tls.peer_ca_file", text(&issued.ca_file)),
            (
                "tls.client_ca_file",
                text(issued.client_ca_file.as_ref().unwrap()),
            ),
            ("tls.cert_file", text(&issued.cert_file)),
            ("tls.key_file", text(issued.key_file.as_ref().unwrap())),
        ];
        let mut flags = flags.map(|(key, value)| (key.to_owned(), value)).to_vec();
        for (key, value) in &self.settings {
            flags.retain(|(set, _)| set != key);
            flags.push((key.clone(), value.clone()));
        }
        Config::load(None, [], &flags).unwrap()
    }

    fn cluster(&self) -> String {
        let identity = &self.certificates.admin.identity;
        let rest = identity.strip_prefix("spiffe://").unwrap();
        rest.split('/').next().unwrap().to_owned()
    }

    pub(crate) async fn start(&self) -> Broker {
        let started = Broker::start(self.config(), InitMode::Init, Environment::machine());
        within(started).await.unwrap()
    }

    /// A builder with the admin's identity.
    pub(crate) fn builder(&self, address: SocketAddr) -> ClientBuilder {
        let admin = &self.certificates.admin;
        Client::builder()
            .servers(&address.to_string())
            .ca_file(&admin.ca_file)
            .cert_file(&admin.cert_file)
            .key_file(admin.key_file.as_ref().unwrap())
    }

    pub(crate) async fn client(&self, address: SocketAddr) -> Client {
        within(self.builder(address).into_future()).await.unwrap()
    }
}

pub(crate) fn now() -> SystemTime {
    let micros = Environment::machine().clock.now_micros();
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

/// A broker with one client, for tests that need no more.
pub(crate) async fn broker_and_client(site: Site) -> (World, Client) {
    let broker = site.start().await;
    let client = site.client(broker.client_address()).await;
    (
        World {
            broker,
            _site: site,
        },
        client,
    )
}

/// What must outlive a test's client.
pub(crate) struct World {
    pub(crate) broker: Broker,
    _site: Site,
}
