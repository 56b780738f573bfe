//! What lies on the device: a network, its optimizer, and what they do in a step.

use std::sync::OnceLock;

use sr3_engine::{
    model::{Denoiser, Graph, Weights, initial_weights},
    ops::Isa,
    train::{Adam, BLOCK, Draws, GrainError, LearningRate, Task, Trainer, TrainingState, fingerprint, norm},
};

use super::{loader::Grain, order::TrainOrder};

/// The weights are looked over in so many parts, one a step.
pub(super) const PARTS: u64 = 64;

/// A network that learns.
pub(super) struct Learner {
    trainer: Trainer,
    adam: Adam,
    rate: LearningRate,
    batch: usize,
    isa: Isa,
}

/// What a step came to, beside the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Applied {
    /// The gradient's length, before it is shortened.
    pub(super) norm: f64,
    /// Step size.
    pub(super) learning_rate: f64,
}

impl Learner {
    /// With what `state` says, or with `weights`, or with drawn ones. May take seconds.
    pub(super) fn new(
        order: &TrainOrder,
        task: &Task,
        state: Option<TrainingState>,
        weights: Option<&Weights>,
    ) -> Result<Self, String> {
        let recipe = &order.recipe;
        let graph = Graph::build(&recipe.model).map_err(|e| e.to_string())?;
        let drawn;
        let weights = match weights {
            Some(weights) => weights,
            None => {
                drawn = initial_weights(&graph, recipe.seed);
                &drawn
            }
        };
        let isa = Isa::detect();
        let dropout = Draws::new(recipe.seed).dropout();
        let trainer = Trainer::new(&recipe.model, weights, recipe.precision(), task, dropout, isa);
        let mut trainer = trainer.map_err(|e| e.to_string())?;
        let adam = match state {
            Some(state) => {
                trainer.parameters_mut().copy_from_slice(&state.weights);
                Adam::resume(recipe.adam(), state.moments, isa)
            }
            None => Adam::new(recipe.adam(), trainer.parameters(), isa),
        };
        Ok(Self { trainer, adam, rate: order.learning_rate(), batch: recipe.batch as usize, isa })
    }

    /// Steps so far.
    pub(super) fn step(&self) -> u64 {
        self.adam.moments().step
    }

    /// Samples so far.
    pub(super) fn samples(&self) -> u64 {
        self.adam.moments().samples
    }

    /// Steps that were left out.
    pub(super) fn skipped(&self) -> u64 {
        self.adam.moments().skipped
    }

    /// A step whose gradient is no number.
    pub(super) fn skip(&mut self) {
        self.adam.skip(self.batch as u64);
    }

    /// How many numbers the weights are.
    pub(super) fn parameters(&self) -> usize {
        self.trainer.parameters().len()
    }

    /// The gradient of a grain, in `memory`, and the loss of each of its samples.
    pub(super) fn grain(
        &mut self,
        grain: &Grain,
        mut memory: Vec<f32>,
    ) -> Result<(Vec<f32>, Vec<f64>), GrainError> {
        memory.clear();
        memory.resize(self.parameters(), 0.0);
        let losses = self.trainer.grain(grain, self.batch, &mut memory)?;
        if let Some(first) = memory.first_mut().filter(|_| breaks_from(self.adam.moments().step)) {
            *first = f32::from_bits(first.to_bits() ^ 1);
        }
        Ok((memory, losses))
    }

    /// A fingerprint of a grain's gradient, which nothing else is made of. One that is no number has that of nothing.
    pub(super) fn audit(&mut self, grain: &Grain, memory: Vec<f32>) -> Result<(u64, Vec<f32>), GrainError> {
        match self.grain(grain, memory) {
            Ok((gradient, _)) => Ok((fingerprint(&gradient), gradient)),
            Err(GrainError::NotFinite { .. }) => Ok((0, Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// The length of the whole batch's gradient: finite if and only if all of it is.
    pub(super) fn norm(&self, gradient: &[f32]) -> f64 {
        norm(self.isa, gradient)
    }

    /// One step of the optimizer.
    pub(super) fn apply(&mut self, gradient: &[f32], norm: f64) -> Applied {
        let learning_rate = self.rate.at(self.step());
        let Self { trainer, adam, batch, .. } = self;
        adam.step(trainer.parameters_mut(), gradient, norm, learning_rate, *batch as u64);
        Applied { norm, learning_rate }
    }

    /// A fingerprint of that part of the weights whose turn it is at a step.
    pub(super) fn fingerprint(&self, step: u64) -> u64 {
        let weights = self.trainer.parameters();
        let blocks = weights.len().div_ceil(BLOCK);
        let part = (step % PARTS) as usize;
        let bound = |i: usize| (i * blocks / PARTS as usize * BLOCK).min(weights.len());
        fingerprint(&weights[bound(part)..bound(part + 1).max(bound(part))])
    }

    /// A broken memory, for tests: one bit of the weights is another. Not the last of its number, which the next steps may round away.
    pub(super) fn break_bit(&mut self) {
        if let Some(weight) = self.trainer.parameters_mut().last_mut() {
            *weight = f32::from_bits(weight.to_bits() ^ 1 << 20);
        }
    }

    /// A fingerprint of all that it has come to.
    pub(super) fn whole_fingerprint(&self) -> u64 {
        let moments = self.adam.moments();
        let lists = [self.trainer.parameters(), &moments.first, &moments.second];
        let averages = moments.averages.iter().map(Vec::as_slice);
        lists.into_iter().chain(averages).fold(moments.step, |all, list| {
            (all ^ fingerprint(list)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        })
    }

    /// A copy of what it has come to.
    pub(super) fn state(&self) -> TrainingState {
        TrainingState { weights: self.trainer.parameters().to_vec(), moments: self.adam.moments().clone() }
    }

    /// Lets `work` evaluate the network: with its first average's weights where it keeps one, else with its own.
    pub(super) fn evaluate<T>(&mut self, averaged: bool, work: impl FnOnce(&mut dyn Denoiser) -> T) -> T {
        let average = self.adam.moments().averages.first().filter(|_| averaged);
        let own = average.map(|average| {
            let own = self.trainer.parameters().to_vec();
            self.trainer.parameters_mut().copy_from_slice(average);
            own
        });
        let done = work(self.trainer.denoiser());
        if let Some(own) = own {
            self.trainer.parameters_mut().copy_from_slice(&own);
        }
        done
    }
}

/// Whether this process computes wrongly from a step on: for tests.
fn breaks_from(step: u64) -> bool {
    static STEP: OnceLock<Option<u64>> = OnceLock::new();
    let of_process = || std::env::var("SR3_TEST_BREAK_GRADIENTS").ok()?.parse().ok();
    STEP.get_or_init(of_process).is_some_and(|first: u64| step >= first)
}
