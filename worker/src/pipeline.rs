//! Moves items through fetch, decode, compute, encode and put, whatever shard and job they are of.
//!
//! Items of all shards go through one pipeline, so that the stages overlap across the borders of shards and jobs. What
//! is in memory at once is bounded: by the number of items in flight, by the bytes of the encoded inputs that wait,
//! and by the pixels of the outputs that are due. One item is decoded at a time, and none while the pixels in flight
//! fill the budget, so the budget is passed by one picture at most.
//!
//! One item's error is its verdict. An error of a store or of the device stops the items that it concerns without a
//! verdict. When asked to stop, the item on the device is given up, and those already computed are still encoded and
//! put. It never decides what is said to a coordinator.

use std::sync::Arc;

use bytes::Bytes;
use sr3_proto::{Digest, FailureKind, ItemRecord, ItemStatus, ItemTask, off_thread};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{
    Encoded, ItemError, Journal, Processor,
    device::{self, Command},
    publish::{NotPublished, publish},
    read::read,
    work::{Failure, Stop, Work},
};

/// What bounds a worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// Items in flight, from fetching to putting. Three keep a device busy; more only cost memory, unless the store is
    /// far away.
    pub items_in_flight_max: usize,
    /// Output pixels in flight before another item is decoded. A float picture takes 12 bytes a pixel and stage.
    pub output_pixels_in_flight_max: u32,
    /// Longest encoded input, in bytes; a longer one is quarantined unread.
    pub input_bytes_max: u64,
    /// Encoded bytes that are fetched ahead; one input that is longer is fetched alone.
    pub input_bytes_in_flight_max: u32,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            items_in_flight_max: 4,
            output_pixels_in_flight_max: 8 << 20,
            input_bytes_max: 1 << 30,
            input_bytes_in_flight_max: 256 << 20,
        }
    }
}

/// An item on its way. Ends with the verdict, or with why there is none.
pub(crate) type InFlight = JoinHandle<Result<ItemRecord, Stop>>;

/// Held by the shard whose items begin: shards begin one after the other, so that the first is finished first.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// The stages. The device's thread ends when the last clone and the last item are gone.
pub(crate) struct Pipeline<P: Processor> {
    config: WorkerConfig,
    turn: Arc<Mutex<()>>,
    slots: Arc<Semaphore>,
    encoded: Arc<Semaphore>,
    pixels: Arc<Semaphore>,
    /// Held while an item is decoded and handed to the device: one at a time.
    decoding: Mutex<mpsc::Sender<Command<P>>>,
    journal: Option<Arc<Journal>>,
}

impl<P: Processor> Pipeline<P> {
    /// Starts the device.
    pub(crate) fn start(
        config: WorkerConfig,
        journal: Option<Arc<Journal>>,
    ) -> std::io::Result<(Arc<Self>, device::Running)> {
        let (device, running) = device::start()?;
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        let pipeline = Self {
            config,
            turn: Arc::default(),
            slots: semaphore(config.items_in_flight_max),
            encoded: semaphore(config.input_bytes_in_flight_max as usize),
            pixels: semaphore(config.output_pixels_in_flight_max as usize),
            decoding: Mutex::new(device),
            journal,
        };
        Ok((Arc::new(pipeline), running))
    }

    /// The journal of what is on the device, where one is kept.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Waits until all shards that came before have begun their last item. None if the work stops first.
    pub(crate) async fn turn(&self, work: &Work<P>) -> Option<Turn> {
        tokio::select! {
            biased;
            () = work.cancel.cancelled() => None,
            turn = Arc::clone(&self.turn).lock_owned() => Some(turn),
        }
    }

    /// Starts the items of a shard as slots become free, and returns once the last has begun. Fewer are returned if
    /// the work stops first.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        work: &Arc<Work<P>>,
        items: Vec<ItemTask>,
        _turn: &Turn,
    ) -> Vec<InFlight> {
        let mut begun = Vec::with_capacity(items.len());
        for item in items {
            let Some(slot) = self.slots(work, 1).await else { break };
            let (this, work) = (Arc::clone(self), Arc::clone(work));
            begun.push(tokio::spawn(async move {
                let verdict = this.item(&work, item).await;
                if verdict.is_ok() {
                    work.progress.verdict();
                }
                drop(slot);
                verdict
            }));
        }
        begun
    }

    /// Waits until nothing else is in flight, and keeps it so for as long as the permit lives. None if the work stops
    /// first.
    pub(crate) async fn alone(&self, work: &Work<P>, _turn: &Turn) -> Option<OwnedSemaphorePermit> {
        self.slots(work, u32::try_from(self.config.items_in_flight_max.max(1)).unwrap_or(u32::MAX)).await
    }

    async fn slots(&self, work: &Work<P>, count: u32) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = work.cancel.cancelled() => None,
            slots = Arc::clone(&self.slots).acquire_many_owned(count) => slots.ok(),
        }
    }

    /// Takes one item through all stages; for callers who hold what [`Self::begin`] or [`Self::alone`] waits for. A
    /// failure that is not the item's stops the whole work.
    pub(crate) async fn item(&self, work: &Arc<Work<P>>, item: ItemTask) -> Result<ItemRecord, Stop> {
        let mut record = ItemRecord {
            reason: None,
            ..ItemRecord::without_result(
                item.input.as_str(),
                Some(item.output.clone()),
                ItemStatus::Ok,
                "",
                &work.recipe,
            )
        };
        record.recipe = work.recipe_digest.clone();
        let ended = self.stages(work, &item, &mut record).await;
        if let Some(journal) = &self.journal {
            journal.end(&item.input).await;
        }
        match ended {
            Ok(()) => Ok(record),
            Err(Stop::Bad { reason }) => {
                record.status = ItemStatus::Quarantined;
                record.reason = Some(reason);
                Ok(record)
            }
            Err(stop) => {
                if let Stop::Failed(failure) = &stop {
                    work.fail(failure.clone());
                }
                Err(stop)
            }
        }
    }

    async fn stages(
        &self,
        work: &Arc<Work<P>>,
        item: &ItemTask,
        record: &mut ItemRecord,
    ) -> Result<(), Stop> {
        let (fetched, encoded) = self.fetch(work, item, record).await?;
        let (reply, _pixels) = {
            let device = self.decoding.lock().await;
            if work.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            // Waits until something of the budget is free, whatever the next picture will take.
            drop(Arc::clone(&self.pixels).acquire_owned().await);
            let decoded = decode(work, item, fetched, record).await?;
            drop(encoded);
            let due = work.processor.output_pixels(&decoded);
            let pixels = self.hold_pixels(due).await;
            if let Some(journal) = &self.journal {
                journal.begin(item, due).await;
            }
            let (sender, reply) = tokio::sync::oneshot::channel();
            let command =
                Command { work: Arc::clone(work), input: item.input.clone(), decoded, reply: sender };
            device.send(command).await.map_err(|_| Stop::worker("the device's thread broke down"))?;
            (reply, pixels)
        };
        let (computed, seconds) = reply.await.map_err(|_| Stop::worker("the device's thread broke down"))?;
        let computed = computed?;
        record.seconds = Some(seconds);
        record.input_size = Some(computed.input_size);
        record.output_size = Some(computed.output_size);
        record.consistency_error = computed.consistency_error;
        record.notes.extend(computed.notes);
        let (processor, format, output) = (Arc::clone(&work.processor), item.format, computed.output);
        let encoded = verdict_off_thread(move || {
            let Encoded { bytes, notes } = processor.encode(output, format)?;
            Ok((Digest::of(&bytes), Bytes::from(bytes), notes))
        });
        let (digest, bytes, notes) = encoded.await?;
        record.notes.extend(notes);
        record.output_bytes = Some(bytes.len() as u64);
        record.output_sha256 = Some(digest.clone());
        match publish(&work.destination, &item.output, bytes, &digest, &item.on_existing).await {
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

    /// The input's bytes, and the share of the budget that they hold.
    async fn fetch(
        &self,
        work: &Work<P>,
        item: &ItemTask,
        record: &mut ItemRecord,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Stop> {
        let most = u64::from(self.config.input_bytes_in_flight_max.max(1));
        let share = u32::try_from(item.input_bytes.clamp(1, most)).unwrap_or(u32::MAX);
        let work_done = async {
            let held = Arc::clone(&self.encoded).acquire_many_owned(share).await;
            let held = held.map_err(|_| Stop::Cancelled)?;
            Ok((read(work, item, self.config.input_bytes_max, record).await?, held))
        };
        tokio::select! {
            biased;
            () = work.cancel.cancelled() => Err(Stop::Cancelled),
            done = work_done => done,
        }
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
}

async fn decode<P: Processor>(
    work: &Work<P>,
    item: &ItemTask,
    bytes: Bytes,
    record: &mut ItemRecord,
) -> Result<P::Decoded, Stop> {
    let (processor, input, format) = (Arc::clone(&work.processor), item.input.clone(), item.format);
    let decoding =
        verdict_off_thread(move || Ok((Digest::of(&bytes), processor.decode(&input, &bytes, format))));
    let (digest, decoded) = decoding.await?;
    record.input_sha256 = Some(digest);
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

/// Waits for the verdicts of items that have begun: those that came, in order, and why others did not.
pub(crate) async fn verdicts(begun: Vec<InFlight>) -> (Vec<ItemRecord>, Option<Failure>) {
    let (mut records, mut failure) = (Vec::with_capacity(begun.len()), None);
    for item in begun {
        match item.await {
            Ok(Ok(record)) => records.push(record),
            Ok(Err(Stop::Failed(reason))) => failure = failure.or(Some(reason)),
            Ok(Err(_)) => {}
            Err(error) => {
                let reason = format!("an item's task broke down: {error}");
                failure = failure.or(Some(Failure::new(FailureKind::Transient, reason)));
            }
        }
    }
    (records, failure)
}
