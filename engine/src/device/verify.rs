//! Whether a device computes what the CPU does: every operation, whole networks, and a small picture.
//!
//! Each is computed on the device and by our own plan on the CPU. The CPU itself is compared with the plan in plain Rust,
//! without instructions of its own, and may not differ in a bit. Numbers are of normal size, so that a difference is
//! one of the last digits of f32, or something is wrong. What a device promises for itself is verified too: that the
//! same is computed twice, and that an item's result does not depend on its company.

use std::ops::ControlFlow;

use super::Device;
use super::operations::{SIZE_MULTIPLE, operations};
use crate::model::bundled::{Bundled, DEFAULT_MODEL};
use crate::model::{
    Conditions, CpuUNet, Denoiser, DenoiserError, Graph, Heads, Layout, Packed, UNetConfig, Weights,
    random_weights,
};
use crate::ops::{Isa, Precision};
use crate::upscaler::{LowRes, Recipe, RecipeRequest, Upscaler};

/// What a device makes of something, and what the CPU does.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What was computed.
    pub what: String,
    /// Largest absolute difference, of values up to 1; where they are larger, as a share of the largest.
    pub largest: f32,
    /// What it may be.
    pub allowed: f32,
}

impl Difference {
    /// Whether it is no more than it may be.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.largest <= self.allowed
    }
}

/// Of an operation: sums of a few hundred products.
const OPERATION: f32 = 2e-5;
/// Of a whole network, and of a picture in [-1, 1].
const WHOLE: f32 = 1e-4;

/// Computes on `device` and on the CPU, and compares. In f32.
///
/// # Errors
/// One line: the device is not here, or cannot be computed on.
pub fn verify(device: Device) -> Result<Vec<Difference>, String> {
    let pair = Pair { device };
    let mut found = Vec::new();
    for operation in operations() {
        let weights = random_weights(&operation.graph, 3);
        let case = Case { graph: &operation.graph, size_multiple: SIZE_MULTIPLE, weights: &weights };
        found.push(pair.network(operation.name, &case, operation.size, OPERATION)?);
    }
    for (name, config) in networks() {
        let graph = Graph::build(&config).map_err(|e| e.to_string())?;
        let weights = random_weights(&graph, 7);
        let case = Case { graph: &graph, size_multiple: config.size_multiple(), weights: &weights };
        found.push(pair.network(name, &case, SIZE, WHOLE)?);
        found.push(pair.company(name, &case)?);
    }
    found.push(pair.picture()?);
    Ok(found)
}

/// Every kind of layout, in shapes that nothing divides well.
fn networks() -> [(&'static str, UNetConfig); 3] {
    let config = |layout, use_affine_level| UNetConfig {
        layout,
        in_channel: 6,
        out_channel: 3,
        inner_channel: 24,
        norm_groups: 8,
        channel_mults: vec![1, 2],
        attn_res: vec![10],
        res_blocks: 1,
        dropout: 0.0,
        use_affine_level,
        image_size: Some(20),
        heads: Heads::ONE,
        classes: 0,
        learned_variance: false,
        timestep_scale: 1.0,
    };
    [
        ("network of the public layout", config(Layout::Janspiry, false)),
        ("network of the paper's layout", config(Layout::Paper, true)),
        (
            "network of guided-diffusion's layout",
            UNetConfig { heads: Heads::Channels(12), classes: 4, ..config(Layout::Adm, true) },
        ),
    ]
}

/// Rows and columns of what whole networks are shown.
const SIZE: [usize; 2] = [20, 12];
const LEVELS: [f32; 2] = [0.7, 0.2];

/// Numbers around 0, the same every time.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 13) % 2003) as f32 / 1001.5 - 1.0).collect()
}

/// A network.
struct Case<'a> {
    graph: &'a Graph,
    size_multiple: usize,
    weights: &'a Weights,
}

/// A device, and what it is held to.
struct Pair {
    device: Device,
}

impl Pair {
    /// What may be allowed at most of a difference to the CPU: nothing of the CPU's own.
    fn allowed(&self, bound: f32) -> f32 {
        if self.device == Device::Cpu { 0.0 } else { bound }
    }

    fn open(&self, case: &Case<'_>) -> Result<Box<dyn Denoiser>, String> {
        let graph = case.graph.clone();
        let opened =
            self.device.open_graph(graph, case.size_multiple, case.weights, Precision::F32, Packed::Once);
        opened.map_err(|e| e.to_string())
    }

    fn open_reference(&self, case: &Case<'_>) -> Result<Box<dyn Denoiser>, String> {
        let isa = if self.device == Device::Cpu { Isa::Portable } else { Isa::detect() };
        let opened = CpuUNet::of_graph(case.graph.clone(), case.size_multiple, case.weights, isa);
        Ok(Box::new(opened.map_err(|e| e.to_string())?))
    }

    /// Two items of a network on both.
    fn network(
        &self,
        what: &str,
        case: &Case<'_>,
        size: [usize; 2],
        bound: f32,
    ) -> Result<Difference, String> {
        let expected = self.predict(&mut *self.open_reference(case)?, size, &LEVELS)?;
        let found = self.predict(&mut *self.open(case)?, size, &LEVELS)?;
        let largest = largest(&expected, &found);
        Ok(Difference { what: what.to_string(), largest, allowed: self.allowed(bound) })
    }

    /// The first item alone, twice, and beside another.
    fn company(&self, name: &str, case: &Case<'_>) -> Result<Difference, String> {
        let mut network = self.open(case)?;
        let alone = self.predict(&mut *network, SIZE, &LEVELS[..1])?;
        let again = self.predict(&mut *network, SIZE, &LEVELS[..1])?;
        let together = self.predict(&mut *network, SIZE, &LEVELS)?;
        let largest = largest(&alone, &again).max(largest(&alone, &together[..alone.len()]));
        Ok(Difference { what: format!("{name}: twice, and in company"), largest, allowed: 0.0 })
    }

    fn predict(
        &self,
        network: &mut dyn Denoiser,
        [height, width]: [usize; 2],
        levels: &[f32],
    ) -> Result<Vec<f32>, String> {
        let pixels = levels.len() * height * width;
        let mut prediction = vec![0.0; pixels * network.out_channels()];
        let input = numbers(pixels * network.in_channels());
        let labels: Vec<u32> = (0..network.classes().min(levels.len()) as u32).collect();
        let (shape, told) = ([levels.len(), height, width], Conditions { noise: levels, labels: &labels });
        network
            .predict_conditioned(shape, &input, told, &mut prediction)
            .map_err(|e: DenoiserError| format!("{} failed: {e}", self.device))?;
        Ok(prediction)
    }

    /// A picture of several tiles, by the model in the box.
    fn picture(&self) -> Result<Difference, String> {
        let checkpoint = Bundled::find(DEFAULT_MODEL).ok_or("the box is empty")?;
        let checkpoint = checkpoint.checkpoint().map_err(|e| e.to_string())?;
        let request = RecipeRequest {
            preset: Some("one"),
            steps: Some(2),
            tile: Some(32),
            projection: true,
            ..RecipeRequest::default()
        };
        let recipe = Recipe::new(&checkpoint.config, &request).map_err(|e| e.to_string())?;
        let config = &checkpoint.config.model;
        let graph = Graph::build(config).map_err(|e| e.to_string())?;
        let case =
            Case { graph: &graph, size_multiple: config.size_multiple(), weights: &checkpoint.weights };
        let (height, width) = (10, 9);
        // A face of a hill: smooth, with an edge.
        let rgb: Vec<f32> = (0..height * width * 3)
            .map(|i| {
                let (x, y) = (i / 3 % width, i / 3 / width);
                let hill = (x as f32 / width as f32 + y as f32 / height as f32) - 1.0;
                if x > y { hill * 0.8 } else { -hill * 0.5 }
            })
            .collect();
        let enlarge = |network: Box<dyn Denoiser>| -> Result<Vec<f32>, String> {
            let mut upscaler = Upscaler::new(network, recipe.clone()).map_err(|e| e.to_string())?;
            let low = LowRes { width, height, rgb: &rgb, key: "verify", lossy: false };
            let made = upscaler.upscale(&[low], &mut |_| ControlFlow::Continue(()));
            let made = made.map_err(|e| format!("{} failed: {e}", self.device))?;
            made.into_iter().next().map(|made| made.rgb).ok_or_else(|| "nothing came out".to_string())
        };
        let largest = largest(&enlarge(self.open_reference(&case)?)?, &enlarge(self.open(&case)?)?);
        Ok(Difference {
            what: format!("a picture by {DEFAULT_MODEL}"),
            largest,
            allowed: self.allowed(WHOLE),
        })
    }
}

/// NaN counts as infinitely far.
fn largest(expected: &[f32], found: &[f32]) -> f32 {
    if expected.len() != found.len() {
        return f32::INFINITY;
    }
    let size = expected.iter().fold(1.0f32, |size, value| size.max(value.abs()));
    let differences = expected.iter().zip(found).map(|(a, b)| (a - b).abs() / size);
    differences.fold(0.0, |largest, d| if d.is_nan() { f32::INFINITY } else { largest.max(d) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "candle")]
    fn the_code_of_gpus_computes_what_the_plan_does() {
        let found = verify(Device::CandleCpu).unwrap();
        assert!(found.len() > 15, "{found:?}");
        for difference in &found {
            println!("{}: {:.1e} of {:.0e}", difference.what, difference.largest, difference.allowed);
        }
        assert!(found.iter().all(Difference::is_fine), "{found:?}");
        // Two executors: not the same bits, or nothing was compared.
        assert!(found.iter().any(|difference| difference.largest > 0.0), "{found:?}");
    }

    #[test]
    fn the_cpu_computes_what_plain_rust_does_to_the_bit() {
        for difference in verify(Device::Cpu).unwrap() {
            assert_eq!(difference.largest, 0.0, "{}", difference.what);
        }
    }

    #[test]
    fn what_is_no_number_is_no_match() {
        assert_eq!(largest(&[0.0], &[f32::NAN]), f32::INFINITY);
        assert_eq!(largest(&[0.0, 1.0], &[0.5, 1.0]), 0.5);
        assert_eq!(largest(&[0.0, 10.0], &[5.0, 10.0]), 0.5);
        assert_eq!(largest(&[0.0], &[]), f32::INFINITY);
    }
}
