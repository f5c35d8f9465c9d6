//! `quorate cert issue ROLE NAME`: one more certificate.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use quorate_certs::Authority;
use quorate_certs::IssueRequest;
use quorate_certs::Role;

use crate::clock;
use crate::commands::cert;
use crate::commands::cert::IssuedLine;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::values;

/// Arguments of `cert issue`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// broker, client, admin or gateway
    #[arg(value_name = "ROLE")]
    role: Role,
    /// The holder's name
    name: String,
    /// The directory made by `quorate cert init`
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Where the files go; by default beside the authorities, by role and name
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A host name or address a broker is reached by; may be repeated
    #[arg(long = "san", value_name = "HOST", value_delimiter = ',')]
    sans: Vec<String>,
    /// Lifetime; by default 30 days for brokers and 7 for others
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    ttl: Option<Duration>,
    /// Certify the key of this signing request (PEM) instead of making one
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments, invocation: &Invocation) -> Result<(), Failure> {
    let csr = match &arguments.csr {
        Some(path) => {
            Some(fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?)
        }
        None => None,
    };
    let authority =
        Authority::load(&arguments.ca).map_err(|error| Failure::usage(error.to_string()))?;
    let issued = authority
        .issue(&IssueRequest {
            role: arguments.role,
            name: arguments.name,
            sans: arguments.sans,
            ttl: arguments.ttl,
            csr,
            out: arguments.out,
            now: clock::wall(),
        })
        .map_err(|error| Failure::usage(error.to_string()))?;
    if invocation.output.is_json() {
        return invocation.output.object(&IssuedLine::from(&issued));
    }
    invocation.output.line(cert::summary(&issued))
}
