//! The pipeline with a processor that watches how it is used.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use sr3_jobs::{
    Wish, Writing,
    images::OutputFormat,
    upscale::{
        Bits, Computed, Encoded, Files, ItemError, ItemRecord, ItemStatus, ItemTask, Machine, ModelError,
        Models, OnExisting, OpenModel, Processor, ShardManifest, Upscale, record::read_document,
    },
};
use sr3_proto::{
    Cancel, Digest, FromWorker, Grant, Key, Location, RunId, Store, ToWorker, UnitId, WorkerId, layout,
    store::{PutMode, Staging},
};
use sr3_worker::{ClusterWorkerConfig, Runner, Runners, WorkerConfig};
use tokio::sync::mpsc;

use super::{
    channels::{ChannelConnect, Joining},
    played::{NoForecast, grant, key, lease, records, resolved},
};

/// The output is the input turned around. Every byte of an input counts as a pixel of its output.
#[derive(Clone, Default)]
struct Watched {
    /// Items, and pixels, that are decoded and not yet encoded: now, and at most.
    held: Arc<Mutex<(usize, u64)>>,
    most: Arc<Mutex<(usize, u64)>>,
    /// How often decoding or encoding ran while the device computed.
    overlaps: Arc<AtomicUsize>,
    computing: Arc<AtomicUsize>,
    device: Option<&'static str>,
    pause: Duration,
}

impl Watched {
    fn look(&self) {
        if self.computing.load(Ordering::SeqCst) > 0 {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Processor for Watched {
    type Decoded = Vec<u8>;
    type Computed = Vec<u8>;
    type Device = ();

    fn open_device(&self) -> Result<(), String> {
        self.device.map_or(Ok(()), |why| Err(why.to_string()))
    }

    fn decode(
        &self,
        _: &Key,
        Files { input: bytes, .. }: Files<'_>,
        _: OutputFormat,
    ) -> Result<Vec<u8>, ItemError> {
        self.look();
        if bytes == b"bad" {
            return Err(ItemError::bad("not readable"));
        }
        let mut held = self.held.lock().unwrap();
        *held = (held.0 + 1, held.1 + bytes.len() as u64);
        let mut most = self.most.lock().unwrap();
        *most = (most.0.max(held.0), most.1.max(held.1));
        Ok(bytes.to_vec())
    }

    fn output_pixels(&self, decoded: &Vec<u8>) -> u64 {
        decoded.len() as u64
    }

    fn compute(
        &self,
        (): &mut (),
        _: &Key,
        mut decoded: Vec<u8>,
        cancel: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<Vec<u8>>, ItemError> {
        assert_eq!(self.computing.fetch_add(1, Ordering::SeqCst), 0, "one item on the device at a time");
        let until = Instant::now() + self.pause;
        let mut cancelled = false;
        while Instant::now() < until && !cancelled {
            cancelled = cancel.is_cancelled();
            std::thread::park_timeout(Duration::from_millis(1));
        }
        progress(0.5);
        self.computing.fetch_sub(1, Ordering::SeqCst);
        if cancelled {
            return Err(ItemError::Cancelled);
        }
        decoded.reverse();
        let size = [decoded.len() as u32, 1];
        let notes = Vec::new();
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
        self.look();
        let mut held = self.held.lock().unwrap();
        *held = (held.0 - 1, held.1 - computed.len() as u64);
        Ok(Encoded { bytes: computed, notes: vec!["turned".into()] })
    }
}

struct Ran {
    units: BTreeMap<UnitId, Vec<ItemRecord>>,
    failure: Option<String>,
    processor: Watched,
}

struct Opener(Watched);

impl Models for Opener {
    type Processor = Watched;

    fn open(&self, wish: &Wish, _: &Writing, _: &Machine) -> Result<OpenModel<Watched>, ModelError> {
        let (processor, resolved) = (self.0.clone(), resolved(&wish.model));
        Ok(OpenModel { processor, forecast: Arc::new(NoForecast), resolved, bits: Bits::default() })
    }
}

/// Runs `units` of inputs (name and content) with `on_existing` for all, into `destination`, two units at a time,
/// until one fails or `cancel` is set.
async fn run(
    processor: Watched,
    pipeline: WorkerConfig,
    units: &[Vec<(String, Vec<u8>)>],
    on_existing: OnExisting,
    destination: &Store,
    cancel: &Cancel,
) -> Ran {
    let source = Store::in_memory();
    let mut grants = VecDeque::new();
    for (number, inputs) in units.iter().enumerate() {
        let mut items = Vec::new();
        for (name, content) in inputs {
            source.put(&key(name), Bytes::from(content.clone()), PutMode::Create).await.unwrap();
            items.push(ItemTask {
                input: key(name),
                input_bytes: content.len() as u64,
                input_etag: None,
                enlarged: None,
                output: key(name),
                format: OutputFormat::Png,
                on_existing: on_existing.clone(),
            });
        }
        let lease = lease(1, number as u64, number as u64 + 1);
        grants.push_back(Grant { run: RunId::new(1), ..grant(lease, "out", items) });
    }
    let (joining, mut joins) = mpsc::channel(1);
    let outputs = destination.clone();
    let config = ClusterWorkerConfig {
        drain_timeout: Duration::ZERO,
        pipeline,
        stores: Arc::new(move |location: &Location| {
            Ok(if location.to_string() == "in" { source.clone() } else { outputs.clone() })
        }),
        ..ClusterWorkerConfig::default()
    };
    let opener = Arc::new(Opener(processor.clone()));
    let upscale: Arc<dyn Runner> = Arc::new(Upscale::new(opener));
    let runners = Runners::new([upscale]);
    let worker =
        tokio::spawn(sr3_worker::serve(runners, ChannelConnect::new(joining), config, cancel.clone()));
    let Joining { send, mut receive, .. } = joins.recv().await.unwrap();
    let welcome = ToWorker::Welcome {
        worker: WorkerId::new(1),
        epoch: 1,
        lease_ttl: Duration::from_secs(1),
        heartbeat_every: Duration::from_millis(50),
        renewed: Vec::new(),
    };
    send.send(welcome).await.unwrap();
    let (mut done, mut failure, mut at_worker) = (BTreeMap::new(), None, 0);
    loop {
        while at_worker < 2
            && failure.is_none()
            && !cancel.is_cancelled()
            && let Some(grant) = grants.pop_front()
        {
            at_worker += 1;
            send.send(ToWorker::Grant(Box::new(grant))).await.unwrap();
        }
        if at_worker == 0 {
            break;
        }
        let (lease, verdicts) = match receive.recv().await.unwrap() {
            FromWorker::Heartbeat { .. } => continue,
            FromWorker::UnitDone { lease, .. } => {
                let manifest = layout::manifest_key(RunId::new(1), lease.unit);
                let (_, bytes) = destination.get(&manifest).await.unwrap();
                (lease, read_document::<ShardManifest>(manifest.as_str(), &bytes).unwrap().items)
            }
            FromWorker::UnitReturned { lease, records: kept } => (lease, records(&kept)),
            FromWorker::UnitFailed { lease, reason, records: kept, .. } => {
                failure = Some(reason);
                (lease, records(&kept))
            }
            other => panic!("{other:?}"),
        };
        at_worker -= 1;
        assert!(done.insert(lease.unit, verdicts).is_none());
        send.send(ToWorker::Committed { lease }).await.unwrap();
    }
    cancel.cancel();
    drop((send, receive));
    worker.await.unwrap().unwrap();
    Ran { units: done, failure, processor }
}

fn units(count: usize, items: usize, bytes: usize) -> Vec<Vec<(String, Vec<u8>)>> {
    let item =
        |s: usize, i: usize| (format!("{s}/{i}.png"), format!("{s} {i} ").repeat(bytes / 4).into_bytes());
    (0..count).map(|s| (0..items).map(|i| item(s, i)).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_item_gets_its_verdict_in_its_place_and_stages_overlap_across_units() {
    let inputs = units(10, 2, 400);
    let destination = Store::in_memory();
    let processor = Watched { pause: Duration::from_millis(10), ..Watched::default() };
    let ran =
        run(processor, WorkerConfig::default(), &inputs, OnExisting::Keep, &destination, &Cancel::new())
            .await;
    assert!(ran.failure.is_none());
    assert_eq!(ran.units.len(), 10);
    for (unit, items) in ran.units.values().zip(&inputs) {
        for (record, (name, content)) in unit.iter().zip(items) {
            let mut expected = content.clone();
            expected.reverse();
            assert_eq!((record.input.as_str(), record.status), (name.as_str(), ItemStatus::Ok));
            assert_eq!(record.input_sha256, Some(Digest::of(content)));
            assert_eq!(record.output_sha256, Some(Digest::of(&expected)));
            assert_eq!(record.output_bytes, Some(expected.len() as u64));
            assert_eq!(record.notes, ["turned"]);
            assert!(record.seconds.unwrap() >= 0.01);
            assert_eq!(destination.get(&key(name)).await.unwrap().1, expected);
        }
    }
    assert!(ran.processor.overlaps.load(Ordering::SeqCst) > 0, "nothing overlapped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_memory_is_bounded_by_items_and_by_pixels() {
    let inputs = units(6, 3, 1000);
    let destination = Store::in_memory();
    let few = WorkerConfig { items_in_flight_max: 3, ..WorkerConfig::default() };
    let ran = run(Watched::default(), few, &inputs, OnExisting::Keep, &destination, &Cancel::new()).await;
    assert!(ran.processor.most.lock().unwrap().0 <= 3);
    // The budget fills with two of them; a third may be decoded only when one is out.
    let small =
        WorkerConfig { items_in_flight_max: 9, output_pixels_in_flight_max: 1500, ..WorkerConfig::default() };
    let destination = Store::in_memory();
    let processor = Watched { pause: Duration::from_millis(5), ..Watched::default() };
    let ran = run(processor, small, &inputs, OnExisting::Keep, &destination, &Cancel::new()).await;
    let (items, pixels) = *ran.processor.most.lock().unwrap();
    assert!(items <= 2 && pixels <= 2500, "{items} {pixels}");
    assert_eq!(ran.units.values().flatten().count(), 18);
}

#[tokio::test]
async fn bad_items_are_quarantined_and_others_are_not() {
    let inputs = vec![vec![
        ("a.png".to_string(), b"bad".to_vec()),
        ("b.png".to_string(), b"fine".to_vec()),
        ("c.png".to_string(), vec![0; 5000]),
    ]];
    let config = WorkerConfig { input_bytes_max: 4999, ..WorkerConfig::default() };
    let ran =
        run(Watched::default(), config, &inputs, OnExisting::Keep, &Store::in_memory(), &Cancel::new()).await;
    let statuses: Vec<_> = ran.units[&UnitId::new(0)].iter().map(|r| r.status).collect();
    assert_eq!(statuses, [ItemStatus::Quarantined, ItemStatus::Ok, ItemStatus::Quarantined]);
    let long = &ran.units[&UnitId::new(0)][2];
    assert!(long.reason.as_ref().unwrap().contains("4999"));
    assert_eq!(long.input_sha256, None, "not even read");
}

#[tokio::test]
async fn what_lies_at_an_output_is_replaced_only_by_the_rule() {
    let inputs = vec![vec![("a.png".to_string(), b"abc".to_vec())]];
    let own = OnExisting::ReplaceOwn(Digest::of(b"earlier"));
    for (there, rule, status, after) in [
        ("cba", OnExisting::Keep, ItemStatus::Ok, "cba"),
        ("xxx", OnExisting::Keep, ItemStatus::Quarantined, "xxx"),
        ("earlier", OnExisting::Keep, ItemStatus::Quarantined, "earlier"),
        ("earlier", own.clone(), ItemStatus::Ok, "cba"),
        ("xxx", own, ItemStatus::Quarantined, "xxx"),
        ("xxx", OnExisting::Replace, ItemStatus::Ok, "cba"),
    ] {
        let store = Store::in_memory();
        store.put(&key("a.png"), Bytes::from(there), PutMode::Create).await.unwrap();
        let shown = format!("{there} {rule:?}");
        let ran =
            run(Watched::default(), WorkerConfig::default(), &inputs, rule, &store, &Cancel::new()).await;
        assert_eq!(ran.units[&UnitId::new(0)][0].status, status, "{shown}");
        assert_eq!(store.get(&key("a.png")).await.unwrap().1, after.as_bytes(), "{shown}");
    }
}

#[tokio::test]
async fn a_device_that_cannot_be_opened_fails_the_run() {
    let processor = Watched { device: Some("no such device"), ..Watched::default() };
    let destination = Store::in_memory();
    let ran = run(
        processor,
        WorkerConfig::default(),
        &units(3, 1, 40),
        OnExisting::Keep,
        &destination,
        &Cancel::new(),
    )
    .await;
    assert_eq!(ran.failure.as_deref(), Some("no such device"));
    assert_eq!(ran.units.values().flatten().count(), 0);
}

#[tokio::test]
async fn a_destination_that_takes_no_writes_fails_the_run_in_one_line() {
    let dir = tempfile::TempDir::new().unwrap();
    let destination = Store::folder(dir.path(), Staging::StateFolder).unwrap();
    std::fs::remove_dir(dir.path()).unwrap();
    let ran = run(
        Watched::default(),
        WorkerConfig::default(),
        &units(5, 1, 40),
        OnExisting::Keep,
        &destination,
        &Cancel::new(),
    )
    .await;
    assert_eq!(ran.failure.unwrap().lines().count(), 1);
    assert_eq!(ran.units.values().flatten().count(), 0, "no verdict on items that were never at fault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_gives_up_the_item_on_the_device_and_keeps_what_was_finished() {
    let cancel = Cancel::new();
    let asked = cancel.clone();
    let processor = Watched { pause: Duration::from_millis(30), ..Watched::default() };
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        asked.cancel();
    });
    let begun = Instant::now();
    let destination = Store::in_memory();
    let ran =
        run(processor, WorkerConfig::default(), &units(2, 200, 40), OnExisting::Keep, &destination, &cancel)
            .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "two hundred items would take six");
    let finished: Vec<_> = ran.units.values().flatten().collect();
    assert!((1..200).contains(&finished.len()), "{}", finished.len());
    for record in finished {
        assert_eq!(record.status, ItemStatus::Ok);
        assert!(destination.head(&key(&record.input)).await.unwrap().is_some());
    }
}
