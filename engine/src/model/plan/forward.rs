//! Runs the forward steps of a program.

use super::program::Program;
use super::step::{Buffer, ConvStep, Extent, GradientTo, NormRef, SegmentRef, SourceRef, Step};
use super::weights::PlanWeights;
use crate::diffusion::NoiseSource;
use crate::model::graph::NORM_EPS;
use crate::ops::arena::Arena;
use crate::ops::attention::{self, Qkv};
use crate::ops::conv;
use crate::ops::conv_shape::Epilogue;
use crate::ops::group_norm::{self, NormWeights};
use crate::ops::source::{Prologue, Segment, Source, Window, pack};
use crate::ops::{Isa, pointwise};

use rayon::prelude::*;

/// What the steps of a program work with.
pub(super) struct Run<'a> {
    pub(super) isa: Isa,
    pub(super) program: &'a Program,
    pub(super) weights: &'a PlanWeights,
    pub(super) arena: &'a mut Arena,
    /// Drawn from here; nothing is dropped without.
    pub(super) dropout: Option<&'a Dropout<'a>>,
}

/// What a training step drops: a function of the step and of each item's place in its batch.
#[derive(Clone, Copy, Debug)]
pub struct Dropout<'a> {
    /// Where masks come from.
    pub source: NoiseSource,
    /// The step.
    pub step: u32,
    /// (N): each item's place in the step's batch.
    pub places: &'a [u32],
}

/// Item n of a buffer that holds `batch` items of equal length.
pub(super) fn item(buffer: &[f32], n: usize, batch: usize) -> &[f32] {
    let length = buffer.len() / batch;
    &buffer[n * length..(n + 1) * length]
}

/// The same, to be written.
pub(super) fn item_mut(buffer: &mut [f32], n: usize, batch: usize) -> &mut [f32] {
    let length = buffer.len() / batch;
    &mut buffer[n * length..(n + 1) * length]
}

/// A source's buffers, borrowed: its images, and the scale and shift of its norm.
#[derive(Clone, Copy)]
pub(super) struct SourceBuffers<'a> {
    pub(super) segments: [&'a [f32]; 2],
    pub(super) prologue: &'a [f32],
}

impl SourceRef {
    /// What item n of a batch reads.
    pub(super) fn item<'a>(&self, buffers: SourceBuffers<'a>, n: usize, batch: usize) -> Source<'a> {
        let mut segments = [Segment { data: &[], channels: 0 }; 2];
        for ((to, of), data) in segments.iter_mut().zip(&self.segments).zip(buffers.segments) {
            if let Some(of) = of {
                *to = Segment { data: item(data, n, batch), channels: of.channels };
            }
        }
        let prologue = self.norm.map(|norm| {
            let (scale, shift) = item(buffers.prologue, n, batch).split_at(self.channels());
            Prologue { scale, shift, silu: norm.silu }
        });
        Source { segments, prologue }
    }
}

impl NormRef {
    pub(super) fn weights<'a>(&self, weights: &'a PlanWeights) -> NormWeights<'a> {
        let (weight, bias) = (weights.value(self.weight), weights.value(self.bias));
        NormWeights { weight, bias, groups: self.groups, eps: NORM_EPS }
    }
}

impl Run<'_> {
    /// Runs every forward step.
    pub(super) fn forward(&mut self) {
        let program = self.program;
        for step in &program.steps[..program.forward_steps] {
            self.forward_step(step);
        }
    }

    fn forward_step(&mut self, step: &Step) {
        let (program, batch) = (self.program, self.program.key.batch);
        match *step {
            Step::Encoding { level, waves, out, length } => {
                let ([level], [out]) = self.arena.view([program.range(level)], [program.range(out)]);
                out.chunks_exact_mut(length).zip(level).for_each(|(out, l)| waves.encode(*l, out));
            }
            Step::Embedding { label, weight, out } => {
                let ([labels], [out]) = self.arena.view([program.range(label)], [program.range(out)]);
                let (rows, length) = (self.weights.value(weight), out.len() / batch);
                for (label, out) in labels.iter().zip(out.chunks_exact_mut(length)) {
                    out.copy_from_slice(&rows[*label as usize * length..][..length]);
                }
            }
            Step::Linear { x, weight, bias, out } => {
                let ([x], [out]) = self.arena.view([program.range(x)], [program.range(out)]);
                let (weight, bias) = (self.weights.value(weight), self.weights.value(bias));
                let (inputs, outputs) = (x.len() / batch, bias.len());
                for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
                    pointwise::linear(x, weight, bias, out);
                }
            }
            Step::Silu { x, out } => {
                let ([x], [out]) = self.arena.view([program.range(x)], [program.range(out)]);
                pointwise::silu(x, out);
            }
            Step::Moments { image, extent, partials, out } => self.moments(image, extent, partials, out),
            Step::Prologue { norm, out } => {
                let [a, b] = norm.moments.map(|m| program.range_of(m));
                let reads = [a, b, program.range_of(norm.modulation)];
                let ([a, b, modulation], [out]) = self.arena.view(reads, [program.range(out)]);
                let weights = norm.weights(self.weights);
                for (n, out) in out.chunks_exact_mut(2 * weights.weight.len()).enumerate() {
                    let moments = [a, b].map(|m| item(m, n, batch));
                    group_norm::prologue(moments, &weights, item(modulation, n, batch), out);
                }
            }
            Step::Conv(ref conv) => self.conv(conv),
            Step::Gather { source, out } => self.gather(&source, out),
            Step::Modulate { image, vector, out, .. } => {
                let ([x, vector], [out]) =
                    self.arena.view([image.buffer, vector].map(|b| program.range(b)), [program.range(out)]);
                let length = out.len() / batch;
                out.par_chunks_exact_mut(length).enumerate().for_each(|(n, out)| {
                    pointwise::modulate(item(x, n, batch), item(vector, n, batch), image.channels, out);
                });
            }
            Step::Add { a, b, scale, out } => {
                let ([a, b], [out]) = self.arena.view([a, b].map(|b| program.range(b)), [program.range(out)]);
                pointwise::add(a, b, scale, out);
            }
            Step::Attention { qkv, channels, heads, pixels, transposed, out } => {
                let ([qkv], [transposed, out]) =
                    self.arena.view([program.range(qkv)], [transposed, out].map(|b| program.range(b)));
                for (n, out) in out.chunks_exact_mut(pixels * channels).enumerate() {
                    attention::forward(
                        self.isa,
                        Qkv { data: item(qkv, n, batch), channels, heads },
                        transposed,
                        out,
                    );
                }
            }
            Step::AvgPool { image, extent, out } => {
                let ([x], [out]) = self.arena.view([program.range(image.buffer)], [program.range(out)]);
                let length = out.len() / batch;
                out.par_chunks_exact_mut(length).enumerate().for_each(|(n, out)| {
                    pointwise::avg_pool(item(x, n, batch), extent.width, image.channels, out);
                });
            }
            Step::Upsample { image, extent, out } => {
                let ([x], [out]) = self.arena.view([program.range(image.buffer)], [program.range(out)]);
                let length = out.len() / batch;
                out.par_chunks_exact_mut(length).enumerate().for_each(|(n, out)| {
                    pointwise::double(item(x, n, batch), extent.width, image.channels, 1.0, out, false);
                });
            }
            Step::Dropout { x, layer, rate, out } => {
                self.drop_out(x, layer, rate, GradientTo { buffer: out, add: false });
            }
            _ => unreachable!("backward steps come after the forward ones"),
        }
    }

    /// Drops values of every item: activations on the way there, their gradients on the way back.
    pub(super) fn drop_out(&mut self, from: Buffer, layer: u32, rate: f32, to: GradientTo) {
        let (program, batch) = (self.program, self.program.key.batch);
        let ([from], [out]) = self.arena.view([program.range(from)], [program.range(to.buffer)]);
        let Some(dropout) = self.dropout else { return pointwise::accumulate(from, 1.0, out, to.add) };
        for (n, place) in dropout.places.iter().enumerate() {
            let mask = |block| dropout.source.mask(block, *place, layer, dropout.step);
            pointwise::dropout(item(from, n, batch), mask, rate, item_mut(out, n, batch), to.add);
        }
    }

    fn moments(&mut self, image: SegmentRef, extent: Extent, partials: usize, out: usize) {
        let (program, batch, isa) = (self.program, self.program.key.batch, self.isa);
        let ([x], [partials, out]) =
            self.arena.view([program.range(image.buffer)], [partials, out].map(|b| program.range(b)));
        let partials_len = partials.len() / batch;
        let items =
            out.par_chunks_exact_mut(2 * image.channels).zip(partials.par_chunks_exact_mut(partials_len));
        items.enumerate().for_each(|(n, (out, partials))| {
            group_norm::moments(isa, item(x, n, batch), extent.width, image.channels, partials, out);
        });
    }

    fn conv(&mut self, step: &ConvStep) {
        let (program, batch, isa) = (self.program, self.program.key.batch, self.isa);
        let [a, b] = step.source.segments.map(|s| program.range_of(s.map(|s| s.buffer)));
        let prologue = program.range_of(step.source.norm.map(|n| n.prologue));
        let reads = [a, b, prologue, program.range_of(step.shift), program.range_of(step.add)];
        let writes = [program.range(step.out), program.range_of(step.packing)];
        let ([a, b, prologue, shift, add], [out, packing]) = self.arena.view(reads, writes);
        let buffers = SourceBuffers { segments: [a, b], prologue };
        let bias = self.weights.value_of(step.bias);
        let source = |n| step.source.item(buffers, n, batch);
        let epilogue =
            |n| Epilogue { bias, shift: item(shift, n, batch), add: item(add, n, batch), scale: step.scale };
        if step.packing.is_some() {
            let weights = self.weights.value(step.weight);
            conv::forward_packing(isa, &step.shape, source, weights, packing, epilogue, out);
        } else {
            conv::forward(isa, &step.shape, source, self.weights.packed(step.weight), epilogue, out);
        }
    }

    fn gather(&mut self, source: &SourceRef, out: usize) {
        let (program, batch, isa) = (self.program, self.program.key.batch, self.isa);
        let [a, b] = source.segments.map(|s| program.range_of(s.map(|s| s.buffer)));
        let prologue = program.range_of(source.norm.map(|n| n.prologue));
        let ([a, b, prologue], [out]) = self.arena.view([a, b, prologue], [program.range(out)]);
        let buffers = SourceBuffers { segments: [a, b], prologue };
        let Extent { height, width } = source.extent;
        let window = Window { height, width, repeat: 1, pad: 0 };
        let length = out.len() / batch;
        out.par_chunks_exact_mut(length).enumerate().for_each(|(n, out)| {
            pack(isa, &source.item(buffers, n, batch), &window, 0, height, out);
        });
    }
}
