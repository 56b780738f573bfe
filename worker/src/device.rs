//! One OS thread that owns the device, commanded by a bounded channel.
//!
//! It keeps what the device holds for every processor that somebody still has: opened at the processor's first item,
//! dropped once nobody has the processor any more. A panic inside a computation is that item's error: the thread
//! lives on, and opens the device anew for the next item, because what the panic left behind cannot be trusted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    thread,
};

use sr3_proto::{
    Key,
    threads::{is_simulated, off_thread},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    Computed, ItemError, Processor,
    work::{Stop, Work},
};

/// An item for the device.
pub(crate) struct Command<P: Processor> {
    pub(crate) work: Arc<Work<P>>,
    pub(crate) input: Key,
    pub(crate) decoded: P::Decoded,
    pub(crate) reply: oneshot::Sender<Reply<P>>,
}

/// The verdict, and the seconds that the computation took.
pub(crate) type Reply<P> = (Result<Computed<<P as Processor>::Computed>, Stop>, f64);

/// What serves the commands: a thread, or in a simulation a task of its only thread.
pub(crate) enum Running {
    Thread(thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl Running {
    /// Waits for the end, which comes when every sender of commands is gone; false if it broke down.
    pub(crate) async fn ended(self) -> bool {
        match self {
            Self::Thread(thread) => matches!(off_thread(move || thread.join()).await, Ok(Ok(()))),
            Self::Task(task) => task.await.is_ok(),
        }
    }
}

/// Starts serving commands.
pub(crate) fn start<P: Processor>() -> std::io::Result<(mpsc::Sender<Command<P>>, Running)> {
    // The next item waits here; what waits is accounted for by the pipeline.
    let (sender, mut commands) = mpsc::channel(1);
    if is_simulated() {
        let task = tokio::task::spawn_local(async move {
            let mut devices = Devices::<P>(Vec::new());
            while let Some(command) = commands.recv().await {
                serve(&mut devices, command);
            }
        });
        return Ok((sender, Running::Task(task)));
    }
    let thread = thread::Builder::new().name("sr3-device".into()).spawn(move || {
        let mut devices = Devices::<P>(Vec::new());
        while let Some(command) = commands.blocking_recv() {
            serve(&mut devices, command);
        }
    })?;
    Ok((sender, Running::Thread(thread)))
}

fn serve<P: Processor>(devices: &mut Devices<P>, Command { work, input, decoded, reply }: Command<P>) {
    devices.drop_unused();
    let begun = Instant::now();
    let result = compute(devices, &work, &input, decoded);
    work.progress.off_device();
    // Nobody waits for it: the worker is being dropped.
    let _ = reply.send((result, begun.elapsed().as_secs_f64()));
}

fn compute<P: Processor>(
    devices: &mut Devices<P>,
    work: &Work<P>,
    input: &Key,
    decoded: P::Decoded,
) -> Result<Computed<P::Computed>, Stop> {
    if work.cancel.is_cancelled() {
        return Err(Stop::Cancelled);
    }
    let device = devices.of(&work.processor).map_err(Stop::worker)?;
    work.progress.on_device(input, 0.0);
    let mut tell = |share: f32| work.progress.on_device(input, share);
    let run = AssertUnwindSafe(|| work.processor.compute(device, input, decoded, &work.cancel, &mut tell));
    match catch_unwind(run) {
        Ok(result) => Ok(result?),
        Err(_) => {
            devices.forget(&work.processor);
            Err(ItemError::bad("internal error while computing; please report it with this file").into())
        }
    }
}

/// The device's state for each processor in use.
struct Devices<P: Processor>(Vec<(Weak<P>, P::Device)>);

impl<P: Processor> Devices<P> {
    fn of(&mut self, processor: &Arc<P>) -> Result<&mut P::Device, String> {
        let at = match self.0.iter().position(|(of, _)| of.as_ptr() == Arc::as_ptr(processor)) {
            Some(at) => at,
            None => {
                let opened = catch_unwind(AssertUnwindSafe(|| processor.open_device()))
                    .unwrap_or_else(|_| Err("internal error while the device was opened".into()))?;
                self.0.push((Arc::downgrade(processor), opened));
                self.0.len() - 1
            }
        };
        Ok(&mut self.0[at].1)
    }

    fn forget(&mut self, processor: &Arc<P>) {
        self.0.retain(|(of, _)| of.as_ptr() != Arc::as_ptr(processor));
    }

    fn drop_unused(&mut self) {
        self.0.retain(|(of, _)| of.strong_count() > 0);
    }
}
