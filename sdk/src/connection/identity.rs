//! Who this client is: its certificate and key, and the authority that vouches for brokers.
//!
//! Invariant: a certificate names exactly one `spiffe://<cluster>/<role>/<name>`.

use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::path::Path;
use std::path::PathBuf;

use quorate_protocol::ErrorCode;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::config::ClientOptions;
use crate::error::Error;
use crate::error::Result;

/// The identity files, read and checked.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) roots: RootCertStore,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) trust_domain: String,
    /// Changes when one of the files does.
    pub(super) fingerprint: u64,
}

impl Identity {
    pub(super) fn load(options: &ClientOptions) -> Result<Self> {
        let ca_file = required(options.ca_file.as_ref(), "ca_file")?;
        let cert_file = required(options.cert_file.as_ref(), "cert_file")?;
        let key_file = required(options.key_file.as_ref(), "key_file")?;
        let mut hasher = DefaultHasher::new();

        let mut roots = RootCertStore::empty();
        for root in certificates(ca_file)? {
            root.as_ref().hash(&mut hasher);
            roots
                .add(root)
                .map_err(|error| unusable(ca_file, &error.to_string()))?;
        }
        let chain = certificates(cert_file)?;
        chain.iter().for_each(|der| der.as_ref().hash(&mut hasher));
        let leaf = chain
            .first()
            .ok_or_else(|| unusable(cert_file, "it holds no certificate"))?;
        let name = spiffe_name(leaf).map_err(|why| unusable(cert_file, &why))?;
        refuse_if_others_can_read(key_file)?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| unusable(key_file, &error.to_string()))?;
        key.secret_der().hash(&mut hasher);

        Ok(Self {
            roots,
            trust_domain: name.trust_domain,
            chain,
            key,
            fingerprint: hasher.finish(),
        })
    }
}

fn required<'a>(file: Option<&'a PathBuf>, key: &str) -> Result<&'a Path> {
    file.map(PathBuf::as_path).ok_or_else(|| {
        Error::new(
            ErrorCode::IDENTITY_FILES,
            format!("option `client.{key}` is not set"),
        )
        .with_help(format!(
            "name the file in QUORATE_CLIENT__{} or in the builder; `quorate dev` makes a set",
            key.to_ascii_uppercase()
        ))
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<std::result::Result<Vec<_>, _>>();
    let found = read().map_err(|error| unusable(file, &error.to_string()))?;
    if found.is_empty() {
        return Err(unusable(file, "it holds no certificate"));
    }
    Ok(found)
}

fn unusable(file: &Path, why: &str) -> Error {
    let message = format!("identity file {}: {why}", file.display());
    Error::new(ErrorCode::IDENTITY_FILES, message).with_help(
        "client.ca_file, client.cert_file and client.key_file name the ca.pem, cert.pem and \
         key.pem of one identity: quorate doctor",
    )
}

#[cfg(unix)]
fn refuse_if_others_can_read(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file
        .metadata()
        .map_err(|error| unusable(file, &error.to_string()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let help = format!("chmod 600 {}", file.display());
        return Err(unusable(file, "others can read this private key").with_help(help));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_if_others_can_read(_file: &Path) -> Result<()> {
    Ok(())
}

/// `spiffe://<trust domain>/<role>/<name>`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SpiffeName {
    pub(super) trust_domain: String,
    pub(super) role: String,
    pub(super) name: String,
}

/// The only URI name of a certificate.
pub(super) fn spiffe_name(der: &CertificateDer<'_>) -> std::result::Result<SpiffeName, String> {
    let (_, certificate) =
        X509Certificate::from_der(der.as_ref()).map_err(|error| error.to_string())?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| error.to_string())?
        .ok_or("it has no subject alternative name")?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => {
            parse_spiffe(uri).ok_or_else(|| format!("`{uri}` is no spiffe://cluster/role/name"))
        }
        (None, _) => Err("it has no URI name".to_owned()),
        (Some(_), Some(_)) => Err("it has more than one URI name".to_owned()),
    }
}

fn parse_spiffe(uri: &str) -> Option<SpiffeName> {
    if uri.len() > 256 || !uri.is_ascii() || uri.contains(['%', '?', '#']) {
        return None;
    }
    let (trust_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let (role, name) = path.split_once('/')?;
    let segments = [trust_domain, role].into_iter().chain(name.split('/'));
    for segment in segments {
        if segment.is_empty() || segment == "." || segment == ".." {
            return None;
        }
    }
    Some(SpiffeName {
        trust_domain: trust_domain.to_owned(),
        role: role.to_owned(),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_accepted() {
        let name = parse_spiffe("spiffe://dev/broker/broker-1").unwrap();
        assert_eq!(
            (name.trust_domain.as_str(), name.role.as_str()),
            ("dev", "broker")
        );
        for uri in [
            "spiffe://dev/broker",
            "spiffe://dev/broker/",
            "spiffe:///broker/x",
            "spiffe://dev//x",
            "spiffe://dev/broker/../x",
            "spiffe://dev/broker/%2e",
            "https://dev/broker/x",
        ] {
            assert_eq!(parse_spiffe(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
        let options = ClientOptions {
            ca_file: Some("/none/ca.pem".into()),
            cert_file: Some("/none/cert.pem".into()),
            key_file: Some("/none/key.pem".into()),
            ..ClientOptions::default()
        };
        let error = Identity::load(&options).unwrap_err();
        assert!(error.to_string().contains("/none/ca.pem"), "{error}");
        assert!(error.help().unwrap().contains("client.ca_file"));
    }

    #[test]
    fn a_missing_option_names_the_variable_to_set() {
        let error = Identity::load(&ClientOptions::default()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::IDENTITY_FILES);
        assert!(error.help().unwrap().contains("QUORATE_CLIENT__CA_FILE"));
    }
}
