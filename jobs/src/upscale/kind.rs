//! The kind as coordinator and worker know it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sr3_coordinator::{
    JobError, Kind,
    core::open_to_write,
    kind::{Begin, Begun, Known, Ordered, SetAside},
};
use sr3_proto::{Digest, FailureKind, Location, Order, SpecError, job_spec, job_spec::Document, off_thread};
use sr3_worker::{Failure, OpenOrder, Runner, Stores};

use super::{
    Bits, ItemRecord, ItemStatus, Items, Machine, ModelError, Models, NAME, OpenModel, Opened, RecipeSpec,
    Run, RunError, UpscaleJob, UpscaleOrder, UpscaleSpec, in_flight::InFlight, runner::open_items,
};
use crate::{
    cut::UnitLimits,
    images::{Naming, Partners, Selected, Source},
    lazy::Lazy,
    models::{bring, lay_down},
};

/// Upscaling, with models that `M` opens.
pub struct Upscale<M> {
    models: Arc<M>,
    limits: UnitLimits,
}

impl<M: Models> Upscale<M> {
    /// With these models, in units of the usual size.
    pub fn new(models: Arc<M>) -> Self {
        Self { models, limits: UnitLimits::default() }
    }

    /// With units of another size.
    #[must_use]
    pub fn with_limits(self, limits: UnitLimits) -> Self {
        Self { limits, ..self }
    }
}

#[async_trait]
impl<M: Models> Kind for Upscale<M> {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn order(&self, document: &Document, known: &Known) -> Result<Ordered, SpecError> {
        let spec = UpscaleSpec::read(document)?;
        let wrong = |e: &dyn std::fmt::Display| SpecError::nowhere(e.to_string());
        Selected::new(&spec.selection).map_err(|e| wrong(&e))?;
        let (models, wish) = (Arc::clone(&self.models), spec.wish.clone());
        let resolved = off_thread(move || models.resolve(&wish)).await.map_err(|e| wrong(&e))?;
        let bits = Bits::decide(&spec.wish, &known.offers).map_err(|e| wrong(&e))?;
        let resolved = resolved.map_err(|e| wrong(&e))?;
        let memory_bytes = resolved.memory_bytes;
        let recipe = resolved.recipe(&spec.wish, &spec.writing, bits);
        let text = job_spec::to_yaml(NAME, &spec);
        let order = UpscaleOrder {
            source: spec.job.source,
            destination: spec.job.destination,
            model: spec.wish.model,
            memory_bytes,
            recipe,
            naming: Naming::Mirror,
            enlarged: None,
            include: spec.selection.include,
            exclude: spec.selection.exclude,
            bytes_min: spec.selection.bytes_min,
            bytes_max: spec.selection.bytes_max,
            max_bad_items: spec.job.max_bad_items,
            overwrite: spec.job.overwrite,
        };
        let order = order.envelope(spec.job.name, spec.job.priority.into()).map_err(|e| wrong(&e))?;
        Ok(Ordered { spec: text, order })
    }

    async fn begin(&self, order: Arc<Order>, begin: Begin) -> Result<Box<dyn Begun>, JobError> {
        if begin.run.is_none()
            && let Some(looker) = UpscaleOrder::read(&order).ok().and_then(|order| order.recipe.looker)
        {
            let destination = places(&order).map_err(|e| JobError::Kind(e.into()))?.destination;
            let destination = open_to_write(&begin.open_store, destination)?;
            let laid = lay_down(&looker, &self.models.weights(), &destination).await;
            laid.map_err(|e| JobError::Kind(e.into()))?;
        }
        self::begin(&order, begin, self.limits).await
    }

    fn set_aside(&self, order: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
        set_aside(order, unit, records, reason)
    }
}

/// Takes the places of an order of such a kind.
pub(crate) async fn begin(
    order: &Order,
    begin: Begin,
    limits: UnitLimits,
) -> Result<Box<dyn Begun>, JobError> {
    let Places { source, enlarged, destination } = places(order).map_err(|e| JobError::Kind(e.into()))?;
    let upscale = UpscaleOrder::read(order).map_err(|e| JobError::Kind(e.into()))?;
    let source = Source::All((begin.open_store)(source)?);
    let enlarged = enlarged.zip(upscale.enlarged.as_ref()).map(|(location, enlarged)| {
        Ok::<_, JobError>(Partners { store: (begin.open_store)(location)?, naming: enlarged.naming.clone() })
    });
    let enlarged = enlarged.transpose()?;
    let outputs = open_to_write(&begin.open_store, destination)?;
    let run = match begin.run {
        None => {
            source.store().check().await?;
            if let Some(enlarged) = &enlarged {
                enlarged.store.check().await?;
            }
            outputs.check().await?;
            // Two workers may write one key: what decides between them must hold.
            if !outputs.is_local() {
                outputs.probe_conditional_put().await?;
            }
            let selected = Selected::new(&upscale.selection()).map_err(RunError::from)?;
            let images = source.require_images(&selected).await;
            images.map_err(|e| RunError::of_source(e, &upscale.source))?;
            Run::begin(outputs.clone(), &outputs, upscale, begin.owner).await?
        }
        Some(run) => Run::resume(outputs.clone(), upscale, run, begin.planning).await?,
    };
    if outputs.is_local() && !run.is_locked() {
        tracing::warn!(
            destination = run.order().destination,
            "the destination's file system has no locks: let nothing else write there"
        );
    }
    let job = UpscaleJob::new(source, outputs, run, InFlight::default(), limits)?;
    Ok(Box::new(job.with_enlarged(enlarged)))
}

/// Gives the first open item of a unit its verdict.
pub(crate) fn set_aside(order: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
    let recipe = UpscaleOrder::read(order).ok()?.recipe;
    let (_, open) = open_items(Items::from_bytes(unit).ok()?, records);
    let item = open.into_iter().next()?;
    let (input, status) = (item.input.to_string(), ItemStatus::Quarantined);
    let record = ItemRecord::without_result(input.as_str(), Some(item.output), status, reason, &recipe);
    Some(SetAside { item: input, record: record.to_bytes() })
}

#[async_trait]
impl<M: Models> Runner for Upscale<M> {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, order: &Arc<Order>, stores: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        let cannot = |reason: String| Failure::new(FailureKind::Worker, reason);
        let Places { source, destination, .. } = places(order).map_err(cannot)?;
        let upscale = UpscaleOrder::read(order).map_err(cannot)?;
        let destination = stores.get(destination).await?;
        let source = stores.get(source).await?;
        if let Some(looker) = &upscale.recipe.looker {
            bring(looker, &self.models.weights(), &destination).await?;
        }
        let (models, asked) = (Arc::clone(&self.models), upscale.clone());
        let processor = Lazy::new(move || {
            let opened = models.open(&asked.wish(), &asked.recipe.writing(), &Machine::default());
            check_model(opened?, &asked.recipe, &asked.model)
        });
        let state = Arc::clone(&destination);
        Ok(Arc::new(Opened::new(upscale, processor, source, destination, state, None)))
    }
}

/// The processor, if the model is here what it was where the job was accepted.
///
/// # Errors
/// One line that says what differs.
pub fn check_model<P>(opened: OpenModel<P>, recipe: &RecipeSpec, model: &str) -> Result<P, ModelError> {
    let here = opened.resolved;
    if recipe.model.as_ref() != Some(&here.digest) {
        let asked = recipe.model.as_ref().map_or("none", Digest::as_str);
        return Err(ModelError::Wish(format!(
            "model `{model}` has sha256 {} here and {asked} in the job: give every machine the same checkpoint",
            here.digest
        )));
    }
    if opened.bits.class != recipe.class {
        return Err(ModelError::Wish(format!(
            "this worker gives results of class `{}`, and the job has class `{}`",
            opened.bits.class, recipe.class
        )));
    }
    if here.sampling != recipe.sampling {
        return Err(ModelError::Wish(format!(
            "model `{model}` samples as `{}` here and as `{}` in the job: run the same sr3 on every machine",
            here.sampling, recipe.sampling
        )));
    }
    Ok(opened.processor)
}

/// Where a job reads, and where it writes.
pub(crate) struct Places<'a> {
    pub(crate) source: &'a Location,
    /// What somebody else has made of the inputs, where no model enlarges.
    pub(crate) enlarged: Option<&'a Location>,
    pub(crate) destination: &'a Location,
}

/// Those of an order.
pub(crate) fn places(order: &Order) -> Result<Places<'_>, String> {
    let find = |what: &str| {
        let place = order.head.places.iter().find(|place| place.what == what);
        place.map(|place| &place.location)
    };
    match (find("source"), find("destination")) {
        (Some(source), Some(destination)) => Ok(Places { source, enlarged: find("enlarged"), destination }),
        _ => Err("the order names no source or no destination".to_string()),
    }
}
