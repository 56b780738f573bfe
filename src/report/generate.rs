//! Samples that were made of noise, or by the later stages of a cascade: how many of each class, some of them, and those that
//! were set aside.

use std::collections::BTreeMap;

use sr3_jobs::generate::{Made, read_samples, samples_key};
use sr3_proto::{Digest, Key};

use super::{
    Place,
    html::{Cell, Html},
    pictures,
};
use crate::exit::CommandError;

/// Samples that are shown, over all classes.
const SHOWN: usize = 40;
/// Samples set aside that are listed.
const LISTED_MAX: usize = 50;

/// The section.
pub(super) async fn section(place: &Place) -> Result<Option<Html>, CommandError> {
    let Some(bytes) = super::object(&place.store, &samples_key()).await? else { return Ok(None) };
    let samples = read_samples(&bytes).map_err(|e| {
        CommandError::failed(format!("the samples in `{}` cannot be read: {e}; generate again", place.name))
    })?;
    let mut body = Html::default();
    let made: Vec<&Made> = samples.iter().filter(|made| made.reason.is_none()).collect();
    let aside: Vec<&Made> = samples.iter().filter(|made| made.reason.is_some()).collect();
    body.paragraph(&format!("{} samples, {} set aside.", made.len(), aside.len()));
    let mut by_class: BTreeMap<&str, Vec<&Made>> = BTreeMap::new();
    for made in &made {
        by_class.entry(class(made)).or_default().push(made);
    }
    let each = (SHOWN / by_class.len().max(1)).max(1);
    for (class, samples) in by_class.iter().take(SHOWN) {
        if !class.is_empty() {
            body.heading(&format!("{class}: {}", samples.len()));
        }
        let mut shown = Vec::new();
        for made in samples.iter().take(each) {
            shown.extend(picture(place, made).await);
        }
        if !shown.is_empty() {
            body.figures(&shown);
        }
    }
    if !aside.is_empty() {
        body.heading("Set aside");
        let row =
            |made: &&Made| vec![Cell::Code(made.name()), Cell::Text(made.reason.clone().unwrap_or_default())];
        body.table(&["sample", "why"], &aside.iter().take(LISTED_MAX).map(row).collect::<Vec<_>>());
        if aside.len() > LISTED_MAX {
            body.aside(&format!("and {} more", aside.len() - LISTED_MAX));
        }
    }
    body.heading("Digests");
    let all = vec![Cell::Text("samples.jsonl".to_string()), Cell::Code(Digest::of(&bytes).to_string())];
    body.table(&["of", "sha256"], &[all]);
    Ok(Some(body))
}

/// What a sample shows, by the folder that it lies in; nothing where nobody is told.
fn class(made: &Made) -> &str {
    let folder = made.key.rsplit_once('/').map_or("", |(folder, _)| folder);
    if made.class.is_some() { folder } else { "" }
}

async fn picture(place: &Place, made: &Made) -> Option<(Vec<u8>, String)> {
    let picture = pictures::read(&place.store, &Key::new(made.key.clone()).ok()?).await?;
    let (at, size) = pictures::middle([picture.width, picture.height], 1);
    Some((picture.part(at, size).png()?, made.name()))
}
