//! Job specs of every kind.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Value, json};
use sr3_proto::{
    SpecError,
    job_spec::{self, Document},
};

use crate::{
    compare::{self, CompareSpec},
    evaluate::{self, EvaluateSpec},
    generate::{self, GenerateSpec},
    project::{self, ProjectSpec},
    train::{self, TrainSpec},
    upscale::{self, UpscaleSpec},
};

/// Names of the kinds.
pub const KINDS: &[&str] =
    &[upscale::NAME, evaluate::NAME, compare::NAME, train::NAME, generate::NAME, project::NAME];

/// A job for sr3, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobSpec {
    /// Upscale every image of a source into a destination.
    Upscale(UpscaleSpec),
    /// Measure pictures.
    Evaluate(EvaluateSpec),
    /// Compare sets of pictures.
    Compare(CompareSpec),
    /// Train a network.
    Train(Box<TrainSpec>),
    /// Make samples.
    Generate(Box<GenerateSpec>),
    /// Make what somebody else has enlarged reduce to its inputs.
    Project(ProjectSpec),
}

impl JobSpec {
    /// Reads the spec of one job: a YAML (or JSON) document.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line: never more than one line of text.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        Self::read(&Document::parse(text, KINDS)?)
    }

    /// The documents of the jobs that a text asks for: several where it trains the stages of a cascade.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn documents(text: &str) -> Result<Vec<Document>, SpecError> {
        let document = Document::parse(text, KINDS)?;
        if document.kind() == train::NAME { train::runs(&document) } else { Ok(vec![document]) }
    }

    /// Reads the spec of one job.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(document: &Document) -> Result<Self, SpecError> {
        Ok(match document.kind() {
            evaluate::NAME => Self::Evaluate(EvaluateSpec::read(document)?),
            compare::NAME => Self::Compare(CompareSpec::read(document)?),
            train::NAME => Self::Train(Box::new(TrainSpec::read(document)?)),
            generate::NAME => Self::Generate(Box::new(GenerateSpec::read(document)?)),
            project::NAME => Self::Project(ProjectSpec::read(document)?),
            _ => Self::Upscale(UpscaleSpec::read(document)?),
        })
    }

    /// Whether [`Self::parse`] takes it, for a spec that was built from something else than text.
    ///
    /// # Errors
    /// What it says, without a line.
    pub fn check(&self) -> Result<(), SpecError> {
        match Self::parse(&self.to_yaml()) {
            Ok(_) => Ok(()),
            Err(error) => Err(SpecError { line: None, ..error }),
        }
    }

    /// Its canonical text, which [`Self::parse`] reads back to the same spec.
    pub fn to_yaml(&self) -> String {
        match self {
            Self::Upscale(spec) => job_spec::to_yaml(upscale::NAME, spec),
            Self::Evaluate(spec) => job_spec::to_yaml(evaluate::NAME, spec),
            Self::Compare(spec) => job_spec::to_yaml(compare::NAME, spec),
            Self::Train(spec) => job_spec::to_yaml(train::NAME, spec),
            Self::Generate(spec) => job_spec::to_yaml(generate::NAME, spec),
            Self::Project(spec) => job_spec::to_yaml(project::NAME, spec),
        }
    }

    /// JSON Schema (2020-12) of a job spec, for editors and other people's tools.
    pub fn schema() -> Value {
        let kinds = [
            of_kind(upscale::NAME, of::<UpscaleSpec>()),
            of_kind(evaluate::NAME, of::<EvaluateSpec>()),
            of_kind(compare::NAME, of::<CompareSpec>()),
            of_kind(train::NAME, of::<TrainSpec>()),
            of_stages(of_kind(train::NAME, of::<TrainSpec>())),
            of_kind(generate::NAME, of::<GenerateSpec>()),
            of_kind(project::NAME, of::<ProjectSpec>()),
        ];
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "JobSpec",
            "description": "A job for sr3, told apart by `kind`.",
            "oneOf": kinds,
        })
    }
}

impl From<UpscaleSpec> for JobSpec {
    fn from(spec: UpscaleSpec) -> Self {
        Self::Upscale(spec)
    }
}

impl From<CompareSpec> for JobSpec {
    fn from(spec: CompareSpec) -> Self {
        Self::Compare(spec)
    }
}

impl From<ProjectSpec> for JobSpec {
    fn from(spec: ProjectSpec) -> Self {
        Self::Project(spec)
    }
}

impl From<EvaluateSpec> for JobSpec {
    fn from(spec: EvaluateSpec) -> Self {
        Self::Evaluate(spec)
    }
}

/// The schema of a struct, whole: what it refers to stands in it, since it becomes a part of another.
fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The schema of a kind's fields, closed, with its `kind` among them.
fn of_kind(name: &str, mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        for key in ["$schema", "title", "unevaluatedProperties"] {
            object.remove(key);
        }
        object.insert("additionalProperties".into(), false.into());
    }
    schema["properties"]["kind"] = json!({ "type": "string", "const": name });
    if let Some(required) = schema["required"].as_array_mut() {
        required.push("kind".into());
    }
    schema
}

/// The schema of several by one spec: any field may stand beside its `stages`, or in them.
fn of_stages(mut one: Value) -> Value {
    one["required"] = json!(["kind", "stages"]);
    let mut stage = one.clone();
    stage["required"] = json!(["name"]);
    for field in ["kind", "destination"] {
        stage["properties"].as_object_mut().map(|fields| fields.remove(field));
    }
    one["properties"]["stages"] = json!({
        "description": "The runs, each with what differs from what stands beside them.",
        "type": "array",
        "minItems": 1,
        "items": stage,
    });
    one
}
