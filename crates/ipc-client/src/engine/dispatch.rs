//! Decides which way waiting entries go: over the channel, or by POST.
//!
//! `worker` passes calls in. `driver` polls the engine, which makes it send.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ipc_home::HomeWatch;
use tokio::time::Instant;

use crate::call::Call;
use crate::config::Config;
use crate::engine::active_call::ActiveCall;
use crate::engine::state::{Link, State};
use crate::error::SendError;
use crate::exchange::{Exchange, Setup};
use crate::receipt::Probe;
use crate::source::Follow;

/// A channel is closed after this time, once nothing is in flight on it. The next handshake then
/// uses new certificates, of either end.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(3600);

/// Carries the calls of one client. It stays on one thread.
pub(crate) struct Engine {
    pub(super) config: Config,
    pub(super) exchange: Exchange,
    pub(super) state: RefCell<State>,
    /// The waker of the driver's task.
    pub(super) waker: RefCell<Waker>,
    /// How many tasks work for the engine, not counting POSTs.
    pub(super) tasks: Cell<usize>,
    /// Watches the home, once that was begun.
    pub(super) watch: RefCell<Option<HomeWatch>>,
    /// When the home was last found to be another.
    pub(super) changed_at: Cell<Option<Instant>>,
    /// Where the watching thread hands on what it has read.
    pub(super) follow: Follow,
}

impl Engine {
    /// Must be called on the thread, and within the runtime, that will send.
    pub(crate) fn new(setup: Setup, follow: Follow) -> Rc<Self> {
        Rc::new(Engine {
            config: setup.config.clone(),
            exchange: Exchange::new(setup),
            state: RefCell::new(State::new()),
            waker: RefCell::new(Waker::noop().clone()),
            tasks: Cell::new(0),
            watch: RefCell::default(),
            changed_at: Cell::new(None),
            follow,
        })
    }

    /// Takes a call. The next poll of the driver sends it.
    pub(crate) fn push(&self, mut call: Call) {
        let drawn = call.messages.draw_id(|| self.exchange.sealer().draw_id());
        let call = ActiveCall::new(call);
        if let Err(error) = drawn {
            call.fail(error, false);
            return;
        }
        let mut state = self.state.borrow_mut();
        state.look_no_later_than(call.end().0);
        state.queue.push(call, Instant::now());
    }

    /// Wakes the task that polls the driver.
    pub(crate) fn wake(&self) {
        self.waker.borrow().wake_by_ref();
    }

    /// Asks a server that runs for its time, with one attempt and without a login.
    pub(crate) async fn probe(&self, until: Instant) -> Result<Probe, SendError> {
        let epoch = self.exchange.epoch();
        match self.exchange.probe(until).await {
            Err(error) if self.may_pass_now(&error, epoch, until).await => {
                self.exchange.probe(until).await
            }
            result => result,
        }
    }

    /// Logs in once, and uses the session for nothing.
    pub(crate) async fn check_login(&self, until: Instant) -> Result<(), SendError> {
        self.exchange.check_login(until).await
    }

    /// Runs a task to its end. The engine does not end before.
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let working = TaskGuard::begin(self);
        actix_rt::spawn(async move {
            task.await;
            drop(working);
        });
    }

    /// Ready if there is nothing left to do. Otherwise `cx` is woken when a caller stops waiting.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state.borrow();
        let delayed = state.delayed.iter().map(|(_, chunk)| chunk);
        let mut chunks = state.queue.iter().chain(delayed).chain(state.in_flight.iter());
        let is_idle = self.tasks.get() == 0
            && state.posts.is_empty()
            && chunks.all(|chunk| chunk.call.poll_over(cx).is_ready());
        if is_idle { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Does all that can be done now.
    pub(super) fn poll(self: &Rc<Self>, cx: &mut Context<'_>) {
        self.note_waker(cx);
        self.read_channel(cx);
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        state.wake_delayed(now);
        if state.paused_until.is_some_and(|until| until <= now) {
            (state.paused_until, state.no_room) = (None, None);
        }
        state.no_channel_until = state.no_channel_until.filter(|until| now < *until);
        self.drain(state, now, cx);
        if state.paused_until.is_none() && !state.is_rereading {
            self.send(state, now, cx);
        }
        if let Link::Open(channel) = &mut state.link {
            // The next read returns a failure of this flush.
            let _ = channel.poll_flush(cx);
        }
    }

    fn note_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.will_wake(cx.waker()) {
            waker.clone_from(cx.waker());
        }
    }

    /// Sends the waiting entries.
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
            Link::Open(_) if state.leaves_address && state.in_flight.is_empty() => {
                state.close_channel("the server cannot store messages", cx);
                self.exchange.http().connector().go_to_next();
            }
            _ => (),
        }
        if let Link::Open(_) = state.link {
            if state.drain_until.is_some() {
                return;
            }
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
        let is_lone =
            !state.has_begun && state.posts.is_empty() && state.queue.count_up_to_two() == 1;
        let has_channel = self.config.uses_channel
            && !state.post_next
            && !is_lone
            && state.no_channel_until.is_none();
        if !has_channel {
            self.post_all(state, now);
            return;
        }
        self.post_misfits(state, now);
        let is_for_a_channel = !state.only_misfits_wait(self.session_bytes());
        if state.queue.iter().any(|chunk| !chunk.call.is_over()) && is_for_a_channel {
            state.link = Link::Opening;
            let engine = Rc::clone(self);
            // Not counted as a task: when no caller waits for the channel, the engine may end.
            actix_rt::spawn(async move { engine.open_channel().await });
        }
    }

    /// Length of the current session token, in bytes.
    pub(super) fn session_bytes(&self) -> usize {
        self.exchange.current_session().0.map_or(0, |token| token.as_str().len())
    }

    /// Closes the channel, if one is open, with a close frame.
    pub(super) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        state.close_channel("the client ends", cx);
        Poll::Ready(())
    }
}

/// Counts a task while it runs.
struct TaskGuard(Rc<Engine>);

impl TaskGuard {
    fn begin(engine: &Rc<Engine>) -> Self {
        engine.tasks.set(engine.tasks.get() + 1);
        TaskGuard(Rc::clone(engine))
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        self.0.wake();
    }
}
