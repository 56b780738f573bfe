//! The cluster inside this process: the same coordinator and worker as anywhere, joined by channels, on a ledger in
//! memory. It ends with the process: what outlives it is what lies at the destination.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sr3_coordinator::{
    ShardLimits,
    clock::Clock,
    core::{
        self, Coordinator, Parts, Place, Recipes,
        view::{JobView, Refusal},
    },
    ledger::MemoryLedgerStorage,
    scheduler,
};
use sr3_proto::{Cancel, Hello, RecipeSpec, Store, StoreError, ToWorker, UpscaleJob, UpscaleSpec, WorkerEnd};
use sr3_worker::{ClusterWorkerConfig, Connect, ConnectError, Journal, OpenProcessor, Processor};

use crate::{console::Console, exit::CommandError, forecast::Forecast};

/// How often the worker says how far it is: what people see moves so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How people see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

/// Runs the job that has taken `place` to its end, or until `interrupt` is set: then what is finished is kept.
/// `state` is where manifests go, if not to the outputs.
pub(crate) async fn run<P: Processor>(
    place: Place,
    state: Option<Store>,
    processor: P,
    show: Show,
    forecast: Arc<dyn Forecast>,
    journal: Arc<Journal>,
    interrupt: &Cancel,
) -> Result<JobView, CommandError> {
    let spec = place.state.spec().clone();
    let (source, outputs) = (place.source.store().clone(), place.outputs.clone());
    let stop = Cancel::new();
    let ledger = Arc::new(MemoryLedgerStorage::new().open());
    let (coordinator, running) = core::start(parts(), ledger, stop.clone()).await.map_err(failed)?;
    let job = coordinator.submit_begun(UpscaleJob::new(&spec.source, &spec.destination), place).await;
    let mut seen = coordinator.job(job.map_err(failed)?.id).await.map_err(failed)?;
    let id = seen.borrow().id;
    let console = Console::start(show.json, show.quiet, seen.clone(), Some(forecast));

    let leave = Cancel::new();
    let config = ClusterWorkerConfig {
        // Asked to stop, it gives back at once what is not finished.
        drain_timeout: Duration::ZERO,
        stores: Arc::new(move |location: &str| {
            Ok(if location == spec.source { source.clone() } else { outputs.clone() })
        }),
        state,
        // There is no other worker, and nobody who would try later.
        read_attempts: 0,
        journal: Some(Arc::clone(&journal)),
        ..ClusterWorkerConfig::default()
    };
    let opener = Arc::new(Opened(Mutex::new(Some(processor))));
    let connect = InProcess(coordinator.clone());
    let mut worker = tokio::spawn(sr3_worker::serve(opener, connect, config, leave.clone()));
    let left = tokio::select! {
        biased;
        // The coordinator lives as long as this.
        _ = seen.wait_for(|view| view.phase.is_final()) => None,
        left = &mut worker => Some(left),
        () = interrupt.cancelled() => None,
    };
    if interrupt.is_cancelled() {
        journal.stop().await;
    }
    // Waiting makes sure that nothing is written after this returns.
    leave.cancel();
    let left = match left {
        Some(left) => left,
        None => worker.await,
    };
    let broken = match left {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("internal error of the worker; please report it".to_string()),
    };
    // Of a job that has ended already nothing changes.
    coordinator.cancel(id).await.map_err(failed)?;
    let ended = seen.wait_for(|view| view.phase.is_final()).await.map(|view| view.clone());
    console.finish().await;
    stop.cancel();
    running.ended().await.map_err(failed)?;
    match broken {
        Some(reason) => Err(CommandError::failed(reason)),
        None => Ok((*ended.map_err(failed)?).clone()),
    }
}

fn failed(error: impl ToString) -> CommandError {
    CommandError::failed(error.to_string())
}

fn parts() -> Parts {
    Parts {
        recipes: Arc::new(NoRecipes),
        open_store: Arc::new(|location| Err(StoreError::NotFound { path: location.into() })),
        scheduler: scheduler::Config {
            // The worker ends with the coordinator; one that stood still with it has lost nothing.
            lease_ttl: Duration::from_secs(u32::MAX.into()),
            heartbeat_every: PROGRESS_EVERY,
            // What a destination refuses is for the user to see to.
            failures_max: 0,
            ..scheduler::Config::default()
        },
        shard_limits: ShardLimits::default(),
        clock: Clock::default(),
    }
}

/// Nothing is submitted here but what is resolved.
struct NoRecipes;

impl Recipes for NoRecipes {
    fn resolve(&self, _: &UpscaleJob) -> Result<RecipeSpec, String> {
        Err("this coordinator takes no jobs".into())
    }
}

/// The one processor that there is.
struct Opened<P>(Mutex<Option<P>>);

impl<P: Processor> OpenProcessor for Opened<P> {
    type Processor = P;

    fn open(&self, _: &UpscaleSpec) -> Result<P, String> {
        let mut processor = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        processor.take().ok_or_else(|| "internal error: the model was opened twice".into())
    }
}

/// Sessions with the coordinator of this process.
struct InProcess(Coordinator);

impl Connect for InProcess {
    async fn connect(&mut self, hello: Hello) -> Result<(ToWorker, WorkerEnd), ConnectError> {
        let gone = |refusal: Refusal| ConnectError::Unreachable { reason: refusal.to_string() };
        let mut end = self.0.attach(hello).await.map_err(gone)?;
        let welcome = end.receive.recv().await;
        let welcome = welcome
            .ok_or_else(|| ConnectError::Unreachable { reason: "the coordinator has ended".into() })?;
        Ok((welcome, end))
    }
}
