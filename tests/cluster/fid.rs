//! Comparing sets by a cluster: the numbers are those of one process, whoever looked at what.

use std::{fs, path::Path, time::Duration};

use crate::{
    inception, pictures,
    processes::{Coordinator, Environment, Process, json, run, until, worker},
};

const METRICS: [&str; 2] = ["--metrics", "fid,kid,mind,precision-recall"];

/// The environment of a process with this cache.
fn with(cache: &Path) -> Environment {
    vec![("SR3_CACHE", cache.to_str().unwrap().to_string())]
}

/// Numbers, and what was left out, as they were written.
fn numbers(folder: &Path) -> [Vec<u8>; 2] {
    ["compared.json", "left-out.jsonl"].map(|name| fs::read(folder.join(name)).unwrap())
}

#[test]
fn a_distance_has_the_same_bits_by_any_number_of_workers_and_when_one_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write_of(&path("a"), 40, 24..40);
    pictures::write_of(&path("b"), 60, 40..64);
    fs::write(path("a/broken.png"), "no picture").unwrap();
    let (a, b) = (text("a"), text("b"));
    // Workers have nothing of their own: weights come to them with the job.
    let (cache, empty) = (inception::cache(), with(&path("empty")));
    let here = with(cache.path());
    let (code, _, errors) = run(&[&["fid", &a, &b, "--out", &text("here")][..], &METRICS].concat(), &here);
    assert_eq!(code, 3, "one is left out: {errors}");
    let expected = numbers(&path("here"));
    for count in [1, 2, 3] {
        let coordinator = Coordinator::start(&text(&format!("state {count}")), &[], &here);
        let _workers: Vec<_> = (0..count).map(|_| worker(&coordinator.address, &empty)).collect();
        let there = text(&format!("there {count}"));
        let call = ["fid", &a, &b, "--out", &there, "--coordinator", &coordinator.address];
        let (code, out, errors) = run(&[&call[..], &METRICS].concat(), &empty);
        assert_eq!(code, 3, "{errors}");
        assert!(out.contains("40 images, 1 left out") && out.contains("60 images"), "{out}");
        assert!(numbers(Path::new(&there)) == expected, "{count} workers, other numbers");
        // What lies there is not looked at again.
        let (_, again, _) = run(&[&call[..], &METRICS, &["--json"]].concat(), &empty);
        assert_eq!(json(&again), serde_json::from_slice::<serde_json::Value>(&expected[0]).unwrap());
        let (_, jobs, _) = run(&["jobs", "--json", "--coordinator", &coordinator.address], &empty);
        assert_eq!(json(jobs.lines().next().unwrap())["planned"], 0, "{jobs}");
    }

    let coordinator = Coordinator::start(&text("state"), &["--lease-ttl", "2"], &here);
    let address = coordinator.address.as_str();
    let mut workers = vec![worker(address, &empty), worker(address, &empty)];
    let there = text("killed");
    let call = ["fid", &a, &b, "--out", &there, "--json", "--coordinator", address];
    let comparing = Process::start(&[&call[..], &METRICS].concat(), &empty);
    until(Duration::from_secs(60), || {
        let (_, jobs, _) = run(&["jobs", "--json", "--coordinator", address], &empty);
        let job = jobs.lines().next().map(json)?;
        (job["done"].as_u64()? >= 16).then_some(())
    });
    workers.remove(0).kill();
    workers.push(worker(address, &empty));
    assert_eq!(comparing.wait(), 3);
    assert!(numbers(&path("killed")) == expected, "other numbers");
}
