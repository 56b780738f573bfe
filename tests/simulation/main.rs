//! A whole cluster in one thread, on a network and a clock that a seed owns: two coordinators that stand in for each
//! other, three workers, a client. Whatever the seed breaks, every job ends with every image once and right, and
//! nothing that was acknowledged is taken back. A second cast, of workers that are a gang, is in `gang`.
//!
//! Real: gRPC, sessions, scheduler, planner, takeover, pipeline, retries. Played: the network (turmoil), the clock, the
//! ledger's and the stores' memory, and what a model computes.
//!
//! ```text
//! cargo test --release --workspace --test simulation                               seeds 0 to 199
//! SR3_SIMULATION_SEEDS=10000 cargo test --release --workspace --test simulation    seeds 0 to 9999
//! SR3_SIMULATION_SEED=17 cargo test --release --workspace --test simulation -- --exact one_seed --nocapture
//! SR3_SIMULATION_SEED=17 cargo test --release --workspace --test simulation -- --exact one_seed_of_a_gang --nocapture
//! ```
//!
//! A seed has a process of its own: tokio numbers tasks through a whole process, and the order in which those of a
//! crashed host are dropped depends on their numbers.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

mod chance;
mod checks;
mod cluster;
mod faults;
mod gang;
mod network;
mod played;

use std::{
    env,
    num::NonZero,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

const SEEDS: u64 = 200;
const GANG_SEEDS: u64 = 40;
const SEED: &str = "SR3_SIMULATION_SEED";

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// Runs the seed that the environment names and tells all of it; without one it is nothing.
#[test]
fn one_seed() {
    let Some(seed) = number(SEED) else { return };
    let run = cluster::simulate(seed);
    eprintln!("{} faults in {} s, {}", run.faults, run.elapsed.as_secs(), run.digest);
}

/// The same for a gang.
#[test]
fn one_seed_of_a_gang() {
    let Some(seed) = number(SEED) else { return };
    let run = gang::simulate(seed);
    eprintln!("{} faults in {} s, {}", run.faults, run.elapsed.as_secs(), run.digest);
}

/// What a process tells that runs the seed by this test, and whether all was well.
fn in_a_process(test: &str, seed: u64) -> (bool, String) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(SEED, seed.to_string());
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// Runs seeds of this test, as many as the environment says or else `seeds`.
fn run_seeds(test: &str, seeds: u64) {
    let seeds = number("SR3_SIMULATION_SEEDS").unwrap_or(seeds);
    let (next, faults, seconds) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let (well, told) = in_a_process(test, seed);
            if well {
                // "… faults in … s, …"
                let last: Vec<&str> = told.lines().next_back().unwrap().split(' ').collect();
                faults.fetch_add(last[0].parse::<u64>().unwrap(), Ordering::Relaxed);
                seconds.fetch_add(last[3].parse::<u64>().unwrap(), Ordering::Relaxed);
            } else {
                eprintln!("{told}\nseed {seed} of {test} failed: {SEED}={seed} replays it");
                failed.lock().unwrap().push(seed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    let (faults, seconds) = (faults.into_inner(), seconds.into_inner());
    eprintln!("{seeds} seeds, {faults} faults, {:.1} simulated hours", seconds as f64 / 3600.0);
    assert!(failed.lock().unwrap().is_empty(), "seeds that failed: {failed:?}");
}

#[test]
fn whatever_breaks_every_image_is_there_once() {
    run_seeds("one_seed", SEEDS);
}

#[test]
fn whatever_breaks_a_gang_goes_forward_and_ends() {
    run_seeds("one_seed_of_a_gang", GANG_SEEDS);
}

#[test]
fn a_seed_replays_exactly() {
    for (test, seed) in [("one_seed", 3), ("one_seed", 14), ("one_seed", 159), ("one_seed_of_a_gang", 3)] {
        let (one, two) = (in_a_process(test, seed), in_a_process(test, seed));
        assert!(one.1.contains("faults in"), "{}", one.1);
        assert_eq!(one, two, "seed {seed} of {test}");
    }
}
