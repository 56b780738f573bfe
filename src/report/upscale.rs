//! Pictures made of pictures: how many, by which recipe, how near to their inputs, some of them before and after, and those
//! that were set aside.

use std::{collections::BTreeMap, path::Path};

use futures::TryStreamExt;
use sr3_jobs::upscale::{
    ItemRecord, ItemStatus, RunRecord, Success,
    record::read_document,
    report::{records_of, sources_of},
};
use sr3_proto::{Key, Location, Store, layout, store::ListEntry};

use super::{
    Place,
    html::{Cell, Html},
    pictures,
};
use crate::exit::CommandError;

/// Pictures that are shown.
const SHOWN: usize = 6;
/// Pictures set aside, and notes, that are listed.
const LISTED_MAX: usize = 50;

/// The section.
pub(super) async fn section(place: &Place) -> Result<Option<Html>, CommandError> {
    let Some(report) = super::object(&place.store, &layout::report_key()).await? else { return Ok(None) };
    let broken = |e: &dyn std::fmt::Display| {
        CommandError::failed(format!("the report in `{}` cannot be read: {e}", place.name))
    };
    let runs = runs(&place.store).await?;
    let mut body = Html::default();
    let complete = super::object(&place.store, &layout::success_key()).await?;
    let success = complete.and_then(|bytes| read_document::<Success>("_SUCCESS", &bytes).ok());
    if success.is_none() {
        body.bad("the last run here did not get to its end; the same command goes on where it stopped");
    }
    for source in sources_of(&report) {
        let records = records_of(&report, &source).map_err(|e| broken(&e))?;
        let run = runs.iter().rev().find(|run| run.source == source);
        body.heading(&format!("From {source}"));
        counts(&mut body, &records);
        nearness(&mut body, &records);
        samples(&mut body, place, &source, run, &records).await;
        set_aside(&mut body, &records);
        if let Some(run) = run {
            recipe(&mut body, run);
        }
    }
    Ok(Some(body))
}

/// The runs there, oldest first.
async fn runs(store: &Store) -> Result<Vec<RunRecord>, CommandError> {
    let mut entries = store.list_under(&layout::jobs_prefix());
    let mut runs = Vec::new();
    while let Some(entry) = entries.try_next().await? {
        if let ListEntry::Object(info) = entry
            && let Some(bytes) = super::object(store, &info.key).await?
        {
            runs.extend(read_document::<RunRecord>(info.key.as_str(), &bytes));
        }
    }
    runs.sort_by_key(|run| run.run);
    Ok(runs)
}

fn of(records: &[ItemRecord], status: ItemStatus) -> impl Iterator<Item = &ItemRecord> {
    records.iter().filter(move |record| record.status == status)
}

/// Records of pictures that lie there: made by the last run, or by one before.
fn made(records: &[ItemRecord]) -> impl Iterator<Item = &ItemRecord> {
    records.iter().filter(|record| record.output_sha256.is_some())
}

fn counts(body: &mut Html, records: &[ItemRecord]) {
    let count = |status| of(records, status).count();
    let [done, skipped, aside] = [ItemStatus::Ok, ItemStatus::Skipped, ItemStatus::Quarantined].map(count);
    body.paragraph(&format!("{done} done, {skipped} skipped, {aside} set aside."));
    let (seconds, megapixels) = made(records).fold((0.0, 0.0), |(seconds, megapixels), record| {
        let [width, height] = record.output_size.unwrap_or_default().map(f64::from);
        (seconds + record.seconds.unwrap_or(0.0), megapixels + width * height / 1e6)
    });
    if megapixels > 0.0 {
        let a_megapixel = seconds / megapixels;
        body.paragraph(&format!(
            "{megapixels:.1} megapixels made in {seconds:.1} s on the device: {a_megapixel:.2} s each."
        ));
    }
    let mut notes: BTreeMap<&str, usize> = BTreeMap::new();
    for note in made(records).flat_map(|record| &record.notes) {
        *notes.entry(note).or_default() += 1;
    }
    let mut notes: Vec<_> = notes.into_iter().collect();
    notes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let row = |(note, count): &(&str, usize)| {
        vec![Cell::Number(count.to_string()), Cell::Text((*note).to_string())]
    };
    let rows: Vec<_> = notes.iter().take(LISTED_MAX).map(row).collect();
    body.table(&["pictures", "note"], &rows);
}

/// How near the results are to their inputs, beside what another tool had made of these.
fn nearness(body: &mut Html, records: &[ItemRecord]) {
    let size = |shift: [f64; 3]| shift.map(f64::abs).into_iter().sum::<f64>() / 3.0;
    let enlarged = || made(records).filter_map(|record| record.enlarged.as_ref());
    let mut rows = Vec::new();
    let mut row = |what: &str, errors: Vec<f64>, shifts: Vec<f64>| {
        if errors.is_empty() {
            return;
        }
        let shift = |value: Option<f64>| value.map_or_else(|| "–".to_string(), |value| format!("{value:.3}"));
        rows.push(vec![
            Cell::Text(what.to_string()),
            Cell::Number(format!("{:.2e}", median(&errors).unwrap_or_default())),
            Cell::Number(format!("{:.2e}", errors.iter().copied().fold(0.0, f64::max))),
            Cell::Number(shift(median(&shifts))),
            Cell::Number(shift(shifts.iter().copied().reduce(f64::max))),
        ]);
    };
    row(
        "the other tool's",
        enlarged().filter_map(|enlarged| enlarged.consistency_error).collect(),
        enlarged().filter_map(|enlarged| enlarged.mean_shift).map(size).collect(),
    );
    row(
        "results",
        made(records).filter_map(|record| record.consistency_error).collect(),
        made(records).filter_map(|record| record.mean_shift).map(size).collect(),
    );
    body.table(&["", "consistency, median", "worst", "mean colour shift of 255, median", "worst"], &rows);
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_sub(1)? / 2;
    Some((sorted[middle] + sorted[sorted.len() / 2]) / 2.0)
}

/// Some pictures, spread over all: the input enlarged by bicubic, what another tool had made of it, the result.
async fn samples(
    body: &mut Html,
    place: &Place,
    source: &str,
    run: Option<&RunRecord>,
    records: &[ItemRecord],
) {
    let Some(inputs) = open(source) else { return };
    let enlarged = run.and_then(|run| open(run.enlarged.as_deref()?));
    let all: Vec<&ItemRecord> = made(records).collect();
    let count = all.len().min(SHOWN);
    let mut shown = Vec::new();
    for number in 0..count {
        let record = all[number * all.len() / count];
        shown.extend(sample(place, &inputs, enlarged.as_ref(), record).await);
    }
    if !shown.is_empty() {
        body.figures(&shown);
    }
}

async fn sample(
    place: &Place,
    inputs: &Store,
    enlarged: Option<&Store>,
    record: &ItemRecord,
) -> Vec<(Vec<u8>, String)> {
    let shown = async {
        let input = pictures::read(inputs, &Key::new(record.input.clone()).ok()?).await?;
        let result = pictures::read(&place.store, record.output.as_ref()?).await?;
        let scale = result.width / input.width;
        if scale == 0 || (input.width * scale, input.height * scale) != (result.width, result.height) {
            return None;
        }
        let (at, size) = pictures::middle([input.width, input.height], scale);
        let (large_at, large_size) = (at.map(|from| from * scale), size.map(|side| side * scale));
        // Enlarged with what lies around, so that its edges are not those of a picture.
        let around = at.map(|from| from.saturating_sub(8));
        let margin = [at[0] - around[0], at[1] - around[1]];
        let before = input.part(around, [size[0] + margin[0] + 8, size[1] + margin[1] + 8]).enlarged(scale);
        let before = before.part(margin.map(|side| side * scale), large_size);
        let mut figures = vec![(before.png()?, format!("{}, bicubic", record.input))];
        if let (Some(store), Some(other)) = (enlarged, &record.enlarged)
            && let Some(other) = pictures::read(store, &other.path).await
        {
            figures.push((other.part(large_at, large_size).png()?, "the other tool's".to_string()));
        }
        figures.push((result.part(large_at, large_size).png()?, "the result".to_string()));
        Some(figures)
    };
    shown.await.unwrap_or_default()
}

/// Where pictures lie, if that can be read from here: of a file its folder.
fn open(written: &str) -> Option<Store> {
    let location: Location = written.parse().ok()?;
    match location.path() {
        Some(path) if path.is_file() => {
            Store::at(&Location::folder(path.parent().unwrap_or(Path::new("/")))).ok()
        }
        Some(path) if !path.is_dir() => None,
        _ => Store::at(&location).ok(),
    }
}

fn set_aside(body: &mut Html, records: &[ItemRecord]) {
    let aside: Vec<&ItemRecord> = of(records, ItemStatus::Quarantined).collect();
    if aside.is_empty() {
        return;
    }
    body.heading("Set aside");
    let row = |record: &&ItemRecord| {
        vec![Cell::Code(record.input.clone()), Cell::Text(record.reason.clone().unwrap_or_default())]
    };
    let rows: Vec<_> = aside.iter().take(LISTED_MAX).map(row).collect();
    body.table(&["picture", "why"], &rows);
    if aside.len() > LISTED_MAX {
        body.aside(&format!("and {} more", aside.len() - LISTED_MAX));
    }
}

/// What the results are recognised by.
fn recipe(body: &mut Html, run: &RunRecord) {
    let recipe = &run.recipe;
    let mut rows = vec![("recipe, sha256", recipe.digest().to_string())];
    if let Some(model) = &recipe.model {
        rows.push(("model", recipe.model_name.clone()));
        rows.push(("its weights, sha256", model.to_string()));
        rows.push(("preset", recipe.preset.clone()));
        rows.push(("seed", recipe.seed.to_string()));
        rows.push(("scale", recipe.scale.to_string()));
        rows.push(("class of bits", recipe.class.clone()));
    }
    if let Some(enlarged) = &run.enlarged {
        rows.push(("enlarged by another tool", enlarged.clone()));
    }
    rows.push((if recipe.model.is_some() { "sampling" } else { "projected for" }, recipe.sampling.clone()));
    rows.push(("format", recipe.format.to_string()));
    body.heading("Made by");
    let rows: Vec<_> =
        rows.into_iter().map(|(what, value)| vec![Cell::Text(what.to_string()), Cell::Code(value)]).collect();
    body.table(&["", ""], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_around_it() {
        assert_eq!((median(&[]), median(&[3.0]), median(&[1.0, 9.0])), (None, Some(3.0), Some(5.0)));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
