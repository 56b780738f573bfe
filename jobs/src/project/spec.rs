//! What a person writes to have enlarged pictures made to reduce to their inputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Location, SpecError,
    job_spec::{Document, check, fields_of},
};

use crate::{
    Selection, Writing,
    images::Naming,
    upscale::{Enlarged, RecipeSpec, UpscaleOrder},
    wish::{self, ranges},
};

/// Memory that a worker must have besides that of pictures, in bytes: no model is loaded.
const MEMORY_BYTES: u64 = 0;

/// Make what somebody else has enlarged reduce to its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProjectSpec {
    /// From where to where.
    #[serde(flatten)]
    pub job: ProjectFields,
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
pub struct ProjectFields {
    /// A name for people; shown in lists, never used to find anything.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_name")]
    #[schemars(length(min = 1, max = check::NAME_CHARS_MAX))]
    pub name: Option<String>,
    /// Where the small images lie: a folder, taken at any depth, or a URL such as s3://bucket/prefix.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub source: String,
    /// Where lies what another upscaler has made of them, in the same tree and under the same names; an extension may be
    /// another one.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub enlarged: String,
    /// Where the results go, in the tree and under the names of the small images: a folder or a URL.
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

impl ProjectSpec {
    /// A spec in which everything but its places is as documented for an absent field.
    pub fn new(
        source: impl Into<String>,
        enlarged: impl Into<String>,
        destination: impl Into<String>,
    ) -> Self {
        let job = ProjectFields {
            name: None,
            source: source.into(),
            enlarged: enlarged.into(),
            destination: destination.into(),
            overwrite: false,
            max_bad_items: None,
            priority: wish::default_priority(),
        };
        Self { job, selection: Selection::default(), writing: Writing::default() }
    }

    /// Reads a spec of this kind.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(document: &Document) -> Result<Self, SpecError> {
        document.only(&[fields_of::<ProjectFields>(), fields_of::<Selection>(), fields_of::<Writing>()])?;
        let spec = Self { job: document.part()?, selection: document.part()?, writing: document.part()? };
        match spec.contradiction() {
            Some((field, message)) => Err(document.wrong(field, &message)),
            None => Ok(spec),
        }
    }

    /// What it comes to.
    pub fn order(&self) -> UpscaleOrder {
        let Self { job, selection, writing } = self.clone();
        UpscaleOrder {
            source: job.source,
            destination: job.destination,
            model: String::new(),
            memory_bytes: MEMORY_BYTES,
            recipe: RecipeSpec::projection(&writing),
            naming: Naming::Mirror,
            enlarged: Some(Enlarged { place: job.enlarged, naming: Naming::Mirror }),
            include: selection.include,
            exclude: selection.exclude,
            bytes_min: selection.bytes_min,
            bytes_max: selection.bytes_max,
            max_bad_items: job.max_bad_items,
            overwrite: job.overwrite,
        }
    }

    /// A field that does not go with another, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        let ProjectFields { source, enlarged, destination, .. } = &self.job;
        let mut places = Vec::new();
        for (field, written) in [("source", source), ("enlarged", enlarged), ("destination", destination)] {
            match written.parse::<Location>() {
                Ok(location) => places.push(location),
                Err(error) => return Some((field, error.to_string())),
            }
        }
        let [source, enlarged, destination] = &places[..] else { return None };
        if enlarged == source {
            return Some(("enlarged", "it is the source: nothing was enlarged".to_string()));
        }
        if source.contains(enlarged) {
            return Some(("enlarged", "it lies in the source: it would be enlarged itself".to_string()));
        }
        let among = "results never go among what they are made of";
        for (what, place) in [("the source", source), ("what was enlarged", enlarged)] {
            if destination == place {
                return Some(("destination", format!("it is {what}: {among}")));
            }
            if destination.overlaps(place) {
                return Some(("destination", format!("it overlaps with {what}: {among}")));
            }
        }
        self.selection.contradiction()
    }
}
