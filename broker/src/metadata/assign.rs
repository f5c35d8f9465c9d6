//! Which brokers hold the copies of a new topic's partitions.
//!
//! Pure and the same everywhere: it runs while a command is applied.

use std::collections::BTreeMap;

use quorate_protocol::BrokerId;

/// Brokers for each partition, the preferred leader first. The brokers that hold the least come
/// first, and leaderships go round among them. Fewer replicas come out if there are fewer brokers.
pub(super) fn assign(
    mut loads: BTreeMap<BrokerId, usize>,
    partitions: u32,
    replicas: usize,
) -> Vec<Vec<BrokerId>> {
    let mut leaderships: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let mut assigned = Vec::new();
    for _ in 0..partitions {
        let mut order: Vec<_> = loads
            .iter()
            .map(|(broker, load)| (*load, *broker))
            .collect();
        order.sort_unstable();
        let mut chosen: Vec<_> = order
            .into_iter()
            .take(replicas)
            .map(|(_, broker)| broker)
            .collect();
        chosen.sort_by_key(|broker| (leaderships.get(broker).copied().unwrap_or(0), *broker));
        for broker in &chosen {
            *loads.entry(*broker).or_default() += 1;
        }
        if let Some(preferred) = chosen.first() {
            *leaderships.entry(*preferred).or_default() += 1;
        }
        assigned.push(chosen);
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loads(held: &[usize]) -> BTreeMap<BrokerId, usize> {
        (1u16..)
            .map(BrokerId::new)
            .zip(held.iter().copied())
            .collect()
    }

    #[test]
    fn the_emptiest_brokers_are_chosen() {
        let chosen = assign(loads(&[5, 0, 1]), 1, 2);
        assert_eq!(chosen, [[BrokerId::new(2), BrokerId::new(3)]]);
    }

    proptest! {
        #[test]
        fn copies_are_on_different_brokers_and_spread_evenly(
            brokers in 1usize..8,
            partitions in 1u32..40,
            replicas in 1usize..5,
        ) {
            let assigned = assign(loads(&vec![0; brokers]), partitions, replicas);
            let mut held: BTreeMap<BrokerId, usize> = loads(&vec![0; brokers]);
            let mut led = held.clone();
            for chosen in &assigned {
                let distinct: std::collections::BTreeSet<_> = chosen.iter().collect();
                prop_assert_eq!(distinct.len(), replicas.min(brokers));
                *led.get_mut(&chosen[0]).unwrap() += 1;
                for broker in chosen {
                    *held.get_mut(broker).unwrap() += 1;
                }
            }
            prop_assert_eq!(assigned.len(), partitions as usize);
            let spread = held.values().max().unwrap() - held.values().min().unwrap();
            prop_assert!(spread <= 1, "{held:?}");
            let spread = led.values().max().unwrap() - led.values().min().unwrap();
            prop_assert!(spread <= 2, "{led:?}");
        }
    }
}
