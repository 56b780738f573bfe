//! What a person writes to have pictures measured.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Location, SpecError,
    job_spec::{Document, check, fields_of},
};

use super::Metric;
use crate::{
    Selection, Wish,
    wish::{self, ranges},
};

/// Measure pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EvaluateSpec {
    /// What is measured, and how.
    #[serde(flatten)]
    pub job: EvaluateFields,
    /// With which model, where pictures are reduced and enlarged again.
    #[serde(flatten)]
    pub wish: Wish,
    /// Which pictures.
    #[serde(flatten)]
    pub selection: Selection,
}

/// The fields that are this kind's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(deny_unknown_fields)]
pub struct EvaluateFields {
    /// A name for people; shown in lists, never used to find anything.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_name")]
    #[schemars(length(min = 1, max = check::NAME_CHARS_MAX))]
    #[arg(skip)]
    pub name: Option<String>,
    /// The pictures: a folder, taken at any depth, or a URL such as s3://bucket/prefix. Without a reference each is reduced,
    /// enlarged again by the model and by bicubic, and compared with what it was.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    #[arg(value_name = "SRC")]
    pub source: String,
    /// The pictures that those of the source should be, under the same names; nothing is enlarged then.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    #[arg(long, value_name = "PLACE")]
    pub reference: Option<String>,
    /// Where the numbers go, as evaluation.jsonl, evaluation.csv and evaluation.json: a folder or a URL.
    #[serde(rename = "destination", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    #[arg(long = "out", value_name = "PLACE")]
    pub destination: Option<String>,
    /// Which numbers.
    #[serde(default = "Metric::usual")]
    #[arg(long, value_name = "METRIC[,METRIC…]", value_delimiter = ',', default_values_t = Metric::usual())]
    pub metrics: Vec<Metric>,
    /// Write what the model makes there as well, as PNG.
    #[serde(default)]
    #[arg(long, requires = "destination")]
    pub pictures: bool,
    /// Only the middle square of this side, in pixels [default: all].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "PIXELS")]
    pub crop: Option<u32>,
    /// Fail when more pictures than this have to be set aside [default: no bound].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "N")]
    pub max_bad_items: Option<u64>,
    /// Weight of the job's share among running jobs: one of 2 gets twice the workers of one of 1.
    #[serde(default = "wish::default_priority", deserialize_with = "wish::priority")]
    #[schemars(range(min = *ranges::PRIORITY.start(), max = *ranges::PRIORITY.end()))]
    #[arg(skip = wish::default_priority())]
    pub priority: u8,
}

impl EvaluateSpec {
    /// Reads a spec of this kind.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(document: &Document) -> Result<Self, SpecError> {
        document.only(&[fields_of::<EvaluateFields>(), fields_of::<Wish>(), fields_of::<Selection>()])?;
        let spec = Self { job: document.part()?, wish: document.part()?, selection: document.part()? };
        match spec.contradiction() {
            Some((field, message)) => Err(document.wrong(field, &message)),
            None => Ok(spec),
        }
    }

    /// The numbers that are asked for, in order, each once.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.job.metrics.clone();
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// A field that does not go with another, and why.
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let Self { job, wish, selection } = self;
        if job.reference.as_ref() == Some(&job.source) {
            return Some(("reference", "it is the source: every picture would be itself".to_string()));
        }
        if job.metrics.is_empty() {
            return Some(("metrics", "name a number at least, or leave it out".to_string()));
        }
        let unwished = Wish { scale: wish.scale, ..Wish::default() };
        if job.reference.is_some() && *wish != unwished {
            let message = "with one, nothing is enlarged: leave the model and how it is used out";
            return Some(("reference", message.to_string()));
        }
        if job.reference.is_some() && job.pictures {
            return Some(("pictures", "with a reference nothing is enlarged: leave it out".to_string()));
        }
        let named = [
            ("source", Some(&job.source)),
            ("reference", job.reference.as_ref()),
            ("destination", job.destination.as_ref()),
        ];
        for (field, place) in named {
            if let Some(Err(error)) = place.map(|place| place.parse::<Location>()) {
                return Some((field, error.to_string()));
            }
        }
        let places =
            (job.source.parse::<Location>(), job.destination.as_ref().map(|d| d.parse::<Location>()));
        if let (true, (Ok(source), Some(Ok(destination)))) = (job.pictures, places)
            && source.overlaps(&destination)
        {
            let message =
                "it lies in the source, or the source in it: pictures that are made would be measured";
            return Some(("destination", message.to_string()));
        }
        selection.contradiction()
    }
}
