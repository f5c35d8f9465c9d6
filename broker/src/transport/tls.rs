//! TLS 1.3 for both planes, built from PEM text.
//!
//! No early data, no tickets, no session store, no key log: a resumed session would skip the
//! certificate check.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::CipherSuite;
use rustls::ClientConfig;
use rustls::NamedGroup;
use rustls::ServerConfig;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::TrustAnchor;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use thiserror::Error;

use crate::auth::Certificate;
use crate::auth::Principal;
use crate::auth::Role;
use crate::auth::TrustDomain;
use crate::clock::Clock;
use crate::config::TlsMaterial;
use crate::transport::plane::Plane;
use crate::transport::runtime::WallTime;
use crate::transport::verifier::BrokerVerifier;
use crate::transport::verifier::ChainVerifier;
use crate::transport::verifier::ClientVerifier;
use crate::transport::verifier::Purpose;

/// A chain must leave room in the handshake buffer of the other side.
const CHAIN_BYTES_MAX: usize = 8 * 1024;

/// Why the certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not the PEM it should be.
    #[error("`tls.{key}` holds no usable {what}: {reason}")]
    Pem {
        /// The configuration key that names the file.
        key: &'static str,
        /// What was looked for.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The chain is too long for a handshake.
    #[error(
        "the chain in `tls.cert_file` has {bytes} bytes, at most {CHAIN_BYTES_MAX} are allowed"
    )]
    ChainTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The certificate would be refused by every client.
    #[error(
        "the certificate in `tls.cert_file` cannot be used: {reason}; issue one with `quorate cert issue broker NAME`"
    )]
    Unusable {
        /// Why.
        reason: String,
    },
    /// Certificate and key do not belong together, or the key is of an unknown kind.
    #[error("`tls.key_file` does not fit `tls.cert_file`: {reason}")]
    KeyMismatch {
        /// What the TLS engine says.
        reason: String,
    },
    /// The cryptography cannot do TLS 1.3 over QUIC.
    #[error("the cryptography provider is not usable: {reason}")]
    Provider {
        /// What the TLS engine says.
        reason: String,
    },
}

/// The cryptography behind TLS: suites and key exchanges, in order of preference.
#[derive(Clone, Debug)]
pub struct Crypto(Arc<CryptoProvider>);

impl Crypto {
    /// AWS-LC: AES-128-GCM first, the cheapest on processors with AES instructions; key exchange
    /// X25519MLKEM768, or X25519 for clients that cannot.
    #[must_use]
    pub fn aws_lc() -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some());
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let preferred = [NamedGroup::X25519MLKEM768, NamedGroup::X25519];
        provider
            .kx_groups
            .retain(|group| preferred.contains(&group.name()));
        provider
            .kx_groups
            .sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
        Self(Arc::new(provider))
    }
}

/// This broker's own identity, checked, and what it is checked with.
#[derive(Debug)]
pub(crate) struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    crypto: Crypto,
    clock: Arc<dyn Clock>,
    name: String,
}

impl Own {
    /// Reads certificate and key, and checks what everybody else would.
    pub(crate) fn load(
        material: &TlsMaterial,
        cluster: &TrustDomain,
        (crypto, clock): (&Crypto, &Arc<dyn Clock>),
    ) -> Result<Self, TlsError> {
        let chain = certificates("cert_file", &material.certificate)?;
        let principal = check_own(&chain, material, cluster, (crypto, clock.as_ref()))?;
        let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|error| TlsError::Pem {
            key: "key_file",
            what: "private key",
            reason: error.to_string(),
        })?;
        Ok(Self {
            chain,
            key,
            crypto: crypto.clone(),
            clock: clock.clone(),
            name: principal.name().to_owned(),
        })
    }

    /// The broker's name in its certificate.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn time(&self) -> Arc<WallTime> {
        Arc::new(WallTime(self.clock.clone()))
    }

    fn verifier(&self, key: &'static str, pem: &[u8]) -> Result<ChainVerifier, TlsError> {
        let algorithms = self.crypto.0.signature_verification_algorithms;
        Ok(ChainVerifier::new(anchors(key, pem)?, algorithms))
    }
}

/// Builds the TLS of the accepting side.
pub(crate) fn server_config(
    plane: Plane,
    own: &Own,
    material: &TlsMaterial,
) -> Result<QuicServerConfig, TlsError> {
    let verifier = match plane {
        Plane::Client => own.verifier("client_ca_file", &material.client_ca)?,
        Plane::Peer => own.verifier("peer_ca_file", &material.peer_ca)?,
    };
    let mut config = ServerConfig::builder_with_details(own.crypto.0.clone(), own.time())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| provider_error(&error))?
        .with_client_cert_verifier(Arc::new(ClientVerifier(verifier)))
        .with_single_cert(own.chain.clone(), own.key.clone_key())
        .map_err(|error| mismatch(&error))?;
    config.alpn_protocols = vec![plane.alpn().to_vec()];
    config.ignore_client_order = true;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(|error| TlsError::Provider {
        reason: error.to_string(),
    })
}

/// Builds the TLS of the dialling side of the peer plane.
pub(crate) fn dial_config(own: &Own, material: &TlsMaterial) -> Result<QuicClientConfig, TlsError> {
    let verifier = own.verifier("peer_ca_file", &material.peer_ca)?;
    let mut config = ClientConfig::builder_with_details(own.crypto.0.clone(), own.time())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| provider_error(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BrokerVerifier(verifier)))
        .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
        .map_err(|error| mismatch(&error))?;
    config.alpn_protocols = vec![Plane::Peer.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    QuicClientConfig::try_from(config).map_err(|error| TlsError::Provider {
        reason: error.to_string(),
    })
}

/// A broker whose certificate every client refuses should say so when it starts.
fn check_own(
    chain: &[CertificateDer<'static>],
    material: &TlsMaterial,
    cluster: &TrustDomain,
    (crypto, clock): (&Crypto, &dyn Clock),
) -> Result<Principal, TlsError> {
    let bytes = chain.iter().map(|certificate| certificate.len()).sum();
    if bytes > CHAIN_BYTES_MAX {
        return Err(TlsError::ChainTooLong { bytes });
    }
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(unusable("the file is empty"));
    };
    let now = UnixTime::since_unix_epoch(Duration::from_micros(clock.now_micros()));
    let issuers = ChainVerifier::new(
        anchors("peer_ca_file", &material.peer_ca)?,
        crypto.0.signature_verification_algorithms,
    );
    for purpose in [Purpose::Server, Purpose::Client] {
        issuers
            .verify(leaf, intermediates, now, purpose)
            .map_err(unusable)?;
    }
    let certificate = Certificate::parse(leaf).map_err(unusable)?;
    let principal = Principal::from_certificate(&certificate, cluster).map_err(unusable)?;
    if principal.role() != Role::Broker {
        return Err(unusable(format!("{principal} is not a broker")));
    }
    Ok(principal)
}

/// The last moment a broker's own certificate is valid, since 1970; none if it cannot be read.
#[must_use]
pub fn valid_until(material: &TlsMaterial) -> Option<Duration> {
    let chain = certificates("cert_file", &material.certificate).ok()?;
    let leaf = Certificate::parse(chain.first()?).ok()?;
    Some(leaf.not_after())
}

fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |reason: String| TlsError::Pem {
        key,
        what: "certificate",
        reason,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(error("it has no CERTIFICATE section".to_owned())),
        Ok(found) => Ok(found),
        Err(reason) => Err(error(reason.to_string())),
    }
}

fn anchors(key: &'static str, pem: &[u8]) -> Result<Vec<TrustAnchor<'static>>, TlsError> {
    let found = certificates(key, pem)?;
    let anchor = |certificate: &CertificateDer<'static>| {
        webpki::anchor_from_trusted_cert(certificate)
            .map(|anchor| anchor.to_owned())
            .map_err(|error| TlsError::Pem {
                key,
                what: "authority certificate",
                reason: error.to_string(),
            })
    };
    found.iter().map(anchor).collect()
}

fn unusable(reason: impl ToString) -> TlsError {
    TlsError::Unusable {
        reason: reason.to_string(),
    }
}

fn mismatch(error: &rustls::Error) -> TlsError {
    TlsError::KeyMismatch {
        reason: error.to_string(),
    }
}

fn provider_error(error: &rustls::Error) -> TlsError {
    TlsError::Provider {
        reason: error.to_string(),
    }
}
