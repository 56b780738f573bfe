//! What is fuzzed: one function a target, each of which takes bytes from a stranger and must neither panic nor take more than
//! a bounded amount of time and memory.
//!
//! | target | what strangers send |
//! |---|---|
//! | [`job_spec`] | job specs |
//! | [`wire`] | messages of `sr3/v1` |
//! | [`ledger_rows`] | a ledger: its rows, or an export of it |
//! | [`records`] | a destination's `.sr3/`, the bytes of units, orders |
//! | [`image`], [`avif`] | pictures of every format |
//! | [`safetensors`], [`pth`], [`model_config`] | the files of checkpoints |
//! | [`npz`] | statistics and samples of other tools |
//! | [`certificate`] | certificates, tokens, addresses |
//!
//! Where something is read and written again, both must agree.

use std::{
    panic, slice, str,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use sr3_coordinator::{
    Kinds,
    clock::Clock,
    core::{self, Parts},
    ledger::{Batch, Ledger, MemoryLedgerStorage, dump},
    scheduler,
};
use sr3_engine::{
    image::{self as pictures, DecodeLimits, HiddenColours, InputFormat, OutputFormat},
    model::{
        Graph,
        checkpoint::CheckpointConfig,
        import::{InferOptions, infer, read_pth, read_wheel},
        tensors::{ReadLimits, npz_entries, read_npz, read_safetensors, write_npz, write_safetensors},
    },
};
use sr3_jobs::{
    JobSpec, Wish,
    evaluate::{EvaluateOrder, NUMBERS, report as evaluation},
    images::Naming,
    spec::KINDS,
    upscale::{
        EngineModels, ItemRecord, Items, RecipeSpec, RunRecord, Settled, ShardManifest, Success,
        UpscaleOrder,
        engine_models::recipe,
        history::History,
        in_flight::InFlight,
        record::{read_document, write_document},
        report,
    },
};
use sr3_proto::{
    Cancel, Digest, FromWorker, Grant, Head, Hello, Lease, LeaseProgress, Location, Order, StoreError,
    ToWorker,
    access::Token,
    net::{Address, CertificateName},
    wire::v1,
};
use tokio::runtime::{Builder, Runtime};

/// Before the first input: `found` is called at a panic in this project's own code. A decoder of other people that panics is
/// caught and told by the engine and no finding; of our own code it would be one all the same.
pub fn watch(found: fn()) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|location| !location.file().contains("/registry/src/")) {
            before(info);
            found();
        }
    }));
}

/// A spec is refused or has a canonical text that reads back to it.
pub fn job_spec(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match JobSpec::parse(text) {
        Ok(spec) => {
            let canonical = spec.to_yaml();
            assert_eq!(JobSpec::parse(&canonical).as_ref(), Ok(&spec), "{canonical}");
            assert!(spec.check().is_ok());
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
    drop(JobSpec::documents(text).map(|all| all.iter().map(JobSpec::read).collect::<Vec<_>>()));
}

/// Every message of `sr3/v1` and the values made of them.
pub fn wire(data: &[u8]) {
    values::<v1::SessionRequest, FromWorker>(data, |value| value.into());
    values::<v1::SessionResponse, ToWorker>(data, |value| value.into());
    values::<v1::Hello, Hello>(data, |value| value.into());
    values::<v1::Grant, Grant>(data, |value| value.into());
    values::<v1::Order, Order>(data, |value| (&value).into());
    values::<v1::LeaseProgress, LeaseProgress>(data, |value| value.into());
    values::<v1::Lease, Lease>(data, |value| value.into());
    macro_rules! decoded {
        ($($message:ident)*) => { $(decode::<v1::$message>(data);)* };
    }
    decoded! {
        Token CreateTokenRequest CreateTokenResponse ListTokensRequest ListTokensResponse RevokeTokenRequest
        RevokeTokenResponse JobCounts Job CurrentItem SubmitJobRequest SubmitJobResponse GetJobRequest GetJobResponse
        ListJobsRequest ListJobsResponse WatchJobRequest WatchJobResponse JobLogsRequest JobEvent JobLogsResponse
        CancelJobRequest CancelJobResponse PauseJobRequest PauseJobResponse ResumeJobRequest ResumeJobResponse Worker
        ListWorkersRequest ListWorkersResponse DrainWorkerRequest DrainWorkerResponse
    }
}

/// A message that is decoded is encoded to what decodes to it.
fn decode<M: Message + Default>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    let bytes = message.encode_to_vec();
    let again = M::decode(&*bytes).map(|again| again.encode_to_vec());
    // Bytes, not messages: a share may be NaN.
    assert_eq!(again.as_ref(), Ok(&bytes));
    Some(message)
}

/// The value of a message goes into a message that has the same value.
fn values<M: Message + Default, V: TryFrom<M>>(data: &[u8], back: impl Fn(V) -> M) {
    let Some(Ok(value)) = decode::<M>(data).map(V::try_from) else { return };
    let bytes = back(value).encode_to_vec();
    let Some(Ok(again)) = decode::<M>(&bytes).map(V::try_from) else {
        panic!("what is sent does not arrive")
    };
    assert_eq!(back(again).encode_to_vec(), bytes);
}

/// A coordinator starts with such a ledger or says why not. The bytes are an export, or else rows: a letter for the kind, a
/// number for the job, one for the unit, the length of the row in two bytes, the row.
pub fn ledger_rows(data: &[u8]) {
    let runtime = runtime();
    runtime.block_on(async {
        let storage = MemoryLedgerStorage::new();
        let ledger = storage.open();
        if data.starts_with(b"{") {
            match dump::import(&ledger, data).await {
                Ok(count) => {
                    let mut again = Vec::new();
                    assert_eq!(dump::export(&ledger, &mut again).await.ok(), Some(count));
                }
                Err(_) => return,
            }
        } else if ledger.commit(rows(data)).await.is_err() {
            return;
        }
        let elsewhere = |location: &Location| Err(StoreError::NotFound { path: location.to_string() });
        let parts = Parts {
            kinds: Kinds::new([]),
            open_store: Arc::new(elsewhere),
            state: None,
            scheduler: scheduler::Config::default(),
            clock: Clock::with_wall(|| 0),
        };
        let Ok((coordinator, running)) = core::start(parts, Arc::new(storage.open()), Cancel::new()).await
        else {
            return;
        };
        for job in coordinator.jobs(None, 10).await.unwrap_or_default() {
            drop(coordinator.events(job.id, 0).await);
        }
        coordinator.stop().cancel();
        drop(running.ended().await);
    });
}

fn rows(mut data: &[u8]) -> Batch {
    let mut batch = Batch::new();
    while let [kind, job, unit, low, high, rest @ ..] = data {
        let length = u16::from_le_bytes([*low, *high]);
        let (row, rest) = rest.split_at(rest.len().min(length.into()));
        let key = match kind {
            b'j' => format!("job/{job:020}"),
            b'p' => format!("plan/{job:020}"),
            b'u' => format!("unit/{job:020}/{unit:020}"),
            b'a' => format!("attempts/{job:020}/{unit:020}"),
            b'd' => format!("done/{job:020}/{unit:020}"),
            b'e' => format!("event/{job:020}/{unit:020}"),
            b't' => format!("token/{job:012x}"),
            _ => format!("idempotency/{job}"),
        };
        batch.put(key, row.to_vec());
        data = rest;
    }
    batch
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime without threads")
}

/// A document that is read is written to what reads back to it.
fn document<T: DeserializeOwned + Serialize + PartialEq>(data: &[u8]) -> Option<T> {
    let document: T = read_document("x", data).ok()?;
    let again = write_document("x", &document).ok().and_then(|bytes| read_document("x", &bytes).ok());
    assert!(again.as_ref() == Some(&document));
    Some(document)
}

/// What lies at a destination, and what the ledger keeps for the kinds.
pub fn records(data: &[u8]) {
    let plain = RecipeSpec::plain(Digest::of(b"model"), "m", 4, "as played");
    let kept = UpscaleOrder {
        source: "/in".into(),
        destination: "/out".into(),
        model: "m".into(),
        memory_bytes: 1,
        recipe: plain.clone(),
        naming: Naming::Mirror,
        enlarged: None,
        include: Vec::new(),
        exclude: Vec::new(),
        bytes_min: None,
        bytes_max: None,
        max_bad_items: None,
        overwrite: false,
    };
    let kept = kept.envelope(None, 1).expect("its places are places");
    document::<RunRecord>(data);
    document::<Success>(data);
    document::<InFlight>(data);
    if let Ok(found) = read_document::<InFlight>("x", data) {
        let mut now = found.left_behind();
        now.against("a", None);
        now.begin("a", None, 1);
        now.end("a");
        now.stop();
    }
    let mut history = History::default();
    if let Ok(run) = read_document::<RunRecord>("x", data) {
        history.add_run(run);
    }
    if let Some(manifest) = document::<ShardManifest>(data) {
        history.add_manifest(manifest);
    }
    history.foreign(&plain).for_each(drop);
    let _ = (history.next_run(), history.latest_of(""));
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(lines) = report::records_of(data, "/in") {
        let mut written = Vec::new();
        lines.iter().for_each(|record| report::push_line(&mut written, "/in", record));
        assert_eq!(report::records_of(&written, "/in").ok(), Some(lines));
    }
    report::replaced(data, "/in", b"");
    if let Ok(record) = ItemRecord::from_bytes(&bytes) {
        assert_eq!(ItemRecord::from_bytes(&record.to_bytes()).ok(), Some(record));
    }
    if let Ok(items) = Items::from_bytes(&bytes) {
        assert_eq!(Items::from_bytes(&items.to_bytes()).ok(), Some(items));
    }
    if let Ok(settled) = Settled::from_bytes(&bytes) {
        assert_eq!(Settled::from_bytes(&settled.to_bytes()).ok(), Some(settled));
    }
    if let Ok(rows) = evaluation::read_rows(data) {
        let mut report = evaluation::Report::new(&NUMBERS.map(|number| number.metric), &[]);
        rows.iter().for_each(|row| report.add(row));
        drop(report.summary());
    }
    let order = |kind: &str, payload| Order { kind: kind.into(), head: Head::default(), payload };
    if let Ok(read) = UpscaleOrder::read(&order("upscale", bytes.clone()))
        && let Ok(written) = read.envelope(None, 1)
    {
        assert_eq!(UpscaleOrder::read(&written), Ok(read));
    }
    if let Ok(read) = EvaluateOrder::read(&order("evaluate", bytes.clone())) {
        drop(read.envelope(None, 1));
    }
    for name in KINDS {
        let order = order(name, kept.payload.clone());
        if let Some(kind) = kinds().find(name) {
            kind.set_aside(&order, &bytes, &[], "why");
            kind.set_aside(&order, &Bytes::new(), slice::from_ref(&bytes), "why");
        }
    }
}

fn kinds() -> &'static Kinds {
    static KINDS: OnceLock<Kinds> = OnceLock::new();
    KINDS.get_or_init(|| sr3_jobs::kinds(&Arc::new(EngineModels::default())))
}

/// A picture of any format but AVIF.
pub fn image(data: &[u8]) {
    if pictures::sniff(data) != Some(InputFormat::Avif) {
        picture(data);
    }
}

/// One of AVIF: apart, because its decoder is far slower than the others with debug assertions.
pub fn avif(data: &[u8]) {
    if pictures::sniff(data) == Some(InputFormat::Avif) {
        picture(data);
    }
}

/// A picture is refused or read whole, within limits, and written in one of our formats.
fn picture(data: &[u8]) {
    let limits = DecodeLimits {
        encoded_bytes_max: 1 << 20,
        side_max: 1024,
        pixels_max: 1 << 16,
        profile_bytes_max: 1 << 16,
    };
    let _ = pictures::probe(data);
    let decoded = match pictures::decode(data, &limits) {
        Ok(decoded) => decoded,
        Err(error) => return assert!(!error.to_string().contains('\n'), "{error}"),
    };
    let picture = decoded.picture;
    assert!(picture.is_whole() && picture.width * picture.height <= 1 << 16);
    let planes = pictures::to_planes(&picture);
    let is_deep = picture.samples.bits() == 16;
    let mut again = pictures::from_planes(&planes, picture.channels, is_deep, picture.metadata.clone());
    if let Some(hidden) = HiddenColours::of(&picture) {
        hidden.restore(&mut again);
    }
    let formats = [OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Webp, OutputFormat::Tiff];
    let format = formats[data.len() % formats.len()];
    if let Ok(encoded) = pictures::encode(&picture, format, 90) {
        let limits = DecodeLimits { encoded_bytes_max: 16 << 20, ..limits };
        let back = pictures::decode(&encoded.bytes, &limits).map(|back| back.picture);
        assert!(back.is_ok_and(|back| (back.width, back.height) == (picture.width, picture.height)));
    }
}

const LIMITS: ReadLimits = ReadLimits {
    file_bytes_max: 1 << 20,
    header_bytes_max: 1 << 18,
    tensor_bytes_max: 1 << 22,
    expansion_bytes_max: 1 << 20,
};

/// A file of tensors is refused or written again to the same tensors.
pub fn safetensors(data: &[u8]) {
    match read_safetensors(data, &LIMITS) {
        Ok((tensors, metadata)) => {
            tensors.values().for_each(|tensor| drop(tensor.to_f32()));
            let written =
                write_safetensors(&tensors, &metadata).expect("tensors that were read fill their shapes");
            let limits = ReadLimits { file_bytes_max: 1 << 24, header_bytes_max: 1 << 22, ..LIMITS };
            let again = read_safetensors(&written, &limits).expect("what was written can be read");
            assert_eq!(again, (tensors, metadata));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// An archive of NumPy is refused or written again to the same arrays; found one by one, they are the same.
pub fn npz(data: &[u8]) {
    if let Ok(entries) = npz_entries(data, data.len() as u64) {
        for entry in entries.iter().take(8) {
            let begin = usize::try_from(entry.begin).unwrap_or(usize::MAX);
            let from = data.get(begin..).unwrap_or_default();
            drop((entry.read(from, &LIMITS), entry.place(from, &LIMITS)));
        }
    }
    match read_npz(data, &LIMITS) {
        Ok(tensors) => {
            let limits = ReadLimits { file_bytes_max: 1 << 26, ..LIMITS };
            let again = read_npz(&write_npz(&tensors), &limits).expect("what was written can be read");
            assert_eq!(again, tensors);
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// A checkpoint of PyTorch: its tensors, and the network that they are; or a wheel with such in it.
pub fn pth(data: &[u8]) {
    if let Err(error) = read_wheel(data, &LIMITS) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    match read_pth(data, &LIMITS) {
        Ok(tensors) => {
            tensors.values().for_each(|tensor| drop(tensor.to_f32()));
            let options = InferOptions { norm_groups: 8, image_size: 32 };
            if let Err(error) = infer(tensors, options) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// `config.json` of a checkpoint: it is refused, or describes a network and a way to sample.
pub fn model_config(data: &[u8]) {
    match CheckpointConfig::from_json(data, "config.json") {
        Ok(config) => {
            let graph = Graph::build(&config.model).expect("a configuration that was checked");
            let _ = graph.parameter_count();
            drop(graph.consumers());
            drop(recipe(&config, &Wish::default(), None));
            let json = serde_json::to_vec(&config).expect("a configuration has a JSON form");
            assert_eq!(CheckpointConfig::from_json(&json, "config.json").ok(), Some(config));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// What callers show: certificates, and texts that are tokens or addresses.
pub fn certificate(data: &[u8]) {
    drop(CertificateName::read(data));
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(token) = Token::parse(text) {
        assert_eq!(Token::parse(&token.text()), Some(token));
    }
    if let Ok(address) = Address::parse(text) {
        assert!(Address::parse(address.text()).is_ok());
        drop(address.endpoint(Duration::from_secs(1)));
    }
}
