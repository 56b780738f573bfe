//! The kind as coordinator and worker know it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sr3_coordinator::{
    JobError, Kind,
    core::open_to_write,
    kind::{Begin, Begun, Known, Ordered, SetAside},
};
use sr3_proto::{
    FailureKind, Grant, Order, SpecError, Store, UnitId, job_spec, job_spec::Document, off_thread,
};
use sr3_worker::{Failure, OpenOrder, Runner, Stores, UnitWork, gang::Peers};

use super::{
    NAME,
    index::IndexFile,
    job::TrainJob,
    labels::Labels,
    member::{Member, SeatUnit},
    order::TrainOrder,
    resolve,
    spec::TrainSpec,
    survey::{self, SurveyUnit, UnitBytes, Verdict},
};
use crate::{Wish, envelope::place, models::Library, upscale::Bits};

/// Training, with models that `library` opens, among workers that `peers` reaches.
pub struct Train {
    library: Arc<Library>,
    peers: Option<Arc<dyn Peers>>,
}

impl Train {
    /// For a coordinator: it takes orders and plans them.
    pub fn new(library: Arc<Library>) -> Self {
        Self { library, peers: None }
    }

    /// For a worker: it takes part in gangs.
    pub fn with_peers(library: Arc<Library>, peers: Arc<dyn Peers>) -> Self {
        Self { library, peers: Some(peers) }
    }

    /// What a spec comes to, with these bits. May block.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn resolve(&self, spec: &TrainSpec, bits: &Bits) -> Result<TrainOrder, (&'static str, String)> {
        resolve::resolve(spec, &self.library, bits)
    }
}

#[async_trait]
impl Kind for Train {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn order(&self, document: &Document, known: &Known) -> Result<Ordered, SpecError> {
        let spec = TrainSpec::read(document)?;
        let wish = Wish { dtype: spec.train.dtype, ..Wish::default() };
        let bits = Bits::decide(&wish, &known.offers).map_err(|e| document.wrong("dtype", &e))?;
        let (library, asked) = (Arc::clone(&self.library), spec.clone());
        let resolved = off_thread(move || resolve::resolve(&asked, &library, &bits)).await;
        let resolved = resolved.map_err(|e| SpecError::nowhere(e.to_string()))?;
        let order = resolved.map_err(|(field, message)| document.wrong(field, &message))?;
        let most = known.offers.iter().map(|offer| offer.memory_bytes).max().filter(|bytes| *bytes > 0);
        if let Some(most) = most.filter(|most| *most < order.memory_bytes) {
            let fits = resolve::microbatch_that_fits(&order.recipe, most);
            let way_out = match fits {
                Some(n) => format!("a microbatch of {n} would fit"),
                None => "take a smaller network".to_string(),
            };
            let message = format!(
                "a worker would need {} of memory, and the largest has {}: {way_out}",
                gib(order.memory_bytes),
                gib(most)
            );
            return Err(document.wrong("microbatch", &message));
        }
        let wrong = |e: &dyn std::fmt::Display| SpecError::nowhere(e.to_string());
        let envelope = order.envelope(spec.train.name.clone(), spec.train.priority.into());
        let order = envelope.map_err(|e| wrong(&e))?;
        Ok(Ordered { spec: job_spec::to_yaml(NAME, &spec), order })
    }

    async fn begin(&self, order: Arc<Order>, begin: Begin) -> Result<Box<dyn Begun>, JobError> {
        let train = TrainOrder::read(&order).map_err(|e| JobError::Kind(e.into()))?;
        let open = |what: &str| place(&order, what).map(|location| (begin.open_store)(location)).transpose();
        let (source, validation) = (open("source")?, open("validation_source")?);
        let destination = place(&order, "destination").map(|l| open_to_write(&begin.open_store, l));
        let (Some(source), Some(destination)) = (source, destination.transpose()?) else {
            return Err(JobError::Kind("the order names no source or no destination".into()));
        };
        if begin.run.is_none() {
            for store in [Some(&source), validation.as_ref(), Some(&destination)].into_iter().flatten() {
                store.check().await?;
            }
        }
        let job = TrainJob::new(Arc::new(train), source, validation, destination);
        Ok(Box::new(job.map_err(|e| JobError::Kind(e.into()))?))
    }

    fn set_aside(&self, _: &Order, unit: &Bytes, records: &[Bytes], reason: &str) -> Option<SetAside> {
        let Ok(UnitBytes::Survey { items, .. }) = UnitBytes::decode(unit) else { return None };
        let (_, open) = survey::open_items(items, records);
        let (place, item) = open.first()?;
        let name = item.key.to_string();
        let left_out = vec![(name.clone(), reason.to_string())];
        let verdict = Verdict { place: *place, found: Vec::new(), left_out };
        Some(SetAside { item: name, record: survey::record(&verdict) })
    }
}

#[async_trait]
impl Runner for Train {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, order: &Arc<Order>, stores: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        let cannot = |reason: String| Failure::new(FailureKind::Worker, reason);
        let train = TrainOrder::read(order).map_err(cannot)?;
        let mut opened = [None, None, None, None];
        let places = ["source", "validation_source", "destination", "resume_from"];
        for (store, what) in opened.iter_mut().zip(places) {
            if let Some(location) = place(order, what) {
                *store = Some(stores.get(location).await?);
            }
        }
        let [Some(source), validation, Some(destination), resume_from] = opened else {
            return Err(cannot("the order names no source or no destination".into()));
        };
        let labels = |store: Option<&Arc<Store>>| {
            let told_by = train.recipe.labels?;
            Some(Arc::new(Labels::new(told_by, Arc::clone(store?))))
        };
        let labels = [labels(Some(&source)), labels(validation.as_ref())];
        Ok(Arc::new(OpenTraining {
            order: Arc::new(train),
            labels,
            library: Arc::clone(&self.library),
            peers: self.peers.clone(),
            source,
            validation,
            destination,
            resume_from,
        }))
    }
}

/// An order with its stores open.
pub(super) struct OpenTraining {
    pub(super) order: Arc<TrainOrder>,
    pub(super) library: Arc<Library>,
    pub(super) peers: Option<Arc<dyn Peers>>,
    pub(super) source: Arc<Store>,
    pub(super) validation: Option<Arc<Store>>,
    /// What their pictures show, where that is asked for.
    labels: [Option<Arc<Labels>>; 2],
    pub(super) destination: Arc<Store>,
    /// A checkpoint of another run.
    pub(super) resume_from: Option<Arc<Store>>,
}

impl OpenOrder for OpenTraining {
    fn unit(self: Arc<Self>, grant: &Grant) -> Result<Arc<dyn UnitWork>, Failure> {
        match UnitBytes::decode(&grant.unit)? {
            UnitBytes::Survey { held_out, items } => {
                let (earlier, items) = survey::open_items(items, &grant.records);
                let validation = self.validation.as_ref().filter(|_| held_out);
                let [of_source, of_validation] = &self.labels;
                Ok(Arc::new(SurveyUnit {
                    id: UnitId::new(grant.lease.unit.get()),
                    recipe: Arc::new(self.order.recipe.clone()),
                    held_out,
                    items,
                    earlier,
                    source: Arc::clone(validation.unwrap_or(&self.source)),
                    labels: if validation.is_some() { of_validation.clone() } else { of_source.clone() },
                    destination: Arc::clone(&self.destination),
                }))
            }
            UnitBytes::Seat { index } => Ok(Arc::new(SeatUnit(Member::new(self, index)))),
        }
    }
}

impl OpenTraining {
    /// The index that the job's first stage made.
    pub(super) async fn index(&self) -> Result<IndexFile, String> {
        let found = IndexFile::find(&self.destination).await.map_err(|e| e.to_string())?;
        found.ok_or_else(|| "the destination has no index: it was removed".to_string())
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
