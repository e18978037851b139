//! What becomes of calls: a queue, one channel or a few POSTs that carry them, retries with backoff, and deadlines.
//!
//! `worker` and `local` hand calls in and drive it. How a frame is written or posted is known below; here is decided which goes
//! where, when, and how often.
//!
//! A lone first message goes by POST, so that a process that sends one pays for no upgrade. Whatever follows goes over a
//! channel, where the server opens one; what a frame of it cannot hold goes by POST beside it. What has no answer when a channel
//! ends or a POST fails goes back to its place in the queue, and out again under the same id.

mod active;
mod backoff;
mod posting;
mod queue;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_http::ws::CloseCode;
use ipc_protocol::{
    CHANNEL_MESSAGE_BYTES_MAX_DEFAULT, CHANNEL_RETRY_AFTER, ChannelAnswer, ProblemCode, RefusedFrom, Route,
    Settled,
};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::call::{Call, EntryStatus};
use crate::channel::in_flight::InFlight;
use crate::channel::{Channel, End, Event};
use crate::config::Config;
use crate::error::{NoReply, SendError};
use crate::exchange::refusal::{AttemptError, Recovery, of_code};
use crate::exchange::session::{Generation, Origin};
use crate::exchange::{AttemptLimits, Exchange, Setup};
use crate::progress::{Progress, seconds, with_causes};
use crate::random::random;
use crate::transport::attempt::Attempt;
use crate::transport::http::{OpenError, WebSocket};
use active::{Active, Piece};
use backoff::Backoff;
use posting::Post;
use queue::{FrameLimits, Queue};

/// How often a session that another process keeps is taken in a row: each may be over.
const KEPT_TRIES_MAX: u32 = 3;

/// After a server, or a proxy before it, did not open a channel, how long none is asked for.
const NO_CHANNEL_FOR: Duration = Duration::from_secs(60);

/// How long a channel is used at all. Then a new handshake takes notice of new certificates.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(3600);

/// How often it is said what is waited for, at most.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Bytes that a session adds to a frame, and more than any has.
const SESSION_BYTES: usize = 2048;

/// Carries the calls of one client. Lives on one thread.
pub(crate) struct Engine {
    config: Config,
    exchange: Exchange,
    state: RefCell<State>,
    /// Of the driver.
    waker: RefCell<Waker>,
    /// Tasks that work for it, POSTs left out.
    tasks: Cell<usize>,
}

struct State {
    queue: Queue,
    link: Link,
    /// What was sent over the channel and has no answer.
    in_flight: InFlight<Piece>,
    /// How many requests are among that.
    requests: usize,
    /// The session that the channel has.
    session_sent: Option<Generation>,
    /// From which entry on the server takes none until it is told that this is known.
    resume: Option<u64>,
    /// Requests that are asked for again later.
    delayed: Vec<(Instant, Piece)>,
    posts: Vec<Post>,
    /// The number of the next of them.
    next_post: u64,
    /// A first message was sent.
    has_begun: bool,
    /// What is sent next goes by POST, which says what is wrong.
    post_next: bool,
    /// Until then no channel is asked for.
    no_channel_until: Option<Instant>,
    has_told_no_channel: bool,
    /// No more go into one POST: the server has refused as many.
    post_messages_max: Option<usize>,
    is_logging_in: bool,
    kept_tries: u32,
    /// The session is of a login, and nothing was accepted with it yet.
    is_session_unproved: bool,
    backoff: Backoff,
    retries: Progress,
    /// Nothing is sent before.
    paused_until: Option<Instant>,
    /// When calls have to be looked through: for those whose time is over, and for what to say.
    look_at: Option<Instant>,
}

/// What there is of a channel.
enum Link {
    Closed,
    Opening,
    Open(Box<Channel>),
}

impl Engine {
    /// Must be called on the thread, and within the runtime, that will send.
    pub(crate) fn new(setup: Setup) -> Rc<Self> {
        let state = State {
            queue: Queue::default(),
            link: Link::Closed,
            in_flight: InFlight::default(),
            requests: 0,
            session_sent: None,
            resume: None,
            delayed: Vec::new(),
            posts: Vec::new(),
            next_post: 0,
            has_begun: false,
            post_next: false,
            no_channel_until: None,
            has_told_no_channel: false,
            post_messages_max: None,
            is_logging_in: false,
            kept_tries: 0,
            is_session_unproved: false,
            backoff: Backoff::new(),
            retries: Progress::default(),
            paused_until: None,
            look_at: None,
        };
        Rc::new(Engine {
            config: setup.config.clone(),
            exchange: Exchange::new(setup),
            state: RefCell::new(state),
            waker: RefCell::new(Waker::noop().clone()),
            tasks: Cell::new(0),
        })
    }

    /// Takes a call. It is sent when the driver is polled next.
    pub(crate) fn push(&self, mut call: Call) {
        let drawn = call.messages.draw_id(|| self.exchange.sealer().draw_id());
        let call = Active::new(call);
        if let Err(error) = drawn {
            call.fail(error, false);
            return;
        }
        let mut state = self.state.borrow_mut();
        state.look_no_later_than(call.end().0);
        state.queue.push(call, Instant::now());
    }

    /// Has the driver polled.
    pub(crate) fn wake(&self) {
        self.waker.borrow().wake_by_ref();
    }

    /// Asks whether the server runs: one attempt, without a login.
    pub(crate) async fn is_running(&self, until: Instant) -> Result<bool, SendError> {
        self.exchange.is_running(until).await
    }

    /// Runs a task for as long as it takes; the engine does not end before.
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let working = Working::begin(self);
        actix_rt::spawn(async move {
            task.await;
            drop(working);
        });
    }

    /// Whether there is nothing left to do; where there is, whoever polls is woken when nobody waits for it any more.
    fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state.borrow();
        let delayed = state.delayed.iter().map(|(_, piece)| piece);
        let mut pieces = state.queue.iter().chain(delayed).chain(state.in_flight.iter());
        let is_idle = self.tasks.get() == 0
            && state.posts.is_empty()
            && pieces.all(|piece| piece.call.poll_over(cx).is_ready());
        if is_idle { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Does what can be done now.
    fn poll(self: &Rc<Self>, cx: &mut Context<'_>) {
        self.note_waker(cx);
        self.read_channel(cx);
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        state.wake_delayed(now);
        state.paused_until = state.paused_until.filter(|until| now < *until);
        if state.paused_until.is_none() {
            self.send(state, now, cx);
        }
        if let Link::Open(channel) = &mut state.link {
            // A failure shows when it is read.
            let _ = channel.poll_flush(cx);
        }
    }

    fn note_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.will_wake(cx.waker()) {
            waker.clone_from(cx.waker());
        }
    }

    /// Sends what waits.
    fn send(self: &Rc<Self>, state: &mut State, now: Instant, cx: &mut Context<'_>) {
        if state.queue.is_empty() {
            return;
        }
        match &state.link {
            Link::Open(channel)
                if state.in_flight.is_empty() && now >= channel.opened_at() + CHANNEL_LIFETIME =>
            {
                state.close_channel("a new connection takes notice of new certificates", cx);
            }
            _ => (),
        }
        if let Link::Open(_) = state.link {
            self.write_frames(state, now, cx);
            self.post_misfits(state, now);
            return;
        }
        if let Link::Opening = state.link {
            return;
        }
        if state.is_logging_in {
            return;
        }
        let is_lone = !state.has_begun && state.queue.count_up_to_two() == 1;
        let has_channel = self.config.uses_channel
            && !state.post_next
            && !is_lone
            && state.no_channel_until.is_none_or(|until| now >= until);
        if !has_channel {
            self.post_all(state, now);
            return;
        }
        self.post_misfits(state, now);
        if state.queue.iter().any(|piece| !piece.call.is_over()) && !state.only_misfits_wait(&self.config) {
            state.link = Link::Opening;
            let engine = Rc::clone(self);
            self.spawn(async move { engine.open_channel().await });
        }
    }

    /// Writes frames as long as they go out.
    fn write_frames(&self, state: &mut State, now: Instant, cx: &mut Context<'_>) {
        let Link::Open(channel) = &mut state.link else { return };
        // What did not go out before goes now, or wakes the driver when it does: then there is room for the next frame.
        while channel.poll_flush(cx).is_ready() && channel.is_writable() {
            let (token, generation) = self.exchange.current_session();
            let token = token.filter(|_| state.session_sent != Some(generation));
            let session = token.as_ref().map(|token| token.as_str());
            let limits = FrameLimits {
                entries: channel.limits().entries,
                bytes: channel.entries_bytes_max(session.map_or(0, str::len)),
                requests: channel.limits().requests.saturating_sub(state.requests),
            };
            let mut frame = Vec::new();
            state.queue.take_frame(limits, &mut frame);
            if frame.is_empty() {
                return;
            }
            let bytes: usize = frame.iter().map(|piece| piece.bytes() + REPLY_WAIT_BYTES).sum();
            let written = channel.write(state.in_flight.next(), state.resume, session, bytes, |buffer| {
                for (index, piece) in frame.iter().enumerate() {
                    if index > 0 {
                        buffer.push(b',');
                    }
                    write_entries(buffer, piece, now);
                }
            });
            if let Err(error) = written {
                frame.iter().for_each(|piece| piece.call.fail(error.clone(), false));
                continue;
            }
            state.session_sent = Some(generation);
            state.resume = None;
            for mut piece in frame {
                piece.sent_at = now;
                piece.call.note_sent();
                if piece.call.is_request() {
                    state.requests += 1;
                    piece.call.reply_wait_begins(now);
                }
                state.in_flight.push(piece);
            }
        }
        state.look_no_later_than(now + SAY_EVERY);
    }

    /// Reads what has come over the channel.
    fn read_channel(self: &Rc<Self>, cx: &mut Context<'_>) {
        loop {
            let state = &mut *self.state.borrow_mut();
            let Link::Open(channel) = &mut state.link else { return };
            match channel.poll_event(cx) {
                Poll::Pending => return,
                Poll::Ready(Event::Answer(envelope)) => {
                    if let Err(why) = self.take_answer(state, &envelope) {
                        if let Link::Open(channel) = &mut state.link {
                            channel.close(CloseCode::Protocol, "the answer is none");
                            let _ = channel.poll_flush(cx);
                        }
                        let error = io::Error::new(io::ErrorKind::InvalidData, why);
                        self.channel_ended(state, End::Broken(error));
                    }
                }
                Poll::Ready(Event::Ended(end)) => {
                    if let Link::Open(channel) = &mut state.link {
                        // The answer to a close frame.
                        let _ = channel.poll_flush(cx);
                    }
                    self.channel_ended(state, end);
                }
            }
        }
    }

    /// Takes in an answer; an error says what is wrong with it.
    fn take_answer(self: &Rc<Self>, state: &mut State, envelope: &[u8]) -> Result<(), String> {
        let now = Instant::now();
        let Link::Open(channel) = &state.link else { return Ok(()) };
        let (in_flight, requests) = (&mut state.in_flight, &mut state.requests);
        let mut again = Vec::new();
        let mut refused = None;
        channel.read(envelope, |answer: &ChannelAnswer<'_>| {
            for settled in &answer.settled {
                settle(in_flight, requests, settled, now, &mut again)?;
            }
            for reply in &answer.replies {
                let tell = |piece: &Piece, _| {
                    *requests -= usize::from(piece.call.is_request());
                    piece.call.is_over() || piece.call.reply(reply.is_duplicate, reply.body)
                };
                in_flight.settle(reply.entry, reply.entry, tell).ok()?;
            }
            if let Some(RefusedFrom { from, code }) = answer.refused {
                refused = Some((from, of_code(code, Some(CHANNEL_RETRY_AFTER))));
            }
            Some(())
        })?;
        state.has_answer();
        for (piece, error) in again {
            self.retry(state, piece, &error, now);
        }
        if let Some((from, error)) = refused {
            let taken = state.in_flight.take_from(from);
            state.count_requests();
            state.resume = Some(from);
            self.put_back(state, taken, &error, false, now);
        }
        Ok(())
    }

    /// A request, or an entry that the server could not take at the moment, is sent again.
    fn retry(self: &Rc<Self>, state: &mut State, piece: Piece, error: &AttemptError, now: Instant) {
        match piece.call.no_reply(&error.error) {
            Some(late) => state.ask_again(piece, late, false, now),
            None => self.put_back(state, vec![piece], error, false, now),
        }
    }

    /// The channel has ended. What has no answer goes again.
    fn channel_ended(self: &Rc<Self>, state: &mut State, end: End) {
        let now = Instant::now();
        state.link = Link::Closed;
        let used = state.session_sent.take();
        state.resume = None;
        let pieces = state.in_flight.take_from(0);
        state.in_flight = InFlight::default();
        state.requests = 0;
        let is_idle = pieces.iter().all(|piece| piece.call.is_over());
        let address = self.exchange.http().connector().address().to_string();
        let (error, may_be_there) = match end {
            End::Broken(error) => {
                log::debug!("the channel to {address} broke: {error}");
                let attempt = Attempt::default();
                attempt.writing.set(true);
                (AttemptError::without_answer(self.exchange.http().error_of(&error, &attempt)), true)
            }
            End::Closed { code, reason } if code == 4000 + ProblemCode::SessionExpired.status() => {
                log::debug!("the channel to {address} was closed: {code} {reason}");
                (of_code(ProblemCode::SessionExpired.as_str(), None), false)
            }
            End::Closed { code: 4000.., reason } => {
                let error = of_code(&reason, None);
                // POST tells more of it, and whose it is.
                state.post_next = true;
                (AttemptError { recovery: Recovery::Wait(None), ..error }, false)
            }
            End::Closed { code, reason } => {
                if code > 1001 {
                    log::warn!("the server at {address} closed the channel: {code} {reason}");
                    state.post_next = true;
                } else {
                    log::debug!("the server at {address} closed the channel: {code} {reason}");
                }
                let error = io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    format!("the server closed the channel: {code} {reason}"),
                );
                let error = SendError::NoAnswer { address, source: Arc::new(error) };
                (AttemptError::without_answer(error), true)
            }
        };
        if is_idle {
            return;
        }
        if error.recovery == Recovery::LogIn {
            // What was in the frame was not taken; requests from before were.
            for piece in &pieces {
                piece.call.note_failure(&piece.range, &error.error, piece.call.is_request());
            }
            for piece in &pieces {
                state.queue.put_back(piece);
            }
            self.log_in(state, used.unwrap_or_default(), error);
            return;
        }
        if matches!(error.error, SendError::NoAnswer { .. }) {
            self.exchange.http().connector().go_to_next();
        }
        if error.recovery == Recovery::GiveUp {
            for piece in &pieces {
                piece.call.fail(error.error.clone(), true);
            }
            return;
        }
        let (requests, sends): (Vec<_>, Vec<_>) =
            pieces.into_iter().partition(|piece| piece.call.is_request());
        self.put_back(state, requests, &error, true, now);
        self.put_back(state, sends, &error, may_be_there, now);
    }

    /// Puts pieces back whose attempt failed in a way that a pause may mend.
    fn put_back(
        self: &Rc<Self>,
        state: &mut State,
        pieces: Vec<Piece>,
        error: &AttemptError,
        may_be_there: bool,
        now: Instant,
    ) {
        let retry_after = match error.recovery {
            Recovery::Wait(retry_after) => retry_after,
            _ => None,
        };
        let mut first_end = None;
        for piece in pieces {
            piece.call.note_failure(&piece.range, &error.error, may_be_there);
            let left = piece.call.end().0.saturating_duration_since(now);
            if retry_after.is_some_and(|retry_after| retry_after >= left) {
                piece.call.time_out(false, || error.error.clone());
                continue;
            }
            if !piece.call.is_over() {
                first_end = Some(first_end.map_or(left, |end: Duration| end.min(left)));
                state.queue.put_back(&piece);
            }
        }
        if let Some(left) = first_end {
            state.pause(&error.error, retry_after, left, now);
        }
    }

    /// Logs in, and has whatever waits sent again. `refusal` is why.
    fn log_in(self: &Rc<Self>, state: &mut State, used: Generation, refusal: AttemptError) {
        let (_, current) = self.exchange.current_session();
        if state.is_logging_in {
            return;
        }
        if state.is_session_unproved && used == current {
            // It was made for this, and is refused: another one would be too.
            for piece in state.queue.take_all() {
                piece.call.fail(refusal.error.clone(), false);
            }
            return;
        }
        state.is_logging_in = true;
        let engine = Rc::clone(self);
        self.spawn(async move {
            let _ = engine.renew(used).await;
        });
    }

    /// Sees to it that the session is not the one of generation `used` any more; `false` if there is none.
    async fn renew(self: &Rc<Self>, used: Generation) -> bool {
        let (may_take_kept, ends_at) = {
            let state = self.state.borrow();
            (state.kept_tries < KEPT_TRIES_MAX, state.last_end(Instant::now() + self.config.timeout))
        };
        let result = self.exchange.renew(used, may_take_kept, ends_at).await;
        let state = &mut *self.state.borrow_mut();
        state.is_logging_in = false;
        let is_good = result.is_ok();
        match result {
            Ok(Origin::Login) => (state.is_session_unproved, state.kept_tries) = (true, 0),
            Ok(Origin::Kept) => state.kept_tries += 1,
            Err(error) => self.attempt_failed(state, &of_the_login(error)),
        }
        self.wake();
        is_good
    }

    /// Nothing of what waits can be sent: it waits, or ends.
    fn attempt_failed(self: &Rc<Self>, state: &mut State, error: &AttemptError) {
        let pieces = state.queue.take_all();
        if let Recovery::Wait(_) = error.recovery {
            self.put_back(state, pieces, error, false, Instant::now());
            return;
        }
        for piece in pieces {
            piece.call.fail(error.error.clone(), false);
        }
    }

    /// Opens a channel for what waits.
    async fn open_channel(self: &Rc<Self>) {
        let (token, generation) = self.exchange.current_session();
        if token.is_none() && !self.renew(generation).await {
            self.state.borrow_mut().link = Link::Closed;
            return;
        }
        let result = self.try_open().await;
        let state = &mut *self.state.borrow_mut();
        state.link = Link::Closed;
        match result {
            Ok(Ok(channel)) => {
                state.in_flight = InFlight::default();
                state.link = Link::Open(Box::new(channel));
            }
            Ok(Err(why)) => {
                let level = match std::mem::replace(&mut state.has_told_no_channel, true) {
                    false => log::Level::Info,
                    true => log::Level::Debug,
                };
                let address = self.exchange.http().connector().address();
                log::log!(level, "the server at {address} opens no channel ({why}): messages go by POST");
                state.no_channel_until = Some(Instant::now() + NO_CHANNEL_FOR);
            }
            Err(error) => {
                self.exchange.http().connector().go_to_next();
                self.attempt_failed(state, &error);
            }
        }
        self.wake();
    }

    async fn try_open(&self) -> Result<Result<Channel, String>, AttemptError> {
        let attempt = Rc::new(Attempt::default());
        let now = Instant::now();
        let limits = AttemptLimits::until(self.state.borrow().last_end(now + self.config.timeout));
        let bytes_max = self.config.plaintext_bytes_max.saturating_add(ipc_envelope::OVERHEAD_BYTES_MAX);
        let opened = async {
            match self.exchange.http().open_channel(bytes_max, &attempt).await {
                Ok(socket) => Ok(Ok(socket)),
                Err(OpenError::NotOpened(why)) => Ok(Err(why)),
                Err(OpenError::NoAnswer(error)) => Err(error),
            }
        };
        let route = Route::MessageChannel;
        let opened: Result<Result<WebSocket, String>, _> =
            self.exchange.in_time(opened, route, Duration::ZERO, limits, &attempt).await;
        let socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => return Ok(Err(why)),
            Err(error) => {
                let error = self.exchange.explain(error, &attempt, limits.ends_at).await;
                // No message was on its way.
                return Err(AttemptError::without_answer(match error {
                    SendError::NoAnswer { address, source } => SendError::Unreachable { address, source },
                    error => error,
                }));
            }
        };
        let sealer = self.exchange.sealer();
        let id = sealer.draw_id().map_err(crate::exchange::refusal::give_up)?;
        Ok(Ok(Channel::new(socket, sealer, id, bytes_max)))
    }

    /// Looks through all calls: ends those whose time is over, gives up a channel that does not answer, and says what is waited
    /// for.
    fn look_through(self: &Rc<Self>, now: Instant, cx: &mut Context<'_>) {
        let state = &mut *self.state.borrow_mut();
        let connector = self.exchange.http().connector();
        let (all, address) = (connector.all_addresses(), connector.address().to_string());
        let time = || Arc::new(io::Error::new(io::ErrorKind::TimedOut, "the time ran out"));
        let no_answer = || SendError::NoAnswer { address: address.clone(), source: time() };
        let is_connected = matches!(state.link, Link::Open(_)) || !state.posts.is_empty();
        state.delayed.retain(|(_, piece)| {
            let is_due = piece.call.end().0 <= now;
            if is_due {
                piece
                    .call
                    .time_out(false, || SendError::Unreachable { address: all.clone(), source: time() });
            }
            !is_due
        });
        let answered_at = match &state.link {
            Link::Open(channel) => channel.answered_at(),
            _ => now,
        };
        let mut oldest: Option<&Piece> = None;
        let mut is_stuck = false;
        for piece in state.in_flight.iter().filter(|piece| !piece.call.is_over()) {
            if piece.call.end_once_there() <= now {
                piece.call.time_out(true, no_answer);
            }
            let since = piece.sent_at.max(answered_at);
            is_stuck |= !piece.call.is_request() && now >= since + self.config.attempt_max();
            if oldest.is_none_or(|oldest| piece.sent_at < oldest.sent_at) {
                oldest = Some(piece);
            }
        }
        if let Some(piece) = oldest {
            let what = if piece.call.is_request() { "the reply from" } else { "an answer from" };
            self.exchange.say_waiting(what, piece.sent_at, now, piece.call.end_once_there());
        }
        state.time_out_posts(now, &no_answer);
        for piece in state.queue.take_out(|piece| piece.call.end().0 <= now) {
            if state.is_logging_in {
                // It waits for nothing else.
                let late = SendError::LoginFailed { last: Box::new(no_answer()) };
                piece.call.note_failure(&piece.range, &late, false);
            }
            piece.call.time_out(false, || match is_connected {
                true => SendError::Busy { connections_max: self.config.connections_max },
                false => SendError::Unreachable { address: all.clone(), source: time() },
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

    /// Ends the channel, if there is one, in order. Ready once that has gone out.
    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        state.close_channel("the client ends", cx);
        Poll::Ready(())
    }
}

/// Bytes that a request's entry has for the wait for its reply.
const REPLY_WAIT_BYTES: usize = 48;

/// Appends the entries of a piece; that of a request says how long its reply is waited for.
fn write_entries(buffer: &mut Vec<u8>, piece: &Piece, now: Instant) {
    use std::io::Write as _;
    let text = piece.call.messages.text(piece.range.clone());
    match piece.call.reply_wait(now) {
        None => buffer.extend_from_slice(text),
        Some(wait) => {
            // In place of the brace that ends it.
            buffer.extend_from_slice(&text[..text.len() - 1]);
            write!(buffer, r#","reply_wait_ms":{}}}"#, wait.as_millis()).expect("memory takes all");
        }
    }
}

/// Takes in what became of entries; `None` if they are none that have no answer. Those to send again go into `again`.
fn settle(
    in_flight: &mut InFlight<Piece>,
    requests: &mut usize,
    Settled { first, last, code }: &Settled<'_>,
    now: Instant,
    again: &mut Vec<(Piece, AttemptError)>,
) -> Option<()> {
    let status = match *code {
        Settled::ACCEPTED => EntryStatus::Accepted,
        Settled::DUPLICATE => EntryStatus::Duplicate,
        code => {
            let error = of_code(code, None);
            let is_late = error.error.code() == Some(ProblemCode::NoReplyInTime);
            if is_late || matches!(error.recovery, Recovery::Wait(_)) {
                let taken = in_flight.take(*first, *last);
                if taken.iter().map(Piece::len).sum::<usize>() as u64 != last - first + 1 {
                    return None;
                }
                for piece in taken {
                    *requests -= usize::from(piece.call.is_request());
                    again.push((piece, error.clone()));
                }
                return Some(());
            }
            EntryStatus::Refused(error.error)
        }
    };
    let settled = in_flight.settle(*first, *last, |piece, positions| {
        *requests -= usize::from(piece.call.is_request());
        match &status {
            EntryStatus::Refused(error) => {
                let error = piece.call.no_reply(error).unwrap_or_else(|| error.clone());
                piece.settle(positions, &EntryStatus::Refused(error), now)
            }
            status => piece.settle(positions, status, now),
        }
    });
    settled.ok()
}

/// A failure of the login that says nothing about the message: the server had just refused to take that.
fn of_the_login(error: AttemptError) -> AttemptError {
    match error.error {
        SendError::NoAnswer { .. } | SendError::Unexpected { .. } => {
            AttemptError { error: SendError::LoginFailed { last: Box::new(error.error) }, ..error }
        }
        _ => error,
    }
}

impl State {
    fn look_no_later_than(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
    }

    /// When the next call ends, or there is something to say.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let waiting = self.queue.iter().chain(self.delayed.iter().map(|(_, piece)| piece));
        let ends = waiting.map(|piece| piece.call.end().0);
        let sent = self.in_flight.iter().filter(|piece| !piece.call.is_over());
        let answers = sent.map(|piece| piece.call.end_once_there().min(now + SAY_EVERY));
        ends.chain(answers).chain(self.posts.iter().flat_map(Post::ends)).min()
    }

    /// The latest moment at which something that waits ends.
    fn last_end(&self, otherwise: Instant) -> Instant {
        self.queue.iter().map(|piece| piece.call.end().0).max().unwrap_or(otherwise)
    }

    /// The server has answered: what failed before is over.
    fn has_answer(&mut self) {
        self.backoff = Backoff::new();
        self.kept_tries = 0;
        self.is_session_unproved = false;
    }

    fn wake_delayed(&mut self, now: Instant) {
        if self.delayed.is_empty() {
            return;
        }
        for (at, piece) in std::mem::take(&mut self.delayed) {
            match at <= now {
                true => self.queue.put_back(&piece),
                false => self.delayed.push((at, piece)),
            }
        }
    }

    fn count_requests(&mut self) {
        self.requests = self.in_flight.iter().filter(|piece| piece.call.is_request()).count();
    }

    /// Waits before anything is sent again.
    fn pause(&mut self, error: &SendError, retry_after: Option<Duration>, left: Duration, now: Instant) {
        // Without random numbers pauses lose their jitter, and the next seal will say so.
        let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
        // A call with no time left ends by itself; others go on.
        let pause = self.backoff.next(None, left.max(backoff::LAST_CHANCE), random).unwrap_or_default();
        let pause = pause.max(retry_after.unwrap_or_default());
        log::log!(
            self.retries.level(now),
            "sending again in {} ms, giving up in {}: {}",
            pause.as_millis(),
            seconds(left),
            with_causes(error)
        );
        let until = now + pause;
        self.paused_until = Some(self.paused_until.map_or(until, |paused| paused.max(until)));
    }

    /// A request whose reply did not come in the time that the server gives it. It has the request.
    fn ask_again(&mut self, piece: Piece, late: SendError, had_no_wait: bool, now: Instant) {
        let is_late = matches!(late, SendError::NoReply { reason: NoReply::NotInTime { .. } });
        let is_news = piece.call.is_there_now();
        piece.call.reply_wait_begins(piece.sent_at);
        if !is_late || piece.call.reply_wait_left(now).is_zero() {
            piece.call.settle(piece.range.clone(), &EntryStatus::Refused(late), now);
            return;
        }
        piece.call.note_failure(&piece.range, &late, false);
        // The first one may have been there only to bring it.
        if is_news && had_no_wait {
            self.queue.put_back(&piece);
            return;
        }
        let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
        match piece.call.pause(now, random) {
            Some(pause) => self.delayed.push((now + pause, piece)),
            None => piece.call.time_out(false, || late.clone()),
        }
    }

    /// Whether what waits has to go by POST, all of it.
    fn only_misfits_wait(&self, config: &Config) -> bool {
        let bytes_max = misfit_bytes(config);
        self.queue.iter().all(|piece| Queue::is_misfit(piece, bytes_max))
    }

    fn close_channel(&mut self, why: &str, cx: &mut Context<'_>) {
        if let Link::Open(channel) = &mut self.link {
            channel.close(CloseCode::Normal, why);
            // What does not go out at once is not waited for: nobody misses it.
            let _ = channel.poll_flush(cx);
        }
        self.link = Link::Closed;
        self.session_sent = None;
        self.resume = None;
        self.in_flight = InFlight::default();
        self.requests = 0;
    }

    /// When there is something to do although nothing comes.
    fn wake_at(&self) -> Option<Instant> {
        let channel = match &self.link {
            Link::Open(channel) => Some(channel.wake_at()),
            _ => None,
        };
        let delayed = self.delayed.iter().map(|(at, _)| *at).min();
        let waits = !self.queue.is_empty();
        let late = self.posts.iter().filter(|_| waits).filter_map(Post::late_at).min();
        let again = self.no_channel_until.filter(|_| waits && self.posts.is_empty());
        let all = [channel, delayed, late, again, self.paused_until.filter(|_| waits), self.look_at];
        all.into_iter().flatten().min()
    }
}

/// How many bytes of entries a frame of a channel holds, as far as is known before there is one.
fn misfit_bytes(_config: &Config) -> usize {
    CHANNEL_MESSAGE_BYTES_MAX_DEFAULT - SESSION_BYTES
}

/// Counts a task, for as long as it lives.
struct Working(Rc<Engine>);

impl Working {
    fn begin(engine: &Rc<Engine>) -> Self {
        engine.tasks.set(engine.tasks.get() + 1);
        Working(Rc::clone(engine))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        self.0.wake();
    }
}

/// Drives an engine: whoever polls it carries its calls.
pub(crate) struct Driver {
    engine: Rc<Engine>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; `None` once it has.
    timer_at: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(engine: Rc<Engine>) -> Self {
        Driver { engine, timer: Box::pin(sleep_until(Instant::now())), timer_at: None }
    }

    /// Does what can be done now; whoever polls is woken when there is more.
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

    /// Whether all is done, for an engine that gets no more calls. Then the channel is closed.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.engine.poll_idle(cx));
        self.engine.poll_close(cx)
    }
}

impl Engine {
    /// A moment has come at which something may be due.
    fn on_time(self: &Rc<Self>, now: Instant, cx: &mut Context<'_>) {
        if self.state.borrow().look_at.is_some_and(|at| at <= now) {
            self.look_through(now, cx);
        }
        let state = &mut *self.state.borrow_mut();
        let Link::Open(channel) = &mut state.link else { return };
        if let Err(error) = channel.look_at_silence(now) {
            self.channel_ended(state, End::Broken(error));
        }
    }
}
