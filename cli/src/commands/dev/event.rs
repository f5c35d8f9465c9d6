//! What `quorate dev` tells: for people, or as events.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use serde::Serialize;

use crate::commands::dev::leaders::LeaderChange;
use crate::failure::Failure;
use crate::local;
use crate::local::Broker;
use crate::local::CLUSTER;
use crate::local::Layout;
use crate::output::Output;

/// Something that happened to the cluster.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    Ready {
        context: &'a str,
        cluster: &'a str,
        brokers: Vec<BrokerLine>,
        ca_file: String,
        cert_file: String,
        key_file: String,
        gateway_token: Option<&'a str>,
        dashboard_url: Option<&'a str>,
        ready_ms: u64,
    },
    BrokerExit {
        id: u16,
        name: String,
        code: Option<i32>,
        signal: Option<i32>,
    },
    BrokerStart {
        id: u16,
        name: String,
        pid: u32,
    },
    LeaderChange {
        topic: String,
        partition: u32,
        leader: u16,
        term: u64,
    },
    Stopping,
}

/// A broker as the ready event shows it.
#[derive(Debug, Serialize)]
pub(super) struct BrokerLine {
    id: u16,
    name: String,
    pid: u32,
    client: String,
    peer: String,
    gateway: Option<String>,
    data_dir: String,
}

impl Event<'_> {
    /// A broker ended by itself.
    pub(super) fn exit(id: u16, status: ExitStatus) -> Self {
        Self::BrokerExit {
            id,
            name: local::name(id),
            code: status.code(),
            signal: status.signal(),
        }
    }

    /// A broker serves again.
    pub(super) fn start(id: u16, pid: u32) -> Self {
        let name = local::name(id);
        Self::BrokerStart { id, name, pid }
    }

    /// A partition is led by another broker.
    pub(super) fn leader(change: LeaderChange) -> Self {
        let LeaderChange {
            topic,
            partition,
            leader,
            term,
        } = change;
        Self::LeaderChange {
            topic,
            partition,
            leader,
            term,
        }
    }

    fn for_people(&self) -> String {
        match self {
            Self::Ready { .. } => String::new(),
            Self::BrokerExit {
                name,
                code: Some(code),
                ..
            } => {
                format!("{name} ended with status {code}")
            }
            Self::BrokerExit { name, signal, .. } => {
                format!("{name} was ended by signal {}", signal.unwrap_or_default())
            }
            Self::BrokerStart { name, pid, .. } => format!("{name} serves again, process {pid}"),
            Self::LeaderChange {
                topic,
                partition,
                leader,
                term,
            } => {
                let name = local::name(*leader);
                format!("{name} leads {topic}/{partition} in term {term}")
            }
            Self::Stopping => "stopping".to_owned(),
        }
    }
}

/// Tells events.
#[derive(Debug)]
pub(super) struct Events<'a> {
    output: &'a Output,
    /// Standard output belongs to a command.
    aside: bool,
}

impl<'a> Events<'a> {
    pub(super) const fn new(output: &'a Output, aside: bool) -> Self {
        Self { output, aside }
    }

    /// Tells one event at once.
    pub(super) fn emit(&self, event: &Event<'_>) -> Result<(), Failure> {
        if self.output.is_json() {
            self.output.object(event)?;
        } else {
            self.tell(&event.for_people())?;
        }
        self.output.flush()
    }

    /// Tells that something failed although the cluster goes on.
    pub(super) fn warn(&self, failure: &Failure) {
        self.output.warning(failure);
    }

    /// Tells that the cluster serves, and what to try next.
    pub(super) fn ready(
        &self,
        context: &str,
        layout: &Layout,
        brokers: &[Broker],
        took: Duration,
    ) -> Result<(), Failure> {
        let ready_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if self.output.is_json() {
            return self.emit(&ready(context, layout, brokers, ready_ms));
        }
        let kept = if layout.is_temporary() {
            "removed at the end"
        } else {
            "kept"
        };
        self.tell(&format!("cluster `{CLUSTER}` is ready after {ready_ms} ms"))?;
        for broker in brokers {
            let (name, address) = (broker.name(), broker.client_address());
            let pid = broker.pid().unwrap_or_default();
            self.tell(&format!("  {name}  {address}  process {pid}"))?;
        }
        self.tell(&format!("  context   {context}, selected"))?;
        self.tell(&format!("  data      {}, {kept}", layout.root().display()))?;
        self.tell("try: quorate pub hello world")?;
        self.tell("     quorate sub hello --from earliest")?;
        self.output.flush()
    }

    fn tell(&self, text: &str) -> Result<(), Failure> {
        if self.aside || self.output.is_quiet() {
            self.output.note(text);
            return Ok(());
        }
        self.output.line(text)
    }
}

fn ready<'a>(context: &'a str, layout: &Layout, brokers: &[Broker], ready_ms: u64) -> Event<'a> {
    let show = |path: &Path| path.display().to_string();
    let line = |broker: &Broker| BrokerLine {
        id: broker.id(),
        name: broker.name(),
        pid: broker.pid().unwrap_or_default(),
        client: broker.client_address(),
        peer: broker.peer_address(),
        gateway: None,
        data_dir: show(broker.data_dir()),
    };
    let admin = layout.admin();
    Event::Ready {
        context,
        cluster: CLUSTER,
        brokers: brokers.iter().map(line).collect(),
        ca_file: show(&admin.join("ca.pem")),
        cert_file: show(&admin.join("cert.pem")),
        key_file: show(&admin.join("key.pem")),
        gateway_token: None,
        dashboard_url: None,
        ready_ms,
    }
}
