//! Vectors in plain Rust.

use super::lanes::{LANES, Simd};
use crate::ops::bf16;

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
