//! The one task that owns the state: takes commands, asks the scheduler, collects what is to be made durable.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use sr3_proto::{
    Cancel, Digest, JobId, Lease, RunId, ShardId, ToWorker, UpscaleJob, UpscaleSpec, WorkerId,
    wire::ledger::{DoneRow, EventRow, IdempotencyRow, PlanRow, ShardRow},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Parts,
    command::{Answer, Command},
    committer::{Told, Work},
    connected::Connected,
    job_task,
    jobs::Job,
    place::{Destination, Place, Reported},
    view::{JobView, Phase, Refusal},
};
use crate::{
    ledger::Ledger,
    rows,
    scheduler::{Effect, Event, Scheduler},
};

/// So many commands are taken before their effects go to the ledger.
const COMMANDS_AT_ONCE: usize = 512;
/// So many planned shards are kept in memory for their first grant. When half of them are gone the next ones are read
/// from the ledger in one scan: one by one they took 4 ms each.
pub(super) const KEPT_SHARDS: usize = 8192;

pub(super) struct Driver {
    pub(super) parts: Parts,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) scheduler: Scheduler,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) by_key: HashMap<String, JobId>,
    pub(super) workers: BTreeMap<WorkerId, Connected>,
    pub(super) next_worker: WorkerId,
    pub(super) kept: HashMap<(JobId, ShardId), Arc<ShardRow>>,
    /// Items of the shards that were granted and are not recorded, and their encoded bytes.
    pub(super) granted: HashMap<(JobId, ShardId), (usize, u64)>,
    pub(super) work: Work,
    /// Jobs that are to end once the effects at hand are taken.
    pub(super) endings: Vec<(JobId, Phase, String)>,
    /// For the tasks of jobs.
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) stop: Cancel,
}

impl Driver {
    /// Runs until `stop` is set or nobody can send commands any more.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, committer: mpsc::Sender<Work>) {
        let mut ticks = tokio::time::interval(self.parts.scheduler.heartbeat_every / 8);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => {
                        self.command(command);
                        for _ in 1..COMMANDS_AT_ONCE {
                            let Ok(command) = commands.try_recv() else { break };
                            self.command(command);
                        }
                    }
                    None => break,
                },
                _ = ticks.tick() => self.event(Event::Tick),
            }
            if !self.work.is_empty() && committer.send(std::mem::take(&mut self.work)).await.is_err() {
                break;
            }
        }
        for job in self.jobs.values() {
            job.stop_planning.cancel();
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit { spec, resolved, key, place, answer } => {
                self.submit(*spec, *resolved, key, place, answer);
            }
            Command::Job { job, answer } => {
                let found = self.jobs.get(&job).map(|job| job.seen.subscribe()).ok_or_else(|| no_job(job));
                drop(answer.send(found));
            }
            Command::Jobs { before, most, answer } => {
                let wanted = self.jobs.iter().rev().filter(|(id, _)| before.is_none_or(|b| **id < b));
                let views = wanted.take(most).map(|(id, job)| job.view(self.scheduler.leases_of(*id)));
                drop(answer.send(views.collect()));
            }
            Command::Pause { job, paused, answer } => self.pause(job, paused, answer),
            Command::Cancel { job, answer } => self.cancel(job, answer),
            Command::Workers { answer } => {
                let views = self
                    .workers
                    .iter()
                    .filter_map(|(&id, worker)| Some(worker.info(id, self.scheduler.worker(id)?)));
                drop(answer.send(views.collect()));
            }
            Command::DrainWorker { worker, answer } => {
                if self.workers.contains_key(&worker) {
                    self.event(Event::DrainAsked { worker });
                    drop(answer.send(Ok(())));
                } else {
                    let reason = format!("there is no worker {worker}; `sr3 workers` lists them");
                    drop(answer.send(Err(Refusal::NotFound(reason))));
                }
            }
            Command::Attach { hello, send, answer } => self.attach(hello, send, answer),
            Command::Report { worker, report } => self.report(worker, report),
            Command::Detached { worker } => self.detached(worker),
            Command::Began { job, run, answer } => self.began(job, run, answer),
            Command::Planned { job, shards, plan, answer } => self.planned(job, shards, plan, answer),
            Command::Failed { job, reason } => self.end_job(job, Phase::Failed, reason),
            Command::Finished { job, phase, reason, reported } => {
                self.finished(job, phase, reason, reported);
            }
            Command::Kept { job, rows } => self.keep(job, rows),
            Command::Quarantine { job, shard, losses, row } => self.quarantine(job, shard, losses, &row),
        }
    }

    fn submit(
        &mut self,
        spec: UpscaleJob,
        resolved: UpscaleSpec,
        key: String,
        place: Option<Box<Place>>,
        answer: Answer<(JobView, bool)>,
    ) {
        let existing = self.by_key.get(&key).and_then(|id| self.jobs.get(id));
        if let Some(job) = existing.filter(|_| !key.is_empty()) {
            let same = job.spec == spec;
            let answered = if same {
                Ok((job.view(self.scheduler.leases_of(job.id)), true))
            } else {
                Err(Refusal::Conflict(format!(
                    "the idempotency key `{key}` made job {} of another spec: use a new key for a new job",
                    job.id
                )))
            };
            // What it answers with may still be on its way to the ledger.
            return self.work.told.push(Told::answer(answer, answered));
        }
        let clash = self
            .jobs
            .values()
            .find(|job| !job.phase.is_final() && overlap(&job.resolved.destination, &resolved.destination));
        if let Some(other) = clash {
            let reason = format!(
                "job {} writes to `{}` already: wait for it, cancel it, or choose another destination",
                other.id, other.resolved.destination
            );
            drop(answer.send(Err(Refusal::Conflict(reason))));
            return;
        }
        let id = self.jobs.keys().next_back().map_or(JobId::new(1), |last| last.next());
        let job = Job::new(id, spec, key.clone(), resolved, self.parts.clock.wall_ms());
        self.work.batch.put(rows::job(id), rows::write(job.row()));
        if !key.is_empty() {
            let row = IdempotencyRow { job: id.get(), ..IdempotencyRow::default() };
            self.work.batch.put(rows::idempotency(&key), rows::write(row));
            self.by_key.insert(key, id);
        }
        let view = job.view(0);
        self.jobs.insert(id, job);
        self.log(id, "accepted".into());
        self.work.told.push(Told::answer(answer, Ok((view, false))));
        self.start_task(id, place.map_or(Destination::Free, Destination::Taken));
    }

    /// Starts the task that reads and writes for a job.
    pub(super) fn start_task(&mut self, id: JobId, destination: Destination) {
        let (Some(job), Some(commands)) = (self.jobs.get(&id), self.commands.upgrade()) else { return };
        let task = job_task::JobTask {
            id,
            owner: job.owner(),
            spec: Arc::clone(&job.resolved),
            destination,
            plan: job.plan.clone(),
            parts: self.parts.clone(),
            ledger: Arc::clone(&self.ledger),
            commands,
            stop_planning: job.stop_planning.clone(),
            finish: job.finish.subscribe(),
            stop: self.stop.clone(),
        };
        tokio::spawn(task.run());
    }

    fn began(&mut self, id: JobId, run: RunId, answer: oneshot::Sender<()>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.run = run;
        if job.phase == Phase::Queued {
            job.phase = Phase::Running;
        }
        let (priority, model) = (job.spec.priority.into(), job.resolved.recipe.model.clone());
        let paused = job.paused;
        self.work.batch.put(rows::job(id), rows::write(job.row()));
        self.event(Event::JobAdded { job: id, priority, model });
        if paused {
            self.event(Event::Paused { job: id });
        }
        self.publish(id);
        self.work.told.push(Told::answer(answer, ()));
    }

    fn planned(
        &mut self,
        id: JobId,
        shards: Vec<(ShardId, ShardRow)>,
        plan: PlanRow,
        answer: oneshot::Sender<()>,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.phase == Phase::Running) else { return };
        let done = plan.done;
        self.work.batch.put(rows::plan(id), rows::write(plan.clone()));
        job.plan = plan;
        let mut to_compute = Vec::new();
        for (shard, row) in shards {
            self.work.batch.put(rows::shard(id, shard), rows::write(row.clone()));
            if !row.items.is_empty() {
                job.counts.shards_planned += 1;
                to_compute.push(shard);
                // Without gaps, so that what is kept ends where the next scan begins.
                if self.kept.len() < KEPT_SHARDS && job.kept_to.is_none_or(|to| to == job.last_to_compute) {
                    self.kept.insert((id, shard), Arc::new(row));
                    job.kept_to = Some(shard);
                }
                job.last_to_compute = shard;
            }
        }
        self.check_bad_items(id);
        let Some(job) = self.jobs.get(&id) else { return };
        let text = format!("planned {} images in {} shards", job.plan.planned, job.counts.shards_planned);
        self.event(Event::Planned { job: id, shards: to_compute });
        if done {
            self.log(id, text);
            self.event(Event::PlanningDone { job: id });
        }
        self.publish(id);
        self.work.told.push(Told::answer(answer, ()));
    }

    fn pause(&mut self, id: JobId, paused: bool, answer: Answer<JobView>) {
        let Some(job) = self.jobs.get_mut(&id) else { return drop(answer.send(Err(no_job(id)))) };
        if job.phase.is_final() {
            let reason = format!("job {id} has ended: nothing of it can be paused or resumed");
            return drop(answer.send(Err(Refusal::Conflict(reason))));
        }
        if job.paused != paused {
            job.paused = paused;
            self.work.batch.put(rows::job(id), rows::write(job.row()));
            self.log(id, if paused { "paused" } else { "resumed" }.into());
            self.event(if paused { Event::Paused { job: id } } else { Event::Resumed { job: id } });
            self.publish(id);
        }
        self.answer_view(id, answer);
    }

    fn cancel(&mut self, id: JobId, answer: Answer<JobView>) {
        if !self.jobs.contains_key(&id) {
            return drop(answer.send(Err(no_job(id))));
        }
        self.end_job(id, Phase::Cancelled, "cancelled".into());
        self.answer_view(id, answer);
    }

    fn answer_view(&mut self, id: JobId, answer: Answer<JobView>) {
        if let Some(job) = self.jobs.get(&id) {
            let view = job.view(self.scheduler.leases_of(id));
            self.work.told.push(Told::answer(answer, Ok(view)));
        }
    }

    /// Nothing more is leased; what is finished is written into the report, and then the job is over as `ending`.
    pub(super) fn end_job(&mut self, id: JobId, ending: Phase, reason: String) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if !matches!(job.phase, Phase::Queued | Phase::Running) {
            return;
        }
        job.phase = Phase::Finishing;
        job.ending = ending;
        job.reason.clone_from(&reason);
        job.on_device.clear();
        job.under_way.clear();
        job.stop_planning.cancel();
        self.work.batch.put(rows::job(id), rows::write(job.row()));
        let finish = job.finish.clone();
        // The report rests on what is durable by then.
        self.work.told.push(Told::Answer(Box::new(move || {
            finish.send_replace(Some(ending));
        })));
        if ending != Phase::Succeeded {
            self.log(id, reason.clone());
        }
        self.event(Event::Ended { job: id, reason });
        self.kept.retain(|(job, _), _| *job != id);
        self.granted.retain(|(job, _), _| *job != id);
        self.publish(id);
    }

    fn finished(&mut self, id: JobId, phase: Phase, reason: Option<String>, reported: Option<Reported>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.phase = phase;
        job.reported = reported.is_some();
        if let Some(Reported { done, with_notes, quarantined }) = reported {
            // With the verdicts of shards that were given back.
            job.counts.done = done;
            job.counts.with_notes = with_notes;
            job.counts.quarantined = quarantined.saturating_sub(job.plan.quarantined);
        }
        if let Some(reason) = reason {
            job.reason = reason;
        }
        job.ended_ms = self.parts.clock.wall_ms();
        self.work.batch.put(rows::job(id), rows::write(job.row()));
        let text = match phase {
            Phase::Succeeded => "succeeded".to_string(),
            Phase::Cancelled => "ended: cancelled".to_string(),
            _ => format!("failed: {}", job.reason),
        };
        self.log(id, text);
        self.publish(id);
    }

    pub(super) fn check_bad_items(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let bad = job.all_counts().quarantined;
        if let Some(max) = job.resolved.max_bad_items
            && bad > max
        {
            let reason = format!(
                "{bad} images were set aside, and --max-bad-items (in a spec max_bad_items) allows {max}: see the reasons, or \
                 raise it"
            );
            self.endings.push((id, Phase::Failed, reason));
        }
    }

    /// Asks the scheduler, and takes its effects.
    pub(super) fn event(&mut self, event: Event) {
        let effects = self.scheduler.apply(event, self.parts.clock.now());
        self.take_effects(effects);
    }

    /// The same for a report of a finished shard.
    pub(super) fn shard_done(&mut self, worker: WorkerId, lease: Lease, row: DoneRow) {
        let now = self.parts.clock.now();
        let effects = self.scheduler.apply(Event::ShardDone { worker, lease }, now);
        self.effects(effects, Some(row));
    }

    pub(super) fn take_effects(&mut self, effects: Vec<Effect>) {
        self.effects(effects, None);
    }

    fn effects(&mut self, effects: Vec<Effect>, mut done: Option<DoneRow>) {
        for effect in effects {
            match effect {
                Effect::Save { job, shard, open } => {
                    let row = rows::write(rows::attempts_row(&open));
                    self.work.batch.put(rows::attempts(job, shard), row);
                }
                Effect::Grant { worker, lease, records, isolated } => {
                    self.grant(worker, lease, &records, isolated);
                }
                Effect::Record { worker, lease } => {
                    if let Some(row) = done.take() {
                        self.record(worker, lease, row);
                    }
                }
                Effect::Committed { worker, lease } => self.tell(worker, ToWorker::Committed { lease }),
                Effect::Revoke { worker, lease, reason } => {
                    self.tell(worker, ToWorker::Revoke { lease, reason });
                }
                Effect::Renewed { worker, leases } => self.welcome(worker, leases),
                Effect::Drain { worker } => self.tell(worker, ToWorker::Drain),
                Effect::QuarantineNext { job, shard, losses } => self.quarantine_next(job, shard, losses),
                Effect::Log { job, text } => self.log(job, text),
                Effect::JobDone { job } => self.endings.push((job, Phase::Succeeded, String::new())),
                Effect::JobFailed { job, reason } => self.endings.push((job, Phase::Failed, reason)),
            }
        }
        // Only now: an ending revokes what the effects above have granted.
        for (job, ending, reason) in std::mem::take(&mut self.endings) {
            self.end_job(job, ending, reason);
        }
    }

    fn record(&mut self, worker: WorkerId, lease: Lease, row: DoneRow) {
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        job.counts.done += row.done;
        job.counts.quarantined += row.quarantined;
        job.counts.work_done += row.work;
        job.counts.shards_done += 1;
        self.work.batch.put(rows::done(lease.job, lease.shard), rows::write(row));
        self.work.batch.delete(rows::attempts(lease.job, lease.shard));
        job.under_way.remove(&(worker, lease.shard));
        self.granted.remove(&(lease.job, lease.shard));
        self.tell(worker, ToWorker::Committed { lease });
        self.check_bad_items(lease.job);
        self.publish(lease.job);
    }

    pub(super) fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        if let Some(found) = self.workers.get(&worker) {
            self.work.told.push(Told::Worker(found.send.clone(), message));
        }
    }

    pub(super) fn log(&mut self, id: JobId, text: String) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        tracing::info!(job = %id, "{text}");
        job.last_event += 1;
        let row = EventRow { at_ms: self.parts.clock.wall_ms(), text, ..EventRow::default() };
        self.work.batch.put(rows::event(id, job.last_event), rows::write(row));
    }

    /// Shows the job's state to those who watch, once everything before is durable.
    pub(super) fn publish(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id) {
            let view = job.view(self.scheduler.leases_of(id));
            self.work.told.push(Told::View(job.seen.clone(), Box::new(view)));
        }
    }
}

fn no_job(job: JobId) -> Refusal {
    Refusal::NotFound(format!("there is no job {}; `sr3 jobs` lists them", job.get()))
}

/// Whether one location lies within the other, or both are one.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim_end_matches('/'), b.trim_end_matches('/'));
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}

/// The shard's items that have no verdict among `records` yet, and the work of all of them.
pub(super) fn open_items(row: &ShardRow, records: &[Bytes]) -> Vec<sr3_proto::ItemTask> {
    let settled: std::collections::HashSet<String> = records
        .iter()
        .filter_map(|bytes| sr3_proto::ItemRecord::try_from(bytes).ok())
        .map(|record| record.input)
        .collect();
    row.items
        .iter()
        .filter(|item| !settled.contains(&item.input))
        .filter_map(|item| rows::item(item.clone()))
        .collect()
}

/// Row of a recorded shard.
pub(super) fn done_row(done: u64, quarantined: u64, manifest: Digest, work: u64) -> DoneRow {
    DoneRow { done, quarantined, manifest_sha256: manifest.into(), work, ..DoneRow::default() }
}
