//! A search of how a checkpoint is sampled: what every candidate reached, over its steps.

use super::{
    Place,
    html::{Cell, Html},
};
use crate::{
    chart,
    exit::CommandError,
    tune::{Search, search_key},
};

/// The section.
pub(super) async fn section(place: &Place) -> Result<Option<Html>, CommandError> {
    let Some(bytes) = super::object(&place.store, &search_key()).await? else { return Ok(None) };
    let search: Search = serde_json::from_slice(&bytes).map_err(|e| {
        CommandError::failed(format!("the search in `{}` cannot be read: {e}; run it again", place.name))
    })?;
    let (metric, question) = (search.metric.name(), &search.question);
    let mut body = Html::default();
    let pictures = search.found.first().map_or(0, |found| found.pictures);
    let text = format!(
        "{} candidates for {}, by {metric} on {pictures} pictures of {}, seed {}.",
        search.found.len(),
        search.model,
        question.source,
        question.seed
    );
    body.paragraph(&text);
    let svg = chart::svg(&[search.panel()]).map_err(|e| CommandError::failed(e.to_string()))?;
    body.drawing(&svg, &format!("{metric} over steps"));
    let rows: Vec<Vec<Cell>> = search
        .found
        .iter()
        .map(|found| {
            let half = found.ci95.map_or_else(String::new, |half| format!(" ± {half:.4}"));
            let consistency = found.consistency.map_or_else(|| "–".to_string(), |c| format!("{c:.1e}"));
            vec![
                Cell::Text(found.name.clone()),
                Cell::Number(found.steps.to_string()),
                Cell::Number(format!("{:.4}{half}", found.mean)),
                Cell::Number(consistency),
            ]
        })
        .collect();
    body.heading("Best first, with 95 % confidence intervals");
    body.table(&["candidate", "steps", metric, "consistency"], &rows);
    body.heading("Digests");
    let weights = vec![Cell::Text("weights".to_string()), Cell::Code(question.weights_sha256.clone())];
    body.table(&["of", "sha256"], &[weights]);
    if let Some(best) = search.found.first() {
        body.heading("The best, as a preset");
        body.listing(&serde_json::to_string_pretty(&best.preset).unwrap_or_default());
    }
    Ok(Some(body))
}
