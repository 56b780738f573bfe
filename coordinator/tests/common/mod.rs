//! A coordinator over memory, and workers that are played: what they "compute" is the input's name.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use sr3_coordinator::{
    ShardLimits,
    clock::Clock,
    core::{self, Coordinator, Parts, Recipes, Running, view::JobView},
    ledger::{Ledger, MemoryLedgerStorage},
    scheduler,
};
use sr3_proto::{
    Cancel, Digest, FormatChoice, FromWorker, Grant, Hello, ItemRecord, ItemStatus, JobId, Key,
    LeaseProgress, RecipeSpec, ShardManifest, Store, StoreError, ToWorker, UpscaleJob, layout,
    record::{VERSION, write_document},
    store::PutMode,
};

pub struct Played;

impl Recipes for Played {
    fn resolve(&self, job: &UpscaleJob) -> Result<RecipeSpec, String> {
        if job.model != "photo-4x" {
            return Err(format!("unknown model `{}`", job.model));
        }
        Ok(RecipeSpec {
            model: Digest::of(job.model.as_bytes()),
            model_name: job.model.clone(),
            preset: "default".into(),
            sampler: None,
            steps: None,
            sampling: "as played".into(),
            seed: job.seed,
            scale: 4,
            format: FormatChoice::Auto,
            quality: 95,
            background: None,
            tile: None,
            projection: true,
            dtype: Default::default(),
        })
    }
}

pub struct Cluster {
    pub coordinator: Coordinator,
    pub running: Option<Running>,
    pub source: Store,
    pub destination: Store,
    pub parts: Parts,
    pub storage: MemoryLedgerStorage,
}

pub fn job_spec() -> UpscaleJob {
    UpscaleJob::new("memory://in", "memory://out")
}

impl Cluster {
    /// A source of so many images; two go into a shard.
    pub async fn new(images: usize) -> Self {
        let (source, destination) = (Store::in_memory(), Store::in_memory());
        for i in 0..images {
            let key = Key::new(format!("{i:05}.png")).unwrap();
            source.put(&key, format!("image {i}").into(), PutMode::Create).await.unwrap();
        }
        let (inputs, outputs) = (source.clone(), destination.clone());
        let parts = Parts {
            recipes: Arc::new(Played),
            open_store: Arc::new(move |location| match location {
                "memory://in" => Ok(inputs.clone()),
                "memory://out" => Ok(outputs.clone()),
                other => Err(StoreError::NotFound { path: other.into() }),
            }),
            scheduler: scheduler::Config::default(),
            shard_limits: ShardLimits { items_max: 2, ..ShardLimits::default() },
            clock: Clock::default(),
        };
        let storage = MemoryLedgerStorage::default();
        let ledger: Arc<dyn Ledger> = Arc::new(storage.open());
        let (coordinator, running) = core::start(parts.clone(), ledger, Cancel::new()).await.unwrap();
        Self { coordinator, running: Some(running), source, destination, parts, storage }
    }

    /// Another coordinator opens the ledger. Returns the old one, and how it ended.
    pub async fn take_over(&mut self) -> (Coordinator, bool) {
        let ledger: Arc<dyn Ledger> = Arc::new(self.storage.open());
        let (coordinator, running) = core::start(self.parts.clone(), ledger, Cancel::new()).await.unwrap();
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

/// A worker that takes two shards at a time and a tenth of a second for each.
pub async fn played_worker(coordinator: Coordinator, destination: Store, stop: Cancel) {
    let hello = hello(&format!("{:?}", tokio::task::try_id()));
    let mut end = coordinator.attach(hello).await.unwrap();
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
                Some(ToWorker::Welcome { .. } | ToWorker::Drain) => {}
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
    }
}

fn heartbeat(held: &[sr3_proto::Lease]) -> FromWorker {
    let leases = held
        .iter()
        .map(|lease| LeaseProgress { lease: *lease, items_done: 0, current: None, share: 0.0 })
        .collect();
    FromWorker::Heartbeat {
        credits: 2u32.saturating_sub(held.len() as u32),
        leases,
        models: Vec::new(),
        draining: false,
    }
}

/// Writes a shard's outputs and its manifest, as a worker does.
pub async fn work(destination: &Store, grant: &Grant) -> FromWorker {
    let recipe = &grant.spec.recipe;
    let mut items = grant.records.clone();
    for item in &grant.items {
        let bytes = item.input.to_string().to_uppercase().into_bytes();
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
        // Whoever was here before wrote the same.
        drop(destination.put(&item.output, bytes.into(), PutMode::Create).await);
        items.push(record);
    }
    items.sort_by(|a, b| a.input.cmp(&b.input));
    let count = |status| items.iter().filter(|record| record.status == status).count() as u64;
    let (done, quarantined) = (count(ItemStatus::Ok), count(ItemStatus::Quarantined));
    let manifest = ShardManifest {
        version: VERSION,
        job: grant.run,
        shard: grant.lease.shard,
        recipe: recipe.clone(),
        recipe_digest: recipe.digest(),
        items,
    };
    let key = layout::manifest_key(grant.run, grant.lease.shard);
    let bytes = write_document(key.as_str(), &manifest).unwrap();
    let digest = Digest::of(&bytes);
    drop(destination.put(&key, bytes.into(), PutMode::Create).await);
    FromWorker::ShardDone { lease: grant.lease, done, quarantined, manifest: digest, reasons: Vec::new() }
}
