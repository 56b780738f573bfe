//! Images of `f32` rounded to the pairs of bf16 that [`super::matmul::product`] takes.

use super::bf16::{round, words};
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Rounds pixels of `channels` numbers to words: number 2i is the lower half of word i, a number too few is zero.
///
/// # Panics
/// If `out` is not as long as the words of all pixels.
pub(crate) fn pair_up(isa: Isa, pixels: &[f32], channels: usize, out: &mut [f32]) {
    assert_eq!(out.len(), pixels.len() / channels * words(channels), "as many words as pixels have");
    if channels.is_multiple_of(2) {
        return dispatch(isa, PairUp { pixels, out });
    }
    for (pixel, out) in pixels.chunks_exact(channels).zip(out.chunks_exact_mut(words(channels))) {
        let (pairs, last) = pixel.split_at(channels - 1);
        dispatch(isa, PairUp { pixels: pairs, out: &mut out[..channels / 2] });
        out[channels / 2] = f32::from_bits(round(last[0]));
    }
}

struct PairUp<'a> {
    pixels: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for PairUp<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (numbers, words) in self.pixels.chunks(LANES).zip(self.out.chunks_mut(LANES / 2)) {
            assert!(numbers.len() <= 2 * words.len(), "as many words as pixels have");
            // SAFETY: as many lanes are read, and as many halves written, as there are numbers.
            unsafe {
                let values = S::load_n(numbers.as_ptr(), numbers.len());
                S::store_bf16_n(words.as_mut_ptr().cast(), values, numbers.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_hold_each_number_once() {
        let numbers: Vec<f32> = (0..15).map(|i| i as f32).collect();
        for isa in Isa::available() {
            let mut words = [0.0f32; 9];
            pair_up(isa, &numbers, 5, &mut words);
            let halves = words.map(|word| (word.to_bits() << 16, word.to_bits() & 0xffff_0000));
            let halves: Vec<f32> = halves.iter().flat_map(|(a, b)| [*a, *b]).map(f32::from_bits).collect();
            let expected = [0., 1., 2., 3., 4., 0., 5., 6., 7., 8., 9., 0., 10., 11., 12., 13., 14., 0.];
            assert_eq!(halves, expected, "{isa}");
        }
    }
}
