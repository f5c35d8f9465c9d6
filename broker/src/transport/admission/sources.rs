//! Handshake rate per source address, in bounded memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::transport::admission::bucket::TokenBucket;

/// Sources remembered in each of two generations.
const GENERATION_MAX: usize = 32 * 1024;

/// Who a packet seems to come from: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceKey(u64);

impl SourceKey {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4))),
            // Networks begin with a set bit in the upper half, so the two never meet.
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                let network = [a, b, c, d].map(u64::from);
                Self(network.iter().fold(0, |key, part| (key << 16) | part) | (1 << 63))
            }
        }
    }
}

/// Token buckets of the sources seen last. Old ones are forgotten by the half.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    recent: HashMap<SourceKey, TokenBucket>,
    older: HashMap<SourceKey, TokenBucket>,
}

impl Sources {
    /// The source's bucket, full if the source is new or was forgotten.
    pub(crate) fn bucket(
        &mut self,
        source: SourceKey,
        now: Duration,
        burst: u32,
    ) -> &mut TokenBucket {
        if self.recent.len() >= GENERATION_MAX && !self.recent.contains_key(&source) {
            self.older = std::mem::take(&mut self.recent);
        }
        let remembered = self.older.remove(&source);
        self.recent
            .entry(source)
            .or_insert_with(|| remembered.unwrap_or_else(|| TokenBucket::new(burst, now)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn memory_is_bounded_and_recent_sources_are_remembered() {
        let mut sources = Sources::default();
        let honest = SourceKey::of(Ipv4Addr::new(10, 0, 0, 1).into());
        assert!(
            sources
                .bucket(honest, Duration::ZERO, 1)
                .take(Duration::ZERO, 0, 1)
        );
        for address in 0..200_000_u32 {
            let key = SourceKey::of(Ipv4Addr::from(0x0b00_0000 + address).into());
            sources.bucket(key, Duration::ZERO, 1);
            if address % 10_000 == 0 {
                let bucket = sources.bucket(honest, Duration::ZERO, 1);
                assert!(!bucket.take(Duration::ZERO, 0, 1), "{address}");
            }
            assert!(sources.recent.len() + sources.older.len() <= 2 * GENERATION_MAX);
        }
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_mapped_addresses_are_ipv4() {
        let key = |text: &str| SourceKey::of(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(SourceKey::of(Ipv6Addr::LOCALHOST.into()), key("0.0.0.0"));
    }
}
