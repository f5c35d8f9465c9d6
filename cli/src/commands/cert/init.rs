//! `quorate cert init`: the authorities and first certificates of a cluster.

use std::path::PathBuf;

use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use serde::Serialize;

use crate::clock;
use crate::commands::cert;
use crate::commands::cert::IssuedLine;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::values;

/// Arguments of `cert init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cluster's name; every identity carries it
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// The directory for authorities and certificates
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A broker and the hosts it is reached by; may be repeated
    #[arg(long = "broker", value_name = "NAME=HOST,IP..", value_parser = values::pair)]
    brokers: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Line {
    cluster: String,
    dir: String,
    peer_ca: String,
    client_ca: String,
    brokers: Vec<IssuedLine>,
    admin: IssuedLine,
}

pub(super) fn run(arguments: Arguments, invocation: &Invocation) -> Result<(), Failure> {
    let broker = |(name, hosts): (String, String)| BrokerRequest {
        name,
        hosts: hosts.split(',').map(str::to_owned).collect(),
    };
    let made = quorate_certs::init(&InitRequest {
        cluster: arguments.cluster,
        out: arguments.out,
        brokers: arguments.brokers.into_iter().map(broker).collect(),
        development: false,
        now: clock::wall(),
    })
    .map_err(|error| Failure::usage(error.to_string()))?;
    let output = &invocation.output;
    if output.is_json() {
        return output.object(&Line {
            dir: cert::text(&made.dir),
            peer_ca: cert::text(&made.peer_ca),
            client_ca: cert::text(&made.client_ca),
            brokers: made.brokers.iter().map(IssuedLine::from).collect(),
            admin: IssuedLine::from(&made.admin),
            cluster: made.cluster,
        });
    }
    output.line(format_args!(
        "authorities of `{}` in {}",
        made.cluster,
        made.dir.display()
    ))?;
    for issued in made.brokers.iter().chain([&made.admin]) {
        output.line(format_args!("  {}", cert::summary(issued)))?;
    }
    output.note("keep peer-ca.key and client-ca.key offline; brokers do not need them");
    Ok(())
}
