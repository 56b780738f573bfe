//! What people see: progress while a job runs, and how it ended.
//!
//! Progress and errors go to stderr, the end of a job to stdout. On a terminal progress is a bar, elsewhere a line
//! every ten seconds.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sr3_coordinator::{Outcome, Progress, Summary};
use sr3_proto::{ItemStatus, UpscaleSpec};
use tokio::{sync::watch, task::JoinHandle};

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How many quarantined items are listed at the end.
const REASONS_MAX: usize = 20;

/// Shows progress until it is finished.
pub(crate) struct Console {
    task: Option<JoinHandle<()>>,
    end: watch::Sender<bool>,
}

impl Console {
    /// Starts showing what comes over `seen`, unless only the end is wanted.
    pub(crate) fn start(json: bool, quiet: bool, seen: watch::Receiver<Progress>) -> Self {
        let (end, ended) = watch::channel(false);
        let task = match (json || quiet, std::io::stderr().is_terminal()) {
            (true, _) => None,
            (false, true) => Some(tokio::spawn(bar(seen, ended))),
            (false, false) => Some(tokio::spawn(lines(seen, ended))),
        };
        Self { task, end }
    }

    /// Stops showing, and leaves the terminal clean.
    pub(crate) async fn finish(self) {
        self.end.send_replace(true);
        if let Some(task) = self.task {
            // A panic while drawing must not lose the job's result.
            let _ = task.await;
        }
    }
}

async fn bar(seen: watch::Receiver<Progress>, mut ended: watch::Receiver<bool>) {
    let begun = Instant::now();
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}") {
        bar.set_style(style);
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while !*ended.borrow() {
        tokio::select! {
            _ = ticks.tick() => {
                let now = seen.borrow().clone();
                // In thousandths of an item, so that one large picture moves the bar too.
                let within = now.current.as_ref().map_or(0, |current| (current.share * 999.0) as u64);
                let items = now.done + now.skipped + now.quarantined;
                bar.set_length(now.planned.max(1) * 1000);
                bar.set_position((items * 1000 + within).min(now.planned * 1000));
                bar.set_message(describe(&now, begun.elapsed()));
            }
            _ = ended.changed() => {}
        }
    }
    bar.finish_and_clear();
}

async fn lines(seen: watch::Receiver<Progress>, mut ended: watch::Receiver<bool>) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + LINE_EVERY, LINE_EVERY);
    while !*ended.borrow() {
        tokio::select! {
            _ = ticks.tick() => {
                let now = seen.borrow().clone();
                eprintln!("{}", describe(&now, begun.elapsed()));
            }
            _ = ended.changed() => {}
        }
    }
}

fn describe(now: &Progress, elapsed: Duration) -> String {
    let items = now.done + now.skipped + now.quarantined;
    let more = if now.planning_done { "" } else { "+" };
    let mut text = format!("{items} of {}{more} images", now.planned);
    if now.quarantined > 0 {
        text += &format!(", {} set aside", now.quarantined);
    }
    if let Some(current) = &now.current {
        text += &format!(", {} {:.0} %", current.input, 100.0 * current.share);
    }
    if now.done > 0 {
        text += &format!(", {:.2} images/s", now.images_per_second(elapsed));
    }
    if let Some(left) = now.time_left(elapsed) {
        text += &format!(", {} left", clock(left));
    }
    text
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A job that has ended, for people and for programs.
pub(crate) struct Ended<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) spec: &'a UpscaleSpec,
    /// Path of the report, where one was written.
    pub(crate) report: Option<String>,
    pub(crate) seconds: f64,
}

/// Prints how a job ended.
pub(crate) fn print_end(ended: &Ended<'_>, json: bool, quiet: bool) {
    if let Outcome::Failed { reason } = &ended.summary.outcome {
        eprintln!("sr3: {reason}");
    }
    if ended.summary.outcome == Outcome::Interrupted {
        let how = if ended.spec.overwrite { " without --overwrite" } else { "" };
        eprintln!("sr3: interrupted; run the same command again{how} to go on");
    }
    let text = if json {
        as_json(ended)
    } else if quiet {
        return;
    } else {
        as_text(ended)
    };
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn as_text(ended: &Ended<'_>) -> String {
    let Summary { done, skipped, quarantined, records, .. } = ended.summary;
    let time = clock(Duration::from_secs_f64(ended.seconds));
    let mut text = format!("{done} done, {skipped} skipped, {quarantined} set aside in {time}\n");
    let mut skips: BTreeMap<&str, u64> = BTreeMap::new();
    for record in records.iter().filter(|r| r.status == ItemStatus::Skipped) {
        *skips.entry(record.reason.as_deref().unwrap_or_default()).or_default() += 1;
    }
    for (reason, count) in skips {
        text += &format!("  {count} skipped: {reason}\n");
    }
    let mut shown = 0;
    for record in records.iter().filter(|r| r.status == ItemStatus::Quarantined).take(REASONS_MAX) {
        shown += 1;
        text +=
            &format!("  {}: {}\n", printable(&record.input), record.reason.as_deref().unwrap_or_default());
    }
    let more = usize::try_from(*quarantined).unwrap_or(usize::MAX).saturating_sub(shown);
    match (&ended.report, more) {
        (Some(report), 0) => text += &format!("report: {report}\n"),
        (Some(report), more) => text += &format!("  … and {more} more, see {report}\n"),
        (None, _) => {}
    }
    text
}

fn as_json(ended: &Ended<'_>) -> String {
    let Summary { job, outcome, done, skipped, quarantined, records, .. } = ended.summary;
    let (outcome, reason) = match outcome {
        Outcome::Finished => ("finished", None),
        Outcome::Interrupted => ("interrupted", None),
        Outcome::Failed { reason } => ("failed", Some(reason)),
    };
    let bad: Vec<_> = records
        .iter()
        .filter(|r| r.status == ItemStatus::Quarantined)
        .take(REASONS_MAX)
        .map(|r| json!({"input": r.input, "reason": r.reason}))
        .collect();
    let object = json!({
        "job": job,
        "outcome": outcome,
        "reason": reason,
        "done": done,
        "skipped": skipped,
        "quarantined": quarantined,
        "quarantined_first": bad,
        "seconds": ended.seconds,
        "images_per_second": *done as f64 / ended.seconds.max(1e-9),
        "model": ended.spec.recipe.model_name,
        "model_sha256": ended.spec.recipe.model,
        "recipe": ended.spec.recipe.digest(),
        "report": ended.report,
    });
    format!("{object}\n")
}

/// A name that cannot drive the terminal: control characters are shown escaped.
fn printable(name: &str) -> String {
    name.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}
