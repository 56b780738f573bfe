//! What the gang machine hears and says.

use std::time::Duration;

use sr3_proto::{
    JobId, Lease, WorkerId,
    gang::{GangState, Generation, Peer},
};

/// The numbers that decide.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whoever joins is waited with for so long.
    pub settle: Duration,
    /// Accusations are collected for so long, unless the accused has no session.
    pub window: Duration,
    /// A member that was alive and could not be reached is kept out for so long, and twice as long each further time; one
    /// that was silent, from its second time on.
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
    /// A job's stage is for a gang of at least `min`. `holders` are the processes that held seats under an earlier coordinator.
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
    /// A seat is recorded: what the gang was for is done.
    Done {
        /// The job.
        job: JobId,
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
        /// In whose latest session.
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
