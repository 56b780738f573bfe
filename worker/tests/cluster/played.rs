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
use sr3_proto::{
    Cancel, Digest, FormatChoice, FromWorker, Grant, Hello, ItemRecord, ItemStatus, ItemTask, JobId, Key,
    Lease, Naming, OnExisting, OutputFormat, RecipeSpec, RunId, ShardId, ShardManifest, Store, ToWorker,
    UpscaleSpec, WorkerId, layout,
    record::read_document,
    store::{PutMode, Staging},
};
use sr3_worker::{
    ClusterWorkerConfig, Computed, Connect, Encoded, ItemError, OpenProcessor, Processor, WorkerConfig,
    WorkerFailure,
};
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

    fn decode(&self, input: &Key, bytes: &[u8], _: OutputFormat) -> Result<Vec<u8>, ItemError> {
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
        Ok(Computed { output: decoded, input_size: size, output_size: size, consistency_error: None, notes })
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

impl OpenProcessor for Opener {
    type Processor = Turned;

    fn open(&self, spec: &UpscaleSpec) -> Result<Turned, String> {
        self.seen.opened.fetch_add(1, Ordering::SeqCst);
        if spec.model == "missing" {
            return Err("no model `missing` here".into());
        }
        Ok(Turned { seen: Arc::clone(&self.seen), pause: self.pause })
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
            stores: Arc::new(move |location: &str| {
                let unknown = || sr3_proto::StoreError::NotFound { path: location.into() };
                open.get(location).cloned().ok_or_else(unknown)
            }),
            ..ClusterWorkerConfig::default()
        };
        let opener = Arc::new(Opener { seen: Arc::clone(&seen), pause: setup.pause });
        let worker = tokio::spawn(sr3_worker::serve(opener, connect, config, stop.clone()));
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

    pub(crate) async fn manifest(&self, store: &str, run: u64, shard: u64) -> (ShardManifest, Digest) {
        let key = layout::manifest_key(RunId::new(run), ShardId::new(shard));
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

pub(crate) fn lease(job: u64, shard: u64, token: u64) -> Lease {
    Lease { epoch: 1, job: JobId::new(job), shard: ShardId::new(shard), attempt: 1, token }
}

/// From the store `in` to `destination`.
pub(crate) fn spec(model: &str, destination: &str) -> UpscaleSpec {
    UpscaleSpec {
        source: "in".into(),
        destination: destination.into(),
        model: model.into(),
        recipe: RecipeSpec {
            model: Digest::of(model.as_bytes()),
            model_name: model.into(),
            preset: "default".into(),
            sampler: None,
            steps: None,
            sampling: "as played".into(),
            seed: 0,
            scale: 4,
            format: FormatChoice::Auto,
            quality: 95,
            background: None,
            tile: None,
            projection: true,
            dtype: Default::default(),
        },
        naming: Naming::Mirror,
        include: Vec::new(),
        exclude: Vec::new(),
        bytes_min: None,
        bytes_max: None,
        max_bad_items: None,
        overwrite: false,
    }
}

pub(crate) fn grant(lease: Lease, destination: &str, items: Vec<ItemTask>) -> Grant {
    Grant {
        lease,
        spec: Arc::new(spec("model", destination)),
        run: RunId::new(7),
        items,
        records: Vec::new(),
        isolated: false,
    }
}

/// A verdict of an earlier attempt.
pub(crate) fn verdict(input: &str) -> ItemRecord {
    let recipe = spec("model", "out").recipe;
    ItemRecord::without_result(input, Some(key(input)), ItemStatus::Quarantined, "earlier", &recipe)
}

pub(crate) fn done(report: FromWorker) -> (Lease, u64, u64, Digest, Vec<String>) {
    match report {
        FromWorker::ShardDone { lease, done, quarantined, manifest, reasons } => {
            (lease, done, quarantined, manifest, reasons)
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn inputs(records: &[ItemRecord]) -> Vec<&str> {
    records.iter().map(|record| record.input.as_str()).collect()
}
