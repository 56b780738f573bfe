//! What convolutions multiply: f32, or numbers rounded to bf16.

use std::fmt;

use super::bf16;
use super::simd::Isa;

/// What a network's convolutions multiply. Sums, norms, attention and what is kept between layers are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The same bits on every machine.
    #[default]
    F32,
    /// Inputs and weights (Winograd's: once transformed) rounded to 8 bits of mantissa, in layers of
    /// [`Precision::BF16_CHANNELS_MIN`] input channels or more; where Winograd applies, for the gradients too. The same
    /// bits on machines of one kind. Without instructions for it, it is computed with those of f32: slower, and as near.
    Bf16,
}

impl Precision {
    /// Layers of fewer input channels stay f32: they read images, whose colours bf16 would round to half a step of
    /// eight bits, and cost next to nothing.
    pub const BF16_CHANNELS_MIN: usize = 16;

    /// Whether `isa` has instructions for bf16.
    #[must_use]
    pub fn is_native(isa: Isa) -> bool {
        isa == Isa::Avx512Bf16
    }

    /// What a pixel of so many channels has of what is multiplied: numbers, or pairs of them.
    pub(crate) const fn elements(self, channels: usize) -> usize {
        match self {
            Self::F32 => channels,
            Self::Bf16 => bf16::words(channels),
        }
    }

    /// What a layer of so many input channels multiplies.
    pub(crate) fn of_layer(self, in_channels: usize) -> Self {
        if in_channels < Self::BF16_CHANNELS_MIN { Self::F32 } else { self }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
