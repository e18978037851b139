//! One WebSocket to a server: frames of entries go out, answers come back.
//!
//! `engine` comes here. Here is known how a frame is written and read, what keeps the WebSocket
//! alive and what ends it. Which entries go into a frame, and what becomes of them when the channel
//! ends, is not known here.

pub(crate) mod in_flight;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_codec::{Decoder, Encoder, Framed};
use actix_http::ws::{self, CloseCode, CloseReason, Item, OpCode, Parser, ProtocolError};
use awc::BoxedSocket;
use bytes::{Bytes, BytesMut};
use ipc_envelope::KeyRing;
use ipc_protocol::{
    CHANNEL_PING_AFTER, CHANNEL_SILENCE_MAX, ChannelAnswer, ChannelLimits, MessageId, Route,
    write_channel_frame, write_frame_around,
};
use tokio::time::Instant;

use crate::sealer::Sealer;
use crate::transport::http::WebSocket;

/// How many fragments a message may come in. The server sends none; a proxy may.
const FRAGMENTS_MAX: usize = 128;

/// What stands around the entries of a frame at most, its envelope included, but for the session.
const AROUND_BYTES: usize = 512;

/// An open channel.
pub(crate) struct Channel {
    socket: Framed<BoxedSocket, RawFrames>,
    sealer: Rc<Sealer>,
    /// The keys of when it was opened.
    ring: Rc<KeyRing>,
    limits: ChannelLimits,
    /// Names the channel in every frame.
    id: MessageId,
    /// The longest message that is read.
    answer_bytes_max: usize,
    /// The message that arrives in fragments, and how many have come.
    fragments: Option<(BytesMut, usize)>,
    opened_at: Instant,
    heard_at: Instant,
    /// When an answer came last.
    answered_at: Instant,
    has_pinged: bool,
    /// What a ping has to be answered with.
    pong: Option<Bytes>,
    /// Frames are sealed in it.
    buffer: Vec<u8>,
}

/// What came.
pub(crate) enum Event {
    /// The raw envelope of an answer.
    Answer(Bytes),
    /// The channel has ended.
    Ended(End),
}

/// How a channel ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed it, with a code and a reason (RFC 6455, section 7.1.5).
    Closed { code: u16, reason: String },
    /// The connection broke, or the server was silent for too long.
    Broken(io::Error),
}

impl Channel {
    /// A channel over a WebSocket that was opened.
    pub(crate) fn new(
        (socket, limits): WebSocket,
        sealer: &Rc<Sealer>,
        id: MessageId,
        answer_bytes_max: usize,
    ) -> Self {
        let now = Instant::now();
        // Whatever the server tells, a frame takes no more memory than its answer may.
        let limits =
            ChannelLimits { message_bytes: limits.message_bytes.min(answer_bytes_max), ..limits };
        Channel {
            socket: socket.into_map_codec(RawFrames),
            sealer: Rc::clone(sealer),
            ring: sealer.ring(),
            limits,
            id,
            answer_bytes_max,
            fragments: None,
            opened_at: now,
            heard_at: now,
            answered_at: now,
            has_pinged: false,
            pong: None,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn limits(&self) -> ChannelLimits {
        self.limits
    }

    pub(crate) fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// When an answer came last, or the channel was opened.
    pub(crate) fn answered_at(&self) -> Instant {
        self.answered_at
    }

    /// How many bytes of entries go into one frame, with a session of that length in it.
    pub(crate) fn entries_bytes_max(&self, session_bytes: usize) -> usize {
        self.limits.message_bytes.saturating_sub(AROUND_BYTES + session_bytes)
    }

    /// Whether a frame may be written now: what was written before has gone out.
    pub(crate) fn is_writable(&self) -> bool {
        self.socket.is_write_buf_empty()
    }

    /// Seals a frame and begins to send it. `entries_bytes` is how long what `write_entries` writes
    /// is at most.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub(crate) fn write(
        &mut self,
        first: u64,
        resume: Option<u64>,
        session: Option<&str>,
        entries_bytes: usize,
        write_entries: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), crate::error::SendError> {
        let Channel { socket, sealer, id, buffer, .. } = self;
        // Large enough never to grow: growing would leave plaintext behind in freed memory.
        buffer.clear();
        buffer.reserve(entries_bytes + session.map_or(0, str::len) + AROUND_BYTES);
        sealer.seal_into(buffer, |buffer| {
            write_frame_around(buffer, Route::MessageChannel.path(), *id, session, |buffer| {
                write_channel_frame(buffer, first, resume, write_entries);
            });
        })?;
        Pin::new(socket).write(Binary(buffer)).expect("a frame is always encoded");
        Ok(())
    }

    /// Sends what was written, as far as it goes out.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(Pin::new(&mut self.socket).flush::<ws::Message>(cx)).map_err(io_error)?;
            match self.pong.take() {
                Some(payload) => self.write_control(ws::Message::Pong(payload)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// What comes next. Pings are answered in passing; they go out with the next flush.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            let frame = match ready!(Pin::new(&mut self.socket).next_item(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Event::Ended(End::Broken(io_error(error)))),
                None => {
                    let error = io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    );
                    return Poll::Ready(Event::Ended(End::Broken(error)));
                }
            };
            self.heard_at = Instant::now();
            self.has_pinged = false;
            match self.take(frame) {
                Ok(Some(event)) => {
                    self.answered_at = self.heard_at;
                    return Poll::Ready(event);
                }
                Ok(None) => (),
                Err(rule) => {
                    self.close(CloseCode::Protocol, rule);
                    let error = io::Error::new(io::ErrorKind::InvalidData, rule);
                    return Poll::Ready(Event::Ended(End::Broken(error)));
                }
            }
        }
    }

    /// Takes in a frame; an error is the rule that it breaks.
    fn take(&mut self, frame: ws::Frame) -> Result<Option<Event>, &'static str> {
        match frame {
            ws::Frame::Binary(message) => Ok(Some(Event::Answer(message))),
            ws::Frame::Text(_) => Err("the server sent text"),
            ws::Frame::Continuation(item) => self.take_fragment(item),
            ws::Frame::Ping(payload) => {
                // The last one is answered for all (RFC 6455, section 5.5.3): a server that takes
                // none has no more wait here.
                self.pong = Some(payload);
                Ok(None)
            }
            ws::Frame::Pong(_) => Ok(None),
            ws::Frame::Close(reason) => {
                let CloseReason { code, description } = reason
                    .clone()
                    .unwrap_or(CloseReason { code: CloseCode::Normal, description: None });
                self.write_control(ws::Message::Close(reason));
                let reason = description.unwrap_or_default();
                Ok(Some(Event::Ended(End::Closed { code: code.into(), reason })))
            }
        }
    }

    fn take_fragment(&mut self, item: Item) -> Result<Option<Event>, &'static str> {
        let (piece, is_last) = match item {
            Item::FirstBinary(piece) => {
                self.fragments = Some((BytesMut::new(), 0));
                (piece, false)
            }
            Item::FirstText(_) => return Err("the server sent text"),
            Item::Continue(piece) => (piece, false),
            Item::Last(piece) => (piece, true),
        };
        let Some((message, count)) = &mut self.fragments else {
            return Err("a fragment of no message came");
        };
        *count += 1;
        if *count > FRAGMENTS_MAX || message.len() + piece.len() > self.answer_bytes_max {
            return Err("a message came in too many fragments, or is too long");
        }
        message.extend_from_slice(&piece);
        if !is_last {
            return Ok(None);
        }
        Ok(self.fragments.take().map(|(message, _)| Event::Answer(message.freeze())))
    }

    /// Opens an answer and hands it to `read`, which says what is wrong with it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(
        &self,
        envelope: &[u8],
        read: impl FnOnce(&ChannelAnswer<'_>) -> Option<()>,
    ) -> Result<(), String> {
        self.sealer.open_channel_answer(envelope, &self.ring, self.id, read)
    }

    /// When silence has to be looked at.
    pub(crate) fn wake_at(&self) -> Instant {
        self.heard_at + if self.has_pinged { CHANNEL_SILENCE_MAX } else { CHANNEL_PING_AFTER }
    }

    /// Pings a server that was silent for a while.
    ///
    /// # Errors
    /// If it was silent for too long.
    pub(crate) fn look_at_silence(&mut self, now: Instant) -> io::Result<()> {
        let silence = now.saturating_duration_since(self.heard_at);
        if silence >= CHANNEL_SILENCE_MAX {
            return Err(silent(silence));
        }
        if silence >= CHANNEL_PING_AFTER && !self.has_pinged {
            self.has_pinged = true;
            self.write_control(ws::Message::Ping(Bytes::new()));
        }
        Ok(())
    }

    /// Writes the frame that ends the channel; it goes out with the next flush.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        let reason = CloseReason { code, description: Some(reason.to_owned()) };
        self.write_control(ws::Message::Close(Some(reason)));
    }

    fn write_control(&mut self, message: ws::Message) {
        if let Err(error) = Pin::new(&mut self.socket).write(message) {
            log::debug!("a control frame was not written: {error}");
        }
    }
}

fn silent(silence: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the server was silent for {} s", silence.as_secs()),
    )
}

fn io_error(error: ProtocolError) -> io::Error {
    match error {
        ProtocolError::Io(error) => error,
        ProtocolError::Overflow => {
            io::Error::new(io::ErrorKind::FileTooLarge, "a message is too long")
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

/// The frames of a WebSocket, with messages that are written from a buffer of the caller's.
struct RawFrames(ws::Codec);

/// A binary message.
struct Binary<'a>(&'a [u8]);

impl Decoder for RawFrames {
    type Item = ws::Frame;
    type Error = ProtocolError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<ws::Frame>, ProtocolError> {
        self.0.decode(bytes)
    }
}

impl Encoder<ws::Message> for RawFrames {
    type Error = ProtocolError;

    fn encode(&mut self, message: ws::Message, bytes: &mut BytesMut) -> Result<(), ProtocolError> {
        self.0.encode(message, bytes)
    }
}

impl Encoder<Binary<'_>> for RawFrames {
    type Error = ProtocolError;

    fn encode(
        &mut self,
        Binary(message): Binary<'_>,
        bytes: &mut BytesMut,
    ) -> Result<(), ProtocolError> {
        Parser::write_message(bytes, message, OpCode::Binary, true, true);
        Ok(())
    }
}
