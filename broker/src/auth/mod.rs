//! Who a certificate speaks for, and what that principal may do. The only room that reads certificates.

mod certificate;
mod identity;
mod permission;

pub use crate::auth::certificate::{Certificate, CertificateError};
pub use crate::auth::identity::{IdentityError, Principal, PrincipalKey, Role, TrustDomain};
pub use crate::auth::permission::{Operation, permits};
