//! An order at work: a picture from its bytes to its scores.

use std::{ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sr3_engine::{
    image::{self, OutputFormat},
    upscaler::{LowRes, UpscaleError},
    vision::CLASSES,
};
use sr3_proto::{FailureKind, Grant, Order, Store, off_thread, session::UnitResult, store::PutMode};
use sr3_worker::{Attempt, Failure, Held, OpenOrder, Pipeline, Runner, Stop, Stores, UnitWork, telemetry};

use super::{
    EvaluateOrder, Method, NAME, Row,
    item::{self, Item},
    looking::{Looked, Looks},
    measure::{self, Truth},
};
use crate::{
    class::of_folder,
    images::{self, FormatChoice, Rgb, check_length, naming, read},
    lazy::Lazy,
    models::Weights,
    upscale::{Processor, SuperResolution},
};

/// Reasons that are told beside the numbers.
const REASONS: usize = 5;
/// What pictures that were there are measured as.
const RESULT: &str = "result";
const BICUBIC: &str = "bicubic";
/// What pictures should be, where it is asked whether even these are recognised.
const REFERENCE: &str = "reference";

/// An order with its stores and its model open.
pub struct MeasuredOrder {
    order: EvaluateOrder,
    /// What pictures should be.
    truths: Arc<Store>,
    /// What is measured; none where it is made.
    results: Option<Arc<Store>>,
    /// Where pictures go that the model makes, if they are kept.
    pictures: Option<Arc<Store>>,
    /// What enlarges.
    processor: Option<Lazy<SuperResolution>>,
    /// The networks that look at what comes out.
    looks: Option<Arc<Looks>>,
}

impl MeasuredOrder {
    /// With the stores of its places: of its reference and its source, or of its source alone. Weights of networks are looked for
    /// in `weights`, and in the destination.
    pub fn new(
        order: EvaluateOrder,
        source: Arc<Store>,
        reference: Option<Arc<Store>>,
        destination: Option<Arc<Store>>,
        processor: Option<Lazy<SuperResolution>>,
        weights: Weights,
    ) -> Self {
        let (truths, results) = match reference {
            Some(reference) => (reference, Some(source)),
            None => (source, None),
        };
        let laid = destination.clone().unwrap_or_else(|| Arc::new(Store::in_memory()));
        let looks = Looks::new(&order, &weights, &laid).map(Arc::new);
        let pictures = destination.filter(|_| order.pictures);
        Self { order, truths, results, pictures, processor, looks }
    }
}

/// The runner of the one order that is open already: of a process that works for itself.
pub struct OpenedEvaluate(pub Arc<MeasuredOrder>);

#[async_trait]
impl Runner for OpenedEvaluate {
    fn kind(&self) -> &'static str {
        NAME
    }

    async fn open(&self, _: &Arc<Order>, _: &Arc<Stores>) -> Result<Arc<dyn OpenOrder>, Failure> {
        Ok(Arc::<MeasuredOrder>::clone(&self.0))
    }
}

impl OpenOrder for MeasuredOrder {
    fn unit(self: Arc<Self>, grant: &Grant) -> Result<Arc<dyn UnitWork>, Failure> {
        let items = item::from_bytes(&grant.unit).map_err(|e| Failure::new(FailureKind::Worker, e))?;
        let (earlier, open) = open_items(items, &grant.records);
        Ok(Arc::new(Unit { open: self, items: open, earlier }))
    }
}

/// The rows that exist, and the items without one, in order.
pub(super) fn open_items(items: Vec<Item>, records: &[Bytes]) -> (Vec<(u32, Row)>, Vec<Item>) {
    let rows: Vec<(u32, Row)> =
        records.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect();
    let open = items.into_iter().filter(|item| rows.iter().all(|(place, _)| *place != item.place)).collect();
    (rows, open)
}

/// A row as it is kept and sent, with its place in its unit.
pub(super) fn record(place: u32, row: &Row) -> Bytes {
    // Its floats are finite or null: it always has a JSON form.
    serde_json::to_vec(&(place, row)).unwrap_or_default().into()
}

struct Unit {
    open: Arc<MeasuredOrder>,
    items: Vec<Item>,
    earlier: Vec<(u32, Row)>,
}

#[async_trait]
impl UnitWork for Unit {
    fn items(&self) -> usize {
        self.items.len()
    }

    async fn prepare(&self) -> Result<(), Failure> {
        if let Some(processor) = &self.open.processor {
            processor.get().await?;
        }
        match &self.open.looks {
            Some(looks) => looks.prepare().await,
            None => Ok(()),
        }
    }

    async fn item(&self, index: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop> {
        let Some(item) = self.items.get(index) else { return Err(Stop::worker("there is no such item")) };
        let row = match self.open.measure(item, attempt, pipeline).await {
            Ok(row) => {
                let pixels = row.size.map_or(0, |[width, height]| u64::from(width) * u64::from(height));
                telemetry::item_done(pixels);
                row
            }
            Err(Stop::Bad { reason }) => {
                telemetry::item_quarantined();
                Row::set_aside(item.truth.key.as_str(), reason)
            }
            Err(stop) => return Err(stop),
        };
        Ok(record(item.place, &row))
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let new = records.iter().filter_map(|bytes| serde_json::from_slice::<(u32, Row)>(bytes).ok());
        let mut rows: Vec<(u32, Row)> = self.earlier.iter().cloned().chain(new).collect();
        rows.sort_by_key(|(place, _)| *place);
        rows.dedup_by_key(|(place, _)| *place);
        let reasons: Vec<String> = rows
            .iter()
            .filter_map(|(_, row)| Some(format!("{}: {}", row.picture, row.reason.as_deref()?)))
            .collect();
        Ok(UnitResult {
            done: (rows.len() - reasons.len()) as u64,
            quarantined: reasons.len() as u64,
            reasons: reasons.into_iter().take(REASONS).collect(),
            payload: serde_json::to_vec(&rows).unwrap_or_default().into(),
        })
    }
}

impl MeasuredOrder {
    async fn measure(&self, item: &Item, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Row, Stop> {
        let has_class = self.looks.as_ref().is_some_and(|looks| looks.classifies());
        let class = has_class.then(|| of_folder(item.truth.key.as_str(), CLASSES)).transpose();
        let class =
            class.map_err(|reason| Stop::Bad { reason: format!("{reason}, or leave accuracy out") })?;
        let class = class.map(|class| class as usize);
        let most = pipeline.input_bytes_max();
        let results = self.results.as_ref().zip(item.result.as_ref());
        let bytes = item.truth.bytes + results.map_or(0, |(_, info)| info.bytes);
        let room = pipeline.encoded_room(bytes, attempt).await?;
        check_length(item.truth.bytes, most)?;
        let fetch = |store: &Arc<Store>, info: &sr3_proto::store::ObjectInfo| {
            let (store, info) = (Arc::clone(store), info.clone());
            async move { read(&store, &info.key, info.etag.as_deref(), most, attempt, |_| ()).await }
        };
        let truth = fetch(&self.truths, &item.truth).await?;
        let result = match results {
            Some((store, info)) => Some(fetch(store, info).await?),
            None => None,
        };
        let decoding = pipeline.decoding(attempt).await?;
        let (scale, crop) = (self.order.scale as usize, self.order.crop.map(|crop| crop as usize));
        let decoded = bad_off_thread(move || {
            let whole = Rgb::decode(&truth).map_err(|e| in_reference(e, result.is_some()))?;
            let result = result.map(|bytes| Rgb::decode(&bytes)).transpose()?;
            // What enlarging gives is cut already.
            let size = result.as_ref().map(|result| (result.width, result.height));
            let cut = (whole.width / scale * scale, whole.height / scale * scale);
            if let Some((width, height)) =
                size.filter(|size| *size != cut && *size != (whole.width, whole.height))
            {
                return Err(format!(
                    "it is {width}×{height}, and its reference {}×{}",
                    whole.width, whole.height
                ));
            }
            let whole = if size == Some(cut) { whole.cut(scale, None) } else { whole };
            let truth = Truth::new(whole, scale, crop)?;
            let first = match result {
                Some(result) => (RESULT.to_string(), result.cut(scale, crop)),
                None => (BICUBIC.to_string(), truth.bicubic()),
            };
            Ok((truth, vec![first]))
        });
        let (mut truth, mut results) = decoded.await?;
        drop(room);
        let (width, height) = (truth.whole.width, truth.whole.height);
        let _pixels = decoding.hold_pixels((width * height) as u64).await;
        let picture = item.truth.key.to_string();
        let processor = match &self.processor {
            Some(processor) => Some(processor.get().await.map_err(Stop::Failed)?),
            None => None,
        };
        let is_made = processor.is_some();
        let model = self.order.model.as_ref().map(|model| model.recipe.model_name.clone());
        let mut looked = Looked::default();
        if is_made || self.looks.is_some() {
            let (at_work, key, looks) = (Arc::clone(attempt), picture.clone(), self.looks.clone());
            let computing = decoding.compute(attempt, move |held| {
                at_work.progress().on_device(&key, 0.0);
                if let Some(processor) = &processor {
                    let made = enlarged(held, processor, &truth.low, scale, &key, &at_work)?;
                    results.push((model.unwrap_or_else(|| RESULT.to_string()), made));
                }
                let looked = match &looks {
                    Some(looks) => {
                        let made = results.iter().map(|(_, result)| result);
                        looks.look(held, &truth.whole, made, class)?
                    }
                    None => Looked::default(),
                };
                Ok((truth, results, looked))
            });
            (truth, results, looked) = computing.await?.done().await?.0;
        } else {
            drop(decoding);
        }
        let asked = self.order.metrics.clone();
        let (methods, made) = bad_off_thread(move || {
            let reference = looked.truth().map(|scores| Method { method: REFERENCE.into(), scores });
            let mut methods: Vec<Method> = reference.into_iter().collect();
            for (at, (method, result)) in results.iter().enumerate() {
                let scores = looked.add(at, truth.scores(result, &asked)?);
                methods.push(Method { method: method.clone(), scores });
            }
            Ok((methods, results.pop().filter(|_| is_made).map(|(_, made)| made)))
        })
        .await?;
        if let Some((store, made)) = self.pictures.as_ref().zip(made) {
            write(store, item, made).await?;
        }
        Ok(Row { picture, size: Some([width as u32, height as u32]), methods, reason: None })
    }
}

/// What the model makes of a picture.
fn enlarged(
    held: &mut Held,
    processor: &Arc<SuperResolution>,
    low: &Rgb,
    scale: usize,
    key: &str,
    attempt: &Attempt,
) -> Result<Rgb, Stop> {
    let device = held.get(&processor.device_name(), processor, || processor.open_device())?;
    let rgb: Vec<f32> = low.pixels.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
    let input = LowRes { width: low.width, height: low.height, rgb: &rgb, key, lossy: false };
    let mut step = |share: f64| {
        attempt.progress().on_device(key, share as f32);
        match attempt.cancel().is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let class = processor.class(key, || low.clone()).map_err(|reason| Stop::Bad { reason })?;
    let mut upscaler = processor.upscaler(device, class).map_err(|e| Stop::Bad { reason: e.to_string() })?;
    let made = upscaler.enlarge(&input, scale, &mut step).map_err(|error| match error {
        UpscaleError::Cancelled => Stop::Cancelled,
        other => Stop::Bad { reason: other.to_string() },
    })?;
    measure::rounded(made.width, made.height, made.rgb).map_err(|reason| Stop::Bad { reason })
}

async fn write(store: &Store, item: &Item, made: Rgb) -> Result<(), Stop> {
    let png = FormatChoice::Fixed(images::OutputFormat::Png);
    let (key, _) =
        naming::output_key(&item.truth.key, png).map_err(|e| Stop::Bad { reason: e.to_string() })?;
    let bytes = bad_off_thread(move || {
        let encoded = image::encode(&made.picture(), OutputFormat::Png, 100).map_err(|e| e.to_string())?;
        Ok(encoded.bytes)
    });
    // The same bytes whoever writes them.
    store.put(&key, bytes.await?.into(), PutMode::Replace).await.map_err(Stop::transient)
}

fn in_reference(error: String, has_result: bool) -> String {
    if has_result { format!("its reference: {error}") } else { error }
}

async fn bad_off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Stop> {
    let broke = |_| Err("internal error while it was measured; please report it with this file".to_string());
    off_thread(work).await.unwrap_or_else(broke).map_err(|reason| Stop::Bad { reason })
}
