//! What the brokers of a cluster are started with: certificates, configuration, folders, ports.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use quorate::Client;
use quorate_certs::Authority;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::Initialised;
use quorate_certs::IssueRequest;
use quorate_certs::Role;
use tempfile::TempDir;

use crate::brokers::Brokers;
use crate::cluster::now;
use crate::network::Network;
use crate::patience::within;
use crate::process::Launch;

const LOOPBACK: &str = "127.0.0.1";
/// Below the ports that systems give to clients: a broker that is down keeps its own.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

static PORTS_TAKEN: AtomicU32 = AtomicU32::new(0);

/// Brokers before and between their runs, numbered from 1.
#[derive(Debug)]
pub struct ClusterPlan {
    folder: TempDir,
    certificates: Initialised,
    /// Those the cluster begins with.
    founders: u16,
    hosts: BTreeMap<u16, Host>,
    settings: Vec<(String, String)>,
    network: Option<Network>,
}

#[derive(Debug)]
struct Host {
    address: String,
    ports: [u16; 2],
    data: PathBuf,
    variables: Vec<(String, OsString)>,
    settings: Vec<(String, String)>,
}

impl ClusterPlan {
    /// So many brokers on the loopback interface.
    #[must_use]
    pub fn of(brokers: u16) -> Self {
        Self::make(brokers, None)
    }

    /// So many brokers, each on a host of its own.
    #[must_use]
    pub fn in_network(network: Network, brokers: u16) -> Self {
        Self::make(brokers, Some(network))
    }

    fn make(founders: u16, network: Option<Network>) -> Self {
        let mut folder = TempDir::new().unwrap();
        if std::env::var_os("KEEP").is_some() {
            folder.disable_cleanup(true);
            println!("data and logs stay in {}", folder.path().display());
        }
        let host = |id| match network {
            Some(_) => Network::address(id),
            None => LOOPBACK.to_owned(),
        };
        let request = InitRequest {
            cluster: "promises".to_owned(),
            out: folder.path().join("certificates"),
            brokers: (1..=founders)
                .map(|id| BrokerRequest {
                    name: name(id),
                    hosts: vec![host(id)],
                })
                .collect(),
            development: network.is_none(),
            now: now(),
        };
        let certificates = quorate_certs::init(&request).unwrap();
        let mut plan = Self {
            folder,
            certificates,
            founders,
            hosts: BTreeMap::new(),
            settings: Vec::new(),
            network,
        };
        for id in 1..=founders {
            plan.add_host(id);
        }
        plan
    }

    /// The same with this setting of every broker.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The same with the data of one broker in another folder.
    #[must_use]
    pub fn with_data(mut self, id: u16, data: impl Into<PathBuf>) -> Self {
        self.host_mut(id).data = data.into();
        self
    }

    /// The same with this variable in the environment of one broker.
    #[must_use]
    pub fn with_variable(mut self, id: u16, name: &str, value: impl Into<OsString>) -> Self {
        let variable = (name.to_owned(), value.into());
        self.host_mut(id).variables.push(variable);
        self
    }

    /// Changes a setting of one broker from its next start on.
    pub fn set(&mut self, id: u16, key: &str, value: &str) {
        let settings = &mut self.host_mut(id).settings;
        settings.retain(|(known, _)| known != key);
        settings.push((key.to_owned(), value.to_owned()));
    }

    /// Starts all brokers in empty folders.
    pub async fn start(self) -> Brokers {
        Brokers::start(self).await
    }

    /// A folder for whatever a test needs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> {
        self.hosts.keys().copied()
    }

    pub(crate) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    pub(crate) fn data_dir(&self, id: u16) -> PathBuf {
        self.host(id).data.clone()
    }

    pub(crate) fn log(&self, id: u16) -> PathBuf {
        self.folder.path().join(format!("{}.log", name(id)))
    }

    pub(crate) fn peer_address(&self, id: u16) -> String {
        let Host { address, ports, .. } = self.host(id);
        format!("{address}:{}", ports[1])
    }

    pub(crate) async fn client(&self, ids: &[u16], set: &[(&str, &str)]) -> Client {
        let mut builder = Client::builder();
        for (key, value) in self.administrator(ids) {
            builder = builder.set(key, &value);
        }
        for (key, value) in set {
            builder = builder.set(key, value);
        }
        let connected = within(builder).await;
        connected.expect("a broker accepts the administrator")
    }

    /// The options of a client with the administrator's identity that knows these brokers.
    pub(crate) fn administrator(&self, ids: &[u16]) -> [(&'static str, String); 4] {
        let admin = &self.certificates.admin;
        let addresses = ids.iter().map(|id| {
            let Host { address, ports, .. } = self.host(*id);
            format!("{address}:{}", ports[0])
        });
        let addresses: Vec<_> = addresses.collect();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("client.servers", addresses.join(",")),
            ("client.ca_file", text(&admin.ca_file)),
            ("client.cert_file", text(&admin.cert_file)),
            ("client.key_file", text(admin.key_file.as_ref().unwrap())),
        ]
    }

    pub(crate) fn make_another(&mut self) -> u16 {
        let id = self.ids().max().unwrap_or(0) + 1;
        let authority = Authority::load(&self.certificates.dir).unwrap();
        let host = match self.network {
            Some(_) => Network::address(id),
            None => LOOPBACK.to_owned(),
        };
        let request = IssueRequest {
            role: Role::Broker,
            name: name(id),
            sans: vec![host],
            ttl: None,
            csr: None,
            out: None,
            now: now(),
        };
        authority.issue(&request).unwrap();
        self.add_host(id);
        id
    }

    pub(crate) fn launch(&self, id: u16, more: &[&str]) -> Launch {
        let file = self.folder.path().join(format!("{}.toml", name(id)));
        fs::write(&file, self.configuration(id)).unwrap();
        self.launch_from(file, id, more)
    }

    /// Another process of the same broker: other ports, an empty folder.
    pub(crate) fn launch_double(&self, id: u16, more: &[&str]) -> Launch {
        let Host { address, ports, .. } = self.host(id);
        let [client, peer] = match self.network {
            Some(_) => [5747, 5748],
            None => free_ports(),
        };
        let data = self.folder.path().join("double");
        if data.exists() {
            fs::remove_dir_all(&data).unwrap();
        }
        let text = self.configuration(id);
        // The list of peers names the real one.
        let (own, peers) = text.split_once("[[peers]]").unwrap();
        let own = own
            .replace(
                &format!("{address}:{}", ports[0]),
                &format!("{address}:{client}"),
            )
            .replace(
                &format!("{address}:{}", ports[1]),
                &format!("{address}:{peer}"),
            )
            .replace(
                &self.data_dir(id).display().to_string(),
                &data.display().to_string(),
            );
        let file = self.folder.path().join("double.toml");
        fs::write(&file, format!("{own}[[peers]]{peers}")).unwrap();
        let launch = self.launch_from(file, id, more);
        Launch {
            log: self.folder.path().join("double.log"),
            ..launch
        }
    }

    fn launch_from(&self, file: PathBuf, id: u16, more: &[&str]) -> Launch {
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--json".into()];
        arguments.extend(["--config".into(), file.into()]);
        arguments.extend(["--parent".into(), std::process::id().to_string().into()]);
        arguments.extend(more.iter().map(OsString::from));
        let host = self.host(id);
        for (key, value) in self.settings.iter().chain(&host.settings) {
            arguments.extend(["--set".into(), format!("{key}={value}").into()]);
        }
        Launch {
            within: self.network.as_ref().map_or_else(Vec::new, |n| n.on(id)),
            arguments,
            variables: host.variables.clone(),
            log: self.log(id),
        }
    }

    fn configuration(&self, id: u16) -> String {
        let leaf = self.certificates.dir.join("brokers").join(name(id));
        let (leaf, cluster) = (leaf.display(), &self.certificates.cluster);
        let Host {
            address,
            ports: [client, peer],
            data,
            ..
        } = self.host(id);
        let (name, data) = (name(id), data.display());
        let mut text = format!(
            "[node]\nid = {id}\nname = '{name}'\ncluster = '{cluster}'\ndata_dir = '{data}'\n\
             [listeners]\nclient = '{address}:{client}'\npeer = '{address}:{peer}'\n\
             [tls]\npeer_ca_file = '{leaf}/ca.pem'\nclient_ca_file = '{leaf}/client-ca.pem'\n\
             cert_file = '{leaf}/cert.pem'\nkey_file = '{leaf}/key.pem'\n\
             [logging]\nformat = 'json'\n"
        );
        for founder in 1..=self.founders {
            let address = self.peer_address(founder);
            let name = self::name(founder);
            text += &format!("[[peers]]\nid = {founder}\nname = '{name}'\naddr = '{address}'\n");
        }
        text
    }

    fn add_host(&mut self, id: u16) {
        let on_network = self.network.is_some();
        let host = Host {
            address: match on_network {
                true => Network::address(id),
                false => LOOPBACK.to_owned(),
            },
            ports: match on_network {
                true => [4747, 4748],
                false => free_ports(),
            },
            data: self.folder.path().join(name(id)),
            variables: Vec::new(),
            settings: Vec::new(),
        };
        self.hosts.insert(id, host);
    }

    fn host(&self, id: u16) -> &Host {
        self.hosts.get(&id).expect("there is such a broker")
    }

    fn host_mut(&mut self, id: u16) -> &mut Host {
        self.hosts.get_mut(&id).expect("there is such a broker")
    }
}

fn name(id: u16) -> String {
    format!("broker-{id}")
}

/// Two ports that nobody has, far from those of other tests.
fn free_ports() -> [u16; 2] {
    let (count, process) = (PORTS.end - PORTS.start, std::process::id());
    for _ in 0..count {
        let taken = PORTS_TAKEN.fetch_add(2, Ordering::Relaxed);
        let first = PORTS.start + process.wrapping_mul(62).wrapping_add(taken) % count;
        let ports = [first, first + 1].map(|port| u16::try_from(port).unwrap());
        let free = |port: &u16| UdpSocket::bind((LOOPBACK, *port)).is_ok();
        if ports.iter().all(free) {
            return ports;
        }
    }
    panic!("no free ports")
}
