//! Runs the backward steps of a program.

use std::ops::Range;

use rayon::prelude::*;

use super::forward::{Run, SourceBuffers, item, item_mut};
use super::step::{Buffer, ConvStep, Extent, GradientTo, SegmentRef, SourceGradient, SourceRef, Step};
use crate::model::graph::ParamId;
use crate::ops::attention::{self, BackwardScratch, Qkv};
use crate::ops::conv;
use crate::ops::group_norm::{self, Backward, Gradients};
use crate::ops::pointwise;

/// The gradients of all parameters, one after the other in the graph's order.
pub(super) struct ParamGradients<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) ranges: &'a [Range<usize>],
}

impl ParamGradients<'_> {
    fn of(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.values[self.ranges[id.0].clone()]
    }

    /// Two parameters' at once: weight and bias of one module, so never the same.
    fn pair(&mut self, a: ParamId, b: ParamId) -> [&mut [f32]; 2] {
        let ranges = [a, b].map(|id| self.ranges[id.0].clone());
        self.values.get_disjoint_mut(ranges).unwrap_or([&mut [], &mut []])
    }
}

impl Run<'_> {
    /// Runs every backward step; adds the parameters' gradients to `params`.
    pub(super) fn backward(&mut self, params: &mut ParamGradients<'_>) {
        let program = self.program;
        for step in &program.steps[program.forward_steps..] {
            self.backward_step(step, params);
        }
    }

    fn backward_step(&mut self, step: &Step, params: &mut ParamGradients<'_>) {
        let (program, batch) = (self.program, self.program.key.batch);
        match *step {
            Step::EncodingBackward { level, waves, gradient, length, to } => {
                let reads = [level, gradient].map(|b| program.range(b));
                let ([level, gradient], [out]) = self.arena.view(reads, [program.range(to.buffer)]);
                for ((l, g), out) in level.iter().zip(gradient.chunks_exact(length)).zip(out) {
                    let value = waves.backward(*l, g);
                    *out = if to.add { *out + value } else { value };
                }
            }
            Step::EmbeddingBackward { label, weight, gradient } => {
                let ([labels, gradient], []) =
                    self.arena.view([label, gradient].map(|b| program.range(b)), []);
                let (rows, length) = (params.of(weight), gradient.len() / batch);
                for (label, gradient) in labels.iter().zip(gradient.chunks_exact(length)) {
                    let row = &mut rows[*label as usize * length..][..length];
                    row.iter_mut().zip(gradient).for_each(|(to, g)| *to += g);
                }
            }
            Step::LinearBackward { x, weight, bias, gradient, to } => {
                let reads = [x, gradient].map(|b| program.range(b));
                let ([x, gradient], [out]) = self.arena.view(reads, [program.range(to.buffer)]);
                let values = self.weights.value(weight);
                for n in 0..batch {
                    let [to_weight, to_bias] = params.pair(weight, bias);
                    let (x, g) = (item(x, n, batch), item(gradient, n, batch));
                    let out = item_mut(out, n, batch);
                    pointwise::linear_backward(x, values, g, (to_weight, to_bias), out, to.add);
                }
            }
            Step::SiluBackward { x, gradient, to } => {
                let reads = [x, gradient].map(|b| program.range(b));
                let ([x, gradient], [out]) = self.arena.view(reads, [program.range(to.buffer)]);
                pointwise::silu_backward(x, gradient, out, to.add);
            }
            Step::ConvBackward { conv, gradient, source, shift, add, scratch, packing, wide, folded } => {
                self.conv_outputs(&conv, gradient, shift, add, params);
                self.conv_weights(&conv, gradient, scratch, params);
                self.conv_input(&conv, gradient, packing, wide, folded);
                self.source(&conv.source, folded.unwrap_or(wide), &source, params);
            }
            Step::GatherBackward { source, gradient, to } => self.source(&source, gradient, &to, params),
            Step::ModulateBackward { image, vector, gradient, to, to_vector, .. } => {
                let reads = [image.buffer, vector, gradient].map(|b| program.range(b));
                let writes = [to.buffer, to_vector.buffer].map(|b| program.range(b));
                let ([x, vector, gradient], [out, out_vector]) = self.arena.view(reads, writes);
                for n in 0..batch {
                    pointwise::modulate_backward(
                        item(x, n, batch),
                        item(vector, n, batch),
                        item(gradient, n, batch),
                        image.channels,
                        (item_mut(out, n, batch), to.add),
                        (item_mut(out_vector, n, batch), to_vector.add),
                    );
                }
            }
            Step::AddBackward { gradient, scale, to } => {
                for to in to {
                    self.accumulate(gradient, scale, to);
                }
            }
            Step::AttentionBackward {
                qkv,
                channels,
                heads,
                pixels,
                gradient,
                transposed,
                rows,
                item: one,
                to,
            } => {
                let [a, b, c, d] = transposed;
                let reads = [qkv, gradient].map(|b| program.range(b));
                let writes = [a, b, c, d, rows, one, to.buffer].map(|b| program.range(b));
                let ([qkv, gradient], [a, b, c, d, rows, one, out]) = self.arena.view(reads, writes);
                for n in 0..batch {
                    let qkv = Qkv { data: item(qkv, n, batch), channels, heads };
                    let scratch = BackwardScratch { transposed: [&mut *a, &mut *b, &mut *c, &mut *d], rows };
                    debug_assert_eq!(one.len(), 3 * channels * pixels);
                    attention::backward(self.isa, qkv, item(gradient, n, batch), scratch, one);
                    pointwise::accumulate(one, 1.0, item_mut(out, n, batch), to.add);
                }
            }
            Step::AvgPoolBackward { image, extent, gradient, to } => {
                let ([gradient], [out]) =
                    self.arena.view([program.range(gradient)], [program.range(to.buffer)]);
                for n in 0..batch {
                    let (g, out) = (item(gradient, n, batch), item_mut(out, n, batch));
                    pointwise::double(g, extent.width / 2, image.channels, 0.25, out, to.add);
                }
            }
            Step::UpsampleBackward { image, extent, gradient, to } => {
                self.upsample_backward(image, extent, gradient, to);
            }
            Step::DropoutBackward { gradient, layer, rate, to } => self.drop_out(gradient, layer, rate, to),
            _ => unreachable!("forward steps come before the backward ones"),
        }
    }

    fn accumulate(&mut self, from: Buffer, factor: f32, to: GradientTo) {
        let program = self.program;
        let ([from], [out]) = self.arena.view([program.range(from)], [program.range(to.buffer)]);
        pointwise::accumulate(from, factor, out, to.add);
    }

    fn upsample_backward(&mut self, image: SegmentRef, extent: Extent, gradient: Buffer, to: GradientTo) {
        let (program, batch) = (self.program, self.program.key.batch);
        let ([gradient], [out]) = self.arena.view([program.range(gradient)], [program.range(to.buffer)]);
        // Four times the mean of a block is its sum, exactly.
        let mut sums = vec![0.0; out.len() / batch];
        for n in 0..batch {
            pointwise::avg_pool(item(gradient, n, batch), 2 * extent.width, image.channels, &mut sums);
            pointwise::accumulate(&sums, 4.0, item_mut(out, n, batch), to.add);
        }
    }

    /// Carries the gradient of a conv's output to what was added to it: the other image, the shift, the bias.
    fn conv_outputs(
        &mut self,
        conv: &ConvStep,
        gradient: Buffer,
        shift: Option<GradientTo>,
        add: Option<GradientTo>,
        params: &mut ParamGradients<'_>,
    ) {
        let (program, batch) = (self.program, self.program.key.batch);
        if let Some(add) = add {
            self.accumulate(gradient, conv.scale, add);
        }
        if conv.scale != 1.0 {
            let ([], [gradient]) = self.arena.view([], [program.range(gradient)]);
            gradient.par_iter_mut().with_min_len(1 << 16).for_each(|g| *g *= conv.scale);
        }
        let (channels, width) = (conv.shape.out_channels, conv.shape.out_width());
        let ([gradient], [to_shift]) =
            self.arena.view([program.range(gradient)], [program.range_of(shift.map(|s| s.buffer))]);
        let isa = self.isa;
        let sums: Vec<_> = gradient
            .par_chunks_exact(gradient.len() / batch)
            .map(|gradient| conv::sum_pixels(isa, gradient, width, channels))
            .collect();
        for (n, sums) in sums.into_iter().enumerate() {
            if let Some(bias) = conv.bias {
                params.of(bias).iter_mut().zip(&sums).for_each(|(to, sum)| *to += *sum as f32);
            }
            if let Some(shift) = shift {
                let to = item_mut(to_shift, n, batch);
                to.iter_mut().zip(&sums).for_each(|(to, sum)| {
                    *to = if shift.add { *to + *sum as f32 } else { *sum as f32 };
                });
            }
        }
    }

    /// Adds the gradient of a conv's weights.
    fn conv_weights(
        &mut self,
        conv: &ConvStep,
        gradient: Buffer,
        scratch: Buffer,
        params: &mut ParamGradients<'_>,
    ) {
        let (program, batch) = (self.program, self.program.key.batch);
        let [a, b] = conv.source.segments.map(|s| program.range_of(s.map(|s| s.buffer)));
        let prologue = program.range_of(conv.source.norm.map(|n| n.prologue));
        let reads = [a, b, prologue, program.range(gradient)];
        let ([a, b, prologue, gradient], [scratch]) = self.arena.view(reads, [program.range(scratch)]);
        let buffers = SourceBuffers { segments: [a, b], prologue };
        let source = |n| conv.source.item(buffers, n, batch);
        conv::backward_weights(self.isa, &conv.shape, source, gradient, scratch, params.of(conv.weight));
    }

    /// Carries the gradient of a conv's output to what its window sees.
    fn conv_input(
        &mut self,
        conv: &ConvStep,
        gradient: Buffer,
        packing: Buffer,
        wide: Buffer,
        folded: Option<Buffer>,
    ) {
        let program = self.program;
        let writes = [program.range(wide), program.range_of(folded), program.range(packing)];
        let ([gradient], [wide, folded, packing]) = self.arena.view([program.range(gradient)], writes);
        let weights = self.weights.value(conv.weight);
        conv::backward_input_packing(self.isa, &conv.shape, gradient, weights, packing, wide);
        if !folded.is_empty() {
            conv::fold_doubled(wide, conv.shape.width, conv.shape.in_channels, folded);
        }
    }

    /// Carries the gradient of what a conv (or a gathering step) reads to its images and its norm. It is used up.
    fn source(
        &mut self,
        source: &SourceRef,
        gradient: Buffer,
        to: &SourceGradient,
        params: &mut ParamGradients<'_>,
    ) {
        let (program, batch) = (self.program, self.program.key.batch);
        let [a, b] = source.segments.map(|s| program.range_of(s.map(|s| s.buffer)));
        let prologue = program.range_of(source.norm.map(|n| n.prologue));
        let [ma, mb] = source.norm.map_or([None; 2], |norm| norm.moments).map(|m| program.range_of(m));
        let [ta, tb] = to.segments.map(|t| program.range_of(t.map(|t| t.buffer)));
        let modulation = program.range_of(source.norm.and_then(|norm| norm.modulation));
        let to_modulation = program.range_of(to.modulation.map(|t| t.buffer));
        let reads = [a, b, prologue, ma, mb, modulation];
        let writes = [program.range(gradient), ta, tb, program.range_of(to.partials), to_modulation];
        let ([a, b, prologue, ma, mb, modulation], [gradient, ta, tb, partials, to_modulation]) =
            self.arena.view(reads, writes);
        let buffers = SourceBuffers { segments: [a, b], prologue };
        let add = to.segments.map(|t| t.is_some_and(|t| t.add));
        if let Some(norm) = source.norm {
            let weights = norm.weights(self.weights);
            let of_item = |n| {
                let from = source.item(buffers, n, batch);
                Backward {
                    segments: from.segments,
                    moments: [ma, mb].map(|m| item(m, n, batch)),
                    norm: weights,
                    modulation: item(modulation, n, batch),
                    prologue: from.prologue.unwrap_or_else(|| unreachable!("a norm has a prologue")),
                    width: source.extent.width,
                }
            };
            let [weight, bias] = params.pair(norm.weight, norm.bias);
            let modulation = (to_modulation, to.modulation.is_some_and(|t| t.add));
            let out = Gradients { images: [(ta, add[0]), (tb, add[1])], weight, bias, modulation };
            group_norm::backward(self.isa, batch, of_item, gradient, partials, out);
            return;
        }
        let channels = source.channels();
        let mut offset = 0;
        for ((segment, out), add) in source.segments.iter().flatten().zip([ta, tb]).zip(add) {
            pointwise::take_channels(gradient, channels, offset, segment.channels, out, add);
            offset += segment.channels;
        }
    }
}
