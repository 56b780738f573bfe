//! Vectors of AVX2 and of AVX-512.

use std::arch::x86_64::*;

use super::lanes::{Kernel, LANES, Simd};

/// # Safety
/// The machine must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function is compiled with the instructions, the caller has checked the machine.
    unsafe { kernel.run::<Avx2>() }
}

/// # Safety
/// The machine must have AVX-512 F, AVX2 and FMA.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<Avx512<false>>() }
}

/// # Safety
/// The machine must have AVX-512 F and BF16, AVX2 and FMA.
#[target_feature(enable = "avx512bf16,avx512f,avx2,fma")]
pub(super) unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<Avx512<true>>() }
}

/// Two registers of eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

type Pair = [__m256; 2];

/// A mask of the first `n` lanes of a half.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    const BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: `n` is at most 8, so eight of the sixteen are read from within.
    unsafe { _mm256_loadu_si256(BITS.as_ptr().add(8 - n.min(8)).cast()) }
}

// SAFETY: the instructions are those of `run_avx2`; pointers are the caller's promise; masked lanes are not touched.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one argument for all: the trait's safety contract")]
unsafe impl Simd for Avx2 {
    type V = Pair;
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Pair {
        unsafe { [_mm256_set1_ps(v); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Pair {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Pair) {
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Pair {
        unsafe {
            let high = n.saturating_sub(8);
            let upper =
                if high == 0 { _mm256_setzero_ps() } else { _mm256_maskload_ps(p.add(8), mask(high)) };
            [_mm256_maskload_ps(p, mask(n)), upper]
        }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: Pair, n: usize) {
        unsafe {
            _mm256_maskstore_ps(p, mask(n), v[0]);
            if n > 8 {
                _mm256_maskstore_ps(p.add(8), mask(n - 8), v[1]);
            }
        }
    }
    #[inline(always)]
    unsafe fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn add(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sqrt(a: Pair) -> Pair {
        unsafe { [_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: Pair) -> Pair {
        // Not by a closure: it would be compiled without the instructions, and called.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_add_epi32(_mm256_cvtps_epi32(n[0]), bias);
            let high = _mm256_add_epi32(_mm256_cvtps_epi32(n[1]), bias);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(high)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe {
            let mask = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32));
            let mut sums = c;
            for i in 0..2 {
                let upper = (_mm256_and_ps(a[i], mask), _mm256_and_ps(b[i], mask));
                let (a, b) = (_mm256_castps_si256(a[i]), _mm256_castps_si256(b[i]));
                let lower = (_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b));
                sums[i] = _mm256_fmadd_ps(upper.0, upper.1, sums[i]);
                sums[i] =
                    _mm256_fmadd_ps(_mm256_castsi256_ps(lower.0), _mm256_castsi256_ps(lower.1), sums[i]);
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Pair) {
        unsafe {
            let halves = [round_bf16(v[0]), round_bf16(v[1])];
            // Packing goes within each half of a register, so the middle quarters change places.
            let packed = _mm256_packus_epi32(halves[0], halves[1]);
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        }
    }
    #[inline(always)]
    unsafe fn pair_bf16(lower: Pair, upper: Pair) -> Pair {
        unsafe {
            let mut words = lower;
            for i in 0..2 {
                let upper = _mm256_slli_epi32::<16>(round_bf16(upper[i]));
                words[i] = _mm256_castsi256_ps(_mm256_or_si256(round_bf16(lower[i]), upper));
            }
            words
        }
    }
}

/// Eight lanes rounded to bf16, each in the lower half of a word.
///
/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn round_bf16(v: __m256) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        _mm256_srli_epi32::<16>(_mm256_blendv_epi8(sum, quiet, nan))
    }
}

/// One register of sixteen lanes; whether there are instructions for bf16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>;

// SAFETY: the instructions are those of `run_avx512`, or of `run_avx512_bf16` where BF16; pointers are the caller's
// promise; masked lanes are not touched.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one argument for all: the trait's safety contract")]
unsafe impl<const BF16: bool> Simd for Avx512<BF16> {
    type V = __m512;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn splat(v: f32) -> __m512 {
        unsafe { _mm512_set1_ps(v) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(((1u32 << n.min(LANES)) - 1) as __mmask16, p) }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: __m512, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n.min(LANES)) - 1) as __mmask16, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn exp2_whole(n: __m512) -> __m512 {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe {
            if BF16 {
                // Registers of the same size, any bits are valid in both.
                let a = std::mem::transmute::<__m512, __m512bh>(a);
                let b = std::mem::transmute::<__m512, __m512bh>(b);
                return _mm512_dpbf16_ps(c, a, b);
            }
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            let upper = (_mm512_and_si512(a, mask), _mm512_and_si512(b, mask));
            let lower = (_mm512_slli_epi32::<16>(a), _mm512_slli_epi32::<16>(b));
            let sum = _mm512_fmadd_ps(_mm512_castsi512_ps(upper.0), _mm512_castsi512_ps(upper.1), c);
            _mm512_fmadd_ps(_mm512_castsi512_ps(lower.0), _mm512_castsi512_ps(lower.1), sum)
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m512) {
        unsafe {
            if BF16 {
                let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
                return _mm256_storeu_si256(p.cast(), halves);
            }
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(Self::round_bf16(v)));
        }
    }
    #[inline(always)]
    unsafe fn pair_bf16(lower: __m512, upper: __m512) -> __m512 {
        unsafe {
            let upper = _mm512_slli_epi32::<16>(Self::round_bf16(upper));
            _mm512_castsi512_ps(_mm512_or_si512(Self::round_bf16(lower), upper))
        }
    }
}

impl<const BF16: bool> Avx512<BF16> {
    /// Sixteen lanes rounded to bf16, each in the lower half of a word.
    ///
    /// # Safety
    /// The machine must have AVX-512 F, and BF16 if that is asked for.
    #[inline(always)]
    unsafe fn round_bf16(v: __m512) -> __m512i {
        // SAFETY: the caller's promise; registers of the same size, any bits are valid in both.
        unsafe {
            if BF16 {
                let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
                return _mm512_cvtepu16_epi32(halves);
            }
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let rounded = _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x40_0000));
            _mm512_srli_epi32::<16>(rounded)
        }
    }
}
