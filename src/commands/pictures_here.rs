//! Pictures made of pictures, in this process: from the destination's lock to what is said at the end, whatever makes them.

use std::{sync::Arc, time::Instant};

use sr3_coordinator::{Kind, Kinds};
use sr3_jobs::{
    cut::UnitLimits,
    images::{Partners, Source},
    lazy::Lazy,
    upscale::{
        Forecast, ItemRecord, Journal, Opened, OpenedUpscale, Processor, Run, UpscaleJob, UpscaleOrder,
        report,
    },
};
use sr3_proto::{Cancel, Store, StoreError, layout};
use sr3_worker::{Runner, Runners};

use crate::{
    client::{
        local::{self, LocalJob, Members},
        places::Destination,
    },
    ended::Ended,
    exit::{CommandError, Ending},
    signals,
};

/// What is to be done here.
pub(super) struct Here<'a, P> {
    /// When the command began.
    pub(super) begun: Instant,
    /// The inputs; there are some.
    pub(super) source: Source,
    /// What somebody else has made of them, where nothing enlarges here.
    pub(super) enlarged: Option<Partners>,
    pub(super) destination: Destination,
    /// The destination as the user named it.
    pub(super) written: &'a str,
    pub(super) order: UpscaleOrder,
    pub(super) processor: Lazy<P>,
    /// How long it will take, if that is known.
    pub(super) forecast: Option<Arc<dyn Forecast>>,
    pub(super) kind: Arc<dyn Kind>,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// Does it, and says what came of it.
pub(super) async fn run<P: Processor>(here: Here<'_, P>) -> Result<Ending, CommandError> {
    let Here { begun, source, enlarged, destination, written, order, processor, .. } = here;
    let interrupt = Cancel::new();
    // Even the second leaves nothing to repair: no output is ever under its name before it is whole.
    tokio::spawn(signals::watch(interrupt.clone(), Some("stopping; once more to stop at once")));
    let (outputs, state) = destination.open()?;
    if let Destination::Bucket(_) = destination {
        outputs.check().await?;
        warn_of_a_single_writer(&outputs).await?;
    }
    let owner = format!("process {} {:016x}", std::process::id(), rand::random::<u64>());
    let run = Run::begin(state.clone(), &outputs, order.clone(), owner).await?;
    if matches!(destination, Destination::Folder(_)) && !run.is_locked() && !here.quiet {
        tell!(
            "sr3: warning: the file system of `{written}` has no locks: let nothing else write there while this runs"
        );
    }
    let journal = Arc::new(Journal::open(state.clone()).await?);
    let opened = Opened::new(
        order.clone(),
        processor,
        Arc::new(source.store().clone()),
        Arc::new(outputs.clone()),
        Arc::new(state.clone()),
        Some(Arc::clone(&journal)),
    );
    let opened = opened.with_enlarged(enlarged.as_ref().map(|partners| Arc::new(partners.store.clone())));
    let runner: Arc<dyn Runner> = Arc::new(OpenedUpscale(Arc::new(opened)));
    let job = UpscaleJob::new(source, outputs, run, journal.found().clone(), UnitLimits::default())?;
    let job = LocalJob {
        order: Arc::new(order.envelope(None, 1)?),
        begun: Box::new(job.with_enlarged(enlarged)),
        kinds: Kinds::new([here.kind]),
        members: Members::one(Runners::new([runner])),
        forecast: here.forecast,
        journal: Some(journal),
    };
    let show = local::Show { json: here.json, quiet: here.quiet };
    let job = local::run(job, show, &interrupt).await?;
    let records = if job.reported { read_report(&state, &order.source).await? } else { Vec::new() };
    let report = (job.reported && destination.keeps_state())
        .then(|| format!("{}/{}", written.trim_end_matches('/'), layout::report_key()));
    let ended = Ended::here(&job, &records, &order, report, begun.elapsed());
    ended.print(here.json, here.quiet);
    Ok(ended.ending())
}

/// What the report says of the job of `source` that has just ended.
async fn read_report(state: &Store, source: &str) -> Result<Vec<ItemRecord>, CommandError> {
    let (_, bytes) = state.get(&layout::report_key()).await?;
    report::records_of(&bytes, source)
        .map_err(|e| CommandError::failed(format!("the report cannot be read again: {e}")))
}

/// Without conditional writes one run alone is safe, two at once are not: it goes on, but says so.
async fn warn_of_a_single_writer(outputs: &Store) -> Result<(), CommandError> {
    match outputs.probe_conditional_put().await {
        Err(StoreError::NotConditional { location, found }) => {
            tell!(
                "sr3: warning: `{location}` has no safe conditional writes ({found}): let nothing else write there \
                 while this runs"
            );
            Ok(())
        }
        other => Ok(other?),
    }
}
