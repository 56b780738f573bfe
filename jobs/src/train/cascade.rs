//! A cascade's stages, trained by one spec: each is a run of its own, and they need nothing of each other, so that a cluster
//! trains them side by side.
//!
//! ```yaml
//! kind: train
//! name: flowers
//! source: flowers/train
//! destination: runs/flowers        # stages go to runs/flowers/base and runs/flowers/enlarge
//! batch: 16
//! stages:
//! - {name: base, high_res: 32, model: …}
//! - {name: enlarge, high_res: 128, low_res: 32, model: …}
//! ```
//!
//! What stands beside `stages` is of all of them, and a stage's own fields come before it.

use std::collections::HashSet;

use sr3_proto::{SpecError, job_spec::Document};

/// The field that the stages stand in.
pub(super) const STAGES: &str = "stages";
const NAME: &str = "name";
const DESTINATION: &str = "destination";

/// The runs that a spec asks for: those of its stages, or itself.
///
/// # Errors
/// The first thing that is wrong, with its line. Fields are not looked at, but for names and places of stages.
pub fn runs(document: &Document) -> Result<Vec<Document>, SpecError> {
    let Some(stages) = document.maps(STAGES)? else { return Ok(vec![document.clone()]) };
    if stages.is_empty() {
        return Err(document.wrong(STAGES, "there are none: leave it out, or give one a network"));
    }
    let mut names = HashSet::new();
    let mut runs = Vec::new();
    for stage in stages {
        let Some(name) = stage.text(NAME).map(ToString::to_string) else {
            let message = "every stage needs a `name`: its folder at the destination is called so";
            return Err(SpecError { line: Some(stage.line()), message: message.to_string() });
        };
        if let Some(message) = no_folder(&name) {
            return Err(stage.wrong(NAME, message));
        }
        if !names.insert(name.clone()) {
            return Err(stage.wrong(NAME, "another stage is called so"));
        }
        if stage.line_of(DESTINATION).is_some() {
            let message = "stages go to folders of their names at the destination of the whole: leave it out";
            return Err(stage.wrong(DESTINATION, message));
        }
        let mut run = stage.over(&document.without(STAGES));
        if let Some(whole) = document.text(DESTINATION) {
            run.set(DESTINATION, format!("{}/{name}", whole.trim_end_matches('/')));
        }
        if let Some(whole) = document.text(NAME) {
            run.set(NAME, format!("{whole}/{name}"));
        }
        runs.push(run);
    }
    Ok(runs)
}

/// Why a name cannot be that of a folder everywhere.
fn no_folder(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ok = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain);
    (!ok).then_some("a folder is called so: take letters, digits, `-`, `_` and `.`")
}
