//! How much one coordinator carries: `cargo bench -p sr3-jobs --bench scale [OBJECTS] [WORKERS]`.
//!
//! Plans a listing of OBJECTS (a million) into a ledger on a local folder with fsync, and lets WORKERS (a thousand) that are played
//! report every unit as fast as they get them. Prints seconds, rates and resident memory; the objects' own memory is
//! there before planning begins and is printed apart.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark: a panic is a failure")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sr3_coordinator::{
    Kind, Kinds,
    clock::Clock,
    core::{self, Coordinator, Parts},
    ledger::open_ledger,
    scheduler,
};
use sr3_jobs::{
    JobSpec,
    upscale::{EngineModels, F32_CLASS, Items, Upscale, UpscaleSpec},
};
use sr3_proto::{
    Cancel, Digest, FromWorker, Hello, Key, Offer, Store, StoreError, ToWorker, session::UnitResult,
    store::PutMode,
};

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
    runtime.block_on(run(objects, workers));
}

async fn run(objects: usize, workers: usize) {
    let (source, destination) = (Store::in_memory(), Store::in_memory());
    for i in 0..objects {
        let key = Key::new(format!("{:04}/{:07}.jpg", i / 1000, i)).unwrap();
        source.put(&key, "x".into(), PutMode::Replace).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let ledger = open_ledger(folder.path().to_str().unwrap()).await.unwrap();
    let (inputs, outputs) = (source.clone(), destination.clone());
    let upscale: Arc<dyn Kind> = Arc::new(Upscale::new(Arc::<EngineModels>::default()));
    let parts = Parts {
        kinds: Kinds::new([upscale]),
        open_store: Arc::new(move |location| match location.to_string().as_str() {
            "memory://in" => Ok(inputs.clone()),
            "memory://out" => Ok(outputs.clone()),
            other => Err(StoreError::NotFound { path: other.into() }),
        }),
        state: None,
        scheduler: scheduler::Config::default(),
        clock: Clock::default(),
    };
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
        tokio::spawn(played(coordinator.clone(), number));
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

/// Reports every unit at once.
async fn played(coordinator: Coordinator, number: usize) {
    let hello = Hello {
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
                let done = Items::from_bytes(&grant.unit).unwrap().0.len() as u64;
                let payload = Digest::of(b"manifest").to_string().into();
                let result = UnitResult { done, payload, ..UnitResult::default() };
                FromWorker::UnitDone { lease: grant.lease, result }
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
