//! What a person writes to have sets of pictures compared.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    SpecError,
    job_spec::{Document, check, fields_of},
};

use super::{Metric, Mode, place};
use crate::{
    Selection,
    wish::{self, ranges},
};

/// Compare sets of pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CompareSpec {
    /// What is compared, and how.
    #[serde(flatten)]
    pub job: CompareFields,
    /// Which pictures.
    #[serde(flatten)]
    pub selection: Selection,
}

/// The fields that are this kind's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(deny_unknown_fields)]
pub struct CompareFields {
    /// A name for people; shown in lists, never used to find anything.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_name")]
    #[schemars(length(min = 1, max = check::NAME_CHARS_MAX))]
    #[arg(skip)]
    pub name: Option<String>,
    /// The set that is judged: a folder, taken at any depth with the tar archives in it, a URL such as s3://bucket/prefix, one
    /// .tar, or an .npz of samples (arr_0) or of statistics (mu, sigma).
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    #[arg(value_name = "A")]
    pub source: String,
    /// The set that it should be like, of the same kinds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    #[arg(value_name = "B")]
    pub reference: Option<String>,
    /// Pictures like those of the reference that no model was trained on: memorisation compares with them.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    #[arg(long, value_name = "PLACE")]
    pub held_out: Option<String>,
    /// Where the numbers go, as compared.json and left-out.jsonl; a cluster keeps features there as well.
    #[serde(rename = "destination", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    #[arg(long = "out", value_name = "PLACE")]
    pub destination: Option<String>,
    /// As which tool pictures are prepared: pytorch-fid, torch-fidelity (also that of guided-diffusion's evaluator) or
    /// clean-fid.
    #[serde(default)]
    #[arg(long, default_value_t)]
    pub mode: Mode,
    /// Which numbers.
    #[serde(default = "default_metrics")]
    #[arg(long, value_name = "METRIC[,METRIC…]", value_delimiter = ',', default_values_t = default_metrics())]
    pub metrics: Vec<Metric>,
    /// Write mean and covariance of the source's features to the destination, as pytorch-fid's .npz.
    #[serde(default)]
    #[arg(skip)]
    pub save_statistics: bool,
    /// Fail when more pictures than this cannot be read [default: no bound].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "N")]
    pub max_bad_items: Option<u64>,
    /// Weight of the job's share among running jobs: one of 2 gets twice the workers of one of 1.
    #[serde(default = "wish::default_priority", deserialize_with = "wish::priority")]
    #[schemars(range(min = *ranges::PRIORITY.start(), max = *ranges::PRIORITY.end()))]
    #[arg(skip = wish::default_priority())]
    pub priority: u8,
}

fn default_metrics() -> Vec<Metric> {
    vec![Metric::Fid, Metric::Kid, Metric::Mind]
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(clap::ValueEnum::to_possible_value(self).as_ref().map_or("", |value| value.get_name()))
    }
}

impl CompareSpec {
    /// Reads a spec of this kind.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(document: &Document) -> Result<Self, SpecError> {
        document.only(&[fields_of::<CompareFields>(), fields_of::<Selection>()])?;
        let spec = Self { job: document.part()?, selection: document.part()? };
        match spec.contradiction() {
            Some((field, message)) => Err(document.wrong(field, &message)),
            None => Ok(spec),
        }
    }

    /// The numbers that are asked for, in order. Held-out pictures are only there for memorisation; without a reference what
    /// compares is left out.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.job.metrics.clone();
        metrics.extend(self.job.held_out.as_ref().map(|_| Metric::Memorisation));
        metrics.retain(|metric| self.job.reference.is_some() || !metric.needs_reference());
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    /// A field that does not go with another, and why.
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let Self { job, selection } = self;
        if job.metrics.contains(&Metric::Memorisation) && job.held_out.is_none() {
            let message =
                "memorisation needs held-out pictures to compare with: name their place as held_out";
            return Some(("metrics", message.to_string()));
        }
        if job.reference.is_none() && job.held_out.is_some() {
            return Some(("held_out", "memorisation needs the training pictures as reference".to_string()));
        }
        if self.metrics().is_empty() && !job.save_statistics {
            return Some(("reference", "name the set to compare with".to_string()));
        }
        let named = [
            ("source", Some(&job.source)),
            ("reference", job.reference.as_ref()),
            ("held_out", job.held_out.as_ref()),
            ("destination", job.destination.as_ref()),
        ];
        for (field, written) in named {
            if let Some(Err(error)) = written.map(|written| place::Place::read(written)) {
                return Some((field, error));
            }
        }
        selection.contradiction()
    }
}
