//! A generating job as the coordinator sees it: units in the order of [`super::plan`], and the list of samples at the end.

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
    kind::{Begun, Check, Doubt, EndedUnit, Outcome, Planned, Reported, SoFar},
};
use sr3_proto::{
    Digest, Key, RunId, Store, StoreError, UnitId, layout,
    session::UnitResult,
    store::{ListEntry, Lock, ObjectInfo, PutMode},
};

use super::{
    order::GenerateOrder,
    plan::{self, Cursor},
    sample::{self, Began, Input, Made, Manifest, Sample, UnitBytes},
};
use crate::images::{Found, Selected, Source};

/// So many objects are removed, or manifests read, at a time.
const AT_ONCE: usize = 32;

/// What came of a job: its summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// Samples that lie at the destination.
    pub samples: u64,
    /// Those that were set aside.
    pub set_aside: u64,
    /// Digest of the list of samples with their digests: equal for equal samples.
    pub samples_sha256: Digest,
}

/// A job's stores.
pub(super) struct GenerateJob {
    order: Arc<GenerateOrder>,
    source: Option<Source>,
    destination: Store,
    selected: Selected,
    /// Units that an earlier run has done.
    done: BTreeSet<Key>,
    /// Held for as long as this lives, where the destination has locks.
    _lock: Option<Lock>,
}

/// Takes a destination for a job: what lies there must be of the same one.
pub(super) async fn take(
    order: Arc<GenerateOrder>,
    source: Option<Store>,
    destination: Store,
    selected: Selected,
) -> Result<GenerateJob, JobError> {
    let holder = format!("process {}", std::process::id());
    let lock = destination.lock(&layout::lock_key(), &holder).await?;
    destination.clean_staging().await?;
    let began = Began { recipe: order.recipe_digest() };
    let key = sample::began_key();
    let text = Bytes::from(serde_json::to_vec(&began).unwrap_or_default());
    match destination.put(&key, text, PutMode::Create).await {
        Err(StoreError::AlreadyExists { .. }) => {
            let (_, there) = destination.get(&key).await?;
            if serde_json::from_slice::<Began>(&there).ok().as_ref() != Some(&began) {
                let text = format!(
                    "`{}` holds samples of another job: choose another destination, or remove what lies there",
                    order.destination
                );
                return Err(JobError::Kind(text.into()));
            }
        }
        other => other?,
    }
    let listed = destination.list_under(&sample::manifests());
    let key = |entry| match entry {
        ListEntry::Object(info) => Some(info.key),
        ListEntry::Odd { .. } => None,
    };
    let done = listed.try_filter_map(|entry| async move { Ok(key(entry)) }).try_collect().await?;
    // Whoever finds it finds all samples.
    destination.delete(&layout::success_key()).await?;
    Ok(GenerateJob { order, source: source.map(Source::All), destination, selected, done, _lock: lock })
}

impl GenerateJob {
    /// Groups of samples from a place on: each with the key in the source before it.
    fn groups(&self, from: &Cursor) -> BoxStream<'_, Result<(Cursor, Group), JobError>> {
        let size = self.order.stages.first().map_or(1, |stage| stage.samples.max(1));
        let Some(source) = &self.source else {
            let (count, first) = (self.order.count, from.index);
            let groups = (first..count).step_by(size as usize).map(move |index| {
                let samples = (index..count.min(index + size)).map(|index| Sample { index, input: None });
                Ok((Cursor { index, ..Cursor::default() }, Group::Samples(samples.collect())))
            });
            return stream::iter(groups).boxed();
        };
        // One picture a group: their sizes are not known.
        let after = Key::new(from.after.clone()).ok();
        let begin = (from.index, from.after.clone());
        let found = source.find(&self.selected, after.as_ref()).map_err(JobError::from);
        found
            .scan(begin, |(index, before), found| {
                let cursor = Cursor { index: *index, units: 0, after: before.clone() };
                let found = found.map(|found| {
                    let (path, group) = group(found, *index);
                    *index += u64::from(matches!(group, Group::Samples(_)));
                    // A name that is not UTF-8 is shown with replacements: no listing can go on after that.
                    if !path.contains(char::REPLACEMENT_CHARACTER) {
                        *before = path;
                    }
                    (cursor, group)
                });
                async move { Some(found) }
            })
            .boxed()
    }

    /// The units of a group, each with the cursor after it.
    fn units(&self, cursor: &Cursor, group: Group, skip: usize) -> VecDeque<Planned> {
        let samples = match group {
            Group::Samples(samples) => samples,
            Group::Other => {
                return VecDeque::from([Planned { planned: 1, skipped: 1, ..Planned::default() }]);
            }
            Group::Bad(made) => {
                let at_end = serde_json::to_vec(&[made]).unwrap_or_default().into();
                return VecDeque::from([Planned {
                    planned: 1,
                    quarantined: 1,
                    at_end,
                    ..Planned::default()
                }]);
            }
        };
        let sizes: Vec<u64> = self.order.stages.iter().map(|stage| stage.samples).collect();
        let places = plan::units(&samples, &sizes);
        let is_done: Vec<bool> =
            places.iter().map(|place| self.done.contains(&place.unit.manifest_key())).collect();
        let unit = |(at, place): (usize, plan::Place)| {
            let count = place.unit.samples.len() as u64;
            let work = self.work(place.unit.stage) * count;
            // What it needs lies there where an earlier run has made it.
            let after = place.after.filter(|back| !is_done[at - back]).unwrap_or(0) as u64;
            Planned {
                unit: place.unit.encode(),
                // A sample is an item of each stage.
                items: if is_done[at] { 0 } else { count as u32 },
                work: if is_done[at] { 0 } else { work },
                planned: count,
                skipped: if is_done[at] { count } else { 0 },
                cursor: Cursor { units: at + 1, ..cursor.clone() }.write(),
                after: if is_done[at] { 0 } else { after },
                ..Planned::default()
            }
        };
        places.into_iter().enumerate().skip(skip).map(unit).collect()
    }

    /// Of a sample in a stage: pixels that go through its network.
    fn work(&self, stage: usize) -> u64 {
        let scale: u64 = self.order.stages[..=stage].iter().map(|stage| stage.scale).product();
        let stage = &self.order.stages[stage];
        let side = if stage.side > 0 { stage.side } else { 64 * scale };
        side * side * stage.evaluations
    }

    /// What came of a unit or of planning, and whether it is of the last stage.
    async fn made(&self, unit: EndedUnit) -> Result<(bool, Vec<Made>), JobError> {
        if unit.items == 0 && !unit.at_end.is_empty() {
            return Ok((true, serde_json::from_slice(&unit.at_end).unwrap_or_default()));
        }
        let Ok(bytes) = UnitBytes::decode(&unit.unit) else { return Ok((false, Vec::new())) };
        let manifest = match &unit.outcome {
            Outcome::Recorded(payload) => payload.clone(),
            Outcome::Open(_) if unit.items == 0 => self.destination.get(&bytes.manifest_key()).await?.1,
            Outcome::Open(_) => return Ok((false, Vec::new())),
        };
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|e| {
            JobError::Kind(
                format!("`{}` at the destination cannot be read: {e}", bytes.manifest_key()).into(),
            )
        })?;
        Ok((bytes.stage + 1 == self.order.stages.len(), manifest.samples))
    }

    async fn remove_stages(&self) -> Result<(), JobError> {
        let listed = self.destination.list_under(&sample::stages()).map_err(JobError::from);
        let remove = |entry| async move {
            if let ListEntry::Object(ObjectInfo { key, .. }) = entry {
                self.destination.delete(&key).await?;
            }
            Ok(())
        };
        listed.try_for_each_concurrent(AT_ONCE, remove).await
    }
}

/// What stands at a place of the source.
enum Group {
    Samples(Vec<Sample>),
    /// No picture.
    Other,
    /// One that cannot be taken.
    Bad(Made),
}

/// An entry of the source, with its path.
fn group(found: Found, index: u64) -> (String, Group) {
    match found {
        Found::Image(info) => {
            let input = Input { key: info.key, bytes: info.bytes, etag: info.etag };
            (input.key.to_string(), Group::Samples(vec![Sample { index, input: Some(input) }]))
        }
        Found::Shard(info) => (info.key.to_string(), Group::Other),
        Found::Other { path, .. } => (path, Group::Other),
        Found::Bad { path, what } => {
            let made = Made {
                index,
                key: String::new(),
                class: None,
                input: Some(path.clone()),
                sha256: None,
                reason: Some(what),
            };
            (path, Group::Bad(made))
        }
    }
}

#[async_trait]
impl Begun for GenerateJob {
    fn run(&self) -> RunId {
        RunId::new(1)
    }

    fn check(&self) -> Arc<dyn Check> {
        Arc::new(GenerateCheck { destination: self.destination.clone() })
    }

    fn plan<'a>(&'a self, _: u32, so_far: SoFar<'a>) -> BoxStream<'a, Result<Planned, JobError>> {
        let from = Cursor::read(&so_far.cursor);
        let (first, skip) = (from.index, from.units);
        self.groups(&from)
            .map_ok(move |(cursor, group)| {
                // The group that planning stopped in comes again: what is planned of it is left out.
                let skip = if cursor.index == first && matches!(group, Group::Samples(_)) { skip } else { 0 };
                stream::iter(self.units(&cursor, group, skip).into_iter().map(Ok))
            })
            .try_flatten()
            .boxed()
    }

    async fn end<'a>(
        &'a self,
        phase: Phase,
        units: BoxStream<'a, Result<EndedUnit, JobError>>,
    ) -> Result<Reported, JobError> {
        let (mut lines, mut said) = (Vec::new(), Reported::default());
        let (mut samples, mut set_aside) = (0, 0);
        let made = units.map(|unit| async { self.made(unit?).await });
        let mut made = made.buffered(AT_ONCE);
        while let Some((is_last, made)) = made.try_next().await? {
            for one in made {
                *if one.reason.is_some() { &mut said.quarantined } else { &mut said.done } += 1;
                if !is_last {
                    continue;
                }
                *if one.reason.is_some() { &mut set_aside } else { &mut samples } += 1;
                // Strings and numbers always have a JSON form.
                lines.extend(serde_json::to_vec(&one).unwrap_or_default());
                lines.push(b'\n');
            }
        }
        if phase != Phase::Succeeded {
            return Ok(said);
        }
        let generated = Generated { samples, set_aside, samples_sha256: Digest::of(&lines) };
        said.summary = serde_json::to_string(&generated).unwrap_or_default();
        self.destination.put(&sample::samples_key(), lines.into(), PutMode::Replace).await?;
        if !self.order.keep_stages {
            self.remove_stages().await?;
        }
        self.destination.put(&layout::success_key(), Bytes::new(), PutMode::Replace).await?;
        Ok(said)
    }
}

/// Looks whether a unit's manifest lies where it must.
struct GenerateCheck {
    destination: Store,
}

#[async_trait]
impl Check for GenerateCheck {
    async fn check(&self, id: UnitId, unit: &Bytes, said: &UnitResult) -> Result<(), Doubt> {
        let unit = UnitBytes::decode(unit).map_err(|e| Doubt::Unknown(e.reason))?;
        let false_said = |what: &str| Doubt::False(format!("unit {id}: {what}"));
        let there = match self.destination.get(&unit.manifest_key()).await {
            Ok((_, bytes)) => bytes,
            Err(StoreError::NotFound { .. }) => return Err(false_said("its manifest is not there")),
            Err(error) => return Err(Doubt::Unknown(error.to_string())),
        };
        let manifest: Manifest = serde_json::from_slice(&said.payload)
            .map_err(|_| false_said("what came of it cannot be read"))?;
        let indexes = manifest.samples.iter().map(|made| made.index);
        let same = there == said.payload && indexes.eq(unit.samples.iter().map(|sample| sample.index));
        if same { Ok(()) } else { Err(false_said("the manifest is not one of its samples")) }
    }
}
