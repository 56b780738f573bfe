//! The kind as coordinator and worker know it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sr3_coordinator::{
    JobError, Kind,
    core::open_to_write,
    kind::{Begin, Begun, Known, Ordered, SetAside},
};
use sr3_proto::{FailureKind, Location, Order, SpecError, job_spec, job_spec::Document, off_thread};
use sr3_worker::{Failure, OpenOrder, Runner, Stores};

use super::{CompareJob, CompareOrder, CompareSpec, ComparedOrder, Metric, NAME, job};
use crate::{
    images::Selected,
    models::{Weights, WeightsError, lay_down},
};

/// Comparing, with a network whose weights lie in `weights`.
pub struct Compare {
    weights: Weights,
}

impl Compare {
    /// With these weights.
    pub fn new(weights: Weights) -> Self {
        Self { weights }
    }

    /// What a spec comes to. May block.
    ///
    /// # Errors
    /// There are no weights.
    pub fn resolve(&self, spec: &CompareSpec) -> Result<CompareOrder, WeightsError> {
        let metrics = spec.metrics();
        let network = self.weights.inception(metrics.contains(&Metric::InceptionScore))?;
        let CompareSpec { job, selection } = spec.clone();
        Ok(CompareOrder {
            source: job.source,
            reference: job.reference,
            held_out: job.held_out,
            destination: job.destination,
            mode: job.mode,
            metrics,
            save_statistics: job.save_statistics,
            network,
            selection,
            max_bad_items: job.max_bad_items,
        })
    }
}

fn destination(order: &Order) -> Option<&Location> {
    order.head.places.iter().find(|place| place.what == "destination").map(|place| &place.location)
}

#[async_trait]
impl Kind for Compare {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn order(&self, document: &Document, _: &Known) -> Result<Ordered, SpecError> {
        let spec = CompareSpec::read(document)?;
        let wrong = |e: &dyn std::fmt::Display| SpecError::nowhere(e.to_string());
        Selected::new(&spec.selection).map_err(|e| wrong(&e))?;
        if spec.job.destination.is_none() {
            return Err(wrong(&"missing field `destination`: where features and numbers go"));
        }
        let (this, asked) = (Self::new(self.weights.clone()), spec.clone());
        let resolved = off_thread(move || this.resolve(&asked)).await.map_err(|e| wrong(&e))?;
        let order = resolved.map_err(|e| wrong(&format!("at the coordinator: {e}")))?;
        let envelope = order.envelope(spec.job.name.clone(), spec.job.priority.into());
        let order = envelope.map_err(|e| wrong(&e))?;
        Ok(Ordered { spec: job_spec::to_yaml(NAME, &spec), order })
    }

    async fn begin(&self, order: Arc<Order>, begin: Begin) -> Result<Box<dyn Begun>, JobError> {
        let kind = |e: String| JobError::Kind(e.into());
        let compare = CompareOrder::read(&order).map_err(kind)?;
        let stores = compare.locations().map_err(kind)?;
        let stores: Vec<_> =
            stores.iter().map(|location| (begin.open_store)(location)).collect::<Result<_, _>>()?;
        let destination = destination(&order).map(|location| open_to_write(&begin.open_store, location));
        let destination =
            destination.transpose()?.ok_or_else(|| kind("the order names no destination".into()))?;
        if begin.run.is_none() {
            for store in stores.iter().chain([&destination]) {
                store.check().await?;
            }
            // Workers have no weights of their own.
            lay_down(&compare.network, &self.weights, &destination).await.map_err(kind)?;
        }
        let job = CompareJob::new(&compare, &stores, destination.clone(), Some(destination));
        Ok(Box::new(job.map_err(kind)?))
    }

    fn set_aside(&self, _: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
        job::set_aside(unit, records, reason)
    }
}

#[async_trait]
impl Runner for Compare {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, order: &Arc<Order>, stores: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        let cannot = |reason: String| Failure::new(FailureKind::Worker, reason);
        let compare = CompareOrder::read(order).map_err(cannot)?;
        let mut sets = Vec::new();
        for location in compare.locations().map_err(cannot)? {
            sets.push(stores.get(&location).await?);
        }
        let destination =
            destination(order).ok_or_else(|| cannot("the order names no destination".into()))?;
        let features = stores.get(destination).await?;
        Ok(Arc::new(ComparedOrder::new(compare, sets, features, self.weights.clone())))
    }
}
