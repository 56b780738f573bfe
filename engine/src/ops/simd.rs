//! Vectors of sixteen `f32` on every instruction set, and the choice between them.
//!
//! Kernels are written once, over [`Simd`] (in `lanes`), and compiled for AVX-512, for AVX2 with FMA, and for any other machine. The
//! three give the same bits: each operation below is the IEEE one on every lane, a fused multiply-add is one rounding
//! everywhere, and no approximate instruction is used. The instruction set is chosen from what the processor reports,
//! never from what it was compiled on.

mod lanes;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

pub(crate) use lanes::{Kernel, LANES, Simd};
pub(crate) use portable::Portable;

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust. Slow where the machine has no fused multiply-add, and right.
    Portable,
    /// AVX2 with FMA: two registers of eight lanes.
    Avx2,
    /// AVX-512 F: one register of sixteen lanes.
    Avx512,
    /// AVX-512 F, and instructions for products of bf16; in f32 all is as with [`Isa::Avx512`].
    Avx512Bf16,
}

impl Isa {
    /// The best that this machine has.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().last().copied().unwrap_or(Self::Portable)
    }

    /// All that this machine has, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut available = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                available.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f") {
                    available.push(Self::Avx512);
                    if is_x86_feature_detected!("avx512bf16") {
                        available.push(Self::Avx512Bf16);
                    }
                }
            }
        }
        available
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
        })
    }
}

/// Runs a kernel with the instructions of `isa`.
///
/// # Panics
/// If the machine lacks them: `Isa` values come from [`Isa::available`].
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        // SAFETY: plain Rust runs everywhere.
        Isa::Portable => unsafe { kernel.run::<Portable>() },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
            // SAFETY: just checked (the check is a cached load).
            unsafe { x86::run_avx2(kernel) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            assert!(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma"));
            // SAFETY: just checked.
            unsafe { x86::run_avx512(kernel) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => {
            assert!(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"));
            // SAFETY: just checked; whatever has AVX-512 has AVX2 and FMA.
            unsafe { x86::run_avx512_bf16(kernel) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => unreachable!("not available on this processor"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);

    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            for (x, y) in self.0.chunks(LANES).zip(self.1.chunks_mut(LANES)) {
                // SAFETY: both chunks have as many lanes as are asked for.
                unsafe { S::store_n(y.as_mut_ptr(), S::exp(S::load_n(x.as_ptr(), x.len())), y.len()) };
            }
        }
    }

    #[test]
    fn exp_is_right_and_the_same_on_every_instruction_set() {
        let x: Vec<f32> = (0..200_003).map(|i| (i as f32 - 100_000.0) * 8.6e-4).collect();
        let mut first: Option<Vec<u32>> = None;
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            dispatch(isa, Exp(&x, &mut y));
            for (x, y) in x.iter().zip(&y) {
                let exact = f64::from(*x).exp();
                assert!(
                    (f64::from(*y) - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact,
                    "{isa}: exp({x}) = {y}"
                );
            }
            let bits = y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{isa} differs");
        }
    }

    #[test]
    fn exp_keeps_nan() {
        for isa in Isa::available() {
            let mut y = [0.0; 3];
            dispatch(isa, Exp(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &mut y));
            assert!(y[0].is_nan() && y[1] > 6e37 && y[2] < 2e-38, "{isa}: {y:?}");
        }
    }
}
