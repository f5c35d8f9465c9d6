//! What a role may do on the client plane. A role that is not listed may do nothing.

use crate::auth::{Principal, Role};

/// Something a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Open a session on the client plane.
    Connect,
    /// Learn that a topic exists, and where its partitions are.
    Describe,
    /// Create a topic.
    Create,
    /// Delete a topic.
    Delete,
    /// Obtain a producer id.
    InitProducer,
    /// Publish to a topic.
    Publish,
    /// Subscribe to a topic.
    Subscribe,
    /// Read a topic's history.
    Read,
}

/// Whether a principal may do something.
#[must_use]
pub fn permits(principal: &Principal, operation: Operation) -> bool {
    match principal.role() {
        Role::Client | Role::Admin => true,
        Role::Gateway => operation == Operation::Connect,
        Role::Broker => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TrustDomain;

    const OPERATIONS: [Operation; 8] = [
        Operation::Connect,
        Operation::Describe,
        Operation::Create,
        Operation::Delete,
        Operation::InitProducer,
        Operation::Publish,
        Operation::Subscribe,
        Operation::Read,
    ];

    fn allowed(role: &str) -> Vec<Operation> {
        let domain = TrustDomain::parse("prod").unwrap();
        let principal = Principal::parse(&format!("spiffe://prod/{role}/x"), &domain).unwrap();
        OPERATIONS
            .into_iter()
            .filter(|operation| permits(&principal, *operation))
            .collect()
    }

    #[test]
    fn clients_and_admins_do_everything_brokers_nothing_gateways_only_connect() {
        assert_eq!(allowed("client"), OPERATIONS);
        assert_eq!(allowed("admin"), OPERATIONS);
        assert_eq!(allowed("gateway"), [Operation::Connect]);
        assert_eq!(allowed("broker"), []);
    }
}
