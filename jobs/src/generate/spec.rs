//! What a person writes to have samples made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Location, SpecError,
    job_spec::{Document, check, fields_of},
};

use crate::{
    DeviceChoice, Dtype, Selection,
    numbers::{some_count, some_real},
    wish::{self, ranges},
};

/// Make samples.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GenerateSpec {
    /// How many, where to, by which stages.
    #[serde(flatten)]
    pub job: GenerateFields,
    /// Which pictures of the source, if there is one.
    #[serde(flatten)]
    pub selection: Selection,
}

/// The fields that are this kind's alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateFields {
    /// A name for people; shown in lists, never used to find anything.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_name")]
    #[schemars(length(min = 1, max = check::NAME_CHARS_MAX))]
    pub name: Option<String>,
    /// Where samples go, as PNG: a folder or a URL. What lies there of the same job is gone on with.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub destination: String,
    /// How many samples. Give this or `source`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_count")]
    pub count: Option<u64>,
    /// Small pictures that the first stage enlarges, instead of making some of noise: a folder, taken at any depth, or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    pub source: Option<String>,
    /// What samples show, in turn, so that there are as many of each: names or numbers of the first stage's classes
    /// [default: all of them].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub classes: Vec<String>,
    /// The stages, from small to large.
    pub stages: Vec<StageSpec>,
    /// Whether the pictures of all stages but the last stay when the job has ended, under `.sr3/stages` of the destination.
    #[serde(default)]
    pub keep_stages: bool,
    /// Of all noise: the same seed gives the same bytes.
    #[serde(default)]
    pub seed: u64,
    /// What convolutions are computed in: f32 (the same bytes from every machine), bf16, or auto.
    #[serde(default)]
    pub dtype: Dtype,
    /// What may compute it: any, cpu or cuda.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Weight of the job's share among running jobs: one of 2 gets twice the workers of one of 1.
    #[serde(default = "wish::default_priority", deserialize_with = "wish::priority")]
    #[schemars(range(min = *ranges::PRIORITY.start(), max = *ranges::PRIORITY.end()))]
    pub priority: u8,
}

/// A stage of a cascade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// The model: in the box, the folder of a checkpoint, or its URL.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub model: String,
    /// The model's setting of sampler and steps [default: the model's own choice].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    pub preset: Option<String>,
    /// Sampling steps: more in small stages, fewer in large ones [default: the preset's].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_count")]
    pub steps: Option<u64>,
    /// Sampler: ddim, dpmpp_2m, ancestral, ancestral_posterior or ancestral_learned [default: the preset's].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    pub sampler: Option<String>,
    /// Classifier-free guidance of the first stage: 1 is none, more shows the class more clearly and in fewer ways. Costs a
    /// second evaluation a step; the model must have been trained with `label_dropout` [default: 1].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_real")]
    pub guidance: Option<f64>,
    /// Blur of what a later stage is given, as a standard deviation in pixels of the picture that it makes: of the range that
    /// it was trained with [default: 0].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_real")]
    pub blur: Option<f64>,
    /// Noise on what a later stage is given, as a standard deviation of 255: of the range that it was trained with [default: 0].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_real")]
    pub noise: Option<f64>,
    /// Whether that noise is what is left when the stage before is stopped early, in place of noise that is added (truncated
    /// conditioning augmentation): it saves that stage's last steps.
    #[serde(default)]
    pub truncated: bool,
    /// What the stage's convolutions are computed in [default: the job's]. Large stages may take bf16 and small ones f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// Whether what a later stage makes is projected so that, reduced, it is what it was given.
    #[serde(default)]
    pub projection: bool,
}

/// Most stages of a cascade.
const STAGES_MAX: usize = 8;
/// Most samples of a job.
const COUNT_MAX: u64 = 1 << 32;

impl GenerateSpec {
    /// Reads a spec of this kind.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(document: &Document) -> Result<Self, SpecError> {
        document.only(&[fields_of::<GenerateFields>(), fields_of::<Selection>()])?;
        let spec = Self { job: document.part()?, selection: document.part()? };
        match spec.contradiction() {
            Some((field, message)) => Err(document.wrong(field, &message)),
            None => Ok(spec),
        }
    }

    /// A field that does not go with another, or is out of its range, and why.
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let job = &self.job;
        let wrong = |field, message: &str| Some((field, message.to_string()));
        for (field, place) in [("destination", Some(&job.destination)), ("source", job.source.as_ref())] {
            if let Some(Err(error)) = place.map(|place| place.parse::<Location>()) {
                return Some((field, error.to_string()));
            }
        }
        match (job.count, &job.source) {
            (None, None) => return wrong("count", "give `count`, or a `source` of small pictures"),
            (Some(_), Some(_)) => {
                return wrong("count", "there are as many samples as pictures in `source`: leave it out");
            }
            (Some(count), None) if !(1..=COUNT_MAX).contains(&count) => {
                return Some(("count", format!("it is {count}: it must be from 1 to {COUNT_MAX}")));
            }
            _ => {}
        }
        if let (Some(Ok(source)), Ok(destination)) = (
            job.source.as_ref().map(|source| source.parse::<Location>()),
            job.destination.parse::<Location>(),
        ) && source.overlaps(&destination)
        {
            return wrong("destination", "it lies in the source, or the source in it");
        }
        if job.source.is_none() && self.selection != Selection::default() {
            return wrong("include", "it chooses among pictures of a `source`, and there is none");
        }
        if job.stages.is_empty() || job.stages.len() > STAGES_MAX {
            return Some((
                "stages",
                format!("there are {}: from 1 to {STAGES_MAX} make a cascade", job.stages.len()),
            ));
        }
        for (number, stage) in job.stages.iter().enumerate() {
            let says = |message: String| Some(("stages", format!("stage {}: {message}", number + 1)));
            let makes = number == 0 && job.source.is_none();
            if makes && (stage.blur.is_some() || stage.noise.is_some() || stage.projection) {
                return says("it is given no picture: leave blur, noise and projection out".to_string());
            }
            if !makes && stage.guidance.is_some() {
                return says("guidance is of a stage that makes pictures of noise: leave it out".to_string());
            }
            if stage.truncated && number == 0 {
                return says("no stage before it could be stopped early: leave `truncated` out".to_string());
            }
            if stage.truncated && job.stages[number - 1].projection {
                return says(
                    "the projection of the stage before would take its noise away: leave one of them out"
                        .to_string(),
                );
            }
            if stage.truncated && stage.noise.is_none_or(|noise| noise <= 0.0) {
                return says("truncated at what noise? Give `noise`".to_string());
            }
            for (name, value, most) in [
                ("guidance", stage.guidance, 100.0),
                ("blur", stage.blur, 100.0),
                ("noise", stage.noise, 255.0),
            ] {
                if let Some(value) = value.filter(|value| !(0.0..=most).contains(value)) {
                    return says(format!("{name} is {value}: it must be from 0 to {most}"));
                }
            }
            if stage.steps.is_some_and(|steps| !(1..=10_000).contains(&steps)) {
                return says("steps must be from 1 to 10000".to_string());
            }
            if stage.projection && (stage.blur.is_some() || stage.noise.is_some()) {
                return says(
                    "what is projected would be the blur or noise: leave one of them out".to_string(),
                );
            }
        }
        self.selection.contradiction()
    }

    /// What the job's bits are decided by: the most demanding of what its stages are computed in.
    pub fn dtype(&self) -> Dtype {
        let of = |stage: &StageSpec| stage.dtype.unwrap_or(self.job.dtype);
        let asked = |dtype| self.job.stages.iter().any(|stage| of(stage) == dtype);
        [Dtype::Bf16, Dtype::Auto].into_iter().find(|dtype| asked(*dtype)).unwrap_or(Dtype::F32)
    }
}
