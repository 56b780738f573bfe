//! A coordinator over memory, and workers that are played: what they "compute" is the input's name.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use sr3_coordinator::{
    Kind, Kinds,
    clock::Clock,
    core::{self, Coordinator, Parts, Running, view::JobView},
    ledger::{Ledger, MemoryLedgerStorage},
    scheduler,
};
use sr3_jobs::{
    JobSpec, Wish, Writing,
    cut::UnitLimits,
    images::OutputFormat,
    upscale::{
        Computed, Encoded, F32_CLASS, Files, ItemError, ItemRecord, ItemStatus, ItemTask, Items, Machine,
        ModelError, Models, OpenModel, Processor, Resolved, ShardManifest, Upscale, UpscaleOrder,
        UpscaleSpec,
        record::{VERSION, write_document},
    },
};
use sr3_proto::{
    Cancel, Digest, FromWorker, Grant, Hello, JobId, Key, LeaseProgress, Offer, Store, StoreError, ToWorker,
    layout, session::UnitResult, store::PutMode,
};

/// Knows one model, and never runs it.
pub struct Played;

impl Models for Played {
    type Processor = Nothing;

    fn resolve(&self, wish: &Wish) -> Result<Resolved, ModelError> {
        let model = &wish.model;
        if model != "photo-4x" {
            return Err(ModelError::Wish(format!("unknown model `{model}`")));
        }
        Ok(Resolved {
            looker: None,
            name: model.clone(),
            digest: Digest::of(model.as_bytes()),
            preset: "default".into(),
            sampling: "as played".into(),
            scale: 4,
            memory_bytes: 0,
        })
    }

    fn open(&self, _: &Wish, _: &Writing, _: &Machine) -> Result<OpenModel<Nothing>, ModelError> {
        Err(ModelError::Broken("workers are played".into()))
    }
}

/// Workers are played: nothing is ever computed.
pub enum Nothing {}

impl Processor for Nothing {
    type Decoded = ();
    type Computed = ();
    type Device = ();

    fn open_device(&self) -> Result<(), String> {
        match *self {}
    }

    fn decode(&self, _: &Key, _: Files<'_>, _: OutputFormat) -> Result<(), ItemError> {
        match *self {}
    }

    fn output_pixels(&self, (): &()) -> u64 {
        match *self {}
    }

    fn compute(
        &self,
        (): &mut (),
        _: &Key,
        (): (),
        _: &Cancel,
        _: &mut dyn FnMut(f32),
    ) -> Result<Computed<()>, ItemError> {
        match *self {}
    }

    fn encode(&self, (): (), _: OutputFormat) -> Result<Encoded, ItemError> {
        match *self {}
    }
}

pub struct Cluster {
    pub coordinator: Coordinator,
    pub running: Option<Running>,
    pub source: Store,
    pub destination: Store,
    pub parts: Parts,
    pub storage: MemoryLedgerStorage,
    pub ledger: Arc<dyn Ledger>,
}

pub fn job_spec() -> UpscaleSpec {
    UpscaleSpec::new("memory://in", "memory://out")
}

/// Submits a spec.
pub async fn submit(
    coordinator: &Coordinator,
    spec: UpscaleSpec,
    key: &str,
) -> Result<(JobView, bool), core::view::Refusal> {
    coordinator.submit(&JobSpec::from(spec).to_yaml(), key.into(), String::new()).await
}

impl Cluster {
    /// A source of so many images; two go into a unit.
    pub async fn new(images: usize) -> Self {
        let (source, destination) = (Store::in_memory(), Store::in_memory());
        for i in 0..images {
            let key = Key::new(format!("{i:05}.png")).unwrap();
            source.put(&key, format!("image {i}").into(), PutMode::Create).await.unwrap();
        }
        let (inputs, outputs) = (source.clone(), destination.clone());
        let limits = UnitLimits { items_max: 2, ..UnitLimits::default() };
        let upscale: Arc<dyn Kind> = Arc::new(Upscale::new(Arc::new(Played)).with_limits(limits));
        let parts = Parts {
            kinds: Kinds::new([upscale]),
            open_store: Arc::new(move |location| match location.to_string().as_str() {
                "memory://in" => Ok(inputs.clone()),
                "memory://out" => Ok(outputs.clone()),
                other => Err(StoreError::NotFound { path: other.into() }),
            }),
            state: Some("memory://state".parse().unwrap()),
            scheduler: scheduler::Config::default(),
            clock: Clock::default(),
        };
        let storage = MemoryLedgerStorage::default();
        let ledger: Arc<dyn Ledger> = Arc::new(storage.open());
        let started = core::start(parts.clone(), Arc::clone(&ledger), Cancel::new()).await;
        let (coordinator, running) = started.unwrap();
        Self { coordinator, running: Some(running), source, destination, parts, storage, ledger }
    }

    /// Another coordinator opens the ledger. Returns the old one, and how it ended.
    pub async fn take_over(&mut self) -> (Coordinator, bool) {
        let ledger: Arc<dyn Ledger> = Arc::new(self.storage.open());
        let started = core::start(self.parts.clone(), Arc::clone(&ledger), Cancel::new()).await;
        let (coordinator, running) = started.unwrap();
        self.ledger = ledger;
        let old = std::mem::replace(&mut self.coordinator, coordinator);
        let ended = self.running.replace(running).unwrap().ended().await;
        (old, ended.is_err_and(|e| e.is_fenced()))
    }

    pub async fn wait(&self, job: JobId) -> JobView {
        let mut seen = self.coordinator.job(job).await.unwrap();
        let wait = seen.wait_for(|view| view.phase.is_final());
        let view = tokio::time::timeout(Duration::from_secs(3600), wait).await.expect("it ends").unwrap();
        (**view).clone()
    }

    pub async fn report(&self) -> Vec<ItemRecord> {
        let (_, bytes) = self.destination.get(&layout::report_key()).await.unwrap();
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

/// A worker that takes two units at a time and a tenth of a second for each.
pub async fn played_worker(coordinator: Coordinator, destination: Store, stop: Cancel) {
    let hello = hello(&format!("{:?}", tokio::task::try_id()));
    let mut end = coordinator.attach(hello, String::new()).await.unwrap();
    let mut held = Vec::new();
    let mut beats = tokio::time::interval(Duration::from_secs(2));
    while !stop.is_cancelled() {
        tokio::select! {
            message = end.receive.recv() => match message {
                Some(ToWorker::Grant(grant)) => {
                    held.push(grant.lease);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let done = work(&destination, &grant).await;
                    if end.send.send(done).await.is_err() {
                        return;
                    }
                }
                Some(ToWorker::Committed { lease } | ToWorker::Revoke { lease, .. }) => {
                    held.retain(|other| *other != lease);
                    if end.send.send(heartbeat(&held)).await.is_err() {
                        return;
                    }
                }
                Some(ToWorker::Welcome { .. } | ToWorker::Drain | ToWorker::Gang { .. }) => {}
                None => return,
            },
            _ = beats.tick() => if end.send.send(heartbeat(&held)).await.is_err() { return },
        }
    }
}

pub fn hello(instance: &str) -> Hello {
    Hello {
        name: "played".into(),
        version: "0".into(),
        device: "none".into(),
        instance: instance.into(),
        held: Vec::new(),
        credits: 2,
        models: Vec::new(),
        peer_address: String::new(),
        offer: Offer { kinds: vec!["upscale".into()], classes: vec![F32_CLASS.into()], ..Offer::default() },
    }
}

fn heartbeat(held: &[sr3_proto::Lease]) -> FromWorker {
    let leases = held
        .iter()
        .map(|lease| LeaseProgress {
            lease: *lease,
            items_done: 0,
            current: None,
            share: 0.0,
            generation: None,
        })
        .collect();
    FromWorker::Heartbeat {
        credits: 2u32.saturating_sub(held.len() as u32),
        leases,
        models: Vec::new(),
        draining: false,
    }
}

/// What an item's output holds.
fn output_of(item: &ItemTask) -> Vec<u8> {
    item.input.to_string().to_uppercase().into_bytes()
}

/// Writes a unit's outputs and its manifest, as a worker does.
pub async fn work(destination: &Store, grant: &Grant) -> FromWorker {
    for item in &open_items(grant) {
        // Whoever was here before wrote the same.
        drop(destination.put(&item.output, output_of(item).into(), PutMode::Create).await);
    }
    record(destination, grant).await
}

/// Writes a unit's manifest.
pub async fn record(destination: &Store, grant: &Grant) -> FromWorker {
    let recipe = &UpscaleOrder::read(&grant.order).unwrap().recipe;
    let mut items: Vec<_> =
        grant.records.iter().map(|bytes| ItemRecord::from_bytes(bytes).unwrap()).collect();
    for item in &open_items(grant) {
        let bytes = output_of(item);
        let mut record = ItemRecord::without_result(
            item.input.as_str(),
            Some(item.output.clone()),
            ItemStatus::Ok,
            "",
            recipe,
        );
        record.reason = None;
        record.input_etag.clone_from(&item.input_etag);
        record.output_sha256 = Some(Digest::of(&bytes));
        record.output_bytes = Some(bytes.len() as u64);
        items.push(record);
    }
    items.sort_by(|a, b| a.input.cmp(&b.input));
    let count = |status| items.iter().filter(|record| record.status == status).count() as u64;
    let (done, quarantined) = (count(ItemStatus::Ok), count(ItemStatus::Quarantined));
    let manifest = ShardManifest {
        version: VERSION,
        run: grant.run,
        unit: grant.lease.unit,
        recipe: recipe.clone(),
        recipe_digest: recipe.digest(),
        items,
    };
    let key = layout::manifest_key(grant.run, grant.lease.unit);
    let bytes = write_document(key.as_str(), &manifest).unwrap();
    let digest = Digest::of(&bytes);
    drop(destination.put(&key, bytes.into(), PutMode::Create).await);
    let payload = digest.to_string().into();
    let result = UnitResult { done, quarantined, payload, reasons: Vec::new() };
    FromWorker::UnitDone { lease: grant.lease, result }
}

/// The items of a grant that have no verdict.
pub fn open_items(grant: &Grant) -> Vec<ItemTask> {
    let records: Vec<_> =
        grant.records.iter().map(|bytes| ItemRecord::from_bytes(bytes).unwrap().input).collect();
    let items = Items::from_bytes(&grant.unit).unwrap().0.into_iter().map(|(_, item)| item);
    items.filter(|item| !records.contains(&item.input.to_string())).collect()
}
