//! How many brokers a local cluster has, and at which ports.
//!
//! Both are remembered with its data: the brokers of a cluster find one another at the addresses
//! that they began with.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::net::UdpSocket;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::failure::Failure;

/// Where it is remembered.
pub(super) const FILE: &str = "dev.toml";

const COUNTS: [u16; 3] = [1, 3, 5];
const COUNT_DEFAULT: u16 = 3;
const BASE_PORT_DEFAULT: u16 = 4747;
/// Between the ports of one broker and of the next.
const STRIDE: u16 = 10;

/// What was asked for on the command line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// How many brokers.
    pub(crate) nodes: Option<u16>,
    /// The first broker's client port; 0: any that are free.
    pub(crate) base_port: Option<u16>,
}

/// The brokers: number n has the n-th pair of client and peer port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    ports: Vec<[u16; 2]>,
}

impl Plan {
    /// For a cluster that is made now.
    pub(super) fn new(wish: Wish) -> Result<Self, Failure> {
        let nodes = wish.nodes.unwrap_or(COUNT_DEFAULT);
        if !COUNTS.contains(&nodes) {
            return Err(Failure::usage(format!("--nodes {nodes} is not 1, 3 or 5"))
                .with_help("an even number of brokers survives no more than one less does"));
        }
        let ports = match wish.base_port.unwrap_or(BASE_PORT_DEFAULT) {
            0 => free_ports(nodes)?,
            base => ports_from(base, nodes)?,
        };
        Ok(Self { ports })
    }

    /// For a cluster that exists; a wish that differs is refused.
    pub(super) fn resume(root: &Path, wish: Wish) -> Result<Self, Failure> {
        let path = root.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Made before clusters had several brokers.
                let nodes = wish.nodes.or(Some(1));
                let plan = Self::new(Wish { nodes, ..wish })?;
                return plan.must_have(1, root);
            }
            Err(error) => return Err(Failure::file("read", &path, &error)),
        };
        let plan: Self = toml::from_str(&text).map_err(|error| {
            let what = format!("{}: {}", path.display(), error.message());
            Failure::usage(what).with_help("give --data a new directory")
        })?;
        let nodes = wish.nodes.unwrap_or_else(|| plan.nodes());
        if nodes != plan.nodes() {
            let wished = Self {
                ports: vec![[0, 0]; usize::from(nodes)],
            };
            return wished.must_have(plan.nodes(), root);
        }
        match (wish.base_port, plan.ports.first()) {
            (Some(base), Some([first, _])) if base != 0 && base != *first => {
                let shown = root.display();
                let message =
                    format!("the cluster in {shown} has its ports from {first}, not {base}");
                Err(Failure::usage(message).with_help(
                    "leave --base-port out: the brokers know one another at their ports",
                ))
            }
            _ => Ok(plan),
        }
    }

    /// Writes it down beside the data.
    pub(super) fn remember(&self, root: &Path) -> Result<(), Failure> {
        let path = root.join(FILE);
        let text = toml::to_string(self).map_err(|error| {
            let error = io::Error::other(error);
            Failure::system(format_args!("cannot write {}", path.display()), &error)
        })?;
        fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))
    }

    /// How many brokers there are.
    pub(crate) fn nodes(&self) -> u16 {
        u16::try_from(self.ports.len()).unwrap_or(u16::MAX)
    }

    /// Their numbers.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.nodes()
    }

    /// Where clients reach a broker.
    pub(crate) fn client_address(&self, id: u16) -> String {
        let [client, _] = self.ports_of(id);
        format!("127.0.0.1:{client}")
    }

    /// Where other brokers reach it.
    pub(crate) fn peer_address(&self, id: u16) -> String {
        let [_, peer] = self.ports_of(id);
        format!("127.0.0.1:{peer}")
    }

    fn ports_of(&self, id: u16) -> [u16; 2] {
        let ports = self.ports.get(usize::from(id).saturating_sub(1));
        ports.copied().unwrap_or_default()
    }

    fn must_have(self, nodes: u16, root: &Path) -> Result<Self, Failure> {
        if self.nodes() == nodes {
            return Ok(self);
        }
        let (shown, asked) = (root.display(), self.nodes());
        let message = format!("the cluster in {shown} has {nodes} brokers, not {asked}");
        Err(Failure::usage(message)
            .with_help("leave --nodes out, or give --data another directory"))
    }
}

fn ports_from(base: u16, nodes: u16) -> Result<Vec<[u16; 2]>, Failure> {
    let ports = |number: u16| {
        let client = base.checked_add(STRIDE.checked_mul(number)?)?;
        Some([client, client.checked_add(1)?])
    };
    let all: Option<Vec<_>> = (0..nodes).map(ports).collect();
    all.ok_or_else(|| {
        Failure::usage(format!(
            "--base-port {base} leaves too few ports for {nodes} brokers"
        ))
    })
}

/// All stay bound until all are known, so they differ.
fn free_ports(nodes: u16) -> Result<Vec<[u16; 2]>, Failure> {
    let bound: Result<Vec<_>, io::Error> = (0..nodes)
        .map(|_| Ok([free_port()?, free_port()?]))
        .collect();
    let ports = |pair: &[UdpSocket; 2]| {
        let [client, peer] = pair;
        Ok([client.local_addr()?.port(), peer.local_addr()?.port()])
    };
    let found = bound.and_then(|bound| bound.iter().map(ports).collect());
    found.map_err(|error: io::Error| Failure::system("cannot find free UDP ports", &error))
}

fn free_port() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(nodes: u16, base_port: u16) -> Wish {
        Wish {
            nodes: Some(nodes),
            base_port: Some(base_port),
        }
    }

    #[test]
    fn brokers_are_ten_ports_apart() {
        let plan = Plan::new(wish(3, 4747)).unwrap();
        assert_eq!(plan.ids().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(plan.client_address(1), "127.0.0.1:4747");
        assert_eq!(plan.peer_address(3), "127.0.0.1:4768");
        assert!(Plan::new(wish(3, 65_530)).is_err());
        assert!(Plan::new(wish(1, 65_535)).is_err());
        assert_eq!(Plan::new(Wish::default()).unwrap(), plan);
    }

    #[test]
    fn counts_without_a_majority_to_spare_are_refused() {
        for nodes in [0, 2, 4, 6, 7] {
            let refused = Plan::new(wish(nodes, 0)).unwrap_err();
            assert!(refused.message().contains("1, 3 or 5"), "{refused}");
        }
    }

    #[test]
    fn a_cluster_keeps_its_count_and_its_ports() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(wish(3, 0)).unwrap();
        plan.remember(dir.path()).unwrap();
        let resume = |wish| Plan::resume(dir.path(), wish);
        assert_eq!(resume(Wish::default()).unwrap(), plan);
        assert_eq!(resume(wish(3, 0)).unwrap(), plan);
        let refused = resume(wish(5, 0)).unwrap_err();
        assert!(
            refused.message().contains("has 3 brokers, not 5"),
            "{refused}"
        );
        let refused = resume(wish(3, 1)).unwrap_err();
        assert!(refused.message().contains("not 1"), "{refused}");
    }

    #[test]
    fn a_cluster_of_an_earlier_version_has_one_broker() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::resume(dir.path(), Wish::default()).unwrap();
        assert_eq!(plan.nodes(), 1);
        assert!(Plan::resume(dir.path(), wish(3, 0)).is_err());
    }
}
