//! One session with a coordinator, as seen by the worker: what is heard, what is still to be said, when a heartbeat is
//! due. It never waits for room to say something before it listens, so two ends that are both full cannot block each
//! other.

use std::{collections::VecDeque, time::Duration};

use sr3_proto::{FromWorker, ToWorker, WorkerEnd};
use tokio::{
    select,
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval_at, timeout},
};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

pub(crate) struct Session {
    receive: mpsc::Receiver<ToWorker>,
    send: mpsc::Sender<FromWorker>,
    unsaid: VecDeque<FromWorker>,
    heartbeat_due: bool,
    heartbeats: Interval,
}

/// What comes next in a session.
pub(crate) enum Next {
    /// The coordinator said something.
    Heard(ToWorker),
    /// A heartbeat is due, all else is said, and there is room: answer with [`Session::beat`].
    Beat,
    /// The session ended.
    Over,
}

impl Session {
    pub(crate) fn new(end: WorkerEnd, heartbeat_every: Duration) -> Self {
        let WorkerEnd { receive, send } = end;
        let every = heartbeat_every.max(Duration::from_millis(1));
        let mut heartbeats = interval_at(tokio::time::Instant::now() + every, every);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { receive, send, unsaid: VecDeque::new(), heartbeat_due: false, heartbeats }
    }

    /// To be said after what waits already.
    pub(crate) fn say(&mut self, messages: impl IntoIterator<Item = FromWorker>) {
        self.unsaid.extend(messages);
    }

    /// A heartbeat is due at once, whatever the clock says.
    pub(crate) fn beat_soon(&mut self) {
        self.heartbeat_due = true;
    }

    /// Says what is to be said until something happens. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            let something = self.heartbeat_due || !self.unsaid.is_empty();
            select! {
                biased;
                heard = self.receive.recv() => return heard.map_or(Next::Over, Next::Heard),
                room = self.send.reserve(), if something => match (room, self.unsaid.pop_front()) {
                    (Ok(room), Some(message)) => room.send(message),
                    (Ok(_), None) => return Next::Beat,
                    (Err(_), _) => return Next::Over,
                },
                _ = self.heartbeats.tick() => self.heartbeat_due = true,
            }
        }
    }

    /// The heartbeat that was due.
    pub(crate) fn beat(&mut self, heartbeat: FromWorker) {
        // There was room, and nobody else sends; if the session is over, it is heard of next.
        let _ = self.send.try_send(heartbeat);
        self.heartbeat_due = false;
        self.heartbeats.reset();
    }

    /// Says goodbye, and waits a little for the other side to end the session: a process that ends sooner might take
    /// the word with it.
    pub(crate) async fn goodbye(self) {
        let Self { mut receive, send, .. } = self;
        let said = async {
            let _ = send.send(FromWorker::Goodbye).await;
            drop(send);
            while receive.recv().await.is_some() {}
        };
        let _ = timeout(GOODBYE, said).await;
    }
}
