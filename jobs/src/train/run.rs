//! The steps of a generation: samples, gradients of grains, their sum over all members, and what the optimizer makes of it.
//!
//! A step is finished or it is not: what a member has applied is the only thing that there can be after that step, whatever
//! the others have come to. Nobody is asked. Members look at one another's weights, a part each step, because a sum that is
//! wrong comes to all alike. What is written (checkpoints, the curve) is written by the first, behind the steps.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use futures::future::BoxFuture;
use sr3_engine::train::{Draws, GrainError, fingerprint};
use sr3_proto::{FailureKind, gang::Membership, store::PutMode};
use sr3_worker::{
    Failure, Stop,
    gang::{Cut, Leaves, Mesh, Node, Wire},
};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    agree::{Apart, broken, said, written},
    audit::Audit,
    checkpoint::{self, CheckpointInfo},
    choice::GradientsName,
    curve::{QUARTILES, Time, Validation},
    facts::Facts,
    index::key,
    job::Trained,
    loader::Grain,
    member::{At, Ours},
    order::TrainOrder,
    saving::{begin_checkpoint, collect, settle},
    validation::{self, Scored},
    window::{Window, quartiles, tell},
};

/// Steps whose samples are made ready ahead.
const AHEAD: usize = 2;
/// Pictures whose loss is taken at once.
const VALIDATED_AT_ONCE: usize = 8;

/// How a generation ended, if nothing failed.
pub(super) enum Ended {
    /// The run is over.
    Finished(Trained),
    /// There is a later generation.
    Changed,
}

/// Samples that are made ready.
struct Ahead {
    step: u64,
    task: JoinHandle<Result<Samples, Stop>>,
}

/// What a member computes in a step.
struct Samples {
    mine: Vec<Grain>,
    /// Another's grain, to be compared.
    audited: Option<Grain>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tags of what is said in a step.
pub(super) const fn tag(step: u64, what: u64) -> u64 {
    step * 8 + what
}
const FACTS: u64 = 0;
const GRADIENT: u64 = 1;
const VALIDATION: u64 = 2;
const WRITTEN: u64 = 3;
pub(super) const AGAIN: u64 = 4;
pub(super) const WHOLE: u64 = 5;

/// Steps together until the run is over or the generation is.
pub(super) async fn run(
    at: &At<'_>,
    ours: &mut Ours,
    mesh: &mut Mesh,
    membership: &Membership,
) -> Result<Ended, Apart> {
    let order = Arc::clone(&at.open.order);
    let cut = Cut::even(order.recipe.grains as u32, mesh.members() as u32);
    let (step, parameters) = at.on_device(|learner| Ok((learner.step(), learner.parameters()))).await?;
    ours.trust.meet(membership, step);
    let mut steps = Steps {
        at,
        membership,
        parameters,
        mine: u64::from(cut.of(mesh.rank()).start)..u64::from(cut.of(mesh.rank()).end),
        quartiles: quartiles(&at.task.noise),
        cut,
        ahead: Vec::new(),
        step,
        skips: 0,
        order,
    };
    let mut changes = at.seat.states();
    changes.mark_unchanged();
    loop {
        if steps.step >= steps.order.steps {
            return Ok(Ended::Finished(steps.finish(ours, mesh).await?));
        }
        if at.attempt.cancel().is_cancelled() {
            return Err(Stop::Cancelled.into());
        }
        collect(ours).await;
        // Whoever leaves or joins made a later generation; between two steps is the time for it.
        if changes.has_changed().unwrap_or(true) {
            return Ok(Ended::Changed);
        }
        tokio::select! {
            biased;
            () = at.attempt.cancel().cancelled() => return Err(Stop::Cancelled.into()),
            stepped = steps.step(ours, mesh) => stepped?,
        }
    }
}

pub(super) struct Steps<'a> {
    pub(super) at: &'a At<'a>,
    pub(super) membership: &'a Membership,
    order: Arc<TrainOrder>,
    cut: Cut,
    /// Grains of this member.
    mine: Range<u64>,
    /// Noise levels between quarters of the samples, rising.
    quartiles: [f64; QUARTILES - 1],
    ahead: Vec<Ahead>,
    pub(super) step: u64,
    parameters: usize,
    /// Steps left out in a row.
    skips: u64,
}

impl Steps<'_> {
    async fn step(&mut self, ours: &mut Ours, mesh: &mut Mesh) -> Result<(), Apart> {
        if breaks_at(self.step) {
            self.at
                .on_device(|learner| {
                    learner.break_bit();
                    Ok(())
                })
                .await?;
        }
        let begun = Instant::now();
        let audit = self.audit(self.step);
        let samples = self.samples(mesh.rank()).await?;
        let data = begun.elapsed();
        let (parts, facts) = self.gradients(ours, samples, audit).await?;
        let gradient = begun.elapsed();

        let all = mesh.gather(tag(self.step, FACTS), facts.encode()).await?;
        let facts = all.iter().map(Facts::decode).collect::<Result<Vec<_>, _>>()?;
        let fingerprints: Vec<u64> = facts.iter().map(|facts| facts.fingerprint).collect();
        self.compare_weights(mesh.rank(), ours, &fingerprints)?;
        if let Some(audit) = audit {
            self.compare_grain(audit, mesh, ours, &facts).await?;
        }
        // What lies in a whole checkpoint need not be written again, whoever comes to write.
        ours.named = facts.iter().map(|facts| facts.named).max().unwrap_or(0);
        ours.rows.retain(|row| row.step > ours.named);
        let wire = match self.order.recipe.gradients {
            GradientsName::F32 => Wire::F32,
            GradientsName::Bf16 => Wire::Bf16,
        };
        let mut memory = ours.spare.pop().unwrap_or_default();
        memory.resize(self.parameters, 0.0);
        let gradient_tag = tag(self.step, GRADIENT);
        let (sum, mut spare) = mesh.all_reduce(gradient_tag, &self.cut, parts, memory, wire).await?;
        ours.spare.append(&mut spare);
        let exchange = begun.elapsed();

        let bad = facts.iter().find_map(|facts| facts.bad);
        let losses: Vec<f64> = facts.into_iter().flat_map(|facts| facts.losses).collect();
        let most = self.order.recipe.loss_max();
        let exploded = losses.iter().zip(0..).find(|(loss, _)| **loss > most).map(|(_, place)| place);
        let what = if exploded.is_some() { "the loss explodes" } else { "the gradient is no number" };
        let bad = bad.or(exploded);
        let applied = self
            .at
            .on_device(move |learner| {
                let norm = if bad.is_some() { f64::NAN } else { learner.norm(&sum) };
                if !norm.is_finite() {
                    return Ok((sum, None));
                }
                let applied = learner.apply(&sum, norm);
                Ok((sum, Some(applied)))
            })
            .await?;
        let (sum, applied) = applied;
        ours.spare.push(sum);
        let Some(applied) = applied else { return self.skip(what, bad).await };
        self.skips = 0;
        self.step += 1;

        let time = Time {
            members: mesh.members() as u32,
            samples_per_second: 0.0,
            data: data.as_secs_f64(),
            gradient: (gradient - data).as_secs_f64(),
            exchange: (exchange - gradient).as_secs_f64(),
            optimizer: (begun.elapsed() - exchange).as_secs_f64(),
            all: 0.0,
        };
        let draws = Draws::new(self.order.recipe.seed);
        let losses = losses.iter().enumerate().map(|(place, loss)| {
            let (level, _) = self.at.task.noise.draw(&draws, self.step - 1, place as u32);
            (*loss, self.quartiles.iter().filter(|bound| level >= **bound).count())
        });
        ours.window.add(losses, &time, begun);
        self.log(ours, mesh, applied.norm, applied.learning_rate).await
    }

    /// What is due after a step: a row, a validation, a checkpoint.
    async fn log(&mut self, ours: &mut Ours, mesh: &mut Mesh, norm: f64, rate: f64) -> Result<(), Apart> {
        let order = Arc::clone(&self.order);
        let is_last = self.step == order.steps;
        let due = |every: u64| is_last || self.step.is_multiple_of(every);
        let (checkpoint, validate) = (due(order.checkpoint_every), due(order.validation_every));
        if !due(order.log_every) && !checkpoint && !validate {
            return Ok(());
        }
        let skipped = self.at.on_device(|learner| Ok((learner.samples(), learner.skipped()))).await?;
        let mut row = ours.window.row(self.step, skipped, (norm, rate), order.recipe.batch);
        if validate && order.validation_pictures > 0 && self.at.loader.held_out() > 0 {
            row.validation = Some(self.validate(mesh).await?);
        }
        tell(&row, &self.order, self.at.attempt.progress());
        ours.rows.push(row);
        // What a validation took is not the next steps' time.
        ours.window = Window::begun(Instant::now());
        if checkpoint {
            self.compare_all_weights(ours, mesh).await?;
            // The last one is written when all have come to the end.
            if mesh.rank() == 0 && !is_last {
                begin_checkpoint(self.at, ours).await?;
            }
        }
        Ok(())
    }

    /// What is looked at twice in a step.
    fn audit(&self, step: u64) -> Option<Audit> {
        let draws = Draws::new(self.order.recipe.seed);
        self.order.audit.then(|| Audit::of(&draws, step, &self.cut, self.membership.members.len()))?
    }

    /// What this member computes, made ready some steps before.
    async fn samples(&mut self, me: usize) -> Result<Samples, Stop> {
        let last = self.order.steps;
        let next = self.ahead.last().map_or(self.step, |ahead| ahead.step + 1);
        for step in next..last.min(self.step + AHEAD as u64 + 1) {
            let (loader, attempt) = (Arc::clone(self.at.loader), Arc::clone(self.at.attempt));
            let mine = self.mine.clone();
            let another = self.audit(step).filter(|audit| audit.second == me).map(|audit| audit.grain);
            let task = tokio::spawn(async move {
                let mine = loader.grains(step, mine, &attempt).await?;
                let audited = match another {
                    Some(grain) => loader.grains(step, grain..grain + 1, &attempt).await?.pop(),
                    None => None,
                };
                Ok(Samples { mine, audited })
            });
            self.ahead.push(Ahead { step, task });
        }
        let mut ahead = self.ahead.remove(0);
        let made = (&mut ahead.task).await;
        made.map_err(|_| Stop::worker("internal error while samples were made"))?
    }

    /// The sums over this member's subtrees, and what there is to say of them.
    async fn gradients(
        &mut self,
        ours: &mut Ours,
        samples: Samples,
        audit: Option<Audit>,
    ) -> Result<(Vec<(Node, Vec<f32>)>, Facts), Stop> {
        let (step, mine, mut spare) = (self.step, self.mine.clone(), std::mem::take(&mut ours.spare));
        let named = ours.named;
        let count = self.order.recipe.grains as u32;
        let wire = match self.order.recipe.gradients {
            GradientsName::F32 => Wire::F32,
            GradientsName::Bf16 => Wire::Bf16,
        };
        let computed = self
            .at
            .on_device(move |learner| {
                let weights = learner.fingerprint(step);
                let mut facts =
                    Facts { fingerprint: weights, audited: 0, bad: None, named, losses: Vec::new() };
                let mut leaves = Leaves::new(count, wire);
                for (number, grain) in mine.zip(&samples.mine) {
                    let memory = spare.pop().or_else(|| leaves.spare()).unwrap_or_default();
                    match learner.grain(grain, memory) {
                        Ok((gradient, mut losses)) => {
                            if audit.is_some_and(|audit| audit.grain == number) {
                                facts.audited = fingerprint(&gradient);
                            }
                            facts.losses.append(&mut losses);
                            leaves.push(number as u32, gradient);
                        }
                        Err(GrainError::NotFinite { place, .. }) => {
                            facts.bad = facts.bad.or(Some(place));
                            leaves.push(number as u32, vec![0.0; learner.parameters()]);
                            let samples = grain.iter().map(|call| call.places.len()).sum();
                            facts.losses.extend(std::iter::repeat_n(f64::NAN, samples));
                        }
                        Err(error) => return Err(Stop::worker(error)),
                    }
                }
                if let Some(grain) = &samples.audited {
                    let memory = spare.pop().unwrap_or_default();
                    let (audited, memory) = learner.audit(grain, memory).map_err(Stop::worker)?;
                    facts.audited = audited;
                    spare.push(memory);
                }
                while let Some(buffer) = leaves.spare() {
                    spare.push(buffer);
                }
                Ok((leaves.finish(), facts, spare))
            })
            .await?;
        let (parts, facts, spare) = computed;
        ours.spare = spare;
        Ok((parts, facts))
    }

    /// A step that is not taken, and why: its gradient is no number, or a loss is beyond all bounds.
    async fn skip(&mut self, what: &str, bad: Option<u32>) -> Result<(), Apart> {
        self.skips += 1;
        let places: Vec<u64> = match bad {
            Some(place) => vec![u64::from(place)],
            None => (0..self.order.recipe.batch).collect(),
        };
        let keys = self.at.loader.keys(self.step, places.into_iter().take(8)).join("`, `");
        if self.skips > self.order.skips_max {
            let last = self.at.newest_checkpoint().await?;
            let good = match last {
                Some(info) => format!("the last good checkpoint is `{}`", info.folder()),
                None => "there is no checkpoint yet".to_string(),
            };
            let text = format!(
                "step {}: {what} (samples `{keys}`); {good}: take a smaller learning_rate, a longer warmup, or clip",
                self.step + 1
            );
            return Err(Stop::Failed(Failure::new(FailureKind::Job, text)).into());
        }
        tracing::warn!(step = self.step + 1, samples = %keys, "left out: {what}");
        self.at
            .on_device(|learner| {
                learner.skip();
                Ok(())
            })
            .await?;
        self.step += 1;
        Ok(())
    }

    /// Losses and samples of the held-out pictures, each member its share.
    async fn validate(&mut self, mesh: &mut Mesh) -> Result<Validation, Apart> {
        let count = self.order.validation_pictures.min(self.at.loader.held_out());
        let mine = validation::share(count, mesh.rank(), mesh.members());
        let mut scored: Vec<Scored> = Vec::new();
        let all: Vec<u64> = mine.collect();
        for indexes in all.chunks(VALIDATED_AT_ONCE) {
            let mut examples = Vec::new();
            for index in indexes {
                examples.push(self.at.loader.held_out_example(*index, self.at.attempt).await?);
            }
            let call = self.at.loader.lay_out(&examples);
            let (recipe, indexes, samples) =
                (self.order.recipe.clone(), indexes.to_vec(), self.order.validation_samples);
            let some = self.at.on_device(move |learner| {
                let of = |averaged: bool, learner: &mut super::learner::Learner| {
                    learner.evaluate(averaged, |network| validation::losses(network, &recipe, &call))
                };
                let (raw, averaged) =
                    (of(false, learner).map_err(Stop::worker)?, of(true, learner).map_err(Stop::worker)?);
                let mut scored = Vec::new();
                for (i, index) in indexes.iter().enumerate() {
                    let mut one = Scored {
                        index: *index,
                        loss: raw[i],
                        loss_averaged: averaged[i],
                        sampled: None,
                        result: None,
                    };
                    if *index < samples {
                        let result = learner
                            .evaluate(true, |network| validation::sample(network, &recipe, &examples[i]))
                            .map_err(Stop::worker)?;
                        one.sampled = validation::scores(&examples[i], &result).map_err(Stop::worker)?;
                        one.result = Some(result);
                    }
                    scored.push(one);
                }
                Ok(scored)
            });
            scored.extend(some.await?);
        }
        let gathered = mesh.gather(tag(self.step, VALIDATION), written(&scored)).await?;
        let mut all: Vec<Scored> = said::<Vec<Scored>>(gathered)?.into_iter().flatten().collect();
        all.sort_by_key(|one| one.index);
        if mesh.rank() == 0 {
            self.write_grid(&all).await?;
        }
        Ok(validation::joined(all))
    }

    async fn write_grid(&self, all: &[Scored]) -> Result<(), Stop> {
        let (mut examples, mut results) = (Vec::new(), Vec::new());
        for one in all {
            if let Some(result) = &one.result {
                examples.push(self.at.loader.held_out_example(one.index, self.at.attempt).await?);
                results.push(result.clone());
            }
        }
        if examples.is_empty() {
            return Ok(());
        }
        let png = validation::grid(&examples, &results).map_err(Stop::worker)?;
        let name = key(&format!("grids/step-{:012}.png", self.step));
        // A grid is for people: a run does not end for one.
        if let Err(error) = self.at.open.destination.put(&name, png.into(), PutMode::Replace).await {
            tracing::warn!(%error, "the grid of samples is not written");
        }
        Ok(())
    }

    /// The last checkpoint, which everybody waits for.
    async fn finish(&mut self, ours: &mut Ours, mesh: &mut Mesh) -> Result<Trained, Apart> {
        let mut named: Option<CheckpointInfo> = None;
        if mesh.rank() == 0 {
            settle(ours).await;
            let state = self.at.on_device(|learner| Ok(learner.state())).await?;
            let (store, order) = (&self.at.open.destination, &self.order);
            let history = ours.history();
            let written: BoxFuture<'_, _> =
                Box::pin(checkpoint::write(store, order, self.at.pictures, state, &history));
            // Without this one the run has come to nothing: a store that refuses is tried again by another attempt.
            named = Some(written.await.map_err(Stop::transient)?);
            if let Err(error) = checkpoint::prune(store, order.keep).await {
                tracing::warn!(%error, "old checkpoints are not removed");
            }
        }
        let said: Vec<Option<CheckpointInfo>> =
            said(mesh.gather(tag(self.step, WRITTEN), written(&named)).await?)?;
        let info = said.into_iter().flatten().next();
        let info = info.ok_or_else(|| Stop::worker("the last checkpoint has no name"))?;
        let ours = self.at.on_device(|learner| Ok(learner.state().weights_sha256())).await?;
        if ours != info.weights_sha256 {
            return Err(broken(self.step, "weights").into());
        }
        Ok(Trained {
            step: info.step,
            samples: info.samples,
            weights_sha256: info.weights_sha256.clone(),
            checkpoint: info.folder(),
        })
    }
}

/// Whether this process's memory breaks at a step: for tests.
fn breaks_at(step: u64) -> bool {
    static STEP: OnceLock<Option<u64>> = OnceLock::new();
    let of_process = || std::env::var("SR3_TEST_BREAK_WEIGHTS").ok()?.parse().ok();
    *STEP.get_or_init(of_process) == Some(step)
}
