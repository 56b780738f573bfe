//! Runs the shards of one run that come over a [`WorkerLink`], until there are no more.
//!
//! An error of the destination or of the device ends the run: nothing that comes after it could be written either.
//! When asked to stop, the shards that were begun are reported with the items that have a verdict.

use std::sync::Arc;

use sr3_proto::{Cancel, RecipeSpec, Store, WorkerEvent, WorkerLink};
use tokio::task::JoinSet;

use crate::{
    Processor, WorkerConfig,
    pipeline::{Pipeline, verdicts},
    work::{Watcher, Work},
};

/// Runs every shard that comes over `link`, until there are no more or `cancel` is set.
pub async fn run<P: Processor>(
    processor: Arc<P>,
    source: Store,
    destination: Store,
    recipe: RecipeSpec,
    config: WorkerConfig,
    link: WorkerLink,
    cancel: Cancel,
) {
    let WorkerLink { mut tasks, events } = link;
    let (pipeline, device) = match Pipeline::start(config) {
        Ok(started) => started,
        Err(e) => {
            let reason = format!("the device's thread cannot be started: {e}");
            let _ = events.send(WorkerEvent::Failed { reason }).await;
            return;
        }
    };
    let watcher = Watcher::Link(events.clone());
    let work = Arc::new(Work::new(processor, [source, destination], recipe, cancel.clone(), watcher, true));
    let mut shards = JoinSet::new();
    loop {
        let task = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            task = tasks.recv() => task,
        };
        // Waits for slots before it takes the next shard, so that shards queue at the coordinator.
        let Some(task) = task else { break };
        let Some(turn) = pipeline.turn(&work).await else { break };
        let begun = pipeline.begin(&work, task.shard, task.items, &turn).await;
        let events = events.clone();
        shards.spawn(async move {
            let (records, _) = verdicts(begun).await;
            let _ = events.send(WorkerEvent::ShardDone { shard: task.shard, records }).await;
        });
        while shards.try_join_next().is_some() {}
    }
    while shards.join_next().await.is_some() {}
    // The last sender of commands: the device ends.
    drop(pipeline);
    let broken = !device.ended().await;
    let failure = work.failure().map(|failure| failure.reason.clone());
    if let Some(reason) = failure.or(broken.then(|| "the device's thread broke down".into())) {
        let _ = events.send(WorkerEvent::Failed { reason }).await;
    }
}
