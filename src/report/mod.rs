//! What a run came to, as one page that anybody can open: its numbers, its curve, its pictures, and what it was made of.
//!
//! A section reads one kind of thing that lies at a place, and is a line in [`SECTIONS`]: a new kind of job adds a file here
//! and its line. Nothing is written at the place, and what cannot be read there is left out or said.

mod compare;
mod evaluate;
mod generate;
pub(crate) mod html;
mod pictures;
mod train;
mod tune;
mod upscale;

use futures::future::BoxFuture;
use sr3_proto::{Key, Store, StoreError};

use crate::exit::CommandError;
use html::Html;

/// A place that is reported on.
pub(crate) struct Place {
    /// As the user named it.
    pub(crate) name: String,
    /// What lies there.
    pub(crate) store: Store,
    /// The spec of the job that wrote there, where that is known.
    pub(crate) spec: Option<String>,
    /// What pictures should be that were measured, where that is known.
    pub(crate) truths: Option<Store>,
    /// The pictures that were measured, where they do not lie at the place itself.
    pub(crate) results: Option<Store>,
}

/// A section of a page; none where nothing of its kind lies there.
type Section = for<'a> fn(&'a Place) -> BoxFuture<'a, Result<Option<Html>, CommandError>>;

/// What may lie at a place.
const SECTIONS: [(&str, Section); 6] = [
    ("Training", |place| Box::pin(train::section(place))),
    ("Evaluation", |place| Box::pin(evaluate::section(place))),
    ("Comparison", |place| Box::pin(compare::section(place))),
    ("Samples", |place| Box::pin(generate::section(place))),
    ("Search", |place| Box::pin(tune::section(place))),
    ("Pictures", |place| Box::pin(upscale::section(place))),
];

/// The page of these places.
///
/// # Errors
/// A place cannot be read, or nothing that is reported on lies there.
pub(crate) async fn page(places: &[Place]) -> Result<String, CommandError> {
    let mut sections = Vec::new();
    for place in places {
        let before = sections.len();
        for (title, section) in SECTIONS {
            if let Some(mut body) = section(place).await? {
                if let Some(spec) = place.spec.as_ref().filter(|_| sections.len() == before) {
                    body.heading("Spec");
                    body.listing(spec);
                }
                sections.push((format!("{title}: {}", place.name), body));
            }
        }
        if sections.len() == before {
            return Err(CommandError::usage(format!(
                "`{}` holds nothing to report on: no training run, no evaluation, no comparison, no samples, no search, no results of `sr3 upscale` or `sr3 \
                 project`",
                sr3_proto::words::printable(&place.name)
            )));
        }
    }
    let names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
    Ok(html::page(&names.join(", "), &sections))
}

/// The object at a key, if there is one.
async fn object(store: &Store, key: &Key) -> Result<Option<bytes::Bytes>, StoreError> {
    match store.get(key).await {
        Ok((_, bytes)) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
