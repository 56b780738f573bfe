//! Searching how a checkpoint is sampled: which candidates there are, and which of them is best. Pure.
//!
//! A candidate is a preset that the model does not have yet. Each is measured by an evaluation of its own, so what it reaches
//! is what `sr3 evaluate` says of it, whoever measures.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sr3_engine::{diffusion::LevelSpacing, model::checkpoint::SamplerPreset};
use sr3_jobs::{
    ClassChoice,
    evaluate::{Metric as Measure, Statistic, Summary},
};
use sr3_proto::Key;

use crate::chart::{Line, Panel, Style};

/// Version of the file.
const VERSION: u32 = 1;

/// What candidates are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// PSNR over red, green and blue.
    Psnr,
    /// PSNR over luma.
    PsnrY,
    /// SSIM over red, green and blue.
    Ssim,
    /// SSIM over luma.
    SsimY,
    /// ST-LPIPS, a distance as people judge it; needs its weights.
    StLpips,
}

impl Metric {
    /// Its name among the numbers of an evaluation.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Psnr => "psnr",
            Self::PsnrY => "psnr_y",
            Self::Ssim => "ssim",
            Self::SsimY => "ssim_y",
            Self::StLpips => "st_lpips",
        }
    }

    /// The measures that an evaluation is asked for beside it.
    pub(crate) fn measures(self) -> Vec<Measure> {
        let mut all = vec![Measure::Psnr, Measure::Ssim, Measure::Consistency];
        all.extend((self == Self::StLpips).then_some(Measure::StLpips));
        all
    }

    /// Which of two values is better: that comes first.
    fn order(self, a: f64, b: f64) -> Ordering {
        if self == Self::StLpips { a.total_cmp(&b) } else { b.total_cmp(&a) }
    }

    /// What an evaluation of a model says; none where no picture was measured, or not by this.
    pub(crate) fn of(self, summary: &Summary) -> Option<Statistic> {
        let (_, numbers) = summary.methods.last()?;
        numbers.get(self.name()).copied().filter(|statistic| statistic.mean.is_some())
    }
}

/// Samplers that are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum SamplerName {
    /// DDIM.
    Ddim,
    /// DPM-Solver++(2M).
    #[value(name = "dpmpp_2m")]
    Dpmpp2m,
    /// The paper's algorithm 2.
    Ancestral,
    /// The posterior of the clamped estimate.
    AncestralPosterior,
}

/// How noise levels are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// Evenly in log-SNR, from the first to the last.
    LogSnr,
    /// Cosines of even angles, from the first to the clean image.
    Cosine,
}

/// What is searched: every combination.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Space {
    pub(crate) samplers: Vec<SamplerName>,
    pub(crate) etas: Vec<f64>,
    pub(crate) steps: Vec<u32>,
    pub(crate) shapes: Vec<Shape>,
    /// log-SNR of the noisiest level.
    pub(crate) firsts: Vec<f64>,
    /// log-SNR of the cleanest level.
    pub(crate) lasts: Vec<f64>,
}

/// A way to sample, with its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    /// Without its steps: what candidates of one line of the plot share.
    pub(crate) family: String,
    pub(crate) steps: u32,
    pub(crate) preset: SamplerPreset,
}

impl Space {
    /// The candidates, each once, in a fixed order.
    ///
    /// # Errors
    /// One line: levels that cannot be spread so.
    pub(crate) fn candidates(&self) -> Result<Vec<Candidate>, String> {
        let mut all: Vec<Candidate> = Vec::new();
        for &sampler in &self.samplers {
            // Only DDIM has one.
            let etas = if sampler == SamplerName::Ddim { &self.etas[..] } else { &[0.0] };
            for &eta in etas {
                for (shape, spacing) in self.spacings() {
                    for &steps in &self.steps {
                        let levels = spacing.levels(steps as usize).map_err(|e| e.to_string())?;
                        let (word, preset) = preset(sampler, eta, levels);
                        let family = format!("{word}_{shape}");
                        let name = format!("{word}-{steps}_{shape}");
                        // A single level has no end, so some are the same.
                        if all.iter().all(|known| !is_same(&known.preset, &preset)) {
                            all.push(Candidate { name, family, steps, preset });
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    fn spacings(&self) -> Vec<(String, LevelSpacing)> {
        let mut all = Vec::new();
        for &shape in &self.shapes {
            for &first in &self.firsts {
                match shape {
                    Shape::LogSnr => {
                        for &last in &self.lasts {
                            all.push((format!("{first}to{last}"), LevelSpacing::LogSnr { first, last }));
                        }
                    }
                    Shape::Cosine => {
                        // The same noise level, as a part of the image; an end that is no number is told when levels are spread.
                        let ends = LevelSpacing::LogSnr { first, last: first + 1.0 };
                        let level = ends.levels(1).map_or(f64::NAN, |levels| levels[0]);
                        all.push((format!("{first}_cosine"), LevelSpacing::Cosine { first: level }));
                    }
                }
            }
        }
        all
    }
}

fn preset(sampler: SamplerName, eta: f64, noise_levels: Vec<f64>) -> (String, SamplerPreset) {
    match sampler {
        SamplerName::Ddim if eta == 0.0 => ("ddim".to_string(), SamplerPreset::Ddim { eta, noise_levels }),
        SamplerName::Ddim => (format!("ddim{eta}"), SamplerPreset::Ddim { eta, noise_levels }),
        SamplerName::Dpmpp2m => ("dpmpp_2m".to_string(), SamplerPreset::Dpmpp2m { noise_levels }),
        SamplerName::Ancestral => ("ancestral".to_string(), SamplerPreset::Ancestral { noise_levels }),
        SamplerName::AncestralPosterior => {
            ("ancestral_posterior".to_string(), SamplerPreset::AncestralPosterior { noise_levels })
        }
    }
}

/// Whether two sample alike, but for the last digits.
fn is_same(a: &SamplerPreset, b: &SamplerPreset) -> bool {
    let (levels, others) = (a.noise_levels(), b.noise_levels());
    a.sampler() == b.sampler()
        && levels.len() == others.len()
        && levels.iter().zip(others).all(|(a, b)| (a - b).abs() < 1e-9)
}

/// What a search asks, besides its candidates: results of another question are none of this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// sha256 of the weights.
    pub(crate) weights_sha256: String,
    /// Where the pictures lie.
    pub(crate) source: String,
    /// Which of them.
    pub(crate) selection: sr3_jobs::Selection,
    /// Only their middle square of this side.
    pub(crate) crop: Option<u32>,
    pub(crate) seed: u64,
    pub(crate) class: Option<ClassChoice>,
    pub(crate) projection: bool,
    pub(crate) dtype: sr3_jobs::Dtype,
}

/// A measured candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) family: String,
    pub(crate) steps: u32,
    pub(crate) preset: SamplerPreset,
    /// Pictures that were measured.
    pub(crate) pictures: u64,
    /// Mean of the metric.
    pub(crate) mean: f64,
    /// Half the width of its 95 % confidence interval.
    pub(crate) ci95: Option<f64>,
    /// Mean squared error of the reduced results, on average.
    pub(crate) consistency: Option<f64>,
}

/// What a search came to; the best first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Search {
    version: u32,
    /// The model as the user named it.
    pub(crate) model: String,
    pub(crate) metric: Metric,
    pub(crate) question: Question,
    pub(crate) found: Vec<Found>,
}

/// The file of a search.
pub(crate) fn search_key() -> Key {
    Key::literal("tune.json")
}

impl Search {
    /// Ranks what was found: by the metric, then by fewer steps, then by name.
    pub(crate) fn new(model: &str, metric: Metric, question: Question, mut found: Vec<Found>) -> Self {
        found.sort_by(|a, b| {
            metric.order(a.mean, b.mean).then(a.steps.cmp(&b.steps)).then_with(|| a.name.cmp(&b.name))
        });
        Self { version: VERSION, model: model.to_string(), metric, question, found }
    }

    /// The metric over the steps, a line a family.
    pub(crate) fn panel(&self) -> Panel {
        let mut families: Vec<&str> = self.found.iter().map(|found| found.family.as_str()).collect();
        families.sort_unstable();
        families.dedup();
        let lines = families.into_iter().enumerate().map(|(colour, family)| {
            let of = self.found.iter().filter(|found| found.family == family);
            let mut points: Vec<(f64, f64)> = of.map(|found| (f64::from(found.steps), found.mean)).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { name: family.to_string(), colour, style: Style::Marked, points }
        });
        let (title, across) = (self.metric.name().to_string(), "steps");
        Panel { title, across, logarithmic: false, lines: lines.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        Space {
            samplers: vec![SamplerName::Ddim, SamplerName::Dpmpp2m],
            etas: vec![0.0, 0.5],
            steps: vec![1, 4],
            shapes: vec![Shape::LogSnr, Shape::Cosine],
            firsts: vec![-7.0],
            lasts: vec![5.0, 7.5],
        }
    }

    #[test]
    fn every_combination_is_a_candidate_once() {
        let all = space().candidates().unwrap();
        let names: Vec<_> = all.iter().map(|candidate| candidate.name.as_str()).collect();
        // A single step has no end, whatever the end; eta is DDIM's alone.
        assert_eq!(names[..4], ["ddim-1_-7to5", "ddim-4_-7to5", "ddim-4_-7to7.5", "ddim-4_-7_cosine"]);
        assert_eq!(names.len(), 3 * 4);
        for candidate in &all {
            assert_eq!(candidate.preset.noise_levels().len(), candidate.steps as usize);
        }
        let mut bad = space();
        bad.lasts = vec![-8.0];
        assert!(bad.candidates().unwrap_err().contains("-8"));
    }

    #[test]
    fn the_best_comes_first_and_of_equals_the_quicker() {
        let found = |name: &str, steps, mean| Found {
            name: name.into(),
            family: "f".into(),
            steps,
            preset: SamplerPreset::Dpmpp2m { noise_levels: vec![0.1; steps as usize] },
            pictures: 2,
            mean,
            ci95: None,
            consistency: None,
        };
        let question = Question {
            weights_sha256: "00".into(),
            source: "in".into(),
            selection: sr3_jobs::Selection::default(),
            crop: None,
            seed: 0,
            class: None,
            projection: true,
            dtype: sr3_jobs::Dtype::F32,
        };
        let all = vec![found("a", 8, 20.0), found("b", 4, 20.0), found("c", 1, 19.0), found("d", 2, 21.0)];
        let nearest = Search::new("m", Metric::StLpips, question.clone(), all.clone());
        assert_eq!(nearest.found[0].name, "c", "of distances the least is best");
        let search = Search::new("m", Metric::Psnr, question, all);
        let names: Vec<_> = search.found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["d", "b", "a", "c"]);
        assert_eq!(search.panel().lines[0].points[0], (1.0, 19.0));
        let text = serde_json::to_string(&search).unwrap();
        assert_eq!(serde_json::from_str::<Search>(&text).unwrap(), search);
    }
}
