//! The second stage: one unit that puts the sets together and computes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_engine::{
    metrics::{
        FeatureError, Features, KidOptions, frechet_distance, inception_score, kid, memorisation,
        monge_distance, precision_recall,
    },
    vision::{LOGITS, POOL},
};
use sr3_proto::{Digest, FailureKind, Store, session::UnitResult, store::PutMode, words::printable};
use sr3_worker::{Attempt, Failure, Pipeline, Stop, UnitWork};

use super::{
    CompareOrder, Compared, KidNumbers, Metric, Numbers, Role, ScoreNumbers, SetNumbers,
    npz::{Npz, NpzError},
    part::{self, Rows},
    place::Place,
    result::MemorisationNumbers,
    set::{RunFile, RunSet, SetFile},
    statistics::{ARRAYS, Given},
};

/// Directions of MIND, neighbours of precision and recall, splits of the Inception Score: as published numbers have them.
const DIRECTIONS: usize = 1000;
const NEIGHBOURS: usize = 3;
const SPLITS: usize = 10;
/// So many pictures that were left out are named beside the numbers.
const LEFT_OUT_NAMED: usize = 10;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Came {
    Numbers(Box<Compared>),
    Nothing { reason: String },
}

impl Came {
    pub(super) fn record(&self) -> Bytes {
        // Its floats are finite: it always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The unit at work.
pub(super) struct NumbersUnit {
    pub(super) order: Arc<CompareOrder>,
    pub(super) run: Digest,
    /// Of the order's sets.
    pub(super) stores: Vec<Arc<Store>>,
    pub(super) features: Arc<Store>,
    /// What came of it earlier.
    pub(super) earlier: Option<Bytes>,
}

/// A set with what numbers are computed of.
struct Set {
    place: String,
    left_out: Vec<(String, String)>,
    rows: Option<Rows>,
    statistics: Option<Given>,
}

#[async_trait]
impl UnitWork for NumbersUnit {
    fn items(&self) -> usize {
        usize::from(self.earlier.is_none())
    }

    async fn item(&self, _: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop> {
        let came = match self.compute(attempt, pipeline).await {
            Ok(compared) => Came::Numbers(Box::new(compared)),
            Err(Stop::Bad { reason }) => Came::Nothing { reason },
            Err(stop) => return Err(stop),
        };
        Ok(came.record())
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let record = records.first().or(self.earlier.as_ref()).cloned().unwrap_or_default();
        let reasons = match Came::read(&record) {
            Some(Came::Numbers(_)) => Vec::new(),
            Some(Came::Nothing { reason }) => vec![reason],
            None => return Err(Failure::new(FailureKind::Worker, "the numbers cannot be read")),
        };
        let quarantined = reasons.len() as u64;
        Ok(UnitResult { done: 1 - quarantined, quarantined, reasons, payload: record })
    }
}

impl NumbersUnit {
    async fn compute(&self, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Compared, Stop> {
        let RunFile(run) = RunFile::read(&self.features, &self.run).await.map_err(Stop::transient)?;
        let mut sets = Vec::new();
        for ((place, store), found) in self.order.sets().into_iter().zip(&self.stores).zip(run) {
            sets.push(match found {
                RunSet::Features(file) => self.features_of(place, file, attempt).await?,
                RunSet::Statistics => self.statistics_of(place, store).await?,
            });
        }
        let (order, at_work) = (Arc::clone(&self.order), Arc::clone(attempt));
        let decoding = pipeline.decoding(attempt).await?;
        let computing = decoding.compute(attempt, move |_| {
            at_work.progress().on_device("numbers", 0.0);
            compare(&order, sets).map_err(|reason| Stop::Bad { reason })
        });
        let ((mut compared, statistics), _) = computing.await?.done().await?;
        if let Some((name, bytes)) = statistics {
            let key = super::set::key(&name);
            self.features.put(&key, bytes.into(), PutMode::Replace).await.map_err(Stop::transient)?;
            compared.statistics = Some(name);
        }
        Ok(compared)
    }

    async fn features_of(&self, place: &str, file: SetFile, attempt: &Attempt) -> Result<Set, Stop> {
        let mut all = Rows::default();
        for part in &file.parts {
            if attempt.cancel().is_cancelled() {
                return Err(Stop::Cancelled);
            }
            let read = part::read(&self.features, part, self.order.keeps()).await;
            all.append(read.map_err(Stop::transient)?);
        }
        Ok(Set { place: place.into(), left_out: file.left_out, rows: Some(all.sorted()), statistics: None })
    }

    async fn statistics_of(&self, place: &str, store: &Store) -> Result<Set, Stop> {
        let key = Place::read(place).ok().and_then(|place| place.file);
        let key = key.ok_or_else(|| Stop::worker("statistics lie in a file"))?;
        let npz = |e: NpzError| match e {
            NpzError::Store(error) => Stop::transient(error),
            other => Stop::Bad { reason: other.to_string() },
        };
        let arrays = Npz::open(store, &key, place).await.map_err(npz)?.arrays(&ARRAYS).await.map_err(npz)?;
        let given = Given::read(&arrays, place, &self.order).map_err(|reason| Stop::Bad { reason })?;
        Ok(Set { place: place.into(), left_out: Vec::new(), rows: None, statistics: Some(given) })
    }
}

/// A file to be written: its name and its bytes.
type File = (String, Vec<u8>);

/// All numbers of an order.
fn compare(order: &CompareOrder, mut sets: Vec<Set>) -> Result<(Compared, Option<File>), String> {
    let names: Vec<String> = order.sets().into_iter().map(ToString::to_string).collect();
    let at = |written: &String| names.iter().position(|name| name == written);
    let places = [Some(&order.source), order.reference.as_ref(), order.held_out.as_ref()];
    let [source, reference, held_out] = places.map(|written| written.and_then(at));
    let source = source.filter(|at| *at < sets.len()).ok_or("the source is no set of the run")?;
    let asked = |metric| order.metrics.contains(&metric);
    let needed = [Some(source), reference].into_iter().flatten();
    if asked(Metric::Fid) || asked(Metric::Sfid) || order.save_statistics {
        for at in needed {
            let set = &mut sets[at];
            if let (None, Some(rows)) = (&set.statistics, &set.rows) {
                let few = |e| format!("`{}`: {e}", printable(&set.place));
                set.statistics = Some(Given::of(rows, order.mode).map_err(few)?);
            }
        }
    }
    let mut notes = Vec::new();
    let of_source = &sets[source];
    let mut numbers = Numbers::default();
    if let Some(reference) = reference {
        let pair = (of_source, &sets[reference]);
        distances(order, pair, &mut numbers, &mut notes)?;
        if let Some(held_out) = held_out.filter(|_| asked(Metric::Memorisation)) {
            numbers.memorisation = copied(pair, &sets[held_out], &mut notes)?;
        }
    }
    if asked(Metric::InceptionScore) {
        numbers.inception_score = score(of_source, &mut notes)?;
    }
    let statistics = match (&of_source.statistics, order.save_statistics) {
        (Some(given), true) => {
            let bytes = given.encode(order);
            Some((format!("statistics/{}-{}.npz", order.mode, Digest::of(&bytes).short()), bytes))
        }
        _ => None,
    };
    let roles = [(Role::Source, Some(source)), (Role::Reference, reference), (Role::HeldOut, held_out)];
    let roles = roles.into_iter().filter_map(|(role, at)| Some((role, &sets[at?])));
    let compared = Compared {
        mode: order.mode,
        resize: order.mode.resize().to_string(),
        network: order.network.name.clone(),
        weights: order.network.network.clone(),
        sets: roles.map(|(role, set)| set.summary(role, &mut notes)).collect(),
        numbers,
        notes,
        statistics: None,
    };
    Ok((compared, statistics))
}

impl Set {
    fn name(&self) -> String {
        printable(&self.place)
    }

    fn images(&self) -> Option<u64> {
        match &self.rows {
            Some(rows) => Some(rows.pictures.len() as u64),
            None => self.statistics.as_ref().and_then(|given| given.images),
        }
    }

    fn summary(&self, role: Role, notes: &mut Vec<String>) -> SetNumbers {
        let images = self.images();
        let mut note = |text: String| {
            if !notes.contains(&text) {
                notes.push(text);
            }
        };
        if let Some(few) = images.filter(|images| *images < POOL as u64) {
            note(format!(
                "`{}` has {few} images, fewer than the {POOL} features: its FID is too high, and compares only with that of \
                 as many images",
                self.name()
            ));
        }
        if self.rows.is_none() && self.statistics.as_ref().is_some_and(|given| given.mode.is_none()) {
            note(format!(
                "`{}` does not say as which tool its statistics were made: they are taken to be of this mode",
                self.name()
            ));
        }
        let of_statistics = || self.statistics.as_ref().and_then(|given| given.sha256.clone());
        SetNumbers {
            role,
            place: self.place.clone(),
            images,
            sha256: self.rows.as_ref().map_or_else(of_statistics, |rows| Some(rows.set_digest())),
            only_statistics: self.rows.is_none(),
            left_out: self.left_out.len() as u64,
            left_out_first: self.left_out.iter().take(LEFT_OUT_NAMED).cloned().collect(),
        }
    }

    fn pool(&self) -> Option<Result<Features<'_>, String>> {
        let rows = self.rows.as_ref()?;
        Some(Features::new(&rows.pool, POOL).map_err(|e| format!("`{}`: {e}", self.name())))
    }
}

/// A number that too small a set does not have is left out with a note.
fn given<T>(
    found: Result<T, FeatureError>,
    metric: Metric,
    notes: &mut Vec<String>,
) -> Result<Option<T>, String> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(error @ FeatureError::TooFew { .. }) => {
            notes.push(format!("{metric} is left out: {error}"));
            Ok(None)
        }
        Err(error) => Err(format!("{metric}: {error}")),
    }
}

/// What compares a source with its reference.
fn distances(
    order: &CompareOrder,
    (a, b): (&Set, &Set),
    numbers: &mut Numbers,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let asked = |metric| order.metrics.contains(&metric);
    let wrong = |e: FeatureError| e.to_string();
    if let (Some(of_a), Some(of_b)) = (&a.statistics, &b.statistics) {
        if asked(Metric::Fid) {
            numbers.fid = Some(frechet_distance(&of_a.pool, &of_b.pool).map_err(wrong)?);
        }
        match (&of_a.spatial, &of_b.spatial) {
            (Some(a), Some(b)) if asked(Metric::Sfid) => {
                numbers.sfid = Some(frechet_distance(a, b).map_err(wrong)?);
            }
            _ if asked(Metric::Sfid) => {
                notes.push(
                    "sfid is left out: statistics are without those of spatial features (mu_s, sigma_s)"
                        .into(),
                );
            }
            _ => {}
        }
    }
    let of_features = [Metric::Kid, Metric::Mind, Metric::PrecisionRecall];
    let of_features: Vec<Metric> = of_features.into_iter().filter(|metric| asked(*metric)).collect();
    if of_features.is_empty() {
        return Ok(());
    }
    let (Some(of_a), Some(of_b)) = (a.pool(), b.pool()) else {
        let without = if a.rows.is_none() { a } else { b };
        let names: Vec<String> = of_features.iter().map(ToString::to_string).collect();
        notes.push(format!(
            "left out: {}; `{}` holds statistics, which give FID alone",
            names.join(", "),
            without.name()
        ));
        return Ok(());
    };
    let (of_a, of_b) = (of_a?, of_b?);
    if asked(Metric::Kid) {
        let size = KidOptions::default().size.min(of_a.count()).min(of_b.count());
        let options = KidOptions { size, ..KidOptions::default() };
        // Of one picture nothing is unbiased.
        let found = match size {
            0 | 1 => Err(FeatureError::TooFew { found: size, needed: 2 }),
            _ => kid(of_a, of_b, &options),
        };
        numbers.kid = given(found, Metric::Kid, notes)?.map(|kid| KidNumbers {
            mean: kid.mean,
            deviation: kid.deviation,
            subsets: options.subsets as u64,
            size: options.size as u64,
        });
    }
    if asked(Metric::Mind) {
        numbers.mind = given(monge_distance(of_a, of_b, DIRECTIONS, 0), Metric::Mind, notes)?;
    }
    if asked(Metric::PrecisionRecall) {
        let found = given(precision_recall(of_a, of_b, NEIGHBOURS), Metric::PrecisionRecall, notes)?;
        (numbers.precision, numbers.recall) = (found.map(|f| f.precision), found.map(|f| f.recall));
    }
    Ok(())
}

/// How much nearer a source lies to its reference than held-out pictures do.
fn copied(
    (a, b): (&Set, &Set),
    held_out: &Set,
    notes: &mut Vec<String>,
) -> Result<Option<MemorisationNumbers>, String> {
    let (Some(source), Some(reference), Some(held_out)) = (a.pool(), b.pool(), held_out.pool()) else {
        notes.push("memorisation is left out: it needs pictures, and a set holds statistics".into());
        return Ok(None);
    };
    let found = given(memorisation(source?, held_out?, reference?), Metric::Memorisation, notes)?;
    Ok(found.map(|found| MemorisationNumbers {
        source: found.generated,
        held_out: found.held_out,
        nearer: found.nearer,
    }))
}

/// The Inception Score. Pictures lie in the order of digests, which is a shuffled one.
fn score(set: &Set, notes: &mut Vec<String>) -> Result<Option<ScoreNumbers>, String> {
    let Some(rows) = &set.rows else {
        notes.push(format!("inception-score is left out: `{}` holds statistics", set.name()));
        return Ok(None);
    };
    let logits = Features::new(&rows.logits, LOGITS).map_err(|e| e.to_string())?;
    let found = given(inception_score(logits, SPLITS, None), Metric::InceptionScore, notes)?;
    Ok(found.map(|score| ScoreNumbers {
        mean: score.mean,
        deviation: score.deviation,
        splits: SPLITS as u64,
    }))
}
