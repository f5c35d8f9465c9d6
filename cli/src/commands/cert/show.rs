//! `quorate cert show FILE`: what a certificate says.

use std::path::PathBuf;

use quorate_certs::CertificateReport;
use serde::Serialize;

use crate::clock;
use crate::encoding;
use crate::failure::Failure;
use crate::invocation::Invocation;

/// Arguments of `cert show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A certificate in PEM form
    file: PathBuf,
}

#[derive(Serialize)]
struct Line {
    identity: Option<String>,
    subject: String,
    issuer: String,
    authority: bool,
    development: bool,
    serial: String,
    not_before: String,
    not_after: String,
    expired: bool,
    usages: Vec<&'static str>,
    sans: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<(), Failure> {
    let report = quorate_certs::inspect(&arguments.file)
        .map_err(|error| Failure::identity(error.to_string()))?;
    let line = line(&report);
    if invocation.output.is_json() {
        return invocation.output.object(&line);
    }
    let rows = [
        (
            "identity",
            line.identity.unwrap_or_else(|| "none".to_owned()),
        ),
        ("subject", line.subject),
        ("issuer", line.issuer),
        (
            "authority",
            if line.authority { "yes" } else { "no" }.to_owned(),
        ),
        ("serial", line.serial),
        ("not before", encoding::seconds(report.not_before)),
        ("not after", encoding::seconds(report.not_after)),
        (
            "expired",
            if line.expired { "yes" } else { "no" }.to_owned(),
        ),
        ("used as", line.usages.join(", ")),
        ("hosts", line.sans.join(", ")),
    ];
    for (name, value) in rows {
        invocation.output.line(format_args!("{name:<11} {value}"))?;
    }
    Ok(())
}

fn line(report: &CertificateReport) -> Line {
    Line {
        identity: report.identity.as_ref().map(ToString::to_string),
        subject: encoding::visible(report.subject.as_bytes()),
        issuer: encoding::visible(report.issuer.as_bytes()),
        authority: report.authority,
        development: report.development,
        serial: report.serial.clone(),
        not_before: encoding::timestamp(report.not_before),
        not_after: encoding::timestamp(report.not_after),
        expired: report.not_after < clock::wall(),
        usages: report.usages.clone(),
        sans: report.sans.clone(),
    }
}
