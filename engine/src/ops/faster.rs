//! Which precision is the faster one here: the one question that is answered by a clock.

use std::time::{Duration, Instant};

use super::conv2d::Conv2d;
use super::precision::Precision;
use super::simd::Isa;

impl Precision {
    /// The faster one on this machine, found by timing a layer both ways where there are instructions for bf16; f32
    /// where there are none. An answer for this machine and moment: results that must not depend on it name one.
    #[must_use]
    pub fn faster(isa: Isa) -> Self {
        if !Self::is_native(isa) {
            return Self::F32;
        }
        // By a tenth at least: a choice that changes results should be worth it.
        if time_of_a_layer(isa, Self::Bf16) * 11 / 10 < time_of_a_layer(isa, Self::F32) {
            Self::Bf16
        } else {
            Self::F32
        }
    }
}

/// The shortest of some runs of a 3×3 convolution of 64 channels, as networks have most of.
fn time_of_a_layer(isa: Isa, precision: Precision) -> Duration {
    const CHANNELS: usize = 64;
    const SIDE: usize = 64;
    const RUNS: usize = 5;
    let weights = vec![0.01; CHANNELS * CHANNELS * 9];
    let layer = Conv2d::new(isa, precision, &weights, [CHANNELS, CHANNELS, 3], &[0.0; CHANNELS]);
    let input = vec![0.5; SIDE * SIDE * CHANNELS];
    let mut output = vec![0.0; input.len()];
    let runs = (0..RUNS).map(|_| {
        let begun = Instant::now();
        layer.forward([SIDE, SIDE], &input, &mut output);
        begun.elapsed()
    });
    runs.min().unwrap_or_default()
}
