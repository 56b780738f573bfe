//! Who of a gang works together: generations of members, as a pure state machine beside the bag of units.
//!
//! The scheduler leases seats; this machine makes memberships of their holders. `apply(event, now)` changes the state and
//! returns effects. Time is an argument, and nothing is read or written here.
//!
//! Promises:
//! - A membership has its own number; later ones are larger, and those of a later coordinator too, because the ledger gives
//!   it a larger epoch. Members are holders of seats, in the order in which they were seated.
//! - Whoever joins waits a little for others ([`Config::settle`]), so that many at once make one generation. Whoever is
//!   lost makes one at once.
//! - A member without a session is still one: members work without the coordinator. It is out when its seat is, or when
//!   another member cannot reach it.
//! - Of two that cannot reach each other one leaves: the one that more cannot reach, of equals the newer. If it was alive (it
//!   accused somebody itself) it is kept out for a while, longer each time: so generations end.
//! - After a takeover the members that come back go on in the generation that they are in, if it is the same with all of
//!   them; nobody is told anything.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sr3_proto::{
    JobId, Lease, WorkerId,
    gang::{GangState, Generation, Membership, Peer},
};

use crate::scheduler::Time;

/// The numbers that decide.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whoever joins is waited with for so long.
    pub settle: Duration,
    /// Accusations are collected for so long, unless the accused has no session.
    pub window: Duration,
    /// A member that was alive and could not be reached is kept out for so long, and twice as long each further time.
    pub bar_first: Duration,
    /// And never longer than this.
    pub bar_max: Duration,
    /// After a takeover members are waited for so long.
    pub takeover: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(250),
            window: Duration::from_millis(400),
            bar_first: Duration::from_secs(30),
            bar_max: Duration::from_secs(600),
            takeover: Duration::from_secs(20),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A job has a gang of at least `min`. `holders` are the processes that held seats under an earlier coordinator.
    Began {
        /// The job.
        job: JobId,
        /// Fewest members.
        min: u32,
        /// Processes.
        holders: Vec<String>,
    },
    /// A process holds a seat, or holds it under a new lease.
    Seated {
        /// Its session.
        worker: WorkerId,
        /// The process, as the scheduler knows it.
        instance: String,
        /// The seat.
        lease: Lease,
        /// The process as others find it.
        peer: Peer,
    },
    /// It holds it no more.
    Unseated {
        /// The job.
        job: JobId,
        /// The process.
        instance: String,
    },
    /// A seat's holder says in which generation it works.
    Heard {
        /// The seat.
        lease: Lease,
        /// Its session.
        worker: WorkerId,
        /// None before its first.
        generation: Option<Generation>,
    },
    /// A session ended.
    Gone {
        /// Which.
        worker: WorkerId,
    },
    /// A member cannot reach another.
    Accused {
        /// The seat of the one that says so.
        lease: Lease,
        /// Its session.
        worker: WorkerId,
        /// The generation in which it cannot.
        generation: Generation,
        /// The other, by the name that peers have.
        of: String,
    },
    /// The job is to give its workers back, or may have them again.
    Paused {
        /// The job.
        job: JobId,
        /// Which.
        paused: bool,
    },
    /// The job is over.
    Ended {
        /// The job.
        job: JobId,
    },
    /// Time went on.
    Tick,
}

/// What is to take place.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell a seat's holder.
    Tell {
        /// Its session.
        worker: WorkerId,
        /// The seat.
        lease: Lease,
        /// What.
        state: GangState,
    },
    /// Take a seat away.
    Evict {
        /// From whose session; none where it has none.
        worker: WorkerId,
        /// The seat.
        lease: Lease,
        /// The process.
        instance: String,
        /// Why.
        reason: String,
        /// It gets no seat of this job for so long.
        bar: Option<Duration>,
    },
    /// For the job's log.
    Log {
        /// The job.
        job: JobId,
        /// One line.
        text: String,
    },
    /// The members have changed, for those who watch.
    Changed {
        /// The job.
        job: JobId,
        /// How many work together.
        members: u32,
        /// In which generation; 0 where nobody works.
        generation: u64,
    },
}

/// The state.
#[derive(Debug)]
pub struct Gangs {
    config: Config,
    epoch: u64,
    gangs: BTreeMap<JobId, Gang>,
    effects: Vec<Effect>,
}

#[derive(Debug, Default)]
struct Gang {
    min: u32,
    /// Memberships that were made.
    number: u64,
    /// Holders of seats, those first that were seated first.
    seats: Vec<Seated>,
    /// Who works together; none where nobody does.
    current: Option<Membership>,
    /// A membership is due then.
    due: Option<Time>,
    accusations: BTreeSet<(String, String)>,
    judged_at: Option<Time>,
    paused: bool,
    /// Processes that may still come back, and until when they are waited for.
    expected: BTreeSet<String>,
    expected_until: Time,
    /// How often a process was kept out.
    bars: BTreeMap<String, u32>,
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

impl Gangs {
    /// Nothing is known yet. `epoch` is the ledger's.
    pub fn new(config: Config, epoch: u64) -> Self {
        Self { config, epoch, gangs: BTreeMap::new(), effects: Vec::new() }
    }

    /// What happens when `event` does, at `now`. Times must not run backwards.
    pub fn apply(&mut self, event: Event, now: Time) -> Vec<Effect> {
        match event {
            Event::Began { job, min, holders } => {
                let expected: BTreeSet<String> = holders.into_iter().collect();
                let expected_until = if expected.is_empty() { now } else { now + self.config.takeover };
                self.gangs.entry(job).or_insert(Gang { min, expected, expected_until, ..Gang::default() });
            }
            Event::Seated { worker, instance, lease, peer } => self.seat(worker, instance, lease, peer, now),
            Event::Unseated { job, instance } => self.unseat(job, &instance, now),
            Event::Heard { lease, worker, generation } => self.hear(lease, worker, generation),
            Event::Gone { worker } => self.gone(worker, now),
            Event::Accused { lease, worker, generation, of } => {
                self.accuse(lease, worker, generation, &of, now);
            }
            Event::Paused { job, paused } => self.pause(job, paused, now),
            Event::Ended { job } => drop(self.gangs.remove(&job)),
            Event::Tick => {}
        }
        let jobs: Vec<JobId> = self.gangs.keys().copied().collect();
        for job in jobs {
            self.judge(job, now);
            self.make_due(job, now);
        }
        std::mem::take(&mut self.effects)
    }

    fn seat(&mut self, worker: WorkerId, instance: String, lease: Lease, peer: Peer, now: Time) {
        let due = now + self.config.settle;
        let Some(gang) = self.gangs.get_mut(&lease.job) else { return };
        gang.expected.remove(&instance);
        if let Some(seated) = gang.seats.iter_mut().find(|seated| seated.instance == instance) {
            (seated.worker, seated.lease, seated.has_session) = (worker, lease, true);
            return;
        }
        let (has_session, generation, heard) = (true, None, false);
        gang.seats.push(Seated { worker, instance, lease, peer, has_session, generation, heard });
        gang.due = gang.due.max(Some(due));
    }

    fn unseat(&mut self, job: JobId, instance: &str, now: Time) {
        let Some(gang) = self.gangs.get_mut(&job) else { return };
        gang.expected.remove(instance);
        let Some(at) = gang.seats.iter().position(|seated| seated.instance == instance) else { return };
        let seated = gang.seats.remove(at);
        let name = &seated.peer.instance;
        gang.accusations.retain(|(by, of)| by != name && of != name);
        if gang.current.as_ref().is_some_and(|m| m.members.contains(&seated.peer)) {
            gang.due = Some(now);
        }
    }

    fn hear(&mut self, lease: Lease, worker: WorkerId, generation: Option<Generation>) {
        let Some(gang) = self.gangs.get_mut(&lease.job) else { return };
        let Some(seated) = gang.seats.iter_mut().find(|s| s.worker == worker && s.lease == lease) else {
            return;
        };
        (seated.generation, seated.heard) = (generation, true);
        // What it was told may have come before its seat did.
        if let Some(current) = gang.current.clone().filter(|m| m.members.contains(&seated.peer))
            && generation != Some(current.generation)
        {
            self.effects.push(Effect::Tell { worker, lease, state: GangState::Together(current) });
        }
    }

    fn gone(&mut self, worker: WorkerId, now: Time) {
        for gang in self.gangs.values_mut() {
            for seated in gang.seats.iter_mut().filter(|seated| seated.worker == worker) {
                seated.has_session = false;
                // Somebody has said already that it cannot be reached.
                if gang.accusations.iter().any(|(_, of)| *of == seated.peer.instance) {
                    gang.judged_at = Some(now);
                }
            }
        }
    }

    fn accuse(&mut self, lease: Lease, worker: WorkerId, generation: Generation, of: &str, now: Time) {
        let window = self.config.window;
        let Some(gang) = self.gangs.get_mut(&lease.job) else { return };
        let Some(current) = &gang.current else { return };
        let by = gang.seats.iter().find(|s| s.worker == worker && s.lease == lease).map(|s| &s.peer.instance);
        let accused = gang.seats.iter().find(|seated| seated.peer.instance == of);
        let Some(by) = by.filter(|by| *by != of && current.generation == generation) else { return };
        let Some(accused) = accused else {
            // It has lost its seat already, and others wait for it.
            gang.current = None;
            gang.due = Some(now);
            return;
        };
        gang.accusations.insert((by.clone(), of.to_string()));
        let at = if accused.has_session { now + window } else { now };
        gang.judged_at = Some(gang.judged_at.map_or(at, |judged| judged.min(at)));
    }

    fn pause(&mut self, job: JobId, paused: bool, now: Time) {
        let Some(gang) = self.gangs.get_mut(&job) else { return };
        gang.paused = paused;
        if !paused {
            gang.due = Some(now);
            return;
        }
        gang.current = None;
        let reason = "the job is paused".to_string();
        for seated in &gang.seats {
            let (worker, lease) = (seated.worker, seated.lease);
            self.effects.push(Effect::Tell {
                worker,
                lease,
                state: GangState::Leave { reason: reason.clone() },
            });
        }
        self.effects.push(Effect::Changed { job, members: 0, generation: 0 });
    }

    /// Who leaves, once all have had the time to say whom they cannot reach.
    fn judge(&mut self, job: JobId, now: Time) {
        let Some(gang) = self.gangs.get_mut(&job) else { return };
        if gang.judged_at.is_none_or(|at| at > now) {
            return;
        }
        gang.judged_at = None;
        let accusations = std::mem::take(&mut gang.accusations);
        let accusers = |name: &str| accusations.iter().filter(|(_, of)| of == name).count();
        // Without a session nobody speaks for it. Of the others the one that most cannot reach, of equals the newest.
        let guilty = gang
            .seats
            .iter()
            .enumerate()
            .filter(|(_, seated)| accusers(&seated.peer.instance) > 0)
            .max_by_key(|(at, seated)| (!seated.has_session, accusers(&seated.peer.instance), *at));
        let Some((_, guilty)) = guilty else { return };
        let (name, instance) = (guilty.peer.instance.clone(), guilty.instance.clone());
        let count = accusers(&name);
        let was_alive = guilty.has_session && accusations.iter().any(|(by, _)| *by == name);
        let bar = was_alive.then(|| {
            let times = gang.bars.entry(instance.clone()).or_default();
            *times += 1;
            let doubled = self.config.bar_first.saturating_mul(1 << (*times - 1).min(16));
            doubled.min(self.config.bar_max)
        });
        let reason = format!("{count} of the other members cannot reach it");
        let text = format!("{} leaves the gang: {reason}", guilty.peer.name);
        self.effects.push(Effect::Log { job, text });
        let (worker, lease) = (guilty.worker, guilty.lease);
        self.effects.push(Effect::Evict { worker, lease, instance, reason, bar });
    }

    /// Makes the membership that is due.
    fn make_due(&mut self, job: JobId, now: Time) {
        let Some(gang) = self.gangs.get_mut(&job) else { return };
        if gang.paused {
            return;
        }
        if !gang.expected.is_empty() && gang.expected_until > now {
            return;
        }
        if gang.due.is_none_or(|due| due > now) {
            return;
        }
        // After a takeover each says first where it is.
        let waits = gang.current.is_none()
            && gang.expected_until > now
            && gang.number == 0
            && gang.seats.iter().any(|seated| !seated.heard);
        if waits {
            return;
        }
        gang.due = None;
        let all_back = gang.expected.is_empty();
        gang.expected.clear();
        let members: Vec<Peer> = gang.seats.iter().map(|seated| seated.peer.clone()).collect();
        if gang.current.as_ref().is_some_and(|current| current.members == members) {
            return;
        }
        if let Some(generation) = gang.adoptable(self.epoch).filter(|_| all_back) {
            let count = members.len() as u32;
            let text =
                format!("{count} members go on in generation {}.{}", generation.epoch, generation.number);
            self.effects.push(Effect::Log { job, text });
            self.effects.push(Effect::Changed { job, members: count, generation: generation.number });
            gang.current = Some(Membership { job, generation, members });
            return;
        }
        if (members.len() as u64) < u64::from(gang.min) {
            gang.current = None;
            let (have, need) = (members.len(), gang.min);
            let reason = format!("{have} of at least {need} workers are there");
            self.effects.push(Effect::Log { job, text: format!("the gang waits: {reason}") });
            for Seated { worker, lease, .. } in &gang.seats {
                let state = GangState::Waiting { reason: reason.clone() };
                self.effects.push(Effect::Tell { worker: *worker, lease: *lease, state });
            }
            return self.effects.push(Effect::Changed { job, members: 0, generation: 0 });
        }
        gang.number += 1;
        let generation = Generation { epoch: self.epoch, number: gang.number };
        let membership = Membership { job, generation, members };
        let (count, number) = (membership.members.len(), gang.number);
        let text = format!("generation {}.{number}: {count} members", self.epoch);
        self.effects.push(Effect::Log { job, text });
        for Seated { worker, lease, .. } in &gang.seats {
            let state = GangState::Together(membership.clone());
            self.effects.push(Effect::Tell { worker: *worker, lease: *lease, state });
        }
        self.effects.push(Effect::Changed { job, members: count as u32, generation: number });
        gang.current = Some(membership);
        gang.accusations.clear();
        gang.judged_at = None;
    }
}

impl Gang {
    /// The generation of an earlier coordinator in which all holders of seats work, if it is one.
    fn adoptable(&self, epoch: u64) -> Option<Generation> {
        let first = self.seats.first()?.generation?;
        let same = self.seats.iter().all(|seated| seated.generation == Some(first));
        (self.number == 0 && self.current.is_none() && first.epoch < epoch && same).then_some(first)
    }
}
