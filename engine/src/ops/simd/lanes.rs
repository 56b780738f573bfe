//! What kernels are written over: vectors of sixteen `f32`, whatever registers hold them.

/// Lanes of a vector, whatever the registers are.
pub(crate) const LANES: usize = 16;

/// Sixteen lanes of `f32`.
///
/// # Safety
/// Every method may be called only on a machine that has the implementation's instructions, from code compiled with
/// them enabled ([`super::dispatch`] sees to both); pointers must be valid for the lanes that are read or written.
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
    /// Only [`super::dispatch`] may call it; implementations must be `#[inline(always)]`, to be compiled with the
    /// instructions of `S` enabled.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}
