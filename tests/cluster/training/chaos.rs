//! Members that are killed, stopped, join and leave by chance, for as long as is asked for.
//!
//! `SR3_CHAOS_SECONDS=1800` makes each of them go on for so long (see CONTRIBUTING.md).

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Job, Run};
use crate::processes::{Coordinator, Process, run, until, worker};

fn seconds(otherwise: u64) -> u64 {
    std::env::var("SR3_CHAOS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(otherwise)
}

/// Whatever is asked of a job's status, once it is there.
fn asked<T>(job: &Job<'_>, look: impl Fn(&Value) -> Option<T>) -> T {
    until(Duration::from_secs(60), || job.status().as_ref().and_then(&look))
}

fn has_members(job: &Job<'_>, count: u64) {
    asked(job, |status| (status["members"].as_u64() == Some(count)).then_some(()));
}

/// Steps done, once somebody says.
fn steps(job: &Job<'_>) -> u64 {
    asked(job, |_| Some(job.step()).filter(|step| *step > 0))
}

/// Steps a second over a time in which `during` happens.
fn speed(job: &Job<'_>, during: impl FnOnce()) -> f64 {
    let (begun, first) = (Instant::now(), steps(job));
    during();
    steps(job).saturating_sub(first) as f64 / begun.elapsed().as_secs_f64()
}

/// A kill on average every thirty seconds: how much of the speed is left, how soon the others go on, and that nothing is lost.
/// Speeds are printed and not asserted.
#[test]
fn members_that_are_killed_lose_no_step_and_their_peers_go_on_at_once() {
    const MEMBERS: usize = 8;
    let every = Duration::from_secs(30);
    let time = Duration::from_secs(seconds(65));
    let test = Run::new();
    let coordinator = Coordinator::start(&test.text("state"), &["--lease-ttl", "4"], &test.none);
    let address = coordinator.address.as_str();
    let mut workers: Vec<Process> = (0..MEMBERS).map(|_| worker(address, &test.none)).collect();
    let job = Job::submit(address, &test.spec("killed", 100_000_000, ""));
    has_members(&job, MEMBERS as u64);
    steps(&job);
    let quiet = (time / 4).clamp(Duration::from_secs(10), Duration::from_secs(90));
    let before = speed(&job, || std::thread::park_timeout(quiet));
    let mut noticed = Vec::new();
    let amid = speed(&job, || {
        let end = Instant::now() + time;
        while Instant::now() + every < end {
            std::thread::park_timeout(every / 2);
            let killed = Instant::now();
            workers.remove(noticed.len() % MEMBERS).kill();
            has_members(&job, MEMBERS as u64 - 1);
            noticed.push(killed.elapsed());
            workers.push(worker(address, &test.none));
            has_members(&job, MEMBERS as u64);
            std::thread::park_timeout(every.saturating_sub(every / 2 + killed.elapsed()));
        }
    });
    let after = speed(&job, || std::thread::park_timeout(quiet));
    noticed.sort();
    let [median, most] = [noticed[noticed.len() / 2], noticed[noticed.len() - 1]].map(|t| t.as_secs_f64());
    let left = amid / ((before + after) / 2.0);
    eprintln!(
        "{} kills in {time:?}: {before:.1} steps/s before, {amid:.1} amid, {after:.1} after: {left:.3} of the speed; \
         without the dead after {median:.2} s (median), {most:.2} s (most)",
        noticed.len()
    );
    assert!(most < 3.0 + 1.0, "a dead member was not noticed for {most} s");

    let (code, _, errors) = run(&["pause", &job.id, "--coordinator", address], &test.none);
    assert_eq!(code, 0, "{errors}");
    // Members give their seats back when what they have come to is written down.
    has_members(&job, 0);
    let newest = until(Duration::from_secs(60), || {
        let (_, said, _) = run(&["checkpoints", &test.text("killed"), "--json"], &test.none);
        said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok())
    });
    drop(workers);
    let steps = newest["step"].as_u64().unwrap();
    let expected = test.alone("alone", steps, "2", "");
    assert_eq!(newest["weights_sha256"].as_str(), Some(expected.as_str()), "after {steps} steps");
}

/// Kills, stops, joins, leaves and takeovers, by chance: no step is lost, and no bit is wrong.
#[test]
fn whatever_happens_to_its_members_the_weights_are_those_of_one_alone() {
    let seconds = seconds(40);
    // As many as take longer than the first look at the job.
    let steps = 60 * seconds.max(20);
    let test = Run::new();
    let expected = test.alone("alone", steps, "2", "");
    let state = test.text("state");
    let lease = ["--lease-ttl", "4"];
    let mut coordinator = Some(Coordinator::start(&state, &lease, &test.none));
    let address = coordinator.as_ref().unwrap().address.clone();
    let mut workers: Vec<Process> = (0..3).map(|_| worker(&address, &test.none)).collect();
    let job = Job::submit(&address, &test.spec("chaos", steps, ""));
    until(Duration::from_secs(60), || (job.step() > 0).then_some(()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut counts, mut turn) = ([0u32; 5], 0usize);
    while Instant::now() < end {
        std::thread::park_timeout(Duration::from_millis(1500));
        match turn % 5 {
            0 => {
                workers.remove(0).kill();
                workers.push(worker(&address, &test.none));
            }
            1 => workers.push(worker(&address, &test.none)),
            2 => {
                // One that leaves as it should.
                let leaving = workers.remove(0);
                leaving.signal("TERM");
                assert_eq!(leaving.wait(), 0);
            }
            3 => {
                workers[0].signal("STOP");
                std::thread::park_timeout(Duration::from_secs(6));
                workers[0].signal("CONT");
            }
            _ => {
                coordinator.take().unwrap().process.kill();
                std::thread::park_timeout(Duration::from_secs(1));
                let one = Coordinator::start_at(&address, &state, &lease, &test.none, "is active");
                coordinator = Some(one);
            }
        }
        counts[turn % 5] += 1;
        turn += 1;
    }
    let found = job.ended(Duration::from_secs(240 + steps / 20));
    let [killed, joined, left, stopped, coordinators] = counts;
    eprintln!(
        "{steps} steps: {killed} workers killed, {joined} joined, {left} left, {stopped} stopped past their leases, \
         {coordinators} coordinators killed"
    );
    assert_eq!(found, expected);
    let rows = |name: &str| {
        let rows = test.curve(name).into_iter();
        rows.map(|row| (row["step"].clone(), row["loss"].clone())).collect::<Vec<_>>()
    };
    assert!(rows("chaos") == rows("alone"), "a gap, a double, or another loss in the curve");
    drop(workers);
}
