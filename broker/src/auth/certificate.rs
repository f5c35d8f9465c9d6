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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::CertificateParams;
    use rcgen::KeyPair;
    use rcgen::SanType;
    use rcgen::string::Ia5String;

    use super::*;
    use crate::auth::IdentityError;
    use crate::auth::Principal;
    use crate::auth::TrustDomain;

    fn uri(text: &str) -> SanType {
        SanType::URI(Ia5String::try_from(text).unwrap())
    }

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn principal(names: Vec<SanType>) -> Result<Principal, IdentityError> {
        let domain = TrustDomain::parse("prod").unwrap();
        let certificate = Certificate::parse(&certificate(names)).unwrap();
        Principal::from_certificate(&certificate, &domain)
    }

    #[test]
    fn the_only_uri_name_is_the_principal_whatever_else_is_named() {
        let names = vec![
            SanType::DnsName(Ia5String::try_from("spiffe.example.org").unwrap()),
            uri("spiffe://prod/client/a"),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        let principal = principal(names).unwrap();
        assert_eq!(principal.to_string(), "spiffe://prod/client/a");
    }

    #[test]
    fn none_or_several_uri_names_are_refused() {
        let count = |names| match principal(names) {
            Err(IdentityError::UriCount { count, .. }) => count,
            other => panic!("{other:?}"),
        };
        assert_eq!(count(vec![]), 0);
        let dns = SanType::DnsName(Ia5String::try_from("a.example.org").unwrap());
        assert_eq!(count(vec![dns]), 0);
        let (a, b) = (uri("spiffe://prod/client/a"), uri("spiffe://prod/admin/b"));
        assert_eq!(count(vec![a.clone(), b]), 2);
        let malformed = uri("not a uri at all");
        assert_eq!(count(vec![a.clone(), malformed]), 2);
        assert_eq!(count(vec![a.clone(), a]), 2);
    }

    #[test]
    fn validity_is_read() {
        let certificate = Certificate::parse(&certificate(vec![])).unwrap();
        assert_eq!(certificate.not_before(), Duration::from_secs(1_767_225_600));
        assert_eq!(certificate.not_after(), Duration::from_secs(1_767_312_000));
    }

    #[test]
    fn bytes_behind_a_certificate_are_refused() {
        let mut der = certificate(vec![]);
        der.push(0);
        assert!(Certificate::parse(&der).is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in 0..300_usize, bit in 0..8_u8) {
            let mut der = certificate(vec![uri("spiffe://prod/client/a")]);
            if let Some(byte) = der.get_mut(at) {
                *byte ^= 1 << bit;
            }
            if let Ok(parsed) = Certificate::parse(&der) {
                prop_assert!(parsed.uri_names().len() <= 1);
            }
        }
    }
}
