//! A job that measures: plans its units, and writes its numbers.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use sr3_coordinator::{
    JobError,
    core::view::Phase,
    kind::{Begun, Check, Doubt, EndedUnit, Outcome, Planned, Reported, SoFar},
};
use sr3_proto::{
    Key, RunId, Store, StoreError, UnitId,
    session::UnitResult,
    store::{ObjectInfo, PutMode},
};

use super::{
    EvaluateOrder, Metric, Row,
    item::{self, Item},
    report::{Report, csv_key, rows_key, summary_key},
    runner::record,
};
use crate::{
    cut::{Cutter, UnitLimits},
    images::{Found, GlobError, Partners, Selected, Source},
    models::Known,
};

/// So many results are looked for at a time.
const LOOKS_AT_ONCE: usize = 16;

/// A job's stores.
pub struct EvaluateJob {
    /// What pictures should be: those of the reference, or of the source where there is none.
    truths: Source,
    /// What is measured; none where it is made.
    results: Option<Partners>,
    /// Where the numbers go.
    numbers: Store,
    metrics: Vec<Metric>,
    networks: Vec<Known>,
    selected: Selected,
    limits: UnitLimits,
}

/// An entry on its way into a unit.
enum Entry {
    /// To be measured.
    Item(ObjectInfo, Option<ObjectInfo>),
    /// Set aside.
    Bad(Row),
    /// No picture.
    Other(String),
}

impl EvaluateJob {
    /// With the stores of the order's places; `numbers` may be in memory.
    ///
    /// # Errors
    /// A glob of its order is none.
    pub fn new(
        order: &EvaluateOrder,
        source: Store,
        reference: Option<Store>,
        numbers: Store,
        limits: UnitLimits,
    ) -> Result<Self, GlobError> {
        let selected = Selected::new(&order.selection)?;
        let (truths, results) = match reference {
            Some(reference) => (reference, Some(Partners::mirrored(source))),
            None => (source, None),
        };
        let (metrics, networks) = (order.metrics.clone(), order.networks.clone());
        Ok(Self { truths: Source::All(truths), results, numbers, metrics, networks, selected, limits })
    }

    async fn entry(&self, found: Found) -> Result<Entry, StoreError> {
        let truth = match found {
            Found::Image(info) => info,
            Found::Shard(info) => return Ok(Entry::Other(info.key.to_string())),
            Found::Other { path, .. } => return Ok(Entry::Other(path)),
            Found::Bad { path, what } => return Ok(Entry::Bad(Row::set_aside(path, what))),
        };
        let Some(results) = &self.results else { return Ok(Entry::Item(truth, None)) };
        Ok(match results.find(&truth.key).await? {
            Some(result) => Entry::Item(truth, Some(result)),
            None => Entry::Bad(Row::set_aside(truth.key.as_str(), "the source has no picture of this name")),
        })
    }

    fn entries(&self, after: Option<&Key>) -> impl Stream<Item = Result<Entry, StoreError>> + Send + '_ {
        self.truths
            .find(&self.selected, after)
            .map(move |found| async move { self.entry(found?).await })
            .buffered(LOOKS_AT_ONCE)
    }
}

#[async_trait]
impl Begun for EvaluateJob {
    fn run(&self) -> RunId {
        RunId::new(1)
    }

    fn check(&self) -> Arc<dyn Check> {
        Arc::new(RowsCheck)
    }

    fn plan<'a>(&'a self, _: u32, so_far: SoFar<'a>) -> BoxStream<'a, Result<Planned, JobError>> {
        let after = Key::new(so_far.cursor).ok();
        let planning = Planning {
            entries: self.entries(after.as_ref()).boxed(),
            cutter: Cutter::new(self.limits),
            cut: VecDeque::new(),
            is_over: false,
        };
        stream::try_unfold(planning, |mut planning| async move {
            Ok(planning.next().await?.map(|unit| (unit, planning)))
        })
        .boxed()
    }

    async fn end<'a>(
        &'a self,
        phase: Phase,
        mut units: BoxStream<'a, Result<EndedUnit, JobError>>,
    ) -> Result<Reported, JobError> {
        let (mut report, mut said) = (Report::new(&self.metrics, &self.networks), Reported::default());
        while let Some(unit) = units.try_next().await? {
            for row in rows_of(&unit)? {
                said.done += u64::from(row.reason.is_none());
                said.quarantined += u64::from(row.reason.is_some());
                report.add(&row);
            }
        }
        let (rows, csv) = (std::mem::take(&mut report.rows), std::mem::take(&mut report.csv));
        // Strings and numbers always have a JSON form.
        said.summary = serde_json::to_string(&report.summary()).unwrap_or_default();
        self.numbers.put(&rows_key(), rows.into(), PutMode::Replace).await?;
        self.numbers.put(&csv_key(), csv.into(), PutMode::Replace).await?;
        // Last: where it lies, the others are whole.
        if phase == Phase::Succeeded {
            let summary = format!("{}\n", said.summary);
            self.numbers.put(&summary_key(), summary.into(), PutMode::Replace).await?;
        } else {
            self.numbers.delete(&summary_key()).await?;
        }
        Ok(said)
    }
}

/// Looks whether a worker's result is a row for each picture of the unit.
struct RowsCheck;

#[async_trait]
impl Check for RowsCheck {
    async fn check(&self, id: UnitId, unit: &Bytes, said: &UnitResult) -> Result<(), Doubt> {
        let items = item::from_bytes(unit).map_err(|e| Doubt::Unknown(e.to_string()))?;
        let rows = serde_json::from_slice::<Vec<(u32, Row)>>(&said.payload)
            .map_err(|e| Doubt::False(format!("rows of unit {id} cannot be read: {e}")))?;
        let mut asked: Vec<u32> = items.iter().map(|item| item.place).collect();
        let mut answered: Vec<u32> = rows.iter().map(|(place, _)| *place).collect();
        asked.sort_unstable();
        answered.sort_unstable();
        let bad = rows.iter().filter(|(_, row)| row.reason.is_some()).count() as u64;
        if asked != answered || bad != said.quarantined {
            return Err(Doubt::False(format!("the rows are not those of unit {id}")));
        }
        Ok(())
    }
}

/// Rows of a unit in order: those of planning, and those that were measured.
fn rows_of(unit: &EndedUnit) -> Result<Vec<Row>, JobError> {
    let wrong =
        |e: serde_json::Error| JobError::Kind(format!("rows of unit {} cannot be read: {e}", unit.id).into());
    let read = |bytes: &[u8]| serde_json::from_slice::<Vec<(u32, Row)>>(bytes).map_err(wrong);
    let mut rows = if unit.at_end.is_empty() { Vec::new() } else { read(&unit.at_end)? };
    match &unit.outcome {
        Outcome::Recorded(payload) => rows.extend(read(payload)?),
        Outcome::Open(records) => {
            rows.extend(records.iter().filter_map(|bytes| serde_json::from_slice::<(u32, Row)>(bytes).ok()));
        }
    }
    rows.sort_by_key(|(place, _)| *place);
    rows.dedup_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Planning under way.
struct Planning<'a> {
    entries: BoxStream<'a, Result<Entry, StoreError>>,
    cutter: Cutter<Entry>,
    cut: VecDeque<Vec<Entry>>,
    is_over: bool,
}

impl Planning<'_> {
    async fn next(&mut self) -> Result<Option<Planned>, JobError> {
        loop {
            if let Some(entries) = self.cut.pop_front() {
                return Ok(Some(unit(entries)));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.entries.try_next().await? {
                Some(entry) => {
                    let bytes = match &entry {
                        Entry::Item(truth, result) => {
                            Some(truth.bytes + result.as_ref().map_or(0, |result| result.bytes))
                        }
                        Entry::Bad(_) | Entry::Other(_) => None,
                    };
                    self.cut.extend(self.cutter.push(entry, bytes));
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
fn unit(entries: Vec<Entry>) -> Planned {
    let (mut planned, mut items, mut settled) = (Planned::default(), Vec::new(), Vec::new());
    for (place, entry) in (0..).zip(entries) {
        planned.planned += 1;
        let path = match &entry {
            Entry::Item(truth, _) => truth.key.to_string(),
            Entry::Bad(row) => row.picture.clone(),
            Entry::Other(path) => path.clone(),
        };
        // A name that is not UTF-8 is shown with replacements: no listing can go on after that.
        if !path.contains(char::REPLACEMENT_CHARACTER) {
            planned.cursor = path;
        }
        match entry {
            Entry::Item(truth, result) => {
                planned.items += 1;
                planned.work += truth.bytes;
                items.push(Item { place, truth, result });
            }
            Entry::Bad(row) => {
                planned.quarantined += 1;
                settled.push((place, row));
            }
            Entry::Other(_) => planned.skipped += 1,
        }
    }
    planned.unit = item::to_bytes(&items);
    if !settled.is_empty() {
        planned.at_end = serde_json::to_vec(&settled).unwrap_or_default().into();
    }
    planned
}

/// A verdict for an item that took its workers down.
pub(super) fn set_aside(item: &Item, reason: &str) -> sr3_coordinator::kind::SetAside {
    let name = item.truth.key.to_string();
    let record = record(item.place, &Row::set_aside(name.as_str(), reason));
    sr3_coordinator::kind::SetAside { item: name, record }
}
