//! What a network predicts, and of what: from a prediction about x_t back to x_0 and to the image.
//!
//! Clamping always acts on the resulting *image*, in [-1, 1]; x_0 is then computed again from the image, and with it
//! whatever noise a sampler derives from x_t and x_0. Nothing here knows of samplers or tiles.

use serde::{Deserialize, Serialize};

/// Noise levels closer to 0 or 1 than this are treated as if they lay here, so that no formula divides by nothing.
pub(super) const LEVEL_MIN: f64 = 1e-6;
pub(super) const LEVEL_MAX: f64 = 1.0 - 1e-12;

/// sqrt(1 - a²), without cancellation near a = 1.
pub(super) fn noise_share(level: f64) -> f64 {
    ((1.0 - level) * (1.0 + level)).sqrt()
}

/// What the network's output means, with x_t = a x_0 + s eps, s = sqrt(1 - a²).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// eps, the noise: the paper. Near a = 0 an error in it is multiplied by s/a in x_0.
    Noise,
    /// x_0 itself (where the target is a residual, that residual).
    Image,
    /// v = a eps - s x_0 (Salimans and Ho, 2022): well conditioned at both ends.
    V,
}

/// What x_0 is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "snake_case")]
pub enum Target {
    /// The image in [-1, 1]: the paper.
    Image,
    /// scale · (image - enlarged input).
    Residual {
        /// What the difference is multiplied by, so that x_0 has about unit variance. Above 0.
        #[serde(rename = "residual_scale")]
        scale: f32,
    },
}

impl Objective {
    /// [p, q] with x_0 = p x_t + q prediction at noise level `level`.
    pub fn x0_coefficients(self, level: f64) -> [f64; 2] {
        let a = level.clamp(LEVEL_MIN, LEVEL_MAX);
        let s = noise_share(a);
        match self {
            Self::Noise => [1.0 / a, -s / a],
            Self::Image => [0.0, 1.0],
            Self::V => [a, -s],
        }
    }

    /// Turns `prediction` into the x_0 that it implies for `x` at noise level `level`, in place. No clamp.
    pub fn to_x0(self, level: f64, x: &[f32], prediction: &mut [f32]) {
        let [p, q] = self.x0_coefficients(level).map(|c| c as f32);
        for (value, &x) in prediction.iter_mut().zip(x) {
            *value = p * x + q * *value;
        }
    }

    /// What a perfect network says: the training target for x_0 and noise at noise level `level`.
    pub fn training_target(self, level: f64, x0: &[f32], noise: &[f32], out: &mut [f32]) {
        let (a, s) = (level as f32, noise_share(level) as f32);
        for ((out, &x0), &eps) in out.iter_mut().zip(x0).zip(noise) {
            *out = match self {
                Self::Noise => eps,
                Self::Image => x0,
                Self::V => a * eps - s * x0,
            };
        }
    }
}

impl Target {
    /// Image to x_0, in place. `upsampled` is the enlarged input, as long as the image.
    pub fn from_image(self, upsampled: &[f32], image: &mut [f32]) {
        if let Self::Residual { scale } = self {
            for (value, &up) in image.iter_mut().zip(upsampled) {
                *value = scale * (*value - up);
            }
        }
    }

    /// x_0 to image, in place, not clamped.
    pub fn to_image(self, upsampled: &[f32], x0: &mut [f32]) {
        if let Self::Residual { scale } = self {
            for (value, &up) in x0.iter_mut().zip(upsampled) {
                *value = up + *value / scale;
            }
        }
    }

    /// Clamps the image that `x0` stands for to [-1, 1] and computes x_0 anew from it, in place.
    pub fn clamp(self, upsampled: &[f32], x0: &mut [f32]) {
        match self {
            Self::Image => x0.iter_mut().for_each(|value| *value = value.clamp(-1.0, 1.0)),
            Self::Residual { scale } => {
                for (value, &up) in x0.iter_mut().zip(upsampled) {
                    *value = scale * ((up + *value / scale).clamp(-1.0, 1.0) - up);
                }
            }
        }
    }
}

/// The noise in `x` at noise level `level` if its image part is `x0`: eps = (x - a x_0)/s, in place of `x`.
pub fn noise_from_x0(level: f64, x0: &[f32], x: &mut [f32]) {
    let a = level.clamp(LEVEL_MIN, LEVEL_MAX);
    let (a, s) = (a as f32, noise_share(a) as f32);
    for (x, &x0) in x.iter_mut().zip(x0) {
        *x = (*x - a * x0) / s;
    }
}
