//! Checks the test vectors of `docs/protocol.md` against the code, so that a client written from
//! that page works.

use std::collections::BTreeSet;

use ipc_envelope::{Freshness, Key, KeyRing, OpenError};
use ipc_protocol::{
    CHANNEL_LIMITS_HEADER, CHANNEL_SUBPROTOCOL, ChannelAnswer, ChannelEntryResult, ChannelFrame,
    ChannelLimits, Frame, FrameError, MessageId, ProblemCode, REPLY_ADDRESS, Route, close_code_of,
    write_channel_answer, write_channel_entry, write_channel_frame, write_frame,
};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The JSON list in the code block after the comment `<!-- vectors: NAME -->`.
fn vectors(name: &str) -> Vec<Value> {
    let (_, rest) =
        PAGE.split_once(&format!("<!-- vectors: {name} -->\n```json\n")).expect("the page has it");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let list: Vec<Value> = serde_json::from_str(block).expect("the block is a JSON list");
    assert!(!list.is_empty(), "{name}");
    list
}

fn text<'a>(vector: &'a Value, member: &str) -> &'a str {
    vector[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {vector}"))
}

/// The key, time and IV of all envelopes of the page.
struct Made {
    ring: KeyRing,
    time_secs: u64,
    iv: [u8; 16],
}

fn made() -> Made {
    let with = &vectors("made with")[0];
    let hex = text(with, "iv");
    Made {
        ring: KeyRing::from_text(text(with, "key")).expect("a key"),
        time_secs: with["time"].as_u64().expect("seconds"),
        iv: std::array::from_fn(|at| {
            u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")
        }),
    }
}

fn route(path: &str) -> Route {
    Route::ALL.into_iter().find(|route| route.path() == path).expect("a route")
}

#[test]
fn every_good_envelope_of_the_page_is_made_to_the_byte_and_opens_for_a_minute() {
    let Made { ring, time_secs, iv } = made();
    for vector in vectors("good envelopes") {
        let (token, plaintext) = (text(&vector, "token"), text(&vector, "plaintext"));
        assert_eq!(ring.seal_base64url(plaintext.as_bytes(), time_secs, iv), token, "{vector}");
        for now_secs in [time_secs - 60, time_secs, time_secs + 60] {
            let opened = ring.open_base64url(token.as_bytes(), Some(Freshness::at(now_secs)));
            assert_eq!(opened.expect("it is fresh").as_slice(), plaintext.as_bytes(), "{vector}");
        }
        let frame =
            Frame::parse(plaintext.as_bytes()).unwrap_or_else(|error| panic!("{error}: {vector}"));
        let id = frame.id();
        let frame = match text(&vector, "to") {
            REPLY_ADDRESS => frame.reply_to(id),
            path => frame.addressed_to(route(path)),
        };
        assert!(frame.and_then(|frame| frame.object()).is_ok(), "{vector}");
    }
}

#[test]
fn every_derived_key_of_the_page_is_the_one_of_its_name() {
    let key = Key::from_base64url(text(&vectors("made with")[0], "key")).expect("a key");
    for vector in vectors("derived keys") {
        let derived = key.derive_for(text(&vector, "name"));
        assert_eq!(derived.to_base64url().as_str(), text(&vector, "key"), "{vector}");
    }
}

#[test]
fn every_bad_envelope_of_the_page_is_refused_as_it_says() {
    let Made { ring, .. } = made();
    for vector in vectors("bad envelopes") {
        let now_secs = vector["now"].as_u64().expect("seconds");
        let opened =
            ring.open_base64url(text(&vector, "token").as_bytes(), Some(Freshness::at(now_secs)));
        let problem = match opened {
            Ok(_) => panic!("it opens: {vector}"),
            Err(OpenError::Stale { .. }) => ProblemCode::StaleEnvelope,
            Err(_) => ProblemCode::MalformedEnvelope,
        };
        assert_eq!(problem.as_str(), text(&vector, "problem"), "{vector}");
    }
}

#[test]
fn every_bad_frame_of_the_page_is_refused_as_it_says() {
    for vector in vectors("bad frames") {
        let refused = Frame::parse(text(&vector, "plaintext").as_bytes())
            .and_then(|frame| frame.addressed_to(Route::MessageSubmit))
            .and_then(|frame| frame.object());
        let problem = match refused {
            Ok(_) => panic!("it passes: {vector}"),
            Err(FrameError::BodyNotAnObject) => ProblemCode::NotAnObject,
            Err(_) => ProblemCode::MalformedFrame,
        };
        assert_eq!(problem.as_str(), text(&vector, "problem"), "{vector}");
    }
}

#[test]
fn the_page_has_every_route_and_every_code_with_its_status() {
    for route in Route::ALL {
        assert!(PAGE.contains(&format!("`{} {}`", route.method(), route.path())), "{route:?}");
    }
    for code in ProblemCode::ALL {
        let row = format!("| {} | `{}` |", code.status(), code.as_str());
        assert!(PAGE.contains(&row), "no row begins with {row}");
    }
}

/// Decodes hexadecimal text.
fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).expect("hex") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

#[test]
fn the_handshake_of_the_page_asks_for_a_channel_and_its_answer_tells_the_default_limits() {
    for vector in vectors("channel opening") {
        let head = text(&vector, "request");
        assert!(
            head.starts_with("GET /message/channel HTTP/1.1\r\n") && head.ends_with("\r\n\r\n")
        );
        assert_eq!(header(head, "Sec-WebSocket-Protocol"), Some(CHANNEL_SUBPROTOCOL));
        let answer = text(&vector, "answer");
        assert_eq!(header(answer, "Sec-WebSocket-Protocol"), Some(CHANNEL_SUBPROTOCOL));
        // RFC 6455, section 1.3, has this key and the matching `Sec-WebSocket-Accept`.
        assert_eq!(header(head, "Sec-WebSocket-Key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(header(answer, "Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let limits = header(answer, CHANNEL_LIMITS_HEADER).expect("the answer has the header");
        assert_eq!(limits, ChannelLimits::default().to_string());
        for block in [head, answer] {
            for line in block.lines() {
                assert!(
                    PAGE.contains(&format!("    {line}")),
                    "{line} is not in the text of the page"
                );
            }
        }
    }
}

/// A header's value in the head of an HTTP request or response.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[test]
fn every_header_with_limits_of_the_page_is_read_as_it_says() {
    for vector in vectors("channel limits") {
        let limits = text(&vector, "header").parse::<ChannelLimits>().ok();
        let told =
            limits.map(|limits| json!([limits.message_bytes, limits.entries, limits.requests]));
        assert_eq!(told.unwrap_or(Value::Null), vector["limits"], "{vector}");
    }
}

#[test]
fn every_message_of_a_channel_of_the_page_is_made_to_the_byte() {
    let Made { ring, time_secs, iv } = made();
    for vector in vectors("channel messages") {
        let envelope = ring.seal(text(&vector, "plaintext").as_bytes(), time_secs, iv);
        let length = u16::try_from(envelope.len()).expect("a length of 16 bits");
        assert!(length > 125, "{vector}");
        let [high, low] = length.to_be_bytes();
        // RFC 6455, section 5.2: FIN and opcode 2, the mask bit and 126, the length, the masking
        // key.
        let message = match vector.get("masking_key") {
            None => [&[0x82, 126, high, low][..], &envelope].concat(),
            Some(key) => {
                let key = from_hex(key.as_str().expect("hex"));
                let masked =
                    envelope.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask);
                [&[0x82, 0x80 | 126, high, low][..], &key, &masked.collect::<Vec<_>>()].concat()
            }
        };
        assert_eq!(message, from_hex(text(&vector, "websocket")), "{vector}");
        let frame = Frame::parse(text(&vector, "plaintext").as_bytes()).expect("a frame");
        let id = frame.id();
        let is_of_a_channel = match vector.get("masking_key") {
            Some(_) => frame
                .addressed_to(Route::MessageChannel)
                .and_then(|frame| frame.channel(1).map(drop)),
            None => frame.reply_to(id).and_then(|frame| frame.channel_answer().map(drop)),
        };
        assert_eq!(is_of_a_channel, Ok(()), "{vector}");
    }
}

const CHANNEL_ID: MessageId = MessageId::from_bytes([7; 16]);

/// The plaintext of a frame with this body.
fn plaintext(to: &str, body: &str) -> Vec<u8> {
    let mut plaintext = Vec::new();
    write_frame(&mut plaintext, to, CHANNEL_ID, None, body);
    plaintext
}

#[test]
fn every_good_frame_of_a_channels_client_is_read_as_the_page_says_and_written_as_it_is_read() {
    for vector in vectors("good channel frames") {
        let plaintext = plaintext(Route::MessageChannel.path(), text(&vector, "body"));
        let frame = Frame::parse(&plaintext).unwrap_or_else(|error| panic!("{error}: {vector}"));
        let frame = frame.channel(1000).unwrap_or_else(|error| panic!("{error}: {vector}"));
        let entries: Vec<Value> = frame.entries.iter().map(entry_as_the_page_has_it).collect();
        assert_eq!(json!(frame.first), vector["first"], "{vector}");
        assert_eq!(json!(frame.resume), vector["resume"], "{vector}");
        assert_eq!(json!(entries), vector["entries"], "{vector}");
        if frame.entries.iter().all(Result::is_ok) {
            let mut body = Vec::new();
            write_channel_frame(&mut body, frame.first, frame.resume, |buffer| {
                for (index, entry) in frame.entries.iter().flatten().enumerate() {
                    buffer.extend_from_slice(if index > 0 { b"," } else { b"" });
                    write_channel_entry(buffer, entry.id, entry.body, entry.reply_wait);
                }
            });
            let again = self::plaintext(
                Route::MessageChannel.path(),
                std::str::from_utf8(&body).expect("JSON"),
            );
            assert_eq!(
                Frame::parse(&again).and_then(|again| again.channel(1000)),
                Ok(frame),
                "{vector}"
            );
        }
    }
}

fn entry_as_the_page_has_it(entry: &ChannelEntryResult<'_>) -> Value {
    match entry {
        Ok(entry) => {
            let wait =
                entry.reply_wait.map(|wait| u64::try_from(wait.as_millis()).expect("64 bits"));
            json!([entry.id.to_string(), entry.body, wait])
        }
        Err(code) => json!(code.as_str()),
    }
}

#[test]
fn every_bad_frame_of_a_channels_client_closes_it_with_the_code_and_reason_of_the_page() {
    for vector in vectors("bad channel frames") {
        let plaintext = plaintext(Route::MessageChannel.path(), text(&vector, "body"));
        let refused = Frame::parse(&plaintext).and_then(|frame| frame.channel(2).map(drop));
        let code = match refused {
            Ok(()) => panic!("it passes: {vector}"),
            Err(FrameError::BodyNotAnObject) => ProblemCode::NotAnObject,
            Err(FrameError::TooManyMessages { .. }) => ProblemCode::TooLarge,
            Err(_) => ProblemCode::MalformedFrame,
        };
        assert_eq!(json!(close_code_of(code)), vector["close"], "{vector}");
        assert_eq!(code.as_str(), text(&vector, "reason"), "{vector}");
    }
}

#[test]
fn every_good_frame_of_a_channels_server_is_read_as_the_page_says_and_written_as_it_is_read() {
    for vector in vectors("good channel answers") {
        let plaintext = plaintext(REPLY_ADDRESS, text(&vector, "body"));
        let frame = Frame::parse(&plaintext).unwrap_or_else(|error| panic!("{error}: {vector}"));
        let answer = frame.channel_answer().unwrap_or_else(|error| panic!("{error}: {vector}"));
        let settled: Vec<_> = answer
            .settled
            .iter()
            .map(|settled| json!([settled.first, settled.last, settled.code]))
            .collect();
        let replies =
            answer.replies.iter().map(|reply| json!([reply.entry, reply.is_duplicate, reply.body]));
        assert_eq!(json!(settled), vector["settled"], "{vector}");
        let reasons = answer.reasons.iter().map(|one| json!([one.entry, one.reason]));
        let expected = vector.get("reasons").cloned().unwrap_or_else(|| json!([]));
        assert_eq!(json!(reasons.collect::<Vec<_>>()), expected, "{vector}");
        assert_eq!(
            json!(answer.refused.map(|refused| (refused.from, refused.code))),
            vector["refused"],
            "{vector}"
        );
        assert_eq!(json!(replies.collect::<Vec<_>>()), vector["replies"], "{vector}");
        let mut body = Vec::new();
        write_channel_answer(&mut body, &answer);
        let again = self::plaintext(REPLY_ADDRESS, std::str::from_utf8(&body).expect("JSON"));
        assert_eq!(
            Frame::parse(&again).and_then(|again| again.channel_answer()),
            Ok(answer),
            "{vector}"
        );
    }
}

#[test]
fn every_bad_frame_of_a_channels_server_is_refused() {
    for vector in vectors("bad channel answers") {
        let plaintext = plaintext(REPLY_ADDRESS, text(&vector, "body"));
        let refused = Frame::parse(&plaintext).and_then(|frame| frame.channel_answer().map(drop));
        assert!(refused.is_err(), "it passes: {vector}");
    }
}

/// The page's rules for entry numbers, refusals and answers, as a state machine.
#[derive(Default)]
struct Channel {
    /// How many entries the client has sent.
    sent: u64,
    /// The numbers of the entries without an answer.
    open: BTreeSet<u64>,
    /// The number from which entries are refused, until the client resumes.
    refused_from: Option<u64>,
}

impl Channel {
    /// Takes a frame of the client. Returns false if it breaks a rule.
    fn client(&mut self, frame: &ChannelFrame<'_>) -> bool {
        if frame.first != self.sent
            || frame.resume.is_some_and(|resume| self.refused_from != Some(resume))
        {
            return false;
        }
        self.refused_from = self.refused_from.filter(|_| frame.resume.is_none());
        let last = self.sent + frame.entries.len() as u64;
        // The server drops entries that arrive while it refuses entries.
        self.open.extend((self.sent..last).filter(|_| self.refused_from.is_none()));
        self.sent = last;
        true
    }

    /// Takes a frame of the server.
    fn server(&mut self, answer: &ChannelAnswer<'_>) {
        for settled in &answer.settled {
            assert!(
                (settled.first..=settled.last).all(|number| self.open.remove(&number)),
                "{settled:?}"
            );
        }
        let settled =
            |entry| answer.settled.iter().find(|one| (one.first..=one.last).contains(&entry));
        for reason in &answer.reasons {
            let code = settled(reason.entry).map(|settled| settled.code);
            assert_eq!(code, Some(ProblemCode::NotAnswered.as_str()), "{reason:?}");
        }
        for reply in &answer.replies {
            assert!(self.open.remove(&reply.entry), "{reply:?}");
        }
        if let Some(refused) = answer.refused {
            assert_eq!(self.refused_from.replace(refused.from), None, "one refusal at a time");
            assert!(self.open.contains(&refused.from));
            self.open.retain(|number| *number < refused.from);
        }
    }
}

#[test]
fn every_channel_of_the_page_keeps_the_rules_up_to_the_frame_that_closes_it() {
    for vector in vectors("channels") {
        let mut channel = Channel::default();
        let frames = vector["frames"].as_array().expect("a list");
        for (index, frame) in frames.iter().enumerate() {
            let (end, body) =
                (frame[0].as_str().expect("an end"), frame[1].as_str().expect("a body"));
            match end {
                "c" => {
                    let plaintext = plaintext(Route::MessageChannel.path(), body);
                    let frame = Frame::parse(&plaintext).expect("a frame");
                    let frame = frame.channel(1000).expect("the body of a client");
                    assert!(frame.entries.iter().all(Result::is_ok), "{vector}");
                    let is_bad = vector.get("close").is_some() && index + 1 == frames.len();
                    assert_eq!(channel.client(&frame), !is_bad, "frame {index} of {vector}");
                }
                "s" => {
                    let plaintext = plaintext(REPLY_ADDRESS, body);
                    let frame = Frame::parse(&plaintext).expect("a frame");
                    channel.server(&frame.channel_answer().expect("the body of a server"));
                }
                end => panic!("{end}"),
            }
        }
        match vector.get("close") {
            Some(code) => assert_eq!(*code, json!(1008), "{vector}"),
            None => assert!(channel.open.is_empty() && channel.refused_from.is_none(), "{vector}"),
        }
    }
}
