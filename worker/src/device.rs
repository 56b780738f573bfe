//! One OS thread that owns the device, commanded by a bounded channel.
//!
//! It keeps what the device holds ([`Held`]) for as long as somebody uses it. A panic inside a computation is that item's
//! error: the thread lives on, and opens what was in use anew for the next item, because what the panic left behind cannot be
//! trusted.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    thread,
};

use sr3_proto::threads::{is_simulated, off_thread};
use tokio::{sync::mpsc, time::Instant};

use crate::{telemetry, work::Stop};

/// Something to compute.
pub(crate) type Task = Box<dyn FnOnce(&mut Held) + Send>;

/// What serves the tasks: a thread, or in a simulation a task of its only thread.
pub(crate) enum Running {
    Thread(thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Running {
    /// Waits for the end, which comes when every sender of tasks is gone; false if it broke down.
    pub(crate) async fn ended(self) -> bool {
        match self {
            Self::Thread(thread) => matches!(off_thread(move || thread.join()).await, Ok(Ok(()))),
            Self::Task(task) => task.await.is_ok(),
        }
    }
}

/// Starts serving tasks.
pub(crate) fn start() -> std::io::Result<(mpsc::Sender<Task>, Running)> {
    // The next item waits here; what waits is accounted for by the pipeline.
    let (sender, mut tasks) = mpsc::channel::<Task>(1);
    if is_simulated() {
        let task = tokio::task::spawn_local(async move {
            let mut held = Held::default();
            while let Some(task) = tasks.recv().await {
                held.drop_unused();
                task(&mut held);
            }
        });
        return Ok((sender, Running::Task(task)));
    }
    let thread = thread::Builder::new().name("sr3-device".into()).spawn(move || {
        let mut held = Held::default();
        while let Some(task) = tasks.blocking_recv() {
            held.drop_unused();
            task(&mut held);
        }
    })?;
    Ok((sender, Running::Thread(thread)))
}

/// Computes; returns what came of it, and the seconds that it took.
pub(crate) fn compute<T>(
    held: &mut Held,
    work: impl FnOnce(&mut Held) -> Result<T, Stop>,
) -> (Result<T, Stop>, f64) {
    let begun = Instant::now();
    held.in_use = None;
    let result = catch_unwind(AssertUnwindSafe(|| work(held))).unwrap_or_else(|_| {
        held.forget_what_is_in_use();
        let reason = "internal error while computing; please report it with this file";
        Err(Stop::Bad { reason: reason.to_string() })
    });
    let seconds = begun.elapsed().as_secs_f64();
    telemetry::device_busy(seconds);
    (result, seconds)
}

/// What the device holds: networks with their weights and arenas, under names that say what they are.
#[derive(Default)]
pub struct Held {
    states: Vec<State>,
    in_use: Option<String>,
}

struct State {
    name: String,
    users: Vec<Weak<dyn Any + Send + Sync>>,
    state: Box<dyn Any>,
}

impl Held {
    /// The state of that name, opened by `open` if it is not there. It stays for as long as one of its users lives: two users
    /// that give one name share it.
    ///
    /// # Errors
    /// What `open` says; then nothing on this device can go on.
    pub fn get<S: 'static, U: Send + Sync + 'static>(
        &mut self,
        name: &str,
        user: &Arc<U>,
        open: impl FnOnce() -> Result<S, String>,
    ) -> Result<&mut S, Stop> {
        self.in_use = Some(name.to_string());
        let is_it = |state: &State| state.name == name && state.state.is::<S>();
        let at = match self.states.iter().position(is_it) {
            Some(at) => at,
            None => {
                let opened = catch_unwind(AssertUnwindSafe(open))
                    .unwrap_or_else(|_| Err("internal error while the device was opened".into()))
                    .map_err(Stop::worker)?;
                self.states.push(State {
                    name: name.to_string(),
                    users: Vec::new(),
                    state: Box::new(opened),
                });
                self.states.len() - 1
            }
        };
        let found = &mut self.states[at];
        let known =
            |other: &Weak<dyn Any + Send + Sync>| std::ptr::addr_eq(other.as_ptr(), Arc::as_ptr(user));
        if !found.users.iter().any(known) {
            let user: Arc<dyn Any + Send + Sync> = Arc::<U>::clone(user);
            found.users.push(Arc::downgrade(&user));
        }
        found.state.downcast_mut().ok_or_else(|| Stop::worker("the device holds something else"))
    }

    fn forget_what_is_in_use(&mut self) {
        if let Some(name) = self.in_use.take() {
            self.states.retain(|state| state.name != name);
        }
    }

    fn drop_unused(&mut self) {
        self.states.retain_mut(|state| {
            state.users.retain(|user| user.strong_count() > 0);
            !state.users.is_empty()
        });
    }
}
