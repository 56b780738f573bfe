//! A plan's steps and buffers for one batch size and image size, laid out in memory.

use std::ops::Range;

use super::gradient;
use super::key::ProgramKey;
use super::lower::{self, Lowered};
use super::step::{Buffer, Step};
use crate::model::graph::{Graph, ParamId};
use crate::ops::liveness::{Lifetime, place};

/// Steps in order, and where their buffers lie.
pub(super) struct Program {
    pub(super) key: ProgramKey,
    pub(super) steps: Vec<Step>,
    /// How many of the steps are the forward pass.
    pub(super) forward_steps: usize,
    pub(super) input: Buffer,
    pub(super) noise_level: Buffer,
    /// Where there are classes.
    pub(super) label: Option<Buffer>,
    pub(super) prediction: Buffer,
    /// Gradients of prediction, input and noise level, where training.
    pub(super) gradients: Option<[Buffer; 3]>,
    ranges: Vec<Range<usize>>,
    pub(super) arena_len: usize,
}

impl Program {
    pub(super) fn new(graph: &Graph, key: ProgramKey) -> Self {
        let lowered = lower::lower(graph, key);
        let Lowered { mut steps, mut lengths, input, noise_level, label, prediction } = lowered;
        let forward_steps = steps.len();
        let gradients = key
            .training
            .then(|| gradient::append(&mut steps, &mut lengths, [prediction, input, noise_level], key.batch));

        let never = Lifetime { length: 0, first: usize::MAX, last: 0 };
        let mut lifetimes: Vec<_> = lengths.iter().map(|&length| Lifetime { length, ..never }).collect();
        for (at, step) in steps.iter().enumerate() {
            for buffer in step.buffers() {
                let life = &mut lifetimes[buffer];
                (life.first, life.last) = (life.first.min(at), life.last.max(at));
            }
        }
        // The caller fills these before the first step, or reads them after the last.
        for buffer in [input, noise_level].into_iter().chain(label) {
            lifetimes[buffer].first = 0;
        }
        for buffer in [prediction].into_iter().chain(gradients.iter().flatten().copied()) {
            lifetimes[buffer].last = steps.len();
        }
        // The cotangent is written between the passes.
        if let Some([cotangent, ..]) = gradients {
            lifetimes[cotangent].first = lifetimes[cotangent].first.min(forward_steps);
        }
        let (offsets, arena_len) = place(&lifetimes);
        let ranges = offsets.iter().zip(&lengths).map(|(&offset, &length)| offset..offset + length).collect();
        Self {
            key,
            steps,
            forward_steps,
            input,
            noise_level,
            label,
            prediction,
            gradients,
            ranges,
            arena_len,
        }
    }

    /// Gradients of prediction, input and noise level of a training program.
    pub(super) fn training_gradients(&self) -> [Buffer; 3] {
        self.gradients.unwrap_or_else(|| unreachable!("a training program has gradients"))
    }

    /// The convolutions' weights that are packed before the steps, not where they are used.
    pub(super) fn packed(&self) -> impl Iterator<Item = ParamId> {
        self.steps.iter().filter_map(|step| match step {
            Step::Conv(conv) if conv.packing.is_none() => Some(conv.weight),
            _ => None,
        })
    }

    /// Where a buffer lies.
    pub(super) fn range(&self, buffer: Buffer) -> Range<usize> {
        self.ranges[buffer].clone()
    }

    /// Where an optional buffer lies: nowhere if there is none.
    pub(super) fn range_of(&self, buffer: Option<Buffer>) -> Range<usize> {
        buffer.map_or(0..0, |b| self.range(b))
    }
}
