//! Makes certificates, good and bad.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::string::Ia5String;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// What a leaf certificate says.
pub(crate) struct Leaf {
    pub(crate) uris: Vec<String>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// First and last day, as (year, month, day).
    pub(crate) validity: [(i32, u8, u8); 2],
}

impl Leaf {
    /// A good client certificate with other URI names.
    pub(crate) fn named(uris: &[&str]) -> Self {
        Self {
            uris: uris.iter().map(ToString::to_string).collect(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            validity: [(2020, 1, 1), (2100, 1, 1)],
        }
    }
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
    pub(crate) pem: String,
}

impl Identity {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn issue(&self, leaf: Leaf) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let uris = leaf.uris.into_iter();
        let names = uris.map(|uri| SanType::URI(Ia5String::try_from(uri).unwrap()));
        params.subject_alt_names.extend(names);
        params.extended_key_usages = leaf.usages;
        let [first, last] = leaf.validity;
        params.not_before = rcgen::date_time_ymd(first.0, first.1, first.2);
        params.not_after = rcgen::date_time_ymd(last.0, last.1, last.2);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            pem: certificate.pem(),
            key,
        }
    }

    pub(crate) fn client(&self, uri: &str) -> Identity {
        self.issue(Leaf::named(&[uri]))
    }
}
