//! What a kind of job is to the coordinator.
//!
//! The coordinator keeps jobs, cuts none of them: what is to be done, and what a result is, only the [`Kind`] knows. It hands
//! over bytes and gets them back. Whatever a kind does here may be done again by another coordinator after a crash: what is
//! in the ledger is what was done.

use std::{error::Error, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use sr3_proto::{Offer, Order, RunId, SpecError, UnitId, job_spec::Document, session::UnitResult};

use crate::{
    JobError,
    core::{OpenStore, view::Phase},
};

/// A kind of job.
#[async_trait]
pub trait Kind: Send + Sync + 'static {
    /// Its name in specs and orders.
    fn name(&self) -> &'static str;

    /// What becomes of a spec: names resolved to digests, every default spelt out. Changes nothing anywhere.
    ///
    /// # Errors
    /// For the person who wrote it.
    async fn order(&self, spec: &Document, known: &Known) -> Result<Ordered, SpecError>;

    /// Takes the places of a job, or goes on with the run that has them.
    ///
    /// # Errors
    /// The job cannot begin.
    async fn begin(&self, order: Arc<Order>, begin: Begin) -> Result<Box<dyn Begun>, JobError>;

    /// The verdict of the item that comes next in a unit: set aside for `reason`. None where every item has one, or where
    /// the unit cannot be read.
    fn set_aside(&self, order: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside>;
}

/// What a kind may ask while it makes an order.
pub struct Known {
    /// Opens places, models' among them, or says that they are not allowed.
    pub open_store: OpenStore,
    /// What the connected workers have.
    pub offers: Vec<Offer>,
}

/// A spec, and what became of it.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// Its canonical text.
    pub spec: String,
    /// The order.
    pub order: Order,
}

/// How a job begins.
pub struct Begin {
    /// Opens its places.
    pub open_store: OpenStore,
    /// A name that no other job has, of this cluster or another.
    pub owner: String,
    /// The run that an earlier coordinator began.
    pub run: Option<RunId>,
    /// Whether something is still to be planned.
    pub planning: bool,
}

/// A job that has its places; they are free again when it is dropped.
#[async_trait]
pub trait Begun: Send + Sync {
    /// Which run it is there.
    fn run(&self) -> RunId;

    /// What tells whether a worker's report is true. It holds none of the job's places.
    fn check(&self) -> Arc<dyn Check>;

    /// How many stages it has. One opens when every unit of the one before is recorded; what may begin earlier is planned in one
    /// stage, by [`Planned::after`].
    fn stages(&self) -> u32 {
        1
    }

    /// The units of a stage, in order, after those that are planned already: a stream, because there may be millions.
    fn plan<'a>(&'a self, stage: u32, so_far: SoFar<'a>) -> BoxStream<'a, Result<Planned, JobError>>;

    /// Writes the end of a job that came out as `phase`, from all its units in order. May be called again after a crash.
    ///
    /// # Errors
    /// The job fails.
    async fn end<'a>(
        &'a self,
        phase: Phase,
        units: BoxStream<'a, Result<EndedUnit, JobError>>,
    ) -> Result<Reported, JobError>;
}

/// Looks whether what a worker says of a unit is so.
#[async_trait]
pub trait Check: Send + Sync + 'static {
    /// Whether `result` is one of the unit `id`, which is `unit`, and lies where it must. Reads one object at most.
    ///
    /// # Errors
    /// It is not, or that cannot be found out.
    async fn check(&self, id: UnitId, unit: &Bytes, result: &UnitResult) -> Result<(), Doubt>;
}

/// Why a report is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// What it says is not so.
    #[error("it reported what is not so: {0}")]
    False(String),
    /// Nobody can tell now.
    #[error("its result cannot be looked at: {0}")]
    Unknown(String),
}

/// What is planned of a job already.
pub struct SoFar<'a> {
    /// [`Planned::cursor`] of this stage's last unit; empty for none.
    pub cursor: String,
    /// The units of all stages, in order.
    pub units: BoxStream<'a, Result<EndedUnit, JobError>>,
}

/// A unit, planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// What is to be done, as the kind writes it: what the worker gets.
    pub unit: Bytes,
    /// What only the job's end needs.
    pub at_end: Bytes,
    /// Items to work on; a unit without any is only there for the end.
    pub items: u32,
    /// Work of these, in any unit that the kind chose.
    pub work: u64,
    /// Entries that it stands for.
    pub planned: u64,
    /// Of these, those that need nothing.
    pub skipped: u64,
    /// Of these, those that were set aside at once.
    pub quarantined: u64,
    /// Planning goes on after this.
    pub cursor: String,
    /// It needs the result of the unit that is so many before it in the plan of this stage, and begins when that is recorded; 0
    /// for at once. That unit has items.
    pub after: u64,
    /// A seat of the job's gang, instead of items that anybody can do by himself. All units of such a stage are seats.
    pub seat: Option<Seat>,
}

/// A seat of a gang. It takes a whole worker, for as long as that lives. When the holder of one reports it as done, the gang
/// is: seats that nobody holds are not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Fewest members with which the gang works, at least 1.
    pub min: u32,
}

/// A unit at a job's end, or at a later stage's beginning.
#[derive(Clone, Debug)]
pub struct EndedUnit {
    /// Which.
    pub id: UnitId,
    /// What was to be done.
    pub unit: Bytes,
    /// What was kept for the end.
    pub at_end: Bytes,
    /// Items that were to be worked on.
    pub items: u32,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a unit.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is recorded with this result.
    Recorded(Bytes),
    /// It is not; these verdicts exist.
    Open(Vec<Bytes>),
}

/// What a job's end says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Items with a result.
    pub done: u64,
    /// Of these, those with notes.
    pub with_notes: u64,
    /// Items without one, those of planning included.
    pub quarantined: u64,
    /// What came of the job as a whole, as short JSON; empty where there is nothing to say.
    pub summary: String,
}

/// An item that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its name, for people.
    pub item: String,
    /// Its verdict.
    pub record: Bytes,
}

/// The kinds that a coordinator runs.
#[derive(Clone)]
pub struct Kinds(Arc<[Arc<dyn Kind>]>);

impl Kinds {
    /// These.
    pub fn new(kinds: impl IntoIterator<Item = Arc<dyn Kind>>) -> Self {
        Self(kinds.into_iter().collect())
    }

    /// Their names.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|kind| kind.name()).collect()
    }

    /// The one of that name.
    pub fn find(&self, name: &str) -> Option<&Arc<dyn Kind>> {
        self.0.iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kinds").field(&self.names()).finish()
    }
}

/// An error of a kind.
pub type KindError = Box<dyn Error + Send + Sync>;
