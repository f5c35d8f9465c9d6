//! Several brokers in one process, each with a runtime and a thread of its own, so that one can be
//! killed while the others go on.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::SystemTime;

use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::InitMode;
use quorate_broker::config::Config;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::Initialised;
use quorate_protocol::ClusterStatus;
use quorate_protocol::ClusterStatusRequest;
use quorate_protocol::Op;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::world::runtime;
use crate::world::tls_of;
use crate::world::within;

/// Time between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Certificates, folders and sockets that outlive the brokers.
pub(crate) struct Brokers {
    dir: TempDir,
    certificates: Initialised,
    sites: Vec<Site>,
}

struct Site {
    client: UdpSocket,
    peer: UdpSocket,
}

/// One run of a broker.
pub(crate) struct Life {
    pub(crate) client: SocketAddr,
    end: oneshot::Sender<End>,
    pub(crate) ready: Option<oneshot::Receiver<Result<(), String>>>,
    thread: JoinHandle<()>,
}

enum End {
    Kill,
    Drain,
}

impl Brokers {
    /// So many brokers that may be started.
    pub(crate) fn new(count: u16) -> Self {
        let dir = TempDir::new().unwrap();
        let brokers = (1..=count).map(|id| BrokerRequest {
            name: name(id),
            hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        });
        let micros = Environment::machine().clock.now_micros();
        let request = InitRequest {
            cluster: "test".to_owned(),
            out: dir.path().join("pki"),
            brokers: brokers.collect(),
            development: true,
            now: SystemTime::UNIX_EPOCH + Duration::from_micros(micros),
        };
        let certificates = quorate_certs::init(&request).unwrap();
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let site = |_| Site {
            client: socket(),
            peer: socket(),
        };
        Self {
            dir,
            certificates,
            sites: (1..=count).map(site).collect(),
        }
    }

    fn site(&self, id: u16) -> &Site {
        &self.sites[usize::from(id) - 1]
    }

    pub(crate) fn peer_address(&self, id: u16) -> SocketAddr {
        self.site(id).peer.local_addr().unwrap()
    }

    pub(crate) fn data_dir(&self, id: u16) -> PathBuf {
        self.dir.path().join(format!("data-{id}"))
    }

    fn config(&self, id: u16, seeds: &[u16]) -> Config {
        let mut text = String::new();
        for seed in seeds {
            let (name, address) = (name(*seed), self.peer_address(*seed));
            let entry = format!("[[peers]]\nid = {seed}\nname = '{name}'\naddr = '{address}'\n");
            text.write_str(&entry).unwrap();
        }
        let file = self.dir.path().join(format!("{id}.toml"));
        fs::write(&file, text).unwrap();
        let issued = &self.certificates.brokers[usize::from(id) - 1];
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let flags = [
            ("node.id", id.to_string()),
            ("node.name", name(id)),
            ("node.cluster", "test".to_owned()),
            ("node.data_dir", path(&self.data_dir(id))),
            (
                "listeners.client",
                self.site(id).client.local_addr().unwrap().to_string(),
            ),
            ("listeners.peer", self.peer_address(id).to_string()),
            ("tls.peer_ca_file", path(&issued.ca_file)),
            (
                "tls.client_ca_file",
                path(issued.client_ca_file.as_ref().unwrap()),
            ),
            ("tls.cert_file", path(&issued.cert_file)),
            ("tls.key_file", path(issued.key_file.as_ref().unwrap())),
        ];
        let flags = flags.map(|(key, value)| (key.to_owned(), value));
        Config::load(Some(&file), [], &flags).unwrap()
    }

    /// The machine, but for the sockets: those are bound already.
    fn environment(&self, id: u16) -> Environment {
        let bound = [&self.site(id).client, &self.site(id).peer];
        let bound = bound.map(|socket| (socket.local_addr().unwrap(), socket.try_clone().unwrap()));
        Environment {
            sockets: Arc::new(move |address| {
                let socket = bound.iter().find(|(bound, _)| *bound == address);
                socket.unwrap().1.try_clone()
            }),
            ..Environment::machine()
        }
    }

    /// Starts a broker that knows these ones, and does not wait for it.
    pub(crate) fn begin(&self, id: u16, mode: InitMode, seeds: &[u16]) -> Life {
        let (config, environment) = (self.config(id, seeds), self.environment(id));
        let (end, ended) = oneshot::channel();
        let (tell, ready) = oneshot::channel();
        let live = async move {
            let mut ended = ended;
            let started = tokio::select! {
                started = Box::pin(Broker::start(config, mode, environment)) => started,
                _ = &mut ended => return,
            };
            match started {
                Err(error) => tell.send(Err(error.to_string())).unwrap(),
                Ok(broker) => {
                    tell.send(Ok(())).unwrap();
                    if let Ok(End::Drain) = ended.await {
                        broker.drain(Duration::from_secs(10)).await;
                    }
                }
            }
        };
        let thread = std::thread::spawn(move || runtime().block_on(live));
        Life {
            client: self.site(id).client.local_addr().unwrap(),
            end,
            ready: Some(ready),
            thread,
        }
    }

    /// Starts a new cluster of all brokers from 1 to `count`.
    pub(crate) async fn found(&self, count: u16) -> Vec<Life> {
        let seeds: Vec<_> = (1..=count).collect();
        let begin = |id: &u16| self.begin(*id, InitMode::Init, &seeds);
        let mut lives: Vec<_> = seeds.iter().map(begin).collect();
        for life in &mut lives {
            life.ready().await.unwrap();
        }
        lives
    }

    pub(crate) async fn client(&self, life: &Life) -> Client {
        within(Client::connect(tls_of(&self.certificates), life.client)).await
    }
}

impl Life {
    /// Waits until the broker serves, or says why it does not.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        within(self.ready.take().unwrap()).await.unwrap()
    }

    /// Ends it as `kill -9` does: nothing is closed in good order.
    pub(crate) fn kill(self) {
        self.finish(End::Kill);
    }

    /// Ends it in good order.
    pub(crate) fn drain(self) {
        self.finish(End::Drain);
    }

    fn finish(self, end: End) {
        // It may have failed to start.
        drop(self.end.send(end));
        self.thread.join().unwrap();
    }
}

fn name(id: u16) -> String {
    format!("broker-{id}")
}

pub(crate) async fn status(client: &mut Client) -> ClusterStatus {
    let request = ClusterStatusRequest {
        partitions: true,
        after: None,
    };
    client.ask(Op::CLUSTER_STATUS, &request).await
}

/// The cluster's status once it is as wanted.
pub(crate) async fn status_when(
    client: &mut Client,
    wanted: impl Fn(&ClusterStatus) -> bool,
) -> ClusterStatus {
    within(async {
        loop {
            let status = status(client).await;
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}
