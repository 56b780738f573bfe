//! Runs shards: every item is fetched, decoded, computed, encoded and put; its verdict goes to the coordinator.
//!
//! Items of all shards go through one pipeline, so that decoding and encoding overlap with computing across the
//! borders of shards. What is in memory at once is bounded: by the number of items in flight, by the pixels of the
//! outputs that are due for them, and by the length of an encoded input. One item is decoded at a time, and none
//! while the pixels in flight fill the budget, so the budget is passed by one picture at most.
//!
//! One item's error is its verdict. An error of the destination ends the run: nothing that comes after it could be
//! written either. When asked to stop, the item on the device is given up, those already computed are still encoded
//! and put, and the shard is reported with the items that have a verdict.

use std::sync::Arc;

use bytes::Bytes;
use sr3_proto::{
    Cancel, Digest, ItemRecord, ItemStatus, ItemTask, RecipeSpec, ShardTask, Store, StoreError, WorkerEvent,
    WorkerLink,
};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    Encoded, ItemError, Processor,
    device::{self, Command},
    publish::{NotPublished, publish},
};

/// What bounds a worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// Items in flight, from fetching to putting. Three keep a device busy; more only cost memory.
    pub items_in_flight_max: usize,
    /// Output pixels in flight before another item is decoded. A float picture takes 12 bytes a pixel and stage.
    pub output_pixels_in_flight_max: u32,
    /// Longest encoded input, in bytes; a longer one is quarantined unread.
    pub input_bytes_max: u64,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { items_in_flight_max: 4, output_pixels_in_flight_max: 8 << 20, input_bytes_max: 1 << 30 }
    }
}

/// Runs every shard that comes over `link`, until there are no more or `cancel` is set.
pub async fn run<P: Processor>(
    processor: Arc<P>,
    source: Store,
    destination: Store,
    recipe: RecipeSpec,
    config: WorkerConfig,
    link: WorkerLink,
    cancel: Cancel,
) {
    let WorkerLink { mut tasks, events } = link;
    let (device, thread) = match device::start(Arc::clone(&processor), events.clone(), cancel.clone()) {
        Ok(started) => started,
        Err(e) => {
            let reason = format!("the device's thread cannot be started: {e}");
            let _ = events.send(WorkerEvent::Failed { reason }).await;
            return;
        }
    };
    let recipe_digest = recipe.digest();
    let pipeline = Arc::new(Pipeline {
        processor,
        source,
        destination,
        recipe,
        recipe_digest,
        config,
        events: events.clone(),
        cancel: cancel.clone(),
        failure: std::sync::OnceLock::new(),
        slots: Arc::new(Semaphore::new(config.items_in_flight_max.max(1))),
        pixels: Arc::new(Semaphore::new(config.output_pixels_in_flight_max.max(1) as usize)),
        decoding: Mutex::new(device),
    });
    let mut shards = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            task = tasks.recv() => match task {
                // Waits for a slot before it takes the next shard, so that shards queue at the coordinator.
                Some(task) => pipeline.begin(task, &mut shards).await,
                None => break,
            },
        }
        while shards.try_join_next().is_some() {}
    }
    while shards.join_next().await.is_some() {}
    let failure = pipeline.failure.get().cloned();
    // The last sender of commands: the device's thread ends.
    drop(pipeline);
    let ended = tokio::task::spawn_blocking(move || thread.join()).await;
    let device_failure = match ended {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(reason))) => Some(reason),
        Ok(Err(_)) | Err(_) => Some("the device's thread broke down".to_string()),
    };
    if let Some(reason) = failure.or(device_failure) {
        let _ = events.send(WorkerEvent::Failed { reason }).await;
    }
}

struct Pipeline<P: Processor> {
    processor: Arc<P>,
    source: Store,
    destination: Store,
    recipe: RecipeSpec,
    recipe_digest: Digest,
    config: WorkerConfig,
    events: mpsc::Sender<WorkerEvent>,
    cancel: Cancel,
    /// Why the run ends; the first reason stays.
    failure: std::sync::OnceLock<String>,
    slots: Arc<Semaphore>,
    pixels: Arc<Semaphore>,
    /// Held while an item is decoded and handed to the device: one at a time.
    decoding: Mutex<mpsc::Sender<Command<P>>>,
}

impl<P: Processor> Pipeline<P> {
    /// Starts the items of a shard as slots become free, and a task that waits for their verdicts.
    async fn begin(self: &Arc<Self>, task: ShardTask, shards: &mut JoinSet<()>) {
        let ShardTask { shard, items, .. } = task;
        let mut verdicts = Vec::with_capacity(items.len());
        for item in items {
            let slot = tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                slot = Arc::clone(&self.slots).acquire_owned() => slot,
            };
            let Ok(slot) = slot else { break };
            let (sender, receiver) = oneshot::channel();
            verdicts.push(receiver);
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let verdict = this.item(item).await;
                if let Some(record) = &verdict {
                    let record = Box::new(record.clone());
                    let _ = this.events.send(WorkerEvent::ItemDone { shard, record }).await;
                }
                let _ = sender.send(verdict);
                drop(slot);
            });
        }
        let this = Arc::clone(self);
        shards.spawn(async move {
            let mut records = Vec::with_capacity(verdicts.len());
            for verdict in verdicts {
                if let Ok(Some(record)) = verdict.await {
                    records.push(record);
                }
            }
            let _ = this.events.send(WorkerEvent::ShardDone { shard, records }).await;
        });
    }

    /// The verdict on an item; none if the run stopped first.
    async fn item(&self, item: ItemTask) -> Option<ItemRecord> {
        let mut record = ItemRecord {
            reason: None,
            ..ItemRecord::without_result(
                item.input.as_str(),
                Some(item.output.clone()),
                ItemStatus::Ok,
                "",
                &self.recipe,
            )
        };
        record.recipe = self.recipe_digest.clone();
        match self.stages(&item, &mut record).await {
            Ok(()) => Some(record),
            Err(ItemError::Cancelled) => None,
            Err(ItemError::Bad { reason }) => {
                record.status = ItemStatus::Quarantined;
                record.reason = Some(reason);
                Some(record)
            }
        }
    }

    async fn stages(&self, item: &ItemTask, record: &mut ItemRecord) -> Result<(), ItemError> {
        let (reply, _pixels) = {
            let device = self.decoding.lock().await;
            if self.cancel.is_cancelled() {
                return Err(ItemError::Cancelled);
            }
            // Waits until something of the budget is free, whatever the next picture will take.
            drop(Arc::clone(&self.pixels).acquire_owned().await);
            let bytes = self.fetch(item, record).await?;
            let decoded = self.decode(item, bytes, record).await?;
            let pixels = self.hold_pixels(self.processor.output_pixels(&decoded)).await;
            let (sender, reply) = oneshot::channel();
            let command = Command { input: item.input.clone(), decoded, reply: sender };
            device.send(command).await.map_err(|_| ItemError::Cancelled)?;
            (reply, pixels)
        };
        let (computed, seconds) = reply.await.map_err(|_| ItemError::Cancelled)?;
        let computed = computed?;
        record.seconds = Some(seconds);
        record.input_size = Some(computed.input_size);
        record.output_size = Some(computed.output_size);
        record.consistency_error = computed.consistency_error;
        record.notes.extend(computed.notes);
        let (processor, format, output) = (Arc::clone(&self.processor), item.format, computed.output);
        let encoded = off_thread(move || {
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
                Err(ItemError::Bad { reason })
            }
            Err(NotPublished::Store(error)) => {
                self.fail(error.to_string());
                Err(ItemError::Cancelled)
            }
        }
    }

    async fn fetch(&self, item: &ItemTask, record: &mut ItemRecord) -> Result<Bytes, ItemError> {
        let bytes_max = self.config.input_bytes_max;
        let too_long =
            |bytes| ItemError::bad(format!("it is {bytes} bytes long, and {bytes_max} are allowed"));
        record.input_bytes = Some(item.input_bytes);
        if item.input_bytes > bytes_max {
            return Err(too_long(item.input_bytes));
        }
        match self.source.get(&item.input).await {
            Ok((info, bytes)) => {
                record.input_bytes = Some(bytes.len() as u64);
                record.input_etag = info.etag;
                if bytes.len() as u64 > bytes_max { Err(too_long(bytes.len() as u64)) } else { Ok(bytes) }
            }
            Err(StoreError::NotFound { .. }) => Err(ItemError::bad("it was removed before its turn came")),
            // Not this item's fault: it would be that of every other, too.
            Err(error) if error.is_about_the_store() => {
                self.fail(error.to_string());
                Err(ItemError::Cancelled)
            }
            Err(error) => Err(ItemError::bad(error)),
        }
    }

    async fn decode(
        &self,
        item: &ItemTask,
        bytes: Bytes,
        record: &mut ItemRecord,
    ) -> Result<P::Decoded, ItemError> {
        let (processor, input) = (Arc::clone(&self.processor), item.input.clone());
        let work = off_thread(move || Ok((Digest::of(&bytes), processor.decode(&input, &bytes))));
        let (digest, decoded) = work.await?;
        record.input_sha256 = Some(digest);
        decoded
    }

    /// Takes what there is of the budget, up to `wanted`: a picture larger than the budget takes all of it.
    async fn hold_pixels(&self, wanted: u64) -> Option<OwnedSemaphorePermit> {
        let most = u64::from(self.config.output_pixels_in_flight_max.max(1));
        let mut share = u32::try_from(wanted.clamp(1, most)).unwrap_or(u32::MAX);
        // Only the holder of the decoding lock takes permits, so what is free now is still free when it is taken.
        let free = u32::try_from(self.pixels.available_permits()).unwrap_or(u32::MAX);
        share = share.min(free.max(1));
        Arc::clone(&self.pixels).acquire_many_owned(share).await.ok()
    }

    fn fail(&self, reason: String) {
        // Only the first reason is told; those after it follow from it.
        let _ = self.failure.set(reason);
        self.cancel.cancel();
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ItemError> + Send + 'static,
) -> Result<T, ItemError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => {
            Err(ItemError::bad("internal error while decoding or encoding; please report it with this file"))
        }
    }
}
