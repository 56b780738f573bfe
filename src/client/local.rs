//! The cluster inside this process: the same coordinator and worker as anywhere, joined by channels, on a ledger in
//! memory. It ends with the process: what outlives it is what lies at the destination.

use std::{sync::Arc, time::Duration};

use sr3_coordinator::{
    Kinds,
    clock::Clock,
    core::{
        self, Coordinator, Parts,
        view::{JobView, Refusal},
    },
    kind::Begun,
    ledger::MemoryLedgerStorage,
    scheduler,
};
use sr3_jobs::upscale::{Forecast, Journal};
use sr3_proto::{Cancel, Hello, Order, Store, ToWorker, WorkerEnd};
use sr3_worker::{ClusterWorkerConfig, Connect, ConnectError, Runners};

use tokio::task::JoinSet;

use crate::{console::Console, exit::CommandError};

/// How often the worker says how far it is: what people see moves so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How people see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

/// A job of this process alone.
pub(crate) struct LocalJob {
    /// What is to be done.
    pub(crate) order: Arc<Order>,
    /// It has its places.
    pub(crate) begun: Box<dyn Begun>,
    /// Knows its units here.
    pub(crate) kinds: Kinds,
    /// Run them.
    pub(crate) members: Members,
    /// How long it will take, if that is known.
    pub(crate) forecast: Option<Arc<dyn Forecast>>,
    /// Where it is written down what is on the device.
    pub(crate) journal: Option<Arc<Journal>>,
}

/// The workers of a job of this process.
pub(crate) struct Members {
    /// What each runs.
    pub(crate) runners: Vec<Runners>,
    /// Where they serve each other, if they work together.
    pub(crate) peer_address: String,
    /// How long they may take to end what they are at, when they are asked to stop.
    pub(crate) leave: Duration,
}

impl Members {
    /// One that works by itself, and gives back at once what is not finished.
    pub(crate) fn one(runners: Runners) -> Self {
        Self { runners: vec![runners], peer_address: String::new(), leave: Duration::ZERO }
    }
}

/// Runs the job to its end, or until `interrupt` is set: then what is finished is kept.
pub(crate) async fn run(job: LocalJob, show: Show, interrupt: &Cancel) -> Result<JobView, CommandError> {
    let LocalJob { order, begun, kinds, members, forecast, journal } = job;
    let classes = vec![order.head.needs.class.clone()];
    let stop = Cancel::new();
    let ledger = Arc::new(MemoryLedgerStorage::new().open());
    let (coordinator, running) = core::start(parts(kinds), ledger, stop.clone()).await.map_err(failed)?;
    let job = coordinator.submit_begun(order, begun).await;
    let mut seen = coordinator.job(job.map_err(failed)?.id).await.map_err(failed)?;
    let id = seen.borrow().id;
    let console = Console::start(show.json, show.quiet, seen.clone(), forecast);

    let leave = Cancel::new();
    let mut workers = JoinSet::new();
    for (number, runners) in (1..).zip(members.runners) {
        let mut config = ClusterWorkerConfig {
            name: format!("member {number}"),
            drain_timeout: members.leave,
            peer_address: members.peer_address.clone(),
            // There is no other worker, and nobody who would try later.
            read_attempts: 0,
            ..ClusterWorkerConfig::default()
        };
        config.offer.classes.clone_from(&classes);
        let connect = InProcess(coordinator.clone());
        workers.spawn(sr3_worker::serve(runners, connect, config, leave.clone()));
    }
    let left = tokio::select! {
        biased;
        // The coordinator lives as long as this.
        _ = seen.wait_for(|view| view.phase.is_final()) => None,
        left = workers.join_next() => left,
        () = interrupt.cancelled() => None,
    };
    if let Some(journal) = journal.filter(|_| interrupt.is_cancelled()) {
        journal.stop().await;
    }
    // Waiting makes sure that nothing is written after this returns.
    leave.cancel();
    let mut broken = None;
    let mut next = left;
    loop {
        let left = match next.take() {
            Some(left) => left,
            None => match workers.join_next().await {
                Some(left) => left,
                None => break,
            },
        };
        broken = broken.or(match left {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("internal error of the worker; please report it".to_string()),
        });
    }
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

fn parts(kinds: Kinds) -> Parts {
    Parts {
        kinds,
        open_store: Arc::new(Store::at),
        state: None,
        scheduler: scheduler::Config {
            // The worker ends with the coordinator; one that stood still with it has lost nothing.
            lease_ttl: Duration::from_secs(u32::MAX.into()),
            heartbeat_every: PROGRESS_EVERY,
            // What a destination refuses is for the user to see to.
            failures_max: 0,
            ..scheduler::Config::default()
        },
        clock: Clock::default(),
    }
}

/// Sessions with the coordinator of this process.
struct InProcess(Coordinator);

impl Connect for InProcess {
    async fn connect(&mut self, hello: Hello) -> Result<(ToWorker, WorkerEnd), ConnectError> {
        let gone = |refusal: Refusal| ConnectError::Unreachable { reason: refusal.to_string() };
        let mut end = self.0.attach(hello, String::new()).await.map_err(gone)?;
        let welcome = end.receive.recv().await;
        let welcome = welcome
            .ok_or_else(|| ConnectError::Unreachable { reason: "the coordinator has ended".into() })?;
        Ok((welcome, end))
    }
}
