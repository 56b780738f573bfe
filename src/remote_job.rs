//! A job as a coordinator tells it, for the progress display, for people and for programs.
//!
//! The keys of [`json`] are documented in README.md and stay.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use sr3_jobs::{Dtype, JobSpec, upscale};
use sr3_proto::{
    JobId, layout,
    wire::v1::{Job, JobCounts, JobState, Place},
    words::printable,
};

use crate::{
    clock::{age, since},
    console::View,
    ended::{Ended, Outcome},
    progress::{Current, Progress},
};

/// Whether nothing will change about it any more.
pub(crate) fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}

/// Its state, in a word.
pub(crate) fn state(job: &Job) -> &'static str {
    match job.state() {
        JobState::Unspecified => "unknown",
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Finishing => "finishing",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// Where it reads, and where it writes.
fn places(job: &Job) -> (Option<&str>, Option<&str>) {
    let find = |writes| job.places.iter().find(|place: &&Place| place.writes == writes);
    (find(false).map(|place| place.location.as_str()), find(true).map(|place| place.location.as_str()))
}

/// What its convolutions are computed in; none where its spec does not say.
fn dtype(job: &Job) -> Option<Dtype> {
    match JobSpec::parse(&job.spec) {
        Ok(JobSpec::Upscale(spec)) => Some(spec.wish.dtype).filter(|dtype| *dtype != Dtype::Auto),
        Ok(JobSpec::Train(spec)) => Some(spec.train.dtype).filter(|dtype| *dtype != Dtype::Auto),
        Ok(JobSpec::Generate(spec)) => Some(spec.job.dtype).filter(|dtype| *dtype != Dtype::Auto),
        Ok(JobSpec::Evaluate(_) | JobSpec::Compare(_) | JobSpec::Project(_)) | Err(_) => None,
    }
}

/// Name and sha256 of its model; empty for none.
pub(crate) fn model(job: &Job) -> (&str, &str) {
    job.models.first().map_or(("", ""), |model| (&model.name, &model.sha256))
}

/// Its numbers.
pub(crate) fn counts(job: &Job) -> JobCounts {
    job.counts.unwrap_or_default()
}

impl From<Job> for View {
    fn from(job: Job) -> Self {
        let workers: BTreeSet<_> = job.current.iter().map(|item| &item.worker).collect();
        let JobCounts { planned, done, skipped, quarantined, work_planned, work_done, .. } = counts(&job);
        let current = match job.current.as_slice() {
            [only] => Some(Current { input: only.input.clone(), share: only.share }),
            // Of a gang all say the same.
            [first, ..] if job.members > 0 => {
                Some(Current { input: first.input.clone(), share: first.share })
            }
            _ => None,
        };
        let note = match job.state() {
            JobState::Queued => Some("queued"),
            JobState::Paused => Some("paused"),
            JobState::Finishing => Some("writing the report"),
            JobState::Running if job.planning_done && job.leases == 0 => Some("waiting for workers"),
            _ => None,
        };
        let planning_done = job.planning_done;
        Self {
            within: job.current.iter().map(|item| item.share).sum(),
            workers: workers.len(),
            members: job.members,
            note,
            progress: Progress {
                planned,
                planning_done,
                done: done + job.items_under_way,
                skipped,
                quarantined,
                work_planned,
                work_done: work_done + job.work_under_way,
                current,
            },
        }
    }
}

/// How it ended, with `hint` for the case that it was cancelled.
pub(crate) fn ended(job: &Job, hint: String) -> Ended {
    let JobCounts { done, skipped, quarantined, with_notes, .. } = counts(job);
    let outcome = match job.state() {
        JobState::Succeeded => Outcome::Finished,
        JobState::Cancelled => Outcome::Interrupted,
        _ if job.reason.is_empty() => Outcome::Failed { reason: "the job failed".to_string() },
        _ => Outcome::Failed { reason: printable(&job.reason) },
    };
    let (_, destination) = places(job);
    let (model, model_sha256) = model(job);
    Ended {
        job: job.id,
        outcome,
        hint,
        done,
        skipped,
        quarantined,
        with_notes: job.reported.then_some(with_notes),
        notes: Vec::new(),
        skips: Default::default(),
        bad: Vec::new(),
        model: model.to_string(),
        model_sha256: model_sha256.to_string(),
        recipe: None,
        dtype: dtype(job),
        report: destination
            .filter(|_| job.reported && [upscale::NAME, upscale::PROJECT].contains(&job.kind.as_str()))
            .map(|place| format!("{}/{}", place.trim_end_matches('/'), layout::report_key())),
        time: Duration::from_millis(job.ended_ms.saturating_sub(job.submitted_ms)),
    }
}

/// The job as an object with stable keys.
pub(crate) fn json(job: &Job) -> Value {
    let counts = counts(job);
    let (source, destination) = places(job);
    let (model, model_sha256) = model(job);
    let current: Vec<_> = job
        .current
        .iter()
        .map(|item| json!({ "worker": item.worker, "input": item.input, "share": item.share }))
        .collect();
    json!({
        "id": job.id,
        "kind": job.kind,
        "summary": serde_json::from_str::<Value>(&job.summary).ok(),
        "members": job.members,
        "generation": job.generation,
        "name": some(&job.name),
        "state": state(job),
        "reason": some(&job.reason),
        "source": source,
        "destination": destination,
        "model": some(model),
        "model_sha256": some(model_sha256),
        "planned": counts.planned,
        "planning_done": job.planning_done,
        "done": counts.done,
        "skipped": counts.skipped,
        "quarantined": counts.quarantined,
        "work_planned": counts.work_planned,
        "work_done": counts.work_done,
        "shards_planned": counts.units_planned,
        "with_notes": counts.with_notes,
        "shards_done": counts.units_done,
        "leases": job.leases,
        "current": current,
        "submitted_ms": job.submitted_ms,
        "ended_ms": (job.ended_ms > 0).then_some(job.ended_ms),
        "spec": job.spec,
    })
}

/// The job in a few lines.
pub(crate) fn text(job: &Job) -> String {
    let JobCounts { planned, done, skipped, quarantined, units_planned, units_done, .. } = counts(job);
    let mut text = format!("job {}: {}", JobId::new(job.id), state(job));
    if !job.reason.is_empty() {
        text += &format!(" ({})", printable(&job.reason));
    }
    text.push('\n');
    let mut line = |what: &str, value: String| text += &format!("{:<10} {value}\n", format!("{what}:"));
    if !job.name.is_empty() {
        line("name", printable(&job.name));
    }
    line("kind", printable(&job.kind));
    for place in &job.places {
        line(if place.writes { "to" } else { "from" }, printable(&place.location));
    }
    for model in &job.models {
        line("model", format!("{} {}", printable(&model.name), printable(&model.sha256)));
    }
    let more = if job.planning_done { "" } else { "+" };
    line("images", format!("{done} done, {skipped} skipped, {quarantined} set aside of {planned}{more}"));
    line("units", format!("{units_done} of {units_planned}{more}, {} at workers", job.leases));
    line("submitted", format!("{} ago", age(since(job.submitted_ms))));
    if job.ended_ms > 0 {
        line("ended", format!("{} ago", age(since(job.ended_ms))));
    }
    for item in &job.current {
        let (worker, input) = (printable(&item.worker), printable(&item.input));
        line("now", format!("{input} {:.0} % at {worker}", 100.0 * item.share));
    }
    text
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
