//! After a restart: leases of earlier epochs, and the processes that come back for them.

use sr3_proto::{JobId, Lease, UnitId, WorkerId};

use super::{
    Effect, OpenUnit, Scheduler, Time,
    jobs::{Held, Open},
};

/// An open unit as the ledger has it.
#[derive(Clone, Debug)]
pub struct RecoveredUnit {
    /// The unit.
    pub unit: UnitId,
    /// Its state.
    pub open: OpenUnit,
}

impl Scheduler {
    /// Puts back units that were leased before the restart. Whoever held one has the time of a lease to come back
    /// for it. Only right after [`super::Event::JobAdded`].
    pub fn recover(&mut self, job: JobId, units: Vec<RecoveredUnit>, now: Time) {
        let deadline = now + self.config.lease_ttl;
        let Some(found) = self.jobs.get_mut(&job) else { return };
        for RecoveredUnit { unit, open: state } in units {
            let mut open = Open { held: Vec::new(), state };
            match &open.state.holder {
                Some((instance, _, token)) => {
                    // Tokens of this epoch stay apart from those that were recovered.
                    self.next_token = self.next_token.max(token.saturating_add(1));
                    open.held.push(Held {
                        worker: None,
                        instance: instance.clone(),
                        token: *token,
                        attempt: open.state.attempts,
                        since: now,
                        deadline,
                    });
                }
                None => {
                    found.waiting.insert((now, unit));
                }
            }
            found.open.insert(unit, open);
        }
    }

    /// A process comes back with a lease: of an earlier session, or of an earlier epoch. If it is still the one that
    /// holds the unit it gets a new lease for it.
    pub(super) fn renew_held(
        &mut self,
        worker: WorkerId,
        instance: &str,
        old: Lease,
        now: Time,
    ) -> Option<Lease> {
        let (token, epoch) = (self.next_token, self.epoch);
        let deadline = now + self.config.lease_ttl;
        let open = self.jobs.get_mut(&old.job)?.open.get_mut(&old.unit)?;
        let (holder, of_epoch, of_token) = open.state.holder.as_ref()?;
        if holder != instance || *of_epoch != old.epoch || *of_token != old.token {
            return None;
        }
        let held = open.held.iter_mut().find(|held| held.token == old.token)?;
        held.token = token;
        held.worker = Some(worker);
        held.deadline = deadline;
        let attempt = held.attempt;
        open.state.holder = Some((instance.to_string(), epoch, token));
        self.next_token += 1;
        let state = open.state.clone();
        self.effects.push(Effect::Save { job: old.job, unit: old.unit, open: state });
        let lease = self.lease(old.job, old.unit, attempt, token);
        if self.is_gang(old.job) {
            self.effects.push(Effect::Seated { worker, instance: instance.to_string(), lease });
        }
        Some(lease)
    }
}
