//! What operators see: numbers, health, and a log for machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::Value;
use sr3::{
    coordinator::telemetry as of_coordinator,
    engine::image::{DecodeLimits, decode},
    proto::net::{Address, Bearer, Dialer, Tls},
    worker::telemetry as of_worker,
};
use tonic::body::Body;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Service, ServiceExt};

use crate::{
    authority::Authority,
    pictures,
    processes::{Coordinator, Environment, Process, command, run, until},
};

const SERVE: [&str; 2] = ["--telemetry", "127.0.0.1:0"];

/// The address that a process prints.
fn telemetry(process: &Process) -> String {
    process.line("telemetry on").rsplit(' ').next().unwrap().to_string()
}

fn worker(coordinators: &str) -> (Process, String) {
    let arguments = ["worker", "--coordinator", coordinators, "--threads", "1"];
    let worker = Process::start(&[&arguments[..], &SERVE].concat(), &Environment::new());
    let address = telemetry(&worker);
    (worker, address)
}

/// Status and body of a GET.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: sr3\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
}

/// Numbers as they are written, with their labels.
struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    fn of(address: &str) -> Self {
        let (status, text) = get(address, "/metrics");
        assert_eq!(status, 200, "{text}");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(name, number)| (name.to_string(), number.parse().unwrap()))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0.keys()))
    }

    /// Each name is there, and every label is one of few.
    fn check(&self, names: impl Iterator<Item = &'static str>) {
        for name in names.chain(["sr3_build_info", "sr3_resident_memory_bytes"]) {
            assert!(self.0.keys().any(|key| key.starts_with(name)), "{name}");
        }
        for key in self.0.keys() {
            let Some((_, labels)) = key.split_once('{') else { continue };
            for label in labels.trim_end_matches('}').split(',') {
                let (label, value) = label.split_once('=').unwrap();
                assert!(["state", "kind", "reason", "result", "version", "le"].contains(&label), "{key}");
                assert!(value.len() < 16, "{key}");
            }
        }
        assert_eq!(self.get(&format!("sr3_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
        assert!(self.get("sr3_resident_memory_bytes") > 1e6);
    }
}

fn upscale(folder: &Path, coordinator: &str) -> i32 {
    let at = |name: &str| folder.join(name).display().to_string();
    let arguments = ["upscale", &at("in"), &at("out"), "--preset", "one", "--quiet", "--coordinator"];
    run(&[&arguments[..], &[coordinator]].concat(), &Environment::new()).0
}

#[test]
fn numbers_say_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    pictures::write(&folder.path().join("in"), 12, true);
    let state = folder.path().join("state").display().to_string();
    let coordinator = Coordinator::start(&state, &SERVE, &Environment::new());
    let numbers = telemetry(&coordinator.process);
    let (worker, of_it) = worker(&coordinator.address);
    assert_eq!(upscale(folder.path(), &coordinator.address), 3);

    let seen = Numbers::of(&numbers);
    seen.check(of_coordinator::names());
    for (name, number) in [
        ("sr3_active", 1.0),
        ("sr3_workers", 1.0),
        ("sr3_jobs{state=\"succeeded\"}", 1.0),
        ("sr3_jobs{state=\"running\"}", 0.0),
        ("sr3_items_done_total", 12.0),
        ("sr3_items_quarantined_total", 3.0),
        ("sr3_units_pending", 0.0),
        ("sr3_units_leased", 0.0),
        ("sr3_unit_failures_total{kind=\"transient\"}", 0.0),
        ("sr3_refused_total{reason=\"caller\"}", 0.0),
        ("sr3_refused_total{reason=\"connections\"}", 0.0),
    ] {
        assert_eq!(seen.get(name), number, "{name}");
    }
    for name in ["sr3_writer_epoch", "sr3_units_done_total", "sr3_connections", "sr3_commit_seconds_count"] {
        assert!(seen.get(name) >= 1.0, "{name}");
    }
    assert_eq!(seen.get("sr3_commit_seconds_bucket{le=\"+Inf\"}"), seen.get("sr3_commit_seconds_count"));

    let its = Numbers::of(&of_it);
    its.check(of_worker::names());
    assert_eq!(its.get("sr3_worker_items_total{result=\"done\"}"), 12.0);
    // What has no first bytes of a picture is set aside before it comes to a worker.
    assert!(its.get("sr3_worker_items_total{result=\"quarantined\"}") >= 1.0);
    assert_eq!(its.get("sr3_worker_units_total{result=\"done\"}"), seen.get("sr3_units_done_total"));
    assert_eq!(its.get("sr3_worker_session"), 1.0);
    assert!(its.get("sr3_worker_memory_limit_bytes") > 1e6);
    assert!(its.get("sr3_worker_device_busy_seconds_total") > 0.0);
    let pixels: usize = pictures::files(&folder.path().join("out"))
        .values()
        .map(|bytes| decode(bytes, &DecodeLimits::default()).unwrap().picture)
        .map(|picture| picture.width * picture.height)
        .sum();
    let told = its.get("sr3_worker_megapixels_total");
    assert!((told * 1e6 - pixels as f64).abs() < 1.0, "{told} and {pixels} pixels");
    assert!(get(&of_it, "/metrics").1.contains("# TYPE sr3_worker_megapixels_total counter"));

    assert_eq!(get(&numbers, "/metrics/").0, 404);
    assert_eq!((get(&of_it, "/readyz").0, get(&of_it, "/healthz").0), (200, 200));
    coordinator.process.kill();
    until(Duration::from_secs(30), || (get(&of_it, "/readyz").0 == 503).then_some(()));
    assert_eq!(Numbers::of(&of_it).get("sr3_worker_session"), 0.0);
    assert_eq!(get(&of_it, "/healthz").0, 200);
    worker.signal("TERM");
    assert_eq!(worker.wait(), 0);
}

#[test]
fn a_worker_that_is_lost_is_counted_by_its_leases() {
    let folder = tempfile::tempdir().unwrap();
    pictures::write_of(&folder.path().join("in"), 24, 40..41);
    let state = folder.path().join("state").display().to_string();
    let more = [&SERVE[..], &["--lease-ttl", "1"]].concat();
    let coordinator = Coordinator::start(&state, &more, &Environment::new());
    let numbers = telemetry(&coordinator.process);
    let (lost, _) = worker(&coordinator.address);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let arguments = ["upscale", &at("in"), &at("out"), "--preset", "default", "--quiet", "--coordinator"];
    let job = Process::start(&[&arguments[..], &[&coordinator.address]].concat(), &Environment::new());
    until(Duration::from_secs(60), || (Numbers::of(&numbers).get("sr3_units_leased") >= 1.0).then_some(()));
    lost.kill();
    until(Duration::from_secs(60), || {
        (Numbers::of(&numbers).get("sr3_lease_expiries_total") >= 1.0).then_some(())
    });
    let seen = Numbers::of(&numbers);
    assert_eq!((seen.get("sr3_workers"), seen.get("sr3_jobs{state=\"running\"}")), (0.0, 1.0));
    assert!(seen.get("sr3_units_pending") >= 1.0);
    let _other = worker(&coordinator.address);
    assert_eq!(job.wait(), 0);
    assert_eq!(Numbers::of(&numbers).get("sr3_items_done_total"), 24.0);
}

fn health(more: &[&str]) -> (i32, String) {
    let (code, out, _) = run(&[&["health"], more].concat(), &Environment::new());
    (code, out)
}

/// Whether it serves, by the name of a service.
fn serves(address: &str, service: &str) -> bool {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let address = Address::parse(address).unwrap();
        let channel = Dialer::default().connect(&address, Duration::from_secs(5)).await.unwrap();
        let request = HealthCheckRequest { service: service.to_string() };
        HealthClient::new(channel).check(request).await.unwrap().into_inner().status == 1
    })
}

#[test]
fn one_on_standby_lives_and_is_not_ready() {
    // It is about plain text, or has certificates of its own.
    if Authority::of_all_tests().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let none = Environment::new();
    let first = Coordinator::start(&state, &SERVE, &none);
    first.process.line("is active");
    let second = Coordinator::start(&state, &[&SERVE[..], &["--peer", &first.address]].concat(), &none);
    second.process.line("on standby");
    let of_second = telemetry(&second.process);

    assert_eq!(health(&[&first.address]), (0, "serving\n".to_string()));
    let (code, said) = health(&[&second.address]);
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("standby"), "{said}");
    assert_eq!(health(&[&second.address, "--live"]), (0, "serving\n".to_string()));
    for service in ["", "sr3.v1.JobService", "sr3.v1.WorkerSessionService"] {
        assert!(serves(&first.address, service) && !serves(&second.address, service), "{service}");
    }
    assert!(serves(&first.address, "live") && serves(&second.address, "live"));
    assert_eq!((get(&of_second, "/healthz").0, get(&of_second, "/readyz").0), (200, 503));
    let seen = Numbers::of(&of_second);
    seen.check(of_coordinator::names());
    assert_eq!((seen.get("sr3_active"), seen.get("sr3_writer_epoch")), (0.0, 0.0));
    let epoch = Numbers::of(&telemetry(&first.process)).get("sr3_writer_epoch");

    first.process.kill();
    second.process.line("is active");
    assert_eq!((get(&of_second, "/readyz").0, health(&[&second.address]).0), (200, 0));
    let seen = Numbers::of(&of_second);
    assert!(seen.get("sr3_active") == 1.0 && seen.get("sr3_writer_epoch") > epoch);
    let (code, said) = health(&[&first.address, "--live"]);
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert_eq!(health(&["s3://bucket"]).0, 2);
}

/// Status of a GET over TLS, with the certificates of a folder.
fn get_as(folder: &Path, address: &str, path: &str) -> u16 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dialer = Dialer::new(Some(Tls::open(folder).unwrap()), Bearer::None);
        let address = Address::parse(address).unwrap();
        let mut channel = dialer.connect(&address, Duration::from_secs(5)).await.unwrap();
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        channel.ready().await.unwrap().call(request).await.unwrap().status().as_u16()
    })
}

#[test]
fn beyond_loopback_numbers_want_a_certificate_and_health_does_not() {
    // It is about plain text, or has certificates of its own.
    if Authority::of_all_tests().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue("reader", "read");
    let trust = authority.trust_alone();
    let state = folder.path().join("state").display().to_string();
    let tls = authority.of("coordinator");
    let coordinator =
        Coordinator::start(&state, &["--tls", &tls, "--telemetry", "0.0.0.0:0"], &Environment::new());
    let address = telemetry(&coordinator.process).replace("0.0.0.0", "127.0.0.1");
    assert!(address.starts_with("https://"), "{address}");
    coordinator.process.line("is active");
    let as_whom = |name: &str, path: &str| get_as(&authority.path_of(name), &address, path);
    assert_eq!(as_whom("reader", "/metrics"), 200);
    for name in ["worker", "trust"] {
        assert_eq!(
            (as_whom(name, "/metrics"), as_whom(name, "/readyz"), as_whom(name, "/healthz")),
            (403, 200, 200)
        );
    }
    assert_eq!(health(&[&coordinator.address, "--tls", &trust]), (0, "serving\n".to_string()));

    // Nobody said that others may see it in plain text.
    for arguments in [
        &["coordinator", "--listen", "127.0.0.1:0", "--state", &state][..],
        &["worker", "--coordinator", "http://127.0.0.1:1"],
    ] {
        let (code, _, errors) =
            run(&[arguments, &["--telemetry", "0.0.0.0:0"]].concat(), &Environment::new());
        assert_eq!((code, errors.lines().count()), (2, 1), "{errors}");
        assert!(errors.contains("--telemetry"), "{errors}");
    }
    let arguments =
        ["worker", "--coordinator", "http://127.0.0.1:1", "--telemetry", "0.0.0.0:0", "--insecure"];
    let open = Process::start(&arguments, &Environment::new());
    let address = telemetry(&open).replace("0.0.0.0", "127.0.0.1");
    assert_eq!((get(&address, "/metrics").0, get(&address, "/readyz").0), (200, 503));
}

/// A process whose standard error goes to a file.
struct Logging(Child);

impl Logging {
    fn start(arguments: &[&str], environment: &Environment, file: &Path) -> Self {
        let mut command = command(arguments, environment);
        command.stdout(Stdio::null()).stderr(File::create(file).unwrap());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_log_in_json_has_an_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    pictures::write(&folder.path().join("in"), 4, true);
    let state = folder.path().join("state").display().to_string();
    let log = vec![("SR3_LOG", "info".to_string())];
    let coordinator = Coordinator::start(&state, &[], &log);
    let path = folder.path().join("log");
    let by_option = ["--log", "json", "worker", "--threads", "1", "--coordinator", &coordinator.address];
    let mut worker = Logging::start(&by_option, &log, &path);
    assert_eq!(upscale(folder.path(), &coordinator.address), 3);
    let pid = worker.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(until(Duration::from_secs(60), || worker.0.try_wait().unwrap()).success());
    let lines = |text: &str| -> Vec<Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    };
    let seen = lines(&fs::read_to_string(&path).unwrap());
    let messages: BTreeSet<_> = seen.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(messages.contains("joined"), "{messages:?}");
    assert!(messages.iter().any(|message| message.contains("once more to stop at once")), "{messages:?}");
    assert!(seen.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()));

    // What a command cannot do is told in the same way; what it prints is not changed.
    let json = vec![("SR3_LOG_FORMAT", "json".to_string())];
    let (code, out, errors) = run(&["status", "99", "--coordinator", &coordinator.address], &json);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(lines(&errors)[0]["message"].as_str().unwrap().contains("99"), "{errors}");
    let (_, out, errors) = run(&["health", &coordinator.address], &json);
    assert_eq!((out.as_str(), errors.as_str()), ("serving\n", ""));
    let (code, _, errors) = run(&["devices"], &vec![("SR3_LOG_FORMAT", "xml".to_string())]);
    assert!(code == 2 && errors.contains("xml"), "{errors}");
}
