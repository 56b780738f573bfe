//! The cluster inside this process: the same coordinator and worker as anywhere, joined by channels.

use std::sync::Arc;

use sr3_coordinator::{JobError, JobState, Progress, Source, Summary};
use sr3_proto::{Cancel, Store, task};
use sr3_worker::{Processor, WorkerConfig};
use tokio::sync::watch;

/// Shards that wait at the worker beside those it works on.
const CREDITS: usize = 1;

/// Runs the job that `state` was begun for to its end, or until `interrupt` is set.
pub async fn run<P: Processor>(
    state: &JobState,
    source: &Source,
    outputs: &Store,
    processor: Arc<P>,
    progress: &watch::Sender<Progress>,
    interrupt: &Cancel,
) -> Result<Summary, JobError> {
    let (coordinator_link, worker_link) = task::link(CREDITS);
    let stop = Cancel::new();
    let worker = tokio::spawn(sr3_worker::run(
        processor,
        source.store().clone(),
        outputs.clone(),
        state.spec().recipe.clone(),
        WorkerConfig::default(),
        worker_link,
        stop.clone(),
    ));
    let ended =
        sr3_coordinator::run(state, source, outputs, coordinator_link, progress, interrupt, &stop).await;
    // It has nothing left to do; waiting makes sure that nothing is written after this returns.
    stop.cancel();
    if let Err(error) = worker.await {
        tracing::error!(%error, "the worker broke down");
    }
    ended
}
