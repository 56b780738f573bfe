//! Conditioning augmentation: what a later stage of a cascade is given is made as imperfect as what it has learned from, so
//! that it does not take the earlier stage's errors for details (Ho et al., "Cascaded Diffusion Models", 2022, section 4).
//!
//! Never: randomness that is not a function of where it stands ([`NoiseSource`]).

use crate::diffusion::{NoiseSource, Region};

/// The step under which this noise is drawn.
const STEP: u32 = 0;

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// Standard deviation of a Gaussian blur, in pixels of the picture that is given; 0 for none.
    pub blur: f64,
    /// Standard deviation of noise, of 255; 0 for none.
    pub noise: f64,
}

impl Augmentation {
    /// Alters `rgb`, (H, W, 3) in [-1, 1], and rounds it to eight bits as files hold them. `source` is of the picture alone.
    pub fn apply(self, rgb: &mut Vec<f32>, [height, width]: [usize; 2], source: &NoiseSource) {
        if self == Self::default() {
            return;
        }
        *rgb = blurred(rgb, [height, width], self.blur);
        let mut normals = vec![0.0; rgb.len()];
        if self.noise > 0.0 {
            source.fill_normal(&mut normals, Region { y: 0, x: 0, height, width, channels: 3 }, STEP);
        }
        let deviation = self.noise as f32;
        for (value, normal) in rgb.iter_mut().zip(&normals) {
            let level = (*value + 1.0) * 127.5 + deviation * normal;
            *value = level.round().clamp(0.0, 255.0) / 127.5 - 1.0;
        }
    }
}

/// A Gaussian of standard deviation `sigma` pixels over RGB, (H, W, 3), its edges repeated.
#[must_use]
pub fn blurred(rgb: &[f32], [height, width]: [usize; 2], sigma: f64) -> Vec<f32> {
    let radius = libm::ceil(3.0 * sigma) as usize;
    if radius == 0 {
        return rgb.to_vec();
    }
    let weight = |i: usize| {
        let distance = i as f64 - radius as f64;
        libm::exp(-distance * distance / (2.0 * sigma * sigma))
    };
    let weights: Vec<f64> = (0..=2 * radius).map(weight).collect();
    let total: f64 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|w| (w / total) as f32).collect();
    let tap = |centre: usize, i: usize, side: usize| (centre + i).saturating_sub(radius).min(side - 1);
    let along = |from: &[f32], vertical: bool| {
        let mut out = vec![0.0f32; from.len()];
        for y in 0..height {
            for x in 0..width {
                for (i, w) in weights.iter().enumerate() {
                    let (sy, sx) = if vertical { (tap(y, i, height), x) } else { (y, tap(x, i, width)) };
                    for c in 0..3 {
                        out[(y * width + x) * 3 + c] += w * from[(sy * width + sx) * 3 + c];
                    }
                }
            }
        }
        out
    };
    along(&along(rgb, false), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_what_is_even_and_noise_has_its_deviation_and_is_a_function_of_its_source() {
        let gray = vec![100.0 / 127.5 - 1.0; 40 * 60 * 3];
        let with = |augmentation: Augmentation, key: &str| {
            let mut rgb = gray.clone();
            augmentation.apply(&mut rgb, [40, 60], &NoiseSource::new(3, key));
            rgb
        };
        let level = |v: &f32| f64::from((v + 1.0) * 127.5);
        let blurry = with(Augmentation { blur: 1.5, noise: 0.0 }, "a");
        assert!(blurry.iter().all(|v| (level(v) - 100.0).abs() < 1e-3));
        let noisy = with(Augmentation { blur: 0.0, noise: 5.0 }, "a");
        let variance = noisy.iter().map(|v| (level(v) - 100.0).powi(2)).sum::<f64>() / noisy.len() as f64;
        assert!((variance.sqrt() - 5.0).abs() < 0.15, "{variance}");
        assert_eq!(noisy, with(Augmentation { blur: 0.0, noise: 5.0 }, "a"));
        assert_ne!(noisy, with(Augmentation { blur: 0.0, noise: 5.0 }, "b"));
    }
}
