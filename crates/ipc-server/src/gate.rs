//! Hands the bytes of one request at a time to actix-http.
//!
//! `timeouts` puts this around each connection's stream and tells its [`Gate`] when a request
//! begins and ends. A peer may send any number of requests before it gets an answer (pipelining:
//! RFC 9112, section 9.3.2). actix-http alone handles this badly, for three reasons. It parses
//! everything that a read returns, thousands of requests with kilobytes each, although its own
//! limit is 16. When these 16 are answered, it stops reading while others are still in its buffer.
//! And after a request that ends the connection, it also answers the requests behind it. With one
//! request at a time none of this happens: the other requests wait as bytes, a few here and the
//! rest in the system's socket buffer.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::framing::{BodyLength, Framing};

/// How many bytes behind a request are read before it is answered. That is enough for the body that
/// comes with a head, and to notice that the peer is gone.
const AHEAD_BYTES_MAX: usize = 8 * 1024;

/// How many bytes are read at a time while nothing is handed on.
const STEP_BYTES: usize = 2 * 1024;

/// How many bytes are handed on before actix-http has to process them. It reads until there is
/// nothing more or its buffer is full; without this limit that would be 128 KiB, or 20,000 chunks
/// of a byte.
const HANDED_ON_BYTES_MAX: usize = 32 * 1024;

/// How many reads one poll makes to discard bytes. The limit lets other tasks run while a peer
/// sends without end.
const DISCARDS_A_POLL: usize = 16;

/// What may be handed on. It is shared by the stream and by those who know when a request begins
/// and ends, all on one thread.
#[derive(Debug)]
pub(crate) struct Gate {
    framing: Cell<Framing>,
    /// Everything that arrives is discarded, including the rest of the current request.
    discards: Cell<bool>,
    /// The reader that found the gate closed while bytes waited behind it.
    reader: RefCell<Option<Waker>>,
}

impl Gate {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Gate {
            framing: Cell::new(Framing::NEXT_REQUEST),
            discards: Cell::new(false),
            reader: RefCell::new(None),
        })
    }

    /// Whether the target of the head that was handed on last has a fragment. Valid until the
    /// request begins.
    pub(crate) fn has_fragment(&self) -> bool {
        matches!(self.framing.get(), Framing::HeadComplete { has_fragment: true })
    }

    /// Reports that a head was parsed. Its body may follow.
    pub(crate) fn request_begins(&self, length: BodyLength) {
        self.open(Framing::of_body(length));
    }

    /// Opens the gate for good, because no further request follows: everything that arrives is
    /// handed on.
    pub(crate) fn opens_for_good(&self) {
        self.open(Framing::Endless);
    }

    /// Reports that the request is answered and its body was read. The next request may follow.
    pub(crate) fn next_request(&self) {
        self.open(Framing::NEXT_REQUEST);
    }

    /// Whether the current head is too long. If so, nothing more is handed on, and the stream is
    /// pending without a wake-up.
    pub(crate) fn head_is_too_long(&self) -> bool {
        self.framing.get() == Framing::HeadTooLong
    }

    /// Discards everything that arrives from now on.
    pub(crate) fn discard(&self) {
        self.discards.set(true);
        self.wake();
    }

    fn open(&self, framing: Framing) {
        self.framing.set(framing);
        if framing.is_open() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// A stream whose [`Gate`] decides how much may be read from it.
#[derive(Debug)]
pub(crate) struct GatedStream<S> {
    stream: S,
    gate: Rc<Gate>,
    /// Bytes that were read beyond the part that was handed on.
    ahead: Vec<u8>,
    /// How many bytes were handed on since the reader last had to wait.
    handed_on: usize,
    /// The peer has closed its sending side.
    has_ended: bool,
}

impl<S> GatedStream<S> {
    pub(crate) fn new(stream: S, gate: Rc<Gate>) -> Self {
        GatedStream { stream, gate, ahead: Vec::new(), handed_on: 0, has_ended: false }
    }
}

impl<S: AsyncRead + Unpin> GatedStream<S> {
    /// Whether there are bytes that nobody has read. Also looks for bytes that arrived since the
    /// last read.
    pub(crate) fn has_unread(&mut self, context: &mut Context<'_>) -> bool {
        // The result does not matter: neither the end of the stream nor its failure is lost by a
        // reset.
        let _ = self.poll_ahead(context);
        !self.ahead.is_empty()
    }

    /// Reads bytes that the gate holds back, up to the limit. Is always pending, unless the stream
    /// fails: then the answer would reach nobody.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.has_ended && self.ahead.len() < AHEAD_BYTES_MAX {
            let mut space = [0; STEP_BYTES];
            let mut space = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(context, &mut space)? {
                Poll::Pending => break,
                Poll::Ready(()) if space.filled().is_empty() => self.has_ended = true,
                Poll::Ready(()) => self.ahead.extend_from_slice(space.filled()),
            }
        }
        if self.has_ended || !self.ahead.is_empty() {
            // The stream itself wakes nobody for these bytes.
            self.gate.reader.replace(Some(context.waker().clone()));
        }
        Poll::Pending
    }

    /// Discards what arrives. Is ready at the end of the stream.
    fn poll_discard(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ahead.clear();
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        let filled = buffer.filled().len();
        for _ in 0..DISCARDS_A_POLL {
            match Pin::new(&mut self.stream).poll_read(context, buffer)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if buffer.filled().len() == filled => {
                    self.has_ended = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(()) => buffer.set_filled(filled),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_gated(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.discards.get() {
            return self.poll_discard(context, buffer);
        }
        if self.handed_on >= HANDED_ON_BYTES_MAX {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut framing = self.gate.framing.get();
        if !framing.is_open() {
            return self.poll_ahead(context);
        }
        let filled = buffer.filled().len();
        if !self.ahead.is_empty() {
            let available = self.ahead.len().min(buffer.remaining());
            let taken = framing.advance(&self.ahead[..available]);
            buffer.put_slice(&self.ahead[..taken]);
            self.ahead.drain(..taken);
        } else if !self.has_ended {
            let limit = framing.certain_bytes().max(AHEAD_BYTES_MAX as u64);
            match Pin::new(&mut (&mut self.stream).take(limit)).poll_read(context, buffer)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => (),
            }
            let came = &buffer.filled()[filled..];
            self.has_ended = came.is_empty();
            let taken = framing.advance(came);
            if taken < came.len() {
                self.ahead.extend_from_slice(&came[taken..]);
                buffer.set_filled(filled + taken);
            }
        }
        self.gate.framing.set(framing);
        if framing == Framing::HeadTooLong {
            // The end of the head may be in these bytes; actix-http must not see it.
            buffer.set_filled(filled);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GatedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let filled = buffer.filled().len();
        let result = this.poll_gated(context, buffer);
        this.handed_on = match result {
            Poll::Pending => 0,
            Poll::Ready(_) => this.handed_on + (buffer.filled().len() - filled),
        };
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The server's end, with the task that reads it, and the peer's end.
    struct Fixture {
        stream: GatedStream<DuplexStream>,
        gate: Rc<Gate>,
        wakes: Arc<Wakes>,
        peer: DuplexStream,
    }

    fn connected() -> Fixture {
        let (server, peer) = duplex(1 << 20);
        let gate = Gate::new();
        Fixture {
            stream: GatedStream::new(server, Rc::clone(&gate)),
            gate,
            wakes: Arc::default(),
            peer,
        }
    }

    impl Fixture {
        /// Reads everything that is available now. Returns `None` at the end of the stream.
        fn read(&mut self) -> Option<Vec<u8>> {
            let waker = Arc::clone(&self.wakes).into();
            let mut context = Context::from_waker(&waker);
            let mut read = Vec::new();
            loop {
                let mut space = [0; 300];
                let mut space = ReadBuf::new(&mut space);
                match Pin::new(&mut self.stream).poll_read(&mut context, &mut space) {
                    Poll::Pending => return Some(read),
                    Poll::Ready(result) => result.unwrap(),
                }
                if space.filled().is_empty() {
                    assert!(read.is_empty(), "the end comes behind {read:?}");
                    return None;
                }
                read.extend_from_slice(space.filled());
            }
        }

        fn wakes(&self) -> usize {
            self.wakes.0.swap(0, Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn the_next_request_is_handed_on_when_this_one_is_answered_and_whoever_waits_is_woken() {
        let mut it = connected();
        it.peer.write_all(&GET.repeat(1000)).await.unwrap();
        for _ in 0..1000 {
            assert_eq!(it.read().unwrap(), GET);
            assert_eq!(it.read().unwrap(), b"", "the rest has to wait");
            it.gate.request_begins(BodyLength::None);
            assert_eq!(it.read().unwrap(), b"", "until there is an answer");
            it.wakes();
            it.gate.next_request();
            // If no bytes wait here, the stream itself wakes the reader.
            let rest = it.stream.ahead.len();
            assert_eq!(it.wakes(), usize::from(rest > 0), "{rest}");
        }
        assert_eq!(it.read().unwrap(), b"");
    }

    #[tokio::test]
    async fn a_body_is_handed_on_to_its_end_and_its_reader_is_woken() {
        for (body, length) in [
            (b"0123456789".as_slice(), BodyLength::Bytes(10)),
            (b"3\r\nabc\r\n0\r\n\r\n", BodyLength::Chunked),
        ] {
            let mut it = connected();
            let head = b"POST / HTTP/1.1\r\n\r\n";
            it.peer.write_all(&[head, body, GET].concat()).await.unwrap();
            assert_eq!(it.read().unwrap(), head);
            it.wakes();
            it.gate.request_begins(length);
            assert_eq!(it.wakes(), 1);
            assert_eq!(it.read().unwrap(), body);
            it.gate.next_request();
            assert_eq!(it.read().unwrap(), GET);
        }
    }

    #[tokio::test]
    async fn a_long_body_is_handed_on_in_steps_and_its_reader_is_woken_for_each() {
        let mut it = connected();
        let head = b"POST / HTTP/1.1\r\n\r\n";
        it.peer.write_all(&[head, [b'x'; 200_000].as_slice()].concat()).await.unwrap();
        assert_eq!(it.read().unwrap(), head);
        it.gate.request_begins(BodyLength::Bytes(200_000));
        it.wakes();
        let mut read = 0;
        while read < 200_000 {
            // tokio does the same to a task that has read much: it lets other tasks run.
            tokio::task::yield_now().await;
            let step = it.read().unwrap().len();
            assert!((1..HANDED_ON_BYTES_MAX + 300).contains(&step), "{step}");
            read += step;
            assert!(it.wakes() > 0 || read == 200_000, "{read}");
        }
    }

    #[tokio::test]
    async fn once_it_is_open_for_good_everything_is_handed_on() {
        let mut it = connected();
        it.peer.write_all(&[GET, b"frame"].concat()).await.unwrap();
        assert_eq!(it.read().unwrap(), GET);
        it.gate.request_begins(BodyLength::None);
        assert_eq!(it.read().unwrap(), b"");
        it.wakes();
        it.gate.opens_for_good();
        assert_eq!(it.wakes(), 1);
        assert_eq!(it.read().unwrap(), b"frame");
        it.peer.write_all(&GET.repeat(3)).await.unwrap();
        assert_eq!(it.read().unwrap(), GET.repeat(3));
    }

    #[tokio::test]
    async fn little_is_read_ahead_however_much_there_is() {
        let mut it = connected();
        it.peer.write_all(&[GET, &[b'x'; 500_000]].concat()).await.unwrap();
        assert_eq!(it.read().unwrap(), GET);
        it.gate.request_begins(BodyLength::None);
        for _ in 0..100 {
            it.read();
        }
        assert!(it.stream.ahead.len() <= AHEAD_BYTES_MAX + STEP_BYTES, "{}", it.stream.ahead.len());
    }

    #[tokio::test]
    async fn the_end_of_the_stream_comes_behind_everything_else() {
        let mut it = connected();
        it.peer.write_all(&GET.repeat(2)).await.unwrap();
        it.peer.shutdown().await.unwrap();
        for _ in 0..2 {
            assert_eq!(it.read().unwrap(), GET);
            it.gate.request_begins(BodyLength::None);
            assert_eq!(it.read().unwrap(), b"", "who has closed one side may wait for an answer");
            it.gate.next_request();
            assert_eq!(it.wakes(), 1);
        }
        assert!(it.read().is_none());
    }

    #[tokio::test]
    async fn what_is_discarded_is_read_and_not_handed_on() {
        let mut it = connected();
        it.peer.write_all(&GET.repeat(3)).await.unwrap();
        assert_eq!(it.read().unwrap(), GET);
        it.gate.request_begins(BodyLength::None);
        assert_eq!(it.read().unwrap(), b"");
        it.gate.discard();
        assert_eq!(it.wakes(), 1);
        it.peer.write_all(&[b'x'; 10_000]).await.unwrap();
        loop {
            assert_eq!(it.read().unwrap(), b"");
            if it.wakes() == 0 {
                break;
            }
        }
        it.peer.shutdown().await.unwrap();
        assert!(it.read().is_none());
    }
}
