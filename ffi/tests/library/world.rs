//! A broker with real certificates, and C programs that know where it is.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::InitMode;
use quorate_broker::config::Config;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::Initialised;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A broker on a thread of its own, until this value goes.
pub(crate) struct World {
    dir: TempDir,
    certificates: Initialised,
    runtime: Runtime,
    broker: Option<Broker>,
    address: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = crate::place::scratch();
        let environment = Environment::machine();
        let micros = environment.clock.now_micros();
        let request = InitRequest {
            cluster: "test".to_owned(),
            out: dir.path().join("pki"),
            brokers: vec![BrokerRequest {
                name: "one".to_owned(),
                hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            }],
            development: true,
            now: SystemTime::UNIX_EPOCH + Duration::from_micros(micros),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut world = Self {
            certificates: quorate_certs::init(&request).unwrap(),
            dir,
            runtime,
            broker: None,
            address: "127.0.0.1:0".to_owned(),
        };
        world.start();
        world
    }

    /// Starts the broker, where it was before.
    pub(crate) fn start(&mut self) {
        let starting = Broker::start(self.config(), InitMode::Init, Environment::machine());
        let broker = self.runtime.block_on(starting).unwrap();
        self.address = broker.client_address().to_string();
        self.broker = Some(broker);
    }

    /// Stops the broker.
    pub(crate) fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            self.runtime.block_on(broker.drain(Duration::ZERO));
        }
    }

    fn config(&self) -> Config {
        let issued = &self.certificates.brokers[0];
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let flags = [
            ("node.id", "1".to_owned()),
            ("node.cluster", self.cluster()),
            ("node.data_dir", text(&self.dir.path().join("data"))),
            ("listeners.client", self.address.clone()),
            ("listeners.peer", "127.0.0.1:0".to_owned()),
            ("limits.auto_create_partitions", "1".to_owned()),
            ("tls.peer_ca_file", text(&issued.ca_file)),
            (
                "tls.client_ca_file",
                text(issued.client_ca_file.as_ref().unwrap()),
            ),
            ("tls.cert_file", text(&issued.cert_file)),
            ("tls.key_file", text(issued.key_file.as_ref().unwrap())),
        ];
        let flags = flags.map(|(key, value)| (key.to_owned(), value));
        Config::load(None, [], &flags).unwrap()
    }

    fn cluster(&self) -> String {
        let identity = &self.certificates.admin.identity;
        let rest = identity.strip_prefix("spiffe://").unwrap();
        rest.split('/').next().unwrap().to_owned()
    }

    /// A program that finds this broker through its environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let admin = &self.certificates.admin;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("QUORATE_CLIENT__SERVERS", &self.address)
            // Under Valgrind everything takes long.
            .env("QUORATE_CLIENT__CONNECT_TIMEOUT_MS", "60000")
            .env("QUORATE_CLIENT__REQUEST_TIMEOUT_MS", "60000")
            .env("QUORATE_CLIENT__CA_FILE", &admin.ca_file)
            .env("QUORATE_CLIENT__CERT_FILE", &admin.cert_file)
            .env("QUORATE_CLIENT__KEY_FILE", admin.key_file.as_ref().unwrap())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}
