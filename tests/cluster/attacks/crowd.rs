//! A crowd that nobody asked for.

use std::{fs, net::SocketAddr, time::Instant};

use sr3::proto::wire::v1::{self, job_service_client::JobServiceClient};
use tokio::{net::TcpSocket, runtime::Runtime};
use tonic::Code;

use super::{Target, spec};
use crate::{pictures, processes::json};

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
