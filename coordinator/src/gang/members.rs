//! One gang: its seats, its generation, and what its members say of each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sr3_proto::{
    JobId, Lease, WorkerId,
    gang::{GangState, Generation, MEMBERS_MAX, Membership, Peer},
};

use super::event::{Config, Effect};
use crate::scheduler::Time;

/// So many names stand in a line of the log.
const NAMES_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Gang {
    job: JobId,
    min: u32,
    /// Memberships that were made.
    number: u64,
    /// Holders of seats, those first that were seated first.
    seats: Vec<Seated>,
    /// Who works together; none where nobody does.
    current: Option<Membership>,
    /// Why nobody does, once that was told.
    waiting: Option<String>,
    /// Who worked together last.
    before: Vec<Peer>,
    /// A membership is due then.
    due: Option<Time>,
    /// Who cannot reach whom, in the current generation.
    accusations: BTreeSet<(String, String)>,
    judged_at: Option<Time>,
    paused: bool,
    /// What it was for is done.
    done: bool,
    takeover: Option<Takeover>,
    /// How often a process had to leave.
    evicted: BTreeMap<String, u32>,
}

/// The holders of seats under an earlier coordinator are waited for.
#[derive(Debug)]
pub(super) struct Takeover {
    expected: BTreeSet<String>,
    until: Time,
    /// Whether nobody was lost meanwhile.
    whole: bool,
}

impl Takeover {
    /// None where nobody held one.
    pub(super) fn new(holders: Vec<String>, until: Time) -> Option<Self> {
        let expected: BTreeSet<String> = holders.into_iter().collect();
        (!expected.is_empty()).then_some(Self { expected, until, whole: true })
    }
}

#[derive(Debug)]
struct Seated {
    worker: WorkerId,
    instance: String,
    lease: Lease,
    peer: Peer,
    has_session: bool,
    generation: Option<Generation>,
    /// Whether it has said in which generation it works.
    heard: bool,
}

impl Seated {
    fn tell(&self, state: GangState) -> Effect {
        Effect::Tell { worker: self.worker, lease: self.lease, state }
    }
}

impl Gang {
    pub(super) fn new(job: JobId) -> Self {
        Self {
            job,
            min: 1,
            number: 0,
            seats: Vec::new(),
            current: None,
            waiting: None,
            before: Vec::new(),
            due: None,
            accusations: BTreeSet::new(),
            judged_at: None,
            paused: false,
            done: false,
            takeover: None,
            evicted: BTreeMap::new(),
        }
    }

    /// A stage begins, or more of it is planned. Numbers go on.
    pub(super) fn begin(&mut self, min: u32, takeover: Option<Takeover>) {
        self.min = min.max(1);
        self.takeover = self.takeover.take().or(takeover);
        if self.done {
            (self.done, self.current) = (false, None);
        }
    }

    pub(super) fn seat(
        &mut self,
        worker: WorkerId,
        instance: String,
        lease: Lease,
        peer: Peer,
        due: Time,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(takeover) = &mut self.takeover {
            takeover.expected.remove(&instance);
        }
        if let Some(seated) = self.seats.iter_mut().find(|seated| seated.instance == instance) {
            (seated.worker, seated.lease, seated.has_session) = (worker, lease, true);
            return;
        }
        let (has_session, generation, heard) = (true, None, false);
        let seated = Seated { worker, instance, lease, peer, has_session, generation, heard };
        if self.paused {
            effects.push(seated.tell(leave("the job is paused")));
        }
        self.seats.push(seated);
        self.due = self.due.max(Some(due));
    }

    pub(super) fn unseat(&mut self, instance: &str, now: Time) {
        if let Some(takeover) = &mut self.takeover {
            takeover.expected.remove(instance);
            takeover.whole = false;
        }
        let Some(at) = self.seats.iter().position(|seated| seated.instance == instance) else { return };
        let seated = self.seats.remove(at);
        let name = &seated.peer.instance;
        self.accusations.retain(|(by, of)| by != name && of != name);
        if self.waiting.is_some() || self.is_member(&seated.peer) {
            self.due = Some(now);
        }
    }

    /// The place of the seat that a worker speaks for.
    pub(super) fn speaker(&self, worker: WorkerId, lease: Lease) -> Option<usize> {
        self.seats.iter().position(|seated| seated.worker == worker && seated.lease == lease)
    }

    /// A seat's holder says in which generation it works; tells it again what it seems not to know.
    pub(super) fn hear(
        &mut self,
        by: usize,
        generation: Option<Generation>,
        (epoch, now): (u64, Time),
        effects: &mut Vec<Effect>,
    ) {
        let Some(seated) = self.seats.get_mut(by) else { return };
        (seated.generation, seated.heard) = (generation, true);
        let seated = &self.seats[by];
        if self.done {
            return;
        }
        if self.paused {
            return effects.push(seated.tell(leave("the job is paused")));
        }
        match (&self.current, &self.waiting) {
            (Some(current), _) if generation == Some(current.generation) => {}
            (Some(current), _) if current.members.contains(&seated.peer) => {
                if current.generation.epoch == epoch {
                    effects.push(seated.tell(GangState::Together(current.clone())));
                } else {
                    // Nobody but its members knows a generation that was taken over.
                    (self.current, self.due) = (None, Some(now));
                }
            }
            (None, Some(reason)) => {
                effects.push(seated.tell(GangState::Waiting { reason: reason.clone() }));
            }
            _ => {}
        }
    }

    pub(super) fn gone(&mut self, worker: WorkerId, now: Time) {
        for seated in self.seats.iter_mut().filter(|seated| seated.worker == worker) {
            seated.has_session = false;
            // Somebody has said already that it cannot be reached.
            if self.accusations.iter().any(|(_, of)| *of == seated.peer.instance) {
                self.judged_at = Some(now);
            }
        }
    }

    pub(super) fn accuse(
        &mut self,
        by: usize,
        generation: Generation,
        of: &str,
        (epoch, window, now): (u64, Duration, Time),
        effects: &mut Vec<Effect>,
    ) {
        let by = &self.seats[by];
        if self.done {
            return effects.push(by.tell(leave("what the gang was for is done")));
        }
        let Some(current) = self.current.as_ref().filter(|current| current.generation == generation) else {
            return;
        };
        let name = &by.peer.instance;
        if of == name || !self.is_member(&by.peer) {
            return;
        }
        match self.seats.iter().find(|seated| seated.peer.instance == of) {
            Some(accused) if self.is_member(&accused.peer) => {
                let at = if accused.has_session { now + window } else { now };
                self.judged_at = Some(self.judged_at.map_or(at, |judged| judged.min(at)));
                self.accusations.insert((name.clone(), of.to_string()));
            }
            // Of one that was taken over, only members know who else was in it.
            None if current.generation.epoch < epoch => (self.current, self.due) = (None, Some(now)),
            _ => {}
        }
    }

    pub(super) fn pause(&mut self, paused: bool, now: Time, effects: &mut Vec<Effect>) {
        self.paused = paused;
        if !paused {
            self.due = Some(now);
            return;
        }
        self.nobody_works();
        effects.extend(self.seats.iter().map(|seated| seated.tell(leave("the job is paused"))));
        effects.push(Effect::Changed { job: self.job, members: 0, generation: 0 });
    }

    pub(super) fn finish(&mut self) {
        self.done = true;
        (self.due, self.judged_at, self.takeover) = (None, None, None);
        self.accusations.clear();
    }

    /// Who leaves, once all have had the time to say whom they cannot reach.
    pub(super) fn judge(&mut self, config: &Config, now: Time, effects: &mut Vec<Effect>) {
        if self.judged_at.is_none_or(|at| at > now) {
            return;
        }
        self.judged_at = None;
        let accusations = std::mem::take(&mut self.accusations);
        let accusers = |name: &str| accusations.iter().filter(|(_, of)| of == name).count();
        // Without a session nobody speaks for it. Of the others the one that most cannot reach, of equals the newest.
        let guilty = (0..self.seats.len())
            .filter(|at| accusers(&self.seats[*at].peer.instance) > 0)
            .max_by_key(|at| (!self.seats[*at].has_session, accusers(&self.seats[*at].peer.instance), *at));
        let Some(guilty) = guilty.and_then(|at| self.seats.get(at)) else { return };
        let Seated { worker, lease, instance, peer, has_session, .. } = guilty;
        let was_alive = *has_session && accusations.iter().any(|(by, _)| *by == peer.instance);
        let times = self.evicted.entry(instance.clone()).or_default();
        *times += 1;
        // A silent one may have stood still once; of one that does so again, others would lose a step each time.
        let counted = if was_alive { *times } else { *times - 1 };
        let bar = counted
            .checked_sub(1)
            .map(|doublings| config.bar_first.saturating_mul(1 << doublings.min(16)).min(config.bar_max));
        let reason = format!("members that cannot reach it: {}", accusers(&peer.instance));
        let text = format!("{} leaves the gang: {reason}", peer.name);
        effects.push(Effect::Log { job: self.job, text });
        let (worker, lease, instance) = (*worker, *lease, instance.clone());
        effects.push(Effect::Evict { worker, lease, instance, reason, bar });
    }

    /// Makes the membership that is due.
    pub(super) fn make_due(&mut self, epoch: u64, now: Time, effects: &mut Vec<Effect>) {
        if self.paused || self.done || self.is_taking_over(epoch, now, effects) {
            return;
        }
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        let members: Vec<Peer> =
            self.seats.iter().take(MEMBERS_MAX).map(|seated| seated.peer.clone()).collect();
        if self.current.as_ref().is_some_and(|current| current.members == members) {
            return;
        }
        self.nobody_works();
        let (job, count) = (self.job, members.len() as u32);
        if count < self.min {
            let reason = format!("{count} of at least {} workers are there", self.min);
            let text = format!("the gang waits: {reason}{}", self.changes(&members));
            effects.push(Effect::Log { job, text });
            self.tell_all(&GangState::Waiting { reason: reason.clone() }, effects);
            (self.waiting, self.before) = (Some(reason), members);
            return effects.push(Effect::Changed { job, members: 0, generation: 0 });
        }
        self.number += 1;
        let (number, generation) = (self.number, Generation { epoch, number: self.number });
        let workers = if count == 1 { "1 member".to_string() } else { format!("{count} members") };
        let text = format!("generation {epoch}.{number}: {workers}{}", self.changes(&members));
        effects.push(Effect::Log { job, text });
        let membership = Membership { job, generation, members: members.clone() };
        self.tell_all(&GangState::Together(membership.clone()), effects);
        effects.push(Effect::Changed { job, members: count, generation: number });
        (self.current, self.before) = (Some(membership), members);
    }

    /// Whether those who held seats under an earlier coordinator are still waited for. When they are not any more, their
    /// generation goes on, or another one is due.
    fn is_taking_over(&mut self, epoch: u64, now: Time, effects: &mut Vec<Effect>) -> bool {
        let Some(takeover) = &self.takeover else { return false };
        let all_back = takeover.expected.is_empty();
        let all_heard = self.seats.iter().all(|seated| seated.heard);
        if takeover.until > now && !(all_back && all_heard) {
            return true;
        }
        let whole = takeover.whole && all_back;
        (self.takeover, self.due) = (None, Some(now));
        let said: BTreeSet<_> = self.seats.iter().map(|seated| seated.generation).collect();
        if let (true, 1, Some(Some(generation))) = (whole, said.len(), said.first().copied())
            && generation.epoch < epoch
        {
            let job = self.job;
            let members: Vec<Peer> = self.seats.iter().map(|seated| seated.peer.clone()).collect();
            let Generation { epoch, number } = generation;
            let text = format!("generation {epoch}.{number} goes on: its {} members are back", members.len());
            effects.push(Effect::Log { job, text });
            effects.push(Effect::Changed { job, members: members.len() as u32, generation: number });
            self.before.clone_from(&members);
            (self.current, self.due) = (Some(Membership { job, generation, members }), None);
        }
        false
    }

    fn is_member(&self, peer: &Peer) -> bool {
        self.current.as_ref().is_some_and(|current| current.members.contains(peer))
    }

    /// What was said in a generation counts no more after it.
    fn nobody_works(&mut self) {
        (self.current, self.waiting, self.judged_at) = (None, None, None);
        self.accusations.clear();
    }

    fn tell_all(&self, state: &GangState, effects: &mut Vec<Effect>) {
        effects.extend(self.seats.iter().map(|seated| seated.tell(state.clone())));
    }

    /// Who joined and who left, for people.
    fn changes(&self, now: &[Peer]) -> String {
        let names = |these: &[Peer], without: &[Peer], what: &str| {
            let mut names: Vec<&str> =
                these.iter().filter(|peer| !without.contains(peer)).map(|peer| peer.name.as_str()).collect();
            let more = names.len().saturating_sub(NAMES_MAX);
            names.truncate(NAMES_MAX);
            match (names.as_slice(), more) {
                ([], _) => String::new(),
                (names, 0) => format!("; {what} {}", names.join(", ")),
                (names, more) => format!("; {what} {} and {more} more", names.join(", ")),
            }
        };
        names(now, &self.before, "joined") + &names(&self.before, now, "left")
    }
}

fn leave(reason: &str) -> GangState {
    GangState::Leave { reason: reason.to_string() }
}
