//! One errand from beginning to end: how long it goes on, whether somebody still waits for it, and what is done after
//! an attempt that failed.
//!
//! Sends, requests and batches all come here with an attempt to make. What an attempt is, is their business.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::connect::Attempt;
use crate::error::{Outcome, SendError};
use crate::progress::{seconds, with_causes};
use crate::random::random;
use crate::retry::Pauses;
use crate::send::Sender;
use crate::session::{Generation, Origin};

/// How often a session that another process keeps is taken in the course of one errand: each may be over.
const KEPT_TRIES_MAX: u32 = 3;

/// Why an attempt failed, and what might help.
pub(crate) struct Fault {
    pub(crate) error: SendError,
    pub(crate) next: Next,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    GiveUp,
    LogIn,
    /// Try again after a pause, where told, of at least this long.
    Wait(Option<Duration>),
    /// Nothing went wrong: go on.
    GoOn,
}

pub(crate) fn give_up(error: SendError) -> Fault {
    Fault { error, next: Next::GiveUp }
}

/// Whoever waits for the end of an errand, and may stop to.
pub(crate) trait Waiter {
    /// Ready once nobody waits any more.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl<T> Waiter for oneshot::Sender<T> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_closed(cx)
    }
}

/// One send, request, batch or question.
pub(crate) struct Errand<'a> {
    pub(crate) deadline_at: Instant,
    /// How long it may take, for the error that says that it took longer.
    deadline: Duration,
    /// When a reply is waited for no longer, and how long that is, where that is later.
    reply_deadline: Option<(Instant, Duration)>,
    /// An attempt may have brought the message to the server.
    may_be_there: Cell<bool>,
    /// How long the server is asked to wait for a reply, by the next attempt.
    pub(crate) reply_wait_secs: Cell<Option<u64>>,
    /// Whether the server was already asked, by silent listening, why it hangs up.
    pub(crate) listened: Cell<bool>,
    /// The latest attempt, as far as it got.
    attempt: RefCell<Option<Rc<Attempt>>>,
    /// Whether one before it was written.
    was_written: Cell<bool>,
    /// `None` where it goes on whoever waits.
    waiter: RefCell<Option<&'a mut dyn Waiter>>,
}

impl<'a> Errand<'a> {
    pub(crate) fn new(deadline_at: Instant, deadline: Duration, waiter: &'a mut dyn Waiter) -> Self {
        Errand { waiter: RefCell::new(Some(waiter)), ..Errand::unattended(deadline_at, deadline) }
    }

    /// One that is gone through with whoever waits for it.
    pub(crate) fn unattended(deadline_at: Instant, deadline: Duration) -> Self {
        Errand {
            deadline_at,
            deadline,
            reply_deadline: None,
            may_be_there: Cell::new(false),
            reply_wait_secs: Cell::new(None),
            listened: Cell::new(false),
            attempt: RefCell::new(None),
            was_written: Cell::new(false),
            waiter: RefCell::new(None),
        }
    }

    /// It goes on for longer, with a request that the server may have.
    pub(crate) fn with_reply_deadline(self, at: Instant, deadline: Duration) -> Self {
        Errand { reply_deadline: (at > self.deadline_at).then_some((at, deadline)), ..self }
    }

    /// When it ends, by what is known now, and how long that is from its beginning.
    fn end(&self) -> (Instant, Duration) {
        match self.reply_deadline {
            Some(end) if self.may_be_there.get() => end,
            _ => (self.deadline_at, self.deadline),
        }
    }

    /// When it ends, by what is known now.
    pub(crate) fn ends_at(&self) -> Instant {
        self.end().0
    }

    /// When it ends if the server has the request that is on its way.
    pub(crate) fn ends_at_once_there(&self) -> Instant {
        self.reply_deadline.map_or(self.deadline_at, |(at, _)| at)
    }

    /// Notes that a request is about to be made.
    pub(crate) fn attempts(&self, attempt: &Rc<Attempt>) {
        self.was_written.set(self.may_have_arrived());
        self.attempt.replace(Some(Rc::clone(attempt)));
    }

    /// Whether any request of it may have reached the server.
    pub(crate) fn may_have_arrived(&self) -> bool {
        self.was_written.get() || self.attempt.borrow().as_ref().is_some_and(|attempt| attempt.writing.get())
    }

    /// Waits for `future`, but no longer than somebody waits for the errand: from then on [`SendError::Stopped`], which
    /// nobody will see.
    pub(crate) async fn unless_given_up<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.waiter.borrow_mut().as_mut().map(|waiter| waiter.poll_gone(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(give_up(SendError::Stopped))),
            Some(Poll::Pending) | None => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}

impl Fault {
    /// The same fault for another message of the same attempt.
    pub(crate) fn again(&self) -> Fault {
        Fault { error: self.error.again(), next: self.next }
    }
}

impl Sender {
    /// Makes attempts until one succeeds, is refused for good, is given up or the time is over. A session that is over
    /// is renewed in between. `attempt` is given a place to note which session it used.
    pub(crate) async fn persist<T>(
        &self,
        errand: &Errand<'_>,
        attempt: impl AsyncFnMut(&mut Generation) -> Result<T, Fault>,
    ) -> Result<T, SendError> {
        self.persist_after(None, errand, attempt).await
    }

    /// [`persist`](Sender::persist) where the first attempt was made already, and has failed with the session of that
    /// generation.
    pub(crate) async fn persist_after<T>(
        &self,
        mut failed: Option<(Fault, Generation)>,
        errand: &Errand<'_>,
        mut attempt: impl AsyncFnMut(&mut Generation) -> Result<T, Fault>,
    ) -> Result<T, SendError> {
        let mut pauses = Pauses::new();
        // Whether the session of the next attempt comes after a 419 of the one before.
        let mut renewed = false;
        // What is known of the message from all attempts: a login tells nothing of it.
        let mut known = Known::Nothing;
        let mut kept_tries = 0;
        loop {
            let (mut fault, used) = match failed.take() {
                Some(failed) => failed,
                None => {
                    let mut used = self.session.generation();
                    match attempt(&mut used).await {
                        Ok(result) => return Ok(result),
                        Err(fault) => (fault, used),
                    }
                }
            };
            known = known.max(Known::from(fault.error.outcome()));
            errand.may_be_there.set(known > Known::Nothing);
            if fault.next == Next::LogIn && !renewed {
                match self.renew(used, kept_tries < KEPT_TRIES_MAX, errand).await {
                    Ok(Origin::Login) => {
                        renewed = true;
                        continue;
                    }
                    Ok(Origin::Kept) => {
                        kept_tries += 1;
                        continue;
                    }
                    Err(reason) => fault = of_the_login(reason),
                }
            }
            renewed = false;
            let told = match fault.next {
                Next::Wait(told) => told,
                Next::GoOn => continue,
                Next::LogIn | Next::GiveUp => {
                    return Err(if known > Known::Nothing { fault.error.in_doubt() } else { fault.error });
                }
            };
            let now = Instant::now();
            let (ends_at, deadline) = errand.end();
            let left = ends_at.saturating_duration_since(now);
            // Without random numbers pauses lose their jitter, and the next seal will say so.
            let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
            let Some(pause) = pauses.next(told, left, random) else {
                let outcome = known.outcome().unwrap_or_else(|| fault.error.outcome());
                return Err(SendError::Deadline { deadline, outcome, last: Box::new(fault.error) });
            };
            // Somebody who waits should learn why; where nobody does, there is nothing to wait for and to say.
            errand.unless_given_up(std::future::ready(())).await.map_err(|fault| fault.error)?;
            let level = match fault.error {
                // Nothing went wrong: the reply is asked for once more.
                SendError::NoReply { .. } => log::Level::Debug,
                _ => self.retries.level(now),
            };
            log::log!(
                level,
                "sending again in {} ms, giving up in {}: {}",
                pause.as_millis(),
                seconds(left),
                with_causes(&fault.error)
            );
            errand.unless_given_up(sleep(pause)).await.map_err(|fault| fault.error)?;
        }
    }
}

/// What attempts have shown of where the message is. A later one shows more, never less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// As far as is known it is not with the server.
    Nothing,
    /// It may be there.
    MaybeThere,
    /// It is there.
    There,
}

impl Known {
    fn outcome(self) -> Option<Outcome> {
        match self {
            Known::Nothing => None,
            Known::MaybeThere => Some(Outcome::NotKnown),
            Known::There => Some(Outcome::Accepted),
        }
    }
}

impl From<Outcome> for Known {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Refused | Outcome::NeverArrived => Known::Nothing,
            Outcome::NotKnown => Known::MaybeThere,
            Outcome::Accepted => Known::There,
        }
    }
}

/// A failure of the login that says nothing about the message: the server had just refused to take that.
fn of_the_login(fault: Fault) -> Fault {
    match fault.error.outcome() {
        Outcome::NotKnown if !matches!(fault.error, SendError::Stopped) => {
            Fault { error: SendError::LoginFailed { last: Box::new(fault.error) }, ..fault }
        }
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::task::Waker;

    #[test]
    fn what_a_login_does_not_know_is_its_own_affair() {
        let lost = || SendError::NoAnswer { address: "a:1".into(), source: io::ErrorKind::TimedOut.into() };
        assert_eq!(lost().outcome(), Outcome::NotKnown);
        let fault = of_the_login(Fault { error: lost(), next: Next::Wait(None) });
        assert_eq!((fault.error.outcome(), fault.next), (Outcome::NeverArrived, Next::Wait(None)));
        let fault = of_the_login(give_up(SendError::Busy { connections_max: 1 }));
        assert!(matches!(fault.error, SendError::Busy { .. }), "what is plain stays as it is");
    }

    #[test]
    fn knowledge_only_grows() {
        assert!(Known::There > Known::MaybeThere && Known::MaybeThere > Known::Nothing);
        assert!(Known::from(Outcome::Refused) == Known::Nothing);
        assert_eq!(Known::from(Outcome::NotKnown).outcome(), Some(Outcome::NotKnown));
        assert_eq!(Known::from(Outcome::Accepted).outcome(), Some(Outcome::Accepted));
    }

    #[test]
    fn nothing_is_waited_for_that_nobody_waits_for() {
        let (mut done, result) = oneshot::channel::<()>();
        let errand = Errand::new(Instant::now(), Duration::ZERO, &mut done);
        let mut waiting = pin!(errand.unless_given_up(std::future::pending::<()>()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        drop(result);
        let Poll::Ready(Err(fault)) = waiting.as_mut().poll(&mut cx) else { panic!("it still waits") };
        assert!(matches!(fault.error, SendError::Stopped) && fault.next == Next::GiveUp);
    }
}
