//! The numbers of Adam: one pass over parameters, gradient and state.

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// A step's constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamUpdate {
    /// What the gradient is multiplied by first.
    pub(crate) gradient_scale: f32,
    pub(crate) first_decay: f32,
    pub(crate) first_share: f32,
    pub(crate) second_decay: f32,
    pub(crate) second_share: f32,
    /// Learning rate over the first average's bias correction.
    pub(crate) step_size: f32,
    /// One over the root of the second average's.
    pub(crate) second_correction: f32,
    pub(crate) eps: f32,
    /// What the parameters are multiplied by before they change: 1 without weight decay.
    pub(crate) keep: f32,
}

/// A moving average of the parameters, and how far it goes towards them.
pub(crate) struct Average<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) share: f32,
}

/// Updates equally long lists.
pub(crate) fn update(
    isa: Isa,
    with: &AdamUpdate,
    parameters: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    averages: &mut [Average<'_>],
) {
    let n = parameters.len();
    assert!(gradient.len() == n && first.len() == n && second.len() == n, "equally long lists");
    assert!(averages.iter().all(|average| average.values.len() == n), "averages of every parameter");
    dispatch(isa, Update { with, parameters, gradient, first, second, averages });
}

struct Update<'a, 'b> {
    with: &'a AdamUpdate,
    parameters: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    averages: &'a mut [Average<'b>],
}

impl Kernel for Update<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { with, parameters, gradient, first, second, averages } = self;
        for at in (0..parameters.len()).step_by(LANES) {
            let n = LANES.min(parameters.len() - at);
            // SAFETY: `update` has checked that all lists have n values at `at`.
            unsafe {
                let g = S::load_n(gradient.as_ptr().add(at), n);
                let g = S::mul(g, S::splat(with.gradient_scale));
                let (m, v) = (first.as_mut_ptr().add(at), second.as_mut_ptr().add(at));
                let share = S::mul(g, S::splat(with.first_share));
                let of_first = S::fma(S::load_n(m, n), S::splat(with.first_decay), share);
                S::store_n(m, of_first, n);
                let share = S::mul(S::mul(g, g), S::splat(with.second_share));
                let of_second = S::fma(S::load_n(v, n), S::splat(with.second_decay), share);
                S::store_n(v, of_second, n);
                let root = S::mul(S::sqrt(of_second), S::splat(with.second_correction));
                let change =
                    S::div(S::mul(of_first, S::splat(with.step_size)), S::add(root, S::splat(with.eps)));
                let p = parameters.as_mut_ptr().add(at);
                let kept = S::mul(S::load_n(p, n), S::splat(with.keep));
                let of_parameter = S::sub(kept, change);
                S::store_n(p, of_parameter, n);
                for average in averages.iter_mut() {
                    let a = average.values.as_mut_ptr().add(at);
                    let old = S::load_n(a, n);
                    S::store_n(a, S::fma(S::sub(of_parameter, old), S::splat(average.share), old), n);
                }
            }
        }
    }
}

/// Σ x², in f64 over sixteen lanes joined in order.
pub(crate) fn sum_of_squares(isa: Isa, values: &[f32]) -> f64 {
    dispatch(isa, SumOfSquares(values))
}

struct SumOfSquares<'a>(&'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let chunks = self.0.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for l in 0..LANES {
                lanes[l] += f64::from(chunk[l]) * f64::from(chunk[l]);
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(*v) * f64::from(*v);
        }
        lanes.iter().sum()
    }
}
