//! Random faults, many seeds. `SEEDS` raises their number, `SEED` is the first.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::replication::tests::sim::{Sim, Stats};

fn add(total: &mut Stats, stats: Stats) {
    total.crashes += stats.crashes;
    total.committed += stats.committed;
    total.acked += stats.acked;
    total.ahead += stats.ahead;
    total.conflicts += stats.conflicts;
    total.trims += stats.trims;
    total.installs += stats.installs;
    total.refused += stats.refused;
    total.fetches += stats.fetches;
    total.headers += stats.headers;
    total.transfers += stats.transfers;
    total.duplicated += stats.duplicated;
    total.repaired += stats.repaired;
    total.replaced += stats.replaced;
    total.messages += stats.messages;
    total.reads += stats.reads;
    total.early += stats.early;
}

fn run(name: &str, seeds: u64, steps: usize, make: impl Fn(u64) -> Sim) -> Stats {
    let given = std::env::var("SEEDS")
        .ok()
        .map(|seeds| seeds.parse().expect("SEEDS is a number"));
    let first = std::env::var("SEED")
        .ok()
        .map_or(0, |seed| seed.parse().expect("SEED is a number"));
    let mut total = Stats::default();
    for seed in first..first + given.unwrap_or(seeds) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut sim = make(seed);
            for _ in 0..steps {
                sim.random_step();
            }
            sim.converge();
            sim.stats
        }));
        match outcome {
            Ok(stats) => add(&mut total, stats),
            Err(why) => panic!("{name}, seed {seed}: {:?}", why.downcast_ref::<String>()),
        }
    }
    total
}

const VOTERS: [u64; 3] = [1, 2, 3];

#[test]
fn crashes_lose_nothing_that_was_acknowledged() {
    let total = run("restart", 80, 800, |seed| Sim::new(seed, &VOTERS));
    assert!(total.crashes > 0 && total.acked > 0 && total.conflicts > 0 && total.ahead > 0);
}

#[test]
fn retention_and_installs_leave_the_same_log_everywhere() {
    let total = run("retention", 60, 2000, |seed| {
        let mut sim = Sim::new(seed, &VOTERS);
        sim.trimming = true;
        sim
    });
    assert!(total.trims > 0 && total.installs > 0);
}

/// Nothing is kept in memory: followers are served, and entries applied, from disk.
#[test]
fn cold_entries_are_fetched() {
    let total = run("cold", 60, 1500, |seed| Sim::with_tail(seed, &VOTERS, 0));
    assert!(total.fetches > 0 && total.headers > 0);
}

/// Replica 3 loses its disk; 4 takes its place: learner, joint change, leave.
#[test]
fn a_dead_disk_is_replaced_under_faults() {
    let total = run("membership", 60, 1000, |seed| {
        let mut sim = Sim::with_tail(seed, &VOTERS, if seed % 2 == 0 { 0 } else { 1 << 20 });
        sim.trimming = true;
        for _ in 0..500 {
            sim.random_step();
        }
        sim.replace(3, 4);
        sim
    });
    assert!(total.replaced > 0);
}

#[test]
fn leadership_moves_on_demand_and_duplicates_do_no_harm() {
    let total = run("unruly", 120, 1200, |seed| {
        let mut sim = Sim::with_tail(seed, &VOTERS, if seed % 3 == 0 { 0 } else { 1 << 20 });
        (sim.unruly, sim.transferring, sim.trimming) = (true, true, seed % 2 == 0);
        sim
    });
    assert!(total.transfers > 0 && total.duplicated > 0 && total.repaired > 0);
}

/// More voters, so that a majority can be ahead of a leader's own disk for long.
#[test]
fn five_voters_agree() {
    let total = run("five", 40, 1500, |seed| {
        let mut sim = Sim::new(seed, &[1, 2, 3, 4, 5]);
        (sim.transferring, sim.trimming) = (true, true);
        sim
    });
    assert!(total.ahead > 0 && total.acked > 0);
}

/// Members are cut off, leaders deposed, messages repeated: whoever is told to read sees everything
/// that was committed when it asked.
#[test]
fn no_read_is_stale_and_early_answers_promise_nothing() {
    let total = run("reads", 120, 1500, |seed| {
        let mut sim = Sim::with_tail(seed, &VOTERS, if seed % 3 == 0 { 0 } else { 1 << 20 });
        (sim.reading, sim.transferring, sim.unruly) = (true, true, seed % 2 == 0);
        sim.lonely = seed % 4 < 2;
        sim
    });
    assert!(total.reads > 0 && total.early > 0 && total.transfers > 0);
}

/// Nothing is flushed, processes die at any moment: what was written is there for the next one.
#[test]
fn processes_that_die_lose_nothing_of_a_log_that_is_not_flushed() {
    let total = run("weak", 60, 1000, |seed| {
        let mut sim = Sim::new(seed, &VOTERS);
        sim.nodes.values_mut().for_each(|node| node.weak = true);
        for id in VOTERS {
            sim.crash(id);
            sim.restart(id);
        }
        sim.trimming = seed % 2 == 0;
        sim
    });
    assert!(total.crashes > 0 && total.acked > 0 && total.conflicts > 0);
}
