//! Reads certificates back: whose they are, until when, and whether a key belongs to them.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use crate::files;
use crate::files::KeyFileError;
use crate::identity::Identity;
use crate::template::DEVELOPMENT_UNIT;

/// Why a certificate could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The system refused.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no PEM certificate: {why}", .path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The private key is not usable.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The file holds no private key.
    #[error("{} holds no PEM private key of a supported kind", .0.display())]
    NotAKey(PathBuf),
}

/// What a certificate says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CertificateReport {
    /// The one identity; `None` if there is not exactly one, or it breaks the grammar.
    pub identity: Option<Identity>,
    /// Every URI it carries, as text.
    pub uris: Vec<String>,
    /// Subject, as text.
    pub subject: String,
    /// Issuer, as text.
    pub issuer: String,
    /// Whether it is a certificate authority.
    pub authority: bool,
    /// Whether its subject marks an authority made for one machine.
    pub development: bool,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Host names and addresses.
    pub sans: Vec<String>,
    /// `server`, `client`: what it may be used for.
    pub usages: Vec<&'static str>,
}

/// Reads the first certificate of a PEM file.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn inspect(path: &Path) -> Result<CertificateReport, InspectError> {
    let der = read(path)?;
    let refuse = |why: String| InspectError::NotACertificate {
        path: path.to_owned(),
        why,
    };
    let certificate = parse(&der).map_err(refuse)?;
    Ok(report(&certificate))
}

/// Whether the private key in `key` belongs to the first certificate in `certificate`.
///
/// # Errors
/// When a file cannot be read, or the key can be read by others.
pub fn key_matches(certificate: &Path, key: &Path) -> Result<bool, InspectError> {
    let der = read(certificate)?;
    let refuse = |why: String| InspectError::NotACertificate {
        path: certificate.to_owned(),
        why,
    };
    let parsed = parse(&der).map_err(refuse)?;
    let pem = files::read_key_file(key)?;
    let key = KeyPair::from_pem(&pem).map_err(|_| InspectError::NotAKey(key.to_owned()))?;
    Ok(parsed.public_key().subject_public_key.data == key.public_key_raw())
}

/// What issuing needs to know about an authority.
pub(crate) struct AuthorityFacts {
    pub(crate) cluster: String,
    pub(crate) common_name: String,
    pub(crate) not_after: SystemTime,
}

/// Reads an authority's certificate, or says why it is none.
pub(crate) fn authority_facts(der: &[u8]) -> Result<AuthorityFacts, String> {
    let certificate = parse(der)?;
    if !certificate.is_ca() {
        return Err("it is not a certificate authority".to_owned());
    }
    let report = report(&certificate);
    let [uri] = report.uris.as_slice() else {
        return Err("it names no cluster".to_owned());
    };
    let cluster = uri.strip_prefix("spiffe://").unwrap_or_default();
    crate::identity::check_cluster(cluster).map_err(|error| error.to_string())?;
    let common_name = attribute(certificate.subject().iter_common_name());
    Ok(AuthorityFacts {
        cluster: cluster.to_owned(),
        common_name,
        not_after: report.not_after,
    })
}

/// The raw public key of the first certificate of a PEM text.
pub(crate) fn public_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    Ok(parse(&der)?.public_key().subject_public_key.data.to_vec())
}

/// Lower-case hexadecimal, two digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<CertificateDer<'static>, InspectError> {
    let text = fs::read(path).map_err(|source| InspectError::Io {
        path: path.to_owned(),
        source,
    })?;
    CertificateDer::from_pem_slice(&text).map_err(|error| InspectError::NotACertificate {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow the certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn report(certificate: &X509Certificate<'_>) -> CertificateReport {
    let mut uris = Vec::new();
    let mut sans = Vec::new();
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => sans.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => sans.extend(address(bytes)),
                _ => {}
            }
        }
    }
    let identity = match uris.as_slice() {
        [uri] => Identity::parse(uri),
        _ => None,
    };
    CertificateReport {
        identity,
        uris,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        authority: certificate.is_ca(),
        development: is_development(certificate.subject()),
        serial: hexadecimal(certificate.raw_serial()),
        not_before: system_time(certificate.validity().not_before),
        not_after: system_time(certificate.validity().not_after),
        sans,
        usages: usages(certificate),
    }
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<&'static str> {
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return Vec::new();
    };
    let named = [
        (usage.value.server_auth, "server"),
        (usage.value.client_auth, "client"),
    ];
    named
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect()
}

fn is_development(subject: &X509Name<'_>) -> bool {
    attribute(subject.iter_organizational_unit()) == DEVELOPMENT_UNIT
}

fn attribute<'a>(
    mut values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> String {
    values
        .next()
        .and_then(|value| value.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn address(bytes: &[u8]) -> Option<String> {
    let address: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
        _ => return None,
    };
    Some(address.to_string())
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(seconds)
}
