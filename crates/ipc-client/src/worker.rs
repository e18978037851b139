//! The client's own thread. awc's client cannot leave the thread it was made on, so every handle sends its jobs here
//! and any runtime, or none, can wait for them. A `LocalClient` has the same on the thread of its caller.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::batch::{Batch, Turn};
use crate::client::Sent;
use crate::errand::Errand;
use crate::error::SendError;
use crate::request::Reply;
use crate::send::{Config, Sender};

/// What a handle asks of the thread.
pub(crate) enum Job {
    /// Send a message, whose body is JSON text.
    Submit { body: String, deadline_at: Instant, done: oneshot::Sender<Result<Sent, SendError>> },
    /// Send a message and wait for the reply to it.
    Request {
        body: String,
        wait: Duration,
        begun_at: Instant,
        done: oneshot::Sender<Result<Reply, SendError>>,
    },
    /// Send messages, when they have their turn, until something becomes known of some of them. They come back in either case.
    Batch { batch: Batch, turn: Turn, done: oneshot::Sender<(Batch, Result<(), SendError>)> },
    /// Ask the server whether it runs.
    IsRunning { deadline_at: Instant, done: oneshot::Sender<Result<bool, SendError>> },
}

/// Starts the thread. It ends when the last sender of jobs is gone and every job is done.
pub(crate) fn start(config: Config) -> io::Result<mpsc::UnboundedSender<Job>> {
    let (jobs, received) = mpsc::unbounded_channel();
    let (started, starting) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name("web-ipc-client".to_owned()).spawn(move || {
        let result = actix_rt::Runtime::new();
        let (runtime, result) = match result {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // The builder waits for this and cannot have gone away.
        let _ = started.send(result);
        if let Some(runtime) = runtime {
            runtime.block_on(async {
                // Whatever is at work holds the sender; when the last has gone, `all_done` hears of it.
                let (working, mut all_done) = mpsc::channel::<Infallible>(1);
                work(Rc::new(Sender::new(config, Some(working))), received).await;
                all_done.recv().await;
            });
        }
    })?;
    starting.recv().map_err(io::Error::other)??;
    Ok(jobs)
}

/// The same on the thread that runs, which must be one that awc can run on: the sender, and where it takes jobs.
pub(crate) fn start_here(config: Config) -> (Rc<Sender>, mpsc::UnboundedSender<Job>) {
    let (jobs, received) = mpsc::unbounded_channel();
    let sender = Rc::new(Sender::new(config, None));
    actix_rt::spawn(work(Rc::clone(&sender), received));
    (sender, jobs)
}

/// Takes jobs until there will be no more.
async fn work(sender: Rc<Sender>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    // The queue has no bound and needs none: each job is taken out at once, and one that nobody waits for ends there.
    while let Some(job) = jobs.recv().await {
        begin(&sender, job);
    }
}

/// Begins a job. A message needs no task of its own; what takes longer has one.
fn begin(sender: &Rc<Sender>, job: Job) {
    let at_work = Rc::clone(sender);
    // Where nobody waits for the answer any more, nobody misses it.
    match job {
        Job::Submit { body, deadline_at, done } => sender.send(body, deadline_at, done),
        Job::Request { body, wait, begun_at, mut done } => drop(actix_rt::spawn(async move {
            let deadline = at_work.deadline;
            let errand = Errand::new(begun_at + deadline, deadline, &mut done)
                .with_reply_deadline(begun_at + wait, wait);
            let result = at_work.request_reply(&body, wait, &errand).await;
            let _ = done.send(result);
        })),
        Job::Batch { mut batch, turn, mut done } => drop(actix_rt::spawn(async move {
            let result = at_work.submit_in_turn(&mut batch, turn, &mut done).await;
            let _ = done.send((batch, result));
        })),
        Job::IsRunning { deadline_at, mut done } => drop(actix_rt::spawn(async move {
            let errand = Errand::new(deadline_at, at_work.deadline, &mut done);
            let result = at_work.is_running(&errand).await;
            let _ = done.send(result);
        })),
    }
}
