//! What `sr3 train` shows a network in its first steps, for another program to learn from the same.
//!
//! `training_samples PICTURES OUT STEPS BATCH HIGH LOW SEED CONFIG.json` writes to OUT: the weights that it begins with
//! (`model.safetensors`), and for each step one file of little-endian f32, `step-N.f32`: what the network is given (N, H, W, 6), the
//! noise levels (N), and what it should say (N, H, W, 3). All of a spec that these arguments do not say is as its defaults
//! are; the pictures are taken in the order of their names. scripts/compare_training.py reads it.

use std::{error::Error, fs, path::Path};

use sr3_engine::diffusion::{LevelDraw, Loss, Objective, Target};
use sr3_engine::image::{self, DecodeLimits};
use sr3_engine::model::checkpoint::{Degradation, NoiseSchedule};
use sr3_engine::model::{Graph, UNetConfig, initial_weights};
use sr3_engine::train::{
    Crop, Draws, Example, Noise, Orientations, Permutation, Preprocessing, Square, Task, TrainingLevels,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pictures, out, steps, batch, high, low, seed, config] = arguments.as_slice() else {
        return Err("PICTURES OUT STEPS BATCH HIGH LOW SEED CONFIG.json".into());
    };
    let (steps, batch, seed): (u64, u64, u64) = (steps.parse()?, batch.parse()?, seed.parse()?);
    let out = Path::new(out);
    fs::create_dir_all(out)?;

    let config: UNetConfig = serde_json::from_slice(&fs::read(config)?)?;
    let weights = initial_weights(&Graph::build(&config)?, seed);
    let lists: Vec<_> = weights
        .iter()
        .map(|(name, (shape, values))| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name.clone(), shape.clone(), bytes)
        })
        .collect();
    let views = lists.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        view.map(|view| (name.clone(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    safetensors::serialize_to_file(views, None, &out.join("model.safetensors"))?;

    let preprocessing = Preprocessing {
        high_res: high.parse()?,
        low_res: Some(low.parse()?),
        crop: Crop::Centre,
        orientations: Orientations::Flip,
        degradation: Degradation::PAPER,
    };
    let schedule = NoiseSchedule::Linear { start: 1e-6, end: 0.01, timesteps: 2000 };
    let levels = TrainingLevels::new(&schedule, LevelDraw::Gamma)?;
    let task = Task {
        low_res: true,
        objective: Some(Objective::Noise),
        target: Target::Image,
        loss: Loss::L1,
        noise: Noise::Levels(levels),
        classes: 0,
        label_dropout: 0.0,
        learned_variance: false,
    };
    let draws = Draws::new(seed);
    let mut kept = Vec::new();
    for path in files(Path::new(pictures))? {
        let picture = image::decode(&fs::read(path)?, &DecodeLimits::default())?.picture;
        kept.push(preprocessing.keep(Square::from(&image::to_planes(&picture))));
    }
    let permutation = Permutation::new(seed, kept.len() as u64);
    for step in 0..steps {
        let example = |place: u64| {
            let (epoch, index) = permutation.at(step * batch + place);
            let (high, low) = preprocessing.pair(&kept[index as usize], &draws, epoch, index);
            Example { high, low, label: 0, step, place: place as u32 }
        };
        let examples = task.examples(&(0..batch).map(example).collect::<Vec<_>>(), &draws);
        let values = examples.input.iter().chain(&examples.levels).chain(&examples.target);
        let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        fs::write(out.join(format!("step-{step}.f32")), bytes)?;
    }
    println!("{} pictures, {steps} steps of {batch}", kept.len());
    Ok(())
}

/// All files of a folder at any depth, by their names.
fn files(folder: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => all.extend(files(&path)?),
            false => all.push(path),
        }
    }
    all.sort();
    Ok(all)
}
