//! Workers' sessions in the driver: welcome, reports, grants.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use sr3_proto::{
    FromWorker, Grant, Hello, ItemRecord, ItemStatus, JobId, Lease, LeaseProgress, ShardId, ToWorker,
    WorkerId, wire::ledger::ShardRow,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    committer::Told,
    connected::Connected,
    driver::{Driver, KEPT_SHARDS, done_row, open_items},
    view::OnDevice,
};
use crate::{rows, scheduler::Event};

impl Driver {
    pub(super) fn attach(
        &mut self,
        hello: Hello,
        send: mpsc::Sender<ToWorker>,
        answer: oneshot::Sender<WorkerId>,
    ) {
        let worker = self.next_worker;
        self.next_worker = worker.next();
        let (instance, held) = (hello.instance.clone(), hello.held.clone());
        let (credits, models) = (hello.credits, hello.models.clone());
        // An older session of the process ends with its channel.
        self.workers.retain(|_, other| other.hello.instance != instance);
        self.workers.insert(worker, Connected { hello, send, goodbye: false });
        self.work.told.push(Told::answer(answer, worker));
        self.event(Event::Joined { worker, instance, held, credits, models });
    }

    pub(super) fn welcome(&mut self, worker: WorkerId, renewed: Vec<(Lease, Lease)>) {
        let config = self.scheduler.config();
        let welcome = ToWorker::Welcome {
            worker,
            epoch: self.ledger.epoch(),
            lease_ttl: config.lease_ttl,
            heartbeat_every: config.heartbeat_every,
            renewed,
        };
        self.tell(worker, welcome);
    }

    pub(super) fn detached(&mut self, worker: WorkerId) {
        if let Some(gone) = self.workers.remove(&worker) {
            self.event(Event::Left { worker, goodbye: gone.goodbye });
            self.clear_progress(worker);
        }
    }

    pub(super) fn report(&mut self, worker: WorkerId, report: FromWorker) {
        if !self.workers.contains_key(&worker) {
            return;
        }
        match report {
            FromWorker::Heartbeat { credits, leases, models, draining } => {
                self.show_progress(worker, &leases);
                let leases = leases.into_iter().map(|progress| progress.lease).collect();
                self.event(Event::Heartbeat { worker, credits, leases, models, draining });
            }
            FromWorker::ItemDone { lease, record } => {
                let record = Bytes::from(&*record);
                self.event(Event::ItemDone { worker, lease, record });
            }
            FromWorker::ShardDone { lease, done, quarantined, manifest, reasons } => {
                let recorded = self.jobs.get(&lease.job).map_or(0, |job| job.counts.shards_done);
                let work = self.shard_work(lease.job, lease.shard, recorded);
                self.shard_done(worker, lease, done_row(done, quarantined, manifest, work));
                let now = self.jobs.get(&lease.job).map_or(0, |job| job.counts.shards_done);
                // Only what was recorded is told.
                if now > recorded {
                    for reason in reasons {
                        self.log(lease.job, format!("set aside: {reason}"));
                    }
                }
            }
            FromWorker::ShardFailed { lease, reason, kind, records } => {
                let records = records.iter().map(Bytes::from).collect();
                self.event(Event::ShardFailed { worker, lease, kind, reason, records });
            }
            FromWorker::ShardReturned { lease, records } => {
                let records = records.iter().map(Bytes::from).collect();
                self.event(Event::ShardReturned { worker, lease, records });
            }
            FromWorker::Goodbye => {
                if let Some(found) = self.workers.get_mut(&worker) {
                    found.goodbye = true;
                }
                self.detached(worker);
            }
        }
    }

    /// Encoded bytes of a shard's items; for one that an earlier coordinator granted, the mean of what is left.
    fn shard_work(&self, job: JobId, shard: ShardId, recorded: u64) -> u64 {
        if let Some((_, work)) = self.granted.get(&(job, shard)) {
            return *work;
        }
        let Some(found) = self.jobs.get(&job) else { return 0 };
        let counts = found.all_counts();
        let left = counts.work_planned.saturating_sub(counts.work_done);
        left / counts.shards_planned.saturating_sub(recorded).max(1)
    }

    fn show_progress(&mut self, worker: WorkerId, leases: &[LeaseProgress]) {
        let Some(name) = self.workers.get(&worker).map(|w| w.hello.name.clone()) else { return };
        self.clear_progress(worker);
        for progress in leases {
            let Lease { job, shard, .. } = progress.lease;
            let Some(found) = self.jobs.get_mut(&job) else { continue };
            if let Some(input) = progress.current.clone() {
                let on_device = OnDevice { worker: name.clone(), input, share: progress.share };
                found.on_device.insert(worker, on_device);
            }
            // Of a shard that an earlier coordinator granted nothing is known.
            if let Some((items, work)) = self.granted.get(&(job, shard)) {
                let done = f64::from(progress.items_done) + f64::from(progress.share);
                let work = (*work as f64 * done / (*items).max(1) as f64) as u64;
                found.under_way.insert((worker, shard), (progress.items_done.into(), work));
            }
        }
        let of: std::collections::BTreeSet<JobId> = leases.iter().map(|l| l.lease.job).collect();
        for job in of {
            self.publish(job);
        }
    }

    fn clear_progress(&mut self, worker: WorkerId) {
        for job in self.jobs.values_mut() {
            job.on_device.remove(&worker);
            job.under_way.retain(|(of, _), _| *of != worker);
        }
    }

    /// Sends a grant once it is durable. A shard that is not kept in memory is read from the ledger first, beside
    /// everything else.
    pub(super) fn grant(&mut self, worker: WorkerId, lease: Lease, records: &[Bytes], isolated: bool) {
        let Some(send) = self.workers.get(&worker).map(|w| w.send.clone()) else { return };
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        // The next ones are on their way already: one scan instead of a look-up each.
        if job.keeping && job.kept_to.is_some_and(|to| lease.shard > to) {
            return job.parked.push((worker, lease, records.to_vec(), isolated));
        }
        let (spec, run, records) = (Arc::clone(&job.resolved), job.run, records.to_vec());
        let make = move |row: &ShardRow| {
            let items = open_items(row, &records);
            let records = records.iter().filter_map(|bytes| ItemRecord::try_from(bytes).ok()).collect();
            ToWorker::Grant(Box::new(Grant { lease, spec, run, items, records, isolated }))
        };
        if let Some(row) = self.kept.remove(&(lease.job, lease.shard)) {
            let work = row.items.iter().map(|item| item.input_bytes).sum();
            self.granted.insert((lease.job, lease.shard), (row.items.len(), work));
            let message = make(&row);
            self.work.told.push(Told::Worker(send, message));
            return self.keep_more(lease.job);
        }
        let ledger = Arc::clone(&self.ledger);
        let key = rows::shard(lease.job, lease.shard);
        self.work.told.push(Told::Answer(Box::new(move || {
            tokio::spawn(async move {
                let row = match ledger.get(&key).await {
                    Ok(Some(bytes)) => rows::read::<ShardRow>(&key, &bytes),
                    Ok(None) => Ok(ShardRow::default()),
                    Err(error) => Err(error),
                };
                match row {
                    Ok(row) => drop(send.send(make(&row)).await),
                    // The lease runs out, and the shard is granted again.
                    Err(error) => tracing::warn!(%error, "a shard cannot be read"),
                }
            });
        })));
    }

    /// Reads the next shards of a job when half of those that may be kept are gone.
    pub(super) fn keep_more(&mut self, id: JobId) {
        let few = self.kept.len() < KEPT_SHARDS / 2;
        let Some(commands) = self.commands.upgrade() else { return };
        let Some(job) = self.jobs.get_mut(&id).filter(|job| few && !job.keeping) else { return };
        let Some(to) = job.kept_to.filter(|to| *to < job.last_to_compute) else { return };
        job.keeping = true;
        let (ledger, prefix, after) = (Arc::clone(&self.ledger), rows::shards(id), rows::shard(id, to));
        tokio::spawn(async move {
            let mut found = Vec::new();
            let mut shards = ledger.scan(&prefix, Some(&after)).take(KEPT_SHARDS / 2);
            // What cannot be read now is read for its grant, and reported there.
            while let Some(Ok((key, bytes))) = shards.next().await {
                if let (Ok(shard), Ok(row)) = (rows::last_number(&key), rows::read(&key, &bytes)) {
                    found.push((ShardId::new(shard), row));
                }
            }
            drop(commands.send(super::command::Command::Kept { job: id, rows: found }).await);
        });
    }

    pub(super) fn keep(&mut self, id: JobId, rows: Vec<(ShardId, ShardRow)>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.phase.is_final()) else { return };
        job.keeping = false;
        let parked = std::mem::take(&mut job.parked);
        for (shard, row) in rows {
            job.kept_to = Some(shard);
            if !row.items.is_empty() {
                self.kept.insert((id, shard), Arc::new(row));
            }
        }
        for (worker, lease, records, isolated) in parked {
            self.grant(worker, lease, &records, isolated);
        }
    }

    /// Makes the record of the item that took down too many workers.
    pub(super) fn quarantine_next(&mut self, job: JobId, shard: ShardId, losses: u32) {
        let Some(commands) = self.commands.upgrade() else { return };
        let (ledger, key) = (Arc::clone(&self.ledger), rows::shard(job, shard));
        self.work.told.push(Told::Answer(Box::new(move || {
            tokio::spawn(async move {
                match ledger.get(&key).await.map(|row| row.map(|bytes| rows::read::<ShardRow>(&key, &bytes)))
                {
                    Ok(Some(Ok(row))) => {
                        let command = super::command::Command::Quarantine { job, shard, losses, row };
                        drop(commands.send(command).await);
                    }
                    _ => tracing::warn!("a shard cannot be read"),
                }
            });
        })));
    }

    pub(super) fn quarantine(&mut self, job: JobId, shard: ShardId, losses: u32, row: &ShardRow) {
        let Some(found) = self.jobs.get(&job) else { return };
        let Some(records) = self.scheduler.records_of(job, shard) else { return };
        let Some(item) = open_items(row, records).into_iter().next() else { return };
        let reason = format!("{losses} workers ended while they computed it");
        let input = item.input.to_string();
        let record = ItemRecord::without_result(
            input.as_str(),
            Some(item.output),
            ItemStatus::Quarantined,
            reason.as_str(),
            &found.resolved.recipe,
        );
        self.log(job, format!("set aside: {input}: {reason}"));
        let now = self.parts.clock.now();
        let effects = self.scheduler.quarantined(job, shard, Bytes::from(&record), now);
        self.take_effects(effects);
    }
}
