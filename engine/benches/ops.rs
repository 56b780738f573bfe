//! Kernels one by one, in operations a second (of the direct sum: Winograd does with fewer).
//!
//! ```text
//! cargo bench --profile release --workspace --bench ops
//! SR3_THREADS=1 cargo bench --profile release --workspace --bench ops -- forward
//! ```

use divan::Bencher;
use divan::counter::ItemsCount;
use sr3_engine::ops::{Conv2d, Isa, Precision};
use sr3_engine::train::{Adam, AdamConfig, norm};

fn main() {
    let threads = std::env::var("SR3_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    // The pool is the process's own and made once, so this cannot fail.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    println!("{}, {} threads", Isa::detect(), rayon::current_num_threads());
    divan::main();
}

/// Input channels, output channels, window, side, images.
type Case = (usize, usize, usize, usize, usize);

/// Layers of small-64.
const CASES: [Case; 6] = [
    (32, 32, 3, 64, 8),
    (96, 32, 3, 64, 8),
    (64, 64, 3, 32, 8),
    (128, 128, 3, 16, 8),
    (256, 128, 3, 8, 8),
    (96, 32, 1, 64, 8),
];

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 31 % 1009) as f32 / 504.0 - 1.0).collect()
}

struct Layer {
    conv: Conv2d,
    size: [usize; 2],
    input: Vec<f32>,
    output: Vec<f32>,
    weights: Vec<f32>,
}

impl Layer {
    fn new((i, o, k, side, n): Case) -> (Self, ItemsCount) {
        let weights = values(o * i * k * k);
        let conv = Conv2d::new(Isa::detect(), Precision::F32, &weights, [o, i, k], &vec![0.0; o]);
        let (input, output) = (values(n * side * side * i), values(n * side * side * o));
        let operations = 2 * n * side * side * i * o * k * k;
        (Self { conv, size: [side, side], input, output, weights }, ItemsCount::new(operations))
    }
}

#[divan::bench(args = CASES)]
fn conv_forward(bencher: Bencher<'_, '_>, case: Case) {
    let (mut layer, operations) = Layer::new(case);
    bencher
        .counter(operations)
        .bench_local(|| layer.conv.forward(layer.size, &layer.input, &mut layer.output));
}

#[divan::bench(args = CASES)]
fn conv_backward_input(bencher: Bencher<'_, '_>, case: Case) {
    let (mut layer, operations) = Layer::new(case);
    bencher
        .counter(operations)
        .bench_local(|| layer.conv.backward_input(layer.size, &layer.output, &mut layer.input));
}

#[divan::bench(args = CASES)]
fn conv_backward_weights(bencher: Bencher<'_, '_>, case: Case) {
    let (mut layer, operations) = Layer::new(case);
    let mut scratch = Vec::new();
    bencher.counter(operations).bench_local(|| {
        let Layer { conv, size, input, output, weights } = &mut layer;
        conv.backward_weights(*size, input, output, &mut scratch, weights);
    });
}

/// Parameters of small-64.
#[divan::bench]
fn adam(bencher: Bencher<'_, '_>) {
    const PARAMETERS: usize = 6_131_139;
    let (mut parameters, gradient) = (values(PARAMETERS), values(PARAMETERS));
    let config = AdamConfig { gradient_norm_max: Some(1.0), half_lives: vec![1e5], ..AdamConfig::default() };
    let mut adam = Adam::new(config, &parameters, Isa::detect());
    bencher
        .counter(ItemsCount::new(PARAMETERS))
        .bench_local(|| adam.step(&mut parameters, &gradient, norm(Isa::detect(), &gradient), 1e-4, 8));
}
