//! The WebSocket layer of a channel (RFC 6455, section 5): joins frames to messages and enforces
//! the limits of both.
//!
//! The driver adds bytes and takes events. Nothing here reads a socket or knows envelopes; the time
//! is an argument. actix-http's parser parses and unmasks each frame.

use actix_http::ws::{CloseReason, OpCode, Parser, ProtocolError};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::closing::Closing;
use super::settings::ChannelSettings;

/// The maximum length of a control frame's payload (section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// A message or control frame from the peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A binary message.
    Message(BytesMut),
    Ping(Bytes),
    Pong,
    Close(Option<CloseReason>),
}

/// The bytes that arrived, and the state of the message that they belong to.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Bytes that were not parsed yet.
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
            message_bytes_max: settings.announced.message_bytes,
            fragments_max: settings.fragments_max,
            control: Bucket::new(settings.control_frames_max, now),
        }
    }

    /// Appends bytes that arrived.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes are buffered.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() + self.message.as_ref().map_or(0, BytesMut::len)
    }

    /// Frees the buffer's memory, if it is empty.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The next event. `None` if more bytes are needed for it.
    ///
    /// # Errors
    /// If the bytes break a rule. Nothing after them has a meaning.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Event>, Closing> {
        loop {
            let Some((is_last, op, payload)) = self.frame()? else { return Ok(None) };
            match op {
                OpCode::Text => {
                    return Err(Closing::unsupported("text messages are not supported"));
                }
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
                        return Err(Closing::protocol("a fragment without a message"));
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
                OpCode::Bad => return Err(Closing::protocol("an unknown opcode")),
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
        // For an incomplete frame the parser would reserve all the memory that it may take. It gets
        // 0 then, because memory is for bytes that arrived.
        let takes =
            if is_whole { self.message_bytes_max.max(CONTROL_BYTES_MAX as usize) } else { 0 };
        let of_message = self.message.as_ref().map_or(0, BytesMut::len) as u64;
        let is_too_long = payload.saturating_add(of_message) > self.message_bytes_max as u64;
        if is_too_long && !is_control && Parser::parse(&mut self.head(), true, 0).is_ok() {
            return Err(Closing::size("the message is too long"));
        }
        if is_control && payload > CONTROL_BYTES_MAX {
            return Err(Closing::protocol("a control frame is too long"));
        }
        let frame =
            Parser::parse(&mut self.buffer, true, takes).map_err(|error| not_websocket(&error))?;
        Ok(frame.map(|(is_last, op, payload)| (is_last, op, payload.unwrap_or_default())))
    }

    /// A copy of the first two bytes. The parser finds in them errors that come before the length.
    fn head(&self) -> BytesMut {
        BytesMut::from(&self.buffer[..self.buffer.len().min(2)])
    }
}

/// The lengths of a frame's header and payload, once both are known (section 5.2).
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
        ProtocolError::InvalidOpcode(_) => "an unknown opcode",
        ProtocolError::Overflow => "an invalid length",
        ProtocolError::BadOpCode | ProtocolError::InvalidLength(_) => "a malformed close frame",
        _ => "not WebSocket",
    })
}

/// Writes the header of a binary message in one frame. The caller writes its `bytes` after it.
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

/// Limits control frames with a token bucket: `max` at once, and a third of them again each second.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_http::ws::CloseCode;
    use ipc_envelope::{Freshness, Key, KeyRing};

    use super::*;

    const SETTINGS: ChannelSettings = ChannelSettings {
        announced: ipc_protocol::ChannelLimits {
            message_bytes: 1000,
            entries: 1000,
            requests: 1000,
        },
        fragments_max: 4,
        control_frames_max: 6,
        answers_bytes_max: 1000,
        answer: Duration::from_secs(1),
        silence_max: Duration::from_secs(1),
        idle: Duration::from_secs(1),
        stop: Duration::from_secs(1),
    };

    /// Makes a frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = BytesMut::new();
        let (is_last, op) = (first & 0x80 != 0, OpCode::from(first & 0x0f));
        Parser::write_message(&mut frame, payload, op, is_last, true);
        frame[0] = first;
        frame.to_vec()
    }

    /// The events from bytes that arrive in pieces of this length, and the reason if the channel is
    /// closed.
    fn events(bytes: &[u8], piece: usize) -> (Vec<Event>, Option<String>) {
        let now = Instant::now();
        let mut decoder = Decoder::new(&SETTINGS, now);
        let mut events = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.extend(piece);
            loop {
                match decoder.next(now) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(closing) => return (events, Some(closing.to_string())),
                }
            }
            assert!(decoder.len() <= SETTINGS.announced.message_bytes + 14 + piece.len());
        }
        (events, None)
    }

    #[tokio::test]
    async fn frames_are_what_they_are_however_their_bytes_come() {
        let bytes = [
            frame(0x82, &[7; 900]),
            frame(0x89, b"ping"),
            frame(0x02, b"in "),
            frame(0x8a, b""),
            frame(0x00, b""),
            frame(0x80, b"pieces"),
            frame(0x82, b""),
            frame(0x88, &[0x0f, 0xa1, b'x']),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 100, bytes.len()] {
            let (events, closing) = events(&bytes, piece);
            assert_eq!(closing, None);
            let close = CloseReason { code: CloseCode::Other(4001), description: Some("x".into()) };
            assert_eq!(
                events,
                [
                    Event::Message(BytesMut::from(&[7; 900][..])),
                    Event::Ping(Bytes::from_static(b"ping")),
                    Event::Pong,
                    Event::Message(BytesMut::from(&b"in pieces"[..])),
                    Event::Message(BytesMut::new()),
                    Event::Close(Some(close))
                ]
            );
        }
    }

    #[tokio::test]
    async fn what_is_announced_to_be_too_long_is_refused_before_it_comes() {
        for (header, closing) in [
            (&[0x82, 0xfe, 0x03, 0xe9][..], "1009 the message is too long"),
            (&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0], "1009 the message is too long"),
            (
                &[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "1009 the message is too long",
            ),
            (&[0x82, 0x7f, 0, 0, 0, 1, 0, 0, 0, 0], "1002 a frame without a mask"),
            (&[0x89, 0xfe, 0x00, 0x7e], "1002 a control frame is too long"),
        ] {
            for piece in [1, header.len()] {
                assert_eq!(
                    events(header, piece),
                    (Vec::new(), Some(closing.to_owned())),
                    "{header:?}"
                );
            }
        }
        let halves = [frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat();
        assert_eq!(
            events(&halves, 50),
            (Vec::new(), Some("1009 the message is too long".to_owned()))
        );
    }

    #[tokio::test]
    async fn control_frames_come_back_with_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(6, start);
        for _ in 0..6 {
            assert!(bucket.takes(start));
        }
        assert!(!bucket.takes(start));
        assert!(!bucket.takes(start + Duration::from_millis(400)));
        assert!(bucket.takes(start + Duration::from_millis(600)), "two a second");
        for _ in 0..6 {
            assert!(bucket.takes(start + Duration::from_secs(100)));
        }
        assert!(!bucket.takes(start + Duration::from_secs(100)), "never more than at first");
    }

    /// Pseudorandom numbers, the same in each run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            // Knuth's MMIX generator.
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end
        }
    }

    #[tokio::test]
    async fn whatever_comes_nothing_panics_and_no_envelope_opens_that_was_changed() {
        let keys = KeyRing::new(Key::from_bytes([3; 32]));
        let sealed = keys.seal(br#"{"v":1}"#, 1000, [5; 16]);
        let good = [
            frame(0x82, &sealed),
            frame(0x89, b"ping"),
            frame(0x02, &sealed[..50]),
            frame(0x00, &sealed[50..60]),
            frame(0x80, &sealed[60..]),
        ]
        .concat();
        let opens = |event: &Event| match event {
            Event::Message(bytes) => keys.open(bytes, Some(Freshness::at(1000))).is_ok(),
            _ => false,
        };
        assert_eq!(events(&good, good.len()).0.iter().filter(|event| opens(event)).count(), 2);
        let mut chance = Chance(20_261_127);
        let (mut closed, mut messages) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=chance.below(4) {
                if bytes.len() < 2 {
                    break;
                }
                let at = chance.below(bytes.len() - 1);
                match chance.below(5) {
                    0 => bytes[at] ^= 1 << chance.below(8),
                    1 => bytes[at] = chance.below(256) as u8,
                    2 => bytes.truncate(at.max(1)),
                    3 => drop(bytes.drain(at..(at + chance.below(20)).min(bytes.len() - 1))),
                    _ => bytes.insert(at, chance.below(256) as u8),
                }
            }
            let (events, closing) = events(&bytes, 1 + chance.below(bytes.len()));
            closed += usize::from(closing.is_some());
            for event in &events {
                if let Event::Message(bytes) = event {
                    messages += 1;
                    assert!(bytes.len() <= SETTINGS.announced.message_bytes);
                    assert!(!opens(event) || bytes[..] == sealed[..], "{bytes:?}");
                }
            }
        }
        assert!(closed > 1000 && messages > 1000, "{closed} {messages}");
    }
}
