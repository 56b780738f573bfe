//! An order at work: some samples through a stage, from what they are made of to files, and the manifest that names them.
//!
//! A unit is one item: the network is asked about its samples together. One that comes to nothing is set aside by itself.

use std::{ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sr3_proto::{Digest, FailureKind, Grant, Store, StoreError, session::UnitResult, store::PutMode};
use sr3_worker::{Attempt, Failure, OpenOrder, Pipeline, Stop, UnitWork, telemetry};

use super::{
    order::GenerateOrder,
    sample::{Made, Manifest, Sample, UnitBytes},
    stage::{Given, OpenStage},
};
use crate::{
    images::{check_length, read},
    lazy::Lazy,
    upscale::{
        OnExisting,
        publish::{NotPublished, publish},
    },
};

/// Reasons that are told beside the numbers.
const REASONS: usize = 5;

/// An order with its stores open.
pub(super) struct OpenGenerate {
    pub(super) order: Arc<GenerateOrder>,
    pub(super) source: Option<Arc<Store>>,
    pub(super) destination: Arc<Store>,
    pub(super) stages: Vec<Lazy<OpenStage>>,
}

impl OpenOrder for OpenGenerate {
    fn unit(self: Arc<Self>, grant: &Grant) -> Result<Arc<dyn UnitWork>, Failure> {
        let unit = UnitBytes::decode(&grant.unit)?;
        if unit.stage >= self.stages.len() || unit.samples.is_empty() {
            return Err(Failure::new(FailureKind::Job, "a unit of a stage that the order does not have"));
        }
        let earlier = grant.records.iter().find_map(|bytes| serde_json::from_slice(bytes).ok());
        Ok(Arc::new(Unit { open: self, unit, earlier }))
    }
}

/// What came of a unit's samples, as it is kept and sent.
pub(super) fn record(made: &[Made]) -> Bytes {
    // Strings and numbers always have a JSON form.
    serde_json::to_vec(made).unwrap_or_default().into()
}

struct Unit {
    open: Arc<OpenGenerate>,
    unit: UnitBytes,
    /// What an earlier attempt came to.
    earlier: Option<Vec<Made>>,
}

#[async_trait]
impl UnitWork for Unit {
    fn items(&self) -> usize {
        usize::from(self.earlier.is_none())
    }

    async fn prepare(&self) -> Result<(), Failure> {
        self.open.stages[self.unit.stage].get().await.map(drop)
    }

    async fn item(&self, _: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop> {
        let made = self.make(attempt, pipeline).await?;
        for one in &made {
            match &one.reason {
                None => {
                    let side = self.open.order.stages[self.unit.stage].side;
                    telemetry::item_done(side * side);
                }
                Some(_) => telemetry::item_quarantined(),
            }
        }
        Ok(record(&made))
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let new = records.iter().find_map(|bytes| serde_json::from_slice::<Vec<Made>>(bytes).ok());
        let transient = |e: String| Failure::new(FailureKind::Transient, e);
        let made = self.earlier.clone().or(new).ok_or_else(|| transient("nothing was made".into()))?;
        let manifest = Manifest { recipe: self.open.order.recipe_digest(), samples: made };
        let payload = Bytes::from(serde_json::to_vec(&manifest).unwrap_or_default());
        let key = self.unit.manifest_key();
        match self.open.destination.put(&key, payload.clone(), PutMode::Create).await {
            // Another attempt was quicker: it made the same, or what lies there is nobody's.
            Err(StoreError::AlreadyExists { .. }) => {
                let (_, there) =
                    self.open.destination.get(&key).await.map_err(|e| transient(e.to_string()))?;
                if there != payload {
                    let text = format!("`{key}` at the destination says that other samples were made");
                    return Err(Failure::new(FailureKind::Job, text));
                }
            }
            other => other.map_err(|e| transient(e.to_string()))?,
        }
        let reasons: Vec<_> =
            manifest.samples.iter().filter_map(|made| made.reason.as_ref().map(|why| (made, why))).collect();
        let quarantined = reasons.len() as u64;
        let done = manifest.samples.len() as u64 - quarantined;
        Ok(UnitResult {
            done,
            quarantined,
            reasons: reasons
                .iter()
                .take(REASONS)
                .map(|(made, why)| format!("{}: {why}", made.name()))
                .collect(),
            payload,
        })
    }
}

impl Unit {
    async fn make(&self, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Vec<Made>, Stop> {
        let Self { open, unit, .. } = self;
        let stage = open.stages[unit.stage].get().await.map_err(Stop::Failed)?;
        let (mut made, mut given, mut of) = (Vec::new(), Vec::new(), Vec::new());
        for sample in &unit.samples {
            let key = sample.noise_key(unit.stage);
            let class = open.order.class_of(sample.index);
            match self.picture(sample, attempt, pipeline).await {
                Ok(picture) => {
                    given.push(Given { key, class, picture });
                    of.push(sample.clone());
                }
                Err(Stop::Bad { reason }) => made.push(sample.set_aside(&open.order, unit.stage, &reason)),
                Err(stop) => return Err(stop),
            }
        }
        if !given.is_empty() {
            let decoding = pipeline.decoding(attempt).await?;
            let side = open.order.stages[unit.stage].side;
            let _pixels = decoding.hold_pixels(side * side * given.len() as u64).await;
            let (at_work, name) = (Arc::clone(attempt), of[0].name());
            let name = if of.len() == 1 { name } else { format!("{name} and {} more", of.len() - 1) };
            let name = format!("{name}, stage {}", unit.stage + 1);
            let computing = decoding.compute(attempt, move |held| {
                let network = held.get(&stage.device_name(), &stage, || stage.open_device())?;
                let mut tell = |share: f64| {
                    at_work.progress().on_device(&name, share as f32);
                    match at_work.cancel().is_cancelled() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                };
                tell(0.0).is_continue();
                stage.run(network, &given, &mut tell)
            });
            let (files, _) = computing.await?.done().await?;
            for (sample, file) in of.iter().zip(files) {
                made.push(match file {
                    Ok(bytes) => self.publish(sample, bytes.into()).await?,
                    Err(reason) => sample.set_aside(&open.order, unit.stage, &reason),
                });
            }
        }
        made.sort_by_key(|made| made.index);
        Ok(made)
    }

    /// The picture that a sample is made from in this stage; none in one that makes it of noise.
    async fn picture(
        &self,
        sample: &Sample,
        attempt: &Arc<Attempt>,
        pipeline: &Pipeline,
    ) -> Result<Option<Vec<u8>>, Stop> {
        let open = &self.open;
        let most = pipeline.input_bytes_max();
        let bytes = match (self.unit.stage, &open.source, &sample.input) {
            (0, Some(source), Some(input)) => {
                check_length(input.bytes, most)?;
                read(source, &input.key, input.etag.as_deref(), most, attempt, |_| ()).await?
            }
            (0, ..) => return Ok(None),
            (stage, ..) => {
                let key = sample.key(&open.order, stage - 1).map_err(|reason| Stop::Bad { reason })?;
                match open.destination.get(&key).await {
                    Ok((_, bytes)) => bytes,
                    Err(StoreError::NotFound { .. }) => {
                        let reason = format!("nothing came of it in stage {stage}");
                        return Err(Stop::Bad { reason });
                    }
                    Err(error) => return Err(Stop::transient(error)),
                }
            }
        };
        Ok(Some(bytes.to_vec()))
    }

    async fn publish(&self, sample: &Sample, bytes: Bytes) -> Result<Made, Stop> {
        let (order, stage) = (&self.open.order, self.unit.stage);
        let key = match sample.key(order, stage) {
            Ok(key) => key,
            Err(reason) => return Ok(sample.set_aside(order, stage, &reason)),
        };
        let digest = Digest::of(&bytes);
        match publish(&self.open.destination, &key, bytes, &digest, &OnExisting::Keep).await {
            Ok(()) => Ok(Made { sha256: Some(digest), ..sample.made(order, stage) }),
            Err(NotPublished::Item(_)) => {
                let reason = format!(
                    "`{key}` exists, and is another picture: remove it, or choose another destination"
                );
                Ok(sample.set_aside(order, stage, &reason))
            }
            Err(NotPublished::Store(error)) => Err(Stop::transient(error)),
        }
    }
}
