//! A training job as the coordinator sees it: a survey of its pictures, then the seats of its gang.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};
use sr3_coordinator::{
    JobError,
    core::view::Phase,
    kind::{Begun, Check, Doubt, EndedUnit, Outcome, Planned, Reported, Seat, SoFar},
};
use sr3_proto::{Digest, Key, RunId, Store, UnitId, session::UnitResult, store::PutMode};

use super::{
    index::{self, IndexFile, Part},
    labels,
    order::TrainOrder,
    survey::{Item, Surveyed, UnitBytes},
};
use crate::{
    cut::{Cutter, UnitLimits},
    images::{Found, GlobError, Selected, Source},
};

/// The stages.
const SURVEY: u32 = 0;
const STAGES: u32 = 2;
/// A picture is read and decoded: a few hundred make a unit of some seconds.
const LIMITS: UnitLimits = UnitLimits { items_max: 1024, weight_max: 32 << 20, item_weight: 64 << 10 };
/// Where it stands what was left out, and why.
const LEFT_OUT: &str = "index/left-out.jsonl";
/// So many labels are shown where they are not as many as was said.
const LABELS_SHOWN: usize = 10;
/// So many reasons are written down.
const LEFT_OUT_MAX: usize = 100_000;

/// What came of a run: what its seats report, and the job's summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// Steps of the run.
    pub step: u64,
    /// Samples of the run.
    pub samples: u64,
    /// sha256 of the weights: equal for equal runs.
    pub weights_sha256: String,
    /// Where the last checkpoint lies at the destination.
    pub checkpoint: String,
}

/// A job's stores.
pub(super) struct TrainJob {
    order: Arc<TrainOrder>,
    source: Source,
    validation: Option<Source>,
    destination: Store,
    selected: Selected,
}

impl TrainJob {
    /// With the stores of the order's places.
    pub(super) fn new(
        order: Arc<TrainOrder>,
        source: Store,
        validation: Option<Store>,
        destination: Store,
    ) -> Result<Self, GlobError> {
        let selected = Selected::new(&order.recipe.selection)?;
        let validation = validation.map(Source::All);
        Ok(Self { order, source: Source::All(source), validation, destination, selected })
    }

    /// The units of the survey: none where the index lies there already.
    fn survey<'a>(&'a self, cursor: String) -> BoxStream<'a, Result<Planned, JobError>> {
        let begin = async move {
            if let Some(file) = IndexFile::find(&self.destination).await.map_err(wrong)? {
                if file.recipe != self.order.recipe.digest() {
                    return Err(another_run(&self.order.destination));
                }
                return Ok(stream::empty().boxed());
            }
            // The cursor says of which source its key is.
            let (of_validation, after) = match cursor.split_once(':') {
                Some(("v", after)) => (true, Key::new(after).ok()),
                Some((_, after)) => (false, Key::new(after).ok()),
                None => (false, None),
            };
            let learned = match of_validation {
                true => stream::empty().boxed(),
                false => self.units(&self.source, false, after.as_ref()),
            };
            let held_out = match &self.validation {
                Some(source) => self.units(source, true, after.as_ref().filter(|_| of_validation)),
                None => stream::empty().boxed(),
            };
            Ok(learned.chain(held_out).boxed())
        };
        stream::once(begin).try_flatten().boxed()
    }

    fn units<'a>(
        &'a self,
        source: &'a Source,
        held_out: bool,
        after: Option<&Key>,
    ) -> BoxStream<'a, Result<Planned, JobError>> {
        let planning = Planning {
            entries: source.find(&self.selected, after).map_err(JobError::from).boxed(),
            held_out,
            cutter: Cutter::new(LIMITS),
            cut: VecDeque::new(),
            is_over: false,
        };
        stream::try_unfold(planning, |mut planning| async move {
            Ok(planning.next().await?.map(|unit| (unit, planning)))
        })
        .boxed()
    }

    /// The index, written, and the seats that rest on it.
    async fn seats(
        &self,
        mut units: BoxStream<'_, Result<EndedUnit, JobError>>,
    ) -> Result<Vec<Planned>, JobError> {
        let file = match IndexFile::find(&self.destination).await.map_err(wrong)? {
            Some(file) if file.recipe == self.order.recipe.digest() => file,
            Some(_) => return Err(another_run(&self.order.destination)),
            None => {
                let (mut parts, mut left_out, mut reasons) = (Vec::new(), 0, String::new());
                let mut classes = BTreeSet::new();
                while let Some(unit) = units.try_next().await? {
                    let Outcome::Recorded(payload) = &unit.outcome else { continue };
                    let Ok(surveyed) = serde_json::from_slice::<Surveyed>(payload) else { continue };
                    parts.push(surveyed.part);
                    classes.extend(surveyed.labels);
                    left_out += surveyed.left_out.len() as u64;
                    for reason in surveyed.left_out.iter().take(LEFT_OUT_MAX) {
                        reasons += &serde_json::to_string(reason).unwrap_or_default();
                        reasons.push('\n');
                    }
                }
                let file =
                    IndexFile::new(self.order.recipe.digest(), parts, left_out, labels::in_order(classes));
                self.destination.put(&index::key(LEFT_OUT), reasons.into(), PutMode::Replace).await?;
                file.write(&self.destination).await?;
                file
            }
        };
        self.check(&file)?;
        let [min, max] = self.order.workers;
        let min = u32::try_from(min).unwrap_or(u32::MAX);
        let seat = Planned {
            unit: UnitBytes::Seat { index: file.digest() }.encode(),
            items: 1,
            work: 1,
            seat: Some(Seat { min }),
            ..Planned::default()
        };
        Ok(vec![seat; max as usize])
    }

    fn check(&self, file: &IndexFile) -> Result<(), JobError> {
        let learned = file.learned();
        let fail = |text: String| Err(JobError::Kind(text.into()));
        if learned == 0 {
            let (source, least) = (&self.order.source, self.order.recipe.short_side_min);
            return fail(format!(
                "`{source}` has no picture to learn from: {} were left out (`{LEFT_OUT}` says why), sides of at least \
                 {least} pixels are needed",
                file.left_out
            ));
        }
        let (found, told) = (file.classes.len() as u64, self.order.recipe.classes);
        if found != told {
            let some: Vec<_> = file.classes.iter().take(LABELS_SHOWN).map(String::as_str).collect();
            let others = if file.classes.len() > LABELS_SHOWN { ", …" } else { "" };
            return fail(format!(
                "classes is {told}, and the pictures have {found} labels ({}{others}): say how many there are, and `labels` where \
                 they stand",
                some.join(", ")
            ));
        }
        if let Some(overfit) = self.order.recipe.overfit.filter(|n| *n > learned) {
            return fail(format!("overfit is {overfit}, and there are {learned} pictures to learn from"));
        }
        Ok(())
    }
}

fn another_run(destination: &str) -> JobError {
    let text = format!(
        "`{destination}` holds a run of another spec: choose another destination, or remove what lies there"
    );
    JobError::Kind(text.into())
}

fn wrong(error: impl ToString) -> JobError {
    JobError::Kind(error.to_string().into())
}

#[async_trait]
impl Begun for TrainJob {
    fn run(&self) -> RunId {
        RunId::new(1)
    }

    fn check(&self) -> Arc<dyn Check> {
        Arc::new(TrainCheck { destination: self.destination.clone() })
    }

    fn stages(&self) -> u32 {
        STAGES
    }

    fn plan<'a>(&'a self, stage: u32, so_far: SoFar<'a>) -> BoxStream<'a, Result<Planned, JobError>> {
        if stage == SURVEY {
            return self.survey(so_far.cursor);
        }
        let seats = async move {
            let seats = self.seats(so_far.units).await?;
            Ok::<_, JobError>(stream::iter(seats).map(Ok))
        };
        stream::once(seats).try_flatten().boxed()
    }

    async fn end<'a>(
        &'a self,
        _: Phase,
        mut units: BoxStream<'a, Result<EndedUnit, JobError>>,
    ) -> Result<Reported, JobError> {
        let mut said = Reported::default();
        while let Some(unit) = units.try_next().await? {
            let Outcome::Recorded(payload) = &unit.outcome else { continue };
            if let Ok(surveyed) = serde_json::from_slice::<Surveyed>(payload) {
                said.done += surveyed.part.learned + surveyed.part.held_out;
                said.quarantined += surveyed.left_out.len() as u64;
            } else if serde_json::from_slice::<Trained>(payload).is_ok() {
                said.summary = String::from_utf8_lossy(payload).into_owned();
            }
        }
        Ok(said)
    }
}

/// Looks whether a unit's part, or a run's last checkpoint, lies where it must.
struct TrainCheck {
    destination: Store,
}

#[async_trait]
impl Check for TrainCheck {
    async fn check(&self, id: UnitId, unit: &Bytes, said: &UnitResult) -> Result<(), Doubt> {
        let unit = UnitBytes::decode(unit).map_err(|e| Doubt::Unknown(e.reason))?;
        let false_said = |what: &str| Doubt::False(format!("unit {id}: {what}"));
        let unknown = |e: sr3_proto::StoreError| Doubt::Unknown(e.to_string());
        match unit {
            UnitBytes::Survey { items, .. } => {
                let surveyed: Surveyed = serde_json::from_slice(&said.payload)
                    .map_err(|_| false_said("what came of its pictures cannot be read"))?;
                let Part { key, sha256, learned, held_out } = &surveyed.part;
                let (_, bytes) = self.destination.get(key).await.map_err(unknown)?;
                let entries = index::decode_part(key, &bytes).map_err(|e| Doubt::Unknown(e.to_string()))?;
                let asked = |entry: &index::Entry| items.iter().any(|item| item.key == entry.key);
                let with_pictures: BTreeSet<&Key> = entries.iter().map(|entry| &entry.key).collect();
                let whole = *key == index::part_key(id)
                    && Digest::of(&bytes) == *sha256
                    && entries.len() as u64 == learned + held_out
                    && with_pictures.len() as u64 == said.done
                    && said.done + said.quarantined == items.len() as u64
                    && entries.iter().all(asked);
                if whole { Ok(()) } else { Err(false_said("the part is not one of its pictures")) }
            }
            UnitBytes::Seat { .. } => {
                let trained: Trained = serde_json::from_slice(&said.payload)
                    .map_err(|_| false_said("what came of the run cannot be read"))?;
                let manifest = super::checkpoint::find(&self.destination, trained.step).await;
                match manifest.map_err(|e| Doubt::Unknown(e.to_string()))? {
                    Some(found) if found.weights_sha256 == trained.weights_sha256 => Ok(()),
                    _ => Err(false_said("the last checkpoint is not there")),
                }
            }
        }
    }
}

/// Planning under way.
struct Planning<'a> {
    entries: BoxStream<'a, Result<Found, JobError>>,
    held_out: bool,
    cutter: Cutter<Entry>,
    cut: VecDeque<Vec<Entry>>,
    is_over: bool,
}

/// An entry on its way into a unit.
enum Entry {
    Item(Item),
    /// No picture.
    Other(String),
}

impl Planning<'_> {
    async fn next(&mut self) -> Result<Option<Planned>, JobError> {
        loop {
            if let Some(entries) = self.cut.pop_front() {
                return Ok(Some(self.unit(entries)));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.entries.try_next().await? {
                Some(Found::Image(info)) => self.push(Item::new(info, false)),
                Some(Found::Shard(info)) => self.push(Item::new(info, true)),
                Some(Found::Other { path, .. } | Found::Bad { path, .. }) => {
                    self.cut.extend(self.cutter.push(Entry::Other(path), None));
                }
                None => {
                    self.is_over = true;
                    self.cut.extend(self.cutter.finish());
                }
            }
        }
    }

    fn push(&mut self, item: Item) {
        let bytes = item.bytes;
        self.cut.extend(self.cutter.push(Entry::Item(item), Some(bytes)));
    }

    fn unit(&self, entries: Vec<Entry>) -> Planned {
        let (mut planned, mut items) = (Planned::default(), Vec::new());
        let source = if self.held_out { "v" } else { "l" };
        for entry in entries {
            planned.planned += 1;
            let path = match &entry {
                Entry::Item(item) => item.key.to_string(),
                Entry::Other(path) => path.clone(),
            };
            // A name that is not UTF-8 is shown with replacements: no listing can go on after that.
            if !path.contains(char::REPLACEMENT_CHARACTER) {
                planned.cursor = format!("{source}:{path}");
            }
            match entry {
                Entry::Item(item) => {
                    planned.items += 1;
                    planned.work += item.bytes;
                    items.push(item);
                }
                Entry::Other(_) => planned.skipped += 1,
            }
        }
        planned.unit = UnitBytes::Survey { held_out: self.held_out, items }.encode();
        planned
    }
}
