//! Follows the home: watches its files, reads them again after a refusal that a change of them
//! explains, and has what waits go out with what was read.
//!
//! `worker` comes here with what the watching thread has read, the rest of the engine with
//! refusals.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use actix_http::ws::CloseCode;
use ipc_base::CertificateProblem;
use ipc_home::{FileStamps, Followed, HomeWatch};
use ipc_protocol::ProblemCode;
use tokio::time::{Instant, sleep, timeout_at};

use crate::channel::in_flight::InFlight;
use crate::engine::active_call::Chunk;
use crate::engine::dispatch::Engine;
use crate::engine::state::{Link, Refused, State};
use crate::error::SendError;
use crate::sealer::NOT_OURS;
use crate::source::{Epoch, Material};

/// How long messages on a channel of before are waited for. Then they go again, under their ids.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long reading a home is waited for.
const READ_MAX: Duration = Duration::from_secs(5);

/// How long a home that has changed and cannot be used is waited for after a refusal, and how often
/// it is read meanwhile: whoever changes it replaces one file after the other.
const UNFINISHED_MAX: Duration = Duration::from_millis(500);
const UNFINISHED_LOOK: Duration = Duration::from_millis(50);

/// How long after a change of the home the server may still go by what was there before, and when
/// it is asked again: it reads the same files, or others that were changed with them, and where it
/// is not told of changes it looks every 2 s.
const SERVER_BEHIND_MAX: Duration = Duration::from_secs(3);
const SERVER_BEHIND_LOOK: Duration = Duration::from_millis(50);

impl Engine {
    /// Begins to watch the home, if that was not begun.
    pub(super) fn begin_watch(&self) {
        let mut watch = self.watch.borrow_mut();
        if watch.is_some() {
            return;
        }
        let source = self.exchange.source().clone();
        let root = source.home.root().to_owned();
        let (files, stamps) = self.exchange.seen(|seen| (seen.files.clone(), seen.stamps.clone()));
        let follow = Arc::clone(&self.follow);
        let begun = HomeWatch::begin(&root, files, stamps, move || match source.load_again() {
            Some(material) => {
                follow(material);
                Followed::Done
            }
            None => Followed::NotYet,
        });
        match begun {
            Ok(begun) => *watch = Some(begun),
            Err(error) => {
                log::warn!("{} is not watched for changes: {error}", root.display());
            }
        }
    }

    /// Sends with what was read from now on; whether it is another than before.
    pub(crate) fn take(&self, material: Material) -> bool {
        let has_other_files = self.exchange.seen(|seen| seen.files != material.seen.files);
        let change = self.exchange.take(material);
        if has_other_files && self.watch.take().is_some() {
            self.begin_watch();
        }
        if !change.is_any() {
            return false;
        }
        self.changed_at.set(Some(Instant::now()));
        log::info!(
            "{} has changed: the client uses its new files from now on",
            self.exchange.source().home.root().display()
        );
        let state = &mut *self.state.borrow_mut();
        (state.is_session_unproved, state.kept_tries) = (false, 0);
        if change.link {
            state.no_channel_until = None;
        }
        if change.link || change.keys {
            state.drain_until = Some(Instant::now() + DRAIN_MAX);
        }
        self.wake();
        true
    }

    /// Ends a channel that was opened with what there was before, once its messages are answered.
    /// Requests are not waited for: their replies may take long, and who asks again is told them.
    pub(super) fn drain(&self, state: &mut State, now: Instant, cx: &mut Context<'_>) {
        let Some(until) = state.drain_until else { return };
        let Link::Open(channel) = &mut state.link else {
            state.drain_until = None;
            return;
        };
        let is_waited_for = |chunk: &Chunk| !chunk.call.is_request() && !chunk.call.is_over();
        if now < until && state.in_flight.iter().any(is_waited_for) {
            return;
        }
        channel.close(CloseCode::Normal, "the client's home has changed");
        let _ = channel.poll_flush(cx);
        let chunks = state.in_flight.take_from(0);
        state.link = Link::Closed;
        state.session_sent = None;
        state.resume = None;
        state.leaves_address = false;
        state.in_flight = InFlight::default();
        state.unanswered.clear();
        state.requests = 0;
        state.drain_until = None;
        let ended = io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the channel was closed, since the client's home has changed",
        );
        let address = self.exchange.http().connector().address().to_string();
        let error = SendError::NoAnswer { address, source: Arc::new(ended) };
        for chunk in chunks.iter().filter(|chunk| !chunk.call.is_over()) {
            chunk.call.note_failure(&chunk.range, &error, true);
            // It may end earlier now that it is not on its way.
            state.look_no_later_than(chunk.call.end().0);
            state.queue.requeue(chunk);
        }
    }

    /// Ends calls that were refused, in an attempt with the material `epoch`. Where a file that has
    /// changed explains the refusal, they go out once more instead.
    pub(super) fn refuse(
        self: &Rc<Self>,
        state: &mut State,
        chunks: Vec<Chunk>,
        error: &SendError,
        may_be_there: bool,
        epoch: Epoch,
    ) {
        if !may_be_explained(error) {
            for chunk in chunks {
                chunk.call.fail(error.clone(), may_be_there);
            }
            return;
        }
        let is_old_news = epoch != self.exchange.epoch();
        for chunk in chunks.into_iter().filter(|chunk| !chunk.call.is_over()) {
            chunk.call.note_failure(&chunk.range, error, may_be_there);
            state.look_no_later_than(chunk.call.end().0);
            state.queue.requeue(&chunk);
            if !is_old_news {
                state.refused.push(Refused { chunk, error: error.clone(), may_be_there });
            }
        }
        if state.refused.is_empty() {
            self.wake();
            return;
        }
        self.look_at_home(state);
    }

    /// Reads the home again, and holds back what waits until that is done. Then what was refused
    /// ends, or goes out again.
    pub(super) fn look_at_home(self: &Rc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.is_rereading, true) {
            return;
        }
        let engine = Rc::clone(self);
        self.spawn(async move {
            let may_pass = engine.read_home_again(Instant::now() + READ_MAX).await
                || (engine.was_refused_from_behind() && engine.server_may_be_behind().await);
            let state = &mut *engine.state.borrow_mut();
            state.is_rereading = false;
            for Refused { chunk, error, may_be_there } in std::mem::take(&mut state.refused) {
                // Else it waits in the queue, and goes out again.
                if !may_pass {
                    chunk.call.fail(error, may_be_there);
                }
            }
            engine.wake();
        });
    }

    /// Whether what was refused in an attempt with the material `epoch` may pass with that of now.
    pub(super) async fn may_pass_now(
        &self,
        error: &SendError,
        epoch: Epoch,
        until: Instant,
    ) -> bool {
        may_be_explained(error)
            && (epoch != self.exchange.epoch()
                || self.read_home_again(until.min(Instant::now() + READ_MAX)).await
                || (is_said_behind(error) && self.server_may_be_behind().await))
    }

    /// Whether something was refused as a server does that goes by files of before.
    fn was_refused_from_behind(&self) -> bool {
        self.state.borrow().refused.iter().any(|one| is_said_behind(&one.error))
    }

    /// Whether the home changed so recently that the server may not know it yet; after the pause
    /// that is then due.
    async fn server_may_be_behind(&self) -> bool {
        let is_recent = self.changed_at.get().is_some_and(|at| at.elapsed() < SERVER_BEHIND_MAX);
        if is_recent {
            sleep(SERVER_BEHIND_LOOK).await;
        }
        is_recent
    }

    /// Reads the home again, if its files have changed; whether there is anything new.
    async fn read_home_again(&self, until: Instant) -> bool {
        self.begin_watch();
        let epoch = self.exchange.epoch();
        let unfinished_until = until.min(Instant::now() + UNFINISHED_MAX);
        loop {
            let source = self.exchange.source().clone();
            let (files, stamps) =
                self.exchange.seen(|seen| (seen.files.clone(), seen.stamps.clone()));
            let reading = tokio::task::spawn_blocking(move || {
                (FileStamps::of(&files) != stamps).then(|| source.load_again())
            });
            match timeout_at(until, reading).await {
                Ok(Ok(Some(Some(material)))) => {
                    self.take(material);
                    break;
                }
                Ok(Ok(Some(None))) if Instant::now() < unfinished_until => {
                    sleep(UNFINISHED_LOOK).await;
                }
                _ => break,
            }
        }
        self.exchange.epoch() != epoch
    }
}

/// Whether a server says this that goes by files of before: it does not trust a new authority yet,
/// or does not have a new envelope key.
fn is_said_behind(error: &SendError) -> bool {
    match error {
        SendError::CertificateRefused { .. } => true,
        SendError::LoginFailed { last } => is_said_behind(last),
        error => error.code() == Some(ProblemCode::MalformedEnvelope),
    }
}

/// Whether a file of the home that has changed may be why this was refused, or cannot be read.
fn may_be_explained(error: &SendError) -> bool {
    match error {
        SendError::CertificateRefused { .. }
        | SendError::ServerNotTrusted { reason: CertificateProblem::UnknownAuthority, .. } => true,
        // What it is the answer to may be there, and goes out again under its id.
        SendError::Unexpected { detail, .. } => detail == NOT_OURS,
        SendError::LoginFailed { last } => may_be_explained(last),
        SendError::Refused { status, code, .. } => match code {
            Some(code) => matches!(
                code,
                ProblemCode::MalformedEnvelope
                    | ProblemCode::WrongCertificate
                    | ProblemCode::CertificateRevoked
                    | ProblemCode::SessionExpired
            ),
            None => *status == ProblemCode::SessionExpired.status(),
        },
        _ => false,
    }
}
