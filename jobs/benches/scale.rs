//! How much one coordinator carries: `cargo bench -p sr3-jobs --bench scale [OBJECTS] [WORKERS]`.
//!
//! Plans a listing of OBJECTS (a million) into a ledger on a local folder with fsync, and lets WORKERS (a thousand) that are played
//! write every unit's manifest and report it as fast as they get them. Prints seconds, rates and resident memory; the objects'
//! own memory is there before planning begins and is printed apart. Then a thousand jobs of a hundred objects, one after the
//! other: what is left of them.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "a benchmark: a panic is a failure; it shares helpers with tests"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use sr3_coordinator::{
    Kind, Kinds,
    clock::Clock,
    core::{self, Coordinator, Parts},
    ledger::open_ledger,
    scheduler,
};
use sr3_jobs::{
    JobSpec,
    upscale::{EngineModels, F32_CLASS, Upscale, UpscaleSpec},
};
use sr3_proto::{Cancel, FromWorker, Hello, Key, Offer, Store, StoreError, ToWorker, store::PutMode};

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let objects = numbers.first().copied().unwrap_or(1_000_000);
    let workers = numbers.get(1).copied().unwrap_or(1000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        run(objects, workers).await;
        ended(1000, 100).await;
    });
}

fn parts(source: &Store, destination: &Store) -> Parts {
    let (inputs, outputs) = (source.clone(), destination.clone());
    let upscale: Arc<dyn Kind> = Arc::new(Upscale::new(Arc::<EngineModels>::default()));
    Parts {
        kinds: Kinds::new([upscale]),
        open_store: Arc::new(move |location| match location.to_string().as_str() {
            "memory://in" => Ok(inputs.clone()),
            "memory://out" => Ok(outputs.clone()),
            other => Err(StoreError::NotFound { path: other.into() }),
        }),
        state: None,
        scheduler: scheduler::Config::default(),
        clock: Clock::default(),
    }
}

async fn fill(store: &Store, objects: usize) {
    for i in 0..objects {
        let key = Key::new(format!("{:04}/{:07}.jpg", i / 1000, i)).unwrap();
        store.put(&key, "x".into(), PutMode::Replace).await.unwrap();
    }
}

/// Bytes below a folder.
fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        data if data.is_dir() => bytes_below(&entry.path()),
        data => data.len(),
    });
    bytes.sum()
}

/// What is left of jobs that have ended.
async fn ended(jobs: usize, objects: usize) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let (source, destination) = (Store::in_memory(), Store::in_memory());
    fill(&source, objects).await;
    let parts = parts(&source, &destination);
    let stop = Cancel::new();
    let ledger = open_ledger(place).await.unwrap();
    let (coordinator, running) = core::start(parts.clone(), ledger, stop.clone()).await.unwrap();
    let before = resident_mb();
    for number in 0..4 {
        tokio::spawn(played(coordinator.clone(), destination.clone(), number));
    }
    let begun = Instant::now();
    for _ in 0..jobs {
        let mut spec = UpscaleSpec::new("memory://in", "memory://out");
        spec.job.overwrite = true;
        let spec = JobSpec::from(spec).to_yaml();
        let (job, _) = coordinator.submit(&spec, String::new(), String::new()).await.unwrap();
        let mut seen = coordinator.job(job.id).await.unwrap();
        let ended = seen.wait_for(|view| view.phase.is_final()).await.unwrap().clone();
        assert_eq!(ended.counts.done, objects as u64, "{}", ended.reason);
    }
    println!(
        "{jobs} jobs of {objects} objects: {:.1} s, {} MB more resident",
        begun.elapsed().as_secs_f64(),
        resident_mb().saturating_sub(before)
    );
    stop.cancel();
    running.ended().await.unwrap();
    let (begun, stop) = (Instant::now(), Cancel::new());
    let ledger = open_ledger(place).await.unwrap();
    let (coordinator, running) = core::start(parts, Arc::clone(&ledger), stop.clone()).await.unwrap();
    let known = coordinator.jobs(None, jobs).await.unwrap().len();
    let seconds = begun.elapsed().as_secs_f64();
    let rows = ledger.scan("", None).count().await;
    println!(
        "started again in {seconds:.2} s with {known} of them: {rows} rows, {:.1} MB on the disk",
        bytes_below(folder.path()) as f64 / 1e6
    );
    stop.cancel();
    running.ended().await.unwrap();
}

async fn run(objects: usize, workers: usize) {
    let (source, destination) = (Store::in_memory(), Store::in_memory());
    fill(&source, objects).await;
    let folder = tempfile::tempdir().unwrap();
    let ledger = open_ledger(folder.path().to_str().unwrap()).await.unwrap();
    let parts = parts(&source, &destination);
    let stop = Cancel::new();
    let (coordinator, running) = core::start(parts, ledger, stop.clone()).await.unwrap();
    let before = resident_mb();
    let begun = Instant::now();
    let spec = JobSpec::from(UpscaleSpec::new("memory://in", "memory://out")).to_yaml();
    let (job, _) = coordinator.submit(&spec, String::new(), String::new()).await.unwrap();
    let mut seen = coordinator.job(job.id).await.unwrap();
    seen.wait_for(|view| view.planning_done).await.unwrap();
    let (seconds, planned) = (begun.elapsed().as_secs_f64(), seen.borrow().counts);
    println!(
        "planned {} objects in {} units: {seconds:.1} s, {} MB more than the {before} MB of the listing itself",
        planned.planned,
        planned.units_planned,
        resident_mb().saturating_sub(before)
    );
    let begun = Instant::now();
    for number in 0..workers {
        tokio::spawn(played(coordinator.clone(), destination.clone(), number));
    }
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let counts = seen.borrow_and_update().counts;
        if counts.units_done == counts.units_planned {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} units completed by {workers} workers: {seconds:.1} s, {:.0} a second, {} MB resident",
        planned.units_planned,
        planned.units_planned as f64 / seconds,
        resident_mb()
    );
    stop.cancel();
    running.ended().await.unwrap();
}

/// Writes every unit's manifest, and reports it.
async fn played(coordinator: Coordinator, destination: Store, number: usize) {
    let hello = Hello {
        peer_address: String::new(),
        name: format!("played {number}"),
        version: "0".into(),
        device: "none".into(),
        instance: number.to_string(),
        held: Vec::new(),
        credits: 4,
        models: Vec::new(),
        offer: Offer { kinds: vec!["upscale".into()], classes: vec![F32_CLASS.into()], ..Offer::default() },
    };
    let Ok(mut end) = coordinator.attach(hello, String::new()).await else { return };
    // Reported and not yet answered: as a real worker, it does not name them in heartbeats any more.
    let mut reported = 0u32;
    let mut beats = tokio::time::interval(Duration::from_secs(4));
    loop {
        let message = tokio::select! {
            message = end.receive.recv() => message,
            _ = beats.tick() => {
                if end.send.send(heartbeat(reported)).await.is_err() { return }
                continue;
            }
        };
        let said = match message {
            Some(ToWorker::Grant(grant)) => {
                reported += 1;
                common::record(&destination, &grant).await
            }
            Some(ToWorker::Committed { .. }) => {
                reported -= 1;
                heartbeat(reported)
            }
            Some(_) => continue,
            None => return,
        };
        if end.send.send(said).await.is_err() {
            return;
        }
    }
}

fn heartbeat(reported: u32) -> FromWorker {
    let credits = 4u32.saturating_sub(reported);
    FromWorker::Heartbeat { credits, leases: Vec::new(), models: Vec::new(), draining: false }
}
