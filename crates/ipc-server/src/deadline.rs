//! Time limits of a connection: how long it may be idle, how long the head of a request may take, how long what follows
//! an answer is still read, and how long an answer may wait to be taken.
//!
//! `http` puts each connection's stream into a [`Timed`]; the requests on it tell its [`Watch`] what they are doing.
//! actix-http has time limits too, but the one for heads holds for the first request of a connection only, the one for
//! idleness ends with the first byte that comes, and a chunked body that nobody reads is swallowed for ever. Nothing
//! here knows HTTP: it is told when a request begins and ends. Which bytes belong to a request, `gate` knows.

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

/// The answer to a head that is too long (RFC 6585, section 5).
const HEAD_TOO_LONG: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Without a byte, from the moment that the peer has an answer to the next request.
    pub(crate) idle: Duration,
    /// From the first byte of a head to its last.
    pub(crate) head: Duration,
    /// From the moment that the peer has the last answer to the end of the connection.
    pub(crate) linger: Duration,
    /// From the moment that the peer takes no more of an answer to the moment that it has all of it.
    pub(crate) answer: Duration,
}

/// What a connection is doing. Shared by its stream, its requests and the [`Crowd`](crate::crowd::Crowd), which all live
/// on one thread.
#[derive(Debug)]
pub(crate) struct Watch {
    times: Times,
    phase: Cell<Phase>,
    gate: Rc<Gate>,
    has_unread_body: Cell<bool>,
    /// The request under way is the last of its connection.
    is_last: Cell<bool>,
    /// The connection's task, to be woken when somebody else ends the connection.
    task: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come since the last answer. Until then it may stay so.
    Idle(Instant),
    /// A head has begun. Until then it may take.
    Head(Instant),
    /// A request is under way: the limits of its body and of its handler hold.
    Request,
    /// There is an answer. The peer may take it for as long as [`Timed`] allows.
    Answer {
        /// What comes is discarded.
        is_last: bool,
        /// All of it was handed to the stream's writer.
        is_written: bool,
    },
    /// The peer has the last answer, what comes is discarded. Until then it may.
    Closing(Instant),
    /// Nothing more is read.
    Closed,
}

impl Watch {
    pub(crate) fn new(times: Times) -> Rc<Self> {
        Rc::new(Watch {
            phase: Cell::new(Phase::Idle(Instant::now() + times.idle)),
            times,
            gate: Gate::new(),
            has_unread_body: Cell::new(false),
            is_last: Cell::new(false),
            task: RefCell::new(None),
        })
    }

    /// Whether the target of the request that is about to begin has a fragment.
    pub(crate) fn has_fragment(&self) -> bool {
        self.gate.has_fragment()
    }

    /// A head is complete, and says how long the body is and whether the request is the last of its connection.
    pub(crate) fn request_begins(&self, length: BodyLength, is_last: bool) {
        self.phase.set(Phase::Request);
        self.has_unread_body.set(!matches!(length, BodyLength::None | BodyLength::Bytes(0)));
        self.is_last.set(is_last);
        self.gate.request_begins(length);
    }

    /// The body of the request was read to its end.
    pub(crate) fn body_is_read(&self) {
        self.has_unread_body.set(false);
    }

    /// There is an answer. Returns whether the connection may be kept: not if the request was to be its last, or its body
    /// was left unread, or `is_last` says so. Where not, this is the last answer (RFC 9112, section 9.6).
    ///
    /// Whoever sends the answer says so with [`answer_is_written`](Self::answer_is_written).
    pub(crate) fn answered(&self, is_last: bool) -> bool {
        let is_last = is_last || self.has_unread_body.get() || self.is_last.get();
        self.phase.set(Phase::Answer { is_last, is_written: false });
        if is_last {
            self.gate.discard();
        }
        !is_last
    }

    /// All of the answer was handed to the stream's writer; what is flushed next is the end of it.
    pub(crate) fn answer_is_written(&self) {
        if let Phase::Answer { is_last, .. } = self.phase.get() {
            self.phase.set(Phase::Answer { is_last, is_written: true });
        }
    }

    /// The answer that is flushed next is the last one; what still comes is discarded for a while, so that the peer gets to
    /// read it.
    pub(crate) fn close_soon(&self) {
        self.phase.set(Phase::Answer { is_last: true, is_written: true });
        self.gate.discard();
    }

    /// Whose turn it is to make room for another, the least first: the connection that has been idle longest, then the
    /// one whose head or whose end takes longest. `None` where it is not the peer that keeps the server waiting.
    pub(crate) fn turn(&self) -> Option<(bool, Instant)> {
        match self.phase.get() {
            Phase::Idle(until) => Some((false, until)),
            Phase::Head(until) | Phase::Closing(until) => Some((true, until)),
            Phase::Request | Phase::Answer { .. } | Phase::Closed => None,
        }
    }

    /// Ends the connection at once.
    pub(crate) fn close_now(&self) {
        self.phase.set(Phase::Closed);
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase.get() {
            Phase::Idle(until) | Phase::Head(until) | Phase::Closing(until) => Some(until),
            Phase::Request | Phase::Answer { .. } | Phase::Closed => None,
        }
    }

    /// Whether nothing is to be read any more, whatever has come.
    fn is_over(&self) -> bool {
        match self.phase.get() {
            // What is idle is not late with the first byte there.
            Phase::Idle(_) | Phase::Request | Phase::Answer { .. } => false,
            Phase::Head(until) | Phase::Closing(until) => Instant::now() >= until,
            Phase::Closed => true,
        }
    }

    fn bytes_came(&self) {
        if let Phase::Idle(_) = self.phase.get() {
            self.phase.set(Phase::Head(Instant::now() + self.times.head));
        }
    }

    /// Everything written was flushed. Returns whether that was all there is: not in the middle of an answer.
    pub(crate) fn flushed(&self) -> bool {
        match self.phase.get() {
            Phase::Answer { is_written: false, .. } => return false,
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

    /// Whether the connection ended, or will, for a head that is too long.
    pub(crate) fn head_is_too_long(&self) -> bool {
        self.gate.head_is_too_long()
    }

    /// Whether a head is too long of which the peer has not been told.
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

/// A stream with limits: what reads from it finds its end when one has passed, what writes to it finds an error.
///
/// One timer serves for all limits. It is set anew only where the next one lies before it; where it fires and the limit
/// has moved, it is set to that: a busy connection pays for a timer every few seconds and not for each request.
#[derive(Debug)]
pub(crate) struct Timed<S, G> {
    stream: GatedStream<S>,
    watch: Rc<Watch>,
    timer: Pin<Box<Sleep>>,
    /// When the timer will fire; `None` once it has.
    timer_at: Option<Instant>,
    /// When the answer is given up, of which the peer takes no more or little.
    answer_until: Option<Instant>,
    /// The peer was told that nothing more comes from here.
    is_shut: bool,
    /// Dropped with the connection.
    _guard: G,
}

impl<S, G> Timed<S, G> {
    pub(crate) fn new(stream: S, watch: Rc<Watch>, guard: G) -> Self {
        let at = Instant::now() + watch.times.idle;
        Timed {
            stream: GatedStream::new(stream, Rc::clone(&watch.gate)),
            watch,
            timer: Box::pin(sleep_until(at)),
            timer_at: Some(at),
            answer_until: None,
            is_shut: false,
            _guard: guard,
        }
    }

    pub(crate) fn stream(&self) -> &S {
        self.stream.get_ref()
    }

    pub(crate) fn watch(&self) -> &Rc<Watch> {
        &self.watch
    }

    /// Whether a limit has passed. Where not, the timer wakes the task when one does.
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadlines = [self.watch.deadline(), self.answer_until];
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

    /// The end of the stream; an error where an answer was not taken, since then no orderly end is possible.
    fn end(&self) -> Poll<io::Result<()>> {
        self.watch.phase.set(Phase::Closed);
        Poll::Ready(if self.answer_until.is_some() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) })
    }

    fn written<R>(&mut self, result: Poll<io::Result<R>>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        if result.is_pending() {
            let until = *self.answer_until.get_or_insert_with(|| Instant::now() + self.watch.times.answer);
            while self.poll_passed(context).is_ready() {
                if until <= Instant::now() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                // It was the limit of reading, which the reader finds once the answer has gone.
                self.watch.phase.set(Phase::Closed);
            }
        }
        result
    }
}

impl<S: AsyncWrite + Unpin, G> Timed<S, G> {
    /// Tells the peer that its head is too long. actix-http, which has a part of it, writes nothing meanwhile.
    fn refuse_head(&mut self, context: &mut Context<'_>) {
        // A peer that has no room for this learns nothing.
        let _ = Pin::new(&mut self.stream).poll_write(context, HEAD_TOO_LONG);
        let _ = Pin::new(&mut self.stream).poll_flush(context);
        self.watch.close_soon();
        self.watch.linger();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncRead for Timed<S, G> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.is_over() {
            return this.end();
        }
        let filled = buffer.filled().len();
        let mut result = Pin::new(&mut this.stream).poll_read(context, buffer);
        if this.watch.head_is_refused() {
            this.refuse_head(context);
            result = Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        if result.is_pending() {
            this.watch.note_task(context);
            if this.poll_passed(context).is_ready() {
                return this.end();
            }
        } else if buffer.filled().len() > filled {
            this.watch.bytes_came();
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncWrite for Timed<S, G> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, buffer);
        this.written(result, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(context);
        if result.is_ready() {
            if this.watch.flushed() {
                this.answer_until = None;
            }
            // An answer is flushed before the next read: the limit that begins with it needs its timer.
            if this.poll_passed(context).is_ready() {
                this.watch.phase.set(Phase::Closed);
                context.waker().wake_by_ref();
            }
        }
        this.written(result, context)
    }

    /// Closes the writing side, then waits for the peer to close its own, where bytes came that nobody read: the system
    /// would answer those with a reset, which may take away the last answer (RFC 9112, section 9.6).
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            let result = Pin::new(&mut this.stream).poll_shutdown(context);
            ready!(this.written(result, context))?;
            this.is_shut = true;
            match this.watch.phase.get() {
                Phase::Closed | Phase::Closing(_) => (),
                _ if this.stream.has_unread(context) => {
                    this.watch.close_soon();
                    this.watch.linger();
                }
                _ => this.watch.phase.set(Phase::Closed),
            }
        }
        let mut space = [0; 1024];
        while !this.watch.is_over() {
            let read = Pin::new(&mut this.stream).poll_read(context, &mut ReadBuf::new(&mut space));
            let is_waiting = read.is_pending();
            if !is_waiting || this.poll_passed(context).is_ready() {
                this.watch.phase.set(Phase::Closed);
            } else {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::framing::HEAD_BYTES_MAX;

    const TIMES: Times = Times {
        idle: Duration::from_secs(75),
        head: Duration::from_secs(5),
        linger: Duration::from_secs(1),
        answer: Duration::from_secs(30),
    };

    /// The server's end, with what it does, and the peer's. The clock stands still but for what is waited for.
    fn connected() -> (Timed<DuplexStream, ()>, Rc<Watch>, DuplexStream) {
        let (server, peer) = duplex(64);
        let watch = Watch::new(TIMES);
        (Timed::new(server, Rc::clone(&watch), ()), watch, peer)
    }

    /// Gives an answer that is short.
    fn answer(watch: &Watch) -> bool {
        let is_kept = watch.answered(false);
        watch.answer_is_written();
        is_kept
    }

    /// How long it takes until the server finds the end of the stream.
    async fn until_the_end(stream: &mut Timed<DuplexStream, ()>) -> Duration {
        let start = Instant::now();
        let mut buffer = [0; 64];
        while stream.read(&mut buffer).await.unwrap() > 0 {}
        start.elapsed()
    }

    fn about(time: Duration, seconds: u64) -> bool {
        let expected = Duration::from_secs(seconds);
        time >= expected && time < expected + Duration::from_millis(10)
    }

    /// A peer that sends a byte every second for ever.
    async fn drip(peer: &mut DuplexStream) {
        while peer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_byte_ends_when_it_has_been_idle_for_too_long() {
        let (mut stream, watch, _peer) = connected();
        assert!(about(until_the_end(&mut stream).await, 75));
        assert!(watch.is_over());
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "it stays at its end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_dripped_ends_with_its_time_on_the_first_request_and_on_later_ones() {
        for earlier_requests in 0..3 {
            let (mut stream, watch, mut peer) = connected();
            for _ in 0..earlier_requests {
                peer.write_all(b"head").await.unwrap();
                assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 4);
                watch.request_begins(BodyLength::None, false);
                tokio::time::advance(Duration::from_secs(20)).await;
                assert!(answer(&watch));
                stream.write_all(b"answer").await.unwrap();
                stream.flush().await.unwrap();
                peer.read_exact(&mut [0; 6]).await.unwrap();
                tokio::time::advance(Duration::from_secs(70)).await;
            }
            tokio::select! {
                time = until_the_end(&mut stream) => assert!(about(time, 5), "{time:?}"),
                () = drip(&mut peer) => unreachable!(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_byte_of_a_later_head_is_cut_off_too() {
        let (mut stream, watch, mut peer) = connected();
        watch.request_begins(BodyLength::None, false);
        answer(&watch);
        stream.flush().await.unwrap();
        peer.write_all(b"G").await.unwrap();
        assert!(about(until_the_end(&mut stream).await, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_has_no_limit_here() {
        let (mut stream, watch, mut peer) = connected();
        watch.request_begins(BodyLength::Bytes(1 << 20), false);
        let late = async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            peer.write_all(b"late").await.unwrap();
        };
        let mut buffer = [0; 8];
        let (read, ()) = tokio::join!(stream.read(&mut buffer), late);
        assert_eq!(read.unwrap(), 4);
        assert_eq!(watch.turn(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_was_left_unread_is_dropped_for_a_while_and_no_longer_however_it_comes() {
        for is_dripped in [false, true] {
            let (mut stream, watch, mut peer) = connected();
            watch.request_begins(BodyLength::Bytes(1 << 20), false);
            assert!(!answer(&watch), "such a connection is not kept");
            stream.flush().await.unwrap();
            tokio::select! {
                time = until_the_end(&mut stream) => assert!(about(time, 1), "{time:?}"),
                () = async {
                    if is_dripped {
                        drip(&mut peer).await;
                    }
                    std::future::pending().await
                } => (),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_after_an_answer_ends_too() {
        let (mut stream, watch, mut peer) = connected();
        watch.request_begins(BodyLength::Bytes(1 << 20), false);
        answer(&watch);
        stream.flush().await.unwrap();
        let flood = async {
            // There is always something to read; the clock goes on by the second.
            while peer.write_all(&[0; 64]).await.is_ok() {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            time = until_the_end(&mut stream) => assert!(time <= Duration::from_millis(1200), "{time:?}"),
            () = flood => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_was_read_to_its_end_keeps_the_connection() {
        let (mut stream, watch, _peer) = connected();
        watch.request_begins(BodyLength::Bytes(1 << 20), false);
        watch.body_is_read();
        assert!(answer(&watch));
        stream.flush().await.unwrap();
        assert!(watch.turn().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_after_an_answer_holds_although_nobody_reads_again_before_it() {
        let (mut stream, watch, _peer) = connected();
        // The timer is set by a read whose limit is far away, and the task then waits for its timer alone.
        let mut buffer = [0; 8];
        let mut first = ReadBuf::new(&mut buffer);
        poll_fn(|context| {
            assert!(Pin::new(&mut stream).poll_read(context, &mut first).is_pending());
            watch.request_begins(BodyLength::Bytes(1 << 20), false);
            answer(&watch);
            assert!(Pin::new(&mut stream).poll_flush(context).is_ready());
            Poll::Ready(())
        })
        .await;
        assert_eq!(stream.timer_at, Some(Instant::now() + TIMES.linger));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_given_up_whole_or_in_drips() {
        for takes_a_byte_a_second in [false, true] {
            let (mut stream, watch, mut peer) = connected();
            watch.request_begins(BodyLength::None, false);
            answer(&watch);
            let start = Instant::now();
            let error = tokio::select! {
                result = async {
                    stream.write_all(&[0; 1000]).await?;
                    stream.flush().await
                } => result.unwrap_err(),
                () = async {
                    if takes_a_byte_a_second {
                        loop {
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            peer.read_u8().await.unwrap();
                        }
                    }
                    std::future::pending().await
                } => unreachable!(),
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(about(start.elapsed(), 30), "{:?}", start.elapsed());
        }
    }

    /// Writes as much as the pipe holds and more.
    async fn write_too_much(stream: &mut Timed<DuplexStream, ()>) {
        poll_fn(|context| {
            while Pin::new(&mut *stream).poll_write(context, &[0; 64]).is_ready() {}
            Poll::Ready(())
        })
        .await;
    }

    /// Polls a read as a task that is woken does.
    async fn read_now(stream: &mut Timed<DuplexStream, ()>) -> Poll<io::Result<usize>> {
        poll_fn(|context| {
            let mut space = [0; 64];
            let mut space = ReadBuf::new(&mut space);
            let result = Pin::new(&mut *stream).poll_read(context, &mut space);
            Poll::Ready(result.map_ok(|()| space.filled().len()))
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_is_read_before_the_peer_has_the_answer_to_the_one_before() {
        let (mut stream, watch, mut peer) = connected();
        watch.request_begins(BodyLength::None, false);
        peer.write_all(b"more").await.unwrap();
        watch.answered(false);
        stream.flush().await.unwrap();
        assert!(read_now(&mut stream).await.is_pending(), "the answer has only begun");
        write_too_much(&mut stream).await;
        watch.answer_is_written();
        assert!(read_now(&mut stream).await.is_pending());
        peer.read_exact(&mut [0; 64]).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_but_its_own_ends_an_answer_on_its_way() {
        for is_last in [false, true] {
            let (mut stream, watch, mut peer) = connected();
            watch.request_begins(BodyLength::None, is_last);
            peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            watch.answered(false);
            // A first part goes out at once, the next does not.
            stream.write_all(&[0; 64]).await.unwrap();
            stream.flush().await.unwrap();
            write_too_much(&mut stream).await;
            tokio::time::advance(Duration::from_secs(29)).await;
            assert!(read_now(&mut stream).await.is_pending());
            // Taking a part of it gives no further time.
            peer.read_exact(&mut [0; 64]).await.unwrap();
            stream.flush().await.unwrap();
            write_too_much(&mut stream).await;
            assert!(read_now(&mut stream).await.is_pending());
            tokio::time::advance(Duration::from_secs(2)).await;
            let Poll::Ready(Err(error)) = read_now(&mut stream).await else { panic!("it is over") };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_an_idle_connection_begins_when_its_answer_was_taken() {
        let (mut stream, watch, mut peer) = connected();
        watch.request_begins(BodyLength::None, false);
        watch.answered(false);
        write_too_much(&mut stream).await;
        watch.answer_is_written();
        tokio::time::advance(Duration::from_secs(20)).await;
        peer.read_exact(&mut [0; 64]).await.unwrap();
        stream.flush().await.unwrap();
        assert!(about(until_the_end(&mut stream).await, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_long_is_answered_and_nothing_of_its_end_is_read() {
        let (server, mut peer) = duplex(1 << 20);
        let watch = Watch::new(TIMES);
        let mut stream = Timed::new(server, Rc::clone(&watch), ());
        let head = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(HEAD_BYTES_MAX));
        peer.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut space) = (Vec::new(), [0; 1000]);
        let start = Instant::now();
        while let count @ 1.. = stream.read(&mut space).await.unwrap() {
            read.extend_from_slice(&space[..count]);
        }
        assert!(about(start.elapsed(), 1), "the peer may read its answer");
        assert!(!read.is_empty() && read.len() < HEAD_BYTES_MAX, "{}", read.len());
        assert!(head.as_bytes().starts_with(&read));
        let mut answer = vec![0; HEAD_TOO_LONG.len()];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, HEAD_TOO_LONG);
    }

    /// How long it takes until the server has closed the connection.
    async fn until_closed(stream: &mut Timed<DuplexStream, ()>) -> Duration {
        let start = Instant::now();
        stream.shutdown().await.unwrap();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_is_followed_by_a_wait_for_the_peers_end_and_no_longer_than_the_limit() {
        for peer_closes in [true, false] {
            let (mut stream, watch, mut peer) = connected();
            watch.request_begins(BodyLength::None, true);
            assert!(!answer(&watch), "the request asked for the end");
            stream.flush().await.unwrap();
            peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let (time, ()) = tokio::join!(until_closed(&mut stream), async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                if peer_closes {
                    peer.shutdown().await.unwrap();
                }
            });
            let expected = if peer_closes { 300 } else { 1000 };
            assert!(time.as_millis().abs_diff(expected) < 10, "{time:?}");
            assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 0, "what came behind it is not read");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_at_once_unless_something_came_that_nobody_read() {
        for comes in [false, true] {
            let (mut stream, _watch, mut peer) = connected();
            if comes {
                peer.write_all(b"GET").await.unwrap();
            }
            let time = until_closed(&mut stream).await;
            assert!(about(time, u64::from(comes)), "{time:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_closed_by_another_ends_at_once() {
        let (mut stream, watch, _peer) = connected();
        let close = async {
            tokio::task::yield_now().await;
            watch.close_now();
        };
        let (time, ()) = tokio::join!(until_the_end(&mut stream), close);
        assert_eq!(time, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_sets_its_timer_once_in_a_while() {
        let (mut stream, watch, mut peer) = connected();
        let mut set = 0;
        let mut timer_at = stream.timer_at;
        for _ in 0..100 {
            peer.write_all(b"head").await.unwrap();
            assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 4);
            // What actix-http does: it reads until there is nothing.
            let mut buffer = [0; 8];
            let mut nothing = ReadBuf::new(&mut buffer);
            poll_fn(|context| {
                assert!(Pin::new(&mut stream).poll_read(context, &mut nothing).is_pending());
                Poll::Ready(())
            })
            .await;
            watch.request_begins(BodyLength::None, false);
            answer(&watch);
            stream.flush().await.unwrap();
            set += u32::from(stream.timer_at != timer_at);
            timer_at = stream.timer_at;
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert_eq!(set, 1);
    }
}
