//! A message that asks for a reply: the call, the reply, and how long each end waits.
//!
//! Whoever wants an answer from the application behind the server comes here. How an attempt is sealed and posted,
//! and how often, is not decided here.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::time::Duration;

use ipc_protocol::{DEADLINE_SECS_MAX, MessageId, ProblemCode, REPLY_WAIT_SECS_DEFAULT, Route};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::client::Client;
use crate::errand::{Errand, Fault, Next};
use crate::error::{NoReply, Outcome, SendError};
use crate::send::{Sender, text};
use crate::session::Generation;
use crate::worker::Job;

/// How long a reply is waited for, unless said otherwise.
pub const REPLY_WAIT_DEFAULT: Duration = Duration::from_secs(REPLY_WAIT_SECS_DEFAULT);

/// What is kept back of the time there is, so that the server's word that there is no reply still arrives.
const WAY_BACK: Duration = Duration::from_millis(500);

/// The reply of the application to a request.
#[derive(Clone)]
#[non_exhaustive]
pub struct Reply {
    /// The id of the request, as the receiving application saw it.
    pub id: MessageId,
    /// The server had the request already from an earlier attempt of this same call. The application saw it once, and
    /// this is its first reply.
    pub duplicate: bool,
    body: String,
}

impl Reply {
    /// The JSON object as text, exactly as the application gave it.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The JSON object as a value: `serde_json::Value`, or a type of the caller's own.
    ///
    /// # Errors
    /// [`ParseError`] if the object is not of the form that `T` asks for. A `serde_json::Value` takes any.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ParseError> {
        serde_json::from_str(&self.body).map_err(ParseError)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("id", &self.id)
            .field("duplicate", &self.duplicate)
            .finish_non_exhaustive()
    }
}

/// A reply that is not of the form asked for.
#[derive(Debug, thiserror::Error)]
#[error("the reply is not of the form asked for: {0}")]
pub struct ParseError(#[source] serde_json::Error);

impl Client {
    /// Sends a message, as [`send`](Client::send) does, and waits up to 30 s for the application's reply to it.
    ///
    /// # Errors
    /// As [`request_within`](Client::request_within).
    pub fn request<T: Serialize + ?Sized>(
        &self,
        message: &T,
    ) -> impl Future<Output = Result<Reply, SendError>> + Send + use<T> {
        self.request_within(message, REPLY_WAIT_DEFAULT)
    }

    /// Sends a message and waits for the application's reply to it, for `wait` from when the server has it. To get it
    /// there may take up to the [deadline](crate::ClientBuilder::deadline), and the whole call takes no longer than the
    /// longer of the two. The server is told in whole seconds how long to wait; more than [`DEADLINE_SECS_MAX`] seconds
    /// are taken as that.
    ///
    /// Where the connection breaks, the request is sent again under its id: the application sees it once, and its
    /// first reply is the answer, also where it was given while nobody was connected. One that takes longer than the
    /// server lets anybody wait is asked for again in the same way.
    ///
    /// A request holds a connection until its reply is there. Where there are several, requests leave one of them to
    /// everything else.
    ///
    /// Dropping the future closes the connection it waits on. The request may still arrive, and be worked on.
    ///
    /// # Errors
    /// [`SendError::NoReply`], with [`Outcome::Accepted`], if the server took the request and there is no reply to
    /// it; else as for a message that is sent.
    pub fn request_within<T: Serialize + ?Sized>(
        &self,
        message: &T,
        wait: Duration,
    ) -> impl Future<Output = Result<Reply, SendError>> + Send + use<T> {
        let shared = self.shared.clone();
        let body = shared.body(message);
        async move {
            let body = body?;
            let wait = wait.min(Duration::from_secs(DEADLINE_SECS_MAX));
            let begun_at = Instant::now();
            shared.ask(|done| Job::Request { body, wait, begun_at, done }).await
        }
    }
}

impl Sender {
    /// Sends a request until there is a reply, or it is known that there will be none.
    pub(crate) async fn request_reply(
        &self,
        body: &str,
        wait: Duration,
        errand: &Errand<'_>,
    ) -> Result<Reply, SendError> {
        let id = self.draw_id()?;
        let clock = ReplyClock { wait, began_at: Cell::new(None), is_there: Cell::new(false) };
        let result =
            self.persist(errand, async |used| self.request_once(id, body, &clock, errand, used).await);
        result.await.map_err(|error| match &error {
            // The server has it, and it was only the time that ran out.
            SendError::Deadline { outcome: Outcome::Accepted, last, .. } if is_only_late(last) => {
                SendError::NoReply { reason: NoReply::NotInTime { wait } }
            }
            _ => error,
        })
    }

    async fn request_once(
        &self,
        id: MessageId,
        body: &str,
        clock: &ReplyClock,
        errand: &Errand<'_>,
        used: &mut Generation,
    ) -> Result<Reply, Fault> {
        let _reply_permit = self.permit(&self.reply_permits, errand).await?;
        let permit = self.permit(&self.permits, errand).await?;
        let now = Instant::now();
        let left = errand.ends_at_once_there().saturating_duration_since(now);
        let told_secs = clock.secs_to_tell(now, left);
        errand.reply_wait_secs.set(Some(told_secs));
        let result =
            self.post_with_session(Route::MessageRequest, id, text(body), errand, used, &permit).await;
        drop(permit);
        // A login in between waits for nobody's reply.
        errand.reply_wait_secs.set(None);
        let fault = match result {
            Ok(answer) if answer.status == 200 => {
                let body = self.read_reply(id, &answer, |body| Some(body.to_owned()))?;
                return Ok(Reply { id, duplicate: answer.duplicate, body });
            }
            Ok(answer) => no_reply(self.refusal(&answer), clock.wait),
            Err(fault) => fault,
        };
        if matches!(fault.error.outcome(), Outcome::NotKnown | Outcome::Accepted) {
            clock.begin(now);
        }
        Err(match fault.error {
            // The server lets nobody wait that long, but it lets one ask again.
            SendError::NoReply { reason: NoReply::NotInTime { .. } }
                if !clock.left(Instant::now()).is_zero() =>
            {
                // The first one may have been there only to bring it.
                let is_news = !clock.is_there.replace(true) && told_secs == 0;
                Fault { next: if is_news { Next::GoOn } else { Next::Wait(None) }, ..fault }
            }
            _ => fault,
        })
    }
}

/// Whether an attempt failed at the time alone.
fn is_only_late(error: &SendError) -> bool {
    match error {
        SendError::NoReply { reason: NoReply::NotInTime { .. } } => true,
        SendError::NoAnswer { source, .. } => source.kind() == io::ErrorKind::TimedOut,
        _ => false,
    }
}

/// Since when the server may have a request, and so how much longer its reply is waited for.
struct ReplyClock {
    wait: Duration,
    began_at: Cell<Option<Instant>>,
    /// The server has said that it has it.
    is_there: Cell<bool>,
}

impl ReplyClock {
    /// The request may have been with the server since `at`, if not before.
    fn begin(&self, at: Instant) {
        self.began_at.set(self.began_at.get().or(Some(at)));
    }

    fn left(&self, now: Instant) -> Duration {
        let gone = self.began_at.get().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.wait.saturating_sub(gone)
    }

    /// What the server is told, with `left` until the call ends. It counts whole seconds, and what it says after them
    /// should still arrive. With less than one it is asked to take the request and say so at once; then it is asked
    /// again, for as long as there is time.
    fn secs_to_tell(&self, now: Instant, left: Duration) -> u64 {
        let wanted = self.left(now);
        let wanted_secs = wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0);
        let possible_secs = left.saturating_sub(WAY_BACK).as_secs();
        wanted_secs.min(possible_secs.max(u64::from(self.is_there.get())))
    }
}

/// The refusals that say that there is no reply.
fn no_reply(fault: Fault, wait: Duration) -> Fault {
    let SendError::Refused { code: Some(code), .. } = &fault.error else { return fault };
    let reason = match code {
        ProblemCode::NotAnswered => NoReply::NotGiven,
        ProblemCode::NoReplyInTime => NoReply::NotInTime { wait },
        ProblemCode::ReplyForgotten => NoReply::Forgotten,
        _ => return fault,
    };
    Fault { error: SendError::NoReply { reason }, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errand::give_up;

    #[test]
    fn the_wait_runs_from_when_the_server_may_have_the_request() {
        let secs = Duration::from_secs;
        let clock = ReplyClock { wait: secs(10), began_at: Cell::new(None), is_there: Cell::new(false) };
        let start = Instant::now();
        assert_eq!(clock.left(start + secs(100)), secs(10));
        clock.begin(start);
        clock.begin(start + secs(5));
        assert_eq!(clock.left(start + secs(4)), secs(6));
        assert_eq!(clock.left(start + secs(40)), Duration::ZERO);
    }

    #[test]
    fn the_server_is_told_whole_seconds_that_leave_time_for_its_word() {
        let now = Instant::now();
        let told = |wait_millis, left_millis, is_there| {
            let wait = Duration::from_millis(wait_millis);
            let clock = ReplyClock { wait, began_at: Cell::new(None), is_there: Cell::new(is_there) };
            clock.secs_to_tell(now, Duration::from_millis(left_millis))
        };
        assert_eq!(told(0, 10_000, false), 0);
        assert_eq!(told(1, 10_000, false), 1);
        assert_eq!(told(1500, 10_000, false), 2);
        assert_eq!(told(30_000, 30_000, false), 29);
        assert_eq!(told(1000, 1000, false), 0, "first of all it takes the request");
        assert_eq!(told(1000, 990, true), 1);
        assert_eq!(told(0, 990, true), 0);
        assert_eq!(told(u64::MAX, u64::MAX, false), (u64::MAX - 500) / 1000);
    }

    #[test]
    fn three_refusals_say_that_there_is_no_reply_and_all_else_stays_a_refusal() {
        for code in ProblemCode::ALL {
            let error = SendError::Refused { status: code.status(), code: Some(code), detail: String::new() };
            let fault = no_reply(give_up(error), Duration::ZERO);
            let says_so = [ProblemCode::NotAnswered, ProblemCode::NoReplyInTime, ProblemCode::ReplyForgotten];
            assert_eq!(matches!(fault.error, SendError::NoReply { .. }), says_so.contains(&code), "{code}");
        }
    }

    #[test]
    fn a_reply_is_read_as_asked_for_and_shows_no_body_in_a_log() {
        let reply =
            Reply { id: MessageId::from_bytes([1; 16]), duplicate: false, body: r#"{"n":7}"#.to_owned() };
        let n: std::collections::BTreeMap<&str, u8> = reply.parse().unwrap();
        assert_eq!(n["n"], 7);
        let error = reply.parse::<Vec<u8>>().unwrap_err();
        assert!(error.to_string().starts_with("the reply is not of the form asked for: "));
        assert!(!format!("{reply:?}").contains("\"n\""));
    }
}
