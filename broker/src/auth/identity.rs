//! The identity in a certificate: `spiffe://<cluster>/<role>/<name>`, parsed once, strictly.
//!
//! Nothing is normalised: text that is not exactly of that form is refused.

use std::fmt;

use thiserror::Error;

use crate::auth::certificate::Certificate;

const SCHEME: &str = "spiffe://";
const URI_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 128;

/// Why a certificate does not name a principal of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate names none, or more than one.
    #[error(
        "the certificate must carry exactly one URI name (spiffe://{domain}/ROLE/NAME), it carries {count}"
    )]
    UriCount {
        /// How many URI names it carries.
        count: usize,
        /// The trust domain of this cluster.
        domain: TrustDomain,
    },
    /// The name is not of the only accepted form.
    #[error("the certificate's name {uri:?} is not accepted: {reason}")]
    Form {
        /// The name, shortened.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The certificate belongs to another cluster.
    #[error("the certificate is of cluster {found:?}, this broker belongs to {expected}")]
    ForeignDomain {
        /// The trust domain in the certificate.
        found: String,
        /// The trust domain of this cluster.
        expected: TrustDomain,
    },
}

/// What kind of participant a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A member of the cluster.
    Broker,
    /// An application.
    Client,
    /// A person or program that administers the cluster.
    Admin,
    /// A gateway that speaks for HTTP callers.
    Gateway,
}

impl Role {
    const ALL: [Self; 4] = [Self::Broker, Self::Client, Self::Admin, Self::Gateway];

    /// The word that stands for it in a certificate.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Client => "client",
            Self::Admin => "admin",
            Self::Gateway => "gateway",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A cluster's name as certificates carry it: 1 to 128 of `[a-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// Checks a cluster name.
    ///
    /// # Errors
    /// The text is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        check_segment(text).map_err(|reason| form(text, reason))?;
        Ok(Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A principal's 64-bit name in replicated state. Stable across releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalKey(u64);

impl PrincipalKey {
    /// From its stored value.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The value to store.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// An authenticated identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    domain: TrustDomain,
    role: Role,
    name: Box<str>,
}

impl Principal {
    /// The principal a certificate names.
    ///
    /// # Errors
    /// The certificate has no URI name or several, or its name is not one of this cluster.
    pub fn from_certificate(
        certificate: &Certificate,
        domain: &TrustDomain,
    ) -> Result<Self, IdentityError> {
        match certificate.uri_names() {
            [uri] => Self::parse(uri, domain),
            others => Err(IdentityError::UriCount {
                count: others.len(),
                domain: domain.clone(),
            }),
        }
    }

    /// Reads `spiffe://<cluster>/<role>/<name>`.
    ///
    /// # Errors
    /// The text is not of that form, or of another cluster.
    pub fn parse(uri: &str, domain: &TrustDomain) -> Result<Self, IdentityError> {
        if uri.len() > URI_BYTES_MAX {
            return Err(form(uri, "it is longer than 256 bytes"));
        }
        let rest = uri
            .strip_prefix(SCHEME)
            .ok_or_else(|| form(uri, "it must begin with spiffe://"))?;
        let mut parts = rest.splitn(3, '/');
        let (Some(found), Some(role), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(form(uri, "it must be spiffe://CLUSTER/ROLE/NAME"));
        };
        check_segment(found).map_err(|reason| form(uri, reason))?;
        check_name(name).map_err(|reason| form(uri, reason))?;
        let role = Role::parse(role)
            .ok_or_else(|| form(uri, "the role must be broker, client, admin or gateway"))?;
        if found != domain.as_str() {
            return Err(IdentityError::ForeignDomain {
                found: found.to_owned(),
                expected: domain.clone(),
            });
        }
        Ok(Self {
            domain: domain.clone(),
            role,
            name: name.into(),
        })
    }

    /// The cluster it belongs to.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What kind of participant it is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its name within the role.
    #[must_use]
    pub const fn name(&self) -> &str {
        &self.name
    }

    /// Its name in replicated state: FNV-1a of the URI, finished with a full mix of the bits.
    ///
    /// Names are chosen by whoever holds the CA key, so an accidental collision is the only one to
    /// fear, and a 64-bit value makes it negligible.
    #[must_use]
    pub fn key(&self) -> PrincipalKey {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.to_string().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        PrincipalKey(hash ^ (hash >> 31))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.domain, self.role, self.name)
    }
}

/// `name`, or `tenant/name`: parts of a path that leads only downwards.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Err("its name is longer than 128 bytes");
    }
    name.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    if segment.is_empty() {
        return Err("it has an empty part");
    }
    if segment.len() > NAME_BYTES_MAX {
        return Err("a part is longer than 128 bytes");
    }
    if segment.contains("..") || segment == "." {
        return Err("it has a part with dots only or two dots in a row");
    }
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if !segment.bytes().all(allowed) {
        return Err("it may have only a-z, 0-9, '.', '_' and '-' in each part");
    }
    Ok(())
}

fn form(uri: &str, reason: &'static str) -> IdentityError {
    IdentityError::Form {
        uri: uri.chars().take(64).collect(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prod() -> TrustDomain {
        TrustDomain::parse("prod").unwrap()
    }

    #[test]
    fn a_principal_prints_as_the_uri_it_came_from() {
        for uri in [
            "spiffe://prod/client/till-7",
            "spiffe://prod/admin/a",
            "spiffe://prod/gateway/acme/web.1",
            "spiffe://prod/broker/broker_1",
        ] {
            let principal = Principal::parse(uri, &prod()).unwrap();
            assert_eq!(principal.to_string(), uri);
        }
        let principal = Principal::parse("spiffe://prod/client/acme/app", &prod()).unwrap();
        assert_eq!(principal.role(), Role::Client);
        assert_eq!(principal.name(), "acme/app");
        assert_eq!(principal.trust_domain(), &prod());
    }

    #[test]
    fn text_of_any_other_form_is_refused() {
        let long = format!("spiffe://prod/client/{}", "a".repeat(129));
        let huge = format!("spiffe://prod/client/{}", "a".repeat(10_000));
        for uri in [
            "",
            "prod/client/a",
            "https://prod/client/a",
            "SPIFFE://prod/client/a",
            "spiffe://",
            "spiffe://prod",
            "spiffe://prod/client",
            "spiffe://prod/client/",
            "spiffe://prod/client/a/",
            "spiffe://prod/client//a",
            "spiffe://prod//a",
            "spiffe:///client/a",
            "spiffe://prod/client/..",
            "spiffe://prod/client/../admin/a",
            "spiffe://prod/client/a..b",
            "spiffe://prod/client/.",
            "spiffe://prod/client/a%2fb",
            "spiffe://prod/client/%2e%2e",
            "spiffe://prod/client/A",
            "spiffe://prod/client/a b",
            "spiffe://prod/client/a\0",
            "spiffe://prod/client/a\u{e9}",
            "spiffe://prod/client/a?x",
            "spiffe://prod/client/a#x",
            "spiffe://user@prod/client/a",
            "spiffe://prod:4747/client/a",
            "spiffe://prod/root/a",
            "spiffe://prod/Client/a",
            &long,
            &huge,
        ] {
            assert!(
                matches!(
                    Principal::parse(uri, &prod()),
                    Err(IdentityError::Form { .. })
                ),
                "{uri:?}"
            );
        }
    }

    #[test]
    fn another_cluster_is_refused() {
        let error = Principal::parse("spiffe://test/client/a", &prod()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the certificate is of cluster \"test\", this broker belongs to prod"
        );
    }

    #[test]
    fn keys_are_stable_and_differ() {
        let a = Principal::parse("spiffe://prod/client/a", &prod()).unwrap();
        let b = Principal::parse("spiffe://prod/client/b", &prod()).unwrap();
        assert_eq!(a.key(), PrincipalKey::new(a.key().get()));
        assert_ne!(a.key(), b.key());
        assert_eq!(a.key().get(), KEY_OF_A);
    }

    /// Stored in replicated state: must never change.
    const KEY_OF_A: u64 = 17_232_683_802_753_600_463;

    proptest! {
        #[test]
        fn parsing_never_panics_and_accepts_only_what_it_prints(uri in "(spiffe://prod/(client|admin)/)?[a-z./%A-Z0-9\\x00]{0,40}") {
            if let Ok(principal) = Principal::parse(&uri, &prod()) {
                prop_assert_eq!(principal.to_string(), uri);
            }
        }
    }
}
