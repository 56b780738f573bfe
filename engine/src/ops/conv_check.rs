//! Convolutions against plain loops in f64, over random shapes, forward and backward, on every instruction set.

use proptest::prelude::*;

use super::bf16;
use super::conv::{
    backward_input, backward_input_packing, backward_weights, backward_weights_scratch, fold_doubled,
    forward, forward_packing, pack_weights, packing_scratch,
};
use super::conv_shape::{ConvShape, Epilogue, Way};
use super::precision::Precision;
use super::simd::Isa;
use super::source::{Prologue, Segment, Source};

/// Numbers in [-1, 1) that a seed decides.
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mixed = |i: u32| (i ^ seed).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519);
    (0..n as u32).map(|i| (mixed(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// A convolution and all that it reads.
#[derive(Debug)]
struct Example {
    shape: ConvShape,
    /// Channels of the first image; the rest are the second's.
    first: usize,
    silu: Option<bool>,
    images: [Vec<f32>; 2],
    scale: Vec<f32>,
    shift: Vec<f32>,
    weights: Vec<f32>,
    gradient: Vec<f32>,
}

impl Example {
    fn packed(&self, isa: Isa, way: Way) -> Vec<f32> {
        let shape = self.shape.weights();
        let mut packed = vec![0.0; shape.packed_len(way)];
        pack_weights(isa, &self.weights, &shape, way, &mut packed);
        packed
    }

    fn source(&self) -> Source<'_> {
        let segment = |i: usize, channels| Segment { data: &self.images[i], channels };
        let segments = [segment(0, self.first), segment(1, self.shape.in_channels - self.first)];
        let prologue = self.silu.map(|silu| Prologue { scale: &self.scale, shift: &self.shift, silu });
        Source { segments, prologue }
    }

    /// What the window sees at a place of the (doubled) input, in f64; zero outside.
    fn seen(&self, y: isize, x: isize, c: usize) -> f64 {
        let repeat = if self.shape.upsample { 2 } else { 1 };
        let (h, w) = ((self.shape.height * repeat) as isize, (self.shape.width * repeat) as isize);
        if y < 0 || x < 0 || y >= h || x >= w {
            return 0.0;
        }
        let pixel = y as usize / repeat * self.shape.width + x as usize / repeat;
        let second = self.shape.in_channels - self.first;
        let value = if c < self.first {
            self.images[0][pixel * self.first + c]
        } else {
            self.images[1][pixel * second + c - self.first]
        };
        let Some(silu) = self.silu else { return f64::from(value) };
        let z = f64::from(value) * f64::from(self.scale[c]) + f64::from(self.shift[c]);
        if silu { z / (1.0 + (-z).exp()) } else { z }
    }

    /// Calls `each` for every product of the convolution: output pixel and channel, weight, and what it meets.
    fn products(&self, mut each: impl FnMut(usize, usize, (isize, isize, usize))) {
        let ConvShape { in_channels, out_channels, kernel, stride, .. } = self.shape;
        let (height, width) = (self.shape.out_height(), self.shape.out_width());
        let pad = (kernel / 2) as isize;
        for (oy, ox) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            for o in 0..out_channels {
                for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                    for c in 0..in_channels {
                        let (y, x) = ((oy * stride + ky) as isize - pad, (ox * stride + kx) as isize - pad);
                        let weight = ((o * in_channels + c) * kernel + ky) * kernel + kx;
                        each((oy * width + ox) * out_channels + o, weight, (y, x, c));
                    }
                }
            }
        }
    }
}

fn example() -> impl Strategy<Value = Example> {
    let sizes = (1usize..6, 1usize..6, 1usize..40, 1usize..40, 0usize..2);
    (sizes, 0usize..3, any::<u32>(), proptest::option::of(any::<bool>())).prop_flat_map(
        |((height, width, inputs, outputs, kernel), kind, seed, silu)| {
            (0..=inputs / 2).prop_map(move |second| {
                let (stride, upsample) = [(1, false), (2, false), (1, true)][kind];
                let shape = ConvShape {
                    in_channels: inputs,
                    out_channels: outputs,
                    kernel: if kernel == 0 && stride == 1 { 1 } else { 3 },
                    stride,
                    upsample,
                    height: height * stride,
                    width: width * stride,
                    precision: Precision::F32,
                };
                let (first, pixels) = (inputs - second, shape.height * shape.width);
                Example {
                    first,
                    silu,
                    images: [values(pixels * first, seed), values(pixels * second, seed ^ 1)],
                    scale: values(inputs, seed ^ 2),
                    shift: values(inputs, seed ^ 3),
                    weights: values(outputs * inputs * shape.kernel * shape.kernel, seed ^ 4),
                    gradient: values(shape.out_height() * shape.out_width() * outputs, seed ^ 5),
                    shape,
                }
            })
        },
    )
}

fn run_forward(isa: Isa, example: &Example) -> Vec<f32> {
    let packed = example.packed(isa, Way::Forward);
    let mut out = vec![0.0; example.gradient.len()];
    let epilogue = Epilogue { bias: &[], shift: &[], add: &[], scale: 1.0 };
    forward(isa, &example.shape, |_| example.source(), &packed, |_| epilogue, &mut out);
    out
}

/// As a training step does it: the weights packed where they are used.
fn run_packing(isa: Isa, example: &Example) -> Vec<f32> {
    let mut scratch = vec![f32::NAN; packing_scratch(&example.shape, 1, Way::Forward)];
    let mut out = vec![0.0; example.gradient.len()];
    let epilogue = Epilogue { bias: &[], shift: &[], add: &[], scale: 1.0 };
    let (shape, weights) = (&example.shape, &example.weights);
    forward_packing(isa, shape, |_| example.source(), weights, &mut scratch, |_| epilogue, &mut out);
    out
}

fn close(found: &[f32], expected: &[f64], most: f64) -> Result<(), TestCaseError> {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        prop_assert!(error < most, "value {i}: {found} where {expected} belongs");
    }
    Ok(())
}

/// Chains of so many terms of order one, each rounded once.
fn near(found: &[f32], expected: &[f64], terms: usize) -> Result<(), TestCaseError> {
    close(found, expected, 1e-6 * (4.0 + terms as f64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 96 }))]

    #[test]
    fn a_convolution_is_its_plain_loop(example in example()) {
        let mut expected = vec![0.0; example.gradient.len()];
        example.products(|out, weight, (y, x, c)| {
            expected[out] += f64::from(example.weights[weight]) * example.seen(y, x, c);
        });
        let first = run_forward(Isa::Portable, &example);
        near(&first, &expected, example.shape.kernel.pow(2) * example.shape.in_channels)?;
        for isa in Isa::available() {
            prop_assert!(run_forward(isa, &example) == first, "{} differs in a bit", isa);
            prop_assert!(run_packing(isa, &example) == first, "{}: packing once differs in a bit", isa);
        }
    }

    #[test]
    fn in_bf16_weights_packed_once_give_the_same_bits(mut example in example()) {
        example.shape.precision = Precision::Bf16;
        for isa in Isa::available() {
            prop_assert!(run_packing(isa, &example) == run_forward(isa, &example), "{}", isa);
        }
    }

    #[test]
    fn in_bf16_it_is_the_plain_loop_of_rounded_numbers(mut example in example()) {
        example.shape.precision = Precision::Bf16;
        let channels = example.shape.in_channels;
        // Winograd rounds its transformed numbers, others the numbers themselves, which is known to the last bit but one.
        let winograd = super::winograd::applies(channels, example.shape.kernel, example.shape.stride);
        let rounded = |value: f32| if winograd { value } else { f32::from_bits(bf16::round(value) << 16) };
        let mut expected = vec![0.0; example.gradient.len()];
        example.products(|out, weight, (y, x, c)| {
            let seen = rounded(example.seen(y, x, c) as f32);
            expected[out] += f64::from(rounded(example.weights[weight])) * f64::from(seen);
        });
        // An error of a hundredth of what sums of so many terms of order one come to, six times.
        let most = if winograd { 0.06 * (9.0 * channels as f64).sqrt() } else { 1e-2 };
        let first = run_forward(Isa::Portable, &example);
        close(&first, &expected, most)?;
        for isa in Isa::available() {
            let found = run_forward(isa, &example);
            near(&found, &first.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), 9 * channels)?;
        }
    }

    #[test]
    fn its_gradients_are_those_of_the_plain_loop(mut example in example(), bf16: bool) {
        if bf16 {
            example.shape.precision = Precision::Bf16;
        }
        let shape = example.shape;
        let repeat = if shape.upsample { 2 } else { 1 };
        let (wide, channels) = (shape.width * repeat, shape.in_channels);
        let mut of_input = vec![0.0; shape.height * repeat * wide * channels];
        let mut of_weights = vec![0.0; example.weights.len()];
        example.products(|out, weight, (y, x, c)| {
            let gradient = f64::from(example.gradient[out]);
            of_weights[weight] += gradient * example.seen(y, x, c);
            if y >= 0 && x >= 0 && (x as usize) < wide && (y as usize) < shape.height * repeat {
                of_input[(y as usize * wide + x as usize) * channels + c] += gradient * f64::from(example.weights[weight]);
            }
        });
        // In bf16 an error of a hundredth of what sums of so many terms of order one come to, six times.
        let near = |found: &[f32], expected: &[f64], terms: usize| {
            let most = 1e-6 * (4.0 + terms as f64) + if bf16 { 0.06 * (terms as f64).sqrt() } else { 0.0 };
            close(found, expected, most)
        };
        for isa in Isa::available() {
            let transposed = example.packed(isa, Way::Back);
            let mut found = vec![0.0; of_input.len()];
            backward_input(isa, &shape, &example.gradient, &transposed, &mut found);
            near(&found, &of_input, shape.kernel.pow(2) * shape.out_channels)?;
            let mut scratch = vec![f32::NAN; packing_scratch(&shape, 1, Way::Back)];
            let mut again = vec![0.0; of_input.len()];
            backward_input_packing(isa, &shape, &example.gradient, &example.weights, &mut scratch, &mut again);
            prop_assert!(again == found, "{}: packing once differs in a bit", isa);
            if shape.upsample {
                let mut folded = vec![0.0; found.len() / 4];
                fold_doubled(&found, shape.width, channels, &mut folded);
                let total: f64 = found.iter().map(|v| f64::from(*v)).sum();
                prop_assert!((folded.iter().map(|v| f64::from(*v)).sum::<f64>() - total).abs() < 1e-3);
            }
            let mut scratch = vec![f32::NAN; backward_weights_scratch(&shape, 1)];
            let mut found = vec![0.0; example.weights.len()];
            backward_weights(isa, &shape, |_| example.source(), &example.gradient, &mut scratch, &mut found);
            near(&found, &of_weights, shape.out_height() * shape.out_width())?;
        }
    }

    #[test]
    fn a_value_that_is_no_number_reaches_everything_that_sees_it(
        mut example in example(), infinite: bool, bf16: bool,
    ) {
        if bf16 {
            example.shape.precision = Precision::Bf16;
        }
        let value = if infinite { f32::INFINITY } else { f32::NAN };
        example.images[0][0] = value;
        let found = run_forward(Isa::detect(), &example);
        let mut reached = vec![false; found.len()];
        let repeat = if example.shape.upsample { 2 } else { 1 };
        example.products(|out, _, (y, x, c)| {
            reached[out] |= c == 0 && y >= 0 && x >= 0 && (y as usize) < repeat && (x as usize) < repeat;
        });
        // SiLU of minus infinity is zero times infinity, and a scale may turn the sign: never a plain number.
        for (found, reached) in found.iter().zip(reached) {
            prop_assert!(!reached || !found.is_finite());
        }
    }
}

/// A layer of more input channels than are packed at once, its tiles in several images.
#[test]
fn packing_a_few_channels_at_a_time_changes_no_bit() {
    const BATCH: usize = 3;
    let layers = [(300, 40, false), (531, 17, true)];
    for ((inputs, outputs, upsample), precision) in
        layers.into_iter().flat_map(|layer| [(layer, Precision::F32), (layer, Precision::Bf16)])
    {
        let shape = ConvShape {
            in_channels: inputs,
            out_channels: outputs,
            kernel: 3,
            stride: 1,
            upsample,
            height: 9,
            width: 6,
            precision,
        };
        let image = values(BATCH * 54 * inputs, 1);
        let source = |n: usize| Source::plain(&image[n * 54 * inputs..(n + 1) * 54 * inputs], inputs);
        let weights = values(outputs * inputs * 9, 2);
        let epilogue = |_| Epilogue { bias: &[], shift: &[], add: &[], scale: 1.0 };
        let length = BATCH * shape.out_height() * shape.out_width() * outputs;
        let mut packed = vec![0.0; shape.weights().packed_len(Way::Forward)];
        for isa in Isa::available() {
            let mut expected = vec![0.0; length];
            pack_weights(isa, &weights, &shape.weights(), Way::Forward, &mut packed);
            forward(isa, &shape, source, &packed, epilogue, &mut expected);
            let mut scratch = vec![f32::NAN; packing_scratch(&shape, BATCH, Way::Forward)];
            assert!(scratch.len() < packed.len(), "few tiles");
            let mut found = vec![0.0; length];
            forward_packing(isa, &shape, source, &weights, &mut scratch, epilogue, &mut found);
            assert!(found == expected, "{isa}, {shape:?}");
        }
    }
}

/// Images large enough that the sums over their pixels are cut into chains, on several numbers of threads.
#[test]
fn gradients_of_weights_are_the_plain_sums_for_any_number_of_threads() {
    const BATCH: usize = 3;
    const F32: Precision = Precision::F32;
    for (kernel, stride, upsample, inputs, outputs, precision) in [
        (3, 1, false, 20, 17, F32),
        (3, 1, true, 16, 5, F32),
        (3, 2, false, 9, 18, F32),
        (1, 1, false, 21, 19, F32),
        (3, 1, false, 6, 8, F32),
        (3, 1, false, 20, 17, Precision::Bf16),
    ] {
        let shape = ConvShape {
            in_channels: inputs,
            out_channels: outputs,
            kernel,
            stride,
            upsample,
            height: if upsample { 22 } else { 46 },
            width: if upsample { 20 } else { 44 },
            precision,
        };
        let (pixels, out_pixels) = (shape.height * shape.width, shape.out_height() * shape.out_width());
        let examples: Vec<_> = (0..BATCH as u32)
            .map(|seed| Example {
                first: inputs - 2,
                silu: (kernel == 3).then_some(true),
                images: [values(pixels * (inputs - 2), seed), values(pixels * 2, seed ^ 64)],
                scale: values(inputs, 7),
                shift: values(inputs, 8),
                weights: vec![0.0; outputs * inputs * kernel * kernel],
                gradient: values(out_pixels * outputs, seed ^ 128),
                shape,
            })
            .collect();
        let mut expected = vec![0.0; examples[0].weights.len()];
        for example in &examples {
            example.products(|out, weight, (y, x, c)| {
                expected[weight] += f64::from(example.gradient[out]) * example.seen(y, x, c);
            });
        }
        let gradient: Vec<f32> = examples.iter().flat_map(|e| e.gradient.iter().copied()).collect();
        let mut first: Option<Vec<f32>> = None;
        // In bf16 only machines of one kind have the same bits.
        let sets: Vec<_> = if precision == F32 { Isa::available() } else { vec![Isa::detect()] };
        for (threads, isa) in [1, 2, 7].into_iter().zip(sets.into_iter().rev().cycle()) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.unwrap_or_else(|e| panic!("{e}"));
            let mut scratch = vec![f32::NAN; backward_weights_scratch(&shape, BATCH)];
            let mut found = vec![0.0; expected.len()];
            pool.install(|| {
                backward_weights(isa, &shape, |n| examples[n].source(), &gradient, &mut scratch, &mut found);
            });
            let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs() / largest;
                let most = if precision == F32 { 1e-5 } else { 3e-2 };
                assert!(error < most, "{shape:?}: {found} where {expected} belongs");
            }
            assert!(
                *first.get_or_insert_with(|| found.clone()) == found,
                "{shape:?}, {threads} threads, {isa}"
            );
        }
    }
}
