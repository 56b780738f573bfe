//! The loss of networks that learn the variance of their steps: L_hybrid = L_simple + lambda L_vlb (Nichol and Dhariwal,
//! 2021, sections 2 and 3.1).
//!
//! L_vlb judges the variance alone: its gradient stops at the predicted noise. Images are channels-last; a network's
//! prediction is, at each pixel, the noise and then as many channels of v, where v = -1 is the posterior's variance and
//! v = 1 is beta. Sums run in f64, in order.

use std::f64::consts::LN_2;

use super::noise_schedule::NoiseSchedule;
use super::objective::noise_share;

/// Half a step of 255 in [-1, 1].
const HALF_STEP: f64 = 1.0 / 255.0;
/// Beyond this a value is the end of its range, and stands for all beyond.
const RANGE_END: f64 = 0.999;
/// What a probability is taken as at least.
const PROBABILITY_MIN: f64 = 1e-12;

/// What is known of one sample at timestep t (a buffer's index), each (H, W, C).
#[derive(Clone, Copy, Debug)]
pub struct HybridSample<'a> {
    /// The image, in [-1, 1].
    pub x0: &'a [f32],
    /// The noise that was added.
    pub noise: &'a [f32],
    /// Both together, as the network saw them.
    pub x_t: &'a [f32],
}

/// The loss of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HybridLoss {
    /// Mean squared error of the noise.
    pub simple: f64,
    /// Its term of the variational bound, in bits a dimension.
    pub bound: f64,
}

impl NoiseSchedule {
    /// The loss of a prediction (H, W, 2·C) for `sample` at timestep `t`, and the gradient of simple + lambda · bound, in the
    /// prediction's shape, in `gradient`. `channels` is C. Whoever trained with `rescale_learned_sigmas` took
    /// lambda = T / 1000, else it is 1.
    ///
    /// # Panics
    /// Where lengths differ, or `t` is not the schedule's.
    pub fn hybrid_loss(
        &self,
        t: usize,
        sample: HybridSample<'_>,
        channels: usize,
        prediction: &[f32],
        lambda: f64,
        gradient: &mut [f32],
    ) -> HybridLoss {
        let HybridSample { x0, noise, x_t } = sample;
        assert_eq!([noise.len(), x_t.len()], [x0.len(); 2], "x_0, noise and x_t");
        assert_eq!([prediction.len(), gradient.len()], [2 * x0.len(); 2], "prediction and gradient");
        let term = BoundTerm::new(self, t);
        let count = x0.len() as f64;
        let (mut simple, mut bound) = (0.0, 0.0);
        for (i, (&x0, (&noise, &x_t))) in x0.iter().zip(noise.iter().zip(x_t)).enumerate() {
            let at = i / channels * 2 * channels + i % channels;
            let eps = f64::from(prediction[at]);
            let error = eps - f64::from(noise);
            simple += error * error;
            gradient[at] = (2.0 * error / count) as f32;
            let v = f64::from(prediction[at + channels]);
            let (nats, slope) = term.of_value(f64::from(x0), f64::from(x_t), eps, v);
            bound += nats;
            gradient[at + channels] = (lambda * slope / LN_2 / count) as f32;
        }
        HybridLoss { simple: simple / count, bound: bound / LN_2 / count }
    }
}

/// One timestep's term of the bound.
struct BoundTerm {
    /// Whether it is the last: the likelihood of the image itself.
    decodes: bool,
    /// x_0 = of_x x_t + of_eps eps.
    of_x: f64,
    of_eps: f64,
    /// Mean of the posterior = of_x0 x_0 + of_x_t x_t.
    of_x0: f64,
    of_x_t: f64,
    /// Logarithms of the variances that v = -1 and v = 1 stand for.
    low: f64,
    high: f64,
}

impl BoundTerm {
    fn new(schedule: &NoiseSchedule, t: usize) -> Self {
        let level = schedule.sqrt_alphas_cumprod[t];
        let [low, high] = schedule.log_variances(t);
        Self {
            decodes: t == 0,
            of_x: 1.0 / level,
            of_eps: -noise_share(level) / level,
            of_x0: schedule.posterior_mean_coef1[t],
            of_x_t: schedule.posterior_mean_coef2[t],
            low,
            high,
        }
    }

    /// Nats of one value, and their slope over v.
    fn of_value(&self, x0: f64, x_t: f64, eps: f64, v: f64) -> (f64, f64) {
        let share = (v + 1.0) / 2.0;
        let log_variance = share * self.high + (1.0 - share) * self.low;
        let guess = self.of_x * x_t + self.of_eps * eps;
        let mean = self.of_x0 * guess + self.of_x_t * x_t;
        let (nats, slope) = if self.decodes {
            negative_log_likelihood(x0, mean, log_variance)
        } else {
            let distance = mean - (self.of_x0 * x0 + self.of_x_t * x_t);
            divergence(self.low, distance, log_variance)
        };
        (nats, slope * (self.high - self.low) / 2.0)
    }
}

/// KL divergence of two normal distributions whose means lie `distance` apart, and its slope over the second's `log_variance`.
fn divergence(true_log_variance: f64, distance: f64, log_variance: f64) -> (f64, f64) {
    let ratio = libm::exp(true_log_variance - log_variance);
    let far = distance * distance * libm::exp(-log_variance);
    ((log_variance - true_log_variance - 1.0 + ratio + far) / 2.0, (1.0 - ratio - far) / 2.0)
}

/// -ln of the probability that a normal distribution gives to x's step of 255, and its slope over `log_variance`.
fn negative_log_likelihood(x: f64, mean: f64, log_variance: f64) -> (f64, f64) {
    let precision = libm::exp(-log_variance / 2.0);
    let [above, below] = [HALF_STEP, -HALF_STEP].map(|half| precision * (x - mean + half));
    // A bound falls as the deviation grows: d bound / d log variance = -bound / 2.
    let [(to_above, slope_above), (to_below, slope_below)] = [above, below].map(|bound| {
        let (probability, density) = normal_cdf(bound);
        (probability, -density * bound / 2.0)
    });
    let (probability, slope) = if x < -RANGE_END {
        (to_above, slope_above)
    } else if x > RANGE_END {
        (1.0 - to_below, -slope_below)
    } else {
        (to_above - to_below, slope_above - slope_below)
    };
    if probability < PROBABILITY_MIN {
        return (-libm::log(PROBABILITY_MIN), 0.0);
    }
    (-libm::log(probability), -slope / probability)
}

/// The reference's approximation of the normal distribution's integral up to `x`, and its derivative.
fn normal_cdf(x: f64) -> (f64, f64) {
    const CUBIC: f64 = 0.044_715;
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let tanh = libm::tanh(root * (x + CUBIC * x * x * x));
    (0.5 * (1.0 + tanh), 0.5 * (1.0 - tanh * tanh) * root * (1.0 + 3.0 * CUBIC * x * x))
}
