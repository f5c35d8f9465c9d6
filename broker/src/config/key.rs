//! The table of every key the server knows: place, form, default, range and one sentence.

use crate::config::value::Unit;

/// What a key's value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// A number between two bounds, given in the key's unit.
    Number { unit: Unit, min: u64, max: u64 },
    /// 1 to 128 of `[a-z0-9._-]`: it becomes part of certificate names.
    Name,
    /// A file or folder.
    Path,
    /// `IP:PORT`.
    Socket,
    /// `HOST:PORT`, as others reach it.
    HostPort,
    /// One of a few words.
    Word(&'static [&'static str]),
}

/// What stands in for a key that nobody set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// It must be set; the text is an example.
    Required(&'static str),
    /// A value.
    Value(&'static str),
    /// Something the server finds out; the sentence says what. The text is an example.
    Derived(&'static str, &'static str),
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) default: Default,
    pub(crate) meaning: &'static str,
}

impl Key {
    /// `section.name`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Finds a key by `section.name`.
    pub(crate) fn find(path: &str) -> Option<&'static Self> {
        let (section, name) = path.split_once('.')?;
        let mut keys = KEYS.iter();
        keys.find(|key| key.section == section && key.name == name)
    }
}

/// Sections, in the order they are printed.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for key in &KEYS {
        if names.last() != Some(&key.section) {
            names.push(key.section);
        }
    }
    names
}

const COUNT_MAX: u64 = 1 << 31;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn number(unit: Unit, min: u64, max: u64) -> Form {
    Form::Number { unit, min, max }
}

const fn key(
    place: (&'static str, &'static str),
    form: Form,
    default: Default,
    meaning: &'static str,
) -> Key {
    Key {
        section: place.0,
        name: place.1,
        form,
        default,
        meaning,
    }
}

/// Every key, grouped by section.
pub(crate) static KEYS: [Key; 35] = [
    key(
        ("node", "id"),
        number(Unit::One, 1, 65_535),
        Default::Required("1"),
        "This broker's number, unique in the cluster and never changed.",
    ),
    key(
        ("node", "name"),
        Form::Name,
        Default::Derived("broker-ID", "broker-1"),
        "This broker's name, as in its certificate.",
    ),
    key(
        ("node", "cluster"),
        Form::Name,
        Default::Required("example"),
        "The cluster's name, as in every certificate of it.",
    ),
    key(
        ("node", "data_dir"),
        Form::Path,
        Default::Value("/var/lib/quorate"),
        "Where this broker keeps its data. One broker per folder.",
    ),
    key(
        ("listeners", "client"),
        Form::Socket,
        Default::Value("0.0.0.0:4747"),
        "UDP address for clients; port 0 takes a free one.",
    ),
    key(
        ("listeners", "peer"),
        Form::Socket,
        Default::Value("0.0.0.0:4748"),
        "UDP address for other brokers. Close it to everyone else.",
    ),
    key(
        ("listeners", "advertise_client"),
        Form::HostPort,
        Default::Derived(
            "the client address; required if that is a wildcard",
            "broker-1.example.org:4747",
        ),
        "How clients reach this broker.",
    ),
    key(
        ("listeners", "advertise_peer"),
        Form::HostPort,
        Default::Derived(
            "the peer address; required if that is a wildcard",
            "broker-1.example.org:4748",
        ),
        "How other brokers reach this broker.",
    ),
    key(
        ("tls", "peer_ca_file"),
        Form::Path,
        Default::Required("/etc/quorate/ca.pem"),
        "PEM of the authority that issues broker certificates.",
    ),
    key(
        ("tls", "client_ca_file"),
        Form::Path,
        Default::Required("/etc/quorate/client-ca.pem"),
        "PEM of the authority that issues client certificates.",
    ),
    key(
        ("tls", "cert_file"),
        Form::Path,
        Default::Required("/etc/quorate/cert.pem"),
        "PEM of this broker's certificate, followed by its issuers if there are several.",
    ),
    key(
        ("tls", "key_file"),
        Form::Path,
        Default::Required("/etc/quorate/key.pem"),
        "PEM of its private key. Refused if group or others may read it.",
    ),
    key(
        ("storage", "segment_bytes"),
        number(Unit::Byte, MIB, 4 * GIB),
        Default::Value("256MiB"),
        "Size at which a partition's log begins a new file. Retention removes whole files.",
    ),
    key(
        ("storage", "disk_warn_percent"),
        number(Unit::Percent, 2, 50),
        Default::Value("15"),
        "Free space below which the broker warns.",
    ),
    key(
        ("storage", "disk_stop_percent"),
        number(Unit::Percent, 1, 30),
        Default::Value("5"),
        "Free space below which the broker refuses to publish. At most disk_warn_percent.",
    ),
    key(
        ("raft", "tick_ms"),
        number(Unit::Millisecond, 5, 1_000),
        Default::Value("50"),
        "The step in which replication counts time.",
    ),
    key(
        ("raft", "heartbeat_ms"),
        number(Unit::Millisecond, 10, 5_000),
        Default::Value("100"),
        "How often a leader shows that it lives. Whole ticks.",
    ),
    key(
        ("raft", "election_ms_min"),
        number(Unit::Millisecond, 50, 60_000),
        Default::Value("500"),
        "Silence after which a follower may stand for election. At least 3 heartbeats.",
    ),
    key(
        ("raft", "election_ms_max"),
        number(Unit::Millisecond, 50, 60_000),
        Default::Value("1000"),
        "Upper end of the same, drawn at random. At least 2 ticks above the lower end.",
    ),
    key(
        ("raft", "append_bytes_max"),
        number(Unit::Byte, 64 * KIB, 8 * MIB),
        Default::Value("1MiB"),
        "How much one replication message carries.",
    ),
    key(
        ("raft", "preferred_leader"),
        Form::Word(&["true", "false"]),
        Default::Value("true"),
        "Whether leadership returns to the first replica of a partition once that has caught up.",
    ),
    key(
        ("limits", "connections_max"),
        number(Unit::One, 1, COUNT_MAX),
        Default::Value("20000"),
        "Client connections to this broker.",
    ),
    key(
        ("limits", "connections_per_principal_max"),
        number(Unit::One, 1, COUNT_MAX),
        Default::Value("1000"),
        "Client connections of one principal.",
    ),
    key(
        ("limits", "session_age_h_max"),
        number(Unit::Hour, 1, 720),
        Default::Value("24"),
        "How long a client connection lives before it must prove its identity again.",
    ),
    key(
        ("limits", "streams_per_connection_max"),
        number(Unit::One, 9, 1_025),
        Default::Value("33"),
        "Streams a client may have open on one connection.",
    ),
    key(
        ("limits", "record_bytes_max"),
        number(Unit::Byte, KIB, 8 * MIB),
        Default::Value("1MiB"),
        "The largest record. At most batch_bytes_max.",
    ),
    key(
        ("limits", "batch_bytes_max"),
        number(Unit::Byte, 4 * KIB, 8 * MIB),
        Default::Value("1MiB"),
        "The largest batch of records.",
    ),
    key(
        ("limits", "producer_credit_bytes"),
        number(Unit::Byte, 64 * KIB, 64 * MIB),
        Default::Value("4MiB"),
        "Unacknowledged bytes one producer may have in flight to one partition.",
    ),
    key(
        ("limits", "connection_credit_bytes"),
        number(Unit::Byte, MIB, 256 * MIB),
        Default::Value("16MiB"),
        "Unacknowledged bytes all producers of one connection may have in flight.",
    ),
    key(
        ("limits", "partitions_per_topic_max"),
        number(Unit::One, 1, 1_024),
        Default::Value("1024"),
        "Partitions of one topic.",
    ),
    key(
        ("limits", "partitions_max"),
        number(Unit::One, 1, COUNT_MAX),
        Default::Value("20000"),
        "Partitions on this broker.",
    ),
    key(
        ("limits", "memory_percent"),
        number(Unit::Percent, 5, 80),
        Default::Value("25"),
        "Share of the machine's memory that credits may promise.",
    ),
    key(
        ("limits", "auto_create_partitions"),
        number(Unit::One, 0, 1_024),
        Default::Value("0"),
        "Partitions of a topic that is created by its first use; 0 never creates one.",
    ),
    key(
        ("logging", "level"),
        Form::Word(&["error", "warn", "info", "debug", "trace"]),
        Default::Value("info"),
        "What is logged.",
    ),
    key(
        ("logging", "format"),
        Form::Word(&["auto", "text", "json"]),
        Default::Value("auto"),
        "How it is logged; auto is text on a terminal, else json.",
    ),
];
