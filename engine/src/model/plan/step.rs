//! The steps of a plan: what is computed from which buffers.

use crate::model::graph::ParamId;
use crate::ops::conv_shape::ConvShape;
use crate::ops::pointwise::Waves;

/// Index of a buffer of a plan.
pub(super) type Buffer = usize;

/// A buffer that a gradient goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct GradientTo {
    pub(super) buffer: Buffer,
    /// Whether something is there already, to be added to.
    pub(super) add: bool,
}

/// Height and width, of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Extent {
    pub(super) const fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// An image that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentRef {
    pub(super) buffer: Buffer,
    pub(super) channels: usize,
}

/// A group norm that is applied while reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormRef {
    pub(super) weight: ParamId,
    pub(super) bias: ParamId,
    pub(super) groups: usize,
    pub(super) silu: bool,
    /// (N, 2, C): a scale, to which 1 is added, and a shift, both after the norm's own.
    pub(super) modulation: Option<Buffer>,
    /// (N, C, 2) of each segment.
    pub(super) moments: [Option<Buffer>; 2],
    /// (N, 2, C): scale and shift.
    pub(super) prologue: Buffer,
}

/// What a convolution reads: one image, or two side by side, normalised or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceRef {
    pub(super) segments: [Option<SegmentRef>; 2],
    pub(super) norm: Option<NormRef>,
    pub(super) extent: Extent,
}

impl SourceRef {
    pub(super) fn channels(&self) -> usize {
        self.segments.iter().flatten().map(|s| s.channels).sum()
    }

    fn buffers(&self) -> impl Iterator<Item = Buffer> {
        let norm = self
            .norm
            .iter()
            .flat_map(|n| n.moments.iter().flatten().copied().chain(n.modulation).chain([n.prologue]));
        self.segments.iter().flatten().map(|s| s.buffer).chain(norm)
    }
}

/// A convolution with all that happens before and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvStep {
    pub(super) shape: ConvShape,
    pub(super) weight: ParamId,
    pub(super) bias: Option<ParamId>,
    /// Where the weights are packed here: working memory for it.
    pub(super) packing: Option<Buffer>,
    pub(super) source: SourceRef,
    /// (N, C), added at every pixel.
    pub(super) shift: Option<Buffer>,
    /// An image of the output's shape, added before `scale`.
    pub(super) add: Option<Buffer>,
    pub(super) scale: f32,
    pub(super) out: Buffer,
}

/// Buffers that the backward pass of a source needs: where its gradient goes, and working memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceGradient {
    pub(super) segments: [Option<GradientTo>; 2],
    pub(super) modulation: Option<GradientTo>,
    pub(super) partials: Option<Buffer>,
}

/// One operation, over all items of the batch.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Encoding {
        level: Buffer,
        waves: Waves,
        out: Buffer,
        length: usize,
    },
    /// The row of the weight that a label names.
    Embedding {
        label: Buffer,
        weight: ParamId,
        out: Buffer,
    },
    Linear {
        x: Buffer,
        weight: ParamId,
        bias: ParamId,
        out: Buffer,
    },
    Silu {
        x: Buffer,
        out: Buffer,
    },
    Moments {
        image: SegmentRef,
        extent: Extent,
        partials: Buffer,
        out: Buffer,
    },
    Prologue {
        norm: NormRef,
        out: Buffer,
    },
    Conv(ConvStep),
    /// A source written out as an image of its own.
    Gather {
        source: SourceRef,
        out: Buffer,
    },
    /// (1 + scale) · image + shift, or image + shift where the vector is no longer than the channels.
    Modulate {
        image: SegmentRef,
        vector: Buffer,
        out: Buffer,
    },
    Add {
        a: Buffer,
        b: Buffer,
        scale: f32,
        out: Buffer,
    },
    Attention {
        qkv: Buffer,
        channels: usize,
        heads: usize,
        pixels: usize,
        transposed: Buffer,
        out: Buffer,
    },
    AvgPool {
        image: SegmentRef,
        extent: Extent,
        out: Buffer,
    },
    Upsample {
        image: SegmentRef,
        extent: Extent,
        out: Buffer,
    },
    Dropout {
        x: Buffer,
        layer: u32,
        rate: f32,
        out: Buffer,
    },

    EncodingBackward {
        level: Buffer,
        waves: Waves,
        gradient: Buffer,
        length: usize,
        to: GradientTo,
    },
    EmbeddingBackward {
        label: Buffer,
        weight: ParamId,
        gradient: Buffer,
    },
    LinearBackward {
        x: Buffer,
        weight: ParamId,
        bias: ParamId,
        gradient: Buffer,
        to: GradientTo,
    },
    SiluBackward {
        x: Buffer,
        gradient: Buffer,
        to: GradientTo,
    },
    ConvBackward {
        conv: ConvStep,
        /// Of the output; used up.
        gradient: Buffer,
        source: SourceGradient,
        shift: Option<GradientTo>,
        add: Option<GradientTo>,
        /// Working memory for the weights' gradient.
        scratch: Buffer,
        /// Working memory for packing the weights for the way back.
        packing: Buffer,
        /// The gradient of what the window sees, at its size.
        wide: Buffer,
        /// The same at the source's size, where the source is doubled.
        folded: Option<Buffer>,
    },
    GatherBackward {
        source: SourceRef,
        gradient: Buffer,
        to: SourceGradient,
    },
    ModulateBackward {
        image: SegmentRef,
        vector: Buffer,
        gradient: Buffer,
        to: GradientTo,
        to_vector: GradientTo,
    },
    AddBackward {
        gradient: Buffer,
        scale: f32,
        to: [GradientTo; 2],
    },
    AttentionBackward {
        qkv: Buffer,
        channels: usize,
        heads: usize,
        pixels: usize,
        gradient: Buffer,
        transposed: [Buffer; 4],
        rows: Buffer,
        /// One item's gradient.
        item: Buffer,
        to: GradientTo,
    },
    AvgPoolBackward {
        image: SegmentRef,
        extent: Extent,
        gradient: Buffer,
        to: GradientTo,
    },
    UpsampleBackward {
        image: SegmentRef,
        extent: Extent,
        gradient: Buffer,
        to: GradientTo,
    },
    DropoutBackward {
        gradient: Buffer,
        layer: u32,
        rate: f32,
        to: GradientTo,
    },
}

impl Step {
    /// Every buffer that must be alive during the step.
    pub(super) fn buffers(&self) -> Vec<Buffer> {
        let sources = |source: &SourceRef| source.buffers().collect::<Vec<_>>();
        let gradients = |g: &SourceGradient| {
            let written = g.segments.iter().chain([&g.modulation]).flatten().map(|g| g.buffer);
            written.chain(g.partials).collect::<Vec<_>>()
        };
        match self {
            Self::Encoding { level: read, out, .. } | Self::Embedding { label: read, out, .. } => {
                vec![*read, *out]
            }
            Self::Linear { x, out, .. } | Self::Silu { x, out } | Self::Dropout { x, out, .. } => {
                vec![*x, *out]
            }
            Self::Moments { image, partials, out, .. } => vec![image.buffer, *partials, *out],
            Self::Prologue { norm, out } => {
                norm.moments.iter().flatten().copied().chain(norm.modulation).chain([*out]).collect()
            }
            Self::Conv(conv) => [sources(&conv.source), vec![conv.out]]
                .concat()
                .into_iter()
                .chain(conv.shift)
                .chain(conv.add)
                .chain(conv.packing)
                .collect(),
            Self::Gather { source, out } => [sources(source), vec![*out]].concat(),
            Self::Modulate { image, vector, out, .. } => vec![image.buffer, *vector, *out],
            Self::Add { a, b, out, .. } => vec![*a, *b, *out],
            Self::Attention { qkv, transposed, out, .. } => vec![*qkv, *transposed, *out],
            Self::AvgPool { image, out, .. } | Self::Upsample { image, out, .. } => vec![image.buffer, *out],

            Self::EncodingBackward { level, gradient, to, .. } => vec![*level, *gradient, to.buffer],
            Self::EmbeddingBackward { label, gradient, .. } => vec![*label, *gradient],
            Self::LinearBackward { x, gradient, to, .. } | Self::SiluBackward { x, gradient, to } => {
                vec![*x, *gradient, to.buffer]
            }
            Self::ConvBackward { conv, gradient, source, shift, add, scratch, packing, wide, folded } => {
                [sources(&conv.source), gradients(source), vec![*gradient, *scratch, *packing, *wide]]
                    .concat()
                    .into_iter()
                    .chain(shift.iter().chain(add).map(|g| g.buffer))
                    .chain(*folded)
                    .collect()
            }
            Self::GatherBackward { source, gradient, to } => {
                [sources(source), gradients(to), vec![*gradient]].concat()
            }
            Self::ModulateBackward { image, vector, gradient, to, to_vector, .. } => {
                vec![image.buffer, *vector, *gradient, to.buffer, to_vector.buffer]
            }
            Self::AddBackward { gradient, to, .. } => vec![*gradient, to[0].buffer, to[1].buffer],
            Self::AttentionBackward { qkv, gradient, transposed, rows, item, to, .. } => {
                [&[*qkv, *gradient, *rows, *item, to.buffer][..], transposed].concat()
            }
            Self::AvgPoolBackward { gradient, to, .. }
            | Self::UpsampleBackward { gradient, to, .. }
            | Self::DropoutBackward { gradient, to, .. } => {
                vec![*gradient, to.buffer]
            }
        }
    }
}
