//! Real kills: whatever ends whenever, afterwards nothing is missing, nothing is there twice, no byte is wrong.
//!
//! `SR3_SOAK_SECONDS` makes the long one go on for so long (see CONTRIBUTING.md); without it one job is enough.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    pictures::{self, BAD},
    processes::{Coordinator, Environment, Process, json, run, until, worker},
    whole::{report, upscaled_locally},
};

const PICTURES: usize = 48;

/// Submits the folder as a job of many small shards and returns its id.
fn submit(coordinator: &str, folder: &Path, environment: &Environment) -> String {
    let spec = folder.join("job.yaml");
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!("kind: upscale\nsource: {}\ndestination: {}\npreset: one\n", at("in"), at("out"));
    fs::write(&spec, text).unwrap();
    let arguments = ["submit", spec.to_str().unwrap(), "--json", "--coordinator", coordinator];
    let (code, out, errors) = run(&arguments, environment);
    assert_eq!(code, 0, "{errors}");
    json(&out)["id"].to_string()
}

fn status(coordinator: &str, job: &str, environment: &Environment) -> Option<Value> {
    let (code, out, _) = run(&["status", job, "--json", "--coordinator", coordinator], environment);
    (code == 0).then(|| json(&out))
}

fn has_ended(status: &Value) -> bool {
    matches!(status["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

/// Outputs, report and numbers of the job that is in `out`.
fn check(folder: &Path, status: &Value, events: &str) {
    assert_eq!(status["state"], "succeeded", "{status}\n{events}");
    let (there, wanted) = (pictures::files(&folder.join("out")), pictures::files(&folder.join("local")));
    let missing: Vec<_> = wanted.keys().filter(|name| !there.contains_key(*name)).collect();
    let extra: Vec<_> = there.keys().filter(|name| !wanted.contains_key(*name)).collect();
    let wrong: Vec<_> = wanted.iter().filter(|(name, bytes)| there.get(*name) != Some(bytes)).collect();
    let (bad, lines) = report(&fs::read_to_string(folder.join("out/.sr3/report.jsonl")).unwrap());
    eprintln!(
        "{} outputs, {} missing, {} extra, {} wrong, {lines} report lines, set aside {bad:?}",
        there.len(),
        missing.len(),
        extra.len(),
        wrong.len()
    );
    assert!(missing.is_empty() && extra.is_empty() && wrong.is_empty(), "{missing:?} {extra:?}\n{events}");
    assert_eq!(lines, PICTURES + BAD.len());
    assert_eq!(bad, BAD.map(String::from).into(), "{events}");
    // A shard that were recorded twice would count twice.
    assert_eq!(status["shards_done"], status["shards_planned"], "{status}");
    assert_eq!((&status["done"], &status["quarantined"]), (&PICTURES.into(), &BAD.len().into()), "{status}");
}

fn logs(coordinator: &str, job: &str, environment: &Environment) -> String {
    run(&["logs", job, "--coordinator", coordinator], environment).1
}

#[test]
fn workers_and_the_coordinator_may_be_killed_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures::write(&folder.join("in"), PICTURES, true);
    upscaled_locally(&folder.join("in"), &folder.join("local"));
    let state = folder.join("state").display().to_string();
    let none = Environment::new();
    let lease = ["--lease-ttl", "2"];
    let soak = std::env::var("SR3_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(soak);
    let first = Coordinator::start(&state, &lease, &none);
    let address = first.address.clone();
    let mut coordinator = Some(first);
    let mut workers: Vec<Process> = (0..3).map(|_| worker(&address, &none)).collect();
    let (mut jobs, mut killed, mut restarts) = (0, 0, 0);
    loop {
        let _ = fs::remove_dir_all(folder.join("out"));
        let job = submit(&address, folder, &none);
        let mut next = Instant::now() + Duration::from_millis(1500);
        let mut round = 0;
        let ended = until(Duration::from_secs(300), || {
            if Instant::now() >= next {
                next = Instant::now() + Duration::from_millis(1500);
                round += 1;
                if round % 3 == 0 {
                    // Most likely in the middle of a commit: it has them all the time.
                    coordinator.take().unwrap().process.kill();
                    coordinator = Some(Coordinator::start_at(&address, &state, &lease, &none));
                    restarts += 1;
                } else {
                    workers.remove(0).kill();
                    workers.push(worker(&address, &none));
                    killed += 1;
                }
            }
            status(&address, &job, &none).filter(has_ended)
        });
        check(folder, &ended, &logs(&address, &job, &none));
        jobs += 1;
        if Instant::now() >= end {
            break;
        }
    }
    eprintln!("{jobs} jobs, {killed} workers and {restarts} coordinators killed");
}

#[test]
fn a_worker_that_stands_still_past_its_lease_cannot_commit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures::write(&folder.join("in"), PICTURES, true);
    upscaled_locally(&folder.join("in"), &folder.join("local"));
    let state = folder.join("state").display().to_string();
    let none = Environment::new();
    let coordinator = Coordinator::start(&state, &["--lease-ttl", "2"], &none);
    let still = worker(&coordinator.address, &none);
    let job = submit(&coordinator.address, folder, &none);
    until(Duration::from_secs(60), || {
        status(&coordinator.address, &job, &none).filter(|status| status["leases"].as_u64() > Some(0))
    });
    still.signal("STOP");
    let quick = worker(&coordinator.address, &none);
    let ended =
        until(Duration::from_secs(300), || status(&coordinator.address, &job, &none).filter(has_ended));
    still.signal("CONT");
    // It wakes, reports what it had, and is told that it has nothing; then it is a worker like any other.
    until(Duration::from_secs(30), || {
        let (_, out, _) = run(&["workers", "--json", "--coordinator", &coordinator.address], &none);
        (out.lines().count() == 2).then_some(())
    });
    let after = status(&coordinator.address, &job, &none).unwrap();
    assert_eq!((&after["done"], &after["shards_done"]), (&ended["done"], &ended["shards_done"]));
    check(folder, &after, &logs(&coordinator.address, &job, &none));
    drop((still, quick));
}

#[test]
fn a_standby_takes_over_and_nobody_has_to_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures::write(&folder.join("in"), PICTURES, true);
    upscaled_locally(&folder.join("in"), &folder.join("local"));
    let state = folder.join("state").display().to_string();
    let none = Environment::new();
    let first = Coordinator::start(&state, &[], &none);
    first.process.line("is active");
    let second = Coordinator::start(&state, &["--peer", &first.address], &none);
    second.process.line("on standby");
    let both = format!("{},{}", first.address, second.address);
    let _workers = [worker(&both, &none), worker(&both, &none)];
    let job = submit(&both, folder, &none);
    let before = until(Duration::from_secs(120), || {
        status(&both, &job, &none).filter(|status| status["done"].as_u64() > Some(0))
    });
    first.process.kill();
    let killed = Instant::now();
    second.process.line("is active");
    eprintln!("took over in {:.2} s", killed.elapsed().as_secs_f64());
    let after = status(&both, &job, &none).unwrap();
    assert!(after["done"].as_u64() >= before["done"].as_u64(), "an acknowledged completion is lost");
    let ended = until(Duration::from_secs(300), || status(&both, &job, &none).filter(has_ended));
    check(folder, &ended, &logs(&both, &job, &none));
}
