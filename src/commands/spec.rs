//! `sr3 spec`: the schema of job specs, and whether a file is one. Works offline and starts nothing.

use std::sync::Arc;

use clap::Subcommand;
use sr3_engine::model::bundled::Bundled;
use sr3_jobs::{
    JobSpec, Selection, Wish,
    generate::{Generate, StageSpec},
    images::Filter,
    models::Library,
    train::Train,
    upscale::{Bits, EngineModels, engine_models::recipe},
};
use sr3_proto::{SpecError, job_spec::Document, words::printable};

use super::{fid, generate, spec_file::SpecFile, train};
use crate::exit::{CommandError, Ending};

/// What to do with job specs.
#[derive(Clone, Debug, Subcommand)]
pub enum SpecCommand {
    /// Print JSON Schema of job specs, for editors.
    Schema,
    /// Say whether a job spec can be used, and if not, the line and what would be right.
    Validate {
        /// A YAML file; - for standard input.
        file: String,
    },
}

/// Takes one wish over from another.
type Take = fn(&mut Wish, &Wish);

/// Runs it.
pub fn run(command: &SpecCommand) -> Result<Ending, CommandError> {
    match command {
        SpecCommand::Schema => say!("{:#}", JobSpec::schema()),
        SpecCommand::Validate { file } => {
            let file = SpecFile::read(file)?;
            for document in JobSpec::documents(&file.text).map_err(|e| file.wrong(e))? {
                say!("{}: {}", file.name, validate(&document).map_err(|e| file.wrong(e))?);
            }
        }
    }
    Ok(Ending::Done)
}

/// One line about a spec that can be used.
fn validate(document: &Document) -> Result<String, SpecError> {
    let located =
        |field: &str, error: String| SpecError { line: document.line_of(field), message: printable(&error) };
    let check_globs = |selection: &Selection| {
        for (field, globs) in [("include", &selection.include), ("exclude", &selection.exclude)] {
            Filter::new(globs, &[]).map_err(|error| located(field, error.to_string()))?;
        }
        Ok::<_, SpecError>(())
    };
    match JobSpec::read(document)? {
        JobSpec::Upscale(spec) => {
            check_globs(&spec.selection)?;
            let model =
                check_model(&spec.wish).map_err(|(field, error)| located(field, error.to_string()))?;
            let (source, destination) = (printable(&spec.job.source), printable(&spec.job.destination));
            Ok(format!("upscale {source} to {destination} with {model}"))
        }
        JobSpec::Evaluate(spec) => {
            check_globs(&spec.selection)?;
            let source = printable(&spec.job.source);
            if let Some(reference) = &spec.job.reference {
                return Ok(format!("evaluate {source} against {}", printable(reference)));
            }
            let model =
                check_model(&spec.wish).map_err(|(field, error)| located(field, error.to_string()))?;
            Ok(format!("evaluate {model} on {source}"))
        }
        JobSpec::Generate(spec) => {
            check_globs(&spec.selection)?;
            let elsewhere =
                |stage: &StageSpec| Bundled::find(&stage.model).is_none() && is_elsewhere(&stage.model);
            if !spec.job.stages.iter().any(elsewhere) {
                Generate::new(Arc::new(EngineModels::default()))
                    .plan(&spec, &Bits::default())
                    .map_err(|(field, error)| located(field, error))?;
            }
            Ok(printable(&generate::summary(&spec)))
        }
        JobSpec::Compare(spec) => {
            check_globs(&spec.selection)?;
            Ok(printable(&fid::summary(&spec)))
        }
        JobSpec::Project(spec) => {
            check_globs(&spec.selection)?;
            let [source, enlarged, destination] =
                [&spec.job.source, &spec.job.enlarged, &spec.job.destination].map(|place| printable(place));
            Ok(format!("project {enlarged} onto {source} to {destination}"))
        }
        JobSpec::Train(spec) => {
            check_globs(&spec.selection)?;
            Train::new(Arc::new(Library::of_process()))
                .resolve(&spec, &Bits::default())
                .map_err(|(field, error)| located(field, error))?;
            Ok(printable(&train::summary(&spec)))
        }
    }
}

/// The model as the job will use it, or the field that does not fit it. A model that lies where only the cluster can
/// look is not an error.
fn check_model(all: &Wish) -> Result<String, (&'static str, CommandError)> {
    let name = printable(&all.model);
    if Bundled::find(&all.model).is_none() && is_elsewhere(&all.model) {
        return Ok(format!("{name} (not here, so not checked)"));
    }
    let config =
        Library::of_process().config(&all.model).map_err(|error| ("model", CommandError::from(error)))?;
    // One wish after the other, so that the error is known to be about the last.
    let mut wish = Wish { preset: None, sampler: None, steps: None, tile: None, ..all.clone() };
    let wishes: [(&str, Take); 5] = [
        ("model", |_, _| {}),
        ("preset", |wish, all| wish.preset.clone_from(&all.preset)),
        ("sampler", |wish, all| wish.sampler.clone_from(&all.sampler)),
        ("steps", |wish, all| wish.steps = all.steps),
        ("tile", |wish, all| wish.tile = all.tile),
    ];
    for (field, take) in wishes {
        take(&mut wish, all);
        recipe(&config, &wish, None).map_err(|error| (field, error.into()))?;
    }
    let preset = all.preset.as_deref().unwrap_or(&config.default_preset);
    let scale = all.scale.map_or(config.scale, |scale| scale as usize);
    Ok(format!("{name}, preset {}, {scale}×", printable(preset)))
}

/// Whether a model that is not in the box is named by a place that this machine cannot see.
fn is_elsewhere(model: &str) -> bool {
    model.contains("://") || model.contains('/') && !std::path::Path::new(model).exists()
}
