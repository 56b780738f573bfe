//! The backward pass of a plan: for each forward step, last first, the step that carries gradients back.

use super::step::{Buffer, ConvStep, Extent, GradientTo, SourceGradient, SourceRef, Step};
use crate::ops::conv_shape::Way;
use crate::ops::{attention, conv, group_norm};

/// Appends the backward pass; yields the gradients of the buffers asked for (the first is where it starts from).
pub(super) fn append(
    steps: &mut Vec<Step>,
    lengths: &mut Vec<usize>,
    [prediction, input, noise_level]: [Buffer; 3],
    batch: usize,
) -> [Buffer; 3] {
    let forward = steps.clone();
    let gradients = vec![None; lengths.len()];
    let mut backward = Backward { lengths, gradients, steps, batch };
    let cotangent = backward.to(prediction).buffer;
    for step in forward.iter().rev() {
        backward.step(step);
    }
    [cotangent, backward.to(input).buffer, backward.to(noise_level).buffer]
}

struct Backward<'a> {
    lengths: &'a mut Vec<usize>,
    /// The gradient buffer of each forward buffer that has got one.
    gradients: Vec<Option<Buffer>>,
    steps: &'a mut Vec<Step>,
    batch: usize,
}

impl Backward<'_> {
    fn step(&mut self, step: &Step) {
        let backward = match *step {
            // Statistics are functions of the image that the norm's backward goes back to directly.
            Step::Moments { .. } | Step::Prologue { .. } => return,
            Step::Encoding { level, waves, out, length } => self.of(out).map(|gradient| {
                Step::EncodingBackward { level, waves, gradient, length, to: self.to(level) }
            }),
            Step::Embedding { label, weight, out } => {
                self.of(out).map(|gradient| Step::EmbeddingBackward { label, weight, gradient })
            }
            Step::Linear { x, weight, bias, out } => self.of(out).map(|gradient| Step::LinearBackward {
                x,
                weight,
                bias,
                gradient,
                to: self.to(x),
            }),
            Step::Silu { x, out } => {
                self.of(out).map(|gradient| Step::SiluBackward { x, gradient, to: self.to(x) })
            }
            Step::Conv(conv) => self.of(conv.out).map(|gradient| self.conv(conv, gradient)),
            Step::Gather { source, out } => self.of(out).map(|gradient| Step::GatherBackward {
                source,
                gradient,
                to: self.source(&source),
            }),
            Step::Modulate { image, vector, out } => self.of(out).map(|gradient| {
                let (to, to_vector) = (self.to(image.buffer), self.to(vector));
                Step::ModulateBackward { image, vector, gradient, to, to_vector }
            }),
            Step::Add { a, b, scale, out } => self.of(out).map(|gradient| Step::AddBackward {
                gradient,
                scale,
                to: [self.to(a), self.to(b)],
            }),
            Step::Attention { qkv, channels, heads, pixels, out, .. } => {
                self.of(out).map(|gradient| self.attention(qkv, [channels, heads, pixels], gradient))
            }
            Step::Dropout { x, layer, rate, out } => {
                self.of(out).map(|gradient| Step::DropoutBackward { gradient, layer, rate, to: self.to(x) })
            }
            Step::AvgPool { image, extent, out } => self.of(out).map(|gradient| Step::AvgPoolBackward {
                image,
                extent,
                gradient,
                to: self.to(image.buffer),
            }),
            Step::Upsample { image, extent, out } => self.of(out).map(|gradient| Step::UpsampleBackward {
                image,
                extent,
                gradient,
                to: self.to(image.buffer),
            }),
            _ => unreachable!("the forward pass holds forward steps"),
        };
        self.steps.extend(backward);
    }

    fn conv(&mut self, conv: ConvStep, gradient: Buffer) -> Step {
        // The sum's other image first: it takes the gradient as it came.
        let add = conv.add.map(|image| self.to(image));
        let shift = conv.shift.map(|vector| self.to(vector));
        let shape = conv.shape;
        let fine = self.batch * shape.height * shape.width * shape.in_channels;
        let wide_len = if shape.upsample { 4 * fine } else { fine };
        let scratch = self.allocate(conv::backward_weights_scratch(&shape, self.batch));
        let packing = self.allocate(conv::packing_scratch(&shape, self.batch, Way::Back));
        let wide = self.allocate(wide_len);
        let folded = shape.upsample.then(|| self.allocate(fine));
        let source = self.source(&conv.source);
        Step::ConvBackward { conv, gradient, source, shift, add, scratch, packing, wide, folded }
    }

    fn attention(&mut self, qkv: Buffer, [channels, heads, pixels]: [usize; 3], gradient: Buffer) -> Step {
        let transposed = [(); 4].map(|()| self.allocate(attention::transposed_len(pixels, channels)));
        let rows = self.allocate(3 * pixels);
        let item = self.allocate(3 * channels * pixels);
        let to = self.to(qkv);
        Step::AttentionBackward { qkv, channels, heads, pixels, gradient, transposed, rows, item, to }
    }

    fn source(&mut self, source: &SourceRef) -> SourceGradient {
        let Extent { height, width } = source.extent;
        let partials_len = self.batch * group_norm::partials_len(height, width, source.channels());
        let partials = source.norm.map(|_| self.allocate(partials_len));
        let modulation = source.norm.and_then(|norm| norm.modulation).map(|vector| self.to(vector));
        let segments = source.segments.map(|s| s.map(|s| self.to(s.buffer)));
        SourceGradient { segments, modulation, partials }
    }

    /// The gradient of a forward buffer, if anything reads that buffer.
    fn of(&self, buffer: Buffer) -> Option<Buffer> {
        self.gradients[buffer]
    }

    /// Where the gradient of a forward buffer goes: a new buffer at first, added to later.
    fn to(&mut self, buffer: Buffer) -> GradientTo {
        if let Some(gradient) = self.gradients[buffer] {
            return GradientTo { buffer: gradient, add: true };
        }
        let gradient = self.allocate(self.lengths[buffer]);
        self.gradients[buffer] = Some(gradient);
        GradientTo { buffer: gradient, add: false }
    }

    fn allocate(&mut self, length: usize) -> Buffer {
        self.lengths.push(length);
        self.lengths.len() - 1
    }
}
