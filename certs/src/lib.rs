//! The two certificate authorities of a cluster and the certificates they issue.
//!
//! Brokers come from the peer CA only, everybody else from the client CA only; no certificate
//! carries more than one identity. Knows no clock: the caller says what time it is.
#![forbid(unsafe_code)]

mod authority;
mod files;
mod identity;
mod init;
mod inspect;
mod template;

pub use authority::Authority;
pub use authority::IssueError;
pub use authority::IssueRequest;
pub use authority::Issued;
pub use authority::LoadError;
pub use files::KeyFileError;
pub use files::WriteError;
pub use files::check_key_file;
pub use identity::Identity;
pub use identity::NameError;
pub use identity::Role;
pub use init::BrokerRequest;
pub use init::InitError;
pub use init::InitRequest;
pub use init::Initialised;
pub use init::init;
pub use inspect::CertificateReport;
pub use inspect::InspectError;
pub use inspect::inspect;
pub use inspect::key_matches;
pub use template::CA_LIFETIME;
