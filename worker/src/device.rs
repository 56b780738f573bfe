//! One OS thread that owns the device, commanded by a bounded channel.
//!
//! A panic inside a computation is that item's error: the thread lives on, with a device opened anew, because what
//! the panic left behind cannot be trusted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use sr3_proto::{Cancel, Key, WorkerEvent};
use tokio::sync::{mpsc, oneshot};

use crate::{Computed, ItemError, Processor};

/// An item for the device.
pub(crate) struct Command<P: Processor> {
    pub(crate) input: Key,
    pub(crate) decoded: P::Decoded,
    pub(crate) reply: oneshot::Sender<Reply<P>>,
}

/// The verdict, and the seconds that the computation took.
pub(crate) type Reply<P> = (Result<Computed<<P as Processor>::Computed>, ItemError>, f64);

/// The thread, and why it ended if the device failed it.
pub(crate) type Thread = thread::JoinHandle<Result<(), String>>;

/// Starts the thread. It ends when every sender of commands is gone. An error from opening the device is reported
/// as the worker's failure, and sets `cancel`.
pub(crate) fn start<P: Processor>(
    processor: Arc<P>,
    events: mpsc::Sender<WorkerEvent>,
    cancel: Cancel,
) -> std::io::Result<(mpsc::Sender<Command<P>>, Thread)> {
    // The next item waits here; what waits is accounted for by the pipeline.
    let (sender, receiver) = mpsc::channel(1);
    let thread = thread::Builder::new()
        .name("sr3-device".into())
        .spawn(move || serve(&*processor, receiver, &events, &cancel).inspect_err(|_| cancel.cancel()))?;
    Ok((sender, thread))
}

fn serve<P: Processor>(
    processor: &P,
    mut commands: mpsc::Receiver<Command<P>>,
    events: &mpsc::Sender<WorkerEvent>,
    cancel: &Cancel,
) -> Result<(), String> {
    let mut device = processor.open_device()?;
    while let Some(command) = commands.blocking_recv() {
        let Command { input, decoded, reply } = command;
        if cancel.is_cancelled() {
            let _ = reply.send((Err(ItemError::Cancelled), 0.0));
            continue;
        }
        let begun = Instant::now();
        let mut tell = |share: f32| {
            // A full link has no room for news that the next step brings again.
            let _ = events.try_send(WorkerEvent::Progress { input: input.clone(), share });
        };
        let run = AssertUnwindSafe(|| processor.compute(&mut device, &input, decoded, cancel, &mut tell));
        let result = match catch_unwind(run) {
            Ok(result) => result,
            Err(_) => {
                device = processor.open_device()?;
                Err(ItemError::bad("internal error while computing; please report it with this file"))
            }
        };
        // Nobody waits for it: the worker is being dropped.
        let _ = reply.send((result, begun.elapsed().as_secs_f64()));
    }
    Ok(())
}
