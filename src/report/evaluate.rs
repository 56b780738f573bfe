//! An evaluation: means with their confidence intervals, the pictures that came out worst and best, and those set aside.

use sr3_jobs::{
    evaluate::{
        Method, Metric, NUMBERS, Number, Row, Statistic, Summary,
        report::{read_rows, rows_key, summary_key},
    },
    images::Partners,
};
use sr3_proto::Key;

use super::{
    Place,
    html::{Cell, Html},
    pictures::{self, SIDE},
};
use crate::exit::CommandError;

/// Pictures that are shown of the worst, and of the best.
const SHOWN: usize = 3;
/// Rows that are listed of the worst, and of the best.
const LISTED: usize = 10;
/// Pictures set aside that are listed.
const ASIDE_MAX: usize = 50;
/// What pictures are cut off at the right and below at most, to a multiple of the scale.
const SCALE_MAX: usize = 64;

/// The section.
pub(super) async fn section(place: &Place) -> Result<Option<Html>, CommandError> {
    let Some(rows) = super::object(&place.store, &rows_key()).await? else { return Ok(None) };
    let broken = |e: serde_json::Error| {
        CommandError::failed(format!("the numbers in `{}` cannot be read: {e}; evaluate again", place.name))
    };
    let rows = read_rows(&rows).map_err(broken)?;
    let mut body = Html::default();
    match super::object(&place.store, &summary_key()).await? {
        Some(summary) => means(&mut body, &serde_json::from_slice(&summary).map_err(broken)?),
        None => body.bad("the evaluation did not get to its end: there are no means"),
    }
    // Equal to what it should be is best of all; a picture's name decides between equals.
    let reached = |method: &Method| method.scores.psnr_y.flatten().unwrap_or(f64::INFINITY);
    let ranked = rows.iter().filter_map(|row| Some((row, row.methods.last()?)));
    let mut ranked: Vec<(&Row, &Method)> =
        ranked.filter(|(_, method)| method.scores.psnr_y.is_some()).collect();
    ranked.sort_by(|a, b| reached(a.1).total_cmp(&reached(b.1)).then_with(|| a.0.picture.cmp(&b.0.picture)));
    let worst: Vec<_> = ranked.iter().take(LISTED).copied().collect();
    // None is shown twice.
    let best: Vec<_> = ranked.iter().skip(worst.len()).rev().take(LISTED).copied().collect();
    for (title, some) in [("Worst", worst), ("Best", best)] {
        if some.is_empty() {
            continue;
        }
        body.heading(&format!("{title} by PSNR-Y"));
        let mut shown = Vec::new();
        for (row, method) in some.iter().take(SHOWN) {
            shown.extend(pair(place, row, method).await);
        }
        if !shown.is_empty() {
            body.figures(&shown);
        }
        listed(&mut body, &some);
    }
    let aside: Vec<&Row> = rows.iter().filter(|row| row.reason.is_some()).collect();
    set_aside(&mut body, &aside);
    Ok(Some(body))
}

fn means(body: &mut Html, summary: &Summary) {
    body.paragraph(&format!("{} pictures measured, {} set aside.", summary.pictures, summary.set_aside));
    let asked =
        |number: &&Number| summary.methods.iter().any(|(_, numbers)| numbers.contains_key(number.name));
    let columns: Vec<&Number> = NUMBERS.iter().filter(asked).collect();
    let mut table = Vec::new();
    for (method, numbers) in &summary.methods {
        let mut row = vec![Cell::Text(method.clone())];
        row.extend(columns.iter().map(|number| Cell::Number(mean(number, numbers.get(number.name)))));
        table.push(row);
    }
    body.heading("Means, with 95 % confidence intervals (Student's t)");
    let titles = columns.iter().map(|number| number.title);
    body.table(&["method"].into_iter().chain(titles).collect::<Vec<_>>(), &table);
    if columns.iter().any(|number| number.metric == Metric::Spectrum) {
        body.aside("px: power of waves of so many pixels over that of what pictures should be, in dB");
    }
    for looker in &summary.networks {
        body.aside(&format!("{}: weights sha256:{}", looker.network, looker.weights));
    }
}

fn mean(number: &Number, statistic: Option<&Statistic>) -> String {
    let mean = number.write(statistic.and_then(|statistic| statistic.mean));
    let ci95 = statistic.and_then(|statistic| statistic.ci95);
    ci95.map_or_else(|| mean.clone(), |half| format!("{mean} ± {}", number.write_half(Some(half))))
}

fn listed(body: &mut Html, rows: &[(&Row, &Method)]) {
    // Shifts and spectra of single pictures are for files.
    let all: Vec<_> = rows.iter().map(|(_, method)| method.scores.numbers()).collect();
    let is_listed = |at: &usize| {
        !matches!(NUMBERS[*at].metric, Metric::MeanShift | Metric::Spectrum)
            && all.iter().any(|numbers| numbers[*at].is_some())
    };
    let columns: Vec<usize> = (0..NUMBERS.len()).filter(is_listed).collect();
    let row = |((row, method), numbers): (&(&Row, &Method), &[Option<f64>; NUMBERS.len()])| {
        let mut cells = vec![Cell::Code(row.picture.clone()), Cell::Text(method.method.clone())];
        cells.extend(columns.iter().map(|at| Cell::Number(NUMBERS[*at].write(numbers[*at]))));
        cells
    };
    let table: Vec<_> = rows.iter().zip(&all).map(row).collect();
    let titles = columns.iter().map(|at| NUMBERS[*at].title);
    body.table(&["picture", "method"].into_iter().chain(titles).collect::<Vec<_>>(), &table);
}

fn set_aside(body: &mut Html, aside: &[&Row]) {
    if aside.is_empty() {
        return;
    }
    body.heading("Set aside");
    let reason = |row: &&Row| {
        vec![Cell::Code(row.picture.clone()), Cell::Text(row.reason.clone().unwrap_or_default())]
    };
    let rows: Vec<_> = aside.iter().take(ASIDE_MAX).map(reason).collect();
    body.table(&["picture", "why"], &rows);
    if aside.len() > ASIDE_MAX {
        body.aside(&format!("and {} more", aside.len() - ASIDE_MAX));
    }
}

/// The middle of what a picture should be, and of what it is; nothing where one cannot be read.
async fn pair(place: &Place, row: &Row, method: &Method) -> Vec<(Vec<u8>, String)> {
    let shown = async {
        let key = Key::new(row.picture.clone()).ok()?;
        let truth = pictures::read(place.truths.as_ref()?, &key).await?;
        let results = place.results.as_ref().unwrap_or(&place.store);
        let result = Partners::mirrored(results.clone()).find(&key).await.ok()??;
        let result = pictures::read(results, &result.key).await?;
        // A middle square was cut out, or a few rows and columns at the end were left out.
        let offset = |of: usize, is: usize| {
            let more = of.saturating_sub(is);
            if more < SCALE_MAX { 0 } else { more / 2 }
        };
        let [x, y] = [offset(truth.width, result.width), offset(truth.height, result.height)];
        let (at, size) = pictures::middle([result.width, result.height], 1);
        debug_assert!(size.iter().all(|side| *side <= SIDE));
        let psnr =
            method.scores.psnr_y.flatten().map_or_else(|| "∞".to_string(), |psnr| format!("{psnr:.2}"));
        Some([
            (truth.part([at[0] + x, at[1] + y], size).png()?, format!("{}: what it should be", row.picture)),
            (result.part(at, size).png()?, format!("{}, {psnr} dB", method.method)),
        ])
    };
    shown.await.map(Vec::from).unwrap_or_default()
}
