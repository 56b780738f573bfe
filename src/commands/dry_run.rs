//! `sr3 upscale --dry-run`: what would be done, and how long it would take here. Writes nothing anywhere.

use std::pin::pin;

use futures::StreamExt;
use serde_json::json;
use sr3_jobs::{
    images::{Selected, Source},
    upscale::{Forecast, ItemStatus, ItemTask, Planned, Scan, UpscaleOrder, history::History, read_history},
};
use sr3_proto::{
    Store,
    words::{counted, printable},
};

use crate::{
    exit::{CommandError, Ending},
    forecast::about,
};

/// Bytes of a picture that are read for its size; where they do not tell, all of it is.
const START_BYTES: u64 = 256 << 10;

/// What is planned from: the inputs, and what lies at the destination if that exists.
pub(super) struct Plan<'a> {
    pub(super) source: &'a Source,
    pub(super) outputs: Option<&'a Store>,
    pub(super) order: &'a UpscaleOrder,
}

/// Lists the plan on standard output.
pub(super) async fn run(plan: Plan<'_>, forecast: &dyn Forecast, json: bool) -> Result<Ending, CommandError> {
    let Plan { source, outputs, order } = plan;
    let history = match outputs {
        Some(outputs) => read_history(outputs).await?,
        None => History::default(),
    };
    let nothing = Store::in_memory();
    let selected = Selected::new(&order.selection())?;
    let recipe = order.recipe.digest();
    let outputs = outputs.unwrap_or(&nothing);
    let seconds_of_work = forecast.seconds_of_work().map_err(CommandError::failed)?;
    let (mut due, mut unknown, mut skipped, mut apart) = (0, 0, 0, 0);
    let (mut megapixels, mut seconds) = (0.0, 0.0);
    let scan = Scan { source, enlarged: None, outputs, order, recipe: &recipe, history: &history };
    let mut entries = pin!(scan.plan(&selected, None));
    while let Some(entry) = entries.next().await {
        let item = match entry? {
            Planned::Compute(item) => item,
            Planned::Finished(_) => {
                skipped += 1;
                continue;
            }
            Planned::Settled(record) => {
                match record.status {
                    ItemStatus::Quarantined => apart += 1,
                    ItemStatus::Ok | ItemStatus::Skipped => skipped += 1,
                }
                if record.status == ItemStatus::Quarantined && !json {
                    let reason = record.reason.as_deref().unwrap_or_default();
                    say!("{}: would be set aside: {}", printable(&record.input), printable(reason));
                }
                continue;
            }
        };
        due += 1;
        let size = size(source.store(), &item, forecast).await;
        let takes = size.map(|size| forecast.work(size) * seconds_of_work);
        let to = size.map(|size| forecast.output_size(size));
        match to {
            Some([width, height]) => megapixels += (width * height) as f64 / 1e6,
            None => unknown += 1,
        }
        seconds += takes.unwrap_or(0.0);
        if json {
            say!(
                "{}",
                json!({ "input": item.input, "output": item.output, "input_size": size, "output_size": to, "seconds": takes })
            );
        } else {
            let (input, output) = (printable(item.input.as_str()), printable(item.output.as_str()));
            let sizes = match (size, to) {
                (Some([w, h]), Some([to_w, to_h])) => format!("{w}×{h} → {to_w}×{to_h}"),
                _ => "size unknown".to_string(),
            };
            say!("{input} → {output}: {sizes}");
        }
    }
    let pace = seconds / f64::max(megapixels, 1e-9);
    if json {
        say!(
            "{}",
            json!({ "due": due, "size_unknown": unknown, "skipped": skipped, "quarantined": apart, "megapixels": megapixels,
                "seconds": seconds, "seconds_a_megapixel": pace })
        );
        return Ok(Ending::Done);
    }
    say!("{} to do, {skipped} to skip, {apart} to set aside", counted(due, "image"));
    if megapixels > 0.0 {
        let preset = &order.recipe.preset;
        say!(
            "{megapixels:.1} megapixels out, {pace:.1} s each on this machine with preset {preset}: {}",
            about(forecast, seconds)
        );
    }
    Ok(Ending::Done)
}

async fn size(store: &Store, item: &ItemTask, forecast: &dyn Forecast) -> Option<[usize; 2]> {
    let start = store.get_part(&item.input, 0..START_BYTES).await.ok()?.1;
    if let Some(size) = forecast.size(&start) {
        return Some(size);
    }
    if item.input_bytes <= START_BYTES {
        return None;
    }
    forecast.size(&store.get(&item.input).await.ok()?.1)
}
