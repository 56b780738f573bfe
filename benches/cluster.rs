//! What a cluster costs beyond computing, by real processes on this machine.
//!
//! ```text
//! cargo bench --profile release --workspace --bench cluster
//! ```
//!
//! Efficiency: the time of a job over the time that its items were on the device, with one worker of one thread; and
//! how much quicker two such workers are, of which the second loads its model within that time. Medians of alternating
//! runs. The network: the same job in plain text, and with certificates and telemetry that is asked every second, by turns. Requests: what a job asks of a bucket. Idle cost: what coordinators and workers without a
//! job ask of a bucket and how much CPU they use.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a benchmark: a panic is a failure; it shares helpers with tests"
)]

#[path = "../tests/cluster/authority.rs"]
mod authority;
#[path = "../tests/cluster/pictures.rs"]
mod pictures;
#[path = "../tests/cluster/processes.rs"]
mod processes;
#[path = "../proto/tests/common/s3.rs"]
mod s3;
#[path = "../tests/cluster/wire.rs"]
mod wire;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use authority::Authority;
use processes::{Coordinator, Environment, Process, json, run, until, worker};
use serde_json::Value;

const PICTURES: usize = 120;
const SIDES: std::ops::Range<usize> = 32..33;
const ROUNDS: usize = 7;
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    efficiency();
    guarded();
    requests();
    idle();
}

fn efficiency() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures::write_of(&folder.join("in"), PICTURES, SIDES);
    let none = Environment::new();
    let coordinator = Coordinator::start(&folder.join("state").display().to_string(), &[], &none);
    let mut workers = vec![worker(&coordinator.address, &none)];
    let (mut over_compute, mut gains) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (one, computed) = job(&coordinator, folder, &format!("one-{round}"));
        workers.push(worker(&coordinator.address, &none));
        until(Duration::from_secs(30), || (count(&coordinator) == 2).then_some(()));
        let (two, computed_by_two) = job(&coordinator, folder, &format!("two-{round}"));
        let second = workers.pop().unwrap();
        second.signal("TERM");
        second.wait();
        println!(
            "one worker {one:.2} s, of these {computed:.2} s on the device; two workers {two:.2} s, on their devices \
             {computed_by_two:.2} s together"
        );
        over_compute.push(one / computed);
        gains.push(one / two);
    }
    println!("cluster over pure compute: {:.3}x (median of {ROUNDS})", median(over_compute));
    println!("two workers over one: {:.3}x (median of {ROUNDS})", median(gains));
}

/// What certificates and telemetry cost a job.
fn guarded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures::write_of(&folder.join("in"), PICTURES, SIDES);
    let authority = Authority::new();
    let none = Environment::new();
    let of = |name: &str| authority.environment(name, &none);
    let at = |name: &str| folder.join(name).display().to_string();
    let plain = Coordinator::start(&at("state plain"), &[], &none);
    let serve = ["--telemetry", "127.0.0.1:0"];
    let secure = Coordinator::start(&at("state secure"), &serve, &of("coordinator"));
    let arguments = ["worker", "--coordinator", &secure.address, "--threads", "1"];
    let workers =
        [worker(&plain.address, &none), Process::start(&[&arguments[..], &serve].concat(), &of("worker"))];
    for process in [&secure.process, &workers[1]] {
        let address = process.line("telemetry on").rsplit('/').next().unwrap().to_string();
        thread::spawn(move || ask_for_numbers(&address));
    }
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let (without, _) = job_of(&plain, folder, &format!("plain-{round}"), &none);
        let (with, _) = job_of(&secure, folder, &format!("secure-{round}"), &of("admin"));
        // The first of each loads the model.
        if round > 0 {
            println!("plain {without:.2} s, with certificates and telemetry {with:.2} s");
            ratios.push(with / without);
        }
    }
    println!("certificates and telemetry over plain text: {:.3}x (median of {ROUNDS})", median(ratios));
}

/// As Prometheus would, until there is nobody.
fn ask_for_numbers(address: &str) {
    use std::io::{Read, Write};
    while let Ok(mut stream) = std::net::TcpStream::connect(address) {
        let mut numbers = String::new();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let _ = stream.read_to_string(&mut numbers);
        assert!(numbers.contains("sr3_build_info"), "{numbers}");
        thread::park_timeout(Duration::from_secs(1));
    }
}

fn count(coordinator: &Coordinator) -> usize {
    let (_, out, _) = run(&["workers", "--json", "--coordinator", &coordinator.address], &Vec::new());
    out.lines().count()
}

/// Seconds from submission to end, and those on devices.
fn job(coordinator: &Coordinator, folder: &Path, name: &str) -> (f64, f64) {
    job_of(coordinator, folder, name, &Environment::new())
}

/// The same, as somebody.
fn job_of(coordinator: &Coordinator, folder: &Path, name: &str, somebody: &Environment) -> (f64, f64) {
    let at = |name: &str| folder.join(name).display().to_string();
    let arguments = ["upscale", &at("in"), &at(name), "--preset", "one", "--json", "--coordinator"];
    let (code, out, errors) = run(&[&arguments[..], &[&coordinator.address]].concat(), somebody);
    assert_eq!(code, 0, "{errors}");
    let report = fs::read_to_string(folder.join(name).join(".sr3/report.jsonl")).unwrap();
    let seconds = report.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["seconds"].as_f64().unwrap()
    });
    (json(&out)["seconds"].as_f64().unwrap(), seconds.sum())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The environment of an S3 server, and the wire to it.
fn counted(server: &s3::Server) -> (Environment, wire::Wire) {
    let mut environment: Environment = server.environment().to_vec();
    let endpoint = &mut environment.iter_mut().find(|(name, _)| name.starts_with("AWS_ENDPOINT")).unwrap().1;
    let wire = wire::Wire::to(endpoint);
    endpoint.clone_from(&wire.address);
    (environment, wire)
}

/// What a job asks of the bucket that it reads and writes, its cluster's state left out.
fn requests() {
    let server = s3::Server::seaweedfs();
    let (environment, wire) = counted(server);
    let folder = tempfile::tempdir().unwrap();
    pictures::write_of(&folder.path().join("in"), PICTURES, SIDES);
    let (source, destination) = (server.fresh(), server.fresh().to_string());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = server.open(&source);
    for (name, bytes) in pictures::files(&folder.path().join("in")) {
        let key = sr3::proto::Key::new(name).unwrap();
        runtime.block_on(store.put(&key, bytes.into(), sr3::proto::store::PutMode::Create)).unwrap();
    }
    let state = folder.path().join("state").display().to_string();
    let coordinator = Coordinator::start(&state, &[], &environment);
    let _worker = worker(&coordinator.address, &environment);
    let before = wire.requests();
    let arguments =
        ["upscale", &source.to_string(), &destination, "--preset", "one", "--json", "--coordinator"];
    let (code, out, errors) = run(&[&arguments[..], &[&coordinator.address]].concat(), &environment);
    assert_eq!(code, 0, "{errors}");
    let after = wire.requests();
    let (all, listings) = (after.0 - before.0, after.1 - before.1);
    let job = json(&out)["job"].to_string();
    let status = ["status", job.trim_matches('"'), "--json", "--coordinator", &coordinator.address];
    let (_, out, _) = run(&status, &environment);
    println!(
        "{PICTURES} images in {} units: {all} requests, {listings} of them listings: {:.2} an image",
        json(&out)["shards_done"],
        all as f64 / PICTURES as f64
    );
}

fn idle() {
    let server = s3::Server::seaweedfs();
    let (environment, wire) = counted(server);
    let state = server.fresh().to_string();
    let first = Coordinator::start(&state, &[], &environment);
    first.process.line("is active");
    let second = Coordinator::start(&state, &["--peer", &first.address], &environment);
    let both = format!("{},{}", first.address, second.address);
    let workers: Vec<Process> = (0..3).map(|_| worker(&both, &environment)).collect();
    until(Duration::from_secs(30), || (count(&first) == 3).then_some(()));
    thread::park_timeout(Duration::from_secs(5));
    let all: Vec<&Process> = [&first.process, &second.process].into_iter().chain(&workers).collect();
    let cpu = || all.iter().map(|process| process.cpu_seconds()).collect::<Vec<_>>();
    let (begun, before, used) = (Instant::now(), wire.requests(), cpu());
    thread::park_timeout(IDLE);
    let (after, used_after) = (wire.requests(), cpu());
    let seconds = begun.elapsed().as_secs_f64();
    let share: Vec<_> =
        used.iter().zip(used_after).map(|(a, b)| format!("{:.2} %", 100.0 * (b - a) / seconds)).collect();
    println!(
        "idle for {seconds:.0} s: {} requests to the bucket, {} of them listings; CPU of the active coordinator {}, \
         of the one on standby {}, of the workers {}",
        after.0 - before.0,
        after.1 - before.1,
        share[0],
        share[1],
        share[2..].join(", ")
    );
}
