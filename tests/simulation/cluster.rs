//! The hosts, and one run of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use object_store::{
    memory::InMemory,
    throttle::{ThrottleConfig, ThrottledStore},
};
use sr3::{
    coordinator::{
        Kind, Kinds,
        clock::Clock,
        core::{Coordinator, OpenStore, Parts},
        ledger::{Ledger, MemoryLedgerStorage},
        scheduler,
        service::{self, Access, Audit, Entrance, Standby},
    },
    jobs::{
        JobSpec,
        cut::UnitLimits,
        upscale::{Upscale, UpscaleSpec},
    },
    proto::{
        Cancel, Key, Location, Store, StoreError,
        net::{Address, Dialer},
        store::{Faults, PutMode},
        threads::simulate_on_this_thread,
        wire::v1::{
            DrainWorkerRequest, GetJobRequest, Job, JobState, ListWorkersRequest, PauseJobRequest,
            ResumeJobRequest, SubmitJobRequest, job_service_client::JobServiceClient,
        },
    },
    worker::{self, ClusterWorkerConfig, GrpcConnect, Runner, Runners},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};

use crate::{
    chance::Chance,
    checks,
    faults::Breaker,
    network,
    played::{BAD, Played},
};

/// Says what happens, and when.
pub(crate) fn tell(what: &str) {
    tell_at(turmoil::sim_elapsed().unwrap_or_default(), what);
}

pub(crate) fn tell_at(at: Duration, what: &str) {
    eprintln!("{:>8.3} {what}", at.as_secs_f64());
}

pub(crate) const COORDINATORS: [&str; 2] = ["coordinator-1", "coordinator-2"];
pub(crate) const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];
const PORT: u16 = 7070;
/// A job that has not ended by then never will.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1200);

/// What came of a seed.
pub(crate) struct Run {
    /// What was broken.
    pub(crate) faults: u64,
    /// How long it took, in its own time.
    pub(crate) elapsed: Duration,
    /// Of all rows of the ledger and all objects.
    pub(crate) digest: String,
}

/// A job, and what is to come of it.
pub(crate) struct Task {
    pub(crate) source: String,
    pub(crate) destination: String,
    /// Text of the image by name.
    pub(crate) images: BTreeMap<String, String>,
}

/// What outlives every host.
pub(crate) struct Stage {
    pub(crate) seed: u64,
    pub(crate) ledger: MemoryLedgerStorage,
    pub(crate) tasks: Vec<Task>,
    pub(crate) stores: BTreeMap<String, Store>,
    /// Numbers whatever needs one that was never used.
    numbers: AtomicU64,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x57a6e);
        let mut stage = Self {
            seed,
            ledger: MemoryLedgerStorage::new(),
            tasks: Vec::new(),
            stores: BTreeMap::new(),
            numbers: AtomicU64::new(0),
        };
        for name in ["a", "b"] {
            let task = Task {
                source: format!("memory://{name}/in"),
                destination: format!("memory://{name}/out"),
                images: (0..chance.between(1, 150))
                    .map(|i| {
                        let bad = if chance.between(0, 20) == 0 { BAD } else { "image" };
                        (format!("{:02}/{i:03}.png", i % 3), format!("{bad} {name} {i}"))
                    })
                    .collect(),
            };
            for location in [&task.source, &task.destination] {
                let wait = |chance: &mut Chance, end| Duration::from_millis(chance.between(1, end));
                let config = ThrottleConfig {
                    wait_get_per_call: wait(&mut chance, 300),
                    wait_put_per_call: wait(&mut chance, 1500),
                    wait_list_per_call: wait(&mut chance, 50),
                    ..ThrottleConfig::default()
                };
                let store = ThrottledStore::new(InMemory::new(), config);
                stage.stores.insert(location.clone(), Store::over(Arc::new(store)));
            }
            stage.tasks.push(task);
        }
        stage
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A twentieth of what is asked of it fails.
    fn open(&self, location: &Location) -> Result<Store, StoreError> {
        let name = location.to_string();
        let store = self.stores.get(&name).ok_or_else(|| StoreError::NotFound { path: name })?;
        let seed = self.seed.wrapping_mul(1000).wrapping_add(self.number());
        Ok(store.clone().with_faults(Faults { seed, rate: 0.05 }))
    }
}

fn address(host: &str) -> Address {
    Address::parse(&format!("http://{host}:{PORT}")).unwrap()
}

/// A coordinator, begun again whenever its process ends.
pub(crate) async fn coordinator(
    name: &'static str,
    storage: MemoryLedgerStorage,
    kinds: impl Fn() -> Kinds,
    open_store: OpenStore,
) -> turmoil::Result {
    loop {
        let clock = Clock::with_wall(|| {
            u64::try_from(turmoil::sim_elapsed().unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
        });
        let parts = Parts {
            kinds: kinds(),
            open_store: Arc::clone(&open_store),
            state: None,
            scheduler: scheduler::Config {
                lease_ttl: Duration::from_secs(5),
                heartbeat_every: Duration::from_secs(1),
                // What ends workers here is never an image's fault.
                losses_before_quarantine: 1000,
                ..scheduler::Config::default()
            },
            clock,
        };
        let others = COORDINATORS.iter().filter(|other| **other != name);
        let endpoint = |host: &&str| service::peer_endpoint(&address(host));
        let peers = others.map(|host| network::connect_lazy(&endpoint(host))).collect();
        let standby = Standby { peers, ..Standby::default() };
        let open = || {
            let ledger: Arc<dyn Ledger> = Arc::new(storage.open());
            async move { Ok(ledger) }
        };
        let told = |active: Option<&Coordinator>| {
            tell(&format!("{name} is {}", if active.is_some() { "active" } else { "on standby" }));
        };
        let access = Access::Anybody { insecure: false };
        let entrance = Entrance { access, audit: Audit::open(None, parts.clock)? };
        let incoming = Box::pin(network::listen(PORT).await?);
        let ended = service::serve(incoming, parts, open, entrance, standby, Cancel::new(), told).await;
        tell(&format!("{name} ended: {ended:?}"));
        sleep(Duration::from_secs(1)).await;
    }
}

/// How workers find the coordinators.
pub(crate) fn connect() -> GrpcConnect {
    GrpcConnect::new(COORDINATORS.map(address).to_vec(), Dialer::default())
        .with_timeout(Duration::from_secs(2))
        .with_channels(Arc::new(network::connect))
}

fn kinds() -> Kinds {
    let limits = UnitLimits { items_max: 3, ..UnitLimits::default() };
    let upscale: Arc<dyn Kind> = Arc::new(Upscale::new(Arc::new(Played)).with_limits(limits));
    Kinds::new([upscale])
}

/// A worker, begun again whenever its process ends.
async fn work(stage: Arc<Stage>, name: &'static str) -> turmoil::Result {
    loop {
        let opener = Arc::clone(&stage);
        let config = ClusterWorkerConfig {
            name: name.into(),
            instance: format!("{name}-{}", stage.number()),
            drain_timeout: Duration::from_millis(500),
            stores: Arc::new(move |location: &Location| opener.open(location)),
            ..ClusterWorkerConfig::default()
        };
        let upscale: Arc<dyn Runner> = Arc::new(Upscale::new(Arc::new(Played)));
        let ended = worker::serve(Runners::new([upscale]), connect(), config, Cancel::new()).await;
        tell(&format!("{name} left: {ended:?}"));
        sleep(Duration::from_secs(1)).await;
    }
}

/// Asks the coordinators in turn until one answers.
pub(crate) async fn ask<T>(
    request: impl AsyncFn(JobServiceClient<Channel>) -> Result<T, Status>,
) -> Result<T, Status> {
    loop {
        for host in COORDINATORS {
            let endpoint = service::peer_endpoint(&address(host));
            let client = JobServiceClient::new(network::connect_lazy(&endpoint));
            match timeout(Duration::from_secs(2), request(client)).await {
                Ok(Err(status)) if matches!(status.code(), Code::AlreadyExists | Code::InvalidArgument) => {
                    return Err(status);
                }
                Ok(Ok(answer)) => return Ok(answer),
                _ => {}
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Submits the jobs, looks at them, meddles, until they have ended.
async fn client(stage: Arc<Stage>, ended: Arc<Mutex<Vec<Job>>>) -> turmoil::Result {
    let mut chance = Chance::new(stage.seed ^ 0xc11e);
    let mut ids = Vec::new();
    for (number, task) in stage.tasks.iter().enumerate() {
        sleep(Duration::from_millis(chance.between(0, 5000))).await;
        let spec = UpscaleSpec::new(task.source.clone(), task.destination.clone());
        let request = SubmitJobRequest {
            spec: JobSpec::Upscale(spec).to_yaml(),
            idempotency_key: format!("key {number}"),
        };
        let answer = ask(async |mut at| at.submit_job(request.clone()).await).await?.into_inner();
        ids.push(answer.job.unwrap().id);
    }
    let mut seen: BTreeMap<u64, Job> = BTreeMap::new();
    loop {
        for &id in &ids {
            let answer = ask(async |mut at| at.get_job(GetJobRequest { id }).await).await?;
            let job = answer.into_inner().job.unwrap();
            let counts = job.counts.unwrap_or_default();
            let line = format!("job {id} {:?} {} {counts:?}", job.state(), job.reason);
            // A coordinator that was replaced a moment ago may not know it, and tell what was before.
            if seen.get(&id).is_some_and(|before| is_older(&job, before)) {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            if seen.get(&id).is_none_or(|before| before.counts != job.counts || before.state != job.state) {
                tell(&line);
            }
            seen.insert(id, job);
        }
        if seen.values().all(has_ended) {
            *ended.lock().unwrap() = seen.into_values().collect();
            return Ok(());
        }
        meddle(&mut chance, &ids).await;
        sleep(Duration::from_millis(500)).await;
    }
}

fn is_older(job: &Job, than: &Job) -> bool {
    let (counts, than_counts) = (job.counts.unwrap_or_default(), than.counts.unwrap_or_default());
    counts.units_done < than_counts.units_done || (has_ended(than) && !has_ended(job))
}

pub(crate) fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}

/// What users do to jobs that end nevertheless.
async fn meddle(chance: &mut Chance, ids: &[u64]) {
    let id = ids[chance.between(0, ids.len() as u64) as usize];
    match chance.between(0, 40) {
        0 => drop(ask(async |mut at| at.pause_job(PauseJobRequest { id }).await).await),
        1..10 => drop(ask(async |mut at| at.resume_job(ResumeJobRequest { id }).await).await),
        10 => {
            let workers = ask(async |mut at| at.list_workers(ListWorkersRequest {}).await).await;
            let first = workers.ok().and_then(|answer| answer.into_inner().workers.first().map(|w| w.id));
            if let Some(id) = first {
                // It may be gone by now.
                drop(
                    timeout(
                        Duration::from_secs(2),
                        ask(async |mut at| at.drain_worker(DrainWorkerRequest { id }).await),
                    )
                    .await,
                );
            }
        }
        _ => {}
    }
}

/// Runs a seed to its end and checks what came of it.
pub(crate) fn simulate(seed: u64) -> Run {
    simulate_on_this_thread();
    let mut sim = network::simulated(seed, PATIENCE);
    let stage = Arc::new(Stage::new(seed));
    fill(&stage);
    for name in COORDINATORS {
        let (storage, opener) = (stage.ledger.clone(), Arc::clone(&stage));
        let open_store: OpenStore = Arc::new(move |location| opener.open(location));
        sim.host(name, move || coordinator(name, storage.clone(), kinds, Arc::clone(&open_store)));
    }
    for name in WORKERS {
        let stage = Arc::clone(&stage);
        sim.host(name, move || work(Arc::clone(&stage), name));
    }
    let ended = Arc::default();
    sim.client("client", client(Arc::clone(&stage), Arc::clone(&ended)));
    let mut breaker = Breaker::new(seed, &WORKERS);
    while !sim.step().unwrap() {
        if let Some(what) = breaker.step(&mut sim, &stage.ledger) {
            tell_at(sim.elapsed(), &what);
        }
    }
    let elapsed = sim.elapsed();
    drop(sim);
    let jobs = std::mem::take(&mut *ended.lock().unwrap());
    let digest = now(checks::check(&stage, &jobs));
    Run { faults: breaker.faults, elapsed, digest }
}

/// Runs what waits for no more than a clock that nobody else needs.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn fill(stage: &Stage) {
    now(async {
        for task in &stage.tasks {
            for (name, text) in &task.images {
                let key = Key::new(name.clone()).unwrap();
                stage.stores[&task.source].put(&key, text.clone().into(), PutMode::Create).await.unwrap();
            }
        }
    });
}
