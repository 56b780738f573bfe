//! A wire that can be cut, and counts: forwards a port, and while it is cut, nothing at all.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// A port that leads to another. Its threads end with the process.
pub(crate) struct Wire {
    pub(crate) address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    requests: AtomicU64,
    listings: AtomicU64,
}

impl Wire {
    /// To `address`, as `http://host:port` or `https://host:port`.
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (scheme, target) = address.split_once("://").unwrap();
        let end = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (state, target) = (Arc::<State>::default(), target.to_string());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // While the other side is down the connection just ends.
                let Ok(far) = TcpStream::connect(&target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let state = Arc::clone(&shared);
                    thread::spawn(move || forward(from, to, &state));
                }
            }
        });
        Self { address: end, state }
    }

    /// What is said from now on arrives once it is mended.
    pub(crate) fn cut(&self) {
        self.state.cut.store(true, SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.state.cut.store(false, SeqCst);
    }

    #[allow(dead_code, reason = "the benchmark asks")]
    /// Requests of HTTP/1.1 so far, and the listings of a bucket among them.
    pub(crate) fn requests(&self) -> (u64, u64) {
        (self.state.requests.load(SeqCst), self.state.listings.load(SeqCst))
    }
}

impl State {
    fn wait_while_cut(&self) {
        while self.cut.load(SeqCst) {
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// A request begins what is read at once, because a client waits for the answer before it asks again.
    fn count(&self, bytes: &[u8]) {
        let methods = [&b"GET "[..], b"HEAD ", b"PUT ", b"POST ", b"DELETE "];
        if methods.iter().any(|method| bytes.starts_with(method)) {
            self.requests.fetch_add(1, SeqCst);
            let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let lists = line.windows(10).any(|part| part == b"list-type=");
            self.listings.fetch_add(lists.into(), SeqCst);
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut bytes = [0; 1 << 16];
    from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    loop {
        state.wait_while_cut();
        let length = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        state.wait_while_cut();
        state.count(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // Whichever side ended, the other hears of it.
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}
