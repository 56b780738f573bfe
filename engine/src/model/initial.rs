//! Weights to begin training with: a function of the seed and of each parameter's name.
//!
//! As DDPM begins (Ho et al., 2020): kernels and matrices are uniform with variance 2 / (fan-in + fan-out), biases are
//! zero, norms change nothing, and the last convolution of every residual block, of every attention and of the network
//! is zero, so that each block begins as the identity. Never: a generator with a state, or a draw that depends on what
//! other parameters there are.

use rayon::prelude::*;

use super::graph::{Graph, Param};
use super::weights::Weights;
use crate::diffusion::NoiseSource;

/// Ends of the names of weights that begin at zero.
const ZERO: [&str; 6] = [
    "block2.block.3.weight",
    "attn.out.weight",
    "final_conv.block.3.weight",
    "out_layers.3.weight",
    "proj_out.weight",
    "out.2.weight",
];

/// End of the name of the classes' embedding. As PyTorch begins, it has variance 1.
const EMBEDDING: &str = "label_emb.weight";

/// The weights that a network of this graph begins with.
#[must_use]
pub fn initial_weights(graph: &Graph, seed: u64) -> Weights {
    graph
        .params
        .par_iter()
        .map(|param| (param.name.clone(), (param.shape.clone(), draw(param, seed))))
        .collect()
}

fn draw(param: &Param, seed: u64) -> Vec<f32> {
    let count: usize = param.shape.iter().product();
    if param.shape.len() < 2 {
        // The scale of a norm; all other vectors are biases.
        let is_scale = param.name.ends_with(".weight");
        return vec![if is_scale { 1.0 } else { 0.0 }; count];
    }
    if ZERO.iter().any(|end| param.name.ends_with(end)) {
        return vec![0.0; count];
    }
    let window: usize = param.shape[2..].iter().product();
    let fans = (param.shape[0] + param.shape[1]) * window;
    let radius = if param.name.ends_with(EMBEDDING) { 3.0_f64 } else { 6.0 / fans as f64 }.sqrt();
    let source = NoiseSource::new(seed, &format!("weight\u{0}{}", param.name));
    let mut values = vec![0.0; count];
    values.par_chunks_mut(4).with_min_len(1 << 12).enumerate().for_each(|(block, values)| {
        let words = source.words((block >> 32) as u32, block as u32);
        for (value, word) in values.iter_mut().zip(words) {
            *value = (((f64::from(word) + 0.5) / 2_147_483_648.0 - 1.0) * radius) as f32;
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::presets;

    #[test]
    fn weights_begin_with_the_variance_of_their_fans_and_blocks_as_the_identity() {
        let config = &presets()[4].config;
        let graph = Graph::build(config).unwrap();
        let weights = initial_weights(&graph, 3);
        for param in &graph.params {
            let (shape, values) = &weights[&param.name];
            assert_eq!((shape, values.len()), (&param.shape, param.shape.iter().product()));
            if values.len() < 10_000 || values.iter().all(|v| *v == 0.0) {
                continue;
            }
            let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
            let window: usize = shape[2..].iter().product();
            let expected = 2.0 / ((shape[0] + shape[1]) * window) as f64;
            assert!((variance / expected - 1.0).abs() < 0.05, "{}: {variance} {expected}", param.name);
        }
        let zero = |name: &str| weights[name].1.iter().all(|v| *v == 0.0);
        assert!(zero("final_conv.block.3.weight") && zero("mid.0.attn.out.weight"));
        assert!(zero("downs.1.res_block.block2.block.3.weight") && !zero("downs.0.weight"));
    }

    #[test]
    fn a_parameter_s_draw_depends_on_the_seed_and_its_name_alone() {
        let config = &presets()[4].config;
        let whole = initial_weights(&Graph::build(config).unwrap(), 5);
        let mut smaller = config.clone();
        smaller.channel_mults.pop();
        let part = initial_weights(&Graph::build(&smaller).unwrap(), 5);
        assert_eq!(
            whole["downs.1.res_block.block1.block.3.weight"],
            part["downs.1.res_block.block1.block.3.weight"]
        );
        assert_ne!(
            whole["downs.0.weight"],
            initial_weights(&Graph::build(config).unwrap(), 6)["downs.0.weight"]
        );
    }
}
