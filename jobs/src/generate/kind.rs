//! The kind as coordinator and worker know it.

use std::{ops::ControlFlow, sync::Arc};

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
    NAME, OpenStage,
    job::take,
    order::GenerateOrder,
    resolve,
    runner::{OpenGenerate, record},
    sample::{Made, Sample, UnitBytes},
    spec::GenerateSpec,
    stage::Given,
};
use crate::{
    Wish,
    envelope::place,
    images::Selected,
    lazy::Lazy,
    upscale::{Bits, EngineModels},
};

/// Generating, with these models.
pub struct Generate {
    models: Arc<EngineModels>,
}

impl Generate {
    /// With these models.
    pub fn new(models: Arc<EngineModels>) -> Self {
        Self { models }
    }

    /// What a spec comes to, with these bits. May block.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn resolve(&self, spec: &GenerateSpec, bits: &Bits) -> Result<GenerateOrder, (&'static str, String)> {
        resolve::resolve(spec, self.models.library(), bits)
    }

    /// The same for a plan: a stage may name a published network instead of a model. May block.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn plan(&self, spec: &GenerateSpec, bits: &Bits) -> Result<GenerateOrder, (&'static str, String)> {
        resolve::plan(spec, self.models.library(), bits)
    }

    /// The sample of an index alone, as PNG: the bytes that the job would write. May block for as long as it takes.
    ///
    /// # Errors
    /// One line.
    pub fn one(&self, order: &GenerateOrder, index: u64) -> Result<Vec<u8>, String> {
        if order.source.is_some() {
            return Err(
                "samples of a source are not made by their numbers: choose pictures with `include`".into()
            );
        }
        let sample = Sample { index, input: None };
        let mut picture = None;
        for number in 0..order.stages.len() {
            let stage = self.open_stage(order, number)?;
            let mut network = stage.open_device()?;
            let given = Given { key: sample.noise_key(number), class: order.class_of(index), picture };
            let made = stage.run(&mut network, &[given], &mut |_| ControlFlow::Continue(()));
            let made = made.map_err(|_| "the device cannot run it".to_string())?;
            picture = made.into_iter().next().transpose()?;
        }
        picture.ok_or_else(|| "there is no stage".to_string())
    }

    /// A stage of an order or a plan, opened. May block.
    ///
    /// # Errors
    /// One line.
    pub fn open_stage(&self, order: &GenerateOrder, number: usize) -> Result<OpenStage, String> {
        let (library, device) = (self.models.library(), self.models.device());
        match resolve::network(&order.stages[number].model) {
            Some(network) => OpenStage::untrained(order, number, &network, device),
            None => OpenStage::open(order, number, library, device).map_err(|e| e.to_string()),
        }
    }
}

#[async_trait]
impl Kind for Generate {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn order(&self, document: &Document, known: &Known) -> Result<Ordered, SpecError> {
        let spec = GenerateSpec::read(document)?;
        let wrong = |e: &dyn std::fmt::Display| SpecError::nowhere(e.to_string());
        Selected::new(&spec.selection).map_err(|e| wrong(&e))?;
        let wish = Wish { dtype: spec.dtype(), device: spec.job.device, ..Wish::default() };
        let bits = Bits::decide(&wish, &known.offers).map_err(|e| document.wrong("dtype", &e))?;
        let (models, asked) = (Arc::clone(&self.models), spec.clone());
        let resolved = off_thread(move || resolve::resolve(&asked, models.library(), &bits)).await;
        let order =
            resolved.map_err(|e| wrong(&e))?.map_err(|(field, message)| document.wrong(field, &message))?;
        let order = order.envelope(spec.job.name.clone(), spec.job.priority.into()).map_err(|e| wrong(&e))?;
        Ok(Ordered { spec: job_spec::to_yaml(NAME, &spec), order })
    }

    async fn begin(&self, order: Arc<Order>, begin: Begin) -> Result<Box<dyn Begun>, JobError> {
        let generate = GenerateOrder::read(&order).map_err(|e| JobError::Kind(e.into()))?;
        let source = place(&order, "source").map(|location| (begin.open_store)(location)).transpose()?;
        let destination = place(&order, "destination").map(|l| open_to_write(&begin.open_store, l));
        let Some(destination) = destination.transpose()? else {
            return Err(JobError::Kind("the order names no destination".into()));
        };
        if begin.run.is_none() {
            if let Some(source) = &source {
                source.check().await?;
            }
            destination.check().await?;
            // Two workers may write one key: what decides between them must hold.
            if !destination.is_local() {
                destination.probe_conditional_put().await?;
            }
        }
        let selected = Selected::new(&generate.selection).map_err(|e| JobError::Kind(e.into()))?;
        Ok(Box::new(take(Arc::new(generate), source, destination, selected).await?))
    }

    fn set_aside(&self, order: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
        if !records.is_empty() {
            return None;
        }
        let order = GenerateOrder::read(order).ok()?;
        let unit = UnitBytes::decode(unit).ok()?;
        let made: Vec<Made> =
            unit.samples.iter().map(|sample| sample.set_aside(&order, unit.stage, reason)).collect();
        let item = unit.samples.first().map_or_else(String::new, |sample| sample.name());
        Some(SetAside { item, record: record(&made) })
    }
}

#[async_trait]
impl Runner for Generate {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, order: &Arc<Order>, stores: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        let cannot = |reason: String| Failure::new(FailureKind::Worker, reason);
        let generate = Arc::new(GenerateOrder::read(order).map_err(cannot)?);
        let source = match place(order, "source") {
            Some(location) => Some(stores.get(location).await?),
            None => None,
        };
        let Some(location) = place(order, "destination") else {
            return Err(cannot("the order names no destination".into()));
        };
        let destination = stores.get(location).await?;
        let stage = |number: usize| {
            let (order, models) = (Arc::clone(&generate), Arc::clone(&self.models));
            Lazy::new(move || OpenStage::open(&order, number, models.library(), models.device()))
        };
        let stages = (0..generate.stages.len()).map(stage).collect();
        Ok(Arc::new(OpenGenerate { order: generate, source, destination, stages }))
    }
}
