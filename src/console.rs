//! What people see while a job runs, in this process or on a cluster.
//!
//! Progress goes to stderr: on a terminal as a bar, elsewhere as a line every ten seconds.

use std::{
    io::IsTerminal,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use sr3_coordinator::core::view::JobView;
use sr3_jobs::upscale::Forecast;
use sr3_proto::{wire::v1, words::printable};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    clock::clock,
    forecast::{LONG_SECONDS, about},
    log,
    progress::{Current, Progress},
};

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is known of a job under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    /// Counts; its `current` only if it is the only item on a device.
    pub(crate) progress: Progress,
    /// Items on devices, each by its share.
    pub(crate) within: f32,
    /// Workers with an item on a device; 0 where it goes without saying.
    pub(crate) workers: usize,
    /// What it is doing, if not computing.
    pub(crate) note: Option<&'static str>,
    /// Of a gang: how many work together. What they are at is the progress's current item.
    pub(crate) members: u32,
}

impl From<Arc<JobView>> for View {
    /// Of a job in this process, whose one worker goes without saying.
    fn from(job: Arc<JobView>) -> Self {
        Self { workers: 0, note: None, ..v1::Job::from(&*job).into() }
    }
}

/// Shows progress until it is finished.
pub(crate) struct Console {
    task: Option<JoinHandle<()>>,
    end: watch::Sender<bool>,
}

impl Console {
    /// Starts showing what comes over `seen`, unless only the end is wanted. Speed is that since now. With a `forecast`
    /// a job that will take long is said to, once, as soon as that is known.
    pub(crate) fn start<T>(
        json: bool,
        quiet: bool,
        seen: watch::Receiver<T>,
        forecast: Option<Arc<dyn Forecast>>,
    ) -> Self
    where
        T: Clone + Into<View> + Send + Sync + 'static,
    {
        let (end, ended) = watch::channel(false);
        let shown = Shown { begun: Instant::now(), at_start: view(&seen).progress, seen, forecast };
        let task = match (json || quiet, std::io::stderr().is_terminal() && !log::is_json()) {
            (true, _) => None,
            (false, true) => Some(tokio::spawn(bar(shown, ended))),
            (false, false) => Some(tokio::spawn(lines(shown, ended))),
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

struct Shown<T> {
    begun: Instant,
    at_start: Progress,
    seen: watch::Receiver<T>,
    /// Until it was told.
    forecast: Option<Arc<dyn Forecast>>,
}

fn view<T: Clone + Into<View>>(seen: &watch::Receiver<T>) -> View {
    seen.borrow().clone().into()
}

impl<T: Clone + Into<View>> Shown<T> {
    fn describe(&self, now: &View) -> String {
        describe(now, &self.at_start, self.begun.elapsed())
    }

    /// What is to be said once of a job that will take long.
    fn forecast(&mut self, now: &View) -> Option<String> {
        let pace = self.forecast.as_ref()?.pace()?;
        let elapsed = self.begun.elapsed();
        let left = since(&now.progress, &self.at_start).time_left(elapsed)?;
        let forecast = self.forecast.take()?;
        let seconds = (elapsed + left).as_secs_f64();
        (seconds >= LONG_SECONDS).then(|| {
            format!(
                "this machine takes {pace:.1} s for a megapixel of output: {}",
                about(&*forecast, seconds)
            )
        })
    }
}

async fn bar<T>(mut shown: Shown<T>, mut ended: watch::Receiver<bool>)
where
    T: Clone + Into<View> + Send + Sync,
{
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3}% {wide_msg}") {
        bar.set_style(style);
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while !*ended.borrow() {
        tokio::select! {
            _ = ticks.tick() => {
                let now = view(&shown.seen);
                // In thousandths of an item, so that one large picture moves the bar too.
                let within = (now.within * 999.0) as u64;
                match now.steps() {
                    Some(steps) => {
                        bar.set_length(1000);
                        bar.set_position((steps.share * 1000.0) as u64);
                    }
                    None => {
                        bar.set_length(now.progress.planned.max(1) * 1000);
                        let done = items(&now.progress) * 1000 + within;
                        bar.set_position(done.min(now.progress.planned * 1000));
                    }
                }
                if let Some(forecast) = shown.forecast(&now) {
                    bar.println(format!("sr3: {forecast}"));
                }
                bar.set_message(shown.describe(&now));
            }
            _ = ended.changed() => {}
        }
    }
    bar.finish_and_clear();
}

async fn lines<T>(mut shown: Shown<T>, mut ended: watch::Receiver<bool>)
where
    T: Clone + Into<View> + Send + Sync,
{
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut next = Instant::now() + LINE_EVERY;
    while !*ended.borrow() {
        tokio::select! {
            _ = ticks.tick() => {
                let now = view(&shown.seen);
                if let Some(forecast) = shown.forecast(&now) {
                    tell!("sr3: {forecast}");
                }
                if Instant::now() >= next {
                    next += LINE_EVERY;
                    tell!("{}", shown.describe(&now));
                }
            }
            _ = ended.changed() => {}
        }
    }
}

fn items(now: &Progress) -> u64 {
    now.done + now.skipped + now.quarantined
}

impl View {
    /// How far the steps of a gang are.
    fn steps(&self) -> Option<&Current> {
        self.progress.current.as_ref().filter(|_| self.members > 0)
    }
}

fn describe(view: &View, at_start: &Progress, elapsed: Duration) -> String {
    let now = &view.progress;
    if view.members > 0 {
        let members = match view.members {
            1 => String::new(),
            members => format!(", {members} members"),
        };
        let steps = view.steps().map_or_else(|| "steps under way".into(), |steps| printable(&steps.input));
        return format!("{steps}{members}");
    }
    let more = if now.planning_done { "" } else { "+" };
    let mut text = format!(
        "{} of {}{more} {}",
        items(now),
        now.planned,
        if now.planned == 1 { "image" } else { "images" }
    );
    if now.quarantined > 0 {
        text += &format!(", {} set aside", now.quarantined);
    }
    if let Some(note) = view.note {
        text += &format!(", {note}");
    }
    match view.workers {
        0 => {}
        1 => text += ", 1 worker",
        workers => text += &format!(", {workers} workers"),
    }
    let seen = since(now, at_start);
    if seen.done > 0 {
        text += &format!(", {:.2} images/s", seen.images_per_second(elapsed));
    }
    match seen.time_left(elapsed) {
        Some(left) if left.as_secs() == 0 => text += ", finishing",
        Some(left) => text += &format!(", {} left", clock(left)),
        None => {}
    }
    // Last: of a line that is too long for the terminal its end is cut off.
    if let Some(current) = &now.current {
        text += &format!(", {} {:.0} %", printable(&current.input), 100.0 * current.share);
    }
    text
}

/// What was done since `start`, and what is left.
fn since(now: &Progress, start: &Progress) -> Progress {
    Progress {
        done: now.done.saturating_sub(start.done),
        work_planned: now.work_planned.saturating_sub(start.work_done),
        work_done: now.work_done.saturating_sub(start.work_done),
        ..now.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_joins_late_sees_the_speed_of_what_it_saw() {
        let start = Progress { planned: 20, planning_done: true, work_planned: 2000, ..Progress::default() };
        let joined = Progress { done: 10, work_done: 1000, ..start.clone() };
        let now = Progress { done: 15, work_done: 1500, ..start };
        let text = describe(&View { progress: now, ..View::default() }, &joined, Duration::from_secs(10));
        assert_eq!(text, "15 of 20 images, 0.50 images/s, 0:10 left");
    }

    #[test]
    fn a_cluster_shows_its_workers_and_what_it_waits_for() {
        let progress = Progress { planned: 3, ..Progress::default() };
        let view = View { progress, within: 0.5, workers: 2, note: Some("paused"), members: 0 };
        let text = describe(&view, &Progress::default(), Duration::ZERO);
        assert_eq!(text, "0 of 3+ images, paused, 2 workers");
    }
}
