//! The client's own thread. awc's client cannot leave the thread that made it, so every handle
//! sends its calls here, and any runtime, or none, can wait for them. A `LocalClient` runs the same
//! code on its caller's thread.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::call::Call;
use crate::engine::{Driver, Engine};
use crate::error::SendError;
use crate::exchange::Setup;
use crate::receipt::Probe;
use crate::renewal::Renewal;
use crate::source::{Follow, Material};

/// A job of a handle for the thread.
pub(crate) enum Job {
    /// Carries a call.
    Call(Call),
    /// Renew the certificate.
    Renew(RenewalJob),
    /// Send with what was read of the home after a change.
    Follow(Box<Material>),
    /// Ask the server whether it runs.
    Probe { deadline: Instant, done: oneshot::Sender<Result<Probe, SendError>> },
    /// Log in, and use the session for nothing.
    CheckLogin { deadline: Instant, done: oneshot::Sender<Result<(), SendError>> },
}

/// A renewal, and who waits for it.
pub(crate) struct RenewalJob {
    /// The certificate signing request, where a certificate is wanted.
    pub(crate) csr_pem: Option<String>,
    pub(crate) begun_at: Instant,
    pub(crate) timeout: Duration,
    pub(crate) done: oneshot::Sender<Result<Renewal, SendError>>,
}

/// How many jobs are taken before something else has its turn.
const JOBS_A_TURN: usize = 256;

/// Starts the thread. It ends when all senders of jobs are dropped and every job is done.
pub(crate) fn start(setup: Setup) -> io::Result<mpsc::UnboundedSender<Job>> {
    let (jobs, received) = mpsc::unbounded_channel();
    let follow = follow(&jobs);
    let (started, starting) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name("web-ipc-client".to_owned()).spawn(move || {
        let result = actix_rt::Runtime::new();
        let (runtime, result) = match result {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // The builder waits for this result, so it is still there.
        let _ = started.send(result);
        if let Some(runtime) = runtime {
            runtime.block_on(async { work(Engine::new(setup, follow), received).await });
        }
    })?;
    starting.recv().map_err(io::Error::other)??;
    Ok(jobs)
}

/// Starts the same work on the current thread, which must be one that awc can run on.
pub(crate) fn start_here(setup: Setup) -> mpsc::UnboundedSender<Job> {
    let (jobs, received) = mpsc::unbounded_channel();
    actix_rt::spawn(work(Engine::new(setup, follow(&jobs)), received));
    jobs
}

/// What hands on a changed home, for as long as there are handles: without one there is nothing new
/// to send.
fn follow(jobs: &mpsc::UnboundedSender<Job>) -> Follow {
    let jobs = jobs.downgrade();
    Arc::new(move |material| {
        if let Some(jobs) = jobs.upgrade() {
            let _ended = jobs.send(Job::Follow(Box::new(material)));
        }
    })
}

/// Takes jobs and drives the engine, until there will be no more jobs and all are done.
async fn work(engine: Rc<Engine>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    // The queue of jobs needs no bound: each job is taken out at once, and a call whose caller has
    // stopped waiting ends then.
    let mut driver = Driver::new(Rc::clone(&engine));
    let mut is_closed = false;
    poll_fn(|cx| {
        for turn in 0.. {
            if turn == JOBS_A_TURN {
                cx.waker().wake_by_ref();
                break;
            }
            match jobs.poll_recv(cx) {
                Poll::Ready(Some(job)) => take(&engine, job),
                Poll::Ready(None) => {
                    is_closed = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        driver.poll(cx);
        if is_closed { driver.poll_end(cx) } else { Poll::Pending }
    })
    .await;
}

fn take(engine: &Rc<Engine>, job: Job) {
    match job {
        Job::Call(call) => engine.push(call),
        Job::Follow(material) => {
            engine.take(*material);
        }
        Job::Renew(RenewalJob { csr_pem, begun_at, timeout, mut done }) => {
            let asked = Rc::clone(engine);
            engine.spawn(async move {
                let renewal = {
                    let csr_pem = csr_pem.as_deref();
                    let mut renewing = pin!(asked.renew_certificate(csr_pem, begun_at, timeout));
                    // Nobody to have it, no renewal.
                    poll_fn(|cx| match done.poll_closed(cx) {
                        Poll::Ready(()) => Poll::Ready(None),
                        Poll::Pending => renewing.as_mut().poll(cx).map(Some),
                    })
                    .await
                };
                if let Some(renewal) = renewal {
                    let _ = done.send(renewal);
                }
            });
        }
        Job::Probe { deadline, done } => {
            let asked = Rc::clone(engine);
            engine.spawn(async move {
                // A failed send means that the caller has stopped waiting for the answer.
                let _ = done.send(asked.probe(deadline).await);
            });
        }
        Job::CheckLogin { deadline, done } => {
            let asked = Rc::clone(engine);
            engine.spawn(async move {
                // The caller may have stopped waiting for the answer.
                let _ = done.send(asked.check_login(deadline).await);
            });
        }
    }
}
