//! Checkpoints that are written behind the steps.
//!
//! There is one at a time. One that fails costs nothing but itself: the one before stays.

use std::sync::Arc;

use sr3_worker::Stop;
use tokio::task::JoinHandle;

use super::{
    checkpoint::{self, CheckpointError, CheckpointInfo},
    member::{At, Ours},
};

/// A checkpoint that is being written.
pub(super) type Writing = JoinHandle<Result<CheckpointInfo, CheckpointError>>;

/// Starts writing a checkpoint of what there is now, behind the steps; waits for the one before.
pub(super) async fn begin_checkpoint(at: &At<'_>, ours: &mut Ours) -> Result<(), Stop> {
    settle(ours).await;
    let state = at.on_device(|learner| Ok(learner.state())).await?;
    let (store, order) = (Arc::clone(&at.open.destination), Arc::clone(&at.open.order));
    let (pictures, history) = (at.pictures.clone(), ours.history());
    let task = tokio::spawn(async move {
        let info = checkpoint::write(&store, &order, &pictures, state, &history).await?;
        checkpoint::prune(&store, order.keep).await?;
        Ok(info)
    });
    ours.writing = Some(task);
    Ok(())
}

/// Waits for the checkpoint that is being written. One that fails leaves the one before, and the run goes on.
pub(super) async fn settle(ours: &mut Ours) {
    let Some(task) = ours.writing.take() else { return };
    match task.await {
        Ok(Ok(info)) => {
            ours.named = ours.named.max(info.step);
            tracing::info!(target: "sr3::train", "checkpoint {} (weights sha256:{})", info.folder(), info.weights_sha256);
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "a checkpoint is not written; the one before stays, and the run goes on");
        }
        Err(_) => tracing::error!("internal error while a checkpoint was written; the one before stays"),
    }
}

/// Looks whether the checkpoint that is being written is done.
pub(super) async fn collect(ours: &mut Ours) {
    if ours.writing.as_ref().is_some_and(JoinHandle::is_finished) {
        settle(ours).await;
    }
}

/// Before a seat is given back: what is not written yet is, if nobody else has it.
pub(super) async fn leave(at: &At<'_>, ours: &mut Ours) -> Result<(), Stop> {
    if !ours.has_state {
        return Ok(());
    }
    settle(ours).await;
    let order = &at.open.order;
    let step = at.on_device(|learner| Ok(learner.step())).await?;
    let there = checkpoint::find(&at.open.destination, step).await.map_err(Stop::transient)?;
    if there.is_none() && step > 0 {
        let state = at.on_device(|learner| Ok(learner.state())).await?;
        let written =
            checkpoint::write(&at.open.destination, order, at.pictures, state, &ours.history()).await;
        written.map_err(Stop::transient)?;
    }
    Ok(())
}
