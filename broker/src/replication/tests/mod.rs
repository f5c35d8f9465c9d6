//! Proofs over the real shard, store, recovery and files: no network, no clock, every run a function
//! of its seed.

#![expect(
    clippy::cast_possible_truncation,
    reason = "small numbers, drawn or counted by the tests themselves"
)]

mod book;
mod chaos;
mod logs;
mod reads;
mod rules;
mod schedule;
mod sim;
mod single;
mod transfers;
mod trio;
mod verdict;
mod weak;
mod world;

/// SplitMix64.
#[derive(Debug)]
struct Rng(u64);

impl Rng {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.draw() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
