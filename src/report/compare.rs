//! Sets of pictures compared: the numbers, the sets and how many they hold, and the digests that decide them.

use sr3_jobs::compare::{Compared, Role, numbers_key};

use super::{
    Place,
    html::{Cell, Html},
};
use crate::{commands::fid, exit::CommandError};

/// The section.
pub(super) async fn section(place: &Place) -> Result<Option<Html>, CommandError> {
    let Some(numbers) = super::object(&place.store, &numbers_key()).await? else { return Ok(None) };
    let compared: Compared = serde_json::from_slice(&numbers).map_err(|e| {
        CommandError::failed(format!("the numbers in `{}` cannot be read: {e}; compare again", place.name))
    })?;
    let mut body = Html::default();
    let cell = |text: &str| Cell::Text(text.to_string());
    let numbers = fid::lines(&compared.numbers);
    let rows: Vec<_> =
        numbers.into_iter().map(|(name, value)| vec![cell(name), Cell::Number(value)]).collect();
    body.table(&["", ""], &rows);
    for note in &compared.notes {
        body.aside(note);
    }
    body.heading("Sets");
    let sets = compared.sets.iter().map(|set| {
        let role = match set.role {
            Role::Source => "A, which is judged",
            Role::Reference => "B, which it should be like",
            Role::HeldOut => "held out",
        };
        let images = set.images.map_or_else(|| "–".to_string(), |images| images.to_string());
        let sha256 = set.sha256.as_ref().map_or_else(String::new, ToString::to_string);
        vec![
            cell(role),
            Cell::Code(set.place.clone()),
            Cell::Number(images),
            Cell::Number(set.left_out.to_string()),
            Cell::Code(sha256),
        ]
    });
    body.table(&["set", "place", "images", "left out", "sha256 of the pixels"], &sets.collect::<Vec<_>>());
    let left_out: Vec<_> = compared
        .sets
        .iter()
        .flat_map(|set| &set.left_out_first)
        .map(|(name, reason)| vec![Cell::Code(name.clone()), cell(reason)])
        .collect();
    if !left_out.is_empty() {
        body.heading("Left out");
        body.table(&["picture", "why"], &left_out);
    }
    body.heading("How");
    let how = [
        ("mode", cell(&compared.mode.to_string())),
        ("resize", cell(&compared.resize)),
        ("network", cell(&compared.network)),
        ("sha256 of its weights", Cell::Code(compared.weights.clone())),
    ];
    body.table(&["", ""], &how.map(|(what, value)| vec![cell(what), value]));
    Ok(Some(body))
}
