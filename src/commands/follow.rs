//! Staying with a job on a cluster until it has ended, or until somebody is tired of it.

use sr3_proto::{Cancel, JobId, wire::v1::Job};
use tokio::sync::watch as channel;

use crate::{
    client::remote::Client,
    console::Console,
    exit::{CommandError, Ending},
    remote_job,
    say::print,
    signals,
};

/// What is shown on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// Progress for people.
    Progress,
    /// Every state as a line of JSON.
    JsonLines,
    /// Nothing.
    Nothing,
}

/// What an interruption means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnInterrupt {
    /// To leave the job to itself.
    Leave,
    /// To cancel the job, and to wait for its end.
    Cancel,
}

/// The job at its end; none if it was left to itself.
pub(super) async fn follow(
    client: &Client,
    id: JobId,
    show: Show,
    interrupt: &Cancel,
    on_interrupt: OnInterrupt,
) -> Result<Option<Job>, CommandError> {
    let (seen, shown) = channel::channel(Job::default());
    let mut console = None;
    let mut watch = client.watch(id);
    let mut asked = false;
    let ended = loop {
        let job = tokio::select! {
            job = watch.next() => job,
            () = interrupt.cancelled(), if !asked => {
                if on_interrupt == OnInterrupt::Leave {
                    break Ok(None);
                }
                asked = true;
                match client.cancel(id).await {
                    Ok(_) => continue,
                    Err(error) => break Err(error.into()),
                }
            }
        };
        match job {
            Ok(Some(job)) => {
                if show == Show::JsonLines {
                    print(&format!("{}\n", remote_job::json(&job)));
                }
                seen.send_replace(job);
                if show == Show::Progress && console.is_none() {
                    console = Some(Console::start(false, false, shown.clone(), None));
                }
            }
            Ok(None) => break Ok(Some(seen.borrow().clone())),
            Err(error) => break Err(error.into()),
        }
    };
    if let Some(console) = console {
        console.finish().await;
    }
    ended
}

/// What `sr3 watch` does, and `sr3 submit --watch`: the job does not end with its watcher.
pub(super) async fn watch(client: &Client, id: JobId, json: bool) -> Result<Ending, CommandError> {
    let interrupt = Cancel::new();
    tokio::spawn(signals::watch(interrupt.clone(), None));
    let show = if json { Show::JsonLines } else { Show::Progress };
    let Some(job) = follow(client, id, show, &interrupt, OnInterrupt::Leave).await? else {
        tell!("sr3: job {id} goes on; `sr3 watch {id}` shows it again, `sr3 cancel {id}` ends it");
        return Ok(Ending::Interrupted);
    };
    let ended = remote_job::ended(&job, format!("job {id} was cancelled"));
    ended.print(false, json);
    match job.kind.as_str() {
        _ if json => {}
        sr3_jobs::train::NAME => super::train::tell_of(&job),
        sr3_jobs::generate::NAME => super::generate::tell_of(&job),
        sr3_jobs::compare::NAME => super::fid::tell_of(&job.summary),
        _ => {}
    }
    Ok(match ended.ending() {
        // Not this command was interrupted.
        Ending::Interrupted => Ending::Failed,
        ending => ending,
    })
}
