//! The own checkpoint format: what is read, what is refused and in which words, and what writing leaves behind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sr3_engine::diffusion::{Objective, Sampler, Tile};
use sr3_engine::model::checkpoint::{
    Checkpoint, CheckpointError, NoiseSchedule, SamplerPreset, Target, WeightsError,
};

fn model_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/photo-4x")
}

fn config_json() -> Value {
    serde_json::from_slice(&std::fs::read(model_folder().join("config.json")).unwrap()).unwrap()
}

fn weights() -> Vec<u8> {
    std::fs::read(model_folder().join("model.safetensors")).unwrap()
}

#[test]
fn the_model_in_the_box_reads_in_full() {
    let checkpoint = Checkpoint::read_folder(&model_folder()).unwrap();
    let config = &checkpoint.config;
    assert_eq!(config.scale, 4);
    assert_eq!((config.objective, config.target), (Objective::V, Target::Residual));
    assert_eq!(config.residual_scale, 4.0);
    assert_eq!(config.tile, Some(Tile { size: 192, overlap: 32 }));
    assert_eq!(config.credits.len(), 21);
    assert!(matches!(config.noise_schedule, NoiseSchedule::LogSnrNormal { mixed_with: Some(_), .. }));
    assert!(matches!(config.presets["one"], SamplerPreset::Ddim { eta: 0.0, .. }));
    // Exactly the number that is written: 0.030183624606740744.
    assert_eq!(config.presets["one"].noise_levels(), [0.030183624606740744]);
    assert_eq!(config.presets["fine"].sampler(), Sampler::Dpmpp2m);
    assert_eq!(config.presets["fine"].noise_levels().len(), 20);
    assert_eq!(checkpoint.digest, config.sha256);
    assert_eq!(checkpoint.weights.values().map(|(_, values)| values.len()).sum::<usize>(), 1_372_491);
}

#[test]
fn nothing_of_the_configuration_is_lost_when_it_is_written() {
    let checkpoint = Checkpoint::read_folder(&model_folder()).unwrap();
    let mut written = serde_json::to_value(&checkpoint.config).unwrap();
    written["model"].as_object_mut().unwrap().remove("use_affine_level");
    assert_eq!(written, config_json());
}

#[test]
fn a_written_folder_is_the_same_checkpoint_and_holds_nothing_else() {
    let mut checkpoint = Checkpoint::read_folder(&model_folder()).unwrap();
    checkpoint.config.tile = Some(Tile { size: 192, overlap: 32 });
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("a/new/folder");
    for _ in 0..2 {
        // The second time replaces the first.
        let digest = checkpoint.write_folder(&folder).unwrap();
        assert_eq!(digest, checkpoint.digest, "PyTorch's writer and this one agree on these weights");
        assert_eq!(Checkpoint::read_folder(&folder).unwrap(), checkpoint);
    }
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["config.json", "model.safetensors"]);
}

#[test]
fn a_failed_write_leaves_the_old_checkpoint_and_no_part_files() {
    let checkpoint = Checkpoint::read_folder(&model_folder()).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    // A folder in the place of a file cannot be replaced by one.
    std::fs::create_dir_all(folder.join("model.safetensors/x")).unwrap();
    let error = checkpoint.write_folder(folder).unwrap_err();
    assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);

    std::fs::write(folder.join("file"), "").unwrap();
    assert!(checkpoint.write_folder(&folder.join("file")).is_err());
}

#[test]
fn weights_other_than_those_named_are_refused() {
    let config = serde_json::to_vec(&config_json()).unwrap();
    let mut bytes = weights();
    assert!(Checkpoint::from_bytes(&config, &bytes).is_ok());
    *bytes.last_mut().unwrap() ^= 1;
    let error = Checkpoint::from_bytes(&config, &bytes).unwrap_err();
    assert!(matches!(error, CheckpointError::Digest { .. }), "{error}");
}

#[test]
fn weights_that_are_not_the_networks_are_refused_by_name() {
    let whole = Checkpoint::read_folder(&model_folder()).unwrap();
    let rebuilt = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = whole.clone();
        change(&mut checkpoint);
        match Checkpoint::new(checkpoint.config, checkpoint.weights) {
            Err(CheckpointError::Weights { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    };
    let name = "mid.0.attn.qkv.weight";
    let missing = rebuilt(&|checkpoint| drop(checkpoint.weights.remove(name)));
    assert!(matches!(missing, WeightsError::Missing { name: found, .. } if found == name));
    let extra = rebuilt(&|checkpoint| drop(checkpoint.weights.insert("more".into(), (vec![], vec![0.0]))));
    assert!(matches!(extra, WeightsError::Extra { name } if name == "more"));
    let shape = rebuilt(&|checkpoint| checkpoint.weights.get_mut(name).unwrap().0.push(1));
    assert!(matches!(shape, WeightsError::Shape { name: found, .. } if found == name));
    let short = rebuilt(&|checkpoint| checkpoint.weights.get_mut(name).unwrap().1.truncate(7));
    assert!(matches!(short, WeightsError::Shape { name: found, .. } if found == name));
    let nan = rebuilt(&|checkpoint| checkpoint.weights.get_mut(name).unwrap().1[7] = f32::NAN);
    assert!(matches!(nan, WeightsError::NotFinite { name: found, position: 7, .. } if found == name));
}

#[test]
fn every_field_that_makes_no_sense_is_refused_by_name_in_one_line() {
    let weights = weights();
    // (pointer, value, what the line must name)
    let cases = [
        ("/format", json!("sr3-checkpoint/2"), "format"),
        ("/name", json!("a\nb"), "name"),
        ("/name", json!(""), "name"),
        ("/scale", json!(0), "scale"),
        ("/scale", json!(17), "scale"),
        ("/scale", json!(-4), "-4"),
        ("/model/norm_groups", json!(7), "norm_groups"),
        ("/model/channel_mults", json!([]), "channel_mults"),
        ("/objective", json!("velocity"), "velocity"),
        ("/target", json!("latent"), "latent"),
        ("/residual_scale", json!(0.0), "residual_scale"),
        ("/residual_scale", json!(-1.0), "residual_scale"),
        ("/residual_scale", json!(null), "null"),
        ("/upsample/filter", json!("nearest"), "nearest"),
        ("/upsample/a", json!(1.0), "upsample.a"),
        ("/upsample/clamp", json!([1.0, -1.0]), "upsample.clamp"),
        ("/degradation/jpeg", json!([0, 50]), "degradation.jpeg"),
        ("/noise_schedule/kind", json!("sigmoid"), "sigmoid"),
        ("/noise_schedule/std", json!(0.0), "noise_schedule.std"),
        ("/noise_schedule/mixed_with/timesteps", json!(0), "noise_schedule.timesteps"),
        ("/noise_schedule/mixed_with/end", json!(1e-9), "noise_schedule.end"),
        ("/presets/fast/sampler", json!("euler"), "euler"),
        ("/presets/fast/noise_levels", json!([]), "presets.fast.noise_levels"),
        ("/presets/fast/noise_levels", json!([0.5, 0.5]), "presets.fast.noise_levels"),
        ("/presets/fast/noise_levels", json!([0.0, 0.5]), "presets.fast.noise_levels"),
        ("/presets/fast/noise_levels", json!([0.5, 1.5]), "presets.fast.noise_levels"),
        ("/presets/one/eta", json!(2.0), "presets.one.eta"),
        ("/default_preset", json!("best"), "default_preset"),
        ("/sha256", json!("00"), "sha256"),
    ];
    for (pointer, value, named) in cases {
        let mut config = config_json();
        *config.pointer_mut(pointer).unwrap() = value.clone();
        let error = Checkpoint::from_bytes(&serde_json::to_vec(&config).unwrap(), &weights).unwrap_err();
        let line = error.to_string();
        assert!(line.contains(named), "{pointer} = {value}: {line}");
        assert!(line.starts_with("config.json: ") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn unknown_fields_are_refused_wherever_they_are() {
    let weights = weights();
    for parent in
        ["", "/model", "/upsample", "/degradation", "/noise_schedule", "/presets/one", "/presets/fast"]
    {
        let mut config = config_json();
        config.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert("colour".into(), json!(1));
        let line =
            Checkpoint::from_bytes(&serde_json::to_vec(&config).unwrap(), &weights).unwrap_err().to_string();
        assert!(line.contains("colour"), "{parent}: {line}");
    }
    // Only DDIM has an eta.
    let mut config = config_json();
    config["presets"]["fast"]["eta"] = json!(0.0);
    assert!(Checkpoint::from_bytes(&serde_json::to_vec(&config).unwrap(), &weights).is_err());
}

#[test]
fn tiles_fit_the_network() {
    let weights = weights();
    let read = |tile: Value| {
        let mut config = config_json();
        config["tile"] = tile;
        Checkpoint::from_bytes(&serde_json::to_vec(&config).unwrap(), &weights)
    };
    assert_eq!(read(json!(null)).unwrap().config.tile, None);
    let tile = read(json!({"size": 192, "overlap": 32})).unwrap().config.tile;
    assert_eq!(tile, Some(Tile { size: 192, overlap: 32 }));
    for (size, overlap, field) in [(190, 32, "tile.size"), (0, 0, "tile.size"), (192, 97, "tile.overlap")] {
        let line = read(json!({"size": size, "overlap": overlap})).unwrap_err().to_string();
        assert!(line.contains(field), "{line}");
    }
}

#[test]
fn folders_without_a_checkpoint_are_one_line_that_names_the_file() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let line = |folder: &Path| {
        let line = Checkpoint::read_folder(folder).unwrap_err().to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    };
    assert!(line(&folder.join("none")).contains("config.json"));
    std::fs::write(folder.join("config.json"), b"{").unwrap();
    assert!(line(folder).contains("model.safetensors"));
    std::fs::create_dir(folder.join("model.safetensors")).unwrap();
    assert!(line(folder).contains("regular file"));
    std::fs::remove_dir(folder.join("model.safetensors")).unwrap();
    std::fs::write(folder.join("model.safetensors"), b"").unwrap();
    assert!(line(folder).contains("config.json"));
}
