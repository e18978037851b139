//! Time limits of a connection: how long it may be idle, how long a request's head may take, how
//! long data are read after the last answer, and how long the peer may take to take an answer.
//!
//! `http` puts each connection's stream into a [`TimeoutStream`], and the requests on it report to
//! its [`ConnectionState`] what they are doing. actix-http's own limits are not enough: the one for
//! heads applies to the first request of a connection only, the one for idle connections ends with
//! the first byte that arrives, and it reads a chunked body that nobody consumes for ever. Nothing
//! here knows HTTP: others report when a request begins and ends, and `gate` knows which bytes
//! belong to it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::framing::BodyLength;
use crate::gate::{Gate, GatedStream};
use crate::write_progress::WriteProgress;

/// The response to a head that is too long (RFC 6585, section 5).
const HEAD_TOO_LONG: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// The time without a byte, from the moment that the peer has an answer to the next request.
    pub(crate) idle: Duration,
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// From the moment that the peer has the last answer to the end of the connection.
    pub(crate) linger: Duration,
    /// From the moment that the peer stops taking an answer to the moment that it has all of it.
    pub(crate) answer: Duration,
}

/// What a connection is doing. It is shared by its stream, its requests and `connection_slots`,
/// which are all on one thread.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    times: Timeouts,
    phase: Cell<Phase>,
    gate: Rc<Gate>,
    has_unread_body: Cell<bool>,
    /// The current request is the last of its connection.
    is_last: Cell<bool>,
    /// The current request has turned the connection into a channel.
    is_channel: Cell<bool>,
    /// The channel is idle and has to make room for another connection.
    makes_room: Cell<bool>,
    /// The peer sends nothing more that is worth waiting for.
    peer_is_done: Cell<bool>,
    written: WriteProgress,
    /// The connection's task. It is woken when another connection ends this one.
    task: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has arrived since the last answer. May last until this moment.
    Idle(Instant),
    /// A head has begun. It has to be complete at this moment.
    Head(Instant),
    /// A request is being served. The limits of its body and of its handler apply.
    Request,
    /// The answer is an open channel, which has limits of its own. The value is since when it has
    /// been idle, if it is.
    Channel(Option<Instant>),
    /// There is an answer. [`TimeoutStream`] limits how long the peer may take to take it.
    Answer {
        /// What arrives is discarded.
        is_last: bool,
        /// All of the answer was handed to the stream's writer.
        is_written: bool,
    },
    /// The peer has the last answer, and what arrives is discarded. May last until this moment.
    Closing(Instant),
    /// Nothing more is read.
    Closed,
}

impl ConnectionState {
    pub(crate) fn new(times: Timeouts) -> Rc<Self> {
        Rc::new(ConnectionState {
            phase: Cell::new(Phase::Idle(Instant::now() + times.idle)),
            times,
            gate: Gate::new(),
            has_unread_body: Cell::new(false),
            is_last: Cell::new(false),
            is_channel: Cell::new(false),
            makes_room: Cell::new(false),
            peer_is_done: Cell::new(false),
            written: WriteProgress::default(),
            task: RefCell::new(None),
        })
    }

    /// Whether the target of the request that is about to begin has a fragment.
    pub(crate) fn has_fragment(&self) -> bool {
        self.gate.has_fragment()
    }

    /// Reports that a head is complete, with the length of the body and whether the request is the
    /// last of its connection.
    pub(crate) fn request_begins(&self, length: BodyLength, is_last: bool) {
        self.phase.set(Phase::Request);
        self.has_unread_body.set(!matches!(length, BodyLength::None | BodyLength::Bytes(0)));
        self.is_last.set(is_last);
        self.gate.request_begins(length);
    }

    /// Reports that the request turns the connection into a channel: everything that arrives is
    /// handed on.
    pub(crate) fn channel_opens(&self) {
        self.is_channel.set(true);
        self.gate.opens_for_good();
    }

    /// Reports since when the channel has been idle, or that it is not.
    pub(crate) fn channel_is_idle(&self, since: Option<Instant>) {
        if let Phase::Channel(_) = self.phase.get() {
            self.phase.set(Phase::Channel(since));
        }
    }

    /// Whether the channel has to close because another connection needs its slot.
    pub(crate) fn makes_room(&self) -> bool {
        self.makes_room.get()
    }

    /// Reports that the peer has said it sends nothing more.
    pub(crate) fn peer_is_done(&self) {
        self.peer_is_done.set(true);
    }

    /// The count of the data that were handed out and written.
    pub(crate) fn written(&self) -> &WriteProgress {
        &self.written
    }

    /// Reports that the body of the request was read to its end.
    pub(crate) fn body_is_read(&self) {
        self.has_unread_body.set(false);
    }

    /// Reports that there is an answer. Returns whether the connection may be kept. It may not if
    /// the request was to be its last, if its body was left unread, or if `is_last`; then this is
    /// the last answer (RFC 9112, section 9.6). A channel is kept as long as its answer lasts.
    ///
    /// Once the answer is written, its sender calls [`answer_is_written`](Self::answer_is_written).
    pub(crate) fn answered(&self, is_last: bool) -> bool {
        if self.is_channel.get() {
            self.phase.set(Phase::Channel(Some(Instant::now())));
            return true;
        }
        let is_last = is_last || self.has_unread_body.get() || self.is_last.get();
        self.phase.set(Phase::Answer { is_last, is_written: false });
        if is_last {
            self.gate.discard();
        }
        !is_last
    }

    /// Reports that all of the answer was handed to the stream's writer. The next flush ends it.
    pub(crate) fn answer_is_written(&self) {
        match self.phase.get() {
            Phase::Answer { is_last, .. } => {
                self.phase.set(Phase::Answer { is_last, is_written: true })
            }
            Phase::Channel(_) => self.close_soon(),
            _ => (),
        }
    }

    /// Makes the answer that is flushed next the last one. What still arrives is discarded for a
    /// while, because a reset could keep the peer from reading the answer.
    pub(crate) fn close_soon(&self) {
        self.phase.set(Phase::Answer { is_last: true, is_written: true });
        self.gate.discard();
    }

    /// Rank of this connection for making room; the lowest goes first. First come idle connections,
    /// then those whose head or end is being waited for; among these the longest wait is lowest.
    /// `None` if the server is not waiting for the peer.
    pub(crate) fn eviction_rank(&self) -> Option<(bool, Instant)> {
        match self.phase.get() {
            Phase::Idle(until) => Some((false, until)),
            Phase::Head(until) | Phase::Closing(until) => Some((true, until)),
            // Idle channels are on the same scale as other idle connections.
            Phase::Channel(Some(since)) if !self.makes_room.get() => {
                Some((false, since + self.times.idle))
            }
            Phase::Request | Phase::Channel(_) | Phase::Answer { .. } | Phase::Closed => None,
        }
    }

    /// Ends the connection at once. A channel first sends a close frame.
    pub(crate) fn close_now(&self) {
        match self.phase.get() {
            Phase::Channel(_) => self.makes_room.set(true),
            _ => self.phase.set(Phase::Closed),
        }
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase.get() {
            Phase::Idle(until) | Phase::Head(until) | Phase::Closing(until) => Some(until),
            Phase::Request | Phase::Channel(_) | Phase::Answer { .. } | Phase::Closed => None,
        }
    }

    /// Whether nothing is read any more, whatever has arrived.
    fn is_over(&self) -> bool {
        match self.phase.get() {
            // An idle connection with a first byte is not late.
            Phase::Idle(_) | Phase::Request | Phase::Channel(_) | Phase::Answer { .. } => false,
            Phase::Head(until) | Phase::Closing(until) => Instant::now() >= until,
            Phase::Closed => true,
        }
    }

    fn bytes_came(&self) {
        if let Phase::Idle(_) = self.phase.get() {
            self.phase.set(Phase::Head(Instant::now() + self.times.head));
        }
    }

    /// Reports that everything written was flushed. Returns whether nothing more is to be written:
    /// `false` in the middle of an answer.
    pub(crate) fn flushed(&self) -> bool {
        match self.phase.get() {
            Phase::Answer { is_written: false, .. } => return false,
            Phase::Answer { is_last: true, .. } if self.peer_is_done.get() => {
                self.phase.set(Phase::Closed)
            }
            Phase::Answer { is_last: true, .. } => self.linger(),
            Phase::Answer { is_last: false, .. } => {
                self.phase.set(Phase::Idle(Instant::now() + self.times.idle));
                self.gate.next_request();
            }
            _ => (),
        }
        true
    }

    fn linger(&self) {
        self.phase.set(Phase::Closing(Instant::now() + self.times.linger));
    }

    /// Whether the connection ended, or will end, because a head is too long.
    pub(crate) fn head_is_too_long(&self) -> bool {
        self.gate.head_is_too_long()
    }

    /// Whether a head is too long and the peer was not told yet.
    fn head_is_refused(&self) -> bool {
        self.head_is_too_long() && matches!(self.phase.get(), Phase::Idle(_) | Phase::Head(_))
    }

    fn note_task(&self, context: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
    }
}

/// A stream with time limits. Once a limit has passed, reads find the end of the stream and writes
/// fail.
///
/// One timer serves all limits. It is reset only if the next limit is earlier. If it fires and the
/// limit has moved on, it is set to that. So a busy connection pays for a timer every few seconds
/// and not for each request.
#[derive(Debug)]
pub(crate) struct TimeoutStream<S, G> {
    stream: GatedStream<S>,
    connection: Rc<ConnectionState>,
    timer: Pin<Box<Sleep>>,
    /// When the timer will fire; `None` once it has.
    timer_at: Option<Instant>,
    /// When an answer is given up that the peer does not take, or only slowly.
    answer_until: Option<Instant>,
    /// The sending side of the connection is closed.
    is_shut: bool,
    /// Dropped with the connection.
    held: G,
}

impl<S, G> TimeoutStream<S, G> {
    pub(crate) fn new(stream: S, connection: Rc<ConnectionState>, held: G) -> Self {
        let at = Instant::now() + connection.times.idle;
        TimeoutStream {
            stream: GatedStream::new(stream, Rc::clone(&connection.gate)),
            connection,
            timer: Box::pin(sleep_until(at)),
            timer_at: Some(at),
            answer_until: None,
            is_shut: false,
            held,
        }
    }

    pub(crate) fn held(&self) -> &G {
        &self.held
    }

    pub(crate) fn connection(&self) -> &Rc<ConnectionState> {
        &self.connection
    }

    /// Is ready if a limit has passed. Otherwise the timer wakes the task when one does.
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadlines = [self.connection.deadline(), self.answer_until];
            let Some(next) = deadlines.into_iter().flatten().min() else { return Poll::Pending };
            if self.timer_at.is_none_or(|at| next < at) {
                self.timer.as_mut().reset(next);
                self.timer_at = Some(next);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer_at = None;
            if next <= Instant::now() {
                return Poll::Ready(());
            }
        }
    }

    /// Ends the stream. Returns an error if an answer was not taken, since no orderly end is
    /// possible then.
    fn end(&self) -> Poll<io::Result<()>> {
        self.connection.phase.set(Phase::Closed);
        Poll::Ready(if self.answer_until.is_some() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(())
        })
    }

    fn written<R>(
        &mut self,
        result: Poll<io::Result<R>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        // A channel has a limit of its own, and tells its peer.
        if result.is_pending() && !matches!(self.connection.phase.get(), Phase::Channel(_)) {
            let until = *self
                .answer_until
                .get_or_insert_with(|| Instant::now() + self.connection.times.answer);
            while self.poll_passed(context).is_ready() {
                if until <= Instant::now() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                // The limit of reading has passed. The reader notices it once the answer was sent.
                self.connection.phase.set(Phase::Closed);
            }
        }
        result
    }
}

impl<S: AsyncWrite + Unpin, G> TimeoutStream<S, G> {
    /// Tells the peer that its head is too long. actix-http has only a part of the head, so it
    /// writes nothing meanwhile.
    fn refuse_head(&mut self, context: &mut Context<'_>) {
        // If there is no room to write, the peer learns nothing; the connection ends anyway.
        let _ = Pin::new(&mut self.stream).poll_write(context, HEAD_TOO_LONG);
        let _ = Pin::new(&mut self.stream).poll_flush(context);
        self.connection.close_soon();
        self.connection.linger();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncRead for TimeoutStream<S, G> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.is_over() {
            return this.end();
        }
        let filled = buffer.filled().len();
        let mut result = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.connection.head_is_refused() {
            this.refuse_head(context);
            result = Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        if result.is_pending() {
            this.connection.note_task(context);
            if this.poll_passed(context).is_ready() {
                return this.end();
            }
        } else if buffer.filled().len() > filled {
            this.connection.bytes_came();
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncWrite for TimeoutStream<S, G> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, buffer);
        match &result {
            Poll::Ready(Ok(bytes)) => this.connection.written.advance(*bytes),
            // Receivers that wait behind the answer do not wait for a peer that does not take it.
            Poll::Ready(Err(_)) | Poll::Pending => this.connection.written.release(),
        }
        this.written(result, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(context);
        if result.is_ready() {
            this.connection.written.flushed();
            if this.connection.flushed() {
                this.answer_until = None;
            }
            // An answer is flushed before the next read, so the limit that begins with it has to be
            // armed here.
            if this.poll_passed(context).is_ready() {
                this.connection.phase.set(Phase::Closed);
                context.waker().wake_by_ref();
            }
        }
        this.written(result, context)
    }

    /// Closes the sending side. If bytes arrived that nobody read, then waits for the peer to close
    /// its own: the system would answer unread bytes with a reset, and the peer might lose the last
    /// answer (RFC 9112, section 9.6).
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            let result = Pin::new(&mut this.stream).poll_shutdown(context);
            ready!(this.written(result, context))?;
            this.is_shut = true;
            match this.connection.phase.get() {
                Phase::Closed | Phase::Closing(_) => (),
                _ if this.stream.has_unread(context) => {
                    this.connection.close_soon();
                    this.connection.linger();
                }
                _ => this.connection.phase.set(Phase::Closed),
            }
        }
        let mut space = [0; 1024];
        while !this.connection.is_over() {
            let read = Pin::new(&mut this.stream).poll_read(context, &mut ReadBuf::new(&mut space));
            let is_waiting = read.is_pending();
            if !is_waiting || this.poll_passed(context).is_ready() {
                this.connection.phase.set(Phase::Closed);
            } else {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
