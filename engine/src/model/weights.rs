//! Weights by name: checked against a graph and put in its order, or drawn at random.
//!
//! Whatever file weights came from, every executor takes them through [`order_weights`]: a network is built from
//! exactly the weights it names, each of the shape it asks for, or not at all. Nothing here reads files, and the
//! random weights are no initialisation for training: they are for tests and benchmarks.

use std::collections::{BTreeMap, BTreeSet};

use super::config::ConfigError;
use super::graph::{Graph, Param};

/// Weights by their name in checkpoints: shape (OIHW for convolutions, (out, in) for linear layers) and values in
/// that order.
pub type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Why a network could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration describes no network.
    #[error("the configuration describes no network")]
    Config(#[from] ConfigError),
    /// A weight is not there.
    #[error("weight {name} is missing: take the configuration that belongs to these weights")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A weight has no place in the network.
    #[error(
        "weight {name} has no place in this network: take the configuration that belongs to these weights"
    )]
    Extra {
        /// Its name.
        name: String,
    },
    /// A weight has another shape than the network's.
    #[error(
        "weight {name} has shape {found:?} where {expected:?} belongs: take the configuration of these weights"
    )]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The network's.
        expected: Vec<usize>,
    },
    /// A weight holds more or fewer values than its shape says.
    #[error("weight {name} holds {found} values where its shape asks for {expected}: the file is damaged")]
    Length {
        /// Its name.
        name: String,
        /// Values in it.
        found: usize,
        /// Values its shape asks for.
        expected: usize,
    },
    /// Asked for a precision in which the executor does not compute.
    #[error("networks are not computed in {found}: choose f32 or f64")]
    Precision {
        /// The precision asked for.
        found: &'static str,
    },
    /// The tensor library refused.
    #[cfg(feature = "candle")]
    #[error("the tensor library could not take the weights: {}", super::first_line(.0))]
    Candle(#[from] candle_core::Error),
}

/// The values of every weight in the order of [`Graph::params`].
///
/// # Errors
/// The first weight that is missing, has another shape, holds another number of values, or has no place in the graph.
pub fn order_weights(graph: &Graph, weights: &Weights) -> Result<Vec<Vec<f32>>, ModelError> {
    let wanted: BTreeSet<&str> = graph.params.iter().map(|param| param.name.as_str()).collect();
    // Ahead of the clones: a wrong file is refused before any memory is spent on it.
    for param in &graph.params {
        check(param, weights)?;
    }
    if let Some(name) = weights.keys().find(|name| !wanted.contains(name.as_str())) {
        return Err(ModelError::Extra { name: name.clone() });
    }
    graph.params.iter().map(|param| check(param, weights).map(<[f32]>::to_vec)).collect()
}

fn check<'a>(param: &Param, weights: &'a Weights) -> Result<&'a [f32], ModelError> {
    let name = || param.name.clone();
    let (shape, values) = weights.get(&param.name).ok_or_else(|| ModelError::Missing { name: name() })?;
    if *shape != param.shape {
        return Err(ModelError::Shape { name: name(), found: shape.clone(), expected: param.shape.clone() });
    }
    let expected = shape.iter().product();
    if values.len() != expected {
        return Err(ModelError::Length { name: name(), found: values.len(), expected });
    }
    Ok(values)
}

/// Weights with which a network's activations stay of order one: uniform of variance 1/fan-in for matrices and
/// kernels, norm weights in 0.75 to 1.25, biases within ±0.1; none is exactly zero.
///
/// A value is a function of the seed, its weight's place in the graph and its own place in the weight.
#[must_use]
pub fn random_weights(graph: &Graph, seed: u64) -> Weights {
    let draw = |(index, param): (usize, &Param)| {
        let fan_in: usize = param.shape.iter().skip(1).product();
        let (centre, radius) = match param.shape.len() {
            1 if param.name.ends_with(".weight") => (1.0, 0.25),
            1 => (0.0, 0.1),
            _ => (0.0, (3.0 / fan_in as f32).sqrt()),
        };
        let key = mix(seed ^ mix(index as u64));
        let count: usize = param.shape.iter().product();
        let values = (0..count as u64).map(|i| radius.mul_add(symmetric(mix(key.wrapping_add(i))), centre));
        (param.name.clone(), (param.shape.clone(), values.collect()))
    };
    graph.params.iter().enumerate().map(draw).collect()
}

/// A number in (-1, 1), an odd multiple of 2^-24: never zero, and exact in f32.
fn symmetric(bits: u64) -> f32 {
    let k = (bits >> 40) as i32;
    (2 * k + 1 - (1 << 24)) as f32 / (1 << 24) as f32
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014), at the state after `counter` steps from zero.
const fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Heads, Layout, UNetConfig};

    fn graph() -> Graph {
        let config = UNetConfig {
            layout: Layout::Paper,
            in_channel: 6,
            out_channel: 3,
            inner_channel: 8,
            norm_groups: 4,
            channel_mults: vec![1, 2],
            attn_res: vec![],
            res_blocks: 1,
            dropout: 0.0,
            use_affine_level: false,
            image_size: None,
            heads: Heads::ONE,
            classes: 0,
            learned_variance: false,
            timestep_scale: 1.0,
        };
        Graph::build(&config).unwrap()
    }

    #[test]
    fn weights_come_in_the_order_of_the_graph() {
        let graph = graph();
        let weights = random_weights(&graph, 1);
        let ordered = order_weights(&graph, &weights).unwrap();
        assert_eq!(ordered.len(), graph.params.len());
        for (param, values) in graph.params.iter().zip(&ordered) {
            assert_eq!(*values, weights[&param.name].1, "{}", param.name);
        }
    }

    #[test]
    fn a_weight_that_does_not_fit_is_refused_by_name() {
        let graph = graph();
        let good = random_weights(&graph, 1);
        let victim = "downs.0.weight";
        let refused = |change: &dyn Fn(&mut Weights)| {
            let mut weights = good.clone();
            change(&mut weights);
            order_weights(&graph, &weights).unwrap_err()
        };

        let missing = refused(&|w| drop(w.remove(victim)));
        assert!(matches!(missing, ModelError::Missing { name } if name == victim));
        let extra = refused(&|w| drop(w.insert("ema.decay".into(), (vec![1], vec![0.0]))));
        assert!(matches!(extra, ModelError::Extra { name } if name == "ema.decay"));
        let misshapen = refused(&|w| w.get_mut(victim).unwrap().0.swap(0, 1));
        assert!(matches!(misshapen, ModelError::Shape { name, found, expected }
            if name == victim && found == [6, 8, 3, 3] && expected == [8, 6, 3, 3]));
        let short = refused(&|w| w.get_mut(victim).unwrap().1.truncate(431));
        assert!(matches!(short, ModelError::Length { name, found: 431, expected: 432 } if name == victim));
    }

    #[test]
    fn random_weights_depend_on_the_seed_alone_and_are_never_zero() {
        let graph = graph();
        let weights = random_weights(&graph, 7);
        assert_eq!(weights, random_weights(&graph, 7));
        assert_ne!(weights, random_weights(&graph, 8));
        for (name, (_, values)) in &weights {
            assert!(values.iter().all(|v| *v != 0.0 && v.abs() < 2.0), "{name}");
        }
        let kernel = &weights["mid.0.res_block.block1.block.3.weight"].1;
        let fan_in = 16.0 * 9.0;
        let variance: f32 = kernel.iter().map(|v| v * v).sum::<f32>() / kernel.len() as f32;
        assert!((variance * fan_in - 1.0).abs() < 0.1, "variance is {} of 1/fan-in", variance * fan_in);
    }
}
