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
    /// See how brokers and partitions are.
    DescribeCluster,
    /// Change what the cluster is made of: its brokers, and who holds and leads what.
    ManageCluster,
}

/// Whether a principal may do something.
#[must_use]
pub fn permits(principal: &Principal, operation: Operation) -> bool {
    match principal.role() {
        Role::Admin => true,
        Role::Client => operation != Operation::ManageCluster,
        Role::Gateway => operation == Operation::Connect,
        Role::Broker => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TrustDomain;

    const OPERATIONS: [Operation; 10] = [
        Operation::Connect,
        Operation::Describe,
        Operation::Create,
        Operation::Delete,
        Operation::InitProducer,
        Operation::Publish,
        Operation::Subscribe,
        Operation::Read,
        Operation::DescribeCluster,
        Operation::ManageCluster,
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
    fn admins_do_everything_clients_change_no_cluster_gateways_only_connect() {
        assert_eq!(allowed("admin"), OPERATIONS);
        assert_eq!(allowed("client"), OPERATIONS[..9]);
        assert_eq!(allowed("gateway"), [Operation::Connect]);
        assert_eq!(allowed("broker"), []);
    }
}
