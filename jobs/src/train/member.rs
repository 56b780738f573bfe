//! A member of the gang: from its seat to the end of the run.
//!
//! It holds its seat for as long as it lives. Each generation begins with an agreement on where to go on; what the member has
//! done before, on the device and in its curve, it keeps from one to the next.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sr3_engine::{
    model::{Graph, Weights},
    train::{Task, TrainingState},
};
use sr3_proto::{
    Digest, FailureKind,
    gang::{GangState, Membership},
    off_thread,
    session::UnitResult,
};
use sr3_worker::{Attempt, Failure, Pipeline, Seat, Stop, UnitWork, gang::Lost};
use tokio::sync::OnceCell;

use super::{
    agree::{self, Apart},
    audit::Trust,
    checkpoint::{self, CheckpointInfo},
    curve::{History, Row},
    index::Pictures,
    job::Trained,
    kind::OpenTraining,
    learner::Learner,
    loader::Loader,
    run::{self, Ended},
    saving::{self, Writing},
    window::Window,
};

/// How often the members of a generation agree on where to go on.
const AGREEMENTS_MAX: usize = 3;

/// A seat at work.
pub(super) struct SeatUnit(pub(super) Arc<Member>);

/// Whoever holds it.
pub(super) struct Member {
    open: Arc<OpenTraining>,
    index: Digest,
    loader: OnceCell<Arc<Loader>>,
}

/// What a member has with it from one generation to the next.
#[derive(Default)]
pub(super) struct Ours {
    /// Whether the device holds a state.
    pub(super) has_state: bool,
    /// Rows since the last checkpoint that is named.
    pub(super) rows: Vec<Row>,
    /// What the next row is made of.
    pub(super) window: Window,
    /// Until when members are known to compute rightly.
    pub(super) trust: Trust,
    /// Where it goes back to: what came after may be wrong.
    pub(super) back_to: Option<u64>,
    /// Step of the newest checkpoint that is known to be whole.
    pub(super) named: u64,
    /// A checkpoint on its way.
    pub(super) writing: Option<Writing>,
    /// Buffers of gradients.
    pub(super) spare: Vec<Vec<f32>>,
}

impl Ours {
    /// It goes on with a state that it did not come to itself: its rows are those that came with that.
    pub(super) fn take_over(&mut self, history: History) {
        self.has_state = true;
        self.rows = history.rows;
        self.window = Window::with(history.sums);
    }

    /// What it has come to is not to be gone on with, nor what anybody came to after this step.
    pub(super) fn go_back_to(&mut self, step: u64) {
        (self.has_state, self.back_to) = (false, Some(step));
    }

    /// What goes with its state.
    pub(super) fn history(&self) -> History {
        History { rows: self.rows.clone(), sums: self.window.sums }
    }
}

/// Where a member works.
pub(super) struct At<'a> {
    pub(super) open: &'a Arc<OpenTraining>,
    pub(super) pictures: &'a Pictures,
    pub(super) loader: &'a Arc<Loader>,
    pub(super) attempt: &'a Arc<Attempt>,
    pub(super) pipeline: &'a Pipeline,
    pub(super) seat: &'a Seat,
    pub(super) task: &'a Task,
    /// Names what is on the device, and keeps it there.
    user: &'a Arc<Member>,
}

impl Member {
    pub(super) fn new(open: Arc<OpenTraining>, index: Digest) -> Arc<Self> {
        Arc::new(Self { open, index, loader: OnceCell::new() })
    }

    async fn loader(&self, task: &Task) -> Result<&Arc<Loader>, Stop> {
        let open = &self.open;
        let make = || async {
            let file = open.index().await.map_err(Stop::transient)?;
            if file.digest() != self.index {
                let text = "the destination's index is not the one that this job made: it was replaced";
                return Err(Stop::Failed(Failure::new(FailureKind::Job, text)));
            }
            let index = file.read(&open.destination).await.map_err(Stop::transient)?;
            let validation = open.validation.as_ref().unwrap_or(&open.source);
            let recipe = Arc::new(open.order.recipe.clone());
            let (source, validation) = (Arc::clone(&open.source), Arc::clone(validation));
            Ok(Arc::new(Loader::new(source, validation, index, recipe, task.clone())))
        };
        self.loader.get_or_try_init(make).await
    }

    /// Takes part until the run is over, or the seat is to be given back.
    async fn take_part(
        self: &Arc<Self>,
        attempt: &Arc<Attempt>,
        pipeline: &Pipeline,
    ) -> Result<Trained, Stop> {
        let seat = attempt.seat();
        let cannot = |e: String| Stop::Failed(Failure::new(FailureKind::Job, e));
        let task = self.open.order.recipe.task().map_err(|e| cannot(e.to_string()))?;
        let loader = self.loader(&task).await?;
        let pictures = Pictures { index: self.index.clone(), classes: loader.classes().into() };
        let (open, pictures) = (&self.open, &pictures);
        let at = At { open, pictures, loader, attempt, pipeline, seat, task: &task, user: self };
        let mut ours = Ours::default();
        let mut states = seat.states();
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                Some(GangState::Together(membership)) => {
                    seat.working_in(Some(membership.generation));
                    match self.generation(&at, &mut ours, &membership).await {
                        Ok(Ended::Finished(trained)) => return Ok(trained),
                        // A later generation is known already.
                        Ok(Ended::Changed) => continue,
                        Err(Apart::Lost(Lost { rank, reason })) => {
                            let Some(peer) = membership.members.get(rank) else { continue };
                            tracing::info!(peer = %peer.name, %reason, "a member cannot be reached");
                            seat.accuse(membership.generation, &peer.instance);
                        }
                        Err(Apart::Stop(stop)) => return Err(stop),
                        Err(Apart::Again) => {}
                    }
                }
                Some(GangState::Leave { reason }) => {
                    tracing::info!(%reason, "leaving the gang");
                    saving::leave(&at, &mut ours).await?;
                    return Err(Stop::Cancelled);
                }
                Some(GangState::Waiting { reason }) => attempt.progress().on_device(&reason, 0.0),
                None => {}
            }
            tokio::select! {
                biased;
                () = attempt.cancel().cancelled() => return Err(Stop::Cancelled),
                changed = states.changed() => if changed.is_err() { return Err(Stop::Cancelled) },
            }
        }
    }

    async fn generation(
        self: &Arc<Self>,
        at: &At<'_>,
        ours: &mut Ours,
        membership: &Membership,
    ) -> Result<Ended, Apart> {
        let me = membership.members.iter().position(|peer| peer.instance == at.seat.me());
        let me = me.ok_or_else(|| Stop::worker("the gang does not know this member"))?;
        let peers = at.open.peers.as_ref().ok_or_else(|| Stop::worker("this worker serves no peers"))?;
        let mut changes = at.seat.states();
        changes.mark_unchanged();
        let mut mesh = tokio::select! {
            biased;
            () = at.attempt.cancel().cancelled() => return Err(Stop::Cancelled.into()),
            _ = changes.changed() => return Ok(Ended::Changed),
            mesh = peers.mesh(me, membership) => mesh?,
        };
        // Twice is an accident; more often is a machine.
        for _ in 0..AGREEMENTS_MAX {
            tokio::select! {
                biased;
                () = at.attempt.cancel().cancelled() => return Err(Stop::Cancelled.into()),
                agreed = agree::agree(at, ours, &mut mesh) => agreed?,
            }
            match run::run(at, ours, &mut mesh, membership).await {
                Err(Apart::Again) => {}
                ended => return ended,
            }
        }
        let text = "the members come to different weights again and again: one of their machines computes wrongly; \
                    with a third worker it would be known which";
        Err(Stop::Failed(Failure::new(FailureKind::Job, text)).into())
    }
}

impl At<'_> {
    /// Does something with the network on the device.
    pub(super) async fn on_device<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Learner) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, Stop> {
        let user = Arc::clone(self.user);
        let name = self.name();
        let decoding = self.pipeline.decoding(self.attempt).await?;
        let computing = decoding.compute(self.attempt, move |held| {
            work(held.get(&name, &user, || Err("the network is no longer on the device".to_string()))?)
        });
        Ok(computing.await?.done().await?.0)
    }

    /// Puts a network on the device: with this state, or as the order says it begins.
    pub(super) async fn open_learner(&self, state: Option<TrainingState>) -> Result<(), Stop> {
        let weights = match (&state, &self.open.order.recipe.init_from) {
            (None, Some(init)) => Some(self.initial(&init.reference, &init.sha256).await?),
            _ => None,
        };
        let (user, name) = (Arc::clone(self.user), self.name());
        let (order, task) = (Arc::clone(&self.open.order), self.task.clone());
        let decoding = self.pipeline.decoding(self.attempt).await?;
        let computing = decoding.compute(self.attempt, move |held| {
            let learner = Learner::new(&order, &task, state, weights.as_ref()).map_err(Stop::worker)?;
            let mut learner = Some(learner);
            let mut open = || learner.take().ok_or_else(|| "opened twice".to_string());
            let there: &mut Learner = held.get(&name, &user, &mut open)?;
            if let Some(learner) = learner {
                *there = learner;
            }
            Ok(())
        });
        computing.await?.done().await.map(|_| ())
    }

    async fn initial(&self, reference: &str, sha256: &Digest) -> Result<Weights, Stop> {
        let (library, reference) = (Arc::clone(&self.open.library), reference.to_string());
        let name = reference.clone();
        let loaded = off_thread(move || library.checkpoint(&reference)).await;
        let loaded = loaded.map_err(|_| Stop::worker("internal error while a model was opened"))?;
        let checkpoint = loaded.map_err(|e| Stop::Failed(e.into()))?;
        match checkpoint.digest == sha256.as_str() {
            true => Ok(checkpoint.weights.clone()),
            false => Err(Stop::worker(format!("`{name}` is no longer the model that the job began with"))),
        }
    }

    /// The newest checkpoint of this run that can be gone on with.
    pub(super) async fn newest_checkpoint(&self) -> Result<Option<CheckpointInfo>, Stop> {
        let all = checkpoint::checkpoints(&self.open.destination).await.map_err(Stop::transient)?;
        Ok(all.into_iter().next_back())
    }

    /// A state from its bytes.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<TrainingState, String> {
        let recipe = &self.open.order.recipe;
        let graph = Graph::build(&recipe.model).map_err(|e| e.to_string())?;
        TrainingState::decode(bytes, graph.parameter_count(), recipe.averages.len())
            .map_err(|e| e.to_string())
    }

    fn name(&self) -> String {
        format!("train {}", self.open.order.recipe.digest())
    }
}

#[async_trait]
impl UnitWork for SeatUnit {
    fn items(&self) -> usize {
        1
    }

    async fn item(&self, _: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop> {
        let trained = self.0.take_part(attempt, pipeline).await?;
        Ok(agree::written(&trained))
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let payload = records.into_iter().next().unwrap_or_default();
        Ok(UnitResult { done: 1, payload, ..UnitResult::default() })
    }
}
