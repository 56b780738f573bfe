//! A unit of the first stage at work: pictures to features.
//!
//! Some pictures go through the network together; which ones changes no bit. A picture that cannot be read is left out with its
//! reason, whatever lies beside it.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use sr3_engine::{
    metrics::Picture,
    vision::{FidMode, Inception},
};
use sr3_proto::{Digest, FailureKind, Store, off_thread, session::UnitResult, store::PutMode};
use sr3_worker::{Attempt, Failure, Pipeline, Stop, UnitWork, telemetry};

use super::{
    order::Keeps,
    part::{self, Part, Rows, pixel_digest},
    unit::{Found, Item, Looked, Verdict, What, record, verdicts},
};
use crate::{
    images::{Rgb, check_length, read, read_part, shard},
    models::Delivered,
};

/// Reasons that are told beside the numbers.
const REASONS: usize = 5;
/// Memory that a shard takes while its pictures are found.
const SHARD_ROOM: u64 = 64 << 20;
/// Pictures of a shard whose features lie in one object: 8 MB.
const PART_IMAGES: usize = 1024;
const BROKEN: &str = "internal error while it was decoded; please report it with this file";

/// What all units of an order share.
pub(super) struct Looks {
    pub(super) mode: FidMode,
    pub(super) keeps: Keeps,
    pub(super) network: Arc<Delivered>,
    /// Where features go.
    pub(super) features: Arc<Store>,
}

/// A unit at work.
pub(super) struct LookUnit {
    looks: Arc<Looks>,
    source: Arc<Store>,
    /// What goes through the network together.
    calls: Vec<Vec<(u32, Item)>>,
    batch: usize,
    earlier: Vec<Verdict>,
    /// As how many pictures each item counts.
    counts: Vec<u32>,
}

/// A picture on its way, with its name.
type Named<T> = (String, T);

impl LookUnit {
    /// With the items that are open, up to `batch` pictures at once.
    pub(super) fn new(
        looks: Arc<Looks>,
        source: Arc<Store>,
        counts: Vec<u32>,
        open: Vec<(u32, Item)>,
        earlier: Vec<Verdict>,
        batch: usize,
    ) -> Self {
        let mut calls: Vec<Vec<(u32, Item)>> = Vec::new();
        let is_picture = |item: &Item| item.what == What::Picture;
        for (place, item) in open {
            match calls.last_mut() {
                Some(call) if call.len() < batch && is_picture(&item) && is_picture(&call[0].1) => {
                    call.push((place, item));
                }
                _ => calls.push(vec![(place, item)]),
            }
        }
        Self { looks, source, calls, batch, earlier, counts }
    }
}

#[async_trait]
impl UnitWork for LookUnit {
    fn items(&self) -> usize {
        self.calls.len()
    }

    async fn prepare(&self) -> Result<(), Failure> {
        self.looks.network.prepare().await
    }

    async fn item(&self, index: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop> {
        let call = self.calls.get(index).ok_or_else(|| Stop::worker("there is no such item"))?;
        let found = match &call[..] {
            [(place, item)] if item.what != What::Picture => {
                let looked = match &item.what {
                    What::Shard => self.shard(item, attempt, pipeline).await,
                    _ => self.samples(item, attempt, pipeline).await,
                };
                vec![match looked {
                    Ok((rows, parts, left_out)) => Verdict::new(*place, rows, parts, left_out),
                    Err(Stop::Bad { reason }) => Verdict::bad(*place, item.name(), reason),
                    Err(stop) => return Err(stop),
                }]
            }
            pictures => match self.pictures(pictures, attempt, pipeline).await {
                // One of them breaks the network's code: which, is found out one by one.
                Err(Stop::Bad { .. }) => {
                    let mut found = Vec::with_capacity(pictures.len());
                    for (place, item) in pictures {
                        let alone = [(*place, item.clone())];
                        found.extend(match self.pictures(&alone, attempt, pipeline).await {
                            Err(Stop::Bad { reason }) => vec![Verdict::bad(*place, item.name(), reason)],
                            other => other?,
                        });
                    }
                    found
                }
                other => other?,
            },
        };
        Ok(record(found))
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let wrong = |reason: String| Failure::new(FailureKind::Worker, reason);
        let mut all: Vec<Verdict> = self.earlier.iter().cloned().chain(verdicts(&records)).collect();
        all.sort_by_key(|verdict| verdict.place);
        all.dedup_by_key(|verdict| verdict.place);
        let (mut rows, mut parts, mut left_out) = (Rows::default(), Vec::new(), Vec::new());
        let (mut done, mut quarantined) = (0, 0);
        for verdict in all {
            let count = u64::from(self.counts.get(verdict.place as usize).copied().unwrap_or(0));
            let (mut found, mut stored, mut without) = verdict.parts(self.looks.keeps).map_err(wrong)?;
            *if found.pictures.is_empty() && stored.is_empty() { &mut quarantined } else { &mut done } +=
                count;
            rows.append(std::mem::take(&mut found));
            parts.append(&mut stored);
            left_out.append(&mut without);
        }
        if !rows.pictures.is_empty() {
            parts.insert(0, write(&self.looks.features, &rows).await?);
        }
        Ok(UnitResult {
            done,
            quarantined,
            reasons: left_out.iter().take(REASONS).map(|(name, why)| format!("{name}: {why}")).collect(),
            payload: serde_json::to_vec(&Looked { parts, left_out }).unwrap_or_default().into(),
        })
    }
}

/// Writes features as an object; the same whoever writes them.
async fn write(store: &Store, rows: &Rows) -> Result<Part, Failure> {
    let bytes = rows.encode().map_err(|e| Failure::new(FailureKind::Worker, e))?;
    let part = Part { sha256: Digest::of(&bytes), images: rows.pictures.len() as u64 };
    let put = store.put(&part::part_key(&part.sha256), bytes, PutMode::Replace).await;
    put.map_err(|e| Failure::new(FailureKind::Transient, e))?;
    Ok(part)
}

impl LookUnit {
    /// Pictures of files.
    async fn pictures(
        &self,
        call: &[(u32, Item)],
        attempt: &Arc<Attempt>,
        pipeline: &Pipeline,
    ) -> Result<Vec<Verdict>, Stop> {
        let most = pipeline.input_bytes_max();
        let bytes = call.iter().map(|(_, item)| item.bytes.min(most)).sum();
        let room = pipeline.encoded_room(bytes, attempt).await?;
        let fetch = |item: Item| async move {
            check_length(item.bytes, most)?;
            read(&self.source, &item.key, item.etag.as_deref(), most, attempt, |_| ()).await
        };
        let fetched = join_all(call.iter().map(|(_, item)| fetch(item.clone()))).await;
        let mut files = Vec::with_capacity(call.len());
        for ((_, item), bytes) in call.iter().zip(fetched) {
            files.push((item.key.to_string(), bad(bytes)?));
        }
        let (rows, left_out) = self.look(files, attempt, pipeline).await?;
        drop(room);
        let mut verdicts = Vec::with_capacity(call.len());
        let (mut rows, mut left_out) = (rows.into_iter().peekable(), left_out.into_iter().peekable());
        for (place, item) in call {
            let name = item.key.to_string();
            if let Some((_, row)) = rows.next_if(|(of, _)| *of == name) {
                verdicts.push(Verdict::new(*place, row, Vec::new(), Vec::new()));
            } else if let Some((name, reason)) = left_out.next_if(|(of, _)| *of == name) {
                verdicts.push(Verdict::bad(*place, name, reason));
            }
        }
        Ok(verdicts)
    }

    /// Rows of an array.
    async fn samples(&self, item: &Item, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Found, Stop> {
        let What::Samples { offset, height, width, first, count } = item.what else {
            return Err(Stop::worker("it is no array"));
        };
        let size = u64::from(height) * u64::from(width) * 3;
        let range = |from: u64, to: u64| offset + from * size..offset + to * size;
        let (mut all, end) = (Rows::default(), first + u64::from(count));
        for begin in (first..end).step_by(self.batch.max(1)) {
            let stop = end.min(begin + self.batch.max(1) as u64);
            let room = pipeline.encoded_room((stop - begin) * size, attempt).await?;
            let etag = item.etag.as_deref();
            let bytes = read_part(&self.source, &item.key, etag, range(begin, stop), attempt).await?;
            let sides = (width as usize, height as usize);
            let pictures = bytes.chunks_exact(size as usize).zip(begin..).map(|(pixels, row)| {
                let picture = Rgb { width: sides.0, height: sides.1, pixels: pixels.to_vec() };
                (format!("{}[{row}]", item.key), picture)
            });
            let pictures: Vec<Named<Rgb>> = pictures.collect();
            let decoding = pipeline.decoding(attempt).await?;
            let _pixels = decoding.hold_pixels((stop - begin) * size / 3).await;
            for (_, row) in self.features(pictures, attempt, decoding).await? {
                all.append(row);
            }
            drop(room);
        }
        Ok((all, Vec::new(), Vec::new()))
    }

    /// The pictures of an archive, found first, then read in turn.
    async fn shard(&self, item: &Item, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Found, Stop> {
        let most = pipeline.input_bytes_max();
        let etag = item.etag.as_deref();
        let room = pipeline.encoded_room(item.bytes.min(SHARD_ROOM), attempt).await?;
        let look = |read: Result<Vec<u8>, u64>| read.map(|_| ());
        let contents = shard::walk(&self.source, &item.key, etag, item.bytes, most, attempt, look).await?;
        drop(room);
        let (mut rows, mut parts, mut left_out) = (Rows::default(), Vec::new(), Vec::new());
        let name = |place: &shard::Place| format!("{}/{}", item.key, place.name);
        for (place, _, read) in &contents.pictures {
            if let Err(bytes) = read {
                left_out.push((name(place), format!("it is {bytes} bytes long, and {most} are allowed")));
            }
        }
        let readable: Vec<_> = contents.pictures.iter().filter(|(.., read)| read.is_ok()).collect();
        for call in readable.chunks(self.batch.max(1)) {
            let room = pipeline.encoded_room(call.iter().map(|(_, bytes, _)| bytes).sum(), attempt).await?;
            let part = |range: Range<u64>| read_part(&self.source, &item.key, etag, range, attempt);
            let ranges = call.iter().map(|(place, bytes, _)| place.offset..place.offset + bytes);
            let fetched = join_all(ranges.map(part)).await;
            let mut files = Vec::with_capacity(call.len());
            for ((place, ..), bytes) in call.iter().zip(fetched) {
                files.push((name(place), Ok(bytes?)));
            }
            let (found, mut without) = self.look(files, attempt, pipeline).await?;
            drop(room);
            left_out.append(&mut without);
            found.into_iter().for_each(|(_, row)| rows.append(row));
            if rows.pictures.len() >= PART_IMAGES {
                let whole = std::mem::take(&mut rows);
                parts.push(write(&self.looks.features, &whole).await.map_err(Stop::Failed)?);
            }
        }
        if !rows.pictures.is_empty() {
            parts.push(write(&self.looks.features, &rows).await.map_err(Stop::Failed)?);
        }
        left_out.extend(contents.damage.map(|damage| (item.name(), damage)));
        if parts.is_empty() && left_out.is_empty() {
            left_out.push((item.name(), "it holds no pictures".to_string()));
        }
        Ok((Rows::default(), parts, left_out))
    }

    /// Decodes files and looks at what is in them: features by name, and what cannot be decoded, both in order.
    async fn look(
        &self,
        files: Vec<Named<Result<Bytes, String>>>,
        attempt: &Arc<Attempt>,
        pipeline: &Pipeline,
    ) -> Result<(Vec<Named<Rows>>, Vec<Named<String>>), Stop> {
        let decoding = pipeline.decoding(attempt).await?;
        let (mut pictures, mut left_out) = (Vec::with_capacity(files.len()), Vec::new());
        for (name, bytes) in files {
            let decoded = match bytes {
                Ok(bytes) => {
                    let decoded = off_thread(move || Rgb::decode(&bytes)).await;
                    decoded.unwrap_or_else(|_| Err(BROKEN.into()))
                }
                Err(reason) => Err(reason),
            };
            match decoded {
                Ok(picture) => pictures.push((name, picture)),
                Err(reason) => {
                    telemetry::item_quarantined();
                    left_out.push((name, reason));
                }
            }
        }
        if pictures.is_empty() {
            return Ok((Vec::new(), left_out));
        }
        let pixels = pictures.iter().map(|(_, picture)| (picture.width * picture.height) as u64).sum();
        let _pixels = decoding.hold_pixels(pixels).await;
        Ok((self.features(pictures, attempt, decoding).await?, left_out))
    }

    /// What the network says of each picture.
    async fn features(
        &self,
        pictures: Vec<Named<Rgb>>,
        attempt: &Arc<Attempt>,
        decoding: sr3_worker::Decoding<'_>,
    ) -> Result<Vec<Named<Rows>>, Stop> {
        let (looks, at_work) = (Arc::clone(&self.looks), Arc::clone(attempt));
        let computing = decoding.compute(attempt, move |held| {
            let network = &looks.network;
            let open = || network.open(Inception::new, Inception::digest);
            let inception = held.get(&network.name(), network, open)?;
            if let Some((name, _)) = pictures.first() {
                at_work.progress().on_device(name, 0.0);
            }
            let wrong = |e: &dyn std::fmt::Display| Stop::Bad { reason: e.to_string() };
            let views = pictures.iter().map(|(_, one)| Picture::new(one.width, one.height, &one.pixels));
            let views: Vec<Picture<'_>> = views.collect::<Result<_, _>>().map_err(|e| wrong(&e))?;
            let found = inception.features(&views, looks.mode).map_err(|e| wrong(&e))?;
            let count = pictures.len();
            let of = |values: &[f32], i: usize, is_kept: bool| match is_kept {
                true => values[i * values.len() / count..(i + 1) * values.len() / count].to_vec(),
                false => Vec::new(),
            };
            let rows = pictures.iter().enumerate().map(|(i, (name, picture))| {
                let rows = Rows {
                    pictures: vec![pixel_digest(picture)],
                    pool: of(&found.pool, i, true),
                    spatial: of(&found.spatial, i, looks.keeps.spatial),
                    logits: of(&found.logits, i, looks.keeps.logits),
                };
                telemetry::item_done((picture.width * picture.height) as u64);
                (name.clone(), rows)
            });
            Ok(rows.collect::<Vec<_>>())
        });
        Ok(computing.await?.done().await?.0)
    }
}

/// What is wrong with one picture is no reason to stop the others.
fn bad<T>(read: Result<T, Stop>) -> Result<Result<T, String>, Stop> {
    match read {
        Ok(found) => Ok(Ok(found)),
        Err(Stop::Bad { reason }) => Ok(Err(reason)),
        Err(stop) => Err(stop),
    }
}
