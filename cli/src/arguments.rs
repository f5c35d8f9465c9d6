//! The command line: global flags and the list of commands.

use clap::ArgAction;
use clap::Args;
use clap::Parser;
use clap::Subcommand;

use crate::commands::bench;
use crate::commands::cert;
use crate::commands::cluster;
use crate::commands::completions;
use crate::commands::ctx;
use crate::commands::demo;
use crate::commands::dev;
use crate::commands::doctor;
use crate::commands::explain;
use crate::commands::publish;
use crate::commands::read;
use crate::commands::serve;
use crate::commands::sub;
use crate::commands::topic;
use crate::settings::PrivateKey;
use crate::settings::Target;
use crate::values;

/// A message broker whose acknowledgements hold
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) private_key: PrivateKey,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags every command knows.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Print results as JSON, one object a line; errors too, on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Print only results
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Log what happens to standard error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
    /// Set any setting, such as `producer.linger_us=500`
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = values::pair)]
    #[arg(help_heading = "Global options")]
    pub(crate) set: Vec<(String, String)>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure a cluster under load
    Bench(bench::Arguments),
    /// Watch a failover: three brokers, kill -9 of the leader, nothing lost
    Demo(demo::Arguments),
    /// The processing step of the demonstration
    #[command(hide = true)]
    DemoStep(demo::work::Arguments),
    /// Start a cluster on this machine, with certificates and a context
    Dev(dev::Arguments),
    /// Run a broker
    #[command(visible_alias = "server")]
    Serve(serve::Arguments),
    /// Publish messages
    Pub(publish::Arguments),
    /// Subscribe to topics
    Sub(sub::Arguments),
    /// Read one page of a partition
    Read(read::Arguments),
    /// Create, list, describe and delete topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Make certificates and look at them
    #[command(subcommand)]
    Cert(cert::Command),
    /// Make, watch and change a cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Check settings, certificates and connections
    Doctor(doctor::Arguments),
    /// Explain an error code
    Explain(explain::Arguments),
    /// Choose between clusters
    #[command(subcommand)]
    Ctx(ctx::Command),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}
