//! Between the session's values and its messages. Pure. What a stranger sent is checked here: a message that cannot be
//! read is an error that names the field, never a panic and never a default that nobody meant.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::v1;
use crate::{
    Digest, FailureKind, FromWorker, Grant, Hello, ItemRecord, ItemTask, JobId, Key, Lease, LeaseProgress,
    OnExisting, OutputFormat, RunId, ShardId, ToWorker, WorkerId,
};

/// A message that breaks the protocol.
#[derive(Debug, thiserror::Error)]
#[error("the message's `{field}` cannot be used: {reason}")]
pub struct WireError {
    /// Which part.
    pub field: &'static str,
    /// Why.
    pub reason: String,
}

fn bad(field: &'static str, reason: impl ToString) -> WireError {
    WireError { field, reason: reason.to_string() }
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| bad(field, "it is missing"))
}

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        let Lease { epoch, job, shard, attempt, token } = lease;
        Self { epoch, job: job.get(), shard: shard.get(), attempt, token }
    }
}

impl From<v1::Lease> for Lease {
    fn from(lease: v1::Lease) -> Self {
        let v1::Lease { epoch, job, shard, attempt, token } = lease;
        Self { epoch, job: JobId::new(job), shard: ShardId::new(shard), attempt, token }
    }
}

fn lease(lease: Option<v1::Lease>) -> Result<Lease, WireError> {
    need("lease", lease).map(Lease::from)
}

fn digest(field: &'static str, text: String) -> Result<Digest, WireError> {
    Digest::try_from(text).map_err(|e| bad(field, e))
}

fn digests(field: &'static str, texts: Vec<String>) -> Result<Vec<Digest>, WireError> {
    texts.into_iter().map(|text| digest(field, text)).collect()
}

fn texts(digests: Vec<Digest>) -> Vec<String> {
    digests.into_iter().map(String::from).collect()
}

/// A record as it is kept in the ledger and sent: compact JSON.
impl From<&ItemRecord> for Bytes {
    fn from(record: &ItemRecord) -> Self {
        // Its maps have text keys and its floats are finite or null: it always has a JSON form.
        serde_json::to_vec(record).unwrap_or_default().into()
    }
}

impl TryFrom<&Bytes> for ItemRecord {
    type Error = WireError;

    fn try_from(bytes: &Bytes) -> Result<Self, WireError> {
        serde_json::from_slice(bytes).map_err(|e| bad("record", e))
    }
}

fn records(bytes: &[Bytes]) -> Result<Vec<ItemRecord>, WireError> {
    bytes.iter().map(ItemRecord::try_from).collect()
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        let Hello { name, version, device, instance, held, credits, models } = hello;
        Self {
            protocol: super::PROTOCOL,
            name,
            version,
            device,
            instance,
            held: held.into_iter().map(v1::Lease::from).collect(),
            credits,
            models: texts(models),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = WireError;

    fn try_from(hello: v1::Hello) -> Result<Self, WireError> {
        let v1::Hello { protocol, name, version, device, instance, held, credits, models } = hello;
        if protocol != super::PROTOCOL {
            return Err(bad(
                "protocol",
                format!(
                    "the worker speaks version {protocol} (sr3 {version}) and this coordinator version {}: run the \
                     same sr3 on both",
                    super::PROTOCOL
                ),
            ));
        }
        if instance.is_empty() {
            return Err(bad("instance", "it is empty"));
        }
        let held = held.into_iter().map(Lease::from).collect();
        Ok(Self { name, version, device, instance, held, credits, models: digests("models", models)? })
    }
}

impl From<FromWorker> for v1::SessionRequest {
    fn from(message: FromWorker) -> Self {
        use v1::session_request::Message;
        let message = match message {
            FromWorker::Heartbeat { credits, leases, models, draining } => {
                let leases = leases.into_iter().map(v1::LeaseProgress::from).collect();
                Message::Heartbeat(v1::Heartbeat { credits, leases, models: texts(models), draining })
            }
            FromWorker::ItemDone { lease, record } => {
                Message::ItemDone(v1::ItemDone { lease: Some(lease.into()), record: (&*record).into() })
            }
            FromWorker::ShardDone { lease, done, quarantined, manifest, reasons } => {
                let (lease, manifest_sha256) = (Some(lease.into()), manifest.into());
                Message::ShardDone(v1::ShardDone { lease, done, quarantined, manifest_sha256, reasons })
            }
            FromWorker::ShardFailed { lease, reason, kind, records } => {
                Message::ShardFailed(v1::ShardFailed {
                    lease: Some(lease.into()),
                    reason,
                    kind: v1::FailureKind::from(kind).into(),
                    records: records.iter().map(Bytes::from).collect(),
                })
            }
            FromWorker::ShardReturned { lease, records } => Message::ShardReturned(v1::ShardReturned {
                lease: Some(lease.into()),
                records: records.iter().map(Bytes::from).collect(),
            }),
            FromWorker::Goodbye => Message::Goodbye(v1::Goodbye {}),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SessionRequest> for FromWorker {
    type Error = WireError;

    fn try_from(request: v1::SessionRequest) -> Result<Self, WireError> {
        use v1::session_request::Message;
        Ok(match need("message", request.message)? {
            Message::Hello(_) => return Err(bad("hello", "it was said before")),
            Message::Heartbeat(v1::Heartbeat { credits, leases, models, draining }) => Self::Heartbeat {
                credits,
                leases: leases.into_iter().map(LeaseProgress::try_from).collect::<Result<_, _>>()?,
                models: digests("models", models)?,
                draining,
            },
            Message::ItemDone(v1::ItemDone { lease: held, record }) => {
                Self::ItemDone { lease: lease(held)?, record: Box::new(ItemRecord::try_from(&record)?) }
            }
            Message::ShardDone(v1::ShardDone {
                lease: held,
                done,
                quarantined,
                manifest_sha256,
                reasons,
            }) => {
                let manifest = digest("manifest_sha256", manifest_sha256)?;
                Self::ShardDone { lease: lease(held)?, done, quarantined, manifest, reasons }
            }
            Message::ShardFailed(failed) => Self::ShardFailed {
                kind: failed.kind().into(),
                lease: lease(failed.lease)?,
                records: records(&failed.records)?,
                reason: failed.reason,
            },
            Message::ShardReturned(v1::ShardReturned { lease: held, records: verdicts }) => {
                Self::ShardReturned { lease: lease(held)?, records: records(&verdicts)? }
            }
            Message::Goodbye(v1::Goodbye {}) => Self::Goodbye,
        })
    }
}

impl From<LeaseProgress> for v1::LeaseProgress {
    fn from(progress: LeaseProgress) -> Self {
        let LeaseProgress { lease, items_done, current, share } = progress;
        Self { lease: Some(lease.into()), items_done, current: current.unwrap_or_default(), share }
    }
}

impl TryFrom<v1::LeaseProgress> for LeaseProgress {
    type Error = WireError;

    fn try_from(progress: v1::LeaseProgress) -> Result<Self, WireError> {
        let v1::LeaseProgress { lease: held, items_done, current, share } = progress;
        let current = Some(current).filter(|c| !c.is_empty());
        Ok(Self { lease: lease(held)?, items_done, current, share })
    }
}

impl From<FailureKind> for v1::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Transient => Self::Transient,
            FailureKind::Worker => Self::Worker,
            FailureKind::Job => Self::Job,
        }
    }
}

impl From<v1::FailureKind> for FailureKind {
    fn from(kind: v1::FailureKind) -> Self {
        match kind {
            v1::FailureKind::Unspecified | v1::FailureKind::Transient => Self::Transient,
            v1::FailureKind::Worker => Self::Worker,
            v1::FailureKind::Job => Self::Job,
        }
    }
}

impl From<ToWorker> for v1::SessionResponse {
    fn from(message: ToWorker) -> Self {
        use v1::session_response::Message;
        let message = match message {
            ToWorker::Welcome { worker, epoch, lease_ttl, heartbeat_every, renewed } => {
                Message::Welcome(v1::Welcome {
                    worker: worker.get(),
                    epoch,
                    lease_ttl_ms: millis(lease_ttl),
                    heartbeat_every_ms: millis(heartbeat_every),
                    renewed: renewed
                        .into_iter()
                        .map(|(old, new)| v1::Renewed { old: Some(old.into()), new: Some(new.into()) })
                        .collect(),
                })
            }
            ToWorker::Grant(grant) => Message::Grant((*grant).into()),
            ToWorker::Committed { lease } => Message::Committed(v1::Committed { lease: Some(lease.into()) }),
            ToWorker::Revoke { lease, reason } => {
                Message::Revoke(v1::Revoke { lease: Some(lease.into()), reason })
            }
            ToWorker::Drain => Message::Drain(v1::Drain {}),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SessionResponse> for ToWorker {
    type Error = WireError;

    fn try_from(response: v1::SessionResponse) -> Result<Self, WireError> {
        use v1::session_response::Message;
        Ok(match need("message", response.message)? {
            Message::Welcome(welcome) => {
                let renewed = welcome
                    .renewed
                    .into_iter()
                    .map(|v1::Renewed { old, new }| Ok((lease(old)?, lease(new)?)));
                Self::Welcome {
                    worker: WorkerId::new(welcome.worker),
                    epoch: welcome.epoch,
                    lease_ttl: Duration::from_millis(welcome.lease_ttl_ms.into()),
                    heartbeat_every: Duration::from_millis(welcome.heartbeat_every_ms.max(1).into()),
                    renewed: renewed.collect::<Result<_, WireError>>()?,
                }
            }
            Message::Grant(grant) => Self::Grant(Box::new(Grant::try_from(grant)?)),
            Message::Committed(v1::Committed { lease: held }) => Self::Committed { lease: lease(held)? },
            Message::Revoke(v1::Revoke { lease: held, reason }) => {
                Self::Revoke { lease: lease(held)?, reason }
            }
            Message::Drain(v1::Drain {}) => Self::Drain,
        })
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl From<Grant> for v1::Grant {
    fn from(grant: Grant) -> Self {
        let Grant { lease, spec, run, items, records, isolated } = grant;
        Self {
            lease: Some(lease.into()),
            model: spec.model.clone(),
            // Like a record, it always has a JSON form.
            spec: serde_json::to_string(&*spec).unwrap_or_default(),
            run: run.get(),
            items: items.into_iter().map(v1::Item::from).collect(),
            records: records.iter().map(Bytes::from).collect(),
            isolated,
        }
    }
}

impl TryFrom<v1::Grant> for Grant {
    type Error = WireError;

    fn try_from(grant: v1::Grant) -> Result<Self, WireError> {
        let v1::Grant { lease: held, spec, model: _, run, items, records: verdicts, isolated } = grant;
        Ok(Self {
            lease: lease(held)?,
            spec: Arc::new(serde_json::from_str(&spec).map_err(|e| bad("spec", e))?),
            run: RunId::new(run),
            items: items.into_iter().map(ItemTask::try_from).collect::<Result<_, _>>()?,
            records: records(&verdicts)?,
            isolated,
        })
    }
}

impl From<ItemTask> for v1::Item {
    fn from(item: ItemTask) -> Self {
        let ItemTask { input, input_bytes, input_etag, output, format, on_existing } = item;
        let (kind, own_sha256) = match on_existing {
            OnExisting::Keep => (v1::OnExisting::Keep, String::new()),
            OnExisting::ReplaceOwn(own) => (v1::OnExisting::ReplaceOwn, own.into()),
            OnExisting::Replace => (v1::OnExisting::Replace, String::new()),
        };
        Self {
            input: input.into(),
            input_bytes,
            output: output.into(),
            format: format.name().to_string(),
            on_existing: kind.into(),
            own_sha256,
            etag: input_etag.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Item> for ItemTask {
    type Error = WireError;

    fn try_from(item: v1::Item) -> Result<Self, WireError> {
        let on_existing = match item.on_existing() {
            v1::OnExisting::Unspecified | v1::OnExisting::Keep => OnExisting::Keep,
            v1::OnExisting::ReplaceOwn => OnExisting::ReplaceOwn(digest("own_sha256", item.own_sha256)?),
            v1::OnExisting::Replace => OnExisting::Replace,
        };
        Ok(Self {
            input: Key::new(item.input).map_err(|e| bad("input", e))?,
            input_bytes: item.input_bytes,
            input_etag: Some(item.etag).filter(|etag| !etag.is_empty()),
            output: Key::new(item.output).map_err(|e| bad("output", e))?,
            format: OutputFormat::from_name(&item.format)
                .ok_or_else(|| bad("format", format!("`{}` is none of ours", item.format)))?,
            on_existing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FormatChoice, ItemStatus, Naming, RecipeSpec, UpscaleSpec};

    fn spec() -> UpscaleSpec {
        UpscaleSpec {
            source: "s3://a/in".into(),
            destination: "s3://a/out".into(),
            model: "photo-4x".into(),
            recipe: RecipeSpec {
                model: Digest::of(b"m"),
                model_name: "photo-4x".into(),
                preset: "default".into(),
                sampler: None,
                steps: Some(3),
                sampling: "ddim".into(),
                seed: u64::MAX,
                scale: 4,
                format: FormatChoice::Auto,
                quality: 95,
                background: None,
                tile: None,
                projection: true,
                dtype: Default::default(),
            },
            naming: Naming::Mirror,
            include: vec!["*.png".into()],
            exclude: Vec::new(),
            bytes_min: None,
            bytes_max: Some(7),
            max_bad_items: Some(0),
            overwrite: false,
        }
    }

    fn held() -> Lease {
        Lease { epoch: 3, job: JobId::new(1), shard: ShardId::new(0), attempt: 2, token: 9 }
    }

    fn record() -> ItemRecord {
        let mut record = ItemRecord::without_result("é#.png", None, ItemStatus::Ok, "x", &spec().recipe);
        record.consistency_error = Some(1.0e-7);
        record
    }

    #[test]
    fn what_is_sent_arrives() {
        let item = |on_existing| ItemTask {
            input: Key::new("a/é#.gif").unwrap(),
            input_bytes: 5,
            input_etag: Some("e".into()),
            output: Key::new("a/é#.gif.png").unwrap(),
            format: OutputFormat::Png,
            on_existing,
        };
        let items = vec![
            item(OnExisting::Keep),
            item(OnExisting::Replace),
            item(OnExisting::ReplaceOwn(Digest::of(b"own"))),
        ];
        let grant = Grant {
            lease: held(),
            spec: Arc::new(spec()),
            run: RunId::new(4),
            items,
            records: vec![record()],
            isolated: true,
        };
        for message in [
            ToWorker::Welcome {
                worker: WorkerId::new(2),
                epoch: 3,
                lease_ttl: Duration::from_secs(30),
                heartbeat_every: Duration::from_secs(5),
                renewed: vec![(held(), Lease { token: 10, ..held() })],
            },
            ToWorker::Grant(Box::new(grant)),
            ToWorker::Committed { lease: held() },
            ToWorker::Revoke { lease: held(), reason: "r".into() },
            ToWorker::Drain,
        ] {
            let wire = v1::SessionResponse::from(message.clone());
            assert_eq!(ToWorker::try_from(wire).unwrap(), message);
        }
        let progress = LeaseProgress { lease: held(), items_done: 1, current: Some("a".into()), share: 0.5 };
        for message in [
            FromWorker::Heartbeat {
                credits: 2,
                leases: vec![progress],
                models: vec![Digest::of(b"m")],
                draining: true,
            },
            FromWorker::ItemDone { lease: held(), record: Box::new(record()) },
            FromWorker::ShardDone {
                lease: held(),
                done: 1,
                quarantined: 2,
                manifest: Digest::of(b"x"),
                reasons: vec!["r".into()],
            },
            FromWorker::ShardFailed {
                lease: held(),
                reason: "r".into(),
                kind: FailureKind::Worker,
                records: vec![record()],
            },
            FromWorker::ShardReturned { lease: held(), records: vec![record()] },
            FromWorker::Goodbye,
        ] {
            let wire = v1::SessionRequest::from(message.clone());
            assert_eq!(FromWorker::try_from(wire).unwrap(), message);
        }
    }

    #[test]
    fn another_protocol_is_refused_with_both_versions() {
        let hello = v1::Hello { protocol: 99, version: "9.0".into(), ..v1::Hello::default() };
        let text = Hello::try_from(hello).unwrap_err().to_string();
        assert!(text.contains("99") && text.contains("9.0") && text.contains("version 1"), "{text}");
    }

    #[test]
    fn a_key_that_leaves_its_root_is_refused() {
        let item = v1::Item {
            input: "../a".into(),
            output: "a".into(),
            format: "png".into(),
            ..v1::Item::default()
        };
        assert_eq!(ItemTask::try_from(item).unwrap_err().field, "input");
        assert!(FromWorker::try_from(v1::SessionRequest { message: None }).is_err());
    }
}
