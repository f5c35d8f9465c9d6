//! Changes of what a cluster is made of: one request each, and what follows from it.

use quorate::BrokerId;
use quorate::ChangeCluster;
use quorate::Client;
use quorate::PartitionId;
use serde::Serialize;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::Output;
use crate::runtime;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;

/// How changes are made.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
    /// Check whether it would work, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// A broker that is known to the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct OfBroker {
    /// The broker's number or name
    broker: String,
    #[command(flatten)]
    options: Options,
}

/// A broker that is not known to the cluster yet.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// Its number, as in its node.id
    id: u16,
    /// Its name, as in its node.name [default: broker-ID]
    #[arg(long)]
    name: Option<String>,
    /// Where other brokers reach it, as in its listeners.advertise_peer
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    #[command(flatten)]
    options: Options,
}

/// A partition and who should lead it.
#[derive(Debug, clap::Args)]
pub(crate) struct Transfer {
    /// The topic
    topic: String,
    /// The partition
    partition: u32,
    /// The number or name of the broker that should lead it
    broker: String,
    #[command(flatten)]
    options: Options,
}

/// A partition and who should hold it.
#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    /// The topic
    topic: String,
    /// The partition
    partition: u32,
    /// Numbers or names of the brokers that should hold it, the preferred leader first
    #[arg(required = true, value_delimiter = ',', value_name = "BROKER,..")]
    brokers: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// Nothing but how.
#[derive(Debug, clap::Args)]
pub(crate) struct Finalize {
    #[command(flatten)]
    options: Options,
}

/// One change.
#[derive(Debug)]
pub(super) enum Change {
    Drain(OfBroker),
    Undrain(OfBroker),
    Add(Add),
    Remove(OfBroker),
    Replace(OfBroker),
    Transfer(Transfer),
    Move(Move),
    Finalize(Finalize),
}

#[derive(Serialize)]
struct Line {
    ok: bool,
    changed: bool,
    detail: String,
}

/// Asks, and tells what follows.
pub(super) fn run(change: Change, invocation: &Invocation) -> Result<Exit, Failure> {
    let options = change.options();
    let settings =
        invocation.settings(options.target.clone(), Some(options.private_key.clone()))?;
    if let Some(question) = change.question() {
        let decided = options.yes || options.dry_run;
        if !decided && !invocation.output.confirm(&question)? {
            return Err(Failure::silent(Exit::Failed));
        }
    }
    runtime::run(make(&change, &settings, &invocation.output))
}

async fn make(change: &Change, settings: &Settings, output: &Output) -> Result<Exit, Failure> {
    let dry_run = change.options().dry_run;
    let work = async |client: &Client| {
        let mut request = change.request(client).await?;
        if dry_run {
            request = request.dry_run();
        }
        Ok(request.await?)
    };
    let done = settings.with_client(work).await?;
    if output.is_json() {
        output.object(&Line {
            ok: true,
            changed: done.changed && !dry_run,
            detail: done.detail,
        })?;
        return Ok(Exit::Done);
    }
    let what = match (done.changed, dry_run) {
        (true, false) => "done",
        (true, true) => "would be done",
        (false, _) => "nothing to change",
    };
    match done.detail.as_str() {
        "" => output.line(what)?,
        detail => output.line(format_args!("{what}: {detail}"))?,
    }
    Ok(Exit::Done)
}

impl Change {
    fn options(&self) -> &Options {
        match self {
            Self::Drain(of) | Self::Undrain(of) | Self::Remove(of) | Self::Replace(of) => {
                &of.options
            }
            Self::Add(add) => &add.options,
            Self::Transfer(transfer) => &transfer.options,
            Self::Move(moving) => &moving.options,
            Self::Finalize(finalize) => &finalize.options,
        }
    }

    /// What a person is asked before something that cannot be taken back.
    fn question(&self) -> Option<String> {
        match self {
            Self::Remove(of) => Some(format!(
                "remove broker {} and the copies that it holds?",
                of.broker
            )),
            Self::Replace(of) => Some(format!(
                "give up all data of broker {} and let it begin with an empty disk?",
                of.broker
            )),
            Self::Finalize(_) => {
                Some("switch to new formats? brokers of the version before cannot return".into())
            }
            _ => None,
        }
    }

    async fn request(&self, client: &Client) -> Result<ChangeCluster, Failure> {
        let admin = client.admin();
        let find = async |named: &str| find(client, named).await;
        Ok(match self {
            Self::Drain(of) => admin.drain_broker(find(&of.broker).await?),
            Self::Undrain(of) => admin.undrain_broker(find(&of.broker).await?),
            Self::Remove(of) => admin.remove_broker(find(&of.broker).await?),
            Self::Replace(of) => admin.replace_broker(find(&of.broker).await?),
            Self::Add(add) => {
                let name = add.name.clone();
                let name = name.unwrap_or_else(|| format!("broker-{}", add.id));
                admin.add_broker(BrokerId::new(add.id), &name, &add.peer)
            }
            Self::Transfer(transfer) => {
                let broker = find(&transfer.broker).await?;
                let partition = PartitionId::new(transfer.partition);
                admin.transfer(&transfer.topic, partition, broker)
            }
            Self::Move(moving) => {
                let mut brokers = Vec::new();
                for named in &moving.brokers {
                    brokers.push(find(named).await?);
                }
                let partition = PartitionId::new(moving.partition);
                admin.move_partition(&moving.topic, partition, brokers)
            }
            Self::Finalize(_) => admin.finalize(),
        })
    }
}

/// The number of a broker that is named by its number or its name.
async fn find(client: &Client, named: &str) -> Result<BrokerId, Failure> {
    if let Ok(id) = named.parse() {
        return Ok(BrokerId::new(id));
    }
    let status = client.admin().cluster_status().await?;
    let mut brokers = status.brokers.iter();
    let found = brokers.find(|broker| broker.name == named);
    found.map(|broker| broker.id).ok_or_else(|| {
        let known: Vec<_> = status.brokers.iter().map(|b| b.name.as_str()).collect();
        Failure::usage(format!("no broker is named {named}"))
            .with_help(format!("the cluster has {}", known.join(", ")))
    })
}
