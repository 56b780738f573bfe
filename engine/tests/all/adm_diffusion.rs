//! The process of guided-diffusion: respacing, learned variance, losses and sampling traces, against the reference's
//! numbers in f64 (`tests/fixtures/adm/README.md`, sections 4 to 6).

use crate::common::adm::{Tiny, enlarge, join};
use crate::common::{Golden, fixture, max_difference, max_magnitude, to_channels_last};
use serde_json::Value;
use sr3_engine::diffusion::{
    Betas, HybridSample, NoiseSchedule, NoiseScheduleConfig, Objective, Respacing, RespacingError, Sampler,
    Target,
};
use sr3_engine::model::{Conditions, CpuUNet, Denoiser};
use sr3_engine::ops::Isa;

fn golden() -> Golden {
    Golden::load("adm/adm_diffusion.safetensors")
}

fn facts() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("adm/adm_diffusion.json")).unwrap()).unwrap()
}

fn schedule(name: &str) -> NoiseSchedule {
    let betas = match name {
        "linear" => Betas::Linear { start: 1e-4, end: 2e-2 },
        _ => Betas::Cosine,
    };
    NoiseSchedule::new(&NoiseScheduleConfig { betas, timesteps: 1000 }).unwrap()
}

/// The timesteps that a text of the reference keeps; nothing keeps all.
fn kept(text: &str, timesteps: usize) -> Result<Vec<usize>, RespacingError> {
    if text.is_empty() {
        Ok((0..timesteps).collect())
    } else {
        text.parse::<Respacing>()?.timesteps(timesteps)
    }
}

#[test]
fn the_timesteps_kept_are_the_reference_s_with_its_roundings() {
    let (facts, mut compared) = (facts(), 0);
    let numbers = |list: &Value| -> Vec<usize> {
        list.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    for (text, expected) in facts["space_timesteps"].as_object().unwrap() {
        assert_eq!(kept(text, 1000).unwrap(), numbers(expected), "{text}");
        compared += 1;
    }
    for (text, about) in facts["space_timesteps_long"].as_object().unwrap() {
        let found = kept(text, 1000).unwrap();
        assert_eq!(found.len() as u64, about["count"].as_u64().unwrap(), "{text}");
        assert_eq!(found.iter().sum::<usize>() as u64, about["sum"].as_u64().unwrap(), "{text}");
        assert_eq!(
            (&found[..4], &found[found.len() - 4..]),
            (&numbers(&about["first"])[..], &numbers(&about["last"])[..])
        );
        compared += 1;
    }
    for about in facts["space_timesteps_other_totals"].as_array().unwrap() {
        let (total, text) =
            (about["num_timesteps"].as_u64().unwrap(), about["section_counts"].as_str().unwrap());
        assert_eq!(kept(text, total as usize).unwrap(), numbers(&about["result"]), "{text} of {total}");
        compared += 1;
    }
    for about in facts["space_timesteps_validity"].as_array().unwrap() {
        let (total, text) =
            (about["num_timesteps"].as_u64().unwrap(), about["section_counts"].as_str().unwrap());
        assert_eq!(kept(text, total as usize).is_ok(), about["ok"].as_bool().unwrap(), "{text} of {total}");
        compared += 1;
    }
    assert!(compared > 15, "{compared}");
    for text in ["ddim", "10,", "-3", "ten"] {
        assert!(matches!(text.parse::<Respacing>(), Err(RespacingError::Text { .. })), "{text}");
    }
}

#[test]
fn a_respaced_process_has_the_reference_s_numbers() {
    let golden = golden();
    let mut compared = 0;
    for name in ["linear", "cosine"] {
        let whole = schedule(name);
        let mut check = |prefix: &str, process: &NoiseSchedule| {
            let bounds: Vec<_> = (0..process.timesteps()).map(|t| process.log_variances(t)).collect();
            let column = |i: usize| bounds.iter().map(|b| b[i]).collect::<Vec<f64>>();
            for (what, found) in [
                ("betas", &process.betas),
                ("alphas_cumprod", &process.alphas_cumprod),
                ("posterior_variance", &process.posterior_variance),
                ("posterior_mean_coef1", &process.posterior_mean_coef1),
                ("posterior_mean_coef2", &process.posterior_mean_coef2),
                ("posterior_log_variance_clipped", &column(0)),
                ("log_betas", &column(1)),
            ] {
                let expected = golden.values(&format!("{prefix}.{what}"));
                for (t, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let error = (*found as f32 - expected).abs();
                    assert!(
                        error <= 2e-7 * expected.abs() + 1e-12,
                        "{prefix}.{what}[{t}]: {found} {expected}"
                    );
                }
                assert_eq!(found.len(), expected.len());
                compared += 1;
            }
        };
        check(&format!("schedule.{name}"), &whole);
        for text in ["10,10,10", "250", "8", "ddim25", "ddim8"] {
            let kept = kept(text, 1000).unwrap();
            let map = golden.values(&format!("respaced.{name}.{text}.timestep_map"));
            assert!(kept.iter().map(|t| *t as f32).eq(map.iter().copied()), "{text}");
            check(&format!("respaced.{name}.{text}"), &whole.respaced(&kept));
        }
    }
    assert_eq!(compared, 2 * 6 * 7);
}

#[test]
fn a_noise_level_of_the_schedule_is_its_timestep_to_the_bit_and_others_lie_between() {
    for name in ["linear", "cosine"] {
        let schedule = schedule(name);
        for (t, level) in schedule.sqrt_alphas_cumprod.iter().enumerate() {
            assert_eq!(schedule.timestep_of(*level), t as f64, "{name}");
        }
        for t in 0..999 {
            let [a, b] = [t, t + 1].map(|t| schedule.sqrt_alphas_cumprod[t]);
            let between = schedule.timestep_of((a + b) / 2.0);
            assert!(t as f64 + 0.1 < between && between < t as f64 + 0.9, "{name}: {between} after {t}");
        }
        assert_eq!((schedule.timestep_of(1.0), schedule.timestep_of(0.0)), (0.0, 999.0));
    }
}

/// The eps or (`second`) the v half of a prediction of 6 channels.
fn half(prediction: &[f32], second: bool) -> Vec<f32> {
    let of_pixel = |pixel: &[f32]| pixel[if second { 3..6 } else { 0..3 }].to_vec();
    prediction.chunks_exact(6).flat_map(of_pixel).collect()
}

#[test]
fn mean_and_variance_of_a_step_are_golden_clipped_or_not() {
    let golden = golden();
    for name in ["linear_sr", "cosine_sr", "cosine_base"] {
        let schedule = schedule(name.split('_').next().unwrap());
        let of = |what: &str| golden.channels_last(&format!("pmv.{name}.{what}"));
        let (x_t, output, variance) = (of("x_t"), of("model_output"), of("variance"));
        let pixels = 16 * 16;
        for (n, t) in golden.values(&format!("pmv.{name}.t")).iter().enumerate() {
            let (t, item) = (*t as usize, n * pixels * 3..(n + 1) * pixels * 3);
            let output = &output[2 * item.start..2 * item.end];
            let (eps, v) = (half(output, false), half(output, true));
            let levels: Vec<f64> = (0..=t).rev().map(|t| schedule.sqrt_alphas_cumprod[t]).collect();
            let step = Sampler::AncestralLearned.steps(&levels).unwrap()[0];
            assert_eq!(step.uses_variance(), t > 0);
            for clip in [true, false] {
                let mut x0 = eps.clone();
                Objective::Noise.to_x0(step.noise_level, &x_t[item.clone()], &mut x0);
                if clip {
                    Target::Image.clamp(&[], &mut x0);
                }
                let kind = if clip { "clipped" } else { "unclipped" };
                let close = |found: &[f32], what: &str, bound: f32| {
                    let expected = &of(&format!("{kind}.{what}"))[item.clone()];
                    let error = max_difference(found, expected) / max_magnitude(expected).max(1.0);
                    assert!(error < bound, "{name} at {t}: {kind}.{what} is {error} off");
                };
                // What f32 leaves of x_t and eps, divided by the noise level.
                let rounding = 4e-7 / step.noise_level as f32 + 1e-6;
                close(&x0, "pred_xstart", rounding);
                let taken = |noise: f32| {
                    let mut x = x_t[item.clone()].to_vec();
                    step.advance_learned(&mut x, &x0, &v, &vec![noise; x0.len()]);
                    x
                };
                let mean = taken(0.0);
                close(&mean, "mean", if clip { 1e-6 } else { rounding });
                if t > 0 && clip {
                    let deviation: Vec<f32> =
                        taken(8.0).iter().zip(&mean).map(|(x, m)| (x - m) / 8.0).collect();
                    let expected: Vec<f32> = variance[item.clone()].iter().map(|v| v.sqrt()).collect();
                    let error = max_difference(&deviation, &expected) / max_magnitude(&expected);
                    assert!(error < 2e-5, "{name} at {t}: the deviation is {error} off");
                }
            }
            let [low, high] = schedule.log_variances(t);
            let found: Vec<f32> = v
                .iter()
                .map(|v| {
                    let share = (f64::from(*v) + 1.0) / 2.0;
                    (share * high + (1.0 - share) * low) as f32
                })
                .collect();
            let error = max_difference(&found, &of("log_variance")[item.clone()]);
            assert!(error < 2e-6 * 20.0, "{name} at {t}: ln of the variance is {error} off");
        }
    }
}

#[test]
fn the_hybrid_loss_is_golden_and_its_gradient_a_slope_that_stops_at_the_noise() {
    let golden = golden();
    let pixels = 16 * 16;
    for name in ["linear_sr", "cosine_sr", "cosine_base"] {
        let schedule = schedule(name.split('_').next().unwrap());
        let of = |what: &str| golden.channels_last(&format!("pmv.{name}.{what}"));
        let (x_start, noise, x_t, output) = (of("x_start"), of("noise"), of("x_t"), of("model_output"));
        for (n, t) in golden.values(&format!("pmv.{name}.t")).iter().enumerate() {
            let (t, item) = (*t as usize, n * pixels * 3..(n + 1) * pixels * 3);
            let sample = HybridSample {
                x0: &x_start[item.clone()],
                noise: &noise[item.clone()],
                x_t: &x_t[item.clone()],
            };
            let mut prediction = output[2 * item.start..2 * item.end].to_vec();
            let mut gradient = vec![0.0; prediction.len()];
            let found = schedule.hybrid_loss(t, sample, 3, &prediction, 1.0, &mut gradient);
            for (what, found) in
                [("mse", found.simple), ("vb", found.bound), ("loss", found.simple + found.bound)]
            {
                let expected = f64::from(golden.values(&format!("pmv.{name}.loss.{what}"))[n]);
                let error = (found - expected).abs() / expected.abs();
                assert!(error < 2e-5, "{name} at {t}: {what} is {found} where {expected} belongs");
            }
            // Along v alone, by a step that curves little; eps has the slope of the simple loss.
            let v_length = (0..prediction.len())
                .filter(|i| i % 6 >= 3)
                .map(|i| f64::from(gradient[i]).powi(2))
                .sum::<f64>()
                .sqrt();
            let mut bound_at = |sign: f64| {
                let kept = prediction.clone();
                for i in (0..prediction.len()).filter(|i| i % 6 >= 3) {
                    prediction[i] += (sign * 0.02 * f64::from(gradient[i]) / v_length) as f32;
                }
                let loss = schedule.hybrid_loss(t, sample, 3, &prediction, 1.0, &mut vec![0.0; kept.len()]);
                prediction = kept;
                loss.bound
            };
            let slope = (bound_at(1.0) - bound_at(-1.0)) / 0.04;
            assert!((slope - v_length).abs() < 0.01 * v_length, "{name} at {t}: {slope} {v_length}");
            let of_eps = 2.0 * f64::from(prediction[0] - sample.noise[0]) / (pixels * 3) as f64;
            assert!((f64::from(gradient[0]) - of_eps).abs() < 1e-6 * of_eps.abs(), "{of_eps}");
        }
    }
}

/// Step `s` of a (steps, N, C, H, W) tensor, channels last.
fn at(golden: &Golden, name: &str, s: usize) -> Vec<f32> {
    let &[_, n, c, h, w] = golden.shape(name) else { panic!("{name}") };
    let count = n * c * h * w;
    to_channels_last(&golden.values(name)[s * count..][..count], [n, c, h, w])
}

#[test]
fn every_trace_is_met_by_the_real_networks_running_free() {
    let golden = golden();
    for (trace, model, name, spacing, sampler) in [
        ("sr_ancestral_8", "sr", "linear", "8", Sampler::AncestralLearned),
        ("sr_ddim_8", "sr", "linear", "8", Sampler::Ddim { eta: 0.0 }),
        ("sr_ddim_ddim8", "sr", "linear", "ddim8", Sampler::Ddim { eta: 0.0 }),
        ("base_ancestral_8", "base", "cosine", "8", Sampler::AncestralLearned),
        ("base_ddim_ddim8_eta0.5", "base", "cosine", "ddim8", Sampler::Ddim { eta: 0.5 }),
    ] {
        let (tiny, schedule) = (Tiny::load(&format!("adm_{model}_tiny")), schedule(name));
        let mut unet = CpuUNet::new(&tiny.config, &tiny.weights, Isa::detect()).unwrap();
        let mut x = golden.channels_last(&format!("trace.{model}.x_T"));
        let &[n, _, height, width] = golden.shape(&format!("trace.{model}.x_T")) else { panic!() };
        let condition = tiny
            .has_low_res
            .then(|| enlarge(&golden.channels_last("trace.sr.low_res"), n, [4, 5], [height, width]));
        let labels: Vec<u32> = golden.values(&format!("trace.{model}.y")).iter().map(|y| *y as u32).collect();
        let kept = kept(spacing, 1000).unwrap();
        let levels: Vec<f64> = kept.iter().rev().map(|t| schedule.sqrt_alphas_cumprod[*t]).collect();
        let mut worst = 0.0_f32;
        for (s, step) in sampler.steps(&levels).unwrap().iter().enumerate() {
            let timestep = schedule.timestep_of(step.noise_level) as f32;
            assert_eq!(timestep, golden.values(&format!("trace.{trace}.model_timesteps"))[s]);
            let input = join(condition.as_deref(), &x);
            let mut output = vec![0.0; 2 * x.len()];
            let told = Conditions { noise: &vec![timestep; n], labels: &labels };
            unet.predict_conditioned([n, height, width], &input, told, &mut output).unwrap();
            let (mut x0, v) = (half(&output, false), half(&output, true));
            Objective::Noise.to_x0(step.noise_level, &x, &mut x0);
            Target::Image.clamp(&[], &mut x0);
            let noise = at(&golden, &format!("trace.{model}.noise"), s);
            if step.uses_variance() {
                step.advance_learned(&mut x, &x0, &v, &noise);
            } else {
                step.advance(&mut x, &x0, &[], &noise);
            }
            worst = worst.max(max_difference(&x, &at(&golden, &format!("trace.{trace}.sample"), s)));
        }
        println!("{trace}: {worst:.1e}");
        // The reference in f32 is up to 5.8e-4 away.
        assert!(worst < 1.2e-3, "{trace}: {worst}");
        let bytes = x.iter().map(|v| ((v + 1.0) * 127.5).clamp(0.0, 255.0).floor());
        let expected = golden.values(&format!("trace.{trace}.image_u8_nhwc"));
        assert!(bytes.zip(expected).all(|(found, expected)| (found - expected).abs() <= 1.0), "{trace}");
    }
}

#[test]
fn enlarging_is_the_reference_s_interpolation() {
    let golden = Golden::load("adm/adm_sr_tiny.safetensors");
    let found = enlarge(&golden.channels_last("unit.bilinear.input"), 1, [5, 7], [24, 40]);
    let error = max_difference(&found, &golden.channels_last("unit.bilinear.output"));
    assert!(error < 5e-7, "{error}");
}
