//! Moves items through whatever steps they have, of whatever unit, job and kind they are.
//!
//! Items of all units go through one pipeline, so that their steps overlap across the borders of units and jobs. What
//! is in memory at once is bounded: by the number of items in flight, by the bytes of the encoded inputs that wait,
//! and by the pixels of the outputs that are due. One item is decoded at a time, and none while the pixels in flight
//! fill the budget, so the budget is passed by one picture at most.
//!
//! One item's error is its verdict. An error of a store or of the device stops the items that it concerns without a
//! verdict. When asked to stop, the item on the device is given up, and those already computed are still finished. It never
//! decides what is said to a coordinator.

use std::sync::Arc;

use bytes::Bytes;
use sr3_proto::FailureKind;
use tokio::{
    sync::{Mutex, MutexGuard, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    UnitWork,
    device::{self, Held, Task},
    telemetry,
    work::{Attempt, Failure, Stop},
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
pub(crate) type InFlight = JoinHandle<Result<Bytes, Stop>>;

/// Held by the unit whose items begin: units begin one after the other, so that the first is finished first.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// The budgets and the device. The device's thread ends when the last clone and the last item are gone.
pub struct Pipeline {
    config: WorkerConfig,
    turn: Arc<Mutex<()>>,
    slots: Arc<Semaphore>,
    encoded: Arc<Semaphore>,
    pixels: Arc<Semaphore>,
    /// Held while an item is decoded and handed to the device: one at a time.
    decoding: Mutex<mpsc::Sender<Task>>,
}

impl Pipeline {
    /// Starts the device.
    pub(crate) fn start(config: WorkerConfig) -> std::io::Result<(Arc<Self>, device::Running)> {
        let (device, running) = device::start()?;
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        let pipeline = Self {
            config,
            turn: Arc::default(),
            slots: semaphore(config.items_in_flight_max),
            encoded: semaphore(config.input_bytes_in_flight_max as usize),
            pixels: semaphore(config.output_pixels_in_flight_max as usize),
            decoding: Mutex::new(device),
        };
        Ok((Arc::new(pipeline), running))
    }

    /// Longest encoded input, in bytes.
    pub fn input_bytes_max(&self) -> u64 {
        self.config.input_bytes_max
    }

    /// Waits until all units that came before have begun their last item. None if the work stops first.
    pub(crate) async fn turn(&self, attempt: &Attempt) -> Option<Turn> {
        tokio::select! {
            biased;
            () = attempt.cancel().cancelled() => None,
            turn = Arc::clone(&self.turn).lock_owned() => Some(turn),
        }
    }

    /// Starts the items of a unit as slots become free, and returns once the last has begun. Fewer are returned if
    /// the work stops first.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        unit: &Arc<dyn UnitWork>,
        attempt: &Arc<Attempt>,
        _turn: &Turn,
    ) -> Vec<InFlight> {
        let mut begun = Vec::with_capacity(unit.items());
        for index in 0..unit.items() {
            let Some(slot) = self.slots(attempt, 1).await else { break };
            let (this, unit, attempt) = (Arc::clone(self), Arc::clone(unit), Arc::clone(attempt));
            begun.push(tokio::spawn(async move {
                let verdict = this.item(&*unit, index, &attempt).await;
                if verdict.is_ok() {
                    attempt.progress().verdict();
                }
                drop(slot);
                verdict
            }));
        }
        begun
    }

    /// Waits until nothing else is in flight, and keeps it so for as long as the permit lives. None if the work stops
    /// first.
    pub(crate) async fn alone(&self, attempt: &Attempt, _turn: &Turn) -> Option<OwnedSemaphorePermit> {
        let all = u32::try_from(self.config.items_in_flight_max.max(1)).unwrap_or(u32::MAX);
        self.slots(attempt, all).await
    }

    async fn slots(&self, attempt: &Attempt, count: u32) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = attempt.cancel().cancelled() => None,
            slots = Arc::clone(&self.slots).acquire_many_owned(count) => slots.ok(),
        }
    }

    /// Takes one item to its verdict; for callers who hold what [`Self::begin`] or [`Self::alone`] waits for. A failure that is
    /// not the item's stops the whole attempt.
    pub(crate) async fn item(
        &self,
        unit: &dyn UnitWork,
        index: usize,
        attempt: &Arc<Attempt>,
    ) -> Result<Bytes, Stop> {
        let ended = unit.item(index, attempt, self).await;
        if let Err(stop) = &ended {
            telemetry::item_stopped(stop);
        }
        if let Err(Stop::Failed(failure)) = &ended {
            attempt.fail(failure.clone());
        }
        ended
    }

    /// Room for so many encoded bytes, for as long as the permit lives; all of it for an input that is longer.
    ///
    /// # Errors
    /// [`Stop::Cancelled`].
    pub async fn encoded_room(&self, bytes: u64, attempt: &Attempt) -> Result<OwnedSemaphorePermit, Stop> {
        let most = u64::from(self.config.input_bytes_in_flight_max.max(1));
        let share = u32::try_from(bytes.clamp(1, most)).unwrap_or(u32::MAX);
        tokio::select! {
            biased;
            () = attempt.cancel().cancelled() => Err(Stop::Cancelled),
            held = Arc::clone(&self.encoded).acquire_many_owned(share) => held.map_err(|_| Stop::Cancelled),
        }
    }

    /// Waits for the turn to decode. Nobody else does until this is dropped, or handed to the device.
    ///
    /// # Errors
    /// [`Stop::Cancelled`].
    pub async fn decoding(&self, attempt: &Attempt) -> Result<Decoding<'_>, Stop> {
        let device = self.decoding.lock().await;
        if attempt.cancel().is_cancelled() {
            return Err(Stop::Cancelled);
        }
        // Waits until something of the budget is free, whatever the next picture will take.
        drop(Arc::clone(&self.pixels).acquire_owned().await);
        Ok(Decoding { pipeline: self, device })
    }
}

/// The turn to decode, and then to compute.
pub struct Decoding<'a> {
    pipeline: &'a Pipeline,
    device: MutexGuard<'a, mpsc::Sender<Task>>,
}

impl Decoding<'_> {
    /// Takes what there is of the budget of output pixels, up to `wanted`: a picture larger than the budget takes all of it.
    pub async fn hold_pixels(&self, wanted: u64) -> Option<OwnedSemaphorePermit> {
        let pipeline = self.pipeline;
        let most = u64::from(pipeline.config.output_pixels_in_flight_max.max(1));
        let mut share = u32::try_from(wanted.clamp(1, most)).unwrap_or(u32::MAX);
        // Only the holder of the decoding lock takes permits, so what is free now is still free when it is taken.
        let free = u32::try_from(pipeline.pixels.available_permits()).unwrap_or(u32::MAX);
        share = share.min(free.max(1));
        Arc::clone(&pipeline.pixels).acquire_many_owned(share).await.ok()
    }

    /// Hands work to the device, once that takes it; what comes back is to be waited for with [`Computing::done`].
    ///
    /// # Errors
    /// The device broke down.
    pub async fn compute<T: Send + 'static>(
        self,
        attempt: &Arc<Attempt>,
        work: impl FnOnce(&mut Held) -> Result<T, Stop> + Send + 'static,
    ) -> Result<Computing<T>, Stop> {
        let (reply, computing) = oneshot::channel();
        let attempt = Arc::clone(attempt);
        let task: Task = Box::new(move |held| {
            let computed = device::compute(held, |held| match attempt.cancel().is_cancelled() {
                true => Err(Stop::Cancelled),
                false => work(held),
            });
            attempt.progress().off_device();
            // Nobody waits for it: the worker is being dropped.
            drop(reply.send(computed));
        });
        self.device.send(task).await.map_err(|_| broke_down())?;
        Ok(Computing(computing))
    }
}

/// Something that the device computes.
pub struct Computing<T>(oneshot::Receiver<(Result<T, Stop>, f64)>);

impl<T> Computing<T> {
    /// What came of it, and the seconds that it took.
    ///
    /// # Errors
    /// What the work said, or that the device broke down.
    pub async fn done(self) -> Result<(T, f64), Stop> {
        let (result, seconds) = self.0.await.map_err(|_| broke_down())?;
        Ok((result?, seconds))
    }
}

fn broke_down() -> Stop {
    Stop::worker("the device's thread broke down")
}

/// Waits for the verdicts of items that have begun: those that came, in order, and why others did not.
pub(crate) async fn verdicts(begun: Vec<InFlight>) -> (Vec<Bytes>, Option<Failure>) {
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
