//! The checked configuration, one typed part per room.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;

use crate::config::error::ConfigError;
use crate::config::files::read_text;
use crate::config::key::Form;
use crate::config::key::Key;
use crate::config::merge::Settings;
use crate::config::merge::Source;
use crate::config::merge::Value;
use crate::config::merge::env_entries;
use crate::config::merge::flag_entries;
use crate::config::peers::PeerSeed;
use crate::config::peers::Peers;
use crate::config::print;
use crate::config::toml_file;
use crate::config::value::Printed;

/// Everything a broker is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this broker is.
    pub node: Node,
    /// Where it listens.
    pub listeners: Listeners,
    /// Where its certificates are.
    pub tls: TlsFiles,
    /// How logs are written.
    pub storage: Storage,
    /// How replication keeps time.
    pub raft: Raft,
    /// What clients may use.
    pub limits: Limits,
    /// What is logged.
    pub logging: Logging,
    /// The brokers the cluster begins with; empty: this one alone.
    pub peers: Vec<PeerSeed>,
    listed: Peers,
    settings: Settings,
}

/// Who this broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: BrokerId,
    /// Its name.
    pub name: String,
    /// The cluster it belongs to.
    pub cluster: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
}

/// Where this broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// For clients.
    pub client: SocketAddr,
    /// For other brokers.
    pub peer: SocketAddr,
    /// How clients reach it; `None`: at the address it is bound to.
    pub advertise_client: Option<String>,
    /// How other brokers reach it; `None`: at the address it is bound to.
    pub advertise_peer: Option<String>,
}

/// Where this broker's certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who issues broker certificates.
    pub peer_ca_file: PathBuf,
    /// Who issues client certificates.
    pub client_ca_file: PathBuf,
    /// This broker's certificate.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// How logs are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Size at which a new segment begins.
    pub segment_bytes: ByteSize,
    /// Free space below which the broker warns.
    pub disk_warn_percent: u8,
    /// Free space below which it refuses to publish.
    pub disk_stop_percent: u8,
}

/// How replication keeps time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// The step in which time is counted.
    pub tick: Duration,
    /// How often a leader shows that it lives; whole ticks.
    pub heartbeat: Duration,
    /// Shortest silence before an election.
    pub election_min: Duration,
    /// Longest silence before an election.
    pub election_max: Duration,
    /// How much one replication message carries.
    pub append_bytes_max: ByteSize,
    /// Whether leadership returns to the first replica of a partition.
    pub preferred_leader: bool,
}

/// What clients may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections to this broker.
    pub connections_max: u32,
    /// Connections of one principal.
    pub connections_per_principal_max: u32,
    /// How long a connection lives.
    pub session_age_max: Duration,
    /// Streams of one connection.
    pub streams_per_connection_max: u32,
    /// The largest record.
    pub record_bytes_max: ByteSize,
    /// The largest batch.
    pub batch_bytes_max: ByteSize,
    /// Credit of one PRODUCE stream.
    pub producer_credit_bytes: ByteSize,
    /// Credit of all PRODUCE streams of a connection.
    pub connection_credit_bytes: ByteSize,
    /// Partitions of one topic.
    pub partitions_per_topic_max: u32,
    /// Partitions on this broker.
    pub partitions_max: u32,
    /// Share of the machine's memory that credits may promise.
    pub memory_percent: u8,
    /// Partitions of a topic created by its first use; `None`: never created.
    pub auto_create_partitions: Option<u32>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The least severe event that is logged.
    pub level: LogLevel,
    /// Its form.
    pub format: LogFormat,
}

/// Severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Also what may become one.
    Warn,
    /// Also what an operator wants to know.
    Info,
    /// Also decisions.
    Debug,
    /// Everything.
    Trace,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// JSON lines.
    Json,
}

impl Config {
    /// Merges default < file < environment < flags and checks everything.
    ///
    /// `variables` is the whole environment; only `QUORATE_SECTION__KEY` is looked at. Each flag is
    /// (`section.key`, value).
    ///
    /// # Errors
    /// Every problem there is, in the order file, environment, flags, missing keys, contradictions.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let (mut entries, mut listed) = (Vec::new(), Vec::new());
        if let Some(path) = file {
            let shown = path.display().to_string();
            match read_text(path) {
                Ok(text) => {
                    let contents = toml_file::contents(&shown, &text, &mut errors);
                    (entries, listed) = (contents.entries, contents.peers);
                }
                Err(reason) => errors.push(ConfigError::Unreadable {
                    path: shown,
                    reason: reason.to_string(),
                }),
            }
        }
        entries.extend(env_entries(variables));
        entries.extend(flag_entries(flags));
        let settings = Settings::merge(entries, &mut errors);
        let listed = Peers::check(listed, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let config = Self::from_settings(settings, listed);
        let conflicts = config.conflicts();
        if conflicts.is_empty() {
            Ok(config)
        } else {
            Err(conflicts)
        }
    }

    /// The effective configuration as TOML, each line with its source.
    #[must_use]
    pub fn print(&self) -> String {
        print::toml(&self.settings, &self.listed)
    }

    /// The effective configuration as one JSON object: `{"raft.tick_ms":{"value":50,"source":"default"}}`.
    #[must_use]
    pub fn print_json(&self) -> String {
        print::json(&self.settings, &self.listed)
    }

    /// Who set a key, for messages about it.
    #[must_use]
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.settings.get(key).map(|setting| &setting.source)
    }

    fn from_settings(mut settings: Settings, listed: Peers) -> Self {
        let id = BrokerId::new(narrow(settings.number("node.id")));
        settings.derive("node.name", format!("broker-{id}"));
        Self {
            node: Node::read(&settings, id),
            listeners: Listeners::read(&settings),
            tls: TlsFiles::read_from(&settings),
            storage: Storage::read(&settings),
            raft: Raft::read(&settings),
            limits: Limits::read(&settings),
            logging: Logging::read(&settings),
            peers: listed.seeds(),
            listed,
            settings,
        }
    }

    /// Rules between keys.
    fn conflicts(&self) -> Vec<ConfigError> {
        let raft = &self.raft;
        let rules = [
            (
                raft.heartbeat
                    .as_micros()
                    .is_multiple_of(raft.tick.as_micros()),
                "raft.heartbeat_ms",
                "it must be a whole number of raft.tick_ms",
            ),
            (
                raft.election_min >= raft.heartbeat * 3,
                "raft.election_ms_min",
                "it must be at least 3 raft.heartbeat_ms",
            ),
            (
                raft.election_max >= raft.election_min + raft.tick * 2,
                "raft.election_ms_max",
                "it must be at least raft.election_ms_min and 2 raft.tick_ms",
            ),
            (
                self.limits.batch_bytes_max >= self.limits.record_bytes_max,
                "limits.batch_bytes_max",
                "it must be at least limits.record_bytes_max",
            ),
            (
                self.storage.disk_stop_percent <= self.storage.disk_warn_percent,
                "storage.disk_stop_percent",
                "it must be at most storage.disk_warn_percent",
            ),
            (
                reachable(self.listeners.client, &self.listeners.advertise_client),
                "listeners.client",
                "a wildcard address needs listeners.advertise_client: HOST:PORT as clients reach it",
            ),
            (
                reachable(self.listeners.peer, &self.listeners.advertise_peer),
                "listeners.peer",
                "a wildcard address needs listeners.advertise_peer: HOST:PORT as brokers reach it",
            ),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        let between_keys = broken.filter_map(|(_, path, reason)| self.conflict(path, reason));
        let listed = self.listed.conflict(self.node.id, &self.node.name);
        between_keys.chain(listed).collect()
    }

    fn conflict(&self, path: &str, reason: &str) -> Option<ConfigError> {
        let setting = self.settings.get(path)?;
        Some(ConfigError::Conflict {
            key: path.to_owned(),
            value: printed(path, &setting.value).to_string(),
            source_of: setting.source.clone(),
            reason: reason.to_owned(),
        })
    }
}

impl Node {
    fn read(settings: &Settings, id: BrokerId) -> Self {
        Self {
            id,
            name: settings.text("node.name").to_owned(),
            cluster: settings.text("node.cluster").to_owned(),
            data_dir: settings.text("node.data_dir").into(),
        }
    }
}

impl Listeners {
    fn read(settings: &Settings) -> Self {
        let optional = |path: &str| match settings.text(path) {
            "" => None,
            text => Some(text.to_owned()),
        };
        Self {
            client: socket(settings, "listeners.client"),
            peer: socket(settings, "listeners.peer"),
            advertise_client: optional("listeners.advertise_client"),
            advertise_peer: optional("listeners.advertise_peer"),
        }
    }
}

impl TlsFiles {
    fn read_from(settings: &Settings) -> Self {
        Self {
            peer_ca_file: settings.text("tls.peer_ca_file").into(),
            client_ca_file: settings.text("tls.client_ca_file").into(),
            cert_file: settings.text("tls.cert_file").into(),
            key_file: settings.text("tls.key_file").into(),
        }
    }
}

impl Storage {
    fn read(settings: &Settings) -> Self {
        Self {
            segment_bytes: size(settings, "storage.segment_bytes"),
            disk_warn_percent: narrow(settings.number("storage.disk_warn_percent")),
            disk_stop_percent: narrow(settings.number("storage.disk_stop_percent")),
        }
    }
}

impl Raft {
    fn read(settings: &Settings) -> Self {
        Self {
            tick: time(settings, "raft.tick_ms"),
            heartbeat: time(settings, "raft.heartbeat_ms"),
            election_min: time(settings, "raft.election_ms_min"),
            election_max: time(settings, "raft.election_ms_max"),
            append_bytes_max: size(settings, "raft.append_bytes_max"),
            preferred_leader: settings.text("raft.preferred_leader") == "true",
        }
    }
}

impl Limits {
    fn read(settings: &Settings) -> Self {
        let count = |path: &str| narrow::<u32>(settings.number(path));
        Self {
            connections_max: count("limits.connections_max"),
            connections_per_principal_max: count("limits.connections_per_principal_max"),
            session_age_max: time(settings, "limits.session_age_h_max"),
            streams_per_connection_max: count("limits.streams_per_connection_max"),
            record_bytes_max: size(settings, "limits.record_bytes_max"),
            batch_bytes_max: size(settings, "limits.batch_bytes_max"),
            producer_credit_bytes: size(settings, "limits.producer_credit_bytes"),
            connection_credit_bytes: size(settings, "limits.connection_credit_bytes"),
            partitions_per_topic_max: count("limits.partitions_per_topic_max"),
            partitions_max: count("limits.partitions_max"),
            memory_percent: narrow(settings.number("limits.memory_percent")),
            auto_create_partitions: Some(count("limits.auto_create_partitions"))
                .filter(|partitions| *partitions > 0),
        }
    }
}

impl Logging {
    fn read(settings: &Settings) -> Self {
        let level = match settings.text("logging.level") {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        };
        let format = match settings.text("logging.format") {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        };
        Self { level, format }
    }
}

/// A value as it is shown.
pub(crate) fn printed(path: &str, value: &Value) -> Printed {
    match (value, Key::find(path).map(|key| key.form)) {
        (Value::Number(base), Some(Form::Number { unit, .. })) => unit.print(*base),
        (Value::Number(base), _) => Printed::Number(*base),
        (Value::Text(text), _) => Printed::Text(text.clone()),
    }
}

fn reachable(bound: SocketAddr, advertised: &Option<String>) -> bool {
    !bound.ip().is_unspecified() || advertised.is_some()
}

/// The range check came before, so nothing is lost.
fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    T::try_from(number).unwrap_or_default()
}

fn size(settings: &Settings, path: &str) -> ByteSize {
    ByteSize::new(settings.number(path))
}

fn time(settings: &Settings, path: &str) -> Duration {
    Duration::from_micros(settings.number(path))
}

fn socket(settings: &Settings, path: &str) -> SocketAddr {
    let unset = SocketAddr::from(([0, 0, 0, 0], 0));
    settings.text(path).parse().unwrap_or(unset)
}
