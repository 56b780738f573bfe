//! Pairs of bf16 in words of 32 bits, as [`super::matmul::product`] takes them.
//!
//! A word is kept as an `f32` whose bits it is, so that buffers have one type; no arithmetic is ever done on it.

// Halves are written by their address: the lower one must come first.
const _: () = assert!(cfg!(target_endian = "little"));

/// The upper 16 bits of a number: rounded to nearest, ties to even; NaN stays NaN, and infinity itself.
#[inline(always)]
pub(crate) const fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_nan() { bits >> 16 | 0x40 } else { (bits + 0x7fff + (bits >> 16 & 1)) >> 16 }
}

/// Words that `channels` numbers take.
pub(crate) const fn words(channels: usize) -> usize {
    channels.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_and_keeps_what_is_no_number() {
        let rounded = |value: f32| f32::from_bits(round(value) << 16);
        // 8 bits of mantissa: neighbours of 1 are 2^-7 apart, and a tie goes to the even one.
        assert_eq!([1.0, 1.0 + 0.4 / 128.0, 1.0 + 0.6 / 128.0].map(rounded), [1.0, 1.0, 1.0 + 1.0 / 128.0]);
        assert_eq!([1.0 + 0.5 / 128.0, 1.0 + 1.5 / 128.0].map(rounded), [1.0, 1.0 + 2.0 / 128.0]);
        assert_eq!(
            [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -0.0].map(rounded),
            [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, -0.0]
        );
        let smallest_nan = f32::from_bits(0x7f80_0001);
        assert!(
            rounded(f32::NAN).is_nan() && rounded(smallest_nan).is_nan() && rounded(-smallest_nan).is_nan()
        );
    }
}
