//! A cluster's certificates, configuration and data folder; they outlive its broker's processes.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use quorate::Client;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::Initialised;
use tempfile::TempDir;

use crate::broker::TestBroker;
use crate::patience::within;
use crate::process::Launch;
use crate::process::Refused;

/// A cluster of one broker, before and between its runs.
#[derive(Debug)]
pub struct TestCluster {
    folder: TempDir,
    certificates: Initialised,
    settings: Vec<(String, String)>,
    environment: Vec<(String, OsString)>,
    data: PathBuf,
}

impl TestCluster {
    /// A new cluster named `promises`, with default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::named("promises")
    }

    /// A new cluster of another name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let request = InitRequest {
            cluster: name.to_owned(),
            out: folder.path().join("certificates"),
            brokers: vec![BrokerRequest {
                name: "broker-1".to_owned(),
                hosts: vec!["127.0.0.1".to_owned()],
            }],
            development: true,
            now: now(),
        };
        Self {
            certificates: quorate_certs::init(&request).unwrap(),
            settings: Vec::new(),
            environment: Vec::new(),
            data: folder.path().join("data"),
            folder,
        }
    }

    /// The same with this setting of the broker.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.set(key, value);
        self
    }

    /// The same with its data in another folder.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<PathBuf>) -> Self {
        self.data = data.into();
        self
    }

    /// The same with this variable in the broker's environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Changes a setting from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Where the broker keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// A folder for whatever a test needs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the broker in an empty or existing data folder.
    pub async fn start(self) -> TestBroker {
        TestBroker::start(self).await
    }

    /// Expects that the broker does not start.
    pub async fn refuse(&self, init: bool) -> Refused {
        TestBroker::refuse(self, init).await
    }

    /// An administrator's client; the options in `set` on top of the defaults.
    pub(crate) async fn client(&self, address: &str, set: &[(&str, &str)]) -> Client {
        let admin = &self.certificates.admin;
        let mut builder = Client::builder()
            .servers(&format!("quorate://{address}"))
            .ca_file(&admin.ca_file)
            .cert_file(&admin.cert_file)
            .key_file(admin.key_file.as_ref().unwrap());
        for (key, value) in set {
            builder = builder.set(key, value);
        }
        within(builder)
            .await
            .expect("the broker accepts the administrator")
    }

    /// Writes the configuration; gives what the process is started with.
    pub(crate) fn launch(&self, init: bool, address: &str) -> Launch {
        let file = self.folder.path().join("quorate.toml");
        fs::write(&file, self.configuration(address)).unwrap();
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--json".into()];
        arguments.extend(["--config".into(), file.into()]);
        arguments.extend(["--parent".into(), std::process::id().to_string().into()]);
        if init {
            arguments.push("--init".into());
        }
        for (key, value) in &self.settings {
            arguments.extend(["--set".into(), format!("{key}={value}").into()]);
        }
        Launch {
            within: Vec::new(),
            arguments,
            variables: self.environment.clone(),
            log: self.log(),
        }
    }

    /// Where its processes write what they have to say.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    fn configuration(&self, address: &str) -> String {
        let issued = self.certificates.brokers.first().unwrap();
        let (cluster, data) = (&self.certificates.cluster, self.data.display());
        let (peer_ca, cert) = (issued.ca_file.display(), issued.cert_file.display());
        let client_ca = issued.client_ca_file.as_ref().unwrap().display();
        let key = issued.key_file.as_ref().unwrap().display();
        format!(
            "[node]\nid = 1\nname = 'broker-1'\ncluster = '{cluster}'\ndata_dir = '{data}'\n\
             [listeners]\nclient = '{address}'\npeer = '127.0.0.1:0'\n\
             [tls]\npeer_ca_file = '{peer_ca}'\nclient_ca_file = '{client_ca}'\n\
             cert_file = '{cert}'\nkey_file = '{key}'\n\
             [logging]\nformat = 'json'\n"
        )
    }
}

impl Default for TestCluster {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates begin now")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}
