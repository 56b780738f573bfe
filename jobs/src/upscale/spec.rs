//! What a person writes to have images upscaled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Location, SpecError,
    job_spec::{Document, check, fields_of},
};

use crate::{
    Selection, Wish, Writing,
    wish::{self, ranges},
};

/// Upscale every image of a source into a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UpscaleSpec {
    /// From where to where, and how.
    #[serde(flatten)]
    pub job: UpscaleFields,
    /// With which model.
    #[serde(flatten)]
    pub wish: Wish,
    /// Which images.
    #[serde(flatten)]
    pub selection: Selection,
    /// Into which files.
    #[serde(flatten)]
    pub writing: Writing,
}

/// The fields that are this kind's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpscaleFields {
    /// A name for people; shown in lists, never used to find anything.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_name")]
    #[schemars(length(min = 1, max = check::NAME_CHARS_MAX))]
    pub name: Option<String>,
    /// Where the images lie: a folder, taken at any depth, or a URL such as s3://bucket/prefix.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub source: String,
    /// Where the results go, in the tree and under the names of their inputs: a folder or a URL.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub destination: String,
    /// Compute everything again and replace what is there.
    #[serde(default)]
    pub overwrite: bool,
    /// Fail when more images than this have to be set aside; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bad_items: Option<u64>,
    /// Weight of the job's share among running jobs: one of 2 gets twice the workers of one of 1.
    #[serde(default = "wish::default_priority", deserialize_with = "wish::priority")]
    #[schemars(range(min = *ranges::PRIORITY.start(), max = *ranges::PRIORITY.end()))]
    pub priority: u8,
}

impl UpscaleSpec {
    /// A spec in which everything but its places is as documented for an absent field.
    pub fn new(source: impl Into<String>, destination: impl Into<String>) -> Self {
        let job = UpscaleFields {
            name: None,
            source: source.into(),
            destination: destination.into(),
            overwrite: false,
            max_bad_items: None,
            priority: wish::default_priority(),
        };
        Self { job, wish: Wish::default(), selection: Selection::default(), writing: Writing::default() }
    }

    /// Reads a spec of this kind.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(document: &Document) -> Result<Self, SpecError> {
        document.only(&[
            fields_of::<UpscaleFields>(),
            fields_of::<Wish>(),
            fields_of::<Selection>(),
            fields_of::<Writing>(),
        ])?;
        let spec = Self {
            job: document.part()?,
            wish: document.part()?,
            selection: document.part()?,
            writing: document.part()?,
        };
        match spec.contradiction() {
            Some((field, message)) => Err(document.wrong(field, &message)),
            None => Ok(spec),
        }
    }

    /// A field that does not go with another, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        let UpscaleFields { source, destination, .. } = &self.job;
        let among = "results never go among their inputs";
        let places = (source.parse::<Location>(), destination.parse::<Location>());
        match places {
            (Err(error), _) => Some(("source", error.to_string())),
            (_, Err(error)) => Some(("destination", error.to_string())),
            (Ok(from), Ok(to)) if from == to => Some(("destination", format!("it is the source: {among}"))),
            (Ok(from), Ok(to)) if from.contains(&to) => {
                Some(("destination", format!("it lies in the source: {among}")))
            }
            (Ok(from), Ok(to)) if to.contains(&from) => {
                Some(("destination", format!("the source lies in it: {among}")))
            }
            _ => self.selection.contradiction(),
        }
    }
}
