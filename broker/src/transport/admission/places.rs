//! Counts connections: in all, per principal and per address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

use crate::auth::PrincipalKey;
use crate::transport::admission::sources::SourceKey;
use crate::transport::settings::Limits;

/// Which cap is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("this broker has {0} connections, as many as `limits.connections_max` allows")]
    Broker(u32),
    #[error(
        "this principal has {0} connections, as many as `limits.connections_per_principal_max` allows"
    )]
    Principal(u32),
    #[error("this address has {0} connections, as many as one address may have")]
    Address(u32),
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    principals: HashMap<PrincipalKey, u32>,
    addresses: HashMap<SourceKey, u32>,
}

/// The connections there are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    principal: PrincipalKey,
    /// `None` for an address that is not counted.
    address: Mutex<Option<SourceKey>>,
}

impl Places {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            counts: Arc::default(),
        }
    }

    /// Takes a place if no cap is reached.
    pub(crate) fn take(&self, principal: PrincipalKey, address: IpAddr) -> Result<Place, Refusal> {
        let address = self.counted(address);
        let mut counts = self.counts.lock();
        let limits = &self.limits;
        if counts.all >= limits.connections_max {
            return Err(Refusal::Broker(counts.all));
        }
        let of_principal = count(&counts.principals, &principal);
        if of_principal >= limits.connections_per_principal_max {
            return Err(Refusal::Principal(of_principal));
        }
        let of_address = address.map_or(0, |address| count(&counts.addresses, &address));
        if of_address >= limits.connections_per_address_max {
            return Err(Refusal::Address(of_address));
        }
        counts.all += 1;
        *counts.principals.entry(principal).or_default() += 1;
        if let Some(address) = address {
            *counts.addresses.entry(address).or_default() += 1;
        }
        Ok(Place {
            places: self.clone(),
            principal,
            address: Mutex::new(address),
        })
    }

    fn counted(&self, address: IpAddr) -> Option<SourceKey> {
        let address = address.to_canonical();
        let counted = self.limits.cap_loopback || !address.is_loopback();
        counted.then(|| SourceKey::of(address))
    }
}

impl Place {
    /// The client moved: it counts for its new address, even beyond that address's cap.
    pub(crate) fn move_to(&self, address: IpAddr) {
        let new = self.places.counted(address);
        let mut current = self.address.lock();
        if *current == new {
            return;
        }
        let mut counts = self.places.counts.lock();
        if let Some(old) = &*current {
            release(&mut counts.addresses, old);
        }
        if let Some(new) = new {
            *counts.addresses.entry(new).or_default() += 1;
        }
        *current = new;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock();
        counts.all = counts.all.saturating_sub(1);
        release(&mut counts.principals, &self.principal);
        if let Some(address) = &*self.address.lock() {
            release(&mut counts.addresses, address);
        }
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, u32>, key: &K) -> u32 {
    counts.get(key).copied().unwrap_or(0)
}

fn release<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn places() -> Places {
        Places::new(Limits {
            connections_max: 4,
            connections_per_principal_max: 2,
            connections_per_address_max: 3,
            ..Limits::default()
        })
    }

    const A: PrincipalKey = PrincipalKey::new(1);
    const B: PrincipalKey = PrincipalKey::new(2);
    const C: PrincipalKey = PrincipalKey::new(3);

    #[test]
    fn each_cap_is_held_and_places_come_back() {
        let places = places();
        let first = places.take(A, address(1)).unwrap();
        let _second = places.take(A, address(1)).unwrap();
        let third = places.take(A, address(2));
        assert_eq!(third.unwrap_err(), Refusal::Principal(2));
        let _third = places.take(B, address(1)).unwrap();
        assert_eq!(places.take(B, address(1)).unwrap_err(), Refusal::Address(3));
        let _fourth = places.take(C, address(2)).unwrap();
        assert_eq!(places.take(C, address(3)).unwrap_err(), Refusal::Broker(4));
        drop(first);
        places.take(A, address(1)).unwrap();
    }

    #[test]
    fn nothing_is_remembered_of_connections_that_are_gone() {
        let places = places();
        for last in 0..100 {
            places
                .take(PrincipalKey::new(last.into()), address(last))
                .unwrap();
        }
        let counts = places.counts.lock();
        assert_eq!(counts.all, 0);
        assert!(counts.principals.is_empty() && counts.addresses.is_empty());
    }

    #[test]
    fn a_client_that_moves_counts_for_its_new_address() {
        let places = places();
        let moving = places.take(A, address(1)).unwrap();
        moving.move_to(address(2));
        let counts = |last| {
            count(
                &places.counts.lock().addresses,
                &SourceKey::of(address(last)),
            )
        };
        assert_eq!((counts(1), counts(2)), (0, 1));
        drop(moving);
        assert_eq!(counts(2), 0);
    }
}
