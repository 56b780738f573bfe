//! The task of one job: takes the destination, lists the source into shards, waits until the driver says that the work
//! is over, writes the report. It reads and writes stores and only ever sends commands, so the driver never waits for
//! a store.
//!
//! After a restart it goes on: planning after the last entry that is in the ledger, the rest from what is recorded.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use sr3_proto::{
    Cancel, ItemRecord, ItemStatus, JobId, Key, RunId, ShardId, Store, UpscaleSpec,
    in_flight::{InFlight, Suspicion},
    layout,
    wire::ledger::{DoneRow, PlanRow, ShardRow},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Parts,
    command::Command,
    place::{Destination, Place, Reported},
    view::Phase,
};
use crate::{
    JobError, JobState, Source,
    filter::Filter,
    ledger::Ledger,
    planner::{Entry, EntryCutter, OutputClaims},
    report, rows,
    scan::Planned,
};

/// So many planned entries are taken at once, if they are there.
const ENTRIES_AT_ONCE: usize = 1024;
/// So many manifests are read at a time for the report.
const READS_AT_ONCE: usize = 32;

pub(super) struct JobTask {
    pub(super) id: JobId,
    /// Names the job to its destination.
    pub(super) owner: String,
    pub(super) spec: Arc<UpscaleSpec>,
    pub(super) destination: Destination,
    pub(super) plan: PlanRow,
    pub(super) parts: Parts,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) stop_planning: Cancel,
    pub(super) finish: watch::Receiver<Option<Phase>>,
    pub(super) stop: Cancel,
}

impl JobTask {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            // Whatever it was at, another coordinator goes on with it.
            () = stop.cancelled() => {}
            () = self.drive() => {}
        }
    }

    async fn drive(&mut self) {
        let begun = self.begin().await;
        if let Err(error) = &begun {
            self.fail(error).await;
        }
        let begun = begun.ok();
        if let Some(place) = &begun
            && !self.plan.done
            && let Err(error) = self.make_plan(place).await
        {
            self.fail(&error).await;
        }
        let Ok(ending) = self.finish.wait_for(Option::is_some).await.map(|ending| *ending) else { return };
        let Some(mut phase) = ending else { return };
        let (mut reason, mut reported) = (None, None);
        if let Some(place) = &begun {
            match self.write_end(place, phase).await {
                Ok(written) => reported = Some(written),
                // A full disk fails the report as well; the first reason is the one to tell.
                Err(_) if phase == Phase::Failed => {}
                Err(error) => {
                    (phase, reason) = (Phase::Failed, Some(format!("its report cannot be written: {error}")));
                }
            }
        }
        // The destination is free again when the job is seen to have ended.
        drop(begun);
        // The driver is gone only if the process ends.
        drop(self.commands.send(Command::Finished { job: self.id, phase, reason, reported }).await);
    }

    async fn fail(&self, error: &JobError) {
        drop(self.commands.send(Command::Failed { job: self.id, reason: error.to_string() }).await);
    }

    async fn begin(&mut self) -> Result<Place, JobError> {
        let place = match std::mem::replace(&mut self.destination, Destination::Free) {
            Destination::Taken(place) => *place,
            Destination::Free => self.take(None).await?,
            Destination::Recovered(run) => self.take(Some(run)).await?,
        };
        let (answer, durable) = oneshot::channel();
        let command = Command::Began { job: self.id, run: place.state.job(), answer };
        drop(self.commands.send(command).await);
        drop(durable.await);
        Ok(place)
    }

    /// Takes the destination, or goes on with the run that has it.
    async fn take(&self, run: Option<RunId>) -> Result<Place, JobError> {
        let source = Source::All((self.parts.open_store)(&self.spec.source)?);
        let outputs = super::open_destination(&self.parts, &self.spec.destination)?;
        let spec = (*self.spec).clone();
        let state = match run {
            None => {
                source.store().check().await?;
                outputs.check().await?;
                // Two workers may write one key: what decides between them must hold.
                if !outputs.is_local() {
                    outputs.probe_conditional_put().await?;
                }
                source.require_images(&spec).await?;
                JobState::begin(outputs.clone(), &outputs, spec, self.owner.clone()).await?
            }
            Some(run) => JobState::resume(outputs.clone(), spec, run, !self.plan.done).await?,
        };
        if outputs.is_local() && !state.is_locked() {
            tracing::warn!(job = %self.id, "the destination's file system has no locks: let nothing else write there");
        }
        Ok(Place { source, outputs, state, suspects: InFlight::default() })
    }

    async fn make_plan(&mut self, place: &Place) -> Result<(), JobError> {
        let (spec, state) = (Arc::clone(&self.spec), &place.state);
        let filter = Filter::new(&spec.include, &spec.exclude)?;
        let mut claims = self.claims(&place.outputs).await?;
        let mut plan = self.plan.clone();
        let after = Key::new(plan.last_input.clone()).ok();
        let entries = place.source.plan(
            &place.outputs,
            &spec,
            state.recipe_digest(),
            state.history(),
            &filter,
            after.as_ref(),
        );
        let mut entries = pin!(entries.ready_chunks(ENTRIES_AT_ONCE));
        let mut cutter = EntryCutter::new(self.parts.shard_limits);
        // Each in a shard of its own, after all others.
        let mut held_back = Vec::new();
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.stop_planning.cancelled() => return Ok(()),
                chunk = entries.next() => chunk,
            };
            let mut cut = Vec::new();
            plan.done = chunk.is_none();
            for entry in chunk.unwrap_or_default() {
                match suspected(claimed(entry?, claims.as_mut(), &spec), &place.suspects, &spec) {
                    Ok(entry) => cut.extend(cutter.push(entry)),
                    Err(suspect) => held_back.push(vec![suspect]),
                }
            }
            if plan.done {
                cut.extend(cutter.finish());
                cut.append(&mut held_back);
            }
            let mut shards = Vec::with_capacity(cut.len());
            for entries in cut {
                let shard = ShardId::new(plan.shards);
                plan.shards += 1;
                shards.push((shard, shard_row(entries, &mut plan)));
            }
            if shards.is_empty() && !plan.done {
                continue;
            }
            let (answer, durable) = oneshot::channel();
            let command = Command::Planned { job: self.id, shards, plan: plan.clone(), answer };
            // Without an answer the job is over, or the process is.
            if self.commands.send(command).await.is_err() || durable.await.is_err() || plan.done {
                return Ok(());
            }
        }
    }

    /// Outputs that shards in the ledger have claimed, if the destination may take two of them for one.
    async fn claims(&self, outputs: &Store) -> Result<Option<OutputClaims>, JobError> {
        if !outputs.folds_case(&layout::lock_key()).await? {
            return Ok(None);
        }
        let mut claims = OutputClaims::default();
        if self.plan.shards > 0 {
            let prefix = rows::shards(self.id);
            let mut shards = self.ledger.scan(&prefix, None);
            while let Some((key, bytes)) = shards.try_next().await? {
                for item in rows::read::<ShardRow>(&key, &bytes)?.items {
                    if let Ok(output) = Key::new(item.output) {
                        claims.claim(&output);
                    }
                }
            }
        }
        Ok(Some(claims))
    }

    async fn write_end(&self, place: &Place, phase: Phase) -> Result<Reported, JobError> {
        let mut lines = Vec::new();
        let [mut done, mut with_notes, mut skipped, mut quarantined] = [0; 4];
        let prefix = rows::shards(self.id);
        let state = &place.state;
        let mut shards = pin!(
            self.ledger
                .scan(&prefix, None)
                .map_err(JobError::from)
                .map(|row| async {
                    let (key, bytes) = row?;
                    let row = rows::read::<ShardRow>(&key, &bytes)?;
                    self.records_of(state, ShardId::new(rows::last_number(&key)?), row).await
                })
                .buffered(READS_AT_ONCE)
        );
        while let Some(records) = shards.try_next().await? {
            for record in records {
                match record.status {
                    ItemStatus::Ok => {
                        done += 1;
                        with_notes += u64::from(!record.notes.is_empty());
                    }
                    ItemStatus::Skipped => skipped += 1,
                    ItemStatus::Quarantined => quarantined += 1,
                }
                report::push_line(&mut lines, &self.spec.source, &record);
            }
        }
        state.write_report(lines).await?;
        if phase == Phase::Succeeded {
            state.write_success(done, skipped, quarantined).await?;
        }
        Ok(Reported { done, with_notes, quarantined })
    }

    /// Verdicts of a shard's entries in input order: those of planning, and those of its manifest. Of a shard that is
    /// not recorded, the verdicts that its workers gave back become the manifest: what is finished is not computed
    /// again.
    async fn records_of(
        &self,
        state: &JobState,
        shard: ShardId,
        row: ShardRow,
    ) -> Result<Vec<ItemRecord>, JobError> {
        let mut records = Vec::with_capacity(row.items.len() + row.settled.len());
        for settled in &row.settled {
            if let Ok(record) = ItemRecord::try_from(&settled.record) {
                records.push((settled.place, record));
            }
        }
        let computed = match row.items.is_empty() {
            true => Vec::new(),
            false => self.computed(state, shard).await?,
        };
        for record in computed {
            if let Some(item) = row.items.iter().find(|item| item.input == record.input) {
                records.push((item.place, record));
            }
        }
        records.sort_by_key(|(place, _)| *place);
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    async fn computed(&self, state: &JobState, shard: ShardId) -> Result<Vec<ItemRecord>, JobError> {
        let key = rows::done(self.id, shard);
        if let Some(bytes) = self.ledger.get(&key).await? {
            let recorded = rows::read::<DoneRow>(&key, &bytes)?.manifest_sha256;
            return Ok(state.read_recorded(shard, &recorded).await?.items);
        }
        let key = rows::attempts(self.id, shard);
        let Some(bytes) = self.ledger.get(&key).await? else { return Ok(Vec::new()) };
        let open = rows::open_shard(rows::read(&key, &bytes)?);
        let records: Vec<_> =
            open.records.iter().filter_map(|bytes| ItemRecord::try_from(bytes).ok()).collect();
        if records.is_empty() {
            return Ok(records);
        }
        state.record_shard(shard, records).await
    }
}

/// The entry, unless an earlier input has its output. What lies there already, finished, stays what it is.
fn claimed(planned: Planned, claims: Option<&mut OutputClaims>, spec: &UpscaleSpec) -> Entry {
    let claim = |output: &Key| claims.is_none_or(|claims| claims.claim(output));
    match planned {
        Planned::Settled(record) => Entry::Settled(record),
        Planned::Finished(record) => {
            record.output.as_ref().map(claim);
            Entry::Settled(record)
        }
        Planned::Compute(item) if claim(&item.output) => Entry::Item(item),
        Planned::Compute(item) => {
            let reason = format!(
                "its result would be one file with that of another input, because DST does not tell such names apart \
                 (capitals, dots at the end): rename `{}`, or choose another destination",
                item.input
            );
            let status = ItemStatus::Quarantined;
            Entry::Settled(Box::new(ItemRecord::without_result(
                item.input.as_str(),
                None,
                status,
                reason,
                &spec.recipe,
            )))
        }
    }
}

/// The entry, unless it took an earlier process down: then, as an error, to be held back, or with its verdict.
fn suspected(entry: Entry, suspects: &InFlight, spec: &UpscaleSpec) -> Result<Entry, Entry> {
    let Entry::Item(item) = &entry else { return Ok(entry) };
    match suspects.against(item.input.as_str(), item.input_etag.as_deref()) {
        Suspicion::None => Ok(entry),
        Suspicion::Once => Err(entry),
        Suspicion::Twice(reason) => Ok(Entry::Settled(Box::new(ItemRecord::without_result(
            item.input.as_str(),
            Some(item.output.clone()),
            ItemStatus::Quarantined,
            reason,
            &spec.recipe,
        )))),
    }
}

/// The row of a shard; its numbers are added to the plan's.
fn shard_row(entries: Vec<Entry>, plan: &mut PlanRow) -> ShardRow {
    let mut row = ShardRow::default();
    for (place, entry) in (0..).zip(entries) {
        plan.planned += 1;
        match entry {
            Entry::Item(item) => {
                plan.work += item.input_bytes;
                plan.last_input = item.input.to_string();
                row.items.push(rows::item_row(place, item));
            }
            Entry::Settled(record) => {
                match record.status {
                    ItemStatus::Quarantined => plan.quarantined += 1,
                    ItemStatus::Ok | ItemStatus::Skipped => plan.skipped += 1,
                }
                // A name that is not UTF-8 is shown with replacements: no listing can go on after that.
                if !record.input.contains(char::REPLACEMENT_CHARACTER) {
                    plan.last_input.clone_from(&record.input);
                }
                row.settled.push(rows::settled_row(place, Bytes::from(&*record)));
            }
        }
    }
    row
}
