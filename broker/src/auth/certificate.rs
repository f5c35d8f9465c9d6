//! Reads the parts of an X.509 certificate that identity and validity depend on.

use std::time::Duration;

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Why a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not an X.509 certificate, or one with a malformed extension.
    #[error("the certificate is malformed: {reason}")]
    Malformed {
        /// What the parser says.
        reason: String,
    },
}

/// One certificate's names and validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    uri_names: Vec<String>,
    not_before: Duration,
    not_after: Duration,
}

impl Certificate {
    /// Reads a DER certificate. Does not verify it: that is done before, by the TLS verifier.
    ///
    /// # Errors
    /// The bytes are not a certificate, or a subject alternative name is malformed.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow it"));
        }
        let names = certificate.subject_alternative_name().map_err(malformed)?;
        let mut uri_names = Vec::new();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uri_names.push((*uri).to_owned()),
                GeneralName::Invalid(..) => return Err(malformed("a name in it is invalid")),
                _ => {}
            }
        }
        let validity = certificate.validity();
        Ok(Self {
            uri_names,
            not_before: since_1970(validity.not_before.timestamp()),
            not_after: since_1970(validity.not_after.timestamp()),
        })
    }

    /// Every URI among its subject alternative names.
    #[must_use]
    pub fn uri_names(&self) -> &[String] {
        &self.uri_names
    }

    /// When it begins to be valid, since 1970.
    #[must_use]
    pub const fn not_before(&self) -> Duration {
        self.not_before
    }

    /// The last moment it is valid, since 1970.
    #[must_use]
    pub const fn not_after(&self) -> Duration {
        self.not_after
    }
}

fn since_1970(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn malformed(reason: impl ToString) -> CertificateError {
    CertificateError::Malformed {
        reason: reason.to_string(),
    }
}
