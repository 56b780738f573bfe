//! Parts that say that they are workers: that lie, talk nonsense, or fall silent.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::{StreamExt, stream};
use sr3::proto::{
    FailureKind, FromWorker, Hello, Lease, ToWorker, WorkerEnd,
    session::UnitResult,
    wire::v1::{self, session_request::Message},
};
use tokio::runtime::Runtime;
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use super::{Target, hello, spec};
use crate::{
    pictures,
    processes::{json, until},
    whole::upscaled_locally,
};

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
