//! A played processor, a played coordinator, and stores in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use sr3_jobs::{
    Wish, Writing,
    images::{Naming, OutputFormat},
    upscale::{
        Bits, Computed, Encoded, Files, Forecast, ItemError, ItemRecord, ItemStatus, ItemTask, Items,
        Machine, ModelError, Models, OnExisting, OpenModel, Processor, RecipeSpec, Resolved, ShardManifest,
        Upscale, UpscaleOrder, record::read_document,
    },
};
use sr3_proto::{
    Cancel, Digest, FromWorker, Grant, Hello, JobId, Key, Lease, RunId, Store, ToWorker, UnitId, WorkerId,
    layout,
    session::UnitResult,
    store::{PutMode, Staging},
};
use sr3_worker::{ClusterWorkerConfig, Connect, Runner, Runners, WorkerConfig, WorkerFailure};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::channels::{ChannelConnect, Joining};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// What processors did.
#[derive(Default)]
pub(crate) struct Seen {
    /// Items that came onto the device, in order.
    pub(crate) computed: Mutex<Vec<String>>,
    /// Items that were stopped there.
    pub(crate) stopped: AtomicUsize,
    /// Items decoded and not yet encoded.
    pub(crate) between: AtomicUsize,
    /// Items whose name begins with `alone` were not.
    pub(crate) company: AtomicBool,
    pub(crate) opened: AtomicUsize,
}

/// The output is the input turned around. Takes its time, and for ever where the name says `forever`.
pub(crate) struct Turned {
    seen: Arc<Seen>,
    pause: Duration,
}

impl Processor for Turned {
    type Decoded = Vec<u8>;
    type Computed = Vec<u8>;
    type Device = ();

    fn open_device(&self) -> Result<(), String> {
        Ok(())
    }

    fn decode(
        &self,
        input: &Key,
        Files { input: bytes, .. }: Files<'_>,
        _: OutputFormat,
    ) -> Result<Vec<u8>, ItemError> {
        if bytes == b"bad" {
            return Err(ItemError::bad("not readable"));
        }
        assert!(bytes != b"panic", "played");
        let others = self.seen.between.fetch_add(1, Ordering::SeqCst);
        if input.as_str().starts_with("alone") && others > 0 {
            self.seen.company.store(true, Ordering::SeqCst);
        }
        Ok(bytes.to_vec())
    }

    fn output_pixels(&self, decoded: &Vec<u8>) -> u64 {
        decoded.len() as u64
    }

    fn compute(
        &self,
        (): &mut (),
        input: &Key,
        mut decoded: Vec<u8>,
        cancel: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<Vec<u8>>, ItemError> {
        self.seen.computed.lock().unwrap().push(input.to_string());
        let begun = Instant::now();
        progress(0.5);
        while input.as_str().contains("forever") || begun.elapsed() < self.pause {
            if cancel.is_cancelled() {
                self.seen.stopped.fetch_add(1, Ordering::SeqCst);
                self.seen.between.fetch_sub(1, Ordering::SeqCst);
                return Err(ItemError::Cancelled);
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        decoded.reverse();
        let (size, notes) = ([decoded.len() as u32, 1], Vec::new());
        Ok(Computed {
            image_class: None,
            output: decoded,
            input_size: size,
            output_size: size,
            consistency_error: None,
            repaired: None,
            notes,
        })
    }

    fn encode(&self, computed: Vec<u8>, _: OutputFormat) -> Result<Encoded, ItemError> {
        self.seen.between.fetch_sub(1, Ordering::SeqCst);
        Ok(Encoded { bytes: computed, notes: Vec::new() })
    }
}

/// Opens every model but `missing`.
pub(crate) struct Opener {
    pub(crate) seen: Arc<Seen>,
    pub(crate) pause: Duration,
}

impl Models for Opener {
    type Processor = Turned;

    fn open(&self, wish: &Wish, _: &Writing, _: &Machine) -> Result<OpenModel<Turned>, ModelError> {
        self.seen.opened.fetch_add(1, Ordering::SeqCst);
        if wish.model == "missing" {
            return Err(ModelError::Wish("no model `missing` here".into()));
        }
        Ok(OpenModel {
            processor: Turned { seen: Arc::clone(&self.seen), pause: self.pause },
            forecast: Arc::new(NoForecast),
            resolved: resolved(&wish.model),
            bits: Bits::default(),
        })
    }
}

/// What a played model comes to.
pub(crate) fn resolved(model: &str) -> Resolved {
    Resolved {
        looker: None,
        name: model.into(),
        digest: Digest::of(model.as_bytes()),
        preset: "default".into(),
        sampling: "as played".into(),
        scale: 4,
        memory_bytes: 0,
    }
}

/// Nothing is known of how long played things take.
pub(crate) struct NoForecast;

impl Forecast for NoForecast {
    fn size(&self, _: &[u8]) -> Option<[usize; 2]> {
        None
    }

    fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        size
    }

    fn work(&self, _: [usize; 2]) -> f64 {
        1.0
    }

    fn seconds_of_work(&self) -> Result<f64, String> {
        Err("it is played".into())
    }

    fn pace(&self) -> Option<f64> {
        None
    }

    fn quicker(&self) -> Option<(String, f64)> {
        None
    }
}

/// A worker that runs, the stores that it sees, and the desk to which it comes.
pub(crate) struct Scene {
    pub(crate) seen: Arc<Seen>,
    pub(crate) stores: HashMap<String, Store>,
    pub(crate) stop: Cancel,
    pub(crate) joins: mpsc::Receiver<Joining>,
    pub(crate) worker: JoinHandle<Result<(), WorkerFailure>>,
    /// The root of the store `gone` lay here.
    _gone: tempfile::TempDir,
}

/// How the worker is set up.
pub(crate) struct Setup {
    pub(crate) pause: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) credits: usize,
    pub(crate) items_in_flight_max: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(5),
            drain_timeout: Duration::from_secs(30),
            credits: 2,
            items_in_flight_max: 4,
        }
    }
}

impl Scene {
    pub(crate) fn new(setup: Setup) -> Self {
        let (joining, joins) = mpsc::channel(1);
        Self::with(setup, ChannelConnect::new(joining), joins)
    }

    pub(crate) fn with(setup: Setup, connect: impl Connect, joins: mpsc::Receiver<Joining>) -> Self {
        let gone = tempfile::TempDir::new().unwrap();
        let folder = gone.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let removed = Store::folder(&folder, Staging::StateFolder).unwrap();
        std::fs::remove_dir(&folder).unwrap();
        let mut stores = HashMap::from([("gone".to_string(), removed)]);
        for name in ["a", "b", "in", "out"] {
            stores.insert(name.into(), Store::in_memory());
        }
        let (seen, stop, open) = (Arc::<Seen>::default(), Cancel::new(), stores.clone());
        let config = ClusterWorkerConfig {
            credits: setup.credits,
            drain_timeout: setup.drain_timeout,
            pipeline: WorkerConfig {
                items_in_flight_max: setup.items_in_flight_max,
                ..WorkerConfig::default()
            },
            stores: Arc::new(move |location: &sr3_proto::Location| {
                let unknown = || sr3_proto::StoreError::NotFound { path: location.to_string() };
                open.get(&location.to_string()).cloned().ok_or_else(unknown)
            }),
            ..ClusterWorkerConfig::default()
        };
        let opener = Arc::new(Opener { seen: Arc::clone(&seen), pause: setup.pause });
        let upscale: Arc<dyn Runner> = Arc::new(Upscale::new(opener));
        let worker = tokio::spawn(sr3_worker::serve(Runners::new([upscale]), connect, config, stop.clone()));
        Self { seen, stores, stop, joins, worker, _gone: gone }
    }

    /// Puts inputs into the store `in` and makes tasks of them.
    pub(crate) async fn items(&self, inputs: &[(&str, &str)]) -> Vec<ItemTask> {
        let mut items = Vec::new();
        for (name, content) in inputs {
            let content = Bytes::copy_from_slice(content.as_bytes());
            self.stores["in"].put(&key(name), content.clone(), PutMode::Replace).await.unwrap();
            items.push(ItemTask {
                input: key(name),
                input_bytes: content.len() as u64,
                input_etag: self.stores["in"].head(&key(name)).await.unwrap().unwrap().etag,
                enlarged: None,
                output: key(name),
                format: OutputFormat::Png,
                on_existing: OnExisting::Keep,
            });
        }
        items
    }

    /// The next session, welcomed; the leases held go on as `renew` says.
    pub(crate) async fn welcome(&mut self, renew: impl Fn(Lease) -> Option<Lease>) -> Desk {
        let Joining { hello, send, receive } = timeout(SOON, self.joins.recv()).await.unwrap().unwrap();
        let renewed = hello.held.iter().filter_map(|old| Some((*old, renew(*old)?))).collect();
        let welcome = ToWorker::Welcome {
            worker: WorkerId::new(1),
            epoch: 1,
            lease_ttl: Duration::from_secs(1),
            heartbeat_every: Duration::from_millis(50),
            renewed,
        };
        send.send(welcome).await.unwrap();
        Desk { hello, send, receive }
    }

    /// Returns once an item is on the device.
    pub(crate) async fn computing(&self) {
        while self.seen.computed.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn manifest(&self, store: &str, run: u64, unit: u64) -> (ShardManifest, Digest) {
        let key = layout::manifest_key(RunId::new(run), UnitId::new(unit));
        let (_, bytes) = self.stores[store].get(&key).await.unwrap();
        (read_document(key.as_str(), &bytes).unwrap(), Digest::of(&bytes))
    }

    /// The worker's end.
    pub(crate) async fn ended(self) -> Result<(), WorkerFailure> {
        timeout(SOON, self.worker).await.unwrap().unwrap()
    }
}

/// The coordinator's end of a session.
pub(crate) struct Desk {
    pub(crate) hello: Hello,
    pub(crate) send: mpsc::Sender<ToWorker>,
    pub(crate) receive: mpsc::Receiver<FromWorker>,
}

impl Desk {
    pub(crate) async fn say(&self, message: ToWorker) {
        self.send.send(message).await.unwrap();
    }

    pub(crate) async fn grant(&self, grant: Grant) {
        self.say(ToWorker::Grant(Box::new(grant))).await;
    }

    pub(crate) async fn commit(&self, lease: Lease) {
        self.say(ToWorker::Committed { lease }).await;
    }

    pub(crate) async fn hear(&mut self) -> FromWorker {
        timeout(SOON, self.receive.recv()).await.expect("nothing was said").expect("the session ended")
    }

    /// The next word that is no heartbeat.
    pub(crate) async fn report(&mut self) -> FromWorker {
        let waited = timeout(SOON, async {
            loop {
                match self.hear().await {
                    FromWorker::Heartbeat { .. } => {}
                    other => return other,
                }
            }
        });
        waited.await.expect("nothing but heartbeats")
    }

    /// Nothing but heartbeats comes for a while; the last of them.
    pub(crate) async fn silence(&mut self, time: Duration) -> FromWorker {
        let (until, mut last) = (tokio::time::Instant::now() + time, None);
        while let Ok(heard) = tokio::time::timeout_at(until, self.receive.recv()).await {
            match heard {
                Some(heartbeat @ FromWorker::Heartbeat { .. }) => last = Some(heartbeat),
                other => panic!("{other:?}"),
            }
        }
        last.expect("not even a heartbeat")
    }

    /// The first heartbeat that `is` what is waited for.
    pub(crate) async fn heartbeat(&mut self, is: impl Fn(&FromWorker) -> bool + Send + Sync) -> FromWorker {
        let waited = timeout(SOON, async {
            loop {
                match self.hear().await {
                    heartbeat @ FromWorker::Heartbeat { .. } if is(&heartbeat) => return heartbeat,
                    FromWorker::Heartbeat { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        waited.await.expect("no such heartbeat")
    }
}

pub(crate) fn lease(job: u64, unit: u64, token: u64) -> Lease {
    Lease { epoch: 1, job: JobId::new(job), unit: UnitId::new(unit), attempt: 1, token }
}

/// From the store `in` to `destination`.
pub(crate) fn spec(model: &str, destination: &str) -> UpscaleOrder {
    UpscaleOrder {
        source: "in".into(),
        destination: destination.into(),
        model: model.into(),
        memory_bytes: 0,
        recipe: RecipeSpec::plain(Digest::of(model.as_bytes()), model, 4, "as played"),
        naming: Naming::Mirror,
        enlarged: None,
        include: Vec::new(),
        exclude: Vec::new(),
        bytes_min: None,
        bytes_max: None,
        max_bad_items: None,
        overwrite: false,
    }
}

/// The envelope of what runs `model` from `in` to `destination`.
pub(crate) fn order(model: &str, destination: &str) -> Arc<sr3_proto::Order> {
    Arc::new(spec(model, destination).envelope(None, 1).unwrap())
}

pub(crate) fn grant(lease: Lease, destination: &str, items: Vec<ItemTask>) -> Grant {
    Grant {
        lease,
        order: order("model", destination),
        run: RunId::new(7),
        unit: unit(items),
        records: Vec::new(),
        isolated: false,
    }
}

pub(crate) fn unit(items: Vec<ItemTask>) -> Bytes {
    Items((0..).zip(items).collect()).to_bytes()
}

/// A verdict of an earlier attempt.
pub(crate) fn verdict(input: &str) -> Bytes {
    let recipe = spec("model", "out").recipe;
    ItemRecord::without_result(input, Some(key(input)), ItemStatus::Quarantined, "earlier", &recipe)
        .to_bytes()
}

/// Verdicts that a worker reported.
pub(crate) fn records(bytes: &[Bytes]) -> Vec<ItemRecord> {
    bytes.iter().map(|bytes| ItemRecord::from_bytes(bytes).unwrap()).collect()
}

pub(crate) fn done(report: FromWorker) -> (Lease, u64, u64, Digest, Vec<String>) {
    match report {
        FromWorker::UnitDone { lease, result: UnitResult { done, quarantined, payload, reasons } } => {
            let manifest = Digest::try_from(String::from_utf8(payload.to_vec()).unwrap()).unwrap();
            (lease, done, quarantined, manifest, reasons)
        }
        other => panic!("{other:?}"),
    }
}

/// Inputs of these, in order.
pub(crate) fn inputs(records: &[ItemRecord]) -> Vec<&str> {
    records.iter().map(|record| record.input.as_str()).collect()
}
