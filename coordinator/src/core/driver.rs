//! The one task that owns the state: takes commands, asks the scheduler, collects what is to be made durable.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sr3_proto::{
    Cancel, JobId, Lease, Order, RunId, ToWorker, UnitId, WorkerId,
    wire::ledger::{DoneRow, EventRow, IdempotencyRow, PlanRow, TokenRow, UnitRow},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Parts,
    command::{Answer, Command},
    committer::{Told, Work},
    connected::Connected,
    job_task::{JobTask, Places},
    jobs::{Job, Next},
    tidy::EVENTS_MAX,
    tokens::Tokens,
    view::{JobView, Load, Phase, Refusal},
};
use crate::{
    gang::{self, Gangs},
    kind::{Begun, Check, Reported},
    ledger::Ledger,
    rows,
    scheduler::{Due, Effect, Event, Scheduler},
    telemetry::{self, Recorded},
};

/// So many commands are taken before their effects go to the ledger.
const COMMANDS_AT_ONCE: usize = 512;
/// Jobs of one identity that have not ended.
const JOBS_OPEN_MAX: usize = 1000;
/// So many planned units are kept in memory for their first grant. When half of them are gone the next ones are read
/// from the ledger in one scan: one by one they took 4 ms each.
pub(super) const KEPT_UNITS: usize = 8192;

pub(super) struct Driver {
    pub(super) parts: Parts,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) scheduler: Scheduler,
    pub(super) gangs: Gangs,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) by_key: HashMap<String, JobId>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) workers: BTreeMap<WorkerId, Connected>,
    pub(super) next_worker: WorkerId,
    pub(super) kept: HashMap<(JobId, UnitId), Arc<UnitRow>>,
    /// Units that were granted and are not recorded.
    pub(super) granted: HashMap<(JobId, UnitId), Arc<UnitRow>>,
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
                _ = ticks.tick() => self.tick(),
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
            Command::Submit { spec, order, key, by, begun, answer } => {
                self.submit(spec, order, key, by, begun, answer);
            }
            Command::PutToken { id, row, answer } => self.put_token(id, row, answer),
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
            Command::Load { answer } => drop(answer.send(self.load())),
            Command::DrainWorker { worker, answer } => {
                if self.workers.contains_key(&worker) {
                    self.event(Event::DrainAsked { worker });
                    drop(answer.send(Ok(())));
                } else {
                    let reason = format!("there is no worker {worker}; `sr3 workers` lists them");
                    drop(answer.send(Err(Refusal::NotFound(reason))));
                }
            }
            Command::Attach { hello, identity, send, answer } => self.attach(hello, identity, send, answer),
            Command::Report { worker, report } => self.report(worker, report),
            Command::Detached { worker } => self.detached(worker),
            Command::Began { job, run, check, answer } => self.began(job, run, check, answer),
            Command::Checked { worker, lease, result, found } => self.checked(worker, lease, result, found),
            Command::Planned { job, units, plan, answer } => self.planned(job, units, plan, answer),
            Command::Failed { job, reason } => self.end_job(job, Phase::Failed, reason),
            Command::Finished { job, phase, reason, reported } => {
                self.finished(job, phase, reason, reported);
            }
            Command::Remove { keys, answer } => self.remove(keys, answer),
            Command::Tidied { job, whole } => self.tidied(job, whole),
            Command::Kept { job, rows } => self.keep(job, rows),
            Command::Quarantine { job, unit, losses, row } => self.quarantine(job, unit, losses, &row),
        }
    }

    fn load(&self) -> Load {
        let mut jobs = BTreeMap::new();
        for job in self.jobs.values() {
            *jobs.entry(job.phase.state(job.paused)).or_default() += 1;
        }
        let (units_pending, units_leased) = self.scheduler.load();
        let (epoch, workers) = (self.ledger.epoch(), self.workers.len());
        Load { epoch, jobs, workers, units_pending, units_leased }
    }

    fn submit(
        &mut self,
        spec: String,
        order: Arc<Order>,
        key: String,
        by: String,
        begun: Option<Box<dyn Begun>>,
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
        let open = self.jobs.values().filter(|job| !job.phase.is_final() && job.submitted_by == by).count();
        if open >= JOBS_OPEN_MAX {
            let reason =
                format!("{open} jobs of yours have not ended: wait for some of them, or cancel them");
            drop(answer.send(Err(Refusal::TooMuch(reason))));
            return;
        }
        let clash = self.jobs.values().filter(|job| !job.phase.is_final()).find_map(|job| {
            let theirs = job.order.written().map(|place| &place.location);
            let mut both = theirs.filter(|t| order.written().any(|ours| ours.location.overlaps(t)));
            both.next().map(|location| (job.id, location))
        });
        if let Some((other, location)) = clash {
            let reason = format!(
                "job {other} writes to `{location}` already: wait for it, cancel it, or choose another destination"
            );
            drop(answer.send(Err(Refusal::Conflict(reason))));
            return;
        }
        let id = self.jobs.keys().next_back().map_or(JobId::new(1), |last| last.next());
        let job = Job::new(id, spec, key.clone(), order, by, self.parts.clock.wall_ms());
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
        self.start_task(id, begun.map_or(Places::Free, Places::Taken));
    }

    /// Writes a token's row; it counts once that is durable.
    fn put_token(&mut self, id: String, row: TokenRow, answer: Answer<TokenRow>) {
        self.work.batch.put(rows::token(&id), rows::write(row.clone()));
        let tokens = Arc::clone(&self.tokens);
        self.work.told.push(Told::Answer(Box::new(move || {
            tokens.put(id, row.clone());
            drop(answer.send(Ok(row)));
        })));
    }

    /// Starts the task that reads and writes for a job.
    pub(super) fn start_task(&mut self, id: JobId, places: Places) {
        let (Some(job), Some(commands)) = (self.jobs.get(&id), self.commands.upgrade()) else { return };
        let task = JobTask {
            id,
            owner: job.owner(),
            order: Arc::clone(&job.order),
            places,
            plan: job.plan.clone(),
            parts: self.parts.clone(),
            ledger: Arc::clone(&self.ledger),
            commands,
            stop_planning: job.stop_planning.clone(),
            next: job.next.subscribe(),
            stop: self.stop.clone(),
        };
        tokio::spawn(task.run());
    }

    fn began(&mut self, id: JobId, run: RunId, check: Arc<dyn Check>, answer: oneshot::Sender<()>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.run = run;
        job.check = Some(check);
        let unchecked = std::mem::take(&mut job.unchecked);
        if job.phase == Phase::Queued {
            job.phase = Phase::Running;
        }
        let (added, paused) = (job.added(), job.paused);
        self.work.batch.put(rows::job(id), rows::write(job.row()));
        self.event(added);
        if paused {
            self.event(Event::Paused { job: id });
        }
        for (worker, lease, result) in unchecked {
            if !self.scheduler.holds(worker, lease) {
                telemetry::stale_report();
            }
            self.check(worker, lease, result);
        }
        self.publish(id);
        self.work.told.push(Told::answer(answer, ()));
    }

    fn planned(
        &mut self,
        id: JobId,
        units: Vec<(UnitId, UnitRow)>,
        plan: PlanRow,
        answer: oneshot::Sender<()>,
    ) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.phase == Phase::Running) else { return };
        let (done, stage_planned) = (plan.done, plan.stage_planned);
        self.work.batch.put(rows::plan(id), rows::write(plan.clone()));
        self.work.recorded.quarantined += plan.quarantined.saturating_sub(job.plan.quarantined);
        job.plan = plan;
        let mut to_compute = Vec::new();
        let seat_min = units.iter().map(|(_, row)| row.seat_min).find(|min| *min > 0);
        for (unit, row) in units {
            self.work.batch.put(rows::unit(id, unit), rows::write(row.clone()));
            if row.items > 0 {
                job.counts.units_planned += 1;
                to_compute.push(due(unit, row.after));
                // Without gaps, so that what is kept ends where the next scan begins.
                if self.kept.len() < KEPT_UNITS && job.kept_to.is_none_or(|to| to == job.last_to_compute) {
                    self.kept.insert((id, unit), Arc::new(row));
                    job.kept_to = Some(unit);
                }
                job.last_to_compute = unit;
            }
        }
        self.check_bad_items(id);
        let Some(job) = self.jobs.get(&id) else { return };
        let text = format!("planned {} items in {} units", job.plan.planned, job.counts.units_planned);
        if let Some(min) = seat_min {
            self.begin_gang(id, min, false, Vec::new());
        }
        self.event(Event::Planned { job: id, units: to_compute });
        if done {
            self.log(id, text);
        }
        if stage_planned {
            self.event(Event::PlanningDone { job: id });
        }
        self.publish(id);
        self.work.told.push(Told::answer(answer, ()));
    }

    /// Every planned unit is recorded: the next stage opens, or the job ends.
    fn all_recorded(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.plan.done {
            return self.endings.push((id, Phase::Succeeded, String::new()));
        }
        job.plan.stage += 1;
        job.plan.stage_from = job.plan.units;
        job.plan.stage_planned = false;
        job.plan.cursor.clear();
        let (stage, next) = (job.plan.stage, job.next.clone());
        self.work.batch.put(rows::plan(id), rows::write(job.plan.clone()));
        self.work.told.push(Told::Answer(Box::new(move || {
            next.send_replace(Next::Stage(stage));
        })));
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
            self.gang_event(gang::Event::Paused { job: id, paused });
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
        job.unchecked.clear();
        job.stop_planning.cancel();
        self.work.batch.put(rows::job(id), rows::write(job.row()));
        let next = job.next.clone();
        // The report rests on what is durable by then.
        self.work.told.push(Told::Answer(Box::new(move || {
            next.send_replace(Next::End(ending));
        })));
        if ending != Phase::Succeeded {
            self.log(id, reason.clone());
        }
        self.event(Event::Ended { job: id, reason });
        self.gang_event(gang::Event::Ended { job: id });
        self.kept.retain(|(job, _), _| *job != id);
        self.granted.retain(|(job, _), _| *job != id);
        self.publish(id);
    }

    fn finished(&mut self, id: JobId, phase: Phase, reason: Option<String>, reported: Option<Reported>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.phase = phase;
        job.reported = reported.is_some();
        if let Some(Reported { done, with_notes, quarantined, summary }) = reported {
            // With the verdicts of units that were given back.
            job.counts.done = done;
            job.counts.with_notes = with_notes;
            job.counts.quarantined = quarantined.saturating_sub(job.plan.quarantined);
            job.summary = summary;
        }
        if let Some(reason) = reason {
            job.reason = reason;
        }
        job.ended_ms = self.parts.clock.wall_ms();
        let text = match phase {
            Phase::Succeeded => "succeeded".to_string(),
            Phase::Cancelled => "ended: cancelled".to_string(),
            _ => format!("failed: {}", job.reason),
        };
        self.log(id, text);
        // With the length of its log, which is whole now.
        if let Some(job) = self.jobs.get(&id) {
            self.work.batch.put(rows::job(id), rows::write(job.row()));
        }
        self.publish(id);
        self.tidy();
    }

    pub(super) fn check_bad_items(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let bad = job.all_counts().quarantined;
        if let Some(max) = job.order.head.bad_items_max
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

    fn tick(&mut self) {
        let before = self.scheduler.expiries();
        self.event(Event::Tick);
        self.gang_event(gang::Event::Tick);
        telemetry::leases_expired(self.scheduler.expiries() - before);
    }

    /// The same for a report of a finished unit.
    pub(super) fn unit_done(&mut self, worker: WorkerId, lease: Lease, row: DoneRow) {
        let now = self.parts.clock.now();
        let effects = self.scheduler.apply(Event::UnitDone { worker, lease }, now);
        self.effects(effects, Some(row));
    }

    pub(super) fn take_effects(&mut self, effects: Vec<Effect>) {
        self.effects(effects, None);
    }

    fn effects(&mut self, effects: Vec<Effect>, mut done: Option<DoneRow>) {
        for effect in effects {
            match effect {
                Effect::Save { job, unit, open } => {
                    let row = rows::write(rows::attempts_row(&open));
                    self.work.batch.put(rows::attempts(job, unit), row);
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
                Effect::Seated { worker, instance, lease } => self.seated(worker, instance, lease),
                Effect::Unseated { job, instance } => {
                    self.gang_event(gang::Event::Unseated { job, instance });
                }
                Effect::GangDone { job } => self.gang_event(gang::Event::Done { job }),
                Effect::QuarantineNext { job, unit, losses } => self.quarantine_next(job, unit, losses),
                Effect::Log { job, text } => self.log(job, text),
                Effect::AllRecorded { job } => self.all_recorded(job),
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
        job.counts.units_done += 1;
        let Recorded { units, done, quarantined } = &mut self.work.recorded;
        (*units, *done, *quarantined) = (*units + 1, *done + row.done, *quarantined + row.quarantined);
        self.work.batch.put(rows::done(lease.job, lease.unit), rows::write(row));
        self.work.batch.delete(rows::attempts(lease.job, lease.unit));
        job.under_way.remove(&(worker, lease.unit));
        self.granted.remove(&(lease.job, lease.unit));
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
        let text = match job.last_event {
            _ if job.phase.is_final() => text,
            EVENTS_MAX => "this log is full: the job's report has the rest".to_string(),
            count if count > EVENTS_MAX => return,
            _ => text,
        };
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

/// A unit as the scheduler is told of it, from its row.
pub(super) fn due(unit: UnitId, after: u64) -> Due {
    let first = unit.get().checked_sub(after).filter(|_| after > 0);
    Due { unit, after: first.map(UnitId::new) }
}

fn no_job(job: JobId) -> Refusal {
    Refusal::NotFound(format!("there is no job {}; `sr3 jobs` lists them", job.get()))
}
