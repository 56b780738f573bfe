//! From the index to what a step is given: read, decoded, cropped, turned, reduced, and laid out for the network.
//!
//! Some steps ahead of the one that is computed. What is kept of a picture from epoch to epoch stays in memory as far as it
//! fits; every epoch takes every picture once, so it does not matter which are kept, and the first stay. Any number of
//! threads give the same: a sample is a function of its step and place.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sr3_engine::{
    image::{self, DecodeLimits},
    train::{Draws, Example, Examples, Permutation, Preprocessing, Square, Task},
};
use sr3_proto::{FailureKind, Store, off_thread};
use sr3_worker::{Attempt, Failure, Stop};

use super::{
    index::{Entry, Index},
    order::Recipe,
};
use crate::images::{read, read_part};

/// Bytes of pictures that are kept.
const KEPT_BYTES_MAX: usize = 1 << 30;
/// Longest picture, encoded.
const INPUT_BYTES_MAX: u64 = 1 << 30;
/// Pictures that are read at a time.
const READS_AT_ONCE: usize = 8;
/// A picture that takes so long is named in the log.
const LONG: Duration = Duration::from_secs(30);

/// What one grain is computed from: calls of the network.
pub(super) type Grain = Vec<Examples>;

/// Gives steps their samples.
pub(super) struct Loader {
    source: Arc<Store>,
    validation: Arc<Store>,
    index: Index,
    /// What the network is told of each label.
    classes: HashMap<String, u32>,
    recipe: Arc<Recipe>,
    preprocessing: Preprocessing,
    permutation: Permutation,
    task: Task,
    draws: Draws,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By whether it is held out, and its place in the index.
    pictures: HashMap<(bool, u64), Arc<Square>>,
    bytes: usize,
}

impl Loader {
    pub(super) fn new(
        source: Arc<Store>,
        validation: Arc<Store>,
        index: Index,
        recipe: Arc<Recipe>,
        task: Task,
    ) -> Self {
        let preprocessing = recipe.preprocessing();
        let count = recipe.overfit.unwrap_or(index.learned.len() as u64).max(1);
        let permutation = Permutation::new(recipe.seed, count);
        let draws = Draws::new(recipe.seed);
        let kept = Mutex::default();
        let classes = index.classes.iter().cloned().zip(0..).collect();
        Self { source, validation, index, classes, recipe, preprocessing, permutation, task, draws, kept }
    }

    /// The labels, in order.
    pub(super) fn classes(&self) -> &[String] {
        &self.index.classes
    }

    /// Pictures that are only validated with.
    pub(super) fn held_out(&self) -> u64 {
        self.index.held_out.len() as u64
    }

    /// The grains `grains` of a step, each cut into calls.
    pub(super) async fn grains(
        &self,
        step: u64,
        grains: Range<u64>,
        attempt: &Attempt,
    ) -> Result<Vec<Grain>, Stop> {
        let size = self.recipe.grain();
        let places = grains.start * size..grains.end * size;
        let examples: Vec<Example> = stream::iter(places.map(|place| self.example(step, place, attempt)))
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let (task, draws, calls) = (self.task.clone(), self.draws, self.recipe.microbatch as usize);
        let laid_out = off_thread(move || {
            let of_grain =
                |grain: &[Example]| grain.chunks(calls).map(|c| task.examples(c, &draws)).collect();
            examples.chunks(size as usize).map(of_grain).collect::<Vec<Grain>>()
        });
        laid_out.await.map_err(|_| Stop::worker("internal error while a step's samples were laid out"))
    }

    /// The keys of a step's samples at these places, for people.
    pub(super) fn keys(&self, step: u64, places: impl Iterator<Item = u64>) -> Vec<String> {
        let key = |place| {
            let (_, index) = self.permutation.at(step * self.recipe.batch + place);
            self.index.learned.get(index as usize).map_or_else(String::new, Entry::name)
        };
        places.map(key).collect()
    }

    async fn example(&self, step: u64, place: u64, attempt: &Attempt) -> Result<Example, Stop> {
        let (epoch, index) = self.permutation.at(step * self.recipe.batch + place);
        let kept = self.picture(false, index, attempt).await?;
        // By heart: one crop, one noise level and one noise for each picture, for ever.
        let (epoch, step, place) =
            if self.recipe.overfit.is_some() { (0, 0, index) } else { (epoch, step, place) };
        let (preprocessing, draws) = (self.preprocessing.clone(), self.draws);
        let label = self.label(false, index);
        let pair = off_thread(move || preprocessing.pair(&kept, &draws, epoch, index)).await;
        let (high, low) = pair.map_err(|_| Stop::worker("internal error while a sample was made"))?;
        Ok(Example { high, low, label, step, place: place as u32 })
    }

    /// A picture to validate with: its pair, the same every time, its noise that of a step that never comes.
    pub(super) async fn held_out_example(&self, index: u64, attempt: &Attempt) -> Result<Example, Stop> {
        let kept = self.picture(true, index, attempt).await?;
        let (preprocessing, draws) = (self.preprocessing.clone(), self.draws);
        let plain = Preprocessing { orientations: sr3_engine::train::Orientations::One, ..preprocessing };
        let label = self.label(true, index);
        let pair = off_thread(move || plain.pair(&kept, &draws, 0, index)).await;
        let (high, low) = pair.map_err(|_| Stop::worker("internal error while a sample was made"))?;
        Ok(Example { high, low, label, step: u64::from(u32::MAX), place: index as u32 })
    }

    /// What a picture shows, as the network is told it.
    fn label(&self, held_out: bool, index: u64) -> u32 {
        let list = if held_out { &self.index.held_out } else { &self.index.learned };
        let label = list.get(index as usize).and_then(|entry| entry.label.as_ref());
        // Every label of an entry is among the classes: the index was made of both.
        label.and_then(|label| self.classes.get(label)).copied().unwrap_or(0)
    }

    /// Some examples as the network takes them.
    pub(super) fn lay_out(&self, examples: &[Example]) -> Examples {
        self.task.examples(examples, &self.draws)
    }

    async fn picture(&self, held_out: bool, index: u64, attempt: &Attempt) -> Result<Arc<Square>, Stop> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lock().pictures.get(&(held_out, index)) {
            return Ok(Arc::clone(kept));
        }
        let list = if held_out { &self.index.held_out } else { &self.index.learned };
        let entry = list.get(index as usize).ok_or_else(|| Stop::worker("the index has no such picture"))?;
        let bytes = self.read(held_out, entry, attempt).await?;
        let preprocessing = self.preprocessing.clone();
        let decoded = off_thread(move || square(&bytes).map(|square| preprocessing.keep(square))).await;
        let decoded = decoded.map_err(|_| Stop::worker("internal error while a picture was decoded"))?;
        let kept = Arc::new(decoded.map_err(|reason| changed(entry, &reason))?);
        let mut all = lock();
        if all.bytes + kept.rgb.len() <= KEPT_BYTES_MAX {
            all.bytes += kept.rgb.len();
            all.pictures.insert((held_out, index), Arc::clone(&kept));
        }
        Ok(kept)
    }

    async fn read(&self, held_out: bool, entry: &Entry, attempt: &Attempt) -> Result<Bytes, Stop> {
        let store = if held_out { &self.validation } else { &self.source };
        let (key, etag) = (&entry.key, entry.etag.as_deref());
        let reading = async {
            match &entry.place {
                None => read(store, key, etag, INPUT_BYTES_MAX, attempt, |_| ()).await,
                Some(place) => {
                    read_part(store, key, etag, place.offset..place.offset + entry.bytes, attempt).await
                }
            }
        };
        tokio::pin!(reading);
        let read = tokio::select! {
            read = &mut reading => read,
            () = tokio::time::sleep(LONG) => {
                tracing::warn!(key = %entry.name(), "the store takes longer than {} s for a picture", LONG.as_secs());
                reading.await
            }
        };
        read.map_err(|stop| match stop {
            Stop::Bad { reason } => changed(entry, &reason),
            other => other,
        })
    }
}

/// What was learned from is no longer there: nobody can go on to the same weights.
fn changed(entry: &Entry, reason: &str) -> Stop {
    let text = format!(
        "`{}` is not as it was when the job began: {reason}; put it back, or begin a new run at another destination",
        entry.name()
    );
    Stop::Failed(Failure::new(FailureKind::Job, text))
}

/// A picture's bytes as 8-bit RGB.
fn square(bytes: &[u8]) -> Result<Square, String> {
    let picture = image::decode(bytes, &DecodeLimits::default()).map_err(|e| e.to_string())?.picture;
    Ok(Square::from(&image::to_planes(&picture)))
}
