//! The WebSocket layer of a channel (RFC 6455, section 5): frames into messages, and the limits of both.
//!
//! The driver puts in what came and takes out what it is. Nothing here reads a socket or knows envelopes; the time is an
//! argument. Each frame is taken apart and unmasked by actix-http's parser.

use actix_http::ws::{CloseReason, OpCode, Parser, ProtocolError};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::closing::Closing;
use super::settings::ChannelSettings;

/// How long the payload of a control frame may be (section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A binary message.
    Message(BytesMut),
    Ping(Bytes),
    Pong,
    Close(Option<CloseReason>),
}

/// The bytes that came, and what is known of the message that they belong to.
#[derive(Debug)]
pub(super) struct Decoder {
    /// What was not taken apart yet.
    buffer: BytesMut,
    /// A message whose last fragment is missing.
    message: Option<BytesMut>,
    fragments: u32,
    message_bytes_max: usize,
    fragments_max: u32,
    control: Bucket,
}

impl Decoder {
    pub(super) fn new(settings: &ChannelSettings, now: Instant) -> Self {
        Decoder {
            buffer: BytesMut::new(),
            message: None,
            fragments: 0,
            message_bytes_max: settings.told.message_bytes,
            fragments_max: settings.fragments_max,
            control: Bucket::new(settings.control_frames_max, now),
        }
    }

    /// Takes in what came.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes are kept.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() + self.message.as_ref().map_or(0, BytesMut::len)
    }

    /// Lets go of memory, where nothing is kept in it.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The next of what came; `None` if more has to come for it.
    ///
    /// # Errors
    /// What came breaks a rule. Nothing behind it has a meaning.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Event>, Closing> {
        loop {
            let Some((is_last, op, payload)) = self.frame()? else { return Ok(None) };
            match op {
                OpCode::Text => return Err(Closing::unsupported("text messages are not spoken here")),
                OpCode::Binary if self.message.is_some() => {
                    return Err(Closing::protocol("a message began within another"));
                }
                OpCode::Binary if is_last => return Ok(Some(Event::Message(payload))),
                OpCode::Binary => {
                    self.message = Some(payload);
                    self.fragments = 1;
                }
                OpCode::Continue => {
                    let Some(mut message) = self.message.take() else {
                        return Err(Closing::protocol("a fragment of no message"));
                    };
                    self.fragments += 1;
                    if self.fragments > self.fragments_max {
                        return Err(Closing::policy("too many fragments"));
                    }
                    message.extend_from_slice(&payload);
                    if is_last {
                        return Ok(Some(Event::Message(message)));
                    }
                    self.message = Some(message);
                }
                OpCode::Ping | OpCode::Pong | OpCode::Close => {
                    return self.control(is_last, op, payload, now).map(Some);
                }
                OpCode::Bad => return Err(Closing::protocol("an opcode that there is none of")),
            }
        }
    }

    fn control(
        &mut self,
        is_last: bool,
        op: OpCode,
        payload: BytesMut,
        now: Instant,
    ) -> Result<Event, Closing> {
        if !is_last {
            return Err(Closing::protocol("a control frame in fragments"));
        }
        if !self.control.takes(now) {
            return Err(Closing::policy("too many control frames"));
        }
        Ok(match op {
            OpCode::Ping => Event::Ping(payload.freeze()),
            OpCode::Pong => Event::Pong,
            _ => Event::Close(
                Parser::try_parse_close_payload(&payload).map_err(|error| not_websocket(&error))?,
            ),
        })
    }

    /// The next frame: whether it is the last of its message, its kind, its payload.
    fn frame(&mut self) -> Result<Option<(bool, OpCode, BytesMut)>, Closing> {
        let Some((header, payload)) = lengths(&self.buffer) else { return Ok(None) };
        let is_control = self.buffer[0] & 0x08 != 0;
        let is_whole = self.buffer.len() as u64 >= (header as u64).saturating_add(payload);
        // Of one that is not whole the parser makes room for all that it may take: memory is for bytes that came.
        let takes = if is_whole { self.message_bytes_max.max(CONTROL_BYTES_MAX as usize) } else { 0 };
        let of_message = self.message.as_ref().map_or(0, BytesMut::len) as u64;
        let is_too_long = payload.saturating_add(of_message) > self.message_bytes_max as u64;
        if is_too_long && !is_control && Parser::parse(&mut self.head(), true, 0).is_ok() {
            return Err(Closing::size("the message is too long"));
        }
        if is_control && payload > CONTROL_BYTES_MAX {
            return Err(Closing::protocol("a control frame is too long"));
        }
        let frame = Parser::parse(&mut self.buffer, true, takes).map_err(|error| not_websocket(&error))?;
        Ok(frame.map(|(is_last, op, payload)| (is_last, op, payload.unwrap_or_default())))
    }

    /// The first bytes alone, for what of them is wrong.
    fn head(&self) -> BytesMut {
        BytesMut::from(&self.buffer[..self.buffer.len().min(2)])
    }
}

/// The lengths of a frame's header and payload, as soon as both are known (section 5.2).
fn lengths(bytes: &[u8]) -> Option<(usize, u64)> {
    const MASK: usize = 4;
    let [_, second, rest @ ..] = bytes else { return None };
    Some(match second & 0x7f {
        126 => (2 + 2 + MASK, u16::from_be_bytes(*rest.first_chunk()?).into()),
        127 => (2 + 8 + MASK, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (2 + MASK, short.into()),
    })
}

fn not_websocket(error: &ProtocolError) -> Closing {
    Closing::protocol(match error {
        ProtocolError::UnmaskedFrame => "a frame without a mask",
        ProtocolError::InvalidOpcode(_) => "an opcode that there is none of",
        ProtocolError::Overflow => "a length that there is none of",
        ProtocolError::BadOpCode | ProtocolError::InvalidLength(_) => "a malformed close frame",
        _ => "what came is not WebSocket",
    })
}

/// Writes the header of a binary message that is sent in one frame, to be followed by its `bytes`.
pub(super) fn write_header(out: &mut BytesMut, bytes: usize) {
    const BINARY: u8 = 0x82;
    match (u8::try_from(bytes), u16::try_from(bytes)) {
        (Ok(short @ ..=125), _) => out.extend_from_slice(&[BINARY, short]),
        (_, Ok(medium)) => {
            out.extend_from_slice(&[BINARY, 126]);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[BINARY, 127]);
            out.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
}

/// Writes a ping without payload.
pub(super) fn write_ping(out: &mut BytesMut) {
    Parser::write_message(out, [], OpCode::Ping, true, false);
}

/// Writes the answer to a ping.
pub(super) fn write_pong(out: &mut BytesMut, payload: &[u8]) {
    Parser::write_message(out, payload, OpCode::Pong, true, false);
}

/// Writes a close frame.
pub(super) fn write_close(out: &mut BytesMut, closing: &Closing) {
    Parser::write_close(out, Some(closing.frame()), false);
}

/// How many control frames may still come: so many at once, a third of them again each second.
#[derive(Debug)]
struct Bucket {
    max: u32,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(max: u32, now: Instant) -> Self {
        Bucket { max, left: max.into(), at: now }
    }

    fn takes(&mut self, now: Instant) -> bool {
        let max = f64::from(self.max);
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * max / 3.0).min(max);
        self.at = now;
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }
}
