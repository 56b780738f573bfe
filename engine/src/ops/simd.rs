//! Vectors of sixteen `f32` on every instruction set, and the choice between them.
//!
//! Kernels are written once, over [`Simd`], and compiled for AVX-512, for AVX2 with FMA, and for any other machine. The
//! three give the same bits: each operation below is the IEEE one on every lane, a fused multiply-add is one rounding
//! everywhere, and no approximate instruction is used. The instruction set is chosen from what the processor reports,
//! never from what it was compiled on.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

use super::bf16;

/// Lanes of a vector, whatever the registers are.
pub(crate) const LANES: usize = 16;

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

/// Sixteen lanes of `f32`.
///
/// # Safety
/// Every method may be called only on a machine that has the implementation's instructions, from code compiled with
/// them enabled ([`dispatch`] sees to both); pointers must be valid for the lanes that are read or written.
pub(crate) unsafe trait Simd: Copy {
    /// A vector.
    type V: Copy;
    /// Registers of [`LANES`] lanes that one row of a register tile may take in the matrix kernel.
    const WIDE: bool;

    unsafe fn splat(v: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` < [`LANES`] lanes from memory, the others zero.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n` < [`LANES`] lanes.
    unsafe fn store_part(p: *mut f32, v: Self::V, n: usize);
    /// a · b + c in one rounding.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// a > b ? a : b, so b where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// a < b ? a : b, so b where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// 2^n for lanes that hold whole numbers in [-126, 127].
    unsafe fn exp2_whole(n: Self::V) -> Self::V;
    /// c + a₁ · b₁ + a₀ · b₀, each product added in one rounding, where every lane of a and b holds two bf16: a₁ is the
    /// upper half. Processors with an instruction for it take subnormal numbers for zero.
    unsafe fn dot_bf16(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Writes all lanes rounded to bf16, to nearest, ties to even. Processors with an instruction for it write zero for
    /// subnormal numbers.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
    /// Both rounded as [`Simd::store_bf16`] does, to words as [`Simd::dot_bf16`] takes them.
    unsafe fn pair_bf16(lower: Self::V, upper: Self::V) -> Self::V;

    /// e^x to 2 ulp for |x| ≤ 87, clamped beyond; NaN stays NaN. Own polynomial: no machine's libm decides the bits.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise covers every operation here.
        unsafe {
            let x = Self::min(Self::splat(87.0), Self::max(Self::splat(-87.0), x));
            // Adding and taking away 1.5 · 2^23 rounds to the nearest whole number.
            let magic = Self::splat(12_582_912.0);
            let n = Self::sub(Self::fma(x, Self::splat(std::f32::consts::LOG2_E), magic), magic);
            // ln 2 in two parts, so that the remainder is right to the last bit.
            let r = Self::fma(n, Self::splat(-0.693_359_4), x);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
                p = Self::fma(p, r, Self::splat(c));
            }
            let p = Self::fma(p, Self::mul(r, r), Self::add(r, Self::splat(1.0)));
            Self::mul(p, Self::exp2_whole(n))
        }
    }

    /// 1 / (1 + e^-x).
    #[inline(always)]
    unsafe fn sigmoid(x: Self::V) -> Self::V {
        // SAFETY: as in `exp`.
        unsafe {
            let e = Self::exp(Self::sub(Self::splat(0.0), x));
            Self::div(Self::splat(1.0), Self::add(Self::splat(1.0), e))
        }
    }

    /// x · sigmoid(x).
    #[inline(always)]
    unsafe fn silu(x: Self::V) -> Self::V {
        // SAFETY: as in `exp`.
        unsafe {
            let e = Self::exp(Self::sub(Self::splat(0.0), x));
            Self::div(x, Self::add(Self::splat(1.0), e))
        }
    }

    /// [`Simd::load`] or [`Simd::load_part`].
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V {
        // SAFETY: the caller's promise: `n` lanes are readable.
        unsafe { if n >= LANES { Self::load(p) } else { Self::load_part(p, n) } }
    }

    /// [`Simd::store_bf16`] of the first `n` lanes, `n` at most [`LANES`].
    #[inline(always)]
    unsafe fn store_bf16_n(p: *mut u16, v: Self::V, n: usize) {
        // SAFETY: the caller's promise: `n` halves are writable; the array has all sixteen.
        unsafe {
            if n >= LANES {
                return Self::store_bf16(p, v);
            }
            let mut all = [0; LANES];
            Self::store_bf16(all.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, n);
        }
    }

    /// [`Simd::store`] or [`Simd::store_part`].
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize) {
        // SAFETY: the caller's promise: `n` lanes are writable.
        unsafe { if n >= LANES { Self::store(p, v) } else { Self::store_part(p, v, n) } }
    }
}

/// Work that is compiled for every instruction set.
pub(crate) trait Kernel {
    /// What it yields.
    type Output;

    /// Does the work.
    ///
    /// # Safety
    /// Only [`dispatch`] may call it; implementations must be `#[inline(always)]`, to be compiled with the
    /// instructions of `S` enabled.
    unsafe fn run<S: Simd>(self) -> Self::Output;
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

/// Sixteen lanes as an array.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

type Array = [f32; LANES];

#[inline(always)]
fn zip(a: Array, b: Array, f: impl Fn(f32, f32) -> f32) -> Array {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY: plain Rust; pointers are the caller's promise.
unsafe impl Simd for Portable {
    type V = Array;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Array {
        [v; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Array {
        // SAFETY: sixteen readable lanes are the caller's promise; an array of f32 needs no more than their alignment.
        unsafe { p.cast::<Array>().read() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Array) {
        // SAFETY: sixteen writable lanes are the caller's promise.
        unsafe { p.cast::<Array>().write(v) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Array {
        let mut v = [0.0; LANES];
        // SAFETY: `n` readable lanes are the caller's promise, `v` has more.
        unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n) };
        v
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: Array, n: usize) {
        // SAFETY: `n` writable lanes are the caller's promise, `v` has more.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n) };
    }
    #[inline(always)]
    unsafe fn fma(a: Array, b: Array, c: Array) -> Array {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn add(a: Array, b: Array) -> Array {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Array, b: Array) -> Array {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Array, b: Array) -> Array {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Array, b: Array) -> Array {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(a: Array) -> Array {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn max(a: Array, b: Array) -> Array {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Array, b: Array) -> Array {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: Array) -> Array {
        // NaN casts to 0 here; the factor it meets is NaN already.
        n.map(|n| f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn dot_bf16(a: Array, b: Array, c: Array) -> Array {
        let upper = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        let lower = |x: f32| f32::from_bits(x.to_bits() << 16);
        std::array::from_fn(|i| {
            let sum = upper(a[i]).mul_add(upper(b[i]), c[i]);
            lower(a[i]).mul_add(lower(b[i]), sum)
        })
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Array) {
        for (i, value) in v.into_iter().enumerate() {
            // SAFETY: sixteen writable lanes are the caller's promise.
            unsafe { p.add(i).write(bf16::round(value) as u16) };
        }
    }
    #[inline(always)]
    unsafe fn pair_bf16(lower: Array, upper: Array) -> Array {
        std::array::from_fn(|i| f32::from_bits(bf16::round(lower[i]) | bf16::round(upper[i]) << 16))
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
