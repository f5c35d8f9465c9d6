//! Brokers and client in network namespaces of their own, joined by a bridge that can be cut.
//!
//! Nothing of the machine's own network is touched: the bridge stands in the client's namespace.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use rustix::thread::LinkNameSpaceType;
use rustix::thread::move_into_link_name_space;

/// The client, among the hosts.
pub const CLIENT: u16 = 254;
const SUBNET: &str = "10.77.0";

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A network of hosts numbered from 1, and the client. It is taken down when this is dropped.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    hosts: u16,
}

impl Network {
    /// Builds one, and moves the calling thread into the client's namespace: sockets that it makes
    /// from now on are the client's.
    ///
    /// # Errors
    /// Which tool or privilege this machine lacks.
    pub fn build(hosts: u16) -> Result<Self, String> {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            prefix: format!("qrt{}-{number}", std::process::id()),
            hosts,
        };
        run("nft", &["--version"])?;
        network.add_client()?;
        for host in 1..=hosts {
            network.add_broker(host)?;
        }
        network.enter()?;
        Ok(network)
    }

    /// A host's address.
    #[must_use]
    pub fn address(host: u16) -> String {
        format!("{SUBNET}.{host}")
    }

    /// What packets of one host may no longer reach: one direction of one link.
    pub fn cut(&self, from: u16, to: u16) {
        let (space, source) = (self.space(to), Self::address(from));
        let rule = [
            "netns", "exec", &space, "nft", "add", "rule", "inet", "cut", "in", "ip", "saddr",
            &source, "drop",
        ];
        run("ip", &rule).unwrap();
    }

    /// Both directions of the links between two hosts.
    pub fn part(&self, one: u16, other: u16) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Both directions of all links between a broker and the other brokers; clients still reach it.
    pub fn isolate(&self, host: u16) {
        for other in (1..=self.hosts).filter(|other| *other != host) {
            self.part(host, other);
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&self) {
        for host in (1..=self.hosts).chain([CLIENT]) {
            let space = self.space(host);
            let flush = [
                "netns", "exec", &space, "nft", "flush", "chain", "inet", "cut", "in",
            ];
            run("ip", &flush).unwrap();
        }
    }

    /// The programs that run another one on a host.
    pub(crate) fn on(&self, host: u16) -> Vec<OsString> {
        let space = self.space(host);
        ["ip", "netns", "exec", &space].map(OsString::from).to_vec()
    }

    fn space(&self, host: u16) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn add_client(&self) -> Result<(), String> {
        let space = self.space(CLIENT);
        run("ip", &["netns", "add", &space])?;
        let address = format!("{}/24", Self::address(CLIENT));
        run(
            "ip",
            &["-n", &space, "link", "add", "bridge", "type", "bridge"],
        )?;
        run(
            "ip",
            &["-n", &space, "addr", "add", &address, "dev", "bridge"],
        )?;
        run("ip", &["-n", &space, "link", "set", "bridge", "up"])?;
        run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        filter(&space)
    }

    fn add_broker(&self, host: u16) -> Result<(), String> {
        let (space, client) = (self.space(host), self.space(CLIENT));
        let (link, address) = (format!("to{host}"), format!("{}/24", Self::address(host)));
        run("ip", &["netns", "add", &space])?;
        run(
            "ip",
            &[
                "-n", &client, "link", "add", &link, "type", "veth", "peer", "name", "uplink",
                "netns", &space,
            ],
        )?;
        run(
            "ip",
            &["-n", &client, "link", "set", &link, "master", "bridge"],
        )?;
        run("ip", &["-n", &client, "link", "set", &link, "up"])?;
        run(
            "ip",
            &["-n", &space, "addr", "add", &address, "dev", "uplink"],
        )?;
        run("ip", &["-n", &space, "link", "set", "uplink", "up"])?;
        run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        filter(&space)
    }

    fn enter(&self) -> Result<(), String> {
        let path = format!("/run/netns/{}", self.space(CLIENT));
        let space = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| format!("{path}: {error}"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts: BTreeSet<_> = (1..=self.hosts).chain([CLIENT]).collect();
        for host in hosts {
            let space = self.space(host);
            if let Err(why) = run("ip", &["netns", "del", &space]) {
                eprintln!("{space} stays: {why}");
            }
        }
    }
}

/// A table whose one chain sees every packet that arrives.
fn filter(space: &str) -> Result<(), String> {
    let chain = "add table inet cut; \
                 add chain inet cut in { type filter hook input priority 0; policy accept; }";
    run("ip", &["netns", "exec", space, "nft", chain])
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{program} {}: {said}", arguments.join(" ")))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::net::UdpSocket;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::could_not_run;

    /// A host that answers every packet.
    fn echo(network: &Network, host: u16) -> thread::JoinHandle<()> {
        let path = format!("/run/netns/{}", network.space(host));
        let bound = std::sync::Arc::new(std::sync::Barrier::new(2));
        let ready = std::sync::Arc::clone(&bound);
        let echo = thread::spawn(move || {
            let space = File::open(path).unwrap();
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let socket = UdpSocket::bind("0.0.0.0:7").unwrap();
            ready.wait();
            let mut packet = [0; 8];
            loop {
                let (length, from) = socket.recv_from(&mut packet).unwrap();
                socket.send_to(&packet[..length], from).unwrap();
                if length == 0 {
                    break;
                }
            }
        });
        bound.wait();
        echo
    }

    fn answers(host: u16, patience: Duration) -> bool {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        let to: SocketAddr = format!("{}:7", Network::address(host)).parse().unwrap();
        socket.send_to(b"ping", to).unwrap();
        socket.recv_from(&mut [0; 8]).is_ok()
    }

    #[test]
    fn a_cut_link_carries_nothing_in_that_direction_until_it_is_healed() {
        let name = "a_cut_link_carries_nothing_in_that_direction_until_it_is_healed";
        let network = match Network::build(2) {
            Ok(network) => network,
            Err(why) => return could_not_run(name, &why),
        };
        let (long, short) = (Duration::from_secs(10), Duration::from_millis(100));
        let echoes = [echo(&network, 1), echo(&network, 2)];
        assert!(answers(1, long) && answers(2, long));
        network.cut(CLIENT, 1);
        assert!(!answers(1, short) && answers(2, long));
        network.heal();
        network.cut(2, CLIENT);
        assert!(answers(1, long) && !answers(2, short));
        network.heal();
        assert!(answers(1, long) && answers(2, long));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for (host, echo) in (1..).zip(echoes) {
            let to = format!("{}:7", Network::address(host));
            socket.send_to(b"", to).unwrap();
            echo.join().unwrap();
        }
    }
}
