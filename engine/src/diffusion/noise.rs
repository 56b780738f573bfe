//! Noise as a function of where it is used, not a stream: Philox4x32-10 (Salmon et al., 2011), keyed by the job's seed
//! and the item's key, counted by position and step.
//!
//! Promises: the value at (step, y, x, channel) of an item is the same whatever region it is drawn in, in any order, on
//! any number of threads, on any machine. Normals come from the Box-Muller transform in f64 with libm's functions and
//! are rounded to f32 once. Never: system randomness, state, or cryptographic strength.

use std::f64::consts::TAU;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// The step under which an item's starting noise x_T is drawn; sampling steps count from 0.
pub const START: u32 = u32::MAX;

/// Separates this use of SHA-256 from every other.
const DOMAIN: &[u8] = b"sr3/noise/v1";
/// The channel block that scalar draws use; no image has so many channels.
const SCALAR: u32 = u32::MAX;

/// Philox4x32 with ten rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// With the key's two words.
    pub fn new(key: [u32; 2]) -> Self {
        Self { key }
    }

    /// The four words that belong to a counter.
    pub fn block(self, counter: [u32; 4]) -> [u32; 4] {
        let [mut a, mut b, mut c, mut d] = counter;
        let [mut k, mut l] = self.key;
        for _ in 0..10 {
            let p = u64::from(a) * 0xD251_1F53;
            let q = u64::from(c) * 0xCD9E_8D57;
            (a, b, c, d) = ((q >> 32) as u32 ^ b ^ k, q as u32, (p >> 32) as u32 ^ d ^ l, p as u32);
            k = k.wrapping_add(0x9E37_79B9);
            l = l.wrapping_add(0xBB67_AE85);
        }
        [a, b, c, d]
    }
}

/// A rectangle of an (H, W, C) image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First row.
    pub y: usize,
    /// First column.
    pub x: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels, always from the first.
    pub channels: usize,
}

/// The noise of one item of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseSource {
    philox: Philox,
}

impl NoiseSource {
    /// For the item `key` of a job with seed `seed`. The 64 bits of the generator's key are the first of a SHA-256 over
    /// both, so that neither neighbouring seeds nor similar keys have noise in common.
    pub fn new(seed: u64, key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((DOMAIN.len() as u64).to_le_bytes());
        hash.update(DOMAIN);
        hash.update(seed.to_le_bytes());
        hash.update((key.len() as u64).to_le_bytes());
        hash.update(key.as_bytes());
        let digest = hash.finalize();
        let word = |i: usize| u32::from_le_bytes([digest[i], digest[i + 1], digest[i + 2], digest[i + 3]]);
        Self { philox: Philox::new([word(0), word(4)]) }
    }

    /// Fills `out` (height, width, channels) with the unit normals of `region` at `step`. Positions beyond 2^32 repeat.
    ///
    /// # Panics
    /// Where `out` has not the region's size.
    pub fn fill_normal(&self, out: &mut [f32], region: Region, step: u32) {
        let Region { y, x, height, width, channels } = region;
        assert_eq!(out.len(), height * width * channels, "length of the noise buffer");
        if out.is_empty() {
            return;
        }
        out.par_chunks_exact_mut(width * channels).enumerate().for_each(|(row, line)| {
            for (column, pixel) in line.chunks_exact_mut(channels).enumerate() {
                for (block, values) in pixel.chunks_mut(4).enumerate() {
                    let counter = [(x + column) as u32, (y + row) as u32, block as u32, step];
                    self.normals(counter, values);
                }
            }
        });
    }

    /// Four random words for decisions that are no pixels, such as a training sample's noise level: number `index` at
    /// `step`. Independent of the normals.
    pub fn words(&self, index: u32, step: u32) -> [u32; 4] {
        self.philox.block([index, 0, SCALAR, step])
    }

    /// The four words at a block of a mask, of a layer, in an item, at a step. A source of masks has a key of its own, so that
    /// nothing else has these.
    pub fn mask(&self, block: u32, item: u32, layer: u32, step: u32) -> [u32; 4] {
        self.philox.block([block, item, layer, step])
    }

    /// One unit normal for decisions that are no pixels: number `index` at `step`. Made of the same words as
    /// [`Self::words`].
    pub fn normal(&self, index: u32, step: u32) -> f64 {
        let [a, b, ..] = self.words(index, step);
        let (radius, angle) = polar(a, b);
        radius * libm::cos(angle)
    }

    /// Up to four normals: words 0, 1 give the first two, words 2, 3 the others.
    fn normals(&self, counter: [u32; 4], out: &mut [f32]) {
        let words = self.philox.block(counter);
        for (pair, values) in out.chunks_mut(2).enumerate() {
            let (radius, angle) = polar(words[2 * pair], words[2 * pair + 1]);
            if let [first, second] = values {
                let (sin, cos) = libm::sincos(angle);
                (*first, *second) = ((radius * cos) as f32, (radius * sin) as f32);
            } else {
                values[0] = (radius * libm::cos(angle)) as f32;
            }
        }
    }
}

/// Two words as a point in the plane, normally distributed: its radius and its angle (Box and Muller, 1958).
fn polar(first: u32, second: u32) -> (f64, f64) {
    // In (0, 1], so that the logarithm is finite.
    let share = (f64::from(first) + 1.0) / 4_294_967_296.0;
    ((-2.0 * libm::log(share)).sqrt(), f64::from(second) / 4_294_967_296.0 * TAU)
}
