//! Who gets the next unit.
//!
//! Every pair of a job with something to lease and a worker with a credit has a cost: what the job was served so far
//! over its priority, and a bit more where the worker would have to load the model. The cheapest pair comes first; among
//! equals the worker with the fewest units.

use sr3_proto::{JobId, UnitId, WorkerId};

use super::{
    Effect, Scheduler, Time,
    jobs::{Held, Job},
    workers::Worker,
};

impl Scheduler {
    /// Hands out units until no credit or no unit is left.
    pub(super) fn assign(&mut self, now: Time) {
        self.reserve(now);
        while !self.free.is_empty() {
            let Some((job, worker)) = self.cheapest(now) else { break };
            let Some(found) = self.jobs.get_mut(&job) else { break };
            let Some(unit) = found.take_next(now) else { break };
            self.grant(job, unit, worker, now);
        }
        if !self.free.is_empty() {
            self.assign_backups(now);
        }
    }

    fn cheapest(&self, now: Time) -> Option<(JobId, WorkerId)> {
        let mut best: Option<(f64, usize, JobId, WorkerId)> = None;
        for (&id, job) in self.jobs.iter().filter(|(_, job)| job.has_next(now)) {
            let is_gang = job.seats.is_some();
            if is_gang && !self.may_grow(id) {
                continue;
            }
            for &worker in &self.free {
                let Some(found) = self.workers.get(&worker) else { continue };
                if !job.may_go_to(id, found) || found.reserved.is_some_and(|other| other != id) {
                    continue;
                }
                if is_gang && !found.leases.is_empty() {
                    continue;
                }
                let loaded = job.is_loaded_at(found);
                let extra = if loaded { 0.0 } else { self.config.affinity_units };
                let cost = (job.served + extra, found.leases.len(), id, worker);
                if best.is_none_or(|best| (cost.0, cost.1) < (best.0, best.1)) {
                    best = Some(cost);
                }
                // No other worker can be cheaper for this job.
                if loaded && found.leases.is_empty() {
                    break;
                }
            }
        }
        best.map(|(_, _, job, worker)| (job, worker))
    }

    fn assign_backups(&mut self, now: Time) {
        let mut wanted = Vec::new();
        for (&id, job) in &self.jobs {
            if job.paused || job.seats.is_some() || !job.planning_done || job.has_next(now) {
                continue;
            }
            let Some(median) = job.median() else { continue };
            let late = median.mul_f64(self.config.straggler_factor).max(self.config.straggler_least);
            for (&unit, open) in &job.open {
                if let [only] = open.held.as_slice()
                    && only.since + late <= now
                    // One item after the other is slow by intent.
                    && !open.state.is_isolated(&self.config)
                {
                    wanted.push((id, unit, only.worker));
                }
            }
        }
        for (job, unit, holder) in wanted {
            let other = self.free.iter().copied().find(|id| {
                let fits =
                    |worker: &Worker| self.jobs.get(&job).is_some_and(|found| found.may_go_to(job, worker));
                let free = |worker: &&Worker| worker.reserved.is_none() && fits(worker);
                Some(*id) != holder && self.workers.get(id).as_ref().is_some_and(free)
            });
            if let Some(worker) = other {
                let text = format!("unit {unit} takes long: worker {worker} tries it too");
                self.effects.push(Effect::Log { job, text });
                self.grant(job, unit, worker, now);
            }
        }
    }

    fn grant(&mut self, job: JobId, unit: UnitId, worker: WorkerId, now: Time) {
        let token = self.next_token;
        let (epoch, deadline) = (self.epoch, now + self.config.lease_ttl);
        let Some(found) = self.jobs.get_mut(&job) else { return };
        let Some(holder) = self.workers.get_mut(&worker) else { return };
        self.next_token += 1;
        found.served += 1.0 / f64::from(found.demand.priority);
        let open = found.open.entry(unit).or_default();
        open.state.attempts += 1;
        open.state.holder = Some((holder.instance.clone(), epoch, token));
        let attempt = open.state.attempts;
        let instance = holder.instance.clone();
        open.held.push(Held { worker: Some(worker), instance, token, attempt, since: now, deadline });
        holder.leases.insert((job, unit));
        holder.credits -= 1;
        let is_gang = found.seats.is_some();
        if is_gang {
            (holder.seat, holder.reserved) = (Some(job), None);
        }
        let (state, records) = (open.state.clone(), open.state.records.clone());
        let isolated = !is_gang && state.is_isolated(&self.config);
        let instance = holder.instance.clone();
        let lease = self.lease(job, unit, attempt, token);
        self.effects.push(Effect::Save { job, unit, open: state });
        self.effects.push(Effect::Grant { worker, lease, records, isolated });
        if is_gang {
            self.effects.push(Effect::Seated { worker, instance, lease });
        }
        self.update_free(worker);
    }
}

impl Job {
    /// Whether something waits for a worker.
    pub(super) fn has_next(&self, now: Time) -> bool {
        let due = self.waiting.first().is_some_and(|(not_before, _)| *not_before <= now);
        !self.paused && (due || !self.pending.is_empty())
    }

    /// What was tried before comes first.
    fn take_next(&mut self, now: Time) -> Option<UnitId> {
        match self.waiting.first() {
            Some(&(not_before, unit)) if not_before <= now => {
                self.waiting.pop_first();
                Some(unit)
            }
            _ => self.pending.pop_first(),
        }
    }
}
