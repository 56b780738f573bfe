//! The whole path with small made-up networks, so that what is known about the network is known about the result.

use std::ops::ControlFlow;

use crate::common::max_difference;
use sr3_engine::diffusion::{LevelSpacing, Objective, Sampler, SamplerError, Target, Tile, TileError};
use sr3_engine::metrics::{Picture, Reduction};
use sr3_engine::model::{Conditions, Denoiser, DenoiserError};
use sr3_engine::ops::Precision;
use sr3_engine::ops::resize::{Filter, resize};
use sr3_engine::upscaler::{LowRes, Recipe, UpscaleError, Upscaled, Upscaler};

/// What the test networks say about one tile: (H, W), its input (H, W, 6), the noise level, the prediction (H, W, 3).
type Rule = fn([usize; 2], &[f32], f32, &mut [f32]);

/// A network that is one rule; counts its calls.
struct Fake {
    rule: Rule,
    channels: usize,
    multiple: usize,
    calls: Vec<[usize; 3]>,
}

impl Denoiser for Fake {
    fn in_channels(&self) -> usize {
        self.channels
    }

    fn out_channels(&self) -> usize {
        3
    }

    fn size_multiple(&self) -> usize {
        self.multiple
    }

    fn predict_conditioned(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        let [batch, height, width] = shape;
        assert!(height % self.multiple == 0 && width % self.multiple == 0);
        assert_eq!(
            (input.len(), prediction.len()),
            (batch * height * width * self.channels, batch * height * width * 3)
        );
        assert_eq!(conditions.noise.len(), batch);
        let items = input
            .chunks_exact(height * width * self.channels)
            .zip(prediction.chunks_exact_mut(height * width * 3));
        for ((input, prediction), &level) in items.zip(conditions.noise) {
            (self.rule)([height, width], input, level, prediction);
        }
        self.calls.push(shape);
        Ok(())
    }
}

/// A rule that looks at the whole tile, as group norm and attention do, and at each pixel's place in it.
fn tile_dependent([height, width]: [usize; 2], input: &[f32], level: f32, prediction: &mut [f32]) {
    let mean = input.iter().sum::<f32>() / (height * width) as f32;
    for (i, out) in prediction.iter_mut().enumerate() {
        let (pixel, c) = (i / 3, i % 3);
        let place = (pixel / width) as f32 / height as f32 - (pixel % width) as f32 / width as f32;
        *out = level * input[pixel * 6 + 3 + c] - 0.3 * input[pixel * 6 + c] + 0.2 * mean + 0.1 * place;
    }
}

/// A rule without any context.
fn pointwise(_: [usize; 2], input: &[f32], level: f32, prediction: &mut [f32]) {
    for (i, out) in prediction.iter_mut().enumerate() {
        let (up, x) = (input[i / 3 * 6 + i % 3], input[i / 3 * 6 + 3 + i % 3]);
        *out = 0.7 * level * x - 0.5 * up * (1.0 - level);
    }
}

/// Predicts the enlarged input.
fn echo(_: [usize; 2], input: &[f32], _: f32, prediction: &mut [f32]) {
    for (i, out) in prediction.iter_mut().enumerate() {
        *out = input[i / 3 * 6 + i % 3];
    }
}

fn zero(_: [usize; 2], _: &[f32], _: f32, prediction: &mut [f32]) {
    prediction.fill(0.0);
}

fn not_a_number(_: [usize; 2], _: &[f32], _: f32, prediction: &mut [f32]) {
    prediction.fill(f32::NAN);
}

fn recipe() -> Recipe {
    Recipe {
        objective: Objective::V,
        target: Target::Residual { scale: 4.0 },
        sampler: Sampler::Dpmpp2m,
        noise_levels: LevelSpacing::LogSnr { first: -7.0, last: 7.0 }.levels(5).unwrap(),
        end: 1.0,
        clamp: true,
        learned_variance: false,
        timesteps: None,
        enlargement: Filter::Bicubic,
        reduction: Filter::Bicubic,
        scale: 4,
        tile: Tile { size: 32, overlap: 8 },
        batch: 2,
        seed: 11,
        class: None,
        projection: true,
        precision: Precision::F32,
    }
}

/// One that says what it predicts, the image itself.
fn plain() -> Recipe {
    Recipe { objective: Objective::Image, target: Target::Image, ..recipe() }
}

fn upscaler(rule: Rule, recipe: Recipe) -> Upscaler<Fake> {
    Upscaler::new(Fake { rule, channels: 6, multiple: 4, calls: vec![] }, recipe).unwrap()
}

fn go_on(_: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A smooth picture with values in [-0.9, 0.9], different for each `phase`.
fn picture(height: usize, width: usize, phase: f32) -> Vec<f32> {
    let value = |i: usize| {
        let (y, x, c) = ((i / 3 / width) as f32, (i / 3 % width) as f32, (i % 3) as f32);
        0.9 * (0.9 * y + c + phase).sin() * (0.6 * x - c * phase).cos()
    };
    (0..height * width * 3).map(value).collect()
}

fn low<'a>(rgb: &'a [f32], height: usize, width: usize, key: &'a str) -> LowRes<'a> {
    LowRes { width, height, rgb, key, lossy: false }
}

fn one(rule: Rule, recipe: Recipe, image: LowRes<'_>) -> Upscaled {
    upscaler(rule, recipe).upscale(&[image], &mut go_on).unwrap().remove(0)
}

#[test]
fn what_is_stopped_early_has_the_noise_that_was_asked_for_on_it() {
    let rgb = picture(16, 16, 0.4);
    let early =
        |recipe: Recipe, deviation| Recipe { projection: false, ..recipe }.truncated(deviation).unwrap();
    // Each says that there is nothing beside the noise: a grey picture, or the enlarged input.
    for (target, expected) in [(Target::Image, None), (recipe().target, Some(()))] {
        for sampler in [Sampler::Ddim { eta: 0.0 }, Sampler::AncestralPosterior] {
            let whole =
                Recipe { objective: Objective::Image, target, sampler, projection: false, ..recipe() };
            let without = one(zero, whole.clone(), low(&rgb, 16, 16, "a")).rgb;
            let with = one(zero, early(whole.clone(), 0.1), low(&rgb, 16, 16, "a")).rgb;
            // Where the picture is near white or black, noise is cut.
            let noise = with.iter().zip(&without).filter(|(_, plain)| plain.abs() < 0.6).map(|(a, b)| a - b);
            let squares: Vec<f64> = noise.map(|v| f64::from(v).powi(2)).collect();
            let found = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
            assert!(squares.len() > 1000 && (found - 0.1).abs() < 0.005, "{sampler}, {target:?}: {found}");
            assert_eq!(without.iter().all(|v| *v == 0.0), expected.is_none());
        }
    }
    let error = plain().truncated(1e6).unwrap_err();
    assert!(error.to_string().contains("more than sampling begins with"), "{error}");
}

#[test]
fn a_network_that_sees_no_x_t_is_asked_once_and_its_answer_is_the_picture() {
    fn darker(_: [usize; 2], input: &[f32], level: f32, prediction: &mut [f32]) {
        assert_eq!(level, 0.0);
        prediction.iter_mut().zip(input).for_each(|(out, seen)| *out = 0.5 * seen);
    }
    let rgb = picture(16, 24, 0.5);
    let image = low(&rgb, 16, 24, "a");
    let regression = || Fake { rule: darker, channels: 3, multiple: 4, calls: vec![] };
    let recipe = Recipe { projection: false, ..plain() };
    let mut upscaler = Upscaler::new(regression(), recipe.clone()).unwrap();
    let made = upscaler.upscale(&[image], &mut go_on).unwrap().remove(0);
    let mut expected = resize(&rgb, [16, 24, 3], [64, 96], Filter::Bicubic);
    expected.iter_mut().for_each(|v| *v = 0.5 * v.clamp(-1.0, 1.0));
    assert!(max_difference(&made.rgb, &expected) < 1e-6);
    let tiles: usize = upscaler.into_denoiser().calls.iter().map(|shape| shape[0]).sum();
    assert_eq!(tiles, 3 * 4, "each tile once, though the recipe has five steps");
    // One that predicts noise must see it.
    let refused = Upscaler::new(regression(), Recipe { objective: Objective::Noise, ..recipe });
    assert!(matches!(refused, Err(UpscaleError::Channels { inputs: 3, outputs: 3 })));
}

#[test]
fn batch_company_and_threads_do_not_show() {
    let (a, b, c) = (picture(19, 27, 0.0), picture(5, 3, 1.0), picture(27, 19, 2.0));
    let images = [low(&a, 19, 27, "a"), low(&b, 5, 3, "b"), low(&c, 27, 19, "c")];
    for sampler in
        [Sampler::Dpmpp2m, Sampler::AncestralPosterior, Sampler::Ddim { eta: 0.4 }, Sampler::Ancestral]
    {
        let recipe = |batch| Recipe { sampler, batch, ..recipe() };
        let alone: Vec<Upscaled> =
            images.iter().map(|&image| one(tile_dependent, recipe(1), image)).collect();
        for batch in [1, 2, 5] {
            let together = upscaler(tile_dependent, recipe(batch)).upscale(&images, &mut go_on).unwrap();
            assert!(together == alone, "{sampler:?}, batch {batch}");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let again = pool.install(|| one(tile_dependent, recipe(2), images[0]));
            assert!(again == alone[0], "{sampler:?}, {threads} threads");
        }
    }
}

#[test]
fn tiles_of_one_shape_share_batches_across_images() {
    let (a, b) = (picture(8, 8, 0.0), picture(8, 8, 1.0));
    let mut upscaler = upscaler(tile_dependent, Recipe { batch: 2, ..recipe() });
    upscaler.upscale(&[low(&a, 8, 8, "a"), low(&b, 8, 8, "b")], &mut go_on).unwrap();
    assert_eq!(upscaler.into_denoiser().calls, [[2, 32, 32]; 5]);
}

#[test]
fn seed_and_key_change_the_result() {
    let rgb = picture(9, 9, 0.0);
    let result = |seed, key| one(tile_dependent, Recipe { seed, ..recipe() }, low(&rgb, 9, 9, key)).rgb;
    let first = result(1, "a");
    assert_eq!(first, result(1, "a"));
    assert_ne!(first, result(2, "a"));
    assert_ne!(first, result(1, "b"));
}

#[test]
fn a_network_without_context_shows_no_tiles() {
    let rgb = picture(25, 33, 0.5);
    for sampler in [Sampler::Dpmpp2m, Sampler::Ancestral] {
        let cut = |size, overlap| {
            let recipe = Recipe { sampler, tile: Tile { size, overlap }, ..recipe() };
            one(pointwise, recipe, low(&rgb, 25, 33, "a")).rgb
        };
        let whole = cut(256, 0);
        for (size, overlap) in [(32, 8), (64, 40), (16, 0)] {
            let difference = max_difference(&cut(size, overlap), &whole);
            assert!(difference < 1e-5, "{sampler:?}, tiles of {size}: {difference}");
        }
    }
}

#[test]
fn any_scale_has_its_very_size_and_reduces_to_its_input() {
    let (height, width) = (9, 14);
    let rgb: Vec<f32> =
        (0..height * width * 3).map(|i| ((i * 37 % 101) as f32 / 101.0 - 0.5) * 0.6).collect();
    for scale in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 20] {
        let mut done = Vec::new();
        let mut listen = |share: f64| {
            done.push(share);
            ControlFlow::Continue(())
        };
        let image = low(&rgb, height, width, "a");
        let result = upscaler(echo, plain()).enlarge(&image, scale, &mut listen).unwrap();
        assert_eq!([result.height, result.width], [height * scale, width * scale], "{scale}");
        assert_eq!(result.rgb.len(), 3 * height * width * scale * scale);
        assert!(result.consistency_error < 1e-7, "{scale}: {}", result.consistency_error);
        assert!(done.is_sorted() && (done.last().unwrap() - 1.0).abs() < 1e-9, "{scale}: {:?}", done.last());
    }
}

#[test]
fn a_dithered_picture_keeps_its_brightness() {
    // Four of five pixels white, and nothing between.
    let (height, width) = (40, 48);
    let dots = |i: usize| if (i * 7).is_multiple_of(5) { -1.0 } else { 1.0 };
    let rgb: Vec<f32> = (0..height * width).flat_map(|i| [dots(i % width + 3 * (i / width)); 3]).collect();
    let result = one(echo, plain(), low(&rgb, height, width, "a"));
    let mean = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    let shift = 127.5 * (mean(&result.rgb) - mean(&rgb));
    assert!(shift.abs() < 0.6, "{shift} levels of 255");
}

#[test]
fn a_network_that_says_nothing_new_gives_the_enlarged_input() {
    let rgb = picture(13, 30, 0.5);
    let up: Vec<f32> = resize(&rgb, [13, 30, 3], [52, 120], Filter::Bicubic);
    let up: Vec<f32> = up.into_iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let plain = Recipe { projection: false, ..recipe() };
    let residual = one(zero, Recipe { objective: Objective::Image, ..plain.clone() }, low(&rgb, 13, 30, "a"));
    let image = Recipe { objective: Objective::Image, target: Target::Image, ..plain };
    let image = one(echo, image, low(&rgb, 13, 30, "a"));
    for result in [residual, image] {
        assert_eq!((result.width, result.height), (120, 52));
        assert!(max_difference(&result.rgb, &up) < 1e-6);
    }
}

#[test]
fn results_reduce_to_their_inputs() {
    for (height, width) in [(1, 7), (7, 1), (3, 3), (25, 19), (40, 33)] {
        let rgb = picture(height, width, 0.3);
        let image = low(&rgb, height, width, "a");
        let off = one(tile_dependent, Recipe { projection: false, ..recipe() }, image);
        let on = one(tile_dependent, recipe(), image);
        assert!(off.consistency_error > 1e-4, "the made-up network paints: {}", off.consistency_error);
        assert!(on.consistency_error < 1e-5, "{height}×{width}: {}", on.consistency_error);
        assert!(on.rgb.iter().all(|v| (-1.0..=1.0).contains(v)));
        // The same number, measured from bytes by the metric that users see: roots differ by less than a byte's step.
        let bytes = |rgb: &[f32]| rgb.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect::<Vec<u8>>();
        let (output, input) = (bytes(&off.rgb), bytes(&rgb));
        let output = Picture::new(off.width, off.height, &output).unwrap();
        let input = Picture::new(width, height, &input).unwrap();
        let measured = sr3_engine::metrics::consistency(output, input, Reduction::Float).unwrap();
        let apart = (measured.sqrt() - off.consistency_error.sqrt()).abs();
        assert!(apart < 1.0 / 255.0, "{measured} {}", off.consistency_error);
    }
}

#[test]
fn lossy_inputs_are_met_only_as_far_as_they_can_be_trusted() {
    let rgb = picture(25, 19, 0.3);
    let image = LowRes { lossy: true, ..low(&rgb, 25, 19, "a") };
    let error = one(tile_dependent, recipe(), image).consistency_error;
    assert!((error - 4e-5).abs() < 1e-6, "{error}");
}

#[test]
fn one_colour_stays_that_colour_without_the_network() {
    let colour = [0.1, -0.7, 1.0];
    for (height, width) in [(1, 1), (7, 5), (300, 1)] {
        let rgb = colour.repeat(height * width);
        let mut upscaler = upscaler(not_a_number, recipe());
        let result = upscaler.upscale(&[low(&rgb, height, width, "a")], &mut go_on).unwrap().remove(0);
        assert_eq!((result.height, result.width), (4 * height, 4 * width));
        assert!(result.rgb.chunks_exact(3).all(|pixel| pixel == colour));
        assert_eq!(result.consistency_error, 0.0);
        assert!(upscaler.into_denoiser().calls.is_empty());
    }
}

#[test]
fn flat_images_keep_their_place_among_others() {
    let (a, flat) = (picture(6, 6, 0.0), vec![0.25; 2 * 3 * 3]);
    let images = [low(&flat, 2, 3, "flat"), low(&a, 6, 6, "a"), low(&flat, 3, 2, "flat too")];
    let results = upscaler(tile_dependent, recipe()).upscale(&images, &mut go_on).unwrap();
    let sizes: Vec<(usize, usize)> = results.iter().map(|r| (r.height, r.width)).collect();
    assert_eq!(sizes, [(8, 12), (24, 24), (12, 8)]);
    assert_eq!(results[1], one(tile_dependent, recipe(), images[1]));
}

#[test]
fn progress_rises_to_one_and_a_break_ends_the_work() {
    let rgb = picture(20, 20, 0.0);
    let mut heard = vec![];
    let mut listen = |share| {
        heard.push(share);
        ControlFlow::Continue(())
    };
    upscaler(tile_dependent, recipe()).upscale(&[low(&rgb, 20, 20, "a")], &mut listen).unwrap();
    assert!(heard.is_sorted_by(|a, b| a < b) && heard[0] > 0.0 && heard.last() == Some(&1.0), "{heard:?}");

    let mut upscaler = upscaler(tile_dependent, recipe());
    let stopped = upscaler.upscale(&[low(&rgb, 20, 20, "a")], &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(UpscaleError::Cancelled)));
    assert_eq!(upscaler.into_denoiser().calls.len(), 1);
}

#[test]
fn bad_input_is_an_error_that_names_the_image() {
    let rgb = picture(4, 4, 0.0);
    let mut upscaler = upscaler(not_a_number, recipe());
    let mut refuse = |image| upscaler.upscale(&[image], &mut go_on).unwrap_err();
    assert!(matches!(refuse(low(&rgb, 4, 4, "k")), UpscaleError::NotFinite { key } if key == "k"));
    assert!(matches!(refuse(low(&rgb, 4, 5, "k")), UpscaleError::Pixels { key, .. } if key == "k"));
    assert!(matches!(refuse(low(&[], 0, 5, "k")), UpscaleError::Pixels { .. }));
    assert!(matches!(refuse(low(&rgb, usize::MAX, 2, "k")), UpscaleError::Pixels { .. }));
    let huge = Recipe { scale: usize::MAX / 8, ..recipe() };
    let refused = self::upscaler(zero, huge).upscale(&[low(&rgb, 4, 4, "k")], &mut go_on);
    assert!(matches!(refused, Err(UpscaleError::TooLarge { key, .. }) if key == "k"));
    let broken: Vec<f32> = rgb.iter().enumerate().map(|(i, &v)| if i == 7 { f32::NAN } else { v }).collect();
    let refused = self::upscaler(tile_dependent, recipe()).upscale(&[low(&broken, 4, 4, "k")], &mut go_on);
    assert!(matches!(refused, Err(UpscaleError::NotFinite { .. })));
}

#[test]
fn unusable_recipes_are_refused_at_once() {
    let refuse = |recipe| {
        Upscaler::new(Fake { rule: zero, channels: 6, multiple: 4, calls: vec![] }, recipe).err().unwrap()
    };
    assert!(matches!(refuse(Recipe { batch: 0, ..recipe() }), UpscaleError::Zero { name: "batch" }));
    assert!(matches!(refuse(Recipe { scale: 0, ..recipe() }), UpscaleError::Zero { name: "scale" }));
    let levels = |noise_levels| refuse(Recipe { noise_levels, ..recipe() });
    assert!(matches!(levels(vec![]), UpscaleError::Sampler(SamplerError::NoLevels)));
    assert!(matches!(
        levels(vec![0.9, 0.5]),
        UpscaleError::Sampler(SamplerError::NotRising { index: 1, .. })
    ));
    let tile = refuse(Recipe { tile: Tile { size: 8, overlap: 9 }, ..recipe() });
    assert!(matches!(tile, UpscaleError::Tile(TileError::Overlap { .. })));
    for scale in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        let target = refuse(Recipe { target: Target::Residual { scale }, ..recipe() });
        assert!(matches!(target, UpscaleError::ResidualScale { .. }));
    }
}
