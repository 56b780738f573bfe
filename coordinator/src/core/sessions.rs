//! Workers' sessions in the driver: welcome, reports, grants.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use sr3_proto::{
    FromWorker, Grant, Hello, JobId, Lease, LeaseProgress, ToWorker, UnitId, WorkerId, wire::ledger::UnitRow,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    committer::Told,
    connected::Connected,
    driver::{Driver, KEPT_UNITS},
    view::OnDevice,
};
use crate::{gang, kind::SetAside, rows, scheduler::Event, telemetry};

impl Driver {
    pub(super) fn attach(
        &mut self,
        mut hello: Hello,
        identity: String,
        send: mpsc::Sender<ToWorker>,
        answer: oneshot::Sender<WorkerId>,
    ) {
        let worker = self.next_worker;
        self.next_worker = worker.next();
        let process = hello.instance.clone();
        let serves_peers = !hello.peer_address.is_empty();
        // Nobody else can name this process, or take over what it holds.
        if !identity.is_empty() {
            hello.instance = format!("{identity}/{}", hello.instance);
        }
        let (instance, held) = (hello.instance.clone(), hello.held.clone());
        let (credits, models, offer) = (hello.credits, hello.models.clone(), hello.offer.clone());
        // An older session of the process ends with its channel.
        self.workers.retain(|_, other| other.hello.instance != instance);
        self.workers.insert(worker, Connected { hello, process, identity, send, goodbye: false });
        self.work.told.push(Told::answer(answer, worker));
        self.event(Event::Joined { worker, instance, held, credits, models, offer, serves_peers });
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
            self.gang_event(gang::Event::Gone { worker });
            self.clear_progress(worker);
        }
    }

    pub(super) fn report(&mut self, worker: WorkerId, report: FromWorker) {
        let Some(reporter) = self.workers.get(&worker) else { return };
        if let Some(lease) = report.lease().filter(|lease| !self.scheduler.holds(worker, *lease)) {
            // After a lease ran out this is nothing bad; the scheduler says so to the worker.
            telemetry::stale_report();
            let Connected { hello, identity, .. } = reporter;
            let Lease { job, unit, .. } = lease;
            tracing::info!(
                worker = hello.name, identity, %job, %unit,
                "refused: a report under a lease that this worker does not hold"
            );
        }
        match report {
            FromWorker::Heartbeat { credits, leases, models, draining } => {
                self.show_progress(worker, &leases);
                for LeaseProgress { lease, generation, .. } in &leases {
                    let (lease, generation) = (*lease, *generation);
                    self.gang_event(gang::Event::Heard { lease, worker, generation });
                }
                let leases = leases.into_iter().map(|progress| progress.lease).collect();
                self.event(Event::Heartbeat { worker, credits, leases, models, draining });
            }
            FromWorker::ItemDone { lease, record } => {
                self.event(Event::ItemDone { worker, lease, record });
            }
            FromWorker::UnitDone { lease, result } => self.check(worker, lease, result),
            FromWorker::UnitFailed { lease, reason, kind, records } => {
                if self.scheduler.holds(worker, lease) {
                    telemetry::unit_failed(kind);
                }
                self.event(Event::UnitFailed { worker, lease, kind, reason, records });
            }
            FromWorker::UnitReturned { lease, records } => {
                self.event(Event::UnitReturned { worker, lease, records });
            }
            FromWorker::Accuse { lease, generation, of } => self.accused(worker, lease, generation, of),
            FromWorker::Goodbye => {
                if let Some(found) = self.workers.get_mut(&worker) {
                    found.goodbye = true;
                }
                self.detached(worker);
            }
        }
    }

    fn show_progress(&mut self, worker: WorkerId, leases: &[LeaseProgress]) {
        let Some(name) = self.workers.get(&worker).map(|w| w.hello.name.clone()) else { return };
        self.clear_progress(worker);
        for progress in leases {
            let Lease { job, unit, .. } = progress.lease;
            let Some(found) = self.jobs.get_mut(&job) else { continue };
            if let Some(input) = progress.current.clone() {
                let on_device = OnDevice { worker: name.clone(), input, share: progress.share };
                found.on_device.insert(worker, on_device);
            }
            // Of a unit that an earlier coordinator granted nothing is known.
            if let Some(row) = self.granted.get(&(job, unit)) {
                let done = f64::from(progress.items_done) + f64::from(progress.share);
                let work = (row.work as f64 * done / f64::from(row.items.max(1))) as u64;
                found.under_way.insert((worker, unit), (progress.items_done.into(), work));
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

    /// Sends a grant once it is durable. A unit that is not kept in memory is read from the ledger first, beside
    /// everything else.
    pub(super) fn grant(&mut self, worker: WorkerId, lease: Lease, records: &[Bytes], isolated: bool) {
        let Some(send) = self.workers.get(&worker).map(|w| w.send.clone()) else { return };
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        // The next ones are on their way already: one scan instead of a look-up each.
        if job.keeping && job.kept_to.is_some_and(|to| lease.unit > to) {
            return job.parked.push((worker, lease, records.to_vec(), isolated));
        }
        let (order, run, records) = (Arc::clone(&job.order), job.run, records.to_vec());
        let make = move |row: &UnitRow| {
            ToWorker::Grant(Box::new(Grant {
                lease,
                order,
                run,
                unit: row.payload.clone(),
                records,
                isolated,
            }))
        };
        if let Some(row) = self.kept.remove(&(lease.job, lease.unit)) {
            let message = make(&row);
            self.granted.insert((lease.job, lease.unit), row);
            self.work.told.push(Told::Worker(send, message));
            return self.keep_more(lease.job);
        }
        let ledger = Arc::clone(&self.ledger);
        let key = rows::unit(lease.job, lease.unit);
        self.work.told.push(Told::Answer(Box::new(move || {
            tokio::spawn(async move {
                let row = match ledger.get(&key).await {
                    Ok(Some(bytes)) => rows::read::<UnitRow>(&key, &bytes),
                    Ok(None) => Ok(UnitRow::default()),
                    Err(error) => Err(error),
                };
                match row {
                    Ok(row) => drop(send.send(make(&row)).await),
                    // The lease runs out, and the unit is granted again.
                    Err(error) => tracing::warn!(%error, "a unit cannot be read"),
                }
            });
        })));
    }

    /// Reads the next units of a job when half of those that may be kept are gone.
    pub(super) fn keep_more(&mut self, id: JobId) {
        let few = self.kept.len() < KEPT_UNITS / 2;
        let Some(commands) = self.commands.upgrade() else { return };
        let Some(job) = self.jobs.get_mut(&id).filter(|job| few && !job.keeping) else { return };
        let Some(to) = job.kept_to.filter(|to| *to < job.last_to_compute) else { return };
        job.keeping = true;
        let (ledger, prefix, after) = (Arc::clone(&self.ledger), rows::units(id), rows::unit(id, to));
        tokio::spawn(async move {
            let mut found = Vec::new();
            let mut units = ledger.scan(&prefix, Some(&after)).take(KEPT_UNITS / 2);
            // What cannot be read now is read for its grant, and reported there.
            while let Some(Ok((key, bytes))) = units.next().await {
                if let (Ok(unit), Ok(row)) = (rows::last_number(&key), rows::read(&key, &bytes)) {
                    found.push((UnitId::new(unit), row));
                }
            }
            drop(commands.send(super::command::Command::Kept { job: id, rows: found }).await);
        });
    }

    pub(super) fn keep(&mut self, id: JobId, rows: Vec<(UnitId, UnitRow)>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.phase.is_final()) else { return };
        job.keeping = false;
        let parked = std::mem::take(&mut job.parked);
        for (unit, row) in rows {
            job.kept_to = Some(unit);
            if row.items > 0 {
                self.kept.insert((id, unit), Arc::new(row));
            }
        }
        for (worker, lease, records, isolated) in parked {
            self.grant(worker, lease, &records, isolated);
        }
    }

    /// Makes the record of the item that took down too many workers.
    pub(super) fn quarantine_next(&mut self, job: JobId, unit: UnitId, losses: u32) {
        let Some(commands) = self.commands.upgrade() else { return };
        let (ledger, key) = (Arc::clone(&self.ledger), rows::unit(job, unit));
        self.work.told.push(Told::Answer(Box::new(move || {
            tokio::spawn(async move {
                match ledger.get(&key).await.map(|row| row.map(|bytes| rows::read::<UnitRow>(&key, &bytes))) {
                    Ok(Some(Ok(row))) => {
                        let command = super::command::Command::Quarantine { job, unit, losses, row };
                        drop(commands.send(command).await);
                    }
                    _ => tracing::warn!("a unit cannot be read"),
                }
            });
        })));
    }

    pub(super) fn quarantine(&mut self, job: JobId, unit: UnitId, losses: u32, row: &UnitRow) {
        let Some(found) = self.jobs.get(&job) else { return };
        let Some(records) = self.scheduler.records_of(job, unit) else { return };
        let reason = format!("{losses} workers ended while they computed it");
        let kind = self.parts.kinds.find(&found.order.kind);
        let aside = kind.and_then(|kind| kind.set_aside(&found.order, &row.payload, records, &reason));
        let Some(SetAside { item, record }) = aside else { return };
        self.log(job, format!("set aside: {item}: {reason}"));
        let now = self.parts.clock.now();
        let effects = self.scheduler.quarantined(job, unit, record, now);
        self.take_effects(effects);
    }
}
