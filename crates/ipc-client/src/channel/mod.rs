//! One WebSocket to a server: sends frames of entries and receives answers.
//!
//! `engine` uses it. This file writes and reads frames, keeps the WebSocket alive and ends it. It
//! does not decide which entries go into a frame, nor what becomes of them when the channel ends.

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

use crate::config::SILENT_AT_ONE_OF_SEVERAL_MAX;
use crate::sealer::Sealer;
use crate::transport::http::WebSocket;

/// The most fragments of a message. The server sends unfragmented messages. A proxy may fragment
/// them.
const FRAGMENTS_MAX: usize = 128;

/// The most bytes of a frame beside its entries and the session, envelope included.
const AROUND_BYTES: usize = 512;

/// An open channel.
pub(crate) struct Channel {
    socket: Framed<BoxedSocket, RawFrames>,
    sealer: Rc<Sealer>,
    /// The keys of when it was opened.
    ring: Rc<KeyRing>,
    limits: ChannelLimits,
    /// The channel's id, which every frame contains.
    id: MessageId,
    /// The longest message that is read.
    answer_bytes_max: usize,
    /// The message that is arriving in fragments, and how many have arrived.
    fragments: Option<(BytesMut, usize)>,
    opened_at: Instant,
    heard_at: Instant,
    /// When the last answer arrived.
    answered_at: Instant,
    has_pinged: bool,
    /// The payload of a ping that is not answered yet.
    pong: Option<Bytes>,
    /// The memory in which frames are sealed.
    buffer: Vec<u8>,
}

/// What a channel has received.
pub(crate) enum Event {
    /// The raw envelope of an answer.
    Answer(Bytes),
    /// The channel has ended.
    Ended(End),
}

/// After which silence a server that owes an answer is pinged, if there is another one.
const PING_FOR_ANSWER_AFTER: Duration = Duration::from_secs(2);

/// How a channel ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed it, with a code and a reason (RFC 6455, section 7.1.5).
    Closed { code: u16, reason: String },
    /// The connection broke, or the server was silent for too long.
    Broken(io::Error),
}

impl Channel {
    /// Makes a channel of an open WebSocket.
    pub(crate) fn new(
        (socket, limits): WebSocket,
        sealer: &Rc<Sealer>,
        id: MessageId,
        answer_bytes_max: usize,
    ) -> Self {
        let now = Instant::now();
        // Whatever limit the server announces, a frame takes no more memory than an answer may.
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

    /// When the last answer arrived, or else when the channel was opened.
    pub(crate) fn answered_at(&self) -> Instant {
        self.answered_at
    }

    /// The most bytes of entries in one frame that contains a session of this length.
    pub(crate) fn entries_bytes_max(&self, session_bytes: usize) -> usize {
        self.limits.message_bytes.saturating_sub(AROUND_BYTES + session_bytes)
    }

    /// Whether a frame may be written now: all earlier ones have been sent.
    pub(crate) fn is_writable(&self) -> bool {
        self.socket.is_write_buf_empty()
    }

    /// Seals a frame and begins to send it. `entries_bytes` is an upper bound for what
    /// `write_entries` writes.
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
        // The buffer is large enough never to grow. Growing would leave plaintext in freed memory.
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

    /// Sends the written bytes, as far as the connection takes them.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(Pin::new(&mut self.socket).flush::<ws::Message>(cx)).map_err(io_error)?;
            match self.pong.take() {
                Some(payload) => self.write_control(ws::Message::Pong(payload)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Returns the next event. The next flush sends the answer to a ping.
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

    /// Processes a frame. The error is the rule that the frame breaks.
    fn take(&mut self, frame: ws::Frame) -> Result<Option<Event>, &'static str> {
        match frame {
            ws::Frame::Binary(message) => Ok(Some(Event::Answer(message))),
            ws::Frame::Text(_) => Err("the server sent a text message"),
            ws::Frame::Continuation(item) => self.take_fragment(item),
            ws::Frame::Ping(payload) => {
                // Only the last ping is answered (RFC 6455, section 5.5.3). So pongs do not pile up
                // for a server that does not read them.
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
            Item::FirstText(_) => return Err("the server sent a text message"),
            Item::Continue(piece) => (piece, false),
            Item::Last(piece) => (piece, true),
        };
        let Some((message, count)) = &mut self.fragments else {
            return Err("a fragment without a message");
        };
        *count += 1;
        if *count > FRAGMENTS_MAX || message.len() + piece.len() > self.answer_bytes_max {
            return Err("a message has too many fragments or is too long");
        }
        message.extend_from_slice(&piece);
        if !is_last {
            return Ok(None);
        }
        Ok(self.fragments.take().map(|(message, _)| Event::Answer(message.freeze())))
    }

    /// Opens an answer and passes it to `read`, which returns `None` if the answer is invalid.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(crate) fn read(
        &self,
        envelope: &[u8],
        read: impl FnOnce(&ChannelAnswer<'_>) -> Option<()>,
    ) -> Result<(), String> {
        self.sealer.open_channel_answer(envelope, &self.ring, self.id, read)
    }

    /// Since when the server has been silent, when it is pinged, and when it counts as gone. If
    /// there is another server, one that owes an answer since `owed_since` has less time.
    fn silence(&self, owed_since: Option<Instant>) -> (Instant, Instant, Instant) {
        let usual = (self.heard_at + CHANNEL_PING_AFTER, self.heard_at + CHANNEL_SILENCE_MAX);
        match owed_since.map(|owed_since| owed_since.max(self.heard_at)) {
            None => (self.heard_at, usual.0, usual.1),
            Some(since) => {
                let gone_at = since + SILENT_AT_ONE_OF_SEVERAL_MAX;
                (since, usual.0.min(since + PING_FOR_ANSWER_AFTER), usual.1.min(gone_at))
            }
        }
    }

    /// When to check how long the server has been silent.
    pub(crate) fn wake_at(&self, owed_since: Option<Instant>) -> Instant {
        let (_, ping_at, gone_at) = self.silence(owed_since);
        if self.has_pinged { gone_at } else { ping_at }
    }

    /// Pings a server that has been silent for a while.
    ///
    /// # Errors
    /// If it has been silent for too long.
    pub(crate) fn look_at_silence(
        &mut self,
        now: Instant,
        owed_since: Option<Instant>,
    ) -> io::Result<()> {
        let (since, ping_at, gone_at) = self.silence(owed_since);
        if now >= gone_at {
            return Err(silent(now.saturating_duration_since(since)));
        }
        if now >= ping_at && !self.has_pinged {
            self.has_pinged = true;
            self.write_control(ws::Message::Ping(Bytes::new()));
        }
        Ok(())
    }

    /// Writes the close frame. The next flush sends it.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        let reason = CloseReason { code, description: Some(reason.to_owned()) };
        self.write_control(ws::Message::Close(Some(reason)));
    }

    fn write_control(&mut self, message: ws::Message) {
        if let Err(error) = Pin::new(&mut self.socket).write(message) {
            log::debug!("could not write a control frame: {error}");
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

/// The WebSocket codec, with a way to write messages from a borrowed buffer.
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
