//! Schedules against the reference's buffers and f64 values, and lists of noise levels.

use crate::common::{Golden, fixture};
use serde_json::Value;
use sr3_engine::diffusion::{
    Betas, LevelDraw, LevelSpacing, LevelsError, NoiseSchedule, NoiseScheduleConfig, ScheduleError,
};

fn schedules() -> Vec<(String, NoiseSchedule, Value)> {
    let json: Value = serde_json::from_slice(&std::fs::read(fixture("diffusion.json")).unwrap()).unwrap();
    let schedules = json["schedules"].as_object().unwrap();
    let one = |(name, about): (&String, &Value)| {
        let (start, end) = (about["linear_start"].as_f64().unwrap(), about["linear_end"].as_f64().unwrap());
        let betas = match about["schedule"].as_str().unwrap() {
            "linear" => Betas::Linear { start, end },
            "quad" => Betas::Quad { start, end },
            "const" => Betas::Const { end },
            "warmup10" => Betas::Warmup10 { start, end },
            "warmup50" => Betas::Warmup50 { start, end },
            "cosine" => Betas::Cosine,
            other => panic!("schedule {other}"),
        };
        let config = NoiseScheduleConfig { betas, timesteps: about["n_timestep"].as_u64().unwrap() as usize };
        (name.clone(), NoiseSchedule::new(&config).unwrap(), about["values"].clone())
    };
    schedules.iter().map(one).collect()
}

fn linear(start: f64, end: f64, timesteps: usize) -> NoiseScheduleConfig {
    NoiseScheduleConfig { betas: Betas::Linear { start, end }, timesteps }
}

#[test]
fn every_buffer_is_the_reference_s_within_one_ulp() {
    let golden = Golden::load("diffusion.safetensors");
    let schedules = schedules();
    assert_eq!(schedules.len(), 8);
    for (name, schedule, _) in schedules {
        let levels: Vec<f64> = (0..=schedule.timesteps()).map(|t| schedule.noise_level(t)).collect();
        for (buffer, ours) in schedule.buffers().into_iter().chain([("noise_level", &levels[..])]) {
            let theirs = golden.values(&format!("{name}.{buffer}"));
            assert_eq!(ours.len(), theirs.len());
            for (t, (&ours, &theirs)) in ours.iter().zip(theirs).enumerate() {
                let ulps = (ours as f32).to_bits().abs_diff(theirs.to_bits());
                assert!(ulps <= 1, "{name}.{buffer}[{t}]: {ours} against {theirs}");
            }
        }
    }
}

#[test]
fn the_f64_values_agree_to_nine_digits() {
    for (name, schedule, values) in schedules() {
        for value in values.as_array().unwrap() {
            let t = value["timestep"].as_u64().unwrap() as usize;
            let levels =
                [("noise_level", schedule.noise_level(t + 1)), ("noise_level_prev", schedule.noise_level(t))];
            let buffers = schedule.buffers().map(|(buffer, values)| (buffer, values[t]));
            for (buffer, ours) in buffers.into_iter().chain(levels) {
                let theirs = value[buffer].as_f64().unwrap_or_else(|| panic!("{name}: no {buffer}"));
                assert!(
                    (ours - theirs).abs() <= 1e-9 * theirs.abs(),
                    "{name}.{buffer}[{t}]: {ours} {theirs}"
                );
            }
        }
    }
}

#[test]
fn training_intervals_are_the_reference_s() {
    let json: Value = serde_json::from_slice(&std::fs::read(fixture("diffusion.json")).unwrap()).unwrap();
    let schedule = NoiseSchedule::new(&linear(1e-6, 1e-2, 2000)).unwrap();
    for interval in json["training_intervals_linear_2000"].as_array().unwrap() {
        let t = interval["paper_t"].as_u64().unwrap() as usize;
        let near = |a: f64, key: &str, square: bool| {
            let b = interval[key].as_f64().unwrap();
            assert!(((if square { a * a } else { a }) - b).abs() <= 1e-12, "t {t} {key}: {a} {b}");
        };
        near(schedule.level_between(t, 0.0, LevelDraw::NoiseLevel), "noise_level_low", false);
        near(schedule.level_between(t, 1.0, LevelDraw::NoiseLevel), "noise_level_high", false);
        near(schedule.level_between(t, 0.0, LevelDraw::Gamma), "gamma_low", true);
        near(schedule.level_between(t, 1.0, LevelDraw::Gamma), "gamma_high", true);
    }
}

#[test]
fn jsd_ends_in_pure_noise() {
    let schedule = NoiseSchedule::new(&NoiseScheduleConfig { betas: Betas::Jsd, timesteps: 4 }).unwrap();
    assert_eq!(schedule.betas, [1.0 / 4.0, 1.0 / 3.0, 1.0 / 2.0, 1.0]);
    assert_eq!(schedule.noise_level(4), 0.0);
}

#[test]
fn a_configuration_reads_as_checkpoints_write_it() {
    let text = r#"{"kind": "linear", "start": 1e-06, "end": 0.01, "timesteps": 2000}"#;
    let config: NoiseScheduleConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config, linear(1e-6, 1e-2, 2000));
}

#[test]
fn nonsense_is_refused() {
    for timesteps in [0, 2_000_000] {
        let error = NoiseSchedule::new(&linear(1e-4, 2e-2, timesteps)).unwrap_err();
        assert!(matches!(error, ScheduleError::Timesteps { .. }));
    }
    for end in [0.0, 1.0, f64::NAN, -1.0] {
        let error = NoiseSchedule::new(&linear(1e-4, end, 8)).unwrap_err();
        assert!(matches!(error, ScheduleError::Beta { name: "end", .. }));
    }
}

#[test]
fn log_snr_levels_are_those_of_the_shipped_presets() {
    let levels = LevelSpacing::LogSnr { first: -7.0, last: 7.0 }.levels(8).unwrap();
    let preset = [
        0.030183624606740744,
        0.08180984613287606,
        0.21777482218467492,
        0.5185956241330957,
        0.8550196364002437,
        0.9759990403798732,
        0.996647956439843,
        0.9995443706037264,
    ];
    assert!(levels.iter().zip(preset).all(|(a, b)| (a - b).abs() < 1e-14), "{levels:?}");
}

#[test]
fn level_lists_rise_inside_the_open_interval() {
    let spacings = [
        LevelSpacing::Linear { start: 1e-6, end: 1e-2, timesteps: 2000 },
        LevelSpacing::LogSnr { first: -9.0, last: 11.0 },
        LevelSpacing::Cosine { first: 0.01 },
    ];
    for spacing in spacings {
        for steps in [1, 2, 3, 7, 100, 1999, 2000] {
            let levels = spacing.levels(steps).unwrap();
            assert_eq!(levels.len(), steps);
            assert!(levels[0] < 0.02 && levels[0] > 0.0 && levels[steps - 1] < 1.0, "{spacing:?} {steps}");
            assert!(levels.is_sorted_by(|a, b| a < b), "{spacing:?} {steps}");
        }
        assert!(matches!(spacing.levels(0), Err(LevelsError::Steps { .. })));
    }
    let whole = spacings[0].levels(2000).unwrap();
    let schedule = NoiseSchedule::new(&linear(1e-6, 1e-2, 2000)).unwrap();
    assert!((0..2000).all(|i| whole[i] == schedule.noise_level(2000 - i)));
    assert!(matches!(LevelSpacing::Cosine { first: 1.0 }.levels(3), Err(LevelsError::Range { .. })));
    assert!(LevelSpacing::LogSnr { first: 1.0, last: 1.0 }.levels(3).is_err());
}
