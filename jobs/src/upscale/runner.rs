//! An order at work: an item from its input to its output, a unit from its items to its manifest.
//!
//! One item's error is its verdict. An error of a store or of the device stops the items that it concerns without a verdict.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sr3_proto::{Digest, FailureKind, Grant, Order, RunId, Store, UnitId, off_thread, session::UnitResult};
use sr3_worker::{Attempt, Failure, OpenOrder, Pipeline, Runner, Stop, Stores, UnitWork, telemetry};

use super::{
    Computed, Encoded, EnlargedRecord, Files, ItemError, ItemRecord, ItemStatus, ItemTask, Items, Journal,
    Processor, ShardManifest, UpscaleOrder, manifest,
    publish::{NotPublished, publish},
};
use crate::{
    images::{check_length, read},
    lazy::Lazy,
};

/// An order with its model and stores open.
pub struct Opened<P> {
    order: UpscaleOrder,
    recipe_digest: Digest,
    processor: Lazy<P>,
    source: Arc<Store>,
    /// What somebody else has made of the inputs, where no model enlarges.
    enlarged: Option<Arc<Store>>,
    destination: Arc<Store>,
    /// Where manifests go.
    state: Arc<Store>,
    /// Where it is written down what is on the device, for a process that has its destination to itself.
    journal: Option<Arc<Journal>>,
}

impl<P: Processor> Opened<P> {
    /// With a processor for the order's recipe.
    pub fn new(
        order: UpscaleOrder,
        processor: Lazy<P>,
        source: Arc<Store>,
        destination: Arc<Store>,
        state: Arc<Store>,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        let recipe_digest = order.recipe.digest();
        Self { order, recipe_digest, processor, source, enlarged: None, destination, state, journal }
    }

    /// With what somebody else has made of the inputs.
    #[must_use]
    pub fn with_enlarged(self, enlarged: Option<Arc<Store>>) -> Self {
        Self { enlarged, ..self }
    }
}

/// The runner of the one order that is open already: of a process that works for itself.
pub struct OpenedUpscale<P>(pub Arc<Opened<P>>);

#[async_trait]
impl<P: Processor> Runner for OpenedUpscale<P> {
    fn kind(&self) -> &'static str {
        self.0.order.kind()
    }

    async fn open(&self, _: &Arc<Order>, _: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        Ok(Arc::<Opened<P>>::clone(&self.0))
    }
}

impl<P: Processor> OpenOrder for Opened<P> {
    fn unit(self: Arc<Self>, grant: &Grant) -> Result<Arc<dyn UnitWork>, Failure> {
        let items = Items::from_bytes(&grant.unit).map_err(|e| Failure::new(FailureKind::Worker, e))?;
        let (earlier, items) = open_items(items, &grant.records);
        Ok(Arc::new(Unit { open: self, run: grant.run, unit: grant.lease.unit, items, earlier }))
    }
}

/// Pixels of an item's result.
fn pixels(record: &ItemRecord) -> u64 {
    record.output_size.map_or(0, |[width, height]| u64::from(width) * u64::from(height))
}

/// The verdicts that exist, and the items without one, in input order.
pub(super) fn open_items(items: Items, records: &[Bytes]) -> (Vec<ItemRecord>, Vec<ItemTask>) {
    let records: Vec<_> = records.iter().filter_map(|bytes| ItemRecord::from_bytes(bytes).ok()).collect();
    let settled: HashSet<&str> = records.iter().map(|record| record.input.as_str()).collect();
    let open = items.0.into_iter().map(|(_, item)| item);
    let open = open.filter(|item| !settled.contains(item.input.as_str())).collect();
    (records, open)
}

/// A unit at work.
struct Unit<P> {
    open: Arc<Opened<P>>,
    run: RunId,
    unit: UnitId,
    items: Vec<ItemTask>,
    /// Verdicts of earlier attempts: they go into the manifest as they are.
    earlier: Vec<ItemRecord>,
}

#[async_trait]
impl<P: Processor> UnitWork for Unit<P> {
    fn items(&self) -> usize {
        self.items.len()
    }

    async fn prepare(&self) -> Result<(), Failure> {
        self.open.processor.get().await.map(drop)
    }

    fn runs_alone(&self) -> bool {
        let journal = self.open.journal.as_ref();
        journal.is_some_and(|journal| self.items.iter().any(|item| journal.is_suspect(item)))
    }

    async fn item(&self, index: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop> {
        let Some(item) = self.items.get(index) else { return Err(Stop::worker("there is no such item")) };
        let open = &self.open;
        let (input, output) = (item.input.as_str(), Some(item.output.clone()));
        let mut record = ItemRecord::without_result(input, output, ItemStatus::Ok, "", &open.order.recipe);
        record.reason = None;
        record.recipe = open.recipe_digest.clone();
        let ended = open.stages(item, &mut record, attempt, pipeline).await;
        if let Some(journal) = &open.journal {
            journal.end(&item.input).await;
        }
        match ended {
            Ok(()) => telemetry::item_done(pixels(&record)),
            Err(Stop::Bad { reason }) => {
                telemetry::item_quarantined();
                record.status = ItemStatus::Quarantined;
                record.reason = Some(reason);
            }
            Err(stop) => return Err(stop),
        }
        Ok(record.to_bytes())
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let new = records.iter().filter_map(|bytes| ItemRecord::from_bytes(bytes).ok());
        let records = self.earlier.iter().cloned().chain(new).collect();
        let manifest = ShardManifest::new(self.run, self.unit, &self.open.order.recipe, records);
        manifest::create(&self.open.state, &manifest).await
    }
}

impl<P: Processor> Opened<P> {
    async fn stages(
        &self,
        item: &ItemTask,
        record: &mut ItemRecord,
        attempt: &Arc<Attempt>,
        pipeline: &Pipeline,
    ) -> Result<(), Stop> {
        let processor = self.processor.get().await.map_err(Stop::Failed)?;
        let bytes = item.input_bytes + item.enlarged.as_ref().map_or(0, |enlarged| enlarged.bytes);
        let room = pipeline.encoded_room(bytes, attempt).await?;
        let fetched = self.fetch(item, record, attempt, pipeline).await?;
        let enlarged = self.fetch_enlarged(item, record, attempt, pipeline).await?;
        let (computing, _pixels) = {
            let decoding = pipeline.decoding(attempt).await?;
            let decoded = decode(&processor, item, fetched, enlarged, record).await?;
            drop(room);
            let due = processor.output_pixels(&decoded);
            let pixels = decoding.hold_pixels(due).await;
            if let Some(journal) = &self.journal {
                journal.begin(item, due).await;
            }
            let (processor, key, at_work) = (Arc::clone(&processor), item.input.clone(), Arc::clone(attempt));
            let computing = decoding.compute(attempt, move |held| {
                let device = held.get(&processor.device_name(), &processor, || processor.open_device())?;
                at_work.progress().on_device(key.as_str(), 0.0);
                let mut tell = |share: f32| at_work.progress().on_device(key.as_str(), share);
                Ok(processor.compute(device, &key, decoded, at_work.cancel(), &mut tell)?)
            });
            (computing.await?, pixels)
        };
        let (computed, seconds) = computing.done().await?;
        let Computed { output, input_size, output_size, consistency_error, repaired, image_class, notes } =
            computed;
        record.seconds = Some(seconds);
        record.input_size = Some(input_size);
        record.output_size = Some(output_size);
        record.consistency_error = consistency_error;
        record.image_class = image_class;
        if let (Some(enlarged), Some((before, mean_shift))) = (&mut record.enlarged, repaired) {
            enlarged.consistency_error = Some(before.consistency_error);
            enlarged.mean_shift = Some(before.mean_shift);
            record.mean_shift = Some(mean_shift);
        }
        record.notes.extend(notes);
        let format = item.format;
        let encoded = verdict_off_thread(move || {
            let Encoded { bytes, notes } = processor.encode(output, format)?;
            Ok((Digest::of(&bytes), Bytes::from(bytes), notes))
        });
        let (digest, bytes, notes) = encoded.await?;
        record.notes.extend(notes);
        record.output_bytes = Some(bytes.len() as u64);
        record.output_sha256 = Some(digest.clone());
        match publish(&self.destination, &item.output, bytes, &digest, &item.on_existing).await {
            Ok(()) => Ok(()),
            Err(NotPublished::Item(reason)) => {
                // What was computed lies nowhere.
                record.output_bytes = None;
                record.output_sha256 = None;
                Err(Stop::Bad { reason })
            }
            Err(NotPublished::Store(error)) => Err(Stop::transient(error)),
        }
    }

    async fn fetch(
        &self,
        item: &ItemTask,
        record: &mut ItemRecord,
        attempt: &Attempt,
        pipeline: &Pipeline,
    ) -> Result<Bytes, Stop> {
        record.input_bytes = Some(item.input_bytes);
        let bytes_max = pipeline.input_bytes_max();
        check_length(item.input_bytes, bytes_max)?;
        let seen = |info: &sr3_proto::store::ObjectInfo| {
            record.input_bytes = Some(info.bytes);
            record.input_etag.clone_from(&info.etag);
        };
        read(&self.source, &item.input, item.input_etag.as_deref(), bytes_max, attempt, seen).await
    }

    /// What somebody else has made of the input. What is wrong with it says whose fault it is.
    async fn fetch_enlarged(
        &self,
        item: &ItemTask,
        record: &mut ItemRecord,
        attempt: &Attempt,
        pipeline: &Pipeline,
    ) -> Result<Option<Bytes>, Stop> {
        let (Some(store), Some(listed)) = (&self.enlarged, &item.enlarged) else { return Ok(None) };
        let of_enlarged = |stop| match stop {
            Stop::Bad { reason } => Stop::Bad { reason: format!("the enlarged picture: {reason}") },
            other => other,
        };
        let entry = record.enlarged.insert(EnlargedRecord {
            path: listed.key.clone(),
            sha256: None,
            bytes: Some(listed.bytes),
            etag: None,
            consistency_error: None,
            mean_shift: None,
        });
        let bytes_max = pipeline.input_bytes_max();
        check_length(listed.bytes, bytes_max).map_err(of_enlarged)?;
        let seen = |info: &sr3_proto::store::ObjectInfo| {
            entry.bytes = Some(info.bytes);
            entry.etag.clone_from(&info.etag);
        };
        let bytes = read(store, &listed.key, listed.etag.as_deref(), bytes_max, attempt, seen).await;
        bytes.map(Some).map_err(of_enlarged)
    }
}

async fn decode<P: Processor>(
    processor: &Arc<P>,
    item: &ItemTask,
    bytes: Bytes,
    enlarged: Option<Bytes>,
    record: &mut ItemRecord,
) -> Result<P::Decoded, Stop> {
    let (processor, input, format) = (Arc::clone(processor), item.input.clone(), item.format);
    let decoding = verdict_off_thread(move || {
        let digests = (Digest::of(&bytes), enlarged.as_deref().map(Digest::of));
        let files = Files { input: &bytes, enlarged: enlarged.as_deref() };
        Ok((digests, processor.decode(&input, files, format)))
    });
    let ((digest, of_enlarged), decoded) = decoding.await?;
    record.input_sha256 = Some(digest);
    if let Some(enlarged) = &mut record.enlarged {
        enlarged.sha256 = of_enlarged;
    }
    Ok(decoded?)
}

async fn verdict_off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ItemError> + Send + 'static,
) -> Result<T, Stop> {
    match off_thread(work).await {
        Ok(result) => Ok(result?),
        Err(_) => {
            let text = "internal error while decoding or encoding; please report it with this file";
            Err(ItemError::bad(text).into())
        }
    }
}
