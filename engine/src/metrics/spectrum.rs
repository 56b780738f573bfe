//! How much of each octave of detail a result has, over how much it should have: what an upscaler blurs, or makes up.
//!
//! Both pictures' luma is cut into overlapping square tiles (Welch, 1967) of 64 pixels, or of the largest power of two that
//! fits; from each its mean is taken away, and a Hann window lets it end softly, so that edges make no waves. The power of a
//! tile's waves, by radial frequency, is summed over an octave and averaged over the tiles; the ratio of the two pictures'
//! powers is given in dB. What is left is a function of the pixels alone: 0 dB is as much detail, not the same.

use rayon::prelude::*;

use super::{Channels, MetricError, Picture, check};

/// Octaves: waves of 2 to 4 pixels, of 4 to 8, of 8 to 16, and of 16 to 32.
pub const OCTAVES: usize = 4;
/// Side of a tile at most.
const TILE: usize = 64;
/// A smaller tile has no octave with two of its longest waves.
const TILE_MIN: usize = 8;
/// Power, in squares of a step of 255, below which a picture counts as having none: rounding alone makes more.
const FLOOR: f64 = 1e-6;

/// Power of `a` over that of `b`, in dB, by octave, finest first; pictures of one size. None where `b` has no power there, or
/// where a tile is too small for two of the octave's longest waves. Waves along the diagonals that are shorter than two pixels are
/// in no octave.
///
/// # Errors
/// [`MetricError`] where sizes differ, or no tile of 8×8 fits.
pub fn spectrum(a: Picture<'_>, b: Picture<'_>) -> Result<[Option<f64>; OCTAVES], MetricError> {
    let (width, height) = check(a, b, 0, TILE_MIN)?;
    let side = 1 << width.min(height).min(TILE).ilog2();
    let places = places(height, side).flat_map(|top| places(width, side).map(move |left| (top, left)));
    let places: Vec<(usize, usize)> = places.collect();
    let tiles = Tiles { width, fourier: Fourier::new(side), window: hann(side) };
    let [of_a, of_b] = [a, b].map(|picture| {
        let plane = picture.planes(Channels::Luma, 0).remove(0);
        let powers: Vec<_> = places.par_iter().map(|place| tiles.powers(&plane, *place)).collect();
        let sum = |octave: usize| powers.iter().map(|powers| powers[octave]).sum::<f64>();
        std::array::from_fn::<f64, OCTAVES, _>(|octave| sum(octave) / powers.len() as f64)
    });
    let ratio = |octave: usize| {
        // Two of the longest waves.
        let fits = side >> (octave + 2) >= 2;
        let is_there = of_b[octave] > FLOOR;
        (fits && is_there).then(|| 10.0 * libm::log10(of_a[octave].max(FLOOR) / of_b[octave]))
    };
    Ok(std::array::from_fn(ratio))
}

/// Where tiles begin along a side: half a tile apart at most, the first and the last at the edges.
fn places(length: usize, side: usize) -> impl Iterator<Item = usize> + Clone {
    let steps = (length - side).div_ceil(side / 2);
    (0..=steps).map(move |at| (length - side) * at / steps.max(1))
}

fn hann(side: usize) -> Vec<f64> {
    let sine = |i: usize| libm::sin(std::f64::consts::PI * (i as f64 + 0.5) / side as f64);
    (0..side).map(|i| sine(i) * sine(i)).collect()
}

/// How tiles of a picture are looked at.
struct Tiles {
    /// Columns of the picture.
    width: usize,
    fourier: Fourier,
    window: Vec<f64>,
}

impl Tiles {
    /// The power of the tile that begins here, by octave.
    fn powers(&self, plane: &[f64], (top, left): (usize, usize)) -> [f64; OCTAVES] {
        let side = self.window.len();
        let weight = |at: usize| self.window[at / side] * self.window[at % side];
        let row = |y: usize| &plane[(top + y) * self.width + left..][..side];
        let values: Vec<f64> = (0..side).flat_map(row).copied().collect();
        let weights: f64 = (0..side * side).map(weight).sum();
        let mean = values.iter().enumerate().map(|(at, v)| weight(at) * v).sum::<f64>() / weights;
        let mut waves: Vec<Complex> =
            values.iter().enumerate().map(|(at, v)| [weight(at) * (v - mean), 0.0]).collect();
        self.fourier.square(&mut waves);
        let mut powers = [0.0; OCTAVES];
        for (at, [re, im]) in waves.iter().enumerate() {
            if let Some(octave) = octave(side, at / side, at % side) {
                powers[octave] += re * re + im * im;
            }
        }
        // All together are the tile's variance under the window, by Parseval.
        let squares: f64 = (0..side * side).map(|at| weight(at) * weight(at)).sum();
        powers.map(|power| power / (squares * (side * side) as f64))
    }
}

/// The octave of a wave: side / 2^(octave + 2) < radius ≤ side / 2^(octave + 1).
fn octave(side: usize, u: usize, v: usize) -> Option<usize> {
    let [u, v] = [u, v].map(|at| at.min(side - at));
    let square = u * u + v * v;
    (0..OCTAVES).find(|octave| {
        let most = side >> (octave + 1);
        4 * square > most * most && square <= most * most
    })
}

/// Real and imaginary part.
type Complex = [f64; 2];

/// The Fourier transform of lines of a power of two (Cooley and Tukey, 1965).
struct Fourier {
    side: usize,
    /// e^(-2πi k / side) of the first half.
    turns: Vec<Complex>,
}

impl Fourier {
    fn new(side: usize) -> Self {
        let turn = |k: usize| {
            let angle = -2.0 * std::f64::consts::PI * k as f64 / side as f64;
            [libm::cos(angle), libm::sin(angle)]
        };
        Self { side, turns: (0..side / 2).map(turn).collect() }
    }

    /// Transforms a square along both sides; it comes out turned over its diagonal.
    fn square(&self, values: &mut [Complex]) {
        values.chunks_exact_mut(self.side).for_each(|line| self.line(line));
        for y in 0..self.side {
            for x in 0..y {
                values.swap(y * self.side + x, x * self.side + y);
            }
        }
        values.chunks_exact_mut(self.side).for_each(|line| self.line(line));
    }

    fn line(&self, line: &mut [Complex]) {
        let unused = usize::BITS - self.side.ilog2();
        for at in 0..self.side {
            let other = at.reverse_bits() >> unused;
            if at < other {
                line.swap(at, other);
            }
        }
        let mut half = 1;
        while half < self.side {
            for block in line.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                let turns = self.turns.iter().step_by(self.side / (2 * half));
                for ((low, high), [cos, sin]) in low.iter_mut().zip(high).zip(turns) {
                    let [re, im] = [high[0] * cos - high[1] * sin, high[0] * sin + high[1] * cos];
                    *high = [low[0] - re, low[1] - im];
                    *low = [low[0] + re, low[1] + im];
                }
            }
            half *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, of: impl Fn(usize, usize) -> f64) -> Vec<u8> {
        let pixel = |at: usize| [of(at % width, at / width).round() as u8; 3];
        (0..width * height).flat_map(pixel).collect()
    }

    fn of(a: &[u8], b: &[u8], width: usize, height: usize) -> [Option<f64>; OCTAVES] {
        spectrum(Picture::new(width, height, a).unwrap(), Picture::new(width, height, b).unwrap()).unwrap()
    }

    #[test]
    fn a_line_is_transformed_as_the_sum_says() {
        let side = 16;
        let value = |i: usize| [(i * 7 % 11) as f64, (i * 5 % 13) as f64 - 3.0];
        let mut found: Vec<Complex> = (0..side).map(value).collect();
        Fourier::new(side).line(&mut found);
        for (k, found) in found.iter().enumerate() {
            let mut sum = [0.0; 2];
            for i in 0..side {
                let (sin, cos) = (-std::f64::consts::TAU * (k * i) as f64 / side as f64).sin_cos();
                let [re, im] = value(i);
                sum = [sum[0] + re * cos - im * sin, sum[1] + re * sin + im * cos];
            }
            assert!((found[0] - sum[0]).abs() < 1e-11 && (found[1] - sum[1]).abs() < 1e-11, "{k}");
        }
    }

    #[test]
    fn half_the_contrast_is_six_decibels_less_in_the_octave_of_the_wave() {
        // Of 6 pixels a wave along x, at twice the contrast; a wave of 24 pixels along y is the same in both.
        let wave = |contrast: f64| {
            move |x: usize, y: usize| {
                let slow = 50.0 * (std::f64::consts::TAU * y as f64 / 24.0).sin();
                128.0 + contrast * [0.0, 1.0, 1.0, 0.0, -1.0, -1.0][x % 6] + slow
            }
        };
        let (full, half) = (grey(150, 101, wave(40.0)), grey(150, 101, wave(20.0)));
        let [_, fine, _, coarse] = of(&half, &full, 150, 101);
        assert!((fine.unwrap() + 20.0 * 2f64.log10()).abs() < 0.01, "{fine:?}");
        assert!(coarse.unwrap().abs() < 0.01, "{coarse:?}");
        assert!(of(&full, &full, 150, 101).iter().all(|ratio| *ratio == Some(0.0)));
        let swapped = of(&full, &half, 150, 101);
        assert!((swapped[1].unwrap() + fine.unwrap()).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_said_where_there_is_nothing_to_say() {
        let (flat, noise) = (grey(40, 40, |_, _| 90.0), grey(40, 40, |x, y| ((x * 7 + y * 13) % 31) as f64));
        assert_eq!(of(&noise, &flat, 40, 40), [None; OCTAVES], "there is no detail to have");
        assert!(of(&flat, &noise, 40, 40)[0].unwrap() < -60.0, "all of it is gone");
        // Tiles of 32 pixels, of 8, and none.
        assert_eq!(of(&noise, &noise, 40, 40), [Some(0.0), Some(0.0), Some(0.0), None]);
        let small = grey(9, 15, |x, y| ((x * 7 + y * 13) % 31) as f64);
        assert_eq!(of(&small, &small, 9, 15), [Some(0.0), None, None, None]);
        let least = Picture::new(7, 9, &[0; 189]).unwrap();
        assert!(matches!(spectrum(least, least), Err(MetricError::TooSmall { needed: 8, .. })));
    }

    #[test]
    fn tiles_reach_both_edges_and_overlap_by_half() {
        let at = |length, side| places(length, side).collect::<Vec<_>>();
        assert_eq!(at(64, 64), [0]);
        assert_eq!(at(65, 64), [0, 1]);
        assert_eq!(at(128, 64), [0, 32, 64]);
        assert_eq!(at(100, 32), [0, 13, 27, 40, 54, 68]);
    }
}
