//! What a stranger, somebody with too small a role, or a part that lies may try on a cluster, over real sockets: none of it
//! gets in, and nothing else stalls. docs/operations.md has the limits.

mod crowd;
mod entrance;
mod requests;
mod workers;

use std::{fs, net::SocketAddr, time::Duration};

use sr3::{
    proto::{
        Hello, Offer, ToWorker, WorkerEnd,
        net::{Address, Bearer, Dialer, Tls},
    },
    worker::{Connect, GrpcConnect},
};
use tonic::transport::Channel;

use crate::{
    authority::Authority,
    processes::{Coordinator, Environment, Process, run, worker},
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
        Dialer::new(Some(Tls::open(&self.authority.path_of(name)).unwrap()), Bearer::None)
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
        peer_address: String::new(),
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
