//! `quorate cert`: make certificates and look at them.

mod init;
mod issue;
mod show;

use std::path::Path;

use quorate_certs::Issued;
use serde::Serialize;

use crate::encoding;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;

/// What to do with certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the authorities of a new cluster, its brokers' certificates and an administrator's
    Init(init::Arguments),
    /// Issue a certificate
    Issue(issue::Arguments),
    /// Show what a certificate says
    Show(show::Arguments),
}

/// Makes or shows certificates.
pub(crate) fn run(command: Command, invocation: &Invocation) -> Result<Exit, Failure> {
    match command {
        Command::Init(arguments) => init::run(arguments, invocation)?,
        Command::Issue(arguments) => issue::run(arguments, invocation)?,
        Command::Show(arguments) => show::run(&arguments, invocation)?,
    }
    Ok(Exit::Done)
}

/// An issued certificate as it stands in JSON.
#[derive(Serialize)]
struct IssuedLine {
    identity: String,
    dir: String,
    ca_file: String,
    cert_file: String,
    key_file: Option<String>,
    serial: String,
    not_before: String,
    not_after: String,
    sans: Vec<String>,
}

impl From<&Issued> for IssuedLine {
    fn from(issued: &Issued) -> Self {
        Self {
            identity: issued.identity.clone(),
            dir: text(&issued.dir),
            ca_file: text(&issued.ca_file),
            cert_file: text(&issued.cert_file),
            key_file: issued.key_file.as_deref().map(text),
            serial: issued.serial.clone(),
            not_before: encoding::timestamp(issued.not_before),
            not_after: encoding::timestamp(issued.not_after),
            sans: issued.sans.clone(),
        }
    }
}

/// One line for people.
fn summary(issued: &Issued) -> String {
    let until = encoding::seconds(issued.not_after);
    format!(
        "{}  {}  until {until}",
        issued.identity,
        issued.dir.display()
    )
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
