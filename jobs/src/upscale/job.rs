//! A job that has its destination: plans its units, and writes its report.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use async_trait::async_trait;
use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use sr3_coordinator::{
    JobError,
    core::view::Phase,
    kind::{Begun, Check, EndedUnit, Outcome, Planned as PlannedUnit, Reported, SoFar},
};
use sr3_proto::{Key, RunId, Store, layout};

use super::{
    ItemRecord, ItemStatus, ItemTask, Items, Run, RunError, Settled,
    claims::OutputClaims,
    in_flight::{InFlight, Suspicion},
    manifest, report,
    scan::{Planned, Scan},
};
use crate::{
    cut::{Cutter, UnitLimits},
    images::{Partners, Selected, Source},
};

/// So many manifests are read at a time for the report.
const READS_AT_ONCE: usize = 32;

/// A job's stores, and its run at the destination, which it has taken.
#[derive(Debug)]
pub struct UpscaleJob {
    source: Source,
    /// What somebody else has made of the inputs, where no model enlarges.
    enlarged: Option<Partners>,
    outputs: Store,
    run: Run,
    /// What took an earlier process down here, for a job in one process.
    suspects: InFlight,
    selected: Selected,
    limits: UnitLimits,
}

/// An entry on its way into a unit.
enum Entry {
    /// To be computed.
    Item(Box<ItemTask>),
    /// Has its verdict.
    Settled(Box<ItemRecord>),
}

impl UpscaleJob {
    /// A job that has taken `run`.
    ///
    /// # Errors
    /// A glob of its order is none.
    pub fn new(
        source: Source,
        outputs: Store,
        run: Run,
        suspects: InFlight,
        limits: UnitLimits,
    ) -> Result<Self, RunError> {
        let selected = Selected::new(&run.order().selection())?;
        Ok(Self { source, enlarged: None, outputs, run, suspects, selected, limits })
    }

    /// With what somebody else has made of the inputs.
    #[must_use]
    pub fn with_enlarged(self, enlarged: Option<Partners>) -> Self {
        Self { enlarged, ..self }
    }

    /// Its run.
    pub fn state(&self) -> &Run {
        &self.run
    }

    async fn planning<'a>(
        &'a self,
        so_far: SoFar<'a>,
    ) -> Result<impl Stream<Item = Result<PlannedUnit, JobError>> + Send + 'a, JobError> {
        let after = Key::new(so_far.cursor.clone()).ok();
        let scan = Scan {
            source: &self.source,
            enlarged: self.enlarged.as_ref(),
            outputs: &self.outputs,
            order: self.run.order(),
            recipe: self.run.recipe_digest(),
            history: self.run.history(),
        };
        let planning = Planning {
            job: self,
            claims: self.claims(so_far).await?,
            entries: Box::pin(scan.plan(&self.selected, after.as_ref())),
            cutter: Cutter::new(self.limits),
            cut: VecDeque::new(),
            held_back: VecDeque::new(),
            is_over: false,
        };
        Ok(stream::try_unfold(planning, |mut planning| async move {
            Ok(planning.next().await?.map(|unit| (unit, planning)))
        }))
    }

    /// Outputs that planned units have claimed, if the destination may take two of them for one.
    async fn claims(&self, so_far: SoFar<'_>) -> Result<Option<OutputClaims>, JobError> {
        if !self.outputs.folds_case(&layout::lock_key()).await? {
            return Ok(None);
        }
        let (mut claims, mut units) = (OutputClaims::default(), so_far.units);
        while let Some(unit) = units.try_next().await? {
            for (_, item) in Items::from_bytes(&unit.unit).map_err(RunError::from)?.0 {
                claims.claim(&item.output);
            }
        }
        Ok(Some(claims))
    }

    /// The entry, unless an earlier input has its output. What lies there already, finished, stays what it is.
    fn claimed(&self, planned: Planned, claims: Option<&mut OutputClaims>) -> Entry {
        let claim = |output: &Key| claims.is_none_or(|claims| claims.claim(output));
        match planned {
            Planned::Settled(record) => Entry::Settled(record),
            Planned::Finished(record) => {
                record.output.as_ref().map(claim);
                Entry::Settled(record)
            }
            Planned::Compute(item) if claim(&item.output) => Entry::Item(Box::new(item)),
            Planned::Compute(item) => {
                let reason = format!(
                    "its result would be one file with that of another input, because DST does not tell such names \
                     apart (capitals, dots at the end): rename `{}`, or choose another destination",
                    item.input
                );
                Entry::Settled(self.set_aside(&item, None, reason))
            }
        }
    }

    /// The entry, unless it took an earlier process down: then, as an error, to be held back, or with its verdict.
    fn suspected(&self, entry: Entry) -> Result<Entry, Entry> {
        let Entry::Item(item) = &entry else { return Ok(entry) };
        match self.suspects.against(item.input.as_str(), item.input_etag.as_deref()) {
            Suspicion::None => Ok(entry),
            Suspicion::Once => Err(entry),
            Suspicion::Twice(reason) => {
                Ok(Entry::Settled(self.set_aside(item, Some(item.output.clone()), reason)))
            }
        }
    }

    fn set_aside(&self, item: &ItemTask, output: Option<Key>, reason: String) -> Box<ItemRecord> {
        let (input, status) = (item.input.as_str(), ItemStatus::Quarantined);
        Box::new(ItemRecord::without_result(input, output, status, reason, &self.run.order().recipe))
    }

    /// Verdicts of a unit's entries in input order: those of planning, and those of its manifest. Of a unit that is
    /// not recorded, the verdicts that its workers gave back become the manifest: what is finished is not computed
    /// again.
    async fn records_of(&self, unit: EndedUnit) -> Result<Vec<ItemRecord>, RunError> {
        let items = Items::from_bytes(&unit.unit)?.0;
        let mut records = Settled::from_bytes(&unit.at_end)?.0;
        let computed = match unit.outcome {
            Outcome::Recorded(payload) => {
                self.run.read_recorded(unit.id, &manifest::recorded(&payload)?).await?.items
            }
            Outcome::Open(verdicts) => {
                let verdicts: Vec<_> =
                    verdicts.iter().filter_map(|bytes| ItemRecord::from_bytes(bytes).ok()).collect();
                match verdicts.is_empty() {
                    true => verdicts,
                    false => self.run.record_shard(unit.id, verdicts).await?,
                }
            }
        };
        for record in computed {
            if let Some((place, _)) = items.iter().find(|(_, item)| item.input.as_str() == record.input) {
                records.push((*place, record));
            }
        }
        records.sort_by_key(|(place, _)| *place);
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }
}

#[async_trait]
impl Begun for UpscaleJob {
    fn run(&self) -> RunId {
        self.run.id()
    }

    fn check(&self) -> Arc<dyn Check> {
        Arc::new(self.run.check())
    }

    fn plan<'a>(&'a self, _: u32, so_far: SoFar<'a>) -> BoxStream<'a, Result<PlannedUnit, JobError>> {
        stream::once(self.planning(so_far)).try_flatten().boxed()
    }

    async fn end<'a>(
        &'a self,
        phase: Phase,
        units: BoxStream<'a, Result<EndedUnit, JobError>>,
    ) -> Result<Reported, JobError> {
        let mut lines = Vec::new();
        let mut skipped = 0;
        let mut said = Reported::default();
        let records = units.map(|unit| async { Ok::<_, JobError>(self.records_of(unit?).await?) });
        let mut records = records.buffered(READS_AT_ONCE);
        while let Some(records) = records.try_next().await? {
            for record in records {
                match record.status {
                    ItemStatus::Ok => {
                        said.done += 1;
                        said.with_notes += u64::from(!record.notes.is_empty());
                    }
                    ItemStatus::Skipped => skipped += 1,
                    ItemStatus::Quarantined => said.quarantined += 1,
                }
                report::push_line(&mut lines, &self.run.order().source, &record);
            }
        }
        self.run.write_report(lines).await?;
        if phase == Phase::Succeeded {
            self.run.write_success(said.done, skipped, said.quarantined).await?;
        }
        Ok(said)
    }
}

/// Planning under way.
struct Planning<'a> {
    job: &'a UpscaleJob,
    claims: Option<OutputClaims>,
    entries: Pin<Box<dyn Stream<Item = Result<Planned, RunError>> + Send + 'a>>,
    cutter: Cutter<Entry>,
    cut: VecDeque<Vec<Entry>>,
    /// Each in a unit of its own, after all others.
    held_back: VecDeque<Vec<Entry>>,
    is_over: bool,
}

impl Planning<'_> {
    async fn next(&mut self) -> Result<Option<PlannedUnit>, RunError> {
        loop {
            if let Some(entries) = self.cut.pop_front() {
                return Ok(Some(unit(entries)));
            }
            if self.is_over {
                return Ok(self.held_back.pop_front().map(unit));
            }
            match self.entries.try_next().await? {
                Some(planned) => {
                    let entry = self.job.claimed(planned, self.claims.as_mut());
                    match self.job.suspected(entry) {
                        Ok(entry) => {
                            let bytes = match &entry {
                                Entry::Item(item) => Some(item.input_bytes),
                                Entry::Settled(_) => None,
                            };
                            self.cut.extend(self.cutter.push(entry, bytes));
                        }
                        Err(suspect) => self.held_back.push_back(vec![suspect]),
                    }
                }
                None => {
                    self.is_over = true;
                    self.cut.extend(self.cutter.finish());
                }
            }
        }
    }
}

/// A unit of these entries.
fn unit(entries: Vec<Entry>) -> PlannedUnit {
    let mut planned = PlannedUnit::default();
    let (mut items, mut settled) = (Items::default(), Settled::default());
    for (place, entry) in (0..).zip(entries) {
        planned.planned += 1;
        match entry {
            Entry::Item(item) => {
                planned.items += 1;
                planned.work += item.input_bytes;
                planned.cursor = item.input.to_string();
                items.0.push((place, *item));
            }
            Entry::Settled(record) => {
                match record.status {
                    ItemStatus::Quarantined => planned.quarantined += 1,
                    ItemStatus::Ok | ItemStatus::Skipped => planned.skipped += 1,
                }
                // A name that is not UTF-8 is shown with replacements: no listing can go on after that.
                if !record.input.contains(char::REPLACEMENT_CHARACTER) {
                    planned.cursor.clone_from(&record.input);
                }
                settled.0.push((place, *record));
            }
        }
    }
    planned.unit = items.to_bytes();
    planned.at_end = settled.to_bytes();
    planned
}

impl From<RunError> for JobError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Store(error) => Self::Store(error),
            other => Self::Kind(other.into()),
        }
    }
}
