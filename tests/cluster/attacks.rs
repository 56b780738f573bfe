//! What a stranger, somebody with too small a role, or a part that lies may try on a cluster, over real sockets: none of it
//! gets in, and nothing else stalls. docs/operations.md has the limits.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes};
use futures::{StreamExt, stream};
use sr3::{
    proto::{
        FailureKind, FromWorker, Hello, Lease, Offer, ToWorker, WorkerEnd,
        net::{Address, Bearer as Shown, Dialer, Tls},
        session::UnitResult,
        wire::v1::{self, job_service_client::JobServiceClient, session_request::Message},
    },
    worker::{Connect, GrpcConnect},
};
use tokio::{net::TcpSocket, runtime::Runtime};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use crate::{
    authority::Authority,
    pictures,
    processes::{Coordinator, Environment, Process, json, run, until, worker},
    whole::upscaled_locally,
};

/// A coordinator with TLS whose jobs may open two folders.
struct Target {
    folder: tempfile::TempDir,
    authority: Authority,
    coordinator: Coordinator,
}

impl Target {
    fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        for name in ["in", "out"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let (source, out, audit) = (at("in"), at("out"), at("audit.jsonl"));
        let more = ["--allow-store", &source, "--allow-store", &out, "--audit", &audit, "--lease-ttl", "2"];
        let environment = authority.environment("coordinator", &Environment::new());
        let coordinator = Coordinator::start(&at("state"), &more, &environment);
        coordinator.process.line("is active");
        Self { folder, authority, coordinator }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    fn address(&self) -> &str {
        &self.coordinator.address
    }

    fn socket(&self) -> SocketAddr {
        self.address().strip_prefix("https://").unwrap().parse().unwrap()
    }

    fn admin(&self) -> Environment {
        self.authority.environment("admin", &Environment::new())
    }

    fn worker(&self) -> Process {
        worker(self.address(), &self.authority.environment("worker", &Environment::new()))
    }

    /// What `sr3 ARGUMENTS` ends with for somebody.
    fn ask(&self, arguments: &[&str], somebody: &Environment) -> (i32, String) {
        let (code, out, errors) = run(&[arguments, &["--coordinator", self.address()]].concat(), somebody);
        (code, format!("{out}{errors}"))
    }

    fn submit(&self, spec: &str, somebody: &Environment) -> (i32, String) {
        let path = self.folder.path().join("job.yaml");
        fs::write(&path, spec).unwrap();
        self.ask(&["submit", path.to_str().unwrap(), "--json"], somebody)
    }

    fn dialer(&self, name: &str) -> Dialer {
        Dialer::new(Some(Tls::open(&self.authority.path_of(name)).unwrap()), Shown::None)
    }

    /// A channel as somebody.
    async fn channel(&self, name: &str) -> Channel {
        let address = Address::parse(self.address()).unwrap();
        self.dialer(name).connect(&address, Duration::from_secs(5)).await.unwrap()
    }

    /// A session as somebody who says that it is a worker.
    async fn session(&self, name: &str, hello: Hello) -> WorkerEnd {
        let address = Address::parse(self.address()).unwrap();
        let mut connect = GrpcConnect::new(vec![address], self.dialer(name));
        let (welcome, end) = connect.connect(hello).await.unwrap();
        assert!(matches!(welcome, ToWorker::Welcome { .. }));
        end
    }

    /// The audit log so far.
    fn audit(&self) -> String {
        fs::read_to_string(self.at("audit.jsonl")).unwrap()
    }
}

fn hello(instance: &str) -> Hello {
    Hello {
        name: "liar".into(),
        version: "0".into(),
        device: "none".into(),
        offer: Offer {
            kinds: vec!["upscale".into()],
            classes: vec!["f32".into()],
            memory_bytes: 0,
            threads: 1,
        },
        instance: instance.into(),
        held: Vec::new(),
        credits: 1,
        models: Vec::new(),
    }
}

fn spec(source: &str, destination: &str) -> String {
    format!("kind: upscale\nsource: \"{source}\"\ndestination: \"{destination}\"\npreset: one\n")
}

#[test]
fn nobody_gets_in_without_a_certificate_or_a_token_that_holds() {
    let target = Target::new();
    let authority = &target.authority;
    let jobs = |somebody: &Environment| target.ask(&["jobs"], somebody);
    assert_eq!(jobs(&target.admin()).0, 0);

    let as_whom = |folder: &str| -> Environment { vec![("SR3_TLS", folder.to_string())] };
    let trust = authority.trust_alone();
    let foreign = Authority::new();
    let mixed = foreign.path_of("admin");
    let foreign_trust = foreign.trust_alone();
    fs::copy(authority.folder().join("ca.crt"), mixed.join("ca.crt")).unwrap();
    let expired = expired(authority);
    let revoked = authority.issue("revoked", "admin");
    assert_eq!(jobs(&as_whom(&revoked)).0, 0);
    authority.certs(&["revoke"], &["revoked"]);
    until(Duration::from_secs(5), || (jobs(&as_whom(&revoked)).0 != 0).then_some(()));
    let nobody = authority.issue("nobody", "coordinator");
    for (folder, said) in [
        (trust.as_str(), "wants to know who calls"),
        (mixed.to_str().unwrap(), "does not take the certificate of this side"),
        (&foreign_trust, "is not to be trusted"),
        (&expired, "does not take the certificate of this side"),
        (&revoked, "does not take the certificate of this side"),
        (&nobody, "has the role coordinator, and this wants read"),
    ] {
        let (code, out) = jobs(&as_whom(folder));
        assert!(code != 0 && out.contains(said), "{folder}: {out}");
        assert_eq!(out.lines().count(), 1, "{out}");
    }

    let bearer =
        |token: &str| -> Environment { vec![("SR3_TLS", trust.clone()), ("SR3_TOKEN", token.to_string())] };
    let good = authority.bearer(target.address(), "reader", "read", &[]);
    assert_eq!(jobs(&bearer(&good.token)).0, 0);
    let last = if good.token.ends_with('0') { "1" } else { "0" };
    let altered = format!("{}{last}", &good.token[..good.token.len() - 1]);
    let foreign = format!("sr3_{}_{}", "0".repeat(12), "0".repeat(64));
    let brief = authority.bearer(target.address(), "brief", "read", &["--expires", "1s"]);
    let gone = authority.bearer(target.address(), "gone", "admin", &[]);
    assert_eq!(target.ask(&["tokens", "revoke", gone.id()], &target.admin()).0, 0);
    until(Duration::from_secs(5), || (jobs(&bearer(&brief.token)).0 != 0).then_some(()));
    for (token, said) in [
        (altered.as_str(), "the token is not known here"),
        (&foreign, "the token is not known here"),
        (&brief.token, "the token has expired: ask for a new one"),
        (&gone.token, "the token was revoked"),
        ("sr3_1_2", "SR3_TOKEN holds no token of sr3"),
    ] {
        let (code, out) = jobs(&bearer(token));
        assert!(code != 0 && out.contains(said), "{token}: {out}");
    }
    // What it guards against is written down, with names and without secrets.
    let audit = target.audit();
    for part in ["the token was revoked", "\"outcome\":\"refused\"", "wants to know who calls"] {
        assert!(audit.contains(part), "{part}");
    }
    for token in [&good, &brief, &gone] {
        let secret = token.token.rsplit('_').next().unwrap();
        assert!(!audit.contains(secret), "a secret is in the audit log");
    }
}

/// A folder with a certificate of the authority that held until yesterday.
fn expired(authority: &Authority) -> String {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
    let folder = authority.path_of("expired");
    fs::create_dir(&folder).unwrap();
    let read = |name: &str| fs::read_to_string(authority.folder().join(name)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.crt"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "expired");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "admin");
    let now = time::OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - time::Duration::days(3), now - time::Duration::days(1));
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("tls.crt"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("ca.crt"), read("ca.crt")).unwrap();
    folder.to_str().unwrap().to_string()
}

#[test]
fn a_role_allows_no_more_than_its_name_says() {
    let target = Target::new();
    let authority = &target.authority;
    pictures::write(&target.folder.path().join("in"), 1, false);
    let mut jobs = 0;
    for (role, may) in [
        ("read", ["jobs"].as_slice()),
        ("submit", &["jobs", "submit"]),
        ("work", &["session"]),
        ("admin", &["jobs", "submit", "tokens", "session"]),
    ] {
        let name = format!("the-{role}");
        authority.issue(&name, role);
        let bearer = authority.bearer(target.address(), role, role, &[]);
        for somebody in
            [authority.environment(&name, &Environment::new()), bearer.environment(&Environment::new())]
        {
            jobs += 1;
            let job = spec(&target.at("in"), &target.at(&format!("out/{jobs}")));
            for (what, (code, out)) in [
                ("jobs", target.ask(&["jobs"], &somebody)),
                ("submit", target.submit(&job, &somebody)),
                ("tokens", target.ask(&["tokens", "list"], &somebody)),
            ] {
                let refused = out.contains(&format!("has the role {role}, and this wants"));
                assert_eq!(code == 0, may.contains(&what), "{role} {what}: {out}");
                assert_eq!(refused, !may.contains(&what), "{role} {what}: {out}");
            }
        }
        let session = Runtime::new().unwrap().block_on(async {
            let address = Address::parse(target.address()).unwrap();
            GrpcConnect::new(vec![address], target.dialer(&name)).connect(hello(role)).await.map(drop)
        });
        assert_eq!(session.is_ok(), may.contains(&"session"), "{role}: {session:?}");
    }
    // A worker that may not work ends, and says why.
    let (code, out) = target.ask(&["worker"], &authority.environment("the-read", &Environment::new()));
    assert!(code != 0 && out.contains("has the role read, and this wants work"), "{out}");
}

#[test]
fn plain_text_and_old_tls_do_not_pass() {
    let target = Target::new();
    let plain = target.address().replace("https://", "http://");
    let (code, out, errors) = run(&["jobs", "--coordinator", &plain], &Environment::new());
    assert!(code != 0, "{out}{errors}");
    let token = format!("sr3_{}_{}", "0".repeat(12), "0".repeat(64));
    let (code, _, errors) = run(&["jobs", "--coordinator", &plain], &vec![("SR3_TOKEN", token)]);
    assert!(code == 2 && errors.contains("a token is never sent in plain text"), "{errors}");
    // And TLS to somebody who only speaks plain text.
    let folder = tempfile::tempdir().unwrap();
    let open = Coordinator::start(folder.path().to_str().unwrap(), &[], &Environment::new());
    let secure = open.address.replace("http://", "https://");
    if Authority::of_all_tests().is_none() {
        let (code, _, errors) = run(&["jobs", "--coordinator", &secure], &target.admin());
        assert!(code != 0 && errors.contains("it does not speak TLS"), "{errors}");
    }

    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let http1 = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    // A hello of TLS 1.2, which offers nothing newer.
    let mut old = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    old.extend([7; 32]);
    old.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    for bytes in [preface, http1, old] {
        let mut stream = TcpStream::connect(target.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        // At most an alert, which is seven bytes.
        assert!(answer.is_empty() || (answer[0] == 0x15 && answer.len() == 7), "{answer:?}");
    }
    assert_eq!(target.ask(&["jobs"], &target.admin()).0, 0);
}

#[test]
fn a_place_that_is_not_allowed_stays_closed() {
    let target = Target::new();
    let (source, out) = (target.at("in"), target.at("out"));
    pictures::write(&target.folder.path().join("in"), 1, false);
    fs::create_dir(target.folder.path().join("in2")).unwrap();
    pictures::write(&target.folder.path().join("secret"), 1, false);
    std::os::unix::fs::symlink(target.at("secret"), target.at("in/way-out")).unwrap();
    for (from, to, said) in [
        (target.at("secret"), out.clone(), "in none of the allowed places"),
        (target.at("in2"), out.clone(), "in none of the allowed places"),
        (format!("{source}/../secret"), out.clone(), "allowed places"),
        (format!("{source}/way-out"), out.clone(), "in none of the allowed places"),
        (format!("file://{}", target.at("secret")), out.clone(), "in none of the allowed places"),
        ("/etc".into(), out.clone(), "in none of the allowed places"),
        (source.clone(), target.at("state"), "this coordinator's own state"),
        (source.clone(), target.at("elsewhere"), "in none of the allowed places"),
        ("http://169.254.169.254/latest/meta-data".into(), out.clone(), "http"),
        ("https://example.com/pictures".into(), out.clone(), "http"),
        ("s3://key:secret@bucket/pre".into(), out.clone(), "s3"),
        ("s3://bucket/pre".into(), out.clone(), "in none of the allowed places"),
    ] {
        let (code, said_here) = target.submit(&spec(&from, &to), &target.admin());
        assert!(code == 2 && said_here.contains(said), "{from} → {to}: {code} {said_here}");
    }
    // A model is a place, too.
    let with_model = format!("{}model: \"{}\"\n", spec(&source, &out), target.at("secret"));
    let (code, said) = target.submit(&with_model.replace("preset: one\n", ""), &target.admin());
    assert!(code == 2 && said.contains("in none of the allowed places"), "{said}");
    let (code, said) = target.submit(&spec(&source, &out), &target.admin());
    assert_eq!(code, 0, "{said}");
}

#[test]
fn one_prefix_does_not_allow_another_that_begins_like_it() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let more = ["--allow-store", "s3://bucket/pre", "--allow-store", "s3://other"];
    let state = folder.path().to_str().unwrap();
    let environment = authority.environment("coordinator", &Environment::new());
    let coordinator = Coordinator::start(state, &more, &environment);
    let admin = authority.environment("admin", &Environment::new());
    for place in ["s3://bucket/prefix2", "s3://bucket", "s3://other2/x", "s3://Bucket/pre", "gs://bucket/pre"]
    {
        let path = folder.path().join("job.yaml");
        fs::write(&path, spec(place, "s3://other/out")).unwrap();
        let arguments = ["submit", path.to_str().unwrap(), "--coordinator", &coordinator.address];
        let (code, _, errors) = run(&arguments, &admin);
        assert!(code == 2 && errors.contains("in none of the allowed places"), "{place}: {code} {errors}");
    }
}

#[test]
fn a_spec_that_is_a_bomb_is_refused_at_once() {
    let target = Target::new();
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let list = vec![format!("*a{}", i - 1); 9].join(", ");
        aliases += &format!("a{i}: &a{i} [{list}]\n");
    }
    aliases += "kind: upscale\nsource: *a29\n";
    let deep = format!("kind: upscale\nsource: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let maps = format!("kind: upscale\nsource: {}x", "{a: ".repeat(50_000));
    let long = format!("{}# {}\n", spec("/in", "/out"), "x".repeat(1 << 20));
    let too_long = format!("{}# {}\n", spec("/in", "/out"), "x".repeat(3 << 20));
    for (name, bomb) in [
        ("aliases", aliases.as_str()),
        ("deep", &deep),
        ("maps", &maps),
        ("long", &long),
        ("too long", &too_long),
    ] {
        // As a client that checks nothing would send it.
        let begun = Instant::now();
        let refused = Runtime::new().unwrap().block_on(async {
            let mut client = JobServiceClient::new(target.channel("admin").await);
            let request = v1::SubmitJobRequest { spec: bomb.into(), idempotency_key: String::new() };
            client.submit_job(request).await.unwrap_err()
        });
        assert!(begun.elapsed() < Duration::from_secs(5), "{name} took {:?}", begun.elapsed());
        assert!(
            matches!(refused.code(), Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted),
            "{name}: {refused}"
        );
        assert_eq!(refused.message().lines().count(), 1, "{name}: {refused}");
        assert!(refused.message().len() < 1000, "{name}: {refused}");
        let (code, said) = target.submit(bomb, &target.admin());
        assert!(code != 0 && said.len() < 2000, "{name}: {said}");
    }
    assert_eq!(target.ask(&["jobs"], &target.admin()).0, 0);
}

/// Names and keys are bounded, and what a terminal would obey never reaches one.
#[test]
fn names_of_strangers_are_short_and_harmless() {
    let target = Target::new();
    let runtime = Runtime::new().unwrap();
    let evil = "\u{1b}]0;owned\u{7}\u{202e}name";
    let _end = runtime.block_on(async {
        let address = Address::parse(target.address()).unwrap();
        let connect = || GrpcConnect::new(vec![address.clone()], target.dialer("worker"));
        for long in [
            Hello { name: "n".repeat(10_000), ..hello("a") },
            Hello { device: "d".repeat(10_000), ..hello("a") },
            Hello { instance: "i".repeat(10_000), ..hello("a") },
        ] {
            let refused = connect().connect(long).await.map(drop).unwrap_err().to_string();
            assert!(refused.contains("at most 256 bytes"), "{refused}");
        }
        let mut client = JobServiceClient::new(target.channel("admin").await);
        let request = v1::SubmitJobRequest { spec: spec("/in", "/out"), idempotency_key: "k".repeat(10_000) };
        let refused = client.submit_job(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        connect().connect(Hello { name: evil.into(), device: evil.into(), ..hello("b") }).await.unwrap().1
    });
    let (code, out) = target.ask(&["workers"], &target.admin());
    assert!(code == 0 && out.contains("name"), "{out}");
    assert!(!out.contains('\u{1b}') && !out.contains('\u{7}') && !out.contains('\u{202e}'), "{out:?}");
    let named = format!("{}name: {}\n", spec("/in", "/out"), "n".repeat(10_000));
    let (code, said) = target.submit(&named, &target.admin());
    assert!(code == 2 && said.contains("at most 200 characters"), "{said}");
    let job = spec(&target.at("in"), &format!("{}/\\e[2J", target.at("out")));
    let (_, out) = target.submit(&job, &target.admin());
    assert!(!out.contains('\u{1b}'), "{out:?}");
    assert!(!target.audit().contains('\u{1b}'));
}

/// A job on a coordinator with a worker that is not to be trusted, and what that worker was granted.
async fn granted(target: &Target, instance: &str) -> (WorkerEnd, Lease) {
    let mut end = target.session("worker", hello(instance)).await;
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), end.receive.recv()).await.unwrap();
        if let ToWorker::Grant(grant) = message.unwrap() {
            return (end, grant.lease);
        }
    }
}

#[test]
fn a_worker_that_lies_is_not_believed() {
    let target = Target::new();
    pictures::write(&target.folder.path().join("in"), 6, false);
    upscaled_locally(&target.folder.path().join("in"), &target.folder.path().join("local"));
    let (code, out) = target.submit(&spec(&target.at("in"), &target.at("out/a")), &target.admin());
    assert_eq!(code, 0, "{out}");
    let job = json(&out)["id"].to_string();
    let status = || target.authority.ask(&["status", &job], target.address());
    let runtime = Runtime::new().unwrap();
    target.authority.issue("other", "work");

    let result = |done, payload: &'static str| UnitResult {
        done,
        quarantined: 0,
        reasons: Vec::new(),
        payload: Bytes::from_static(payload.as_bytes()),
    };
    let digest = "0000000000000000000000000000000000000000000000000000000000000000";
    // Each lie costs the liar the job; under another instance it gets the unit again.
    for (number, lie) in
        [result(1_000_000_000_000, digest), result(6, digest), result(6, ""), result(u64::MAX, digest)]
            .into_iter()
            .enumerate()
    {
        runtime.block_on(async {
            let (mut end, lease) = granted(&target, &format!("liar {number}")).await;
            let report = FromWorker::UnitDone { lease, result: lie };
            // Somebody else's lease first: a process of another name reports it.
            let idle = Hello { credits: 0, ..hello(&format!("other {number}")) };
            let other = target.session("other", idle).await;
            other.send.send(report.clone()).await.unwrap();
            let mut other = other;
            let told = tokio::time::timeout(Duration::from_secs(5), other.receive.recv()).await.unwrap();
            assert!(matches!(told, Some(ToWorker::Revoke { .. })), "{told:?}");
            other.send.send(FromWorker::Goodbye).await.unwrap();
            end.send.send(report).await.unwrap();
            let wait = tokio::time::timeout(Duration::from_millis(500), end.receive.recv()).await;
            assert!(!matches!(wait, Ok(Some(ToWorker::Committed { .. }))), "{wait:?}");
            end.send.send(FromWorker::Goodbye).await.unwrap();
        });
        let now = status();
        assert_eq!((&now["done"], &now["shards_done"]), (&0.into(), &0.into()), "{now}");
    }
    let (_, events) = target.ask(&["logs", &job], &target.admin());
    assert!(events.contains("it reported what is not so"), "{events}");

    // An honest one makes the job what it should be.
    let _worker = target.worker();
    let ended = until(Duration::from_secs(120), || Some(status()).filter(|now| now["state"] == "succeeded"));
    assert_eq!((&ended["done"], &ended["quarantined"]), (&6.into(), &0.into()), "{ended}");
    let there = pictures::files(&target.folder.path().join("out/a"));
    assert!(there == pictures::files(&target.folder.path().join("local")), "other bytes");
}

/// Bytes as they are, whatever a method wants.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Numbers that look like chance, and are the same every time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.next() % 200;
        (0..length).map(|_| self.next() as u8).collect()
    }
}

const METHODS: [&str; 14] = [
    "JobService/SubmitJob",
    "JobService/GetJob",
    "JobService/ListJobs",
    "JobService/WatchJob",
    "JobService/JobLogs",
    "JobService/CancelJob",
    "JobService/PauseJob",
    "JobService/ResumeJob",
    "JobService/ListWorkers",
    "JobService/DrainWorker",
    "AccessService/CreateToken",
    "AccessService/ListTokens",
    "AccessService/RevokeToken",
    "WorkerSessionService/Session",
];

#[test]
fn garbage_ends_its_own_call_and_nothing_else() {
    let target = Target::new();
    pictures::write(&target.folder.path().join("in"), 3, false);
    let runtime = Runtime::new().unwrap();
    let mut dice = Dice(0x5123_4567_89ab_cdef);
    runtime.block_on(async {
        let channel = target.channel("admin").await;
        for method in METHODS {
            let path = PathAndQuery::try_from(format!("/sr3.v1.{method}")).unwrap();
            for _ in 0..100 {
                let mut client = tonic::client::Grpc::new(channel.clone());
                client.ready().await.unwrap();
                let bodies: Vec<_> = (0..2).map(|_| dice.bytes()).collect();
                let call = client.streaming(Request::new(stream::iter(bodies)), path.clone(), Raw);
                // Refused or answered: what it may not do is stall, or end the coordinator.
                let answered = tokio::time::timeout(Duration::from_secs(10), call).await.unwrap();
                if let Ok(answer) = answered {
                    let mut messages = answer.into_inner();
                    let first = tokio::time::timeout(Duration::from_millis(50), messages.next()).await;
                    drop(first);
                }
            }
        }
        // Well-formed messages of every type that make no sense.
        let lease = v1::Lease { epoch: u64::MAX, job: u64::MAX, unit: u64::MAX, attempt: u32::MAX, token: 0 };
        let none = Some(lease);
        for message in [
            Message::Heartbeat(v1::Heartbeat {
                credits: u32::MAX,
                leases: vec![v1::LeaseProgress { lease: none, share: f32::NAN, ..Default::default() }; 1000],
                models: vec!["no digest".into()],
                draining: true,
            }),
            Message::ItemDone(v1::ItemDone { lease: none, record: vec![1; 1 << 20].into() }),
            Message::UnitDone(v1::UnitDone {
                lease: none,
                done: u64::MAX,
                quarantined: u64::MAX,
                payload: vec![2; 1 << 20].into(),
                reasons: vec!["x".repeat(1 << 16); 10],
            }),
            Message::UnitFailed(v1::UnitFailed { lease: none, kind: 99, ..Default::default() }),
            Message::UnitFailed(v1::UnitFailed { lease: None, ..Default::default() }),
            Message::UnitReturned(v1::UnitReturned { lease: none, records: vec![vec![3; 9].into(); 10_000] }),
            Message::Hello(v1::Hello::default()),
            Message::Goodbye(v1::Goodbye {}),
        ] {
            let mut client =
                v1::worker_session_service_client::WorkerSessionServiceClient::new(channel.clone());
            let first = v1::SessionRequest { message: Some(Message::Hello(hello("garbage").into())) };
            let second = v1::SessionRequest { message: Some(message) };
            let requests = stream::iter([first, second]).chain(stream::pending());
            let mut answers = client.session(requests).await.unwrap().into_inner();
            while let Ok(Ok(Some(_))) =
                tokio::time::timeout(Duration::from_millis(200), answers.message()).await
            {}
        }
    });
    let _worker = target.worker();
    let (code, said) = target.ask(
        &["upscale", &target.at("in"), &target.at("out"), "--preset", "one", "--quiet"],
        &target.admin(),
    );
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_picture_that_is_a_bomb_is_set_aside_and_the_others_are_not() {
    let target = Target::new();
    let folder = target.folder.path();
    pictures::write(&folder.join("in"), 5, false);
    let bombs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hard/broken");
    let mut count = 0;
    for entry in fs::read_dir(&bombs).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("bomb") {
            fs::copy(entry.path(), folder.join("in").join(&name)).unwrap();
            count += 1;
        }
    }
    assert!(count > 0, "no bombs");
    let _worker = target.worker();
    let (code, said) =
        target.ask(&["upscale", &target.at("in"), &target.at("out"), "--preset", "one"], &target.admin());
    assert_eq!(code, 3, "{said}");
    assert_eq!(pictures::files(&folder.join("out")).len(), 5, "{said}");
}

/// A crowd: connections that say nothing, handshakes that never end, watchers. A job and its owner do not notice.
#[test]
fn a_crowd_of_strangers_stalls_nobody() {
    let target = Target::new();
    let folder = target.folder.path();
    pictures::write_of(&folder.join("in"), 200, 16..20);
    let admin = target.admin();
    target.authority.issue("crowd", "read");
    // A job that does not end by itself, to be watched.
    let (code, out) = target.submit(&spec(&target.at("in"), &target.at("out/watched")), &admin);
    assert_eq!(code, 0, "{out}");
    let watched: u64 = json(&out)["id"].as_u64().unwrap();
    assert_eq!(target.ask(&["pause", &watched.to_string()], &admin).0, 0);
    let _worker = target.worker();
    let bulk = |out: &str| {
        let begun = Instant::now();
        let destination = target.at(out);
        let arguments = ["upscale", &target.at("in"), &destination, "--preset", "one", "--quiet"];
        let (code, said) = target.ask(&arguments, &admin);
        assert_eq!(code, 0, "{said}");
        begun.elapsed()
    };
    bulk("out/warm");
    let alone = bulk("out/alone");

    let idle = usize::min(10_000, descriptors() / 2);
    let runtime = Runtime::new().unwrap();
    let socket = target.socket();
    let refused = runtime.block_on(async {
        // From many addresses, as many machines would; some say half of a hello.
        let crowd = tokio::spawn(async move {
            let mut held = Vec::new();
            for i in 0..idle {
                let from: SocketAddr = format!("127.{}.{}.9:0", 1 + i / 250 % 250, 1 + i % 250).parse().unwrap();
                let one = TcpSocket::new_v4().unwrap();
                one.bind(from).unwrap();
                let Ok(mut stream) = one.connect(socket).await else { continue };
                if i % 2 == 0 {
                    let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &[0x16, 3, 1, 2]).await;
                }
                held.push(stream);
            }
            held
        });
        let mut watchers = Vec::new();
        let mut refused = 0;
        let mut client = JobServiceClient::new(target.channel("crowd").await);
        for _ in 0..5000 {
            match client.watch_job(v1::WatchJobRequest { id: watched }).await {
                Ok(watcher) => watchers.push(watcher),
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    refused += 1;
                }
            }
            // A connection has so many streams, and a call more would wait for one of them.
            if watchers.len() % 200 == 199 {
                client = JobServiceClient::new(target.channel("crowd").await);
            }
        }
        let begun = Instant::now();
        let (code, said) = target.ask(&["jobs"], &admin);
        assert_eq!(code, 0, "{said}");
        let asked = begun.elapsed();
        let meanwhile = tokio::task::block_in_place(|| bulk("out/meanwhile"));
        let held = crowd.await.unwrap().len();
        eprintln!(
            "{held} silent connections, {} watchers, {refused} refused: 200 pictures in {:.2} s, alone {:.2} s ({:.2}×); \
             `sr3 jobs` {:.2} s",
            watchers.len(),
            meanwhile.as_secs_f64(),
            alone.as_secs_f64(),
            meanwhile.as_secs_f64() / alone.as_secs_f64(),
            asked.as_secs_f64(),
        );
        refused
    });
    assert!(refused >= 5000 - 256, "{refused}");
    let there = |name: &str| pictures::files(&folder.join(name));
    assert!(there("out/meanwhile") == there("out/alone"), "other bytes");
}

/// How many descriptors this process may have.
fn descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// Whoever is granted a unit and does nothing loses it; that it says so to nobody changes nothing.
#[test]
fn a_silent_worker_loses_what_it_was_granted() {
    let target = Target::new();
    pictures::write(&target.folder.path().join("in"), 3, false);
    let (code, out) = target.submit(&spec(&target.at("in"), &target.at("out/a")), &target.admin());
    assert_eq!(code, 0, "{out}");
    let job = json(&out)["id"].to_string();
    let runtime = Runtime::new().unwrap();
    let (end, lease) = runtime.block_on(granted(&target, "silent"));
    let _worker = target.worker();
    until(Duration::from_secs(60), || {
        let now = target.authority.ask(&["status", &job], target.address());
        (now["state"] == "succeeded").then_some(())
    });
    // And what it says afterwards is refused.
    runtime.block_on(async {
        let failed = FromWorker::UnitFailed {
            lease,
            reason: "late".into(),
            kind: FailureKind::Job,
            records: Vec::new(),
        };
        let _ = end.send.send(failed).await;
    });
    let now = target.authority.ask(&["status", &job], target.address());
    assert_eq!(now["state"], "succeeded", "{now}");
}
