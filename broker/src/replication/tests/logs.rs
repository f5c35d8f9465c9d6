//! Conflicts across rolls, and installs overtaken by a new leader.

use crate::replication::tests::Rng;
use crate::replication::tests::sim::Sim;

/// 1 leads alone and writes over several rolls; others elect; 1 returns. Stops with the truncation
/// queued for its disk.
fn conflict(seed: u64, tail: usize) -> (Sim, u64) {
    let mut sim = Sim::new(seed, &[1, 2, 3]);
    let old = sim.elect();
    sim.propose(old, 1 + seed as usize % 5, 60);
    sim.converge();
    // The tail reaches the old leader's disk and nobody else.
    for _ in 0..tail {
        sim.propose(old, 1, 90);
        sim.work_all(old);
    }
    for other in 1..=3 {
        sim.cut(old, other);
    }
    sim.crash(old);
    sim.stay_down = Some(old);
    let new = sim.elect();
    for _ in 0..3 {
        sim.propose(new, 1 + seed as usize % 3, 40);
        sim.round();
    }
    sim.stay_down = None;
    sim.restart(old);
    let before = sim.glance(old).last;
    for _ in 0..300 {
        if sim.glance(old).last < before {
            return (sim, old);
        }
        sim.work_all(old);
        sim.towards(old);
    }
    panic!("no conflict");
}

#[test]
fn a_conflict_across_rolls_survives_a_crash_at_any_point() {
    let (mut points, mut rolls) = (0, 0);
    for seed in 0..4 {
        for budget in 0.. {
            let (mut sim, old) = conflict(seed, 14);
            let life = sim.nodes[&old].life.as_ref().unwrap();
            let committed = sim.glance(old).committed;
            let younger = life
                .reader
                .segments()
                .iter()
                .filter(|s| s.base_index > committed)
                .count();
            rolls += younger;
            let node = sim.nodes.get_mut(&old).unwrap();
            let done = node.crash_after(budget, &mut Rng(seed ^ budget << 8));
            sim.hang_up(old);
            sim.converge();
            points += 1;
            if done {
                break;
            }
        }
    }
    assert!(
        points > 20 && rolls > points,
        "{points} points, {rolls} younger segments"
    );
}

/// A transfer from a deposed leader ends after the peer has caught up elsewhere: the swap would drop
/// what a majority holds only with it.
#[test]
fn an_install_overtaken_by_a_new_leader_is_discarded() {
    let mut sim = Sim::new(2, &[1, 2, 3]);
    let old = sim.elect();
    let (other, behind) = (old % 3 + 1, (old + 1) % 3 + 1);
    sim.crash(behind);
    sim.stay_down = Some(behind);
    for _ in 0..12 {
        sim.propose(old, 2, 90);
        sim.round();
    }
    // The old leader alone learns that the trim is committed.
    while sim.glance(old).point.get() < 2 {
        sim.trim(old);
        sim.work_all(old);
        for lane in sim.full_lanes() {
            if lane.0 == old && lane.1 == other {
                sim.deliver(lane);
            }
        }
        sim.work_all(other);
        for lane in sim.full_lanes() {
            if lane.0 == other && lane.1 == old {
                sim.deliver(lane);
            }
        }
        sim.work_all(old);
    }
    assert_eq!(sim.glance(other).point.get(), 1);
    sim.cut(old, other);
    sim.stay_down = None;
    sim.restart(behind);
    for _ in 0..200 {
        if !sim.installs.is_empty() {
            break;
        }
        sim.work_all(behind);
        sim.tick(old);
        sim.work_all(old);
        sim.cut(old, other);
        for lane in sim.full_lanes() {
            if lane.0 + lane.1 == old + behind {
                sim.deliver(lane);
            }
        }
    }
    assert!(!sim.installs.is_empty(), "the old leader offers its files");
    sim.silent = Some(old);
    let point = sim.installs[0].1.index;
    while sim.leader() != Some(other) || sim.glance(other).committed <= point {
        sim.round_without_installs();
    }
    sim.propose(other, 3, 20);
    sim.round_without_installs();
    let acked = sim.glance(other).committed.get();
    let term = sim.glance(other).term;
    assert!(sim.nodes[&behind].shadow.has(acked, term));
    let refused = sim.stats.refused;
    sim.install(0);
    assert_eq!(sim.stats.refused, refused + 1);
    assert!(sim.nodes[&behind].shadow.has(acked, term));
    sim.silent = None;
    sim.converge();
}
