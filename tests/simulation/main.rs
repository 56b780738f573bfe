//! A whole cluster in one thread, on a network and a clock that a seed owns: two coordinators that stand in for each
//! other, three workers, a client. Whatever the seed breaks, every job ends with every image once and right, and
//! nothing that was acknowledged is taken back.
//!
//! Real: gRPC, sessions, scheduler, planner, takeover, pipeline, retries. Played: the network (turmoil), the clock, the
//! ledger's and the stores' memory, and what a model computes.
//!
//! ```text
//! cargo test --release --workspace --test simulation                                 200 seeds
//! SR3_SIMULATION_SEEDS=10000 cargo test --release --workspace --test simulation      seeds 0 to 9999
//! SR3_SIMULATION_SEED=17 cargo test --release --workspace --test simulation -- --nocapture    one, told step by step
//! ```
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

mod chance;
mod checks;
mod cluster;
mod faults;
mod network;
mod played;

use std::{
    env,
    num::NonZero,
    panic::catch_unwind,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use cluster::simulate;

const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_breaks_every_image_is_there_once() {
    if let Some(seed) = number("SR3_SIMULATION_SEED") {
        let run = simulate(seed, true);
        return eprintln!("{} faults in {:?}: {}", run.faults, run.elapsed, run.digest);
    }
    let seeds = number("SR3_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let work = || {
        let (mut faults, mut seconds, mut failed) = (0, 0, Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (faults, seconds, failed);
            }
            match catch_unwind(|| simulate(seed, false)) {
                Ok(run) => (faults, seconds) = (faults + run.faults, seconds + run.elapsed.as_secs()),
                Err(_) => {
                    eprintln!("seed {seed} failed: SR3_SIMULATION_SEED={seed} replays it");
                    failed.push(seed);
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (mut faults, mut seconds, mut failed) = (0, 0, Vec::new());
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            let (more_faults, more_seconds, more_failed) = thread.join().unwrap();
            faults += more_faults;
            seconds += more_seconds;
            failed.extend(more_failed);
        }
    });
    eprintln!("{seeds} seeds, {faults} faults, {} simulated hours", seconds / 3600);
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 14, 159] {
        let (one, two) = (simulate(seed, false), simulate(seed, false));
        assert_eq!(one, two, "seed {seed}");
    }
}
