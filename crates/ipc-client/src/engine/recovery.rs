//! Handles failures: a pause and another attempt, a login, or the end of the call.

use std::rc::Rc;
use std::time::Duration;

use ipc_protocol::ProblemCode;
use tokio::time::Instant;

use crate::engine::active_call::Chunk;
use crate::engine::dispatch::Engine;
use crate::engine::state::State;
use crate::error::SendError;
use crate::exchange::login::Purpose;
use crate::exchange::refusal::{AttemptError, Recovery};
use crate::exchange::session::{Generation, Origin};
use crate::source::Epoch;

/// How often a session that another process keeps is taken in a row: each may be over.
pub(super) const KEPT_TRIES_MAX: u32 = 3;

impl Engine {
    /// Sends a request again, or an entry that the server could not accept at the moment.
    pub(super) fn retry(
        self: &Rc<Self>,
        state: &mut State,
        chunk: Chunk,
        error: &AttemptError,
        now: Instant,
    ) {
        match chunk.call.no_reply(&error.error) {
            Some(late) => state.ask_again(chunk, late, false, now),
            None => {
                // The server settles a request alone only after it has accepted it.
                let may_be_there = chunk.call.is_request();
                self.requeue(state, vec![chunk], error, may_be_there, now);
            }
        }
    }

    /// Puts chunks back into the queue after a failure that may pass.
    pub(super) fn requeue(
        self: &Rc<Self>,
        state: &mut State,
        chunks: Vec<Chunk>,
        error: &AttemptError,
        may_be_there: bool,
        now: Instant,
    ) {
        let retry_after = match error.recovery {
            Recovery::Wait(retry_after) => retry_after,
            _ => None,
        };
        let mut first_end = None;
        for chunk in chunks {
            chunk.call.note_failure(&chunk.range, &error.error, may_be_there);
            let left = chunk.call.end().0.saturating_duration_since(now);
            if retry_after.is_some_and(|retry_after| retry_after >= left) {
                chunk.call.time_out(false, || error.error.clone());
                continue;
            }
            if !chunk.call.is_over() {
                // The deadline may be earlier now that the chunk is not in flight.
                state.look_no_later_than(now + left);
                first_end = Some(first_end.map_or(left, |end: Duration| end.min(left)));
                state.queue.requeue(&chunk);
            }
        }
        if let Some(left) = first_end {
            // Each of several servers is asked as rarely as if it were the only one.
            let servers = match is_of_one_server(&error.error) {
                true => self.exchange.http().connector().address_count(),
                false => 1,
            };
            state.pause(&error.error, retry_after, left, servers, now);
        }
    }

    /// Logs in, after which the waiting entries are sent again. `refusal` is the reason.
    pub(super) fn log_in(
        self: &Rc<Self>,
        state: &mut State,
        used: Generation,
        refusal: AttemptError,
    ) {
        let (_, current) = self.exchange.current_session();
        if state.is_logging_in {
            return;
        }
        if state.is_session_unproved && used == current {
            // It was made for this, and is refused: another one would be too.
            let chunks = state.queue.take_all();
            self.refuse(state, chunks, &refusal.error, false, self.exchange.epoch());
            return;
        }
        state.is_logging_in = true;
        let engine = Rc::clone(self);
        self.spawn(async move {
            let _ = engine.renew(used).await;
        });
    }

    /// Replaces the session if it is still that of generation `used`. Returns `false` if there is
    /// none then.
    pub(super) async fn renew(self: &Rc<Self>, used: Generation) -> bool {
        let (may_take_kept, ends_at) = {
            let state = self.state.borrow();
            (
                state.kept_tries < KEPT_TRIES_MAX,
                state.last_end(Instant::now() + self.config.timeout),
            )
        };
        let epoch = self.exchange.epoch();
        let result = self.exchange.renew(used, may_take_kept, ends_at, Purpose::Message).await;
        let state = &mut *self.state.borrow_mut();
        state.is_logging_in = false;
        let is_good = result.is_ok();
        match result {
            Ok(Origin::Login) => (state.is_session_unproved, state.kept_tries) = (true, 0),
            Ok(Origin::Kept) => state.kept_tries += 1,
            Err(error) => self.attempt_failed(state, &of_the_login(error), epoch),
        }
        self.wake();
        is_good
    }

    /// After these failures the next connection goes to the next address.
    pub(super) fn leave_address(&self, error: &SendError) {
        if matches!(error, SendError::Unreachable { .. }) || is_of_one_server(error) {
            self.exchange.http().connector().go_to_next();
        }
    }

    /// Nothing of what waits can be sent, as an attempt with the material `epoch` showed: it waits,
    /// or ends.
    pub(super) fn attempt_failed(
        self: &Rc<Self>,
        state: &mut State,
        error: &AttemptError,
        epoch: Epoch,
    ) {
        let chunks = state.queue.take_all();
        if let Recovery::Wait(_) = error.recovery {
            self.requeue(state, chunks, error, false, Instant::now());
            return;
        }
        self.refuse(state, chunks, &error.error, false, epoch);
    }
}

/// Whether another server may do what this one did not.
fn is_of_one_server(error: &SendError) -> bool {
    let code = error.code();
    matches!(error, SendError::NoAnswer { .. })
        || matches!(
            code,
            Some(ProblemCode::ShuttingDown | ProblemCode::Unavailable | ProblemCode::InternalError)
        )
}

/// A failure of the login that says nothing about the message: the server had just refused to take
/// that.
pub(super) fn of_the_login(error: AttemptError) -> AttemptError {
    match error.error {
        SendError::NoAnswer { .. } | SendError::Unexpected { .. } => {
            AttemptError { error: SendError::LoginFailed { last: Box::new(error.error) }, ..error }
        }
        _ => error,
    }
}
