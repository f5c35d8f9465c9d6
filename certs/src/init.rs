//! Makes both authorities of a new cluster, its brokers' certificates and one administrator's.

use std::path::PathBuf;
use std::time::SystemTime;

use rcgen::CertificateParams;
use rcgen::KeyPair;

use crate::authority;
use crate::authority::Authority;
use crate::authority::AuthorityCertificate;
use crate::authority::IssueError;
use crate::authority::IssueRequest;
use crate::authority::Issued;
use crate::files::NewFiles;
use crate::identity;
use crate::identity::Role;
use crate::template;
use crate::template::CA_LIFETIME;
use crate::template::Plane;
use crate::template::Validity;

/// The name of the first administrator.
const FIRST_ADMIN: &str = "admin";

/// Why a cluster's certificates were not made; nothing was written then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// A certificate could not be made or written.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Two brokers of the same name.
    #[error("broker `{0}` is named twice")]
    DuplicateBroker(String),
}

/// A broker of the new cluster.
#[derive(Clone, Debug)]
pub struct BrokerRequest {
    /// Its name.
    pub name: String,
    /// Host names and addresses it is reached by.
    pub hosts: Vec<String>,
}

/// A new cluster.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// The cluster's name: the trust domain of every certificate.
    pub cluster: String,
    /// The directory of authorities and certificates.
    pub out: PathBuf,
    /// The first brokers.
    pub brokers: Vec<BrokerRequest>,
    /// Marks the authorities as made for one machine; brokers refuse them elsewhere.
    pub development: bool,
    /// The present time.
    pub now: SystemTime,
}

/// The files of a new cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Initialised {
    /// The cluster's name.
    pub cluster: String,
    /// The directory.
    pub dir: PathBuf,
    /// Certificate of the authority that issues brokers.
    pub peer_ca: PathBuf,
    /// Certificate of the authority that issues everybody else.
    pub client_ca: PathBuf,
    /// The brokers' certificates, as requested.
    pub brokers: Vec<Issued>,
    /// The first administrator's certificate.
    pub admin: Issued,
}

/// Makes the authorities and first certificates of a cluster: all files, or none.
///
/// # Errors
/// When a name or host is refused, or a file exists already.
pub fn init(request: &InitRequest) -> Result<Initialised, InitError> {
    identity::check_cluster(&request.cluster).map_err(IssueError::from)?;
    let mut files = NewFiles::default();
    let (peer_key, peer) = authority(request, Plane::Peer, &mut files)?;
    let (client_key, client) = authority(request, Plane::Client, &mut files)?;
    let (peer_ca, client_ca) = (peer.path.clone(), client.path.clone());
    let authority = Authority::assemble(&request.out, &request.cluster, peer, client);
    let mut brokers: Vec<Issued> = Vec::with_capacity(request.brokers.len());
    for broker in &request.brokers {
        let leaf = leaf(
            Role::Broker,
            &broker.name,
            broker.hosts.clone(),
            request.now,
        );
        let issued = add(&authority, &leaf, &peer_key, &mut files)?;
        if brokers.iter().any(|earlier| earlier.dir == issued.dir) {
            return Err(InitError::DuplicateBroker(broker.name.clone()));
        }
        brokers.push(issued);
    }
    let leaf = leaf(Role::Admin, FIRST_ADMIN, Vec::new(), request.now);
    let admin = add(&authority, &leaf, &client_key, &mut files)?;
    files.write().map_err(IssueError::from)?;
    let (cluster, dir) = (request.cluster.clone(), request.out.clone());
    Ok(Initialised {
        cluster,
        dir,
        peer_ca,
        client_ca,
        brokers,
        admin,
    })
}

fn authority(
    request: &InitRequest,
    plane: Plane,
    files: &mut NewFiles,
) -> Result<(KeyPair, AuthorityCertificate), IssueError> {
    let validity = Validity::starting(request.now, CA_LIFETIME)
        .ok_or_else(|| IssueError::Crypto("the calendar ends before the authority".to_owned()))?;
    let key = KeyPair::generate()?;
    let params: CertificateParams =
        template::authority(plane, &request.cluster, request.development, validity)?;
    let pem = params.self_signed(&key)?.pem();
    let path = authority::certificate_path(&request.out, plane);
    files.private(
        &authority::key_path(&request.out, plane),
        &key.serialize_pem(),
    );
    files.public(&path, &pem);
    Ok((
        key,
        AuthorityCertificate {
            path,
            pem,
            not_after: validity.not_after,
        },
    ))
}

fn leaf(role: Role, name: &str, sans: Vec<String>, now: SystemTime) -> IssueRequest {
    IssueRequest {
        role,
        name: name.to_owned(),
        sans,
        ttl: None,
        csr: None,
        out: None,
        now,
    }
}

fn add(
    authority: &Authority,
    request: &IssueRequest,
    key: &KeyPair,
    files: &mut NewFiles,
) -> Result<Issued, IssueError> {
    let plan = authority.plan(request)?;
    let (issued, leaf_files) = authority.sign(request, plan, key)?;
    files.extend(leaf_files);
    Ok(issued)
}
