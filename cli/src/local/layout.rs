//! The files of a local cluster: certificates, configuration, data.

use std::env;
use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use quorate::Client;
use quorate_certs::Authority;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::IssueRequest;
use quorate_certs::Role;
use toml::Table;
use toml::Value;

use crate::clock;
use crate::failure::Failure;
use crate::local::plan;
use crate::local::plan::Plan;
use crate::local::plan::Wish;

/// The name of every development cluster.
pub(crate) const CLUSTER: &str = "dev";
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Names to try; others are left by processes that were killed.
const TEMPORARY_NAMES_MAX: u32 = 1000;
/// Certificates with less time left are issued anew before a start.
const RENEWED_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// Held while a cluster runs, so that no other one writes over its configuration.
const LOCK: &str = "dev.lock";
/// What a directory has that holds a development cluster.
const AUTHORITY: &str = "certs/peer-ca.pem";

/// The directory of one development cluster.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    plan: Plan,
    temporary: bool,
    _lock: File,
}

impl Layout {
    /// Makes a new cluster's files, in a directory to be thrown away unless `data` names one, or
    /// takes up the cluster that is there.
    pub(crate) fn prepare(data: Option<PathBuf>, wish: Wish) -> Result<Self, Failure> {
        let temporary = data.is_none();
        let root = match data {
            Some(data) => make_directory(&data).map(|()| data)?,
            None => make_temporary_directory()?,
        };
        let prepared = Self::prepare_in(&root, temporary, wish);
        if prepared.is_err() && temporary {
            remove(&root)?;
        }
        prepared
    }

    fn prepare_in(root: &Path, temporary: bool, wish: Wish) -> Result<Self, Failure> {
        let root = fs::canonicalize(root).map_err(|error| Failure::file("open", root, &error))?;
        let made = root.join(AUTHORITY).exists();
        if !made {
            refuse_foreign(&root)?;
        }
        let lock = lock(&root)?;
        let plan = match made {
            true => Plan::resume(&root, wish)?,
            false => Plan::new(wish)?,
        };
        plan.remember(&root)?;
        let layout = Self {
            root,
            plan,
            temporary,
            _lock: lock,
        };
        match made {
            true => layout.renew()?,
            false => layout.make_certificates()?,
        }
        for id in layout.plan.ids() {
            layout.write_config(id)?;
        }
        Ok(layout)
    }

    /// How many brokers there are, and where.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the directory goes when the cluster stops.
    pub(crate) const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The directory stays, even if it was made to be thrown away.
    pub(crate) const fn keep(&mut self) {
        self.temporary = false;
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The certificate files of the administrator.
    pub(crate) fn admin(&self) -> PathBuf {
        self.authorities().join("admins/admin")
    }

    /// Where clients begin: `client.servers`.
    pub(crate) fn servers(&self) -> String {
        let plan = &self.plan;
        let addresses: Vec<_> = plan.ids().map(|id| plan.client_address(id)).collect();
        addresses.join(",")
    }

    /// Connects as the administrator.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let admin = self.admin();
        let client = Client::builder()
            .servers(&self.servers())
            .ca_file(admin.join("ca.pem"))
            .cert_file(admin.join("cert.pem"))
            .key_file(admin.join("key.pem"));
        Ok(client.await?)
    }

    /// A broker's data.
    pub(crate) fn data_dir(&self, id: u16) -> PathBuf {
        self.root.join(name(id)).join("data")
    }

    /// A broker's configuration.
    pub(super) fn config(&self, id: u16) -> PathBuf {
        self.root.join(name(id)).join("quorate.toml")
    }

    /// What a broker logs.
    pub(super) fn log(&self, id: u16) -> PathBuf {
        self.root.join(name(id)).join("broker.log")
    }

    /// Whether a broker has never run here.
    pub(super) fn is_new(&self, id: u16) -> bool {
        let entries = fs::read_dir(self.data_dir(id));
        entries.map_or(true, |mut entries| entries.next().is_none())
    }

    fn write_config(&self, id: u16) -> Result<(), Failure> {
        let address = |address: String| Value::String(address);
        let leaf = self.authorities().join("brokers").join(name(id));
        let file = |name: &str| text(&leaf.join(name));
        let node = table([
            ("id", Value::Integer(id.into())),
            ("name", Value::String(name(id))),
            ("cluster", Value::String(CLUSTER.to_owned())),
            ("data_dir", text(&self.data_dir(id))),
        ]);
        let listeners = table([
            ("client", address(self.plan.client_address(id))),
            ("peer", address(self.plan.peer_address(id))),
        ]);
        let tls = table([
            ("peer_ca_file", file("ca.pem")),
            ("client_ca_file", file("client-ca.pem")),
            ("cert_file", file("cert.pem")),
            ("key_file", file("key.pem")),
        ]);
        let config = entries([
            ("node", node),
            ("listeners", listeners),
            ("tls", tls),
            (
                "limits",
                table([("auto_create_partitions", Value::Integer(1))]),
            ),
            (
                "logging",
                table([("format", Value::String("text".to_owned()))]),
            ),
            ("peers", self.peers()),
        ]);
        let path = self.config(id);
        make_directory(&self.data_dir(id))?;
        fs::write(&path, config.to_string()).map_err(|error| Failure::file("write", &path, &error))
    }

    fn peers(&self) -> Value {
        let peer = |id: u16| {
            table([
                ("id", Value::Integer(id.into())),
                ("name", Value::String(name(id))),
                ("addr", Value::String(self.plan.peer_address(id))),
            ])
        };
        Value::Array(self.plan.ids().map(peer).collect())
    }

    /// Removes everything if it was made to be thrown away.
    pub(crate) fn remove_if_temporary(&self) -> Result<(), Failure> {
        if !self.temporary {
            return Ok(());
        }
        remove(&self.root)
    }

    fn authorities(&self) -> PathBuf {
        self.root.join("certs")
    }

    fn make_certificates(&self) -> Result<(), Failure> {
        let made = quorate_certs::init(&InitRequest {
            cluster: CLUSTER.to_owned(),
            out: self.authorities(),
            brokers: self.plan.ids().map(request).collect(),
            development: true,
            now: clock::wall(),
        });
        made.map(drop)
            .map_err(|error| Failure::identity(error.to_string()))
    }

    /// Keeps the certificates of an earlier run unless they are about to expire.
    fn renew(&self) -> Result<(), Failure> {
        let failed = |error: String| Failure::identity(error);
        let authority =
            Authority::load(&self.authorities()).map_err(|error| failed(error.to_string()))?;
        let now = clock::wall();
        let brokers = self
            .plan
            .ids()
            .map(|id| (Role::Broker, name(id), "brokers"));
        let admin = (Role::Admin, "admin".to_owned(), "admins");
        for (role, name, folder) in brokers.chain([admin]) {
            let dir = self.authorities().join(folder).join(&name);
            if is_fresh(&dir, now) {
                continue;
            }
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::file("renew", &dir, &error));
                }
                _ => {}
            }
            let sans = match role {
                Role::Broker => hosts(),
                _ => Vec::new(),
            };
            let request = IssueRequest {
                role,
                name,
                sans,
                ttl: None,
                csr: None,
                out: None,
                now,
            };
            authority
                .issue(&request)
                .map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

/// A broker's name.
pub(crate) fn name(id: u16) -> String {
    format!("broker-{id}")
}

fn request(id: u16) -> BrokerRequest {
    BrokerRequest {
        name: name(id),
        hosts: hosts(),
    }
}

fn remove(root: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(root).map_err(|error| Failure::file("remove", root, &error))
}

fn is_fresh(leaf: &Path, now: SystemTime) -> bool {
    let (certificate, key) = (leaf.join("cert.pem"), leaf.join("key.pem"));
    let report = quorate_certs::inspect(&certificate);
    let lives = report.is_ok_and(|report| report.not_after > now + RENEWED_BEFORE);
    lives && quorate_certs::key_matches(&certificate, &key).unwrap_or(false)
}

fn hosts() -> Vec<String> {
    HOSTS.map(str::to_owned).to_vec()
}

/// A directory with other content is not ours to fill.
fn refuse_foreign(root: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::file("open", root, &error);
    for entry in fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != LOCK && name != plan::FILE {
            let message = format!(
                "{} is not empty and holds no development cluster",
                root.display()
            );
            return Err(Failure::usage(message).with_help("give --data a new directory"));
        }
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File, Failure> {
    let path = root.join(LOCK);
    let file = File::create(&path).map_err(|error| Failure::file("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!("another `quorate dev` runs in {}", root.display());
            Err(Failure::usage(message).with_help("stop it, or give --data another directory"))
        }
        Err(TryLockError::Error(error)) => Err(Failure::file("lock", &path, &error)),
    }
}

/// A directory nobody else has, whoever else can write beside it.
fn make_temporary_directory() -> Result<PathBuf, Failure> {
    let parent = env::temp_dir();
    let process = std::process::id();
    for attempt in 0..TEMPORARY_NAMES_MAX {
        let path = parent.join(format!("quorate-dev-{process}-{attempt}"));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::file("create", &path, &error)),
        }
    }
    let shown = parent.display();
    Err(
        Failure::usage(format!("{shown} is full of old development clusters"))
            .with_help(format!("rm -r {shown}/quorate-dev-*")),
    )
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::file("create", path, &error))
}

fn entries<const N: usize>(entries: [(&str, Value); N]) -> Table {
    Table::from_iter(entries.map(|(key, value)| (key.to_owned(), value)))
}

fn table<const N: usize>(values: [(&str, Value); N]) -> Value {
    Value::Table(entries(values))
}

fn text(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Wish = Wish {
        nodes: Some(3),
        base_port: Some(0),
    };

    #[test]
    fn a_second_start_finds_the_same_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Layout::prepare(Some(data.clone()), ANY).unwrap();
        let before = fs::read(first.admin().join("cert.pem")).unwrap();
        let config = fs::read_to_string(first.config(2)).unwrap();
        drop(first);
        let second = Layout::prepare(Some(data), ANY).unwrap();
        assert_eq!(fs::read(second.admin().join("cert.pem")).unwrap(), before);
        assert_eq!(fs::read_to_string(second.config(2)).unwrap(), config);
        second.remove_if_temporary().unwrap();
        assert!(second.root().exists());
    }

    #[test]
    fn a_damaged_certificate_is_issued_anew() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(Some(dir.path().join("data")), ANY).unwrap();
        let certificate = layout.admin().join("cert.pem");
        fs::write(&certificate, "").unwrap();
        drop(layout);
        drop(Layout::prepare(Some(dir.path().join("data")), ANY).unwrap());
        quorate_certs::inspect(&certificate).unwrap();
    }

    #[test]
    fn a_directory_with_other_content_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
        let refused = Layout::prepare(Some(dir.path().to_owned()), ANY).unwrap_err();
        assert!(refused.message().contains("not empty"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(dir.path().join("thesis.txt").exists());
    }

    #[test]
    fn two_clusters_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Layout::prepare(Some(data.clone()), ANY).unwrap();
        assert!(first.is_new(1));
        let refused = Layout::prepare(Some(data), ANY).unwrap_err();
        assert!(refused.message().contains("another `quorate dev`"));
    }

    #[test]
    fn a_throw_away_cluster_leaves_nothing() {
        let layout = Layout::prepare(None, ANY).unwrap();
        assert!(layout.is_new(3));
        layout.remove_if_temporary().unwrap();
        assert!(!layout.root().exists());
    }
}
