//! Runs one job: plans it, hands shards to a worker as its credits allow, records verdicts, writes the report.
//!
//! Promises: an item counts as done only after the manifest of its shard is durable; after a stop that was asked for,
//! everything that was finished is in a manifest (a killed process leaves its open shards without one: their items
//! are computed again, to the same bytes); the report has a line for every image with a verdict, in input
//! order; `_SUCCESS` is written last, and only by a run that got to its end.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::pin,
};

use futures::StreamExt;
use sr3_proto::{
    Cancel, CoordinatorLink, ItemRecord, ItemStatus, Key, RunId, ShardId, ShardTask, Store, WorkerEvent,
};
use tokio::sync::{mpsc, watch};

use crate::{
    Current, JobError, JobState, Progress, ShardLimits,
    filter::Filter,
    planner::{OutputClaims, PlannedShard, ShardCutter},
    scan::{Planned, Source},
};

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every item has its verdict.
    Finished,
    /// It was asked to stop.
    Interrupted,
    /// It could not go on; one line that says why.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What a job did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The run.
    pub job: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// Items with a result.
    pub done: u64,
    /// Items that needed nothing.
    pub skipped: u64,
    /// Items without a result.
    pub quarantined: u64,
    /// Every verdict, in input order.
    pub records: Vec<ItemRecord>,
    /// Whether they are in the report; a job that failed may not have been able to write it.
    pub reported: bool,
}

/// Runs the job that `state` was begun for, through the worker at the other end of `link`.
///
/// `interrupt` is the user's wish to stop; `stop` is how this tells the worker. Errors are of the state, when it can
/// no longer be written; what goes wrong with the work is in the summary.
pub async fn run(
    state: &JobState,
    source: &Source,
    outputs: &Store,
    link: CoordinatorLink,
    progress: &watch::Sender<Progress>,
    interrupt: &Cancel,
    stop: &Cancel,
) -> Result<Summary, JobError> {
    let filter = Filter::new(&state.spec().include, &state.spec().exclude)?;
    let (planned_sender, planned) = mpsc::channel(256);
    let plan = plan(state, source, outputs, &filter, planned_sender);
    let mut run = Run {
        state,
        progress,
        stop,
        records: BTreeMap::new(),
        pending: VecDeque::new(),
        open: HashMap::new(),
        outcome: Outcome::Finished,
    };
    let drive = run.drive(link, planned, interrupt);
    // Both on this task: when driving ends early the plan is dropped where it stands.
    let driven = {
        let mut plan = pin!(plan);
        let mut drive = pin!(drive);
        tokio::select! {
            driven = &mut drive => driven,
            () = &mut plan => drive.await,
        }
    };
    let mut summary = run.summary();
    let reported = state.write_report(summary.records.iter()).await;
    driven?;
    summary.reported = reported.is_ok();
    match &summary.outcome {
        Outcome::Finished => {
            reported?;
            state.write_success(summary.done, summary.skipped, summary.quarantined).await?;
        }
        Outcome::Interrupted => reported?,
        // A full disk fails the report as well; the first reason is the one to tell.
        Outcome::Failed { .. } => {}
    }
    Ok(summary)
}

/// What planning found, in input order.
enum Found {
    Settled(u64, Box<ItemRecord>),
    Shard(PlannedShard),
    Failed(JobError),
}

async fn plan(
    state: &JobState,
    source: &Source,
    outputs: &Store,
    filter: &Filter,
    found: mpsc::Sender<Found>,
) {
    let spec = state.spec();
    let mut entries = pin!(source.plan(outputs, spec, state.recipe_digest(), state.history(), filter, None));
    let mut cutter = ShardCutter::new(state.job(), ShardLimits::default());
    let mut claims = OutputClaims::default();
    let mut position = 0;
    while let Some(entry) = entries.next().await {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // If nobody listens the job is over already.
                let _ = found.send(Found::Failed(error)).await;
                return;
            }
        };
        let message = match entry {
            Planned::Settled(record) => Some(Found::Settled(position, record)),
            Planned::Finished(record) => {
                let claimed = match (Key::new(record.input.as_str()), &record.output) {
                    (Ok(input), Some(output)) => claims.claim(&input, output),
                    _ => true,
                };
                let record = if claimed { record } else { Box::new(taken(&record.input, spec)) };
                Some(Found::Settled(position, record))
            }
            Planned::Compute(item) if !claims.claim(&item.input, &item.output) => {
                Some(Found::Settled(position, Box::new(taken(item.input.as_str(), spec))))
            }
            Planned::Compute(item) => cutter.push(position, item).map(Found::Shard),
        };
        position += 1;
        if let Some(message) = message
            && found.send(message).await.is_err()
        {
            return;
        }
    }
    if let Some(shard) = cutter.finish() {
        let _ = found.send(Found::Shard(shard)).await;
    }
}

fn taken(input: &str, spec: &sr3_proto::UpscaleSpec) -> ItemRecord {
    let reason = format!(
        "its output would be named `{input}`, and so is that of another input: rename one, or exclude one"
    );
    ItemRecord::without_result(input, None, ItemStatus::Quarantined, reason, &spec.recipe)
}

/// An item's position in the input, and its encoded length.
struct Place {
    position: u64,
    bytes: u64,
}

struct Run<'a> {
    state: &'a JobState,
    progress: &'a watch::Sender<Progress>,
    stop: &'a Cancel,
    /// By position in the input.
    records: BTreeMap<u64, ItemRecord>,
    /// Planned and not yet handed out.
    pending: VecDeque<ShardTask>,
    /// The items, by input, of shards that are planned and not yet recorded.
    open: HashMap<ShardId, HashMap<String, Place>>,
    outcome: Outcome,
}

impl Run<'_> {
    /// Until the worker is gone. The worker goes when it has no more tasks to expect, or when it was told to stop.
    async fn drive(
        &mut self,
        link: CoordinatorLink,
        mut planned: mpsc::Receiver<Found>,
        interrupt: &Cancel,
    ) -> Result<(), JobError> {
        let CoordinatorLink { tasks, mut events } = link;
        let mut tasks = Some(tasks);
        let mut planning = true;
        let mut worker_gone = false;
        loop {
            let stopped = self.stop.is_cancelled();
            if stopped || worker_gone || (!planning && self.pending.is_empty()) {
                tasks = None;
            }
            tokio::select! {
                biased;
                () = interrupt.cancelled(), if !stopped => self.end(Outcome::Interrupted),
                event = events.recv() => match event {
                    Some(event) => self.on_event(event).await.inspect_err(|_| self.stop.cancel())?,
                    None => break,
                },
                found = planned.recv(), if planning && !stopped => match found {
                    Some(found) => self.on_found(found),
                    None => {
                        planning = false;
                        self.progress.send_modify(|p| p.planning_done = true);
                    }
                },
                credit = credit(tasks.as_ref()), if tasks.is_some() && !self.pending.is_empty() => {
                    match (credit, self.pending.pop_front()) {
                        (Some(credit), Some(task)) => credit.send(task),
                        _ => worker_gone = true,
                    }
                }
            }
        }
        if self.outcome == Outcome::Finished && (planning || !self.open.is_empty()) {
            self.outcome = Outcome::Failed { reason: "the worker ended before its work was done".into() };
        }
        Ok(())
    }

    fn end(&mut self, outcome: Outcome) {
        if self.outcome == Outcome::Finished {
            self.outcome = outcome;
        }
        self.stop.cancel();
    }

    fn on_found(&mut self, found: Found) {
        match found {
            Found::Settled(position, record) => {
                self.progress.send_modify(|p| p.planned += 1);
                self.count(record.status, 0);
                self.records.insert(position, *record);
                self.check_bad_items();
            }
            Found::Shard(PlannedShard { task, positions }) => {
                let work: u64 = task.items.iter().map(|i| i.input_bytes).sum();
                self.progress.send_modify(|p| {
                    p.planned += task.items.len() as u64;
                    p.work_planned += work;
                });
                let places = task.items.iter().zip(positions).map(|(item, position)| {
                    (item.input.to_string(), Place { position, bytes: item.input_bytes })
                });
                self.open.insert(task.shard, places.collect());
                self.pending.push_back(task);
            }
            Found::Failed(error) => self.end(Outcome::Failed { reason: error.to_string() }),
        }
    }

    async fn on_event(&mut self, event: WorkerEvent) -> Result<(), JobError> {
        match event {
            WorkerEvent::Progress { input, share } => {
                let bytes =
                    self.open.values().find_map(|items| items.get(input.as_str())).map_or(0, |p| p.bytes);
                let current = Current { input: input.to_string(), share, bytes };
                self.progress.send_modify(|p| p.current = Some(current));
            }
            WorkerEvent::ItemDone { shard, record } => {
                let place = self.open.get(&shard).and_then(|items| items.get(&record.input));
                self.count(record.status, place.map_or(0, |place| place.bytes));
                // From here on it is counted as a whole.
                self.progress
                    .send_modify(|p| drop(p.current.take_if(|current| current.input == record.input)));
                self.check_bad_items();
            }
            WorkerEvent::ShardDone { shard, records } => {
                let Some(places) = self.open.remove(&shard) else { return Ok(()) };
                if !records.is_empty() {
                    self.state.record_shard(shard, records.clone()).await?;
                }
                for record in records {
                    if let Some(place) = places.get(&record.input) {
                        self.records.insert(place.position, record);
                    }
                }
            }
            WorkerEvent::Failed { reason } => self.end(Outcome::Failed { reason }),
        }
        Ok(())
    }

    /// What people see while it runs; the summary counts records.
    fn count(&self, status: ItemStatus, work: u64) {
        self.progress.send_modify(|p| {
            match status {
                ItemStatus::Ok => p.done += 1,
                ItemStatus::Skipped => p.skipped += 1,
                ItemStatus::Quarantined => p.quarantined += 1,
            }
            p.work_done += work;
        });
    }

    fn check_bad_items(&mut self) {
        let bad = self.progress.borrow().quarantined;
        if let Some(max) = self.state.spec().max_bad_items
            && bad > max
        {
            let reason = format!(
                "{bad} images were set aside, and --max-bad-items allows {max}: see the reasons, or raise it"
            );
            self.end(Outcome::Failed { reason });
        }
    }

    fn summary(self) -> Summary {
        let records: Vec<ItemRecord> = self.records.into_values().collect();
        let count = |status| records.iter().filter(|r| r.status == status).count() as u64;
        Summary {
            job: self.state.job(),
            outcome: self.outcome,
            done: count(ItemStatus::Ok),
            skipped: count(ItemStatus::Skipped),
            quarantined: count(ItemStatus::Quarantined),
            records,
            reported: false,
        }
    }
}

async fn credit(tasks: Option<&mpsc::Sender<ShardTask>>) -> Option<mpsc::Permit<'_, ShardTask>> {
    match tasks {
        Some(tasks) => tasks.reserve().await.ok(),
        None => None,
    }
}
