//! What this machine could do at best: the ceiling that kernels are measured against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// How long one measurement runs.
const TIME: Duration = Duration::from_millis(300);

/// Fused multiply-adds of one thread in registers: GFLOP/s, two operations each.
#[must_use]
pub fn fma(isa: Isa) -> f64 {
    rate(|| dispatch(isa, FmaLoop)) / 1e9
}

/// bf16 dot products of one thread in registers: GFLOP/s, four operations a lane of 32 bits; None where the processor
/// has no instruction for them.
#[must_use]
pub fn bf16_dot() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
        // SAFETY: just checked.
        return Some(rate(|| unsafe { bf16_loop() }) / 1e9);
    }
    None
}

/// Reading memory that no cache holds, one thread: GB/s.
#[must_use]
pub fn bandwidth(isa: Isa) -> f64 {
    let memory = vec![1.0f32; 16 << 20];
    rate(|| {
        dispatch(isa, ReadAll(&memory));
        4.0 * memory.len() as f64
    }) / 1e9
}

/// Units a second of work that says how many units it did.
fn rate(mut work: impl FnMut() -> f64) -> f64 {
    work();
    let (begun, mut done) = (Instant::now(), 0.0);
    while begun.elapsed() < TIME {
        done += work();
    }
    done / begun.elapsed().as_secs_f64()
}

const ROUNDS: usize = 1 << 16;

struct FmaLoop;

impl Kernel for FmaLoop {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        // As many chains as hide the latency, and no more than there are registers.
        // SAFETY: passed on.
        unsafe { if S::WIDE { fma_chains::<S, 12>() } else { fma_chains::<S, 6>() } }
    }
}

/// # Safety
/// Instructions as [`Simd`] asks.
#[inline(always)]
unsafe fn fma_chains<S: Simd, const N: usize>() -> f64 {
    // SAFETY: the caller's promise; `out` has LANES values.
    unsafe {
        let (a, b) = (S::splat(black_box(0.999)), S::splat(black_box(1e-3)));
        let mut sums = [S::splat(0.0); N];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = S::fma(*sum, a, b);
            }
        }
        let mut out = [0.0f32; LANES];
        for sum in sums {
            S::store(out.as_mut_ptr(), sum);
            black_box(&out);
        }
    }
    (2 * LANES * N * ROUNDS) as f64
}

struct ReadAll<'a>(&'a [f32]);

impl Kernel for ReadAll<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: chunks of four vectors; `out` has LANES values.
        unsafe {
            let mut sums = [S::splat(0.0); 4];
            for chunk in self.0.chunks_exact(4 * LANES) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = S::add(*sum, S::load(chunk.as_ptr().add(i * LANES)));
                }
            }
            let mut out = [0.0f32; LANES];
            for sum in sums {
                S::store(out.as_mut_ptr(), sum);
                black_box(&out);
            }
        }
    }
}

/// # Safety
/// The machine must have AVX-512 F and BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_loop() -> f64 {
    use std::arch::x86_64::{_mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_set1_ps, _mm512_storeu_ps};
    const CHAINS: usize = 12;
    let ones = _mm512_set1_ps(black_box(1e-3));
    let pair = _mm512_cvtne2ps_pbh(ones, ones);
    let mut sums = [_mm512_set1_ps(0.0); CHAINS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, pair, pair);
        }
    }
    let mut out = [0.0f32; LANES];
    for sum in sums {
        // SAFETY: `out` has sixteen values.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
        black_box(&out);
    }
    (4 * LANES * CHAINS * ROUNDS) as f64
}
