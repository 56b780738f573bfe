//! Who gets the next unit.
//!
//! Every pair of a job with something to lease and a worker with a credit has a cost: what the job was served so far
//! over its priority, and a bit more where the worker would have to load the model. The cheapest pair comes first; among
//! equals the worker with the fewest units.

use sr3_proto::{JobId, UnitId, WorkerId};

use super::{
    Effect, Scheduler, Time,
    jobs::{Held, Job},
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

    /// Keeps a busy worker free for each gang that has a seat to give and nobody to give it to.
    fn reserve(&mut self, now: Time) {
        let gangs: Vec<JobId> = self.jobs.iter().filter(|(_, job)| job.is_gang).map(|(&id, _)| id).collect();
        for id in gangs {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.barred.retain(|_, until| *until > now);
            let wants = job.has_next(now) && self.may_grow(id);
            let Some(job) = self.jobs.get(&id) else { continue };
            let can =
                |worker: &super::Worker| worker.is_connected() && !worker.draining && worker.seat.is_none();
            let fits = |worker: &super::Worker| can(worker) && job.may_go_to(id, worker);
            let has_one = self.workers.values().any(|w| {
                fits(w) && (w.reserved == Some(id) || (w.leases.is_empty() && w.reserved.is_none()))
            });
            let chosen = self
                .workers
                .iter()
                .filter(|(_, worker)| fits(worker) && worker.reserved.is_none())
                .min_by_key(|(_, worker)| worker.leases.len())
                .map(|(&worker, _)| worker);
            for worker in self.workers.values_mut().filter(|_| !wants) {
                worker.reserved = worker.reserved.filter(|job| *job != id);
            }
            if let Some(worker) =
                chosen.filter(|_| wants && !has_one).and_then(|id| self.workers.get_mut(&id))
            {
                worker.reserved = Some(id);
            }
        }
    }

    /// Whether a gang may take one more worker: it has its job's share of those that could work for it, and one in any case.
    fn may_grow(&self, id: JobId) -> bool {
        let Some(gang) = self.jobs.get(&id) else { return false };
        let holds = gang.lease_count();
        if holds == 0 {
            return true;
        }
        let works = |job: &Job| !(job.paused || job.pending.is_empty() && job.open.is_empty());
        let others = self.jobs.iter().filter(|(other, job)| **other != id && works(job));
        let others: u32 = others.map(|(_, job)| job.demand.priority).sum();
        let workers = self.workers.values().filter(|w| w.is_connected() && !w.draining).count();
        let all = u64::from(gang.demand.priority) + u64::from(others);
        (holds as u64 + 1) * all <= workers as u64 * u64::from(gang.demand.priority)
    }

    fn cheapest(&self, now: Time) -> Option<(JobId, WorkerId)> {
        let mut best: Option<(f64, usize, JobId, WorkerId)> = None;
        for (&id, job) in self.jobs.iter().filter(|(_, job)| job.has_next(now)) {
            for &worker in &self.free {
                let Some(found) = self.workers.get(&worker) else { continue };
                if !job.may_go_to(id, found) || found.reserved.is_some_and(|other| other != id) {
                    continue;
                }
                if job.is_gang && (!found.leases.is_empty() || !self.may_grow(id)) {
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
            if job.paused || job.is_gang || !job.planning_done || job.has_next(now) {
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
                let fits = |worker| self.jobs.get(&job).is_some_and(|found| found.may_go_to(job, worker));
                Some(*id) != holder && self.workers.get(id).is_some_and(fits)
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
        if found.is_gang {
            (holder.seat, holder.reserved) = (Some(job), None);
        }
        let is_gang = found.is_gang;
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
            _ => self.pending.pop_front(),
        }
    }
}
