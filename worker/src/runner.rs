//! What a kind of job is to the worker.
//!
//! The worker holds units, bounds what is in memory, owns the device and says how far it is. What an item is, and what is to
//! be done with it, only the [`Runner`] of its kind knows. A unit is a list of items; the worker runs them, several at a time
//! or one by one, and asks for the unit's result when all have a verdict.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sr3_proto::{Grant, Order, session::UnitResult};

use crate::{
    pipeline::Pipeline,
    stores::Stores,
    work::{Attempt, Failure, Stop},
};

/// A kind of job, on the worker's side.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// The kind of the orders that it runs.
    fn kind(&self) -> &'static str;

    /// Opens what all units of an order share: its stores, its models. It stays open for as long as units of it come.
    ///
    /// # Errors
    /// Why not, and who could do better.
    async fn open(&self, order: &Arc<Order>, stores: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure>;
}

/// An open order.
pub trait OpenOrder: Send + Sync + 'static {
    /// Reads a unit.
    ///
    /// # Errors
    /// It cannot be read here: it is of a version that this program does not know.
    fn unit(self: Arc<Self>, grant: &Grant) -> Result<Arc<dyn UnitWork>, Failure>;
}

/// A unit at work.
#[async_trait]
pub trait UnitWork: Send + Sync + 'static {
    /// Number of its items without a verdict.
    fn items(&self) -> usize;

    /// Opens what its items need. Not asked for where none is left: what is done can be recorded by anybody.
    ///
    /// # Errors
    /// It cannot be opened here.
    async fn prepare(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether its items are to run with nothing else in the process, because one may take it down.
    fn runs_alone(&self) -> bool {
        false
    }

    /// Takes one of these items through all its steps, to its verdict. What it holds in memory it takes from the
    /// pipeline's budgets.
    ///
    /// # Errors
    /// There is no verdict: the work was stopped, or something else than the item failed.
    async fn item(&self, index: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop>;

    /// The unit's result, from the verdicts of these items in order. What was granted with the unit counts too.
    ///
    /// # Errors
    /// It cannot be written.
    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure>;
}

/// The kinds that a worker runs.
#[derive(Clone)]
pub struct Runners(Arc<[Arc<dyn Runner>]>);

impl Runners {
    /// These.
    pub fn new(runners: impl IntoIterator<Item = Arc<dyn Runner>>) -> Self {
        Self(runners.into_iter().collect())
    }

    /// Their kinds.
    pub fn kinds(&self) -> Vec<String> {
        self.0.iter().map(|runner| runner.kind().to_string()).collect()
    }

    /// The one of that kind.
    pub(crate) fn find(&self, kind: &str) -> Option<&Arc<dyn Runner>> {
        self.0.iter().find(|runner| runner.kind() == kind)
    }
}

impl fmt::Debug for Runners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runners").field(&self.kinds()).finish()
    }
}
