//! A comparing job as the coordinator sees it: pictures to be looked at, then one unit of numbers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use sr3_coordinator::{
    JobError,
    core::view::Phase,
    kind::{Begun, Check, Doubt, EndedUnit, Outcome, Planned, Reported, SetAside, SoFar},
};
use sr3_proto::{Digest, RunId, Store, UnitId, session::UnitResult, store::PutMode, words::printable};

use super::{
    CompareOrder, left_out_key,
    numbers::Came,
    numbers_key,
    order::Keeps,
    part::{self, Part},
    plan::{self, PlannedSet, Progress},
    set::{Listing, RunFile, RunSet, SetFile},
    unit::{AtEnd, FoundSet, Item, Looked, UnitBytes, Verdict, What, open_items, record, verdicts},
};
use crate::images::Selected;

/// The stages.
const LOOK: u32 = 0;
const STAGES: u32 = 2;

/// A job's stores.
pub struct CompareJob {
    order: CompareOrder,
    sets: Vec<PlannedSet>,
    /// Where features go.
    features: Store,
    /// Where numbers go, if they are written.
    numbers: Option<Store>,
    selected: Selected,
}

impl CompareJob {
    /// With the stores of the order's sets, each once; `features` may be in memory.
    ///
    /// # Errors
    /// A glob of its order is none, or a place.
    pub fn new(
        order: &CompareOrder,
        stores: &[Store],
        features: Store,
        numbers: Option<Store>,
    ) -> Result<Self, String> {
        let selected = Selected::new(&order.selection).map_err(|e| e.to_string())?;
        Ok(Self { order: order.clone(), sets: plan::sets(order, stores)?, features, numbers, selected })
    }

    /// The units that look at pictures, set after set.
    fn looks(&self, cursor: &str) -> BoxStream<'_, Result<Planned, JobError>> {
        let (first, so_far) = match cursor.split_once(':') {
            Some((number, rest)) => (number.parse().unwrap_or(0), Some(Progress::read(rest))),
            None => (0usize, None),
        };
        let mut so_far = so_far;
        let sets: Vec<_> = self.sets.iter().skip(first).collect();
        let progress: Vec<Progress> = sets.iter().map(|_| so_far.take().unwrap_or(Progress::None)).collect();
        stream::iter(sets.into_iter().zip(progress).map(Ok::<_, JobError>))
            .map_ok(|(set, progress)| set.units(&self.order, &self.selected, &self.features, progress))
            .try_flatten()
            .boxed()
    }

    /// What would be looked at of each set, in the order of the sets. Changes nothing anywhere.
    ///
    /// # Errors
    /// A set cannot be listed, or compared with.
    pub async fn forecast(&self) -> Result<Vec<PlannedLooks>, JobError> {
        let mut sets: Vec<PlannedLooks> = self.order.sets().into_iter().map(PlannedLooks::new).collect();
        let mut planned = self.looks("");
        while let Some(unit) = planned.try_next().await? {
            let at_end = serde_json::from_slice::<AtEnd>(&unit.at_end).unwrap_or_default();
            let Some(set) = sets.get_mut(at_end.set as usize) else { continue };
            set.is_known |= at_end.found.is_some_and(|found| found != FoundSet::New);
            set.images += u64::from(unit.items);
            set.units += u64::from(unit.items > 0);
        }
        Ok(sets)
    }

    /// The unit of numbers: all sets are there.
    async fn numbers(&self, units: BoxStream<'_, Result<EndedUnit, JobError>>) -> Result<Planned, JobError> {
        let mut run = Vec::new();
        for (written, gathered) in self.order.sets().into_iter().zip(self.gather(units).await?) {
            let Gathered { found, file, listing } = gathered;
            run.push(match found {
                Some(FoundSet::Statistics) => RunSet::Statistics,
                Some(FoundSet::Known { listing }) => match SetFile::find(&self.features, &listing).await? {
                    Some(file) => RunSet::Features(file),
                    None => {
                        return Err(wrong(format!(
                            "features of `{}` were removed while the job ran: run it again",
                            printable(written)
                        )));
                    }
                },
                Some(FoundSet::New) | None => {
                    if file.images() == 0 {
                        let why = file
                            .left_out
                            .first()
                            .map_or(String::new(), |(name, why)| format!(", the first: {name}: {why}"));
                        let (count, place) = (file.left_out.len(), printable(written));
                        return Err(wrong(format!(
                            "`{place}` has no picture that can be read: {count} were left out{why}"
                        )));
                    }
                    if let Some(listing) = listing.digest() {
                        file.write(&self.features, &listing).await?;
                    }
                    RunSet::Features(file)
                }
            });
        }
        let run = RunFile(run).write(&self.features).await?;
        Ok(Planned {
            unit: UnitBytes::Numbers { run }.encode(),
            items: 1,
            work: 1,
            cursor: "numbers".into(),
            ..Planned::default()
        })
    }

    /// What came of the first stage, set by set.
    async fn gather(
        &self,
        mut units: BoxStream<'_, Result<EndedUnit, JobError>>,
    ) -> Result<Vec<Gathered>, JobError> {
        let mut sets: Vec<Gathered> = self.sets.iter().map(|_| Gathered::new(&self.order)).collect();
        while let Some(unit) = units.try_next().await? {
            let Ok(at_end) = serde_json::from_slice::<AtEnd>(&unit.at_end) else { continue };
            let Some(set) = sets.get_mut(at_end.set as usize) else { continue };
            set.found = at_end.found.or(set.found.take());
            for (name, reason) in at_end.left_out {
                set.listing.bad(&name, &reason);
                set.file.left_out.push((name, reason));
            }
            if unit.items == 0 {
                continue;
            }
            if let Ok(UnitBytes::Look { items, .. }) = UnitBytes::decode(&unit.unit) {
                items.iter().for_each(|item| set.listing.item(item));
            }
            if let Outcome::Recorded(payload) = &unit.outcome
                && let Ok(Looked { parts, left_out }) = serde_json::from_slice::<Looked>(payload)
            {
                set.file.parts.extend(parts);
                set.file.left_out.extend(left_out);
            }
        }
        Ok(sets)
    }
}

/// What would be looked at of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLooks {
    /// Where it lies, as the user named it.
    pub place: String,
    /// Pictures; an archive in a folder counts as one, since nobody has looked into it.
    pub images: u64,
    /// In so many units.
    pub units: u64,
    /// Whether nothing needs to be looked at: its features or its statistics are there.
    pub is_known: bool,
}

impl PlannedLooks {
    fn new(place: &str) -> Self {
        Self { place: place.to_string(), images: 0, units: 0, is_known: false }
    }
}

/// A set as its units tell it.
struct Gathered {
    found: Option<FoundSet>,
    file: SetFile,
    listing: Listing,
}

impl Gathered {
    fn new(order: &CompareOrder) -> Self {
        let file = SetFile::new(Vec::new(), Vec::new());
        Self { found: None, file, listing: Listing::new(&order.looks()) }
    }
}

fn wrong(text: String) -> JobError {
    JobError::Kind(text.into())
}

#[async_trait]
impl Begun for CompareJob {
    fn run(&self) -> RunId {
        RunId::new(1)
    }

    fn check(&self) -> Arc<dyn Check> {
        Arc::new(CompareCheck { features: self.features.clone(), keeps: self.order.keeps() })
    }

    fn stages(&self) -> u32 {
        STAGES
    }

    fn plan<'a>(&'a self, stage: u32, so_far: SoFar<'a>) -> BoxStream<'a, Result<Planned, JobError>> {
        if stage == LOOK {
            return self.looks(&so_far.cursor);
        }
        if !so_far.cursor.is_empty() {
            return stream::empty().boxed();
        }
        stream::once(async move { self.numbers(so_far.units).await }).boxed()
    }

    async fn end<'a>(
        &'a self,
        phase: Phase,
        mut units: BoxStream<'a, Result<EndedUnit, JobError>>,
    ) -> Result<Reported, JobError> {
        let (mut said, mut came, mut run) = (Reported::default(), None, None);
        while let Some(unit) = units.try_next().await? {
            let at_end = serde_json::from_slice::<AtEnd>(&unit.at_end).unwrap_or_default();
            said.quarantined += at_end.left_out.len() as u64;
            if unit.items == 0 {
                continue;
            }
            let Outcome::Recorded(payload) = &unit.outcome else { continue };
            if let Ok(Looked { parts, left_out }) = serde_json::from_slice::<Looked>(payload) {
                said.done += parts.iter().map(|part| part.images).sum::<u64>();
                said.quarantined += left_out.len() as u64;
            } else if let Some(found) = Came::read(payload) {
                came = Some(found);
                run = UnitBytes::decode(&unit.unit).ok();
            }
        }
        if let Some(Came::Nothing { reason }) = came {
            return Err(wrong(reason));
        }
        if let Some(Came::Numbers(compared)) = &came {
            // Strings and numbers always have a JSON form.
            said.summary = serde_json::to_string(compared).unwrap_or_default();
        }
        let Some(numbers) = &self.numbers else { return Ok(said) };
        if let (Phase::Succeeded, Some(UnitBytes::Numbers { run })) = (phase, run) {
            let lines = self.left_out(&run).await?;
            numbers.put(&left_out_key(), lines.into(), PutMode::Replace).await?;
            // Last: where it lies, the other is whole.
            let text = format!("{}\n", said.summary);
            numbers.put(&numbers_key(), text.into(), PutMode::Replace).await?;
        } else {
            numbers.delete(&numbers_key()).await?;
        }
        Ok(said)
    }
}

impl CompareJob {
    /// A line for each picture that was left out.
    async fn left_out(&self, run: &Digest) -> Result<Vec<u8>, JobError> {
        let RunFile(run) = RunFile::read(&self.features, run).await.map_err(wrong)?;
        let mut lines = Vec::new();
        for (place, set) in self.order.sets().into_iter().zip(run) {
            let RunSet::Features(file) = set else { continue };
            for (name, reason) in file.left_out {
                let line = serde_json::json!({ "set": place, "name": name, "reason": reason });
                lines.extend_from_slice(format!("{line}\n").as_bytes());
            }
        }
        Ok(lines)
    }
}

/// Looks whether a unit's features lie where they must.
struct CompareCheck {
    features: Store,
    keeps: Keeps,
}

#[async_trait]
impl Check for CompareCheck {
    async fn check(&self, id: UnitId, unit: &Bytes, said: &UnitResult) -> Result<(), Doubt> {
        let unit = UnitBytes::decode(unit).map_err(|e| Doubt::Unknown(e.reason))?;
        let not_so = |what: String| Doubt::False(format!("unit {id}: {what}"));
        match unit {
            UnitBytes::Numbers { .. } => match Came::read(&said.payload) {
                Some(_) => Ok(()),
                None => Err(not_so("its numbers cannot be read".into())),
            },
            UnitBytes::Look { items, .. } => {
                let looked: Looked = serde_json::from_slice(&said.payload)
                    .map_err(|_| not_so("what came of its pictures cannot be read".into()))?;
                if looked.parts.is_empty() && said.done > 0 {
                    return Err(not_so("it names no features".into()));
                }
                // One is read; all are when numbers are computed of them.
                if let Some(part) = looked.parts.first() {
                    self.read(part).await.map_err(not_so)?;
                }
                let is_shard = |item: &Item| item.what == What::Shard;
                let images: u64 = looked.parts.iter().map(|part| part.images).sum();
                // Nobody but its worker has looked into an archive.
                match images == said.done || items.iter().any(is_shard) {
                    true => Ok(()),
                    false => Err(not_so(format!("features of {images} pictures, and it did {}", said.done))),
                }
            }
        }
    }
}

impl CompareCheck {
    async fn read(&self, part: &Part) -> Result<(), String> {
        part::read(&self.features, part, self.keeps).await.map(drop)
    }
}

/// The verdict of the first item without one.
pub(super) fn set_aside(unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
    let (item, record) = match UnitBytes::decode(unit).ok()? {
        UnitBytes::Look { items, .. } => {
            let (place, item) = open_items(items, &verdicts(records)).into_iter().next()?;
            let name = item.name();
            (name.clone(), record(vec![Verdict::bad(place, name, reason.to_string())]))
        }
        UnitBytes::Numbers { .. } if records.is_empty() => {
            ("numbers".to_string(), Came::Nothing { reason: reason.to_string() }.record())
        }
        UnitBytes::Numbers { .. } => return None,
    };
    Some(SetAside { item, record })
}
