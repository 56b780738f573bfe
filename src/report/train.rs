//! A training run: its curve, its last numbers, a grid of samples, and its checkpoints with their digests.

use futures::TryStreamExt;
use sr3_jobs::train::{Row, checkpoints, read_curve};
use sr3_proto::{Key, store::ListEntry};

use super::{
    Place,
    html::{Cell, Html},
};
use crate::{chart, commands::plot, exit::CommandError};

/// Checkpoints that are listed.
const LISTED_MAX: usize = 20;

/// The section.
pub(super) async fn section(place: &Place) -> Result<Option<Html>, CommandError> {
    let all = checkpoints(&place.store).await?;
    let Some(newest) = all.last() else { return Ok(None) };
    let rows = read_curve(&place.store).await?;
    let mut body = Html::default();
    body.paragraph(&format!("{} steps, {} samples.", newest.step, newest.samples));
    if let Some(row) = rows.last() {
        last_numbers(&mut body, &rows, row);
    }
    if !rows.is_empty() {
        let panels = plot::panels(&[(place.name.clone(), rows)]);
        let svg = chart::svg(&panels).map_err(|e| CommandError::failed(e.to_string()))?;
        body.heading("Curve");
        body.drawing(&svg, "curve of the run");
    }
    if let Some((step, png)) = newest_grid(place).await? {
        body.heading("Held-out pictures");
        let caption = format!("step {step}; rows: what it was given, what it made, what it should have made");
        body.whole(&png, &caption);
    }
    body.heading("Checkpoints");
    let loss = |loss: Option<f64>| loss.map_or_else(|| "–".to_string(), |loss| format!("{loss:.5}"));
    let listed: Vec<Vec<Cell>> = all
        .iter()
        .rev()
        .take(LISTED_MAX)
        .map(|info| {
            vec![
                Cell::Number(info.step.to_string()),
                Cell::Number(info.samples.to_string()),
                Cell::Number(loss(info.validation_loss)),
                Cell::Code(info.models().first().cloned().unwrap_or_default()),
                Cell::Code(info.weights_sha256.clone()),
            ]
        })
        .collect();
    body.table(&["step", "samples", "validation loss", "model", "sha256 of the weights"], &listed);
    if all.len() > LISTED_MAX {
        body.aside(&format!("and {} older ones", all.len() - LISTED_MAX));
    }
    body.heading("Digests");
    let digests = [("recipe", &newest.recipe), ("index of the pictures", &newest.index)];
    let digests: Vec<_> = digests
        .iter()
        .map(|(what, digest)| vec![Cell::Text((*what).to_string()), Cell::Code(digest.to_string())])
        .collect();
    body.table(&["of", "sha256"], &digests);
    if place.spec.is_none()
        && let Some(model) = newest.models().first()
        && let Ok(key) = Key::new(format!("{model}/config.json"))
        && let Some(config) = super::object(&place.store, &key).await?
    {
        body.heading("Model");
        body.listing(&String::from_utf8_lossy(&config));
    }
    Ok(Some(body))
}

/// What the last row and the last validation say.
fn last_numbers(body: &mut Html, rows: &[Row], last: &Row) {
    let mut numbers = vec![("loss", format!("{:.5}", last.loss))];
    let validation = rows.iter().rev().find_map(|row| Some((row.samples, row.validation.as_ref()?)));
    if let Some((samples, validation)) = validation {
        numbers.push(("validated after samples", samples.to_string()));
        numbers.push(("held-out loss, averaged weights", format!("{:.5}", validation.loss_averaged)));
        if let Some(sampled) = &validation.samples {
            numbers.push((
                "PSNR of held-out pictures (bicubic)",
                format!("{:.2} dB ({:.2})", sampled.psnr, sampled.psnr_bicubic),
            ));
            numbers.push((
                "SSIM of held-out pictures (bicubic)",
                format!("{:.4} ({:.4})", sampled.ssim, sampled.ssim_bicubic),
            ));
            numbers.push(("consistency", format!("{:.2e}", sampled.consistency)));
        }
    }
    numbers.push(("samples a second, at the end", format!("{:.1}", last.time.samples_per_second)));
    let rows: Vec<_> = numbers
        .into_iter()
        .map(|(what, number)| vec![Cell::Text(what.to_string()), Cell::Number(number)])
        .collect();
    body.table(&["", ""], &rows);
}

/// The newest grid of samples, and its step.
async fn newest_grid(place: &Place) -> Result<Option<(u64, Vec<u8>)>, CommandError> {
    let mut entries = place.store.list_under(&Key::literal("grids"));
    let mut newest: Option<(u64, Key)> = None;
    while let Some(entry) = entries.try_next().await? {
        let ListEntry::Object(info) = entry else { continue };
        let name = info.key.name();
        let step = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".png")?.parse().ok());
        if let Some(step) = step
            && newest.as_ref().is_none_or(|(known, _)| *known < step)
        {
            newest = Some((step, info.key));
        }
    }
    let Some((step, key)) = newest else { return Ok(None) };
    Ok(super::object(&place.store, &key).await?.map(|bytes| (step, bytes.to_vec())))
}
