//! The kind as coordinator and worker know it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sr3_coordinator::{
    JobError, Kind,
    kind::{Begin, Begun, Known, Ordered, SetAside},
};
use sr3_proto::{FailureKind, Order, SpecError, job_spec, job_spec::Document};
use sr3_worker::{Failure, OpenOrder, Runner, Stores};

use super::{NAME, ProjectSpec, Projection};
use crate::{
    cut::UnitLimits,
    images::Selected,
    lazy::Lazy,
    upscale::{self, Opened, UpscaleOrder},
};

/// Projecting what somebody else has enlarged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Project;

#[async_trait]
impl Kind for Project {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn order(&self, document: &Document, _: &Known) -> Result<Ordered, SpecError> {
        let spec = ProjectSpec::read(document)?;
        let wrong = |e: &dyn std::fmt::Display| SpecError::nowhere(e.to_string());
        Selected::new(&spec.selection).map_err(|e| wrong(&e))?;
        let order = spec.order().envelope(spec.job.name.clone(), spec.job.priority.into());
        Ok(Ordered { spec: job_spec::to_yaml(NAME, &spec), order: order.map_err(|e| wrong(&e))? })
    }

    async fn begin(&self, order: Arc<Order>, begin: Begin) -> Result<Box<dyn Begun>, JobError> {
        upscale::begin(&order, begin, UnitLimits::default()).await
    }

    fn set_aside(&self, order: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
        upscale::set_aside(order, unit, records, reason)
    }
}

#[async_trait]
impl Runner for Project {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, order: &Arc<Order>, stores: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        let cannot = |reason: String| Failure::new(FailureKind::Worker, reason);
        let places = upscale::places(order).map_err(cannot)?;
        let project = UpscaleOrder::read(order).map_err(cannot)?;
        let Some(enlarged) = places.enlarged else {
            return Err(cannot("the order names no place of what was enlarged".into()));
        };
        let (source, enlarged) = (stores.get(places.source).await?, stores.get(enlarged).await?);
        let destination = stores.get(places.destination).await?;
        let processor = Lazy::ready(Projection::new(&project.recipe.writing()));
        let state = Arc::clone(&destination);
        let opened = Opened::new(project, processor, source, destination, state, None);
        Ok(Arc::new(opened.with_enlarged(Some(enlarged))))
    }
}
