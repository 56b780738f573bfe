//! From a spec to an order: names to digests, defaults spelt out, and whether the stages make a cascade.

use sr3_engine::{
    model::{Preset, checkpoint::CheckpointConfig, presets},
    ops::Precision,
};
use sr3_proto::Digest;

use super::{
    order::{GenerateOrder, StageOrder},
    spec::{GenerateSpec, StageSpec},
    stage::{Asked, Way},
};
use crate::{
    Dtype,
    models::Library,
    upscale::{Bits, engine_models},
};

/// Pixels of a unit, in what its stage makes: a second's work of a small network.
const UNIT_PIXELS: u64 = 1 << 16;
/// Most samples of a unit.
const UNIT_SAMPLES_MAX: u64 = 64;
/// A small job is cut into about so many units a stage, so that workers end together.
const UNITS_LEAST: u64 = 32;

/// What is wrong with a spec: the field, and why.
pub(super) type Wrong = (&'static str, String);

/// What a spec comes to, with these bits. May block.
///
/// # Errors
/// [`Wrong`].
pub(super) fn resolve(spec: &GenerateSpec, library: &Library, bits: &Bits) -> Result<GenerateOrder, Wrong> {
    resolve_with(spec, &|model| library.config(model).map_err(|e| e.to_string()), bits)
}

/// The same with published networks, by their names, beside models: for plans.
pub(super) fn plan(spec: &GenerateSpec, library: &Library, bits: &Bits) -> Result<GenerateOrder, Wrong> {
    let config = |model: &str| match network(model) {
        Some(network) => Ok(network.untrained()),
        None => library.config(model).map_err(|e| e.to_string()),
    };
    resolve_with(spec, &config, bits)
}

/// The published network of that name.
pub(super) fn network(name: &str) -> Option<Preset> {
    presets().into_iter().find(|preset| preset.name == name)
}

fn resolve_with(
    spec: &GenerateSpec,
    config: &dyn Fn(&str) -> Result<CheckpointConfig, String>,
    bits: &Bits,
) -> Result<GenerateOrder, Wrong> {
    let job = &spec.job;
    let mut configs = Vec::new();
    for (number, stage) in job.stages.iter().enumerate() {
        configs.push(config(&stage.model).map_err(|e| of_stage(number, &e))?);
    }
    let (classes, class_names) = classes(spec, &configs)?;
    let f32_bits = Bits::default();
    let mut stages = Vec::new();
    let mut side = 0;
    for (number, (stage, config)) in job.stages.iter().zip(&configs).enumerate() {
        let given = Place {
            makes: number == 0 && job.source.is_none(),
            given: side,
            truncated: job.stages.get(number + 1).filter(|next| next.truncated).and_then(|next| next.noise),
            bits: match stage.dtype.unwrap_or(job.dtype) {
                Dtype::F32 if bits.dtype == Dtype::Bf16 => &f32_bits,
                _ => bits,
            },
            seed: job.seed,
        };
        let resolved = resolve_stage(stage, config, given).map_err(|e| of_stage(number, &e))?;
        side = resolved.side;
        stages.push(resolved);
    }
    for stage in &mut stages {
        stage.samples = samples_of_a_unit(stage.side, job.count);
    }
    Ok(GenerateOrder {
        destination: job.destination.clone(),
        count: job.count.unwrap_or(0),
        source: job.source.clone(),
        selection: spec.selection.clone(),
        classes,
        class_names,
        stages,
        keep_stages: job.keep_stages,
        seed: job.seed,
        class: bits.class.clone(),
    })
}

/// Where a stage stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// It makes pictures of noise.
    makes: bool,
    /// Side of the pictures that it is given; 0 where that is not known.
    given: u64,
    /// Noise at which it is stopped early, of 255.
    truncated: Option<f64>,
    bits: &'a Bits,
    seed: u64,
}

fn of_stage(number: usize, what: &str) -> Wrong {
    ("stages", format!("stage {}: {what}", number + 1))
}

fn resolve_stage(
    stage: &StageSpec,
    config: &CheckpointConfig,
    place: Place<'_>,
) -> Result<StageOrder, String> {
    let Place { makes, given, bits, seed, .. } = place;
    let truncated = place.truncated.unwrap_or(0.0);
    let preset = stage.preset.clone().unwrap_or_else(|| config.default_preset.clone());
    let guidance = stage.guidance.unwrap_or(1.0);
    let asked = Asked {
        preset: Some(&preset),
        sampler: stage.sampler.as_deref(),
        steps: stage.steps,
        guidance,
        truncated,
        projection: stage.projection,
        seed,
        precision: Precision::F32,
    };
    let way = Way::new(config, makes, asked)?;
    let scale = if makes { 1 } else { config.scale as u64 };
    let side = match &way {
        Way::Make(recipe) => recipe.size[0] as u64,
        Way::Enlarge(_) => given * scale,
    };
    if let Some(own) = config.model.image_size.filter(|own| given > 0 && *own as u64 != side) {
        return Err(format!(
            "its model makes {own} pixels of {}, and the stage before makes {given}: the sizes do not chain",
            own / config.scale
        ));
    }
    for (name, value, trained) in
        [("blur", stage.blur, config.degradation.blur), ("noise", stage.noise, config.degradation.noise)]
    {
        let Some(value) = value.filter(|value| *value > 0.0) else { continue };
        match trained {
            Some([from, to]) if (from..=to).contains(&value) => {}
            Some([from, to]) => {
                return Err(format!("{name} is {value}, and its model has learned from {from} to {to}"));
            }
            None => {
                return Err(format!("{name} is {value}, and its model has learned without: leave it out"));
            }
        }
    }
    Ok(StageOrder {
        model: stage.model.clone(),
        model_name: config.name.clone(),
        sha256: Digest::try_from(config.sha256.clone()).map_err(|e| e.to_string())?,
        preset,
        sampler: stage.sampler.clone(),
        steps: stage.steps,
        sampling: way.sampling(),
        guidance,
        blur: stage.blur.unwrap_or(0.0),
        // Of a truncated stage it is there already.
        noise: stage.noise.filter(|_| !stage.truncated).unwrap_or(0.0),
        truncated,
        projection: stage.projection,
        dtype: bits.dtype,
        class: bits.class.clone(),
        told_class: config.model.classes > 0,
        side,
        scale,
        evaluations: way.evaluations() as u64,
        samples: 1,
        memory_bytes: engine_models::memory(config).map_err(|e| e.to_string())?,
    })
}

/// What samples show, in turn, as numbers and as names.
fn classes(spec: &GenerateSpec, configs: &[CheckpointConfig]) -> Result<(Vec<u32>, Vec<String>), Wrong> {
    let job = &spec.job;
    let labels = |config: &CheckpointConfig| config.model.classes - usize::from(config.any_class);
    let mut told = configs.iter().enumerate().filter(|(_, config)| config.model.classes > 0);
    let Some((first, config)) = told.next() else {
        return match job.classes.is_empty() {
            true => Ok((Vec::new(), Vec::new())),
            false => {
                Err(("classes", "no model here is told what a sample shows: leave them out".to_string()))
            }
        };
    };
    if let Some((other, config)) = told.find(|(_, other)| labels(other) != labels(config)) {
        return Err(of_stage(
            other,
            &format!("its model knows {} classes, and that of stage {} others", labels(config), first + 1),
        ));
    }
    let number = |text: &String| {
        let by_name = config.class_names.iter().position(|name| name == text);
        let found = by_name.or_else(|| text.parse().ok().filter(|number| *number < labels(config)));
        found.map(|number| number as u32).ok_or_else(|| unknown(text, config, labels(config)))
    };
    let classes: Vec<u32> = match job.classes.is_empty() {
        true => (0..labels(config) as u32).collect(),
        false => job.classes.iter().map(number).collect::<Result<_, _>>()?,
    };
    let distinct: std::collections::BTreeSet<_> = classes.iter().collect();
    if distinct.len() < classes.len() {
        return Err(("classes", "one is there twice".to_string()));
    }
    if job.source.is_some() && classes.len() != 1 {
        let message = "name the one class that all pictures of the source show";
        return Err(("classes", message.to_string()));
    }
    let names = classes.iter().filter_map(|class| config.class_names.get(*class as usize)).cloned().collect();
    Ok((classes, names))
}

fn unknown(text: &str, config: &CheckpointConfig, labels: usize) -> Wrong {
    let near = config.class_names.iter().min_by_key(|name| strsim::damerau_levenshtein(name, text));
    let hint = match near {
        Some(near) => format!(": did you mean `{near}`? It knows {labels}, numbered from 0"),
        None => format!(": it knows {labels}, numbered from 0"),
    };
    ("classes", format!("the model has no class `{text}`{hint}"))
}

/// A power of two, so that units of a later stage, which has larger pictures, divide those of an earlier one.
fn samples_of_a_unit(side: u64, count: Option<u64>) -> u64 {
    let by_pixels = UNIT_PIXELS.checked_div(side * side).unwrap_or(1).clamp(1, UNIT_SAMPLES_MAX);
    let by_count = count.unwrap_or(u64::MAX).div_ceil(UNITS_LEAST);
    1 << by_pixels.min(by_count).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_a_later_stage_divide_those_of_an_earlier_one() {
        for count in [None, Some(1), Some(100), Some(50_000)] {
            let units = [16, 48, 64, 256, 1024].map(|side| samples_of_a_unit(side, count));
            assert!(units.windows(2).all(|pair| pair[0].is_multiple_of(pair[1])), "{units:?}");
        }
        assert_eq!([32, 64, 256, 0].map(|side| samples_of_a_unit(side, Some(50_000))), [64, 16, 1, 1]);
        assert_eq!(samples_of_a_unit(32, Some(100)), 4, "a small job is cut finer");
    }
}
