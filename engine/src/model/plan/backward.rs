//! Runs the backward steps of a program.

use super::forward::{Run, SourceBuffers, item};
use super::step::{Buffer, ConvStep, Extent, GradientTo, SegmentRef, SourceGradient, SourceRef, Step};
use crate::model::graph::ParamId;
use crate::ops::attention::{self, BackwardScratch, Qkv};
use crate::ops::conv;
use crate::ops::group_norm::Backward;
use crate::ops::pointwise;

/// The gradient of every parameter, in the graph's order.
pub(super) type ParamGradients = Vec<Vec<f32>>;

/// Two parameters' gradients at once.
fn pair(gradients: &mut ParamGradients, a: ParamId, b: ParamId) -> [&mut [f32]; 2] {
    // Weight and bias of one module are two parameters, so the indices differ.
    gradients.get_disjoint_mut([a.0, b.0]).map_or([&mut [], &mut []], |pair| pair.map(Vec::as_mut_slice))
}

fn item_mut(buffer: &mut [f32], n: usize, batch: usize) -> &mut [f32] {
    let length = buffer.len() / batch;
    &mut buffer[n * length..(n + 1) * length]
}

/// A conv's working memory.
#[derive(Clone, Copy)]
struct ConvScratch {
    packed: Buffer,
    wide: Buffer,
    folded: Option<Buffer>,
    weights: Buffer,
}

impl Run<'_> {
    /// Runs every backward step; adds the parameters' gradients to `params`.
    pub(super) fn backward(&mut self, params: &mut ParamGradients) {
        let program = self.program;
        for step in &program.steps[program.forward_steps..] {
            self.backward_step(step, params);
        }
    }

    fn backward_step(&mut self, step: &Step, params: &mut ParamGradients) {
        let (program, batch) = (self.program, self.program.key.batch);
        match *step {
            Step::EncodingBackward { level, gradient, length, to } => {
                let reads = [level, gradient].map(|b| program.range(b));
                let ([level, gradient], [out]) = self.arena.view(reads, [program.range(to.buffer)]);
                for ((l, g), out) in level.iter().zip(gradient.chunks_exact(length)).zip(out) {
                    let value = pointwise::encoding_backward(*l, g);
                    *out = if to.add { *out + value } else { value };
                }
            }
            Step::LinearBackward { x, weight, bias, gradient, to } => {
                let reads = [x, gradient].map(|b| program.range(b));
                let ([x, gradient], [out]) = self.arena.view(reads, [program.range(to.buffer)]);
                let values = self.weights.value(weight);
                for n in 0..batch {
                    let [to_weight, to_bias] = pair(params, weight, bias);
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
            Step::ConvBackward { conv, gradient, source, shift, add, packed, wide, folded, weights } => {
                self.conv_outputs(&conv, gradient, shift, add, params);
                let scratch = ConvScratch { packed, wide, folded, weights };
                self.conv_inputs(&conv, gradient, &source, scratch, params);
            }
            Step::GatherBackward { source, gradient, to } => {
                for n in 0..batch {
                    self.source_item(&source, gradient, n, batch, &to, params);
                }
            }
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
            Step::AttentionBackward { qkv, channels, pixels, gradient, transposed, rows, item: one, to } => {
                let [a, b, c, d] = transposed;
                let reads = [qkv, gradient].map(|b| program.range(b));
                let writes = [a, b, c, d, rows, one, to.buffer].map(|b| program.range(b));
                let ([qkv, gradient], [a, b, c, d, rows, one, out]) = self.arena.view(reads, writes);
                for n in 0..batch {
                    let qkv = Qkv { data: item(qkv, n, batch), channels };
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
        params: &mut ParamGradients,
    ) {
        let (program, batch) = (self.program, self.program.key.batch);
        if let Some(add) = add {
            self.accumulate(gradient, conv.scale, add);
        }
        if conv.scale != 1.0 {
            let ([], [gradient]) = self.arena.view([], [program.range(gradient)]);
            gradient.iter_mut().for_each(|g| *g *= conv.scale);
        }
        let (channels, width) = (conv.shape.out_channels, conv.shape.out_width());
        let ([gradient], [to_shift]) =
            self.arena.view([program.range(gradient)], [program.range_of(shift.map(|s| s.buffer))]);
        let mut sums = vec![0.0f64; channels];
        for n in 0..batch {
            sums.fill(0.0);
            conv::sum_pixels(item(gradient, n, batch), width, channels, &mut sums);
            if let Some(bias) = conv.bias {
                params[bias.0].iter_mut().zip(&sums).for_each(|(to, sum)| *to += *sum as f32);
            }
            if let Some(shift) = shift {
                let to = item_mut(to_shift, n, batch);
                to.iter_mut().zip(&sums).for_each(|(to, sum)| {
                    *to = if shift.add { *to + *sum as f32 } else { *sum as f32 };
                });
            }
        }
    }

    /// Carries it to the weights and the source, an item at a time.
    fn conv_inputs(
        &mut self,
        conv: &ConvStep,
        gradient: Buffer,
        to: &SourceGradient,
        scratch: ConvScratch,
        params: &mut ParamGradients,
    ) {
        let (program, batch, isa) = (self.program, self.program.key.batch, self.isa);
        let [a, b] = conv.source.segments.map(|s| program.range_of(s.map(|s| s.buffer)));
        let prologue = program.range_of(conv.source.norm.map(|n| n.prologue));
        for n in 0..batch {
            let reads = [a.clone(), b.clone(), prologue.clone(), program.range(gradient)];
            let writes = [
                program.range(scratch.packed),
                program.range(scratch.weights),
                program.range(scratch.wide),
                program.range_of(scratch.folded),
            ];
            let ([a, b, prologue, gradient], [packed, weights, wide, folded]) =
                self.arena.view(reads, writes);
            let source = conv.source.item(SourceBuffers { segments: [a, b], prologue }, n, batch);
            let gradient = item(gradient, n, batch);
            conv::pack_whole(isa, &conv.shape, &source, packed);
            weights.fill(0.0);
            conv::backward_weights(isa, &conv.shape, packed, gradient, weights);
            conv::add_weight_gradient(weights, self.weights.shape(conv.weight), &mut params[conv.weight.0]);
            conv::backward_input(isa, &conv.shape, gradient, self.weights.transposed(conv.weight), wide);
            if !folded.is_empty() {
                conv::fold_doubled(wide, conv.shape.width, conv.shape.in_channels, folded);
            }
            self.source_item(&conv.source, scratch.folded.unwrap_or(scratch.wide), n, 1, to, params);
        }
    }

    /// Carries the gradient of what item n reads to its images and its norm. `gradient` holds `held` items: all of the
    /// batch, or this one alone. It is used up.
    fn source_item(
        &mut self,
        source: &SourceRef,
        gradient: Buffer,
        n: usize,
        held: usize,
        to: &SourceGradient,
        params: &mut ParamGradients,
    ) {
        let (program, batch) = (self.program, self.program.key.batch);
        let [a, b] = source.segments.map(|s| program.range_of(s.map(|s| s.buffer)));
        let prologue = program.range_of(source.norm.map(|n| n.prologue));
        let [ma, mb] = source.norm.map_or([None; 2], |norm| norm.moments).map(|m| program.range_of(m));
        let [ta, tb] = to.segments.map(|t| program.range_of(t.map(|t| t.buffer)));
        let writes = [program.range(gradient), ta, tb, program.range_of(to.partials)];
        let ([a, b, prologue, ma, mb], [gradient, ta, tb, partials]) =
            self.arena.view([a, b, prologue, ma, mb], writes);
        let at = if held == 1 { 0 } else { n };
        let gradient = item_mut(gradient, at, held);
        let add = to.segments.map(|t| t.is_some_and(|t| t.add));
        let (ta, tb) = (item_mut(ta, n, batch), item_mut(tb, n, batch));
        let from = source.item(SourceBuffers { segments: [a, b], prologue }, n, batch);
        if let (Some(norm), Some(prologue)) = (source.norm, from.prologue) {
            let backward = Backward {
                segments: from.segments,
                moments: [ma, mb].map(|m| item(m, n, batch)),
                norm: norm.weights(self.weights),
                prologue,
                width: source.extent.width,
            };
            let [weight, bias] = pair(params, norm.weight, norm.bias);
            backward.run(self.isa, gradient, partials, [(ta, add[0]), (tb, add[1])], weight, bias);
            return;
        }
        let channels = source.channels();
        let mut offset = 0;
        for ((segment, out), add) in from.segments.iter().zip([ta, tb]).zip(add) {
            if segment.channels == 0 {
                continue;
            }
            for (out, pixel) in out.chunks_exact_mut(segment.channels).zip(gradient.chunks_exact(channels)) {
                let pixel = &pixel[offset..offset + segment.channels];
                if add {
                    out.iter_mut().zip(pixel).for_each(|(o, g)| *o += g);
                } else {
                    out.copy_from_slice(pixel);
                }
            }
            offset += segment.channels;
        }
    }
}
