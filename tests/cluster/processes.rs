//! Processes of the command that end with the test.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::authority::Authority;

pub(crate) type Environment = Vec<(&'static str, String)>;

pub(crate) fn command(arguments: &[&str], environment: &Environment) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
    command.args(arguments).stdin(Stdio::null()).env_remove("SR3_COORDINATOR");
    if let Some(authority) = Authority::of_all_tests() {
        let name = match arguments.first() {
            Some(&"coordinator") => "coordinator",
            Some(&"worker") => "worker",
            _ => "admin",
        };
        command.env("SR3_TLS", authority.of(name));
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// A process that is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(arguments: &[&str], environment: &Environment) -> Self {
        Self::start_with(command(arguments, environment))
    }

    /// What it logs goes to a file.
    #[allow(dead_code, reason = "not the benchmark")]
    pub(crate) fn start_logged(arguments: &[&str], environment: &Environment, log: &Path) -> Self {
        let mut command = command(arguments, environment);
        command.stderr(File::create(log).unwrap());
        Self::start_with(command)
    }

    fn start_with(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, seen) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                seen.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    /// The first line that holds `part`, once there is one.
    pub(crate) fn line(&self, part: &str) -> String {
        until(Duration::from_secs(60), || {
            self.lines.lock().unwrap().iter().find(|line| line.contains(part)).cloned()
        })
    }

    /// What it said last.
    pub(crate) fn last_line(&self) -> Option<String> {
        self.lines.lock().unwrap().last().cloned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// CPU time so far.
    #[allow(dead_code, reason = "the benchmark asks")]
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the name, which may hold spaces: utime and stime are the 12th and 13th, in hundredths.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    /// kill -9, and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, once it ends by itself.
    pub(crate) fn wait(mut self) -> i32 {
        until(Duration::from_secs(120), || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `look` finds, within `time`.
pub(crate) fn until<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it did not happen in {time:?}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// A coordinator on a free port.
pub(crate) struct Coordinator {
    pub(crate) process: Process,
    pub(crate) address: String,
}

impl Coordinator {
    pub(crate) fn start(state: &str, more: &[&str], environment: &Environment) -> Self {
        let arguments = [&["coordinator", "--listen", "127.0.0.1:0", "--state", state], more].concat();
        let process = Process::start(&arguments, environment);
        let line = process.line("listens on");
        let address = line.rsplit(' ').next().unwrap().to_string();
        Self { process, address }
    }

    /// On the port of one that is gone; returns once it says `said`.
    pub(crate) fn start_at(
        address: &str,
        state: &str,
        more: &[&str],
        environment: &Environment,
        said: &str,
    ) -> Self {
        let (_, listen) = address.split_once("://").unwrap();
        let arguments = [&["coordinator", "--listen", listen, "--state", state], more].concat();
        let process = Process::start(&arguments, environment);
        process.line(said);
        Self { process, address: address.to_string() }
    }
}

pub(crate) fn worker(coordinators: &str, environment: &Environment) -> Process {
    Process::start(&["worker", "--coordinator", coordinators, "--threads", "1"], environment)
}

/// So long a client command runs at most: one that waits for ever fails its test, and the others go on.
pub(crate) const RUN_TIME: Duration = Duration::from_secs(900);

/// Runs a client command to its end: exit code, stdout, stderr.
pub(crate) fn run(arguments: &[&str], environment: &Environment) -> (i32, String, String) {
    run_within(RUN_TIME, arguments, environment)
}

pub(crate) fn run_within(
    time: Duration,
    arguments: &[&str],
    environment: &Environment,
) -> (i32, String, String) {
    let mut command = command(arguments, environment);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait_with_output()));
    let output = end.recv_timeout(time).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        panic!("`sr3 {}` did not end in {time:?}", arguments.join(" "))
    });
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The last line of stdout as JSON.
pub(crate) fn json(out: &str) -> Value {
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}
