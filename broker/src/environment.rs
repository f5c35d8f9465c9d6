//! What a broker gets from the outside world: sockets, disk, cryptography, time, entropy, memory.
//!
//! Rooms open nothing of that themselves, so a test can give them another world.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;

use quorate_protocol::ByteSize;
use quorate_storage::DiskStorage;
use quorate_storage::Storage;

use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::metadata::Entropy;
use crate::transport::Crypto;

/// Binds a UDP socket.
pub type Sockets = Arc<dyn Fn(SocketAddr) -> io::Result<UdpSocket> + Send + Sync>;

/// The world a broker lives in.
#[derive(Clone)]
pub struct Environment {
    /// Where its sockets come from.
    pub sockets: Sockets,
    /// Where its data rests.
    pub storage: Arc<dyn Storage>,
    /// What TLS is made of.
    pub crypto: Crypto,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// 128 random bits at a time.
    pub entropy: Entropy,
    /// Memory of the machine.
    pub memory: ByteSize,
}

impl Environment {
    /// The machine this program runs on.
    #[must_use]
    pub fn machine() -> Self {
        Self {
            sockets: Arc::new(UdpSocket::bind::<SocketAddr>),
            storage: Arc::new(DiskStorage::new()),
            crypto: Crypto::aws_lc(),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(random),
            memory: memory(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    let filled = getrandom::fill(&mut bytes);
    assert!(
        filled.is_ok(),
        "without entropy from the system no identity can be made"
    );
    u128::from_le_bytes(bytes)
}

fn memory() -> ByteSize {
    let info = rustix::system::sysinfo();
    ByteSize::new(info.totalram.saturating_mul(u64::from(info.mem_unit)))
}
