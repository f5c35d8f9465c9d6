//! Issues leaf certificates from the authorities kept in one directory.
//!
//! Identity and usages come from the request; a CSR contributes its public key and nothing else.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::files;
use crate::files::KeyFileError;
use crate::files::NewFiles;
use crate::files::WriteError;
use crate::identity::Identity;
use crate::identity::NameError;
use crate::identity::Role;
use crate::inspect;
use crate::template;
use crate::template::Host;
use crate::template::Plane;
use crate::template::Validity;

/// Why the authorities in a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such certificate.
    #[error("{} does not exist; create the authorities with `quorate cert init`", .0.display())]
    Missing(PathBuf),
    /// The system refused.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} is not the {expected} of a Quorate cluster: {why}", .path.display())]
    NotThisAuthority {
        /// The file.
        path: PathBuf,
        /// `peer CA` or `client CA`.
        expected: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The two authorities belong to different clusters.
    #[error("{} holds the authorities of two clusters, `{peer}` and `{client}`", .dir.display())]
    TwoClusters {
        /// The directory.
        dir: PathBuf,
        /// Cluster of the peer CA.
        peer: String,
        /// Cluster of the client CA.
        client: String,
    },
}

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A name breaks the grammar of identities.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A host name or address cannot be read.
    #[error("`{0}` is neither a host name nor an address (no port, no wildcard)")]
    Host(String),
    /// A broker nobody could check the name of.
    #[error(
        "broker `{0}` needs at least one host name or address that clients reach it by (--san)"
    )]
    NoHost(String),
    /// Hosts for somebody nobody dials.
    #[error("a {0} certificate carries no host names: only brokers are dialled (drop --san)")]
    HostsNotAllowed(Role),
    /// A lifetime of nothing.
    #[error("the lifetime is shorter than a second")]
    LifetimeTooShort,
    /// The certificate would outlive its authority.
    #[error("the lifetime ends after that of the {authority} in {}; ask for a shorter one (--ttl) or make new authorities", .path.display())]
    BeyondAuthority {
        /// `peer CA` or `client CA`.
        authority: &'static str,
        /// The authority's certificate.
        path: PathBuf,
    },
    /// The authority's private key is not usable.
    #[error("{role} certificates are issued by the {authority} only: {source}")]
    AuthorityKey {
        /// The role asked for.
        role: Role,
        /// `peer CA` or `client CA`.
        authority: &'static str,
        /// What is wrong with the key.
        source: KeyFileError,
    },
    /// The private key does not belong to the authority's certificate.
    #[error("{} is not the private key of {}", .key.display(), .certificate.display())]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// The certificate signing request is not usable.
    #[error("the certificate signing request is refused: {0}")]
    Csr(String),
    /// The files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The cryptography library refused.
    #[error("cannot make the certificate: {0}")]
    Crypto(String),
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

/// A certificate somebody asks for.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// What the holder is.
    pub role: Role,
    /// The holder's name.
    pub name: String,
    /// Host names and addresses; for brokers only, and at least one for them.
    pub sans: Vec<String>,
    /// Default: 30 days for brokers, 7 days for others.
    pub ttl: Option<Duration>,
    /// A PKCS#10 request (PEM) whose public key is certified; without it a key is made.
    pub csr: Option<String>,
    /// Where the files go; by default a folder named after role and name beside the authority.
    pub out: Option<PathBuf>,
    /// The present time.
    pub now: SystemTime,
}

/// An issued certificate and its files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Issued {
    /// `spiffe://CLUSTER/ROLE/NAME`.
    pub identity: String,
    /// The directory of the files.
    pub dir: PathBuf,
    /// The CA that verifies brokers.
    pub ca_file: PathBuf,
    /// The CA that verifies clients; brokers only.
    pub client_ca_file: Option<PathBuf>,
    /// The certificate.
    pub cert_file: PathBuf,
    /// The private key; `None` when a CSR was given, since its owner has it.
    pub key_file: Option<PathBuf>,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Host names and addresses.
    pub sans: Vec<String>,
}

/// The certificate of one authority.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityCertificate {
    pub(crate) path: PathBuf,
    pub(crate) pem: String,
    pub(crate) not_after: SystemTime,
}

/// Both authorities of a cluster; private keys are read only when they sign.
#[derive(Clone, Debug)]
pub struct Authority {
    dir: PathBuf,
    cluster: String,
    peer: AuthorityCertificate,
    client: AuthorityCertificate,
}

impl Authority {
    /// Reads the two CA certificates of `dir`.
    ///
    /// # Errors
    /// When one is missing, is no authority, is the other one, or belongs to another cluster.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let (peer_cluster, peer) = load_certificate(dir, Plane::Peer)?;
        let (client_cluster, client) = load_certificate(dir, Plane::Client)?;
        if peer_cluster != client_cluster {
            let dir = dir.to_owned();
            return Err(LoadError::TwoClusters {
                dir,
                peer: peer_cluster,
                client: client_cluster,
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            cluster: peer_cluster,
            peer,
            client,
        })
    }

    /// Puts together authorities that were just made.
    pub(crate) fn assemble(
        dir: &Path,
        cluster: &str,
        peer: AuthorityCertificate,
        client: AuthorityCertificate,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            cluster: cluster.to_owned(),
            peer,
            client,
        }
    }

    /// The cluster's name, which is the trust domain of its certificates.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Issues a certificate and writes its files; nothing that exists is overwritten.
    ///
    /// # Errors
    /// When the request contradicts itself, the authority cannot sign, or a file exists.
    pub fn issue(&self, request: &IssueRequest) -> Result<Issued, IssueError> {
        let plan = self.plan(request)?;
        let plane = Plane::of(request.role);
        let key = self.signing_key(plane, request.role)?;
        let (issued, files) = self.sign(request, plan, &key)?;
        files.write()?;
        Ok(issued)
    }

    /// Everything that can be refused before a private key is touched.
    pub(crate) fn plan(&self, request: &IssueRequest) -> Result<Plan, IssueError> {
        let identity = Identity::new(&self.cluster, request.role, &request.name)?;
        let hosts = hosts(request)?;
        let plane = Plane::of(request.role);
        let lifetime = request
            .ttl
            .unwrap_or_else(|| template::default_lifetime(request.role));
        if lifetime < Duration::from_secs(1) {
            return Err(IssueError::LifetimeTooShort);
        }
        let authority = self.certificate(plane);
        let validity = Validity::starting(request.now, lifetime)
            .filter(|validity| validity.not_after <= authority.not_after)
            .ok_or_else(|| IssueError::BeyondAuthority {
                authority: plane.common_name(),
                path: authority.path.clone(),
            })?;
        Ok(Plan {
            identity,
            hosts,
            validity,
        })
    }

    /// Makes the certificate and the set of files that go with it.
    pub(crate) fn sign(
        &self,
        request: &IssueRequest,
        plan: Plan,
        authority_key: &KeyPair,
    ) -> Result<(Issued, NewFiles), IssueError> {
        let serial = random_serial()?;
        let params = template::leaf(&plan.identity, &plan.hosts, plan.validity, &serial)?;
        let issuer_pem = &self.certificate(Plane::of(request.role)).pem;
        let issuer = Issuer::from_ca_cert_pem(issuer_pem, authority_key)?;
        let (certificate, key) = match &request.csr {
            Some(csr) => (params.signed_by(&csr_public_key(csr)?, &issuer)?, None),
            None => {
                let key = KeyPair::generate()?;
                (params.signed_by(&key, &issuer)?, Some(key))
            }
        };
        let issued = self.describe(request, &plan, &serial);
        let files = self.leaf_files(&issued, &certificate.pem(), key.as_ref());
        Ok((issued, files))
    }

    fn describe(&self, request: &IssueRequest, plan: &Plan, serial: &[u8]) -> Issued {
        let default = || self.dir.join(request.role.folder()).join(&request.name);
        let dir = request.out.clone().unwrap_or_else(default);
        let broker = request.role == Role::Broker;
        Issued {
            identity: plan.identity.to_string(),
            ca_file: dir.join("ca.pem"),
            client_ca_file: broker.then(|| dir.join("client-ca.pem")),
            cert_file: dir.join("cert.pem"),
            key_file: request.csr.is_none().then(|| dir.join("key.pem")),
            serial: inspect::hexadecimal(serial),
            not_before: plan.validity.not_before,
            not_after: plan.validity.not_after,
            sans: plan.hosts.iter().map(ToString::to_string).collect(),
            dir,
        }
    }

    fn leaf_files(&self, issued: &Issued, certificate: &str, key: Option<&KeyPair>) -> NewFiles {
        let mut files = NewFiles::default();
        if let (Some(path), Some(key)) = (&issued.key_file, key) {
            files.private(path, &key.serialize_pem());
        }
        files.public(&issued.cert_file, certificate);
        files.public(&issued.ca_file, &self.peer.pem);
        if let Some(path) = &issued.client_ca_file {
            files.public(path, &self.client.pem);
        }
        files
    }

    const fn certificate(&self, plane: Plane) -> &AuthorityCertificate {
        match plane {
            Plane::Peer => &self.peer,
            Plane::Client => &self.client,
        }
    }

    fn signing_key(&self, plane: Plane, role: Role) -> Result<KeyPair, IssueError> {
        let path = key_path(&self.dir, plane);
        let pem = files::read_key_file(&path).map_err(|source| IssueError::AuthorityKey {
            role,
            authority: plane.common_name(),
            source,
        })?;
        let certificate = self.certificate(plane);
        let mismatch = || IssueError::KeyMismatch {
            key: path.clone(),
            certificate: certificate.path.clone(),
        };
        let key = KeyPair::from_pem(&pem).map_err(|_| mismatch())?;
        match inspect::public_key(certificate.pem.as_bytes()) {
            Ok(public) if public == key.public_key_raw() => Ok(key),
            _ => Err(mismatch()),
        }
    }
}

/// A request that passed every check.
pub(crate) struct Plan {
    identity: Identity,
    hosts: Vec<Host>,
    validity: Validity,
}

/// The certificate file of an authority in `dir`.
pub(crate) fn certificate_path(dir: &Path, plane: Plane) -> PathBuf {
    dir.join(format!("{}.pem", plane.file_stem()))
}

/// The private key file of an authority in `dir`.
pub(crate) fn key_path(dir: &Path, plane: Plane) -> PathBuf {
    dir.join(format!("{}.key", plane.file_stem()))
}

fn hosts(request: &IssueRequest) -> Result<Vec<Host>, IssueError> {
    if request.role != Role::Broker && !request.sans.is_empty() {
        return Err(IssueError::HostsNotAllowed(request.role));
    }
    if request.role == Role::Broker && request.sans.is_empty() {
        return Err(IssueError::NoHost(request.name.clone()));
    }
    let parse = |text: &String| {
        Host::parse(text).ok_or_else(|| IssueError::Host(text.escape_default().to_string()))
    };
    request.sans.iter().map(parse).collect()
}

fn load_certificate(dir: &Path, plane: Plane) -> Result<(String, AuthorityCertificate), LoadError> {
    let path = certificate_path(dir, plane);
    let pem = fs::read_to_string(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing(path.clone()),
        _ => LoadError::Io {
            path: path.clone(),
            source,
        },
    })?;
    let expected = plane.common_name();
    let refuse = |why: String| LoadError::NotThisAuthority {
        path: path.clone(),
        expected,
        why,
    };
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| refuse("it holds no PEM certificate".to_owned()))?;
    let facts = inspect::authority_facts(&der).map_err(&refuse)?;
    if facts.common_name != expected {
        return Err(refuse(format!(
            "it is the `{}`",
            facts.common_name.escape_default()
        )));
    }
    Ok((
        facts.cluster,
        AuthorityCertificate {
            path,
            pem,
            not_after: facts.not_after,
        },
    ))
}

/// Sixteen random bytes that read as a positive number of full length.
fn random_serial() -> Result<[u8; 16], IssueError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| IssueError::Crypto(error.to_string()))?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x7f) | 0x40;
    Ok(bytes)
}

/// The public key of a request whose signature proves that its owner holds the private one.
fn csr_public_key(pem: &str) -> Result<SubjectPublicKeyInfo, IssueError> {
    let refuse = |why: &str| IssueError::Csr(why.to_owned());
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| refuse("it is not a PEM `CERTIFICATE REQUEST`"))?;
    let (rest, csr) = X509CertificationRequest::from_der(&der)
        .map_err(|_| refuse("it cannot be parsed as PKCS#10"))?;
    if !rest.is_empty() {
        return Err(refuse("bytes follow it"));
    }
    csr.verify_signature()
        .map_err(|_| refuse("its signature is wrong"))?;
    let key = SubjectPublicKeyInfo::from_der(csr.certification_request_info.subject_pki.raw)
        .map_err(|_| refuse("its key is of an unknown kind; use P-256"))?;
    if rcgen::PublicKeyData::algorithm(&key) != &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Err(refuse("its key is not a P-256 key"));
    }
    Ok(key)
}
