//! The kind as coordinator and worker know it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sr3_coordinator::{
    JobError, Kind,
    core::open_to_write,
    kind::{Begin, Begun, Known, Ordered, SetAside},
};
use sr3_proto::{FailureKind, Order, SpecError, job_spec, job_spec::Document, off_thread};
use sr3_worker::{Failure, OpenOrder, Runner, Stores};

use super::{
    EvaluateJob, EvaluateOrder, EvaluateSpec, MeasuredOrder, NAME, item, job, order::Enlarging,
    runner::open_items,
};
use crate::{
    Writing,
    cut::UnitLimits,
    envelope::place,
    images::{Selected, Source, SourceError},
    lazy::Lazy,
    models::{Weights, WeightsError, bring, lay_down},
    upscale::{Bits, Machine, ModelError, Models, SuperResolution, check_model},
};

/// Sizes of results over those of their inputs, where nobody says.
const SCALE: u32 = 4;

/// Measuring, with models that `M` opens, and networks whose weights lie in `weights`.
pub struct Evaluate<M> {
    models: Arc<M>,
    weights: Weights,
}

/// Why a spec comes to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Its model is none.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A network's weights are not here.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl<M: Models<Processor = SuperResolution>> Evaluate<M> {
    /// With these models and weights.
    pub fn new(models: Arc<M>, weights: Weights) -> Self {
        Self { models, weights }
    }

    /// What a spec comes to, with these bits where a model runs. May block.
    ///
    /// # Errors
    /// What is wrong with its model, or which weights are not here.
    pub fn resolve(&self, spec: &EvaluateSpec, bits: &Bits) -> Result<EvaluateOrder, ResolveError> {
        let metrics = spec.metrics();
        let networks = metrics.iter().filter_map(|metric| metric.network());
        let networks = networks.map(|network| self.weights.of(network)).collect::<Result<_, _>>()?;
        let EvaluateSpec { job, wish, selection } = spec.clone();
        let model = match job.reference {
            Some(_) => None,
            None => {
                let resolved = self.models.resolve(&wish)?;
                let memory_bytes = resolved.memory_bytes;
                let recipe = resolved.recipe(&wish, &Writing::default(), bits.clone());
                Some(Enlarging { model: wish.model.clone(), memory_bytes, recipe })
            }
        };
        let scale = wish.scale.or(model.as_ref().map(|model| model.recipe.scale)).unwrap_or(SCALE);
        Ok(EvaluateOrder {
            source: job.source,
            reference: job.reference,
            destination: job.destination,
            model,
            scale,
            crop: job.crop,
            metrics,
            networks,
            pictures: job.pictures,
            selection,
            max_bad_items: job.max_bad_items,
        })
    }

    /// What enlarges in an order, to be opened when it is needed.
    pub fn model(&self, order: &EvaluateOrder, machine: Machine) -> Option<Lazy<SuperResolution>> {
        let Enlarging { model, recipe, .. } = order.model.clone()?;
        let models = Arc::clone(&self.models);
        Some(Lazy::new(move || {
            let opened = models.open(&recipe.wish(&model), &recipe.writing(), &machine);
            check_model(opened?, &recipe, &model)
        }))
    }
}

#[async_trait]
impl<M: Models<Processor = SuperResolution>> Kind for Evaluate<M> {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn order(&self, document: &Document, known: &Known) -> Result<Ordered, SpecError> {
        let spec = EvaluateSpec::read(document)?;
        let wrong = |e: &dyn std::fmt::Display| SpecError::nowhere(e.to_string());
        Selected::new(&spec.selection).map_err(|e| wrong(&e))?;
        if spec.job.destination.is_none() {
            return Err(wrong(&"missing field `destination`: where the numbers go"));
        }
        let bits = Bits::decide(&spec.wish, &known.offers).map_err(|e| wrong(&e))?;
        let (this, asked) = (Self::new(Arc::clone(&self.models), self.weights.clone()), spec.clone());
        let resolved = off_thread(move || this.resolve(&asked, &bits)).await.map_err(|e| wrong(&e))?;
        let order = resolved.map_err(|error| match error {
            ResolveError::Model(error) => wrong(&error),
            ResolveError::Weights(error) => wrong(&format!("at the coordinator: {error}")),
        })?;
        let priority = spec.job.priority.into();
        let order = order.envelope(spec.job.name.clone(), priority).map_err(|e| wrong(&e))?;
        Ok(Ordered { spec: job_spec::to_yaml(NAME, &spec), order })
    }

    async fn begin(&self, order: Arc<Order>, begin: Begin) -> Result<Box<dyn Begun>, JobError> {
        let evaluate = EvaluateOrder::read(&order).map_err(|e| JobError::Kind(e.into()))?;
        let open = |what: &str| place(&order, what).map(|location| (begin.open_store)(location)).transpose();
        let (source, reference) = (open("source")?, open("reference")?);
        let numbers = place(&order, "destination").map(|location| open_to_write(&begin.open_store, location));
        let (Some(source), Some(numbers)) = (source, numbers.transpose()?) else {
            return Err(JobError::Kind("the order names no source or no destination".into()));
        };
        if begin.run.is_none() {
            source.check().await?;
            numbers.check().await?;
            let truths = reference.as_ref().unwrap_or(&source);
            truths.check().await?;
            let selected = Selected::new(&evaluate.selection).map_err(|e| JobError::Kind(e.into()))?;
            let images = Source::All(truths.clone()).require_images(&selected).await;
            images.map_err(|e| no_images(e, evaluate.reference.as_ref().unwrap_or(&evaluate.source)))?;
            // Workers have no weights of their own.
            let looker = evaluate.model.iter().filter_map(|model| model.recipe.looker.as_ref());
            for known in evaluate.networks.iter().chain(looker) {
                let laid = lay_down(known, &self.weights, &numbers).await;
                laid.map_err(|e| JobError::Kind(e.into()))?;
            }
        }
        let job = EvaluateJob::new(&evaluate, source, reference, numbers, UnitLimits::default());
        Ok(Box::new(job.map_err(|e| JobError::Kind(e.into()))?))
    }

    fn set_aside(&self, _: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
        let (_, open) = open_items(item::from_bytes(unit).ok()?, records);
        open.first().map(|item| job::set_aside(item, reason))
    }
}

#[async_trait]
impl<M: Models<Processor = SuperResolution>> Runner for Evaluate<M> {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, order: &Arc<Order>, stores: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        let cannot = |reason: String| Failure::new(FailureKind::Worker, reason);
        let evaluate = EvaluateOrder::read(order).map_err(cannot)?;
        let mut opened = [None, None, None];
        for (store, what) in opened.iter_mut().zip(["source", "reference", "destination"]) {
            if let Some(location) = place(order, what) {
                *store = Some(stores.get(location).await?);
            }
        }
        let [Some(source), reference, destination] = opened else {
            return Err(cannot("the order names no source".into()));
        };
        let looker = evaluate.model.as_ref().and_then(|model| model.recipe.looker.as_ref());
        if let (Some(looker), Some(destination)) = (looker, &destination) {
            bring(looker, &self.weights, destination).await?;
        }
        let model = self.model(&evaluate, Machine::default());
        let weights = self.weights.clone();
        Ok(Arc::new(MeasuredOrder::new(evaluate, source, reference, destination, model, weights)))
    }
}

fn no_images(error: SourceError, location: &str) -> JobError {
    match error {
        SourceError::Store(error) => JobError::Store(error),
        SourceError::NoImages { looked_for } => {
            JobError::Kind(format!("no images found in `{location}`: {looked_for}").into())
        }
    }
}
