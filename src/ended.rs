//! How a job ended, in this process or on a cluster, for people and for programs.
//!
//! The end goes to stdout, as text or as one JSON object; what went wrong goes to stderr.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use sr3_coordinator::core::view::{JobView, Phase};
use sr3_jobs::{
    Dtype,
    upscale::{ItemRecord, ItemStatus, UpscaleOrder},
};
use sr3_proto::words::printable;

use crate::{clock::clock, exit::Ending, say};

/// How many quarantined items are listed.
const REASONS_MAX: usize = 20;
/// With more results than this that have notes, they are only counted.
const NOTED_MAX: usize = 5;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every item has its verdict.
    Finished,
    /// It was asked to stop.
    Interrupted,
    /// It could not go on; one line that says why.
    Failed { reason: String },
}

/// A job that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) job: u64,
    pub(crate) outcome: Outcome,
    /// What to do after an interruption.
    pub(crate) hint: String,
    pub(crate) done: u64,
    pub(crate) skipped: u64,
    pub(crate) quarantined: u64,
    /// Results with notes, as far as they are known here; the first of them with what they say.
    pub(crate) with_notes: Option<u64>,
    pub(crate) notes: Vec<(String, Vec<String>)>,
    /// Reasons of skipped items, as far as they are known here, and how often.
    pub(crate) skips: BTreeMap<String, u64>,
    /// The first quarantined items, as far as they are known here, and why.
    pub(crate) bad: Vec<(String, Option<String>)>,
    /// Empty where nothing was enlarged.
    pub(crate) model: String,
    pub(crate) model_sha256: String,
    pub(crate) recipe: Option<String>,
    /// What convolutions were computed in, where it is known here.
    pub(crate) dtype: Option<Dtype>,
    /// Path of the report, where one was written.
    pub(crate) report: Option<String>,
    pub(crate) time: Duration,
}

/// What an interrupted `sr3 upscale` advises.
pub(crate) fn go_on(overwrite: bool) -> String {
    let how = if overwrite { " without --overwrite" } else { "" };
    format!("interrupted; run the same command again{how} to go on")
}

impl Ended {
    /// One that ran in this process; `records` are its report.
    pub(crate) fn here(
        job: &JobView,
        records: &[ItemRecord],
        spec: &UpscaleOrder,
        report: Option<String>,
        time: Duration,
    ) -> Self {
        let outcome = match job.phase {
            Phase::Succeeded => Outcome::Finished,
            Phase::Cancelled => Outcome::Interrupted,
            _ => Outcome::Failed { reason: job.reason.clone() },
        };
        let of = |status| records.iter().filter(move |record| record.status == status);
        let mut skips: BTreeMap<String, u64> = BTreeMap::new();
        for record in of(ItemStatus::Skipped) {
            *skips.entry(record.reason.clone().unwrap_or_default()).or_default() += 1;
        }
        let bad = of(ItemStatus::Quarantined).take(REASONS_MAX);
        let noted = || of(ItemStatus::Ok).filter(|record| !record.notes.is_empty());
        Self {
            with_notes: Some(noted().count() as u64),
            notes: noted()
                .take(NOTED_MAX)
                .map(|record| (record.input.clone(), record.notes.clone()))
                .collect(),
            job: job.run.get(),
            outcome,
            hint: go_on(spec.overwrite),
            done: job.counts.done,
            skipped: job.counts.skipped,
            quarantined: job.counts.quarantined,
            skips,
            bad: bad.map(|record| (record.input.clone(), record.reason.clone())).collect(),
            model: spec.recipe.model_name.clone(),
            model_sha256: spec.recipe.model.as_ref().map(ToString::to_string).unwrap_or_default(),
            recipe: Some(spec.recipe.digest().to_string()),
            dtype: Some(spec.recipe.dtype),
            report,
            time,
        }
    }

    /// How the command ends that waited for it.
    pub(crate) fn ending(&self) -> Ending {
        match self.outcome {
            Outcome::Finished if self.quarantined > 0 => Ending::WithQuarantined,
            Outcome::Finished => Ending::Done,
            Outcome::Interrupted => Ending::Interrupted,
            Outcome::Failed { .. } => Ending::Failed,
        }
    }

    /// Prints it.
    pub(crate) fn print(&self, json: bool, quiet: bool) {
        if let Outcome::Failed { reason } = &self.outcome {
            tell!("sr3: {reason}");
        }
        if self.outcome == Outcome::Interrupted {
            tell!("sr3: {}", self.hint);
        }
        let text = match (json, quiet) {
            (true, _) => self.as_json(),
            (false, true) => return,
            (false, false) => self.as_text(),
        };
        say::print(&text);
    }

    fn as_text(&self) -> String {
        let Self { done, skipped, quarantined, .. } = self;
        let with_notes = match self.with_notes {
            None | Some(0) => String::new(),
            Some(number) => format!("; {number} with notes"),
        };
        let time = clock(self.time);
        let mut text =
            format!("{done} done, {skipped} skipped, {quarantined} set aside in {time}{with_notes}\n");
        if self.with_notes == Some(self.notes.len() as u64) || self.report.is_none() {
            for (input, notes) in &self.notes {
                text += &format!("  {}: {}\n", printable(input), printable(&notes.join("; ")));
            }
        }
        for (reason, count) in &self.skips {
            text += &format!("  {count} skipped: {reason}\n");
        }
        for (input, reason) in &self.bad {
            text += &format!("  {}: {}\n", printable(input), reason.as_deref().unwrap_or_default());
        }
        let more = usize::try_from(*quarantined).unwrap_or(usize::MAX).saturating_sub(self.bad.len());
        match &self.report {
            Some(report) if more > 0 && !self.bad.is_empty() => {
                text += &format!("  … and {more} more, see {report}\n");
            }
            Some(report) => text += &format!("report: {report}\n"),
            None => {}
        }
        text
    }

    fn as_json(&self) -> String {
        let (outcome, reason) = match &self.outcome {
            Outcome::Finished => ("finished", None),
            Outcome::Interrupted => ("interrupted", None),
            Outcome::Failed { reason } => ("failed", Some(reason)),
        };
        let bad: Vec<_> =
            self.bad.iter().map(|(input, reason)| json!({"input": input, "reason": reason})).collect();
        let seconds = self.time.as_secs_f64();
        let some = |text: &'_ str| Some(text.to_string()).filter(|text| !text.is_empty());
        let object = json!({
            "job": self.job,
            "outcome": outcome,
            "reason": reason,
            "done": self.done,
            "skipped": self.skipped,
            "quarantined": self.quarantined,
            "with_notes": self.with_notes,
            "quarantined_first": bad,
            "seconds": seconds,
            "images_per_second": self.done as f64 / seconds.max(1e-9),
            "model": some(&self.model),
            "model_sha256": some(&self.model_sha256),
            "recipe": self.recipe,
            "dtype": self.dtype,
            "report": self.report,
        });
        format!("{object}\n")
    }
}
