//! Drives an engine: polls it, and runs the timer for its deadlines.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_http::ws::CloseCode;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::channel::End;
use crate::engine::active_call::Chunk;
use crate::engine::dispatch::Engine;
use crate::engine::state::Link;
use crate::error::SendError;

/// Drives an engine. The task that polls the driver carries the engine's calls.
pub(crate) struct Driver {
    engine: Rc<Engine>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires. `None` after it has fired.
    timer_at: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(engine: Rc<Engine>) -> Self {
        Driver { engine, timer: Box::pin(sleep_until(Instant::now())), timer_at: None }
    }

    /// Does all that can be done now. `cx` is woken when there is more to do.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            self.engine.poll(cx);
            let Some(wake_at) = self.engine.state.borrow().wake_at() else { return };
            if self.timer_at.is_none_or(|at| wake_at < at) {
                self.timer.as_mut().reset(wake_at);
                self.timer_at = Some(wake_at);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.timer_at = None;
            let now = Instant::now();
            self.engine.on_time(now, cx);
        }
    }

    /// Ready when all calls of an engine that gets no more calls have ended. Closes the channel
    /// then.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.engine.poll_idle(cx));
        self.engine.poll_close(cx)
    }
}

impl Engine {
    /// Handles a timer that has fired.
    fn on_time(self: &Rc<Self>, now: Instant, cx: &mut Context<'_>) {
        if self.state.borrow().look_at.is_some_and(|at| at <= now) {
            self.look_through(now, cx);
        }
        if self.state.borrow().watch_at.is_some_and(|at| at <= now) {
            self.state.borrow_mut().watch_at = None;
            self.begin_watch();
        }
        let state = &mut *self.state.borrow_mut();
        let owed_since = state.owed_since();
        let Link::Open(channel) = &mut state.link else { return };
        if let Err(error) = channel.look_at_silence(now, owed_since) {
            self.channel_ended(state, End::Broken(error));
        }
    }

    /// Looks through all calls: ends those past their deadline, gives up a channel that does not
    /// answer, and logs what the client waits for.
    fn look_through(self: &Rc<Self>, now: Instant, cx: &mut Context<'_>) {
        let state = &mut *self.state.borrow_mut();
        let http = self.exchange.http();
        let connector = http.connector();
        let (all, address) = (connector.all_addresses(), connector.address().to_string());
        let time = || Arc::new(io::Error::new(io::ErrorKind::TimedOut, "the time ran out"));
        let no_answer = || SendError::NoAnswer { address: address.clone(), source: time() };
        let is_connected = matches!(state.link, Link::Open(_)) || !state.posts.is_empty();
        state.delayed.retain(|(_, chunk)| {
            let is_due = chunk.call.end().0 <= now;
            if is_due {
                chunk.call.time_out(false, || SendError::Unreachable {
                    address: all.clone(),
                    source: time(),
                });
            }
            !is_due
        });
        let answered_at = match &state.link {
            Link::Open(channel) => channel.answered_at(),
            _ => now,
        };
        let mut oldest: Option<&Chunk> = None;
        let mut is_stuck = false;
        for chunk in state.in_flight.iter().filter(|chunk| !chunk.call.is_over()) {
            if chunk.call.end_once_there() <= now {
                chunk.call.time_out(true, no_answer);
            }
            let since = chunk.sent_at.max(answered_at);
            is_stuck |= !chunk.call.is_request() && now >= since + self.config.attempt_max();
            if oldest.is_none_or(|oldest| chunk.sent_at < oldest.sent_at) {
                oldest = Some(chunk);
            }
        }
        if let Some(chunk) = oldest {
            let what = if chunk.call.is_request() { "the reply from" } else { "an answer from" };
            self.exchange.say_waiting(what, chunk.sent_at, now, chunk.call.end_once_there());
        }
        state.time_out_posts(now, &no_answer);
        for chunk in state.queue.take_out(|chunk| chunk.call.end().0 <= now) {
            if state.is_logging_in {
                // The call waits only for the login.
                let late = SendError::LoginFailed { last: Box::new(no_answer()) };
                chunk.call.note_failure(&chunk.range, &late, false);
            }
            chunk.call.time_out(false, || match (&state.no_room, is_connected) {
                (Some(error), _) => error.clone(),
                (None, true) => SendError::Busy { connections_max: self.config.connections_max },
                (None, false) => SendError::Unreachable { address: all.clone(), source: time() },
            });
        }
        if is_stuck {
            if let Link::Open(channel) = &mut state.link {
                channel.close(CloseCode::Away, "no answer in time");
                let _ = channel.poll_flush(cx);
            }
            let error = io::Error::new(io::ErrorKind::TimedOut, "the time ran out");
            self.channel_ended(state, End::Broken(error));
        }
        state.look_at = state.next_look(now);
    }
}
