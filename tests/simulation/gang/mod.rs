//! Gangs: workers come, go, and lose sight of each other and of the coordinators. Whatever a seed breaks, the job ends, members
//! only go forward from one generation to the next, a number means one membership, and all of it begins at one step.

mod kind;
mod member;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt;
use sr3::{
    coordinator::{
        Kind, Kinds,
        core::OpenStore,
        ledger::{Ledger, MemoryLedgerStorage},
    },
    proto::{
        Cancel, StoreError,
        threads::simulate_on_this_thread,
        wire::v1::{
            DrainWorkerRequest, GetJobRequest, Job, JobState, ListWorkersRequest, PauseJobRequest,
            ResumeJobRequest, SubmitJobRequest,
        },
    },
    worker::{self, ClusterWorkerConfig, Runner, Runners},
};
use tokio::time::{sleep, timeout};

use crate::{
    chance::Chance,
    cluster::{COORDINATORS, PATIENCE, Run, ask, connect, coordinator, has_ended, now, tell, tell_at},
    faults::Breaker,
    network,
};
use kind::{DRILL, Drill};
use member::{Drilling, Witness};

const WORKERS: [&str; 4] = ["worker-1", "worker-2", "worker-3", "worker-4"];

/// A worker, begun again whenever its process ends.
async fn work(name: &'static str, witness: Arc<Mutex<Witness>>, numbers: Arc<AtomicU64>) -> turmoil::Result {
    loop {
        let config = ClusterWorkerConfig {
            name: name.into(),
            instance: format!("{name}-{}", numbers.fetch_add(1, Ordering::Relaxed)),
            peer_address: name.into(),
            drain_timeout: Duration::from_secs(2),
            ..ClusterWorkerConfig::default()
        };
        let drilling: Arc<dyn Runner> = Arc::new(Drilling(Arc::clone(&witness)));
        let ended = worker::serve(Runners::new([drilling]), connect(), config, Cancel::new()).await;
        tell(&format!("{name} left: {ended:?}"));
        sleep(Duration::from_secs(1)).await;
    }
}

/// Submits the job, looks at it, meddles, until it has ended.
async fn client(seed: u64, ended: Arc<Mutex<Option<Job>>>) -> turmoil::Result {
    let mut chance = Chance::new(seed ^ 0x6a46);
    let spec = format!("kind: {DRILL}\n");
    let request = SubmitJobRequest { spec, idempotency_key: "key".into() };
    let answer = ask(async |mut at| at.submit_job(request.clone()).await).await?.into_inner();
    let id = answer.job.unwrap().id;
    let mut before = String::new();
    loop {
        let answer = ask(async |mut at| at.get_job(GetJobRequest { id }).await).await?;
        let job = answer.into_inner().job.unwrap();
        let line =
            format!("{:?} {}: {} in generation {}", job.state(), job.reason, job.members, job.generation);
        if line != before {
            tell(&line);
            before = line;
        }
        if has_ended(&job) {
            *ended.lock().unwrap() = Some(job);
            return Ok(());
        }
        match chance.between(0, 60) {
            0 => drop(ask(async |mut at| at.pause_job(PauseJobRequest { id }).await).await),
            1..15 => drop(ask(async |mut at| at.resume_job(ResumeJobRequest { id }).await).await),
            15 => drain_one(&mut chance).await,
            _ => {}
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn drain_one(chance: &mut Chance) {
    let workers = ask(async |mut at| at.list_workers(ListWorkersRequest {}).await).await;
    let workers = workers.map(|answer| answer.into_inner().workers).unwrap_or_default();
    if workers.is_empty() {
        return;
    }
    let id = workers[chance.between(0, workers.len() as u64) as usize].id;
    // It may be gone by now.
    let asked = ask(async |mut at| at.drain_worker(DrainWorkerRequest { id }).await);
    drop(timeout(Duration::from_secs(2), asked).await);
}

/// Runs a seed to its end and checks what came of it.
pub(crate) fn simulate(seed: u64) -> Run {
    simulate_on_this_thread();
    let mut sim = network::simulated(seed, PATIENCE);
    let ledger = MemoryLedgerStorage::new();
    let mut chance = Chance::new(seed ^ 0x5ea7);
    let drill = Drill { min: chance.between(1, 4) as u32, seats: chance.between(3, 6) as usize };
    for name in COORDINATORS {
        let ledger = ledger.clone();
        let kinds = move || Kinds::new([Arc::new(drill) as Arc<dyn Kind>]);
        let open: OpenStore =
            Arc::new(|location| Err(StoreError::NotFound { path: format!("{location:?}") }));
        sim.host(name, move || coordinator(name, ledger.clone(), kinds, Arc::clone(&open)));
    }
    let (witness, numbers) = (Arc::<Mutex<Witness>>::default(), Arc::<AtomicU64>::default());
    for name in WORKERS {
        let (witness, numbers) = (Arc::clone(&witness), Arc::clone(&numbers));
        sim.host(name, move || work(name, Arc::clone(&witness), Arc::clone(&numbers)));
    }
    let ended = Arc::default();
    sim.client("client", client(seed, Arc::clone(&ended)));
    let mut breaker = Breaker::new(seed, &WORKERS).between_workers();
    while !sim.step().unwrap() {
        if let Some(what) = breaker.step(&mut sim, &ledger) {
            tell_at(sim.elapsed(), &what);
        }
    }
    let elapsed = sim.elapsed();
    drop(sim);
    let witness = witness.lock().unwrap();
    assert!(witness.wrong.is_empty(), "{:#?}", witness.wrong);
    let job = ended.lock().unwrap().take().unwrap();
    assert_eq!(job.state(), JobState::Succeeded, "{}", job.reason);
    tell_at(elapsed, &format!("{} generations", witness.generations()));
    let rows: Vec<(String, bytes::Bytes)> = now(ledger.open().scan("", None).try_collect()).unwrap();
    let rows: Vec<String> = rows.iter().map(|(key, value)| format!("{key} {value:?}")).collect();
    let digest = sr3::proto::Digest::of(rows.join("\n").as_bytes()).to_string();
    Run { faults: breaker.faults, elapsed, digest }
}
