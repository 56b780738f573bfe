//! Pictures made of noise: a function of the seed, the key and the class, whatever else is made.

use std::ops::ControlFlow;

use sr3_engine::diffusion::{Objective, Sampler};
use sr3_engine::generator::{GenerateError, Generator, GeneratorRecipe, Wanted};
use sr3_engine::model::checkpoint::NoiseSchedule;
use sr3_engine::model::{
    Conditions, CpuUNet, Denoiser, DenoiserError, Graph, Heads, Layout, UNetConfig, initial_weights,
};
use sr3_engine::ops::{Isa, Precision};

fn config() -> UNetConfig {
    UNetConfig {
        layout: Layout::Iddpm,
        in_channel: 3,
        out_channel: 6,
        inner_channel: 8,
        norm_groups: 4,
        channel_mults: vec![1, 2],
        attn_res: vec![],
        res_blocks: 1,
        dropout: 0.0,
        use_affine_level: true,
        image_size: Some(16),
        heads: Heads::Count(2),
        classes: 4,
        learned_variance: true,
        timestep_scale: 1.0,
    }
}

fn network() -> CpuUNet {
    let mut weights = initial_weights(&Graph::build(&config()).unwrap(), 3);
    for (_, values) in weights.values_mut() {
        values.iter_mut().enumerate().for_each(|(i, v)| *v += (i % 17) as f32 * 0.003 - 0.024);
    }
    CpuUNet::new(&config(), &weights, Isa::detect()).unwrap()
}

fn recipe(sampler: Sampler) -> GeneratorRecipe {
    let process = NoiseSchedule::Cosine { timesteps: 100, s: 0.008 }.process().unwrap();
    let noise_levels = [99, 60, 30, 0].map(|t| process.noise_level(t + 1)).to_vec();
    GeneratorRecipe {
        size: [16, 16],
        objective: Objective::Noise,
        learned_variance: true,
        timesteps: Some(process),
        sampler,
        noise_levels,
        end: 1.0,
        classes: 3,
        any_class: Some(3),
        guidance: 1.0,
        batch: 8,
        seed: 7,
        precision: Precision::F32,
    }
}

fn make(recipe: GeneratorRecipe, wanted: &[(&str, u32)]) -> Vec<Vec<f32>> {
    let wanted: Vec<_> = wanted.iter().map(|(key, class)| Wanted { key, class: Some(*class) }).collect();
    let mut generator = Generator::new(network(), recipe).unwrap();
    let made = generator.generate(&wanted, &mut |_| ControlFlow::Continue(())).unwrap();
    made.into_iter().map(Option::unwrap).collect()
}

#[test]
fn a_picture_depends_on_its_key_and_class_alone() {
    for sampler in [Sampler::AncestralLearned, Sampler::Ddim { eta: 0.5 }, Sampler::Dpmpp2m] {
        for guidance in [1.0, 2.5] {
            let recipe = GeneratorRecipe { guidance, ..recipe(sampler) };
            let all = make(recipe.clone(), &[("a", 0), ("b", 1), ("a", 2)]);
            let alone = make(GeneratorRecipe { batch: 1, ..recipe.clone() }, &[("b", 1)]);
            assert_eq!(alone[0], all[1], "{sampler}, guidance {guidance}");
            assert!(all[0] != all[2] && all[0] != all[1]);
            let other = make(GeneratorRecipe { seed: 8, ..recipe }, &[("b", 1)]);
            assert!(other[0] != all[1]);
        }
    }
}

#[test]
fn guidance_of_one_is_none_and_more_of_it_changes_more() {
    let with = |guidance| {
        make(GeneratorRecipe { guidance, ..recipe(Sampler::Ddim { eta: 0.0 }) }, &[("a", 1)]).remove(0)
    };
    let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
    let (plain, some, more) = (with(1.0), with(1.5), with(4.0));
    assert!(0.0 < far(&plain, &some) && far(&plain, &some) < far(&plain, &more));
}

#[test]
fn a_class_that_is_not_there_is_named() {
    let mut generator = Generator::new(network(), recipe(Sampler::Dpmpp2m)).unwrap();
    // The last one stands for any: nobody asks for it.
    for class in [Some(3), None] {
        let wanted = [Wanted { key: "sample 4", class }];
        let error = generator.generate(&wanted, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, GenerateError::Class { .. }));
        assert!(error.to_string().starts_with("sample 4: class "), "{error}");
    }
}

/// Knows that every picture is gray: all that it is given is noise.
struct Gray;

impl Denoiser for Gray {
    fn in_channels(&self) -> usize {
        3
    }

    fn out_channels(&self) -> usize {
        3
    }

    fn size_multiple(&self) -> usize {
        1
    }

    fn predict_conditioned(
        &mut self,
        [count, ..]: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        let values = input.len() / count;
        for (index, level) in conditions.noise.iter().enumerate() {
            let share = (1.0 - level * level).sqrt();
            let of = index * values..(index + 1) * values;
            prediction[of.clone()].iter_mut().zip(&input[of]).for_each(|(said, x)| *said = x / share);
        }
        Ok(())
    }
}

#[test]
fn a_picture_that_is_stopped_early_has_the_noise_that_was_asked_for() {
    let noise_levels = vec![0.05, 0.3, 0.6, 0.9, 0.99, 0.999];
    for sampler in [Sampler::Ddim { eta: 0.0 }, Sampler::Ddim { eta: 1.0 }, Sampler::AncestralPosterior] {
        let whole = GeneratorRecipe {
            size: [64, 64],
            learned_variance: false,
            timesteps: None,
            noise_levels: noise_levels.clone(),
            classes: 0,
            any_class: None,
            ..recipe(sampler)
        };
        let made = |recipe: GeneratorRecipe| {
            let wanted = [Wanted { key: "a", class: None }];
            let mut generator = Generator::new(Gray, recipe).unwrap();
            generator.generate(&wanted, &mut |_| ControlFlow::Continue(())).unwrap().remove(0).unwrap()
        };
        let deviation = |picture: &[f32]| {
            let squares: f64 = picture.iter().map(|v| f64::from(*v).powi(2)).sum();
            (squares / picture.len() as f64).sqrt()
        };
        assert!(deviation(&made(whole.clone())) < 1e-5, "{sampler}");
        let early = whole.truncated(0.1).unwrap();
        assert_eq!(early.noise_levels, noise_levels[..5], "levels beyond are not walked");
        let found = deviation(&made(early));
        assert!((found - 0.1).abs() < 0.005, "{sampler}: {found}");
    }
    let error = recipe(Sampler::Dpmpp2m).truncated(1e6).unwrap_err();
    assert!(error.to_string().contains("more than sampling begins with"), "{error}");
}
