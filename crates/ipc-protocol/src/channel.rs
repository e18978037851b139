//! The frame bodies of a channel: a WebSocket (RFC 6455) on which a client sends entries as they
//! gather, and a server reports the outcome of each as soon as it is known.
//!
//! Both ends come here. They open a channel, keep it alive and close it in their own code; the
//! rules for that are in `docs/protocol.md`, "Channel".

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::entry::{self, ChannelEntryResult, write_number};
use crate::json_error::{DEPTH_MAX, JsonError};
use crate::problem::ProblemCode;
use crate::reason::REASON_BYTES_MAX;
use crate::scanner::Scanner;

/// How many JSON levels enclose the body of an entry: the frame, its body, the array of entries,
/// the entry.
const LEVELS_AROUND: usize = 4;

/// The WebSocket subprotocol (RFC 6455, section 1.9) of a channel.
pub const CHANNEL_SUBPROTOCOL: &str = "web-ipc.1";

/// The header of the response 101 in which the server states its [`ChannelLimits`].
pub const CHANNEL_LIMITS_HEADER: &str = "web-ipc-limits";

/// The longest WebSocket message of a channel in bytes, in either direction, unless a server is
/// configured otherwise. A client sends longer messages by POST. A server sends a longer reply in a
/// WebSocket message of its own.
pub const CHANNEL_MESSAGE_BYTES_MAX_DEFAULT: usize = 72 * 1024;

/// How many entries a frame of a channel may have, unless a server is configured otherwise.
pub const CHANNEL_ENTRIES_MAX_DEFAULT: usize = 1000;

/// How many requests of a channel may wait for their reply, unless a server is configured
/// otherwise.
pub const CHANNEL_REQUESTS_MAX_DEFAULT: usize = 4096;

/// How long an end of a channel receives nothing before it sends a ping.
pub const CHANNEL_PING_AFTER: Duration = Duration::from_secs(15);

/// How long an end of a channel receives nothing before it takes the channel for broken.
pub const CHANNEL_SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a client waits, at least, before it resends entries that were refused for want of room.
pub const CHANNEL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The close code (RFC 6455, section 7.4.2) of a refusal: 4000 plus the HTTP status of `code`. The
/// close reason is the text of the [`ProblemCode`].
pub const fn close_code_of(code: ProblemCode) -> u16 {
    4000 + code.status()
}

/// The limits of a channel, as the server states them in [`CHANNEL_LIMITS_HEADER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Bytes in a WebSocket message of the client.
    pub message_bytes: usize,
    /// Entries in a frame.
    pub entries: usize,
    /// Requests that wait for their reply.
    pub requests: usize,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        ChannelLimits {
            message_bytes: CHANNEL_MESSAGE_BYTES_MAX_DEFAULT,
            entries: CHANNEL_ENTRIES_MAX_DEFAULT,
            requests: CHANNEL_REQUESTS_MAX_DEFAULT,
        }
    }
}

impl fmt::Display for ChannelLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChannelLimits { message_bytes, entries, requests } = self;
        write!(f, "message-bytes={message_bytes}, entries={entries}, requests={requests}")
    }
}

/// The header is not a list of limits of a channel, `NAME=NUMBER` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header is not a list of channel limits (NAME=NUMBER, …)")]
pub struct ChannelLimitsError;

impl FromStr for ChannelLimits {
    type Err = ChannelLimitsError;

    /// Reads the form that [`Display`](fmt::Display) writes. An unknown name is ignored with its
    /// value, and a missing limit has its default.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut limits = ChannelLimits::default();
        for limit in text.split(',') {
            let (name, value) = limit.split_once('=').ok_or(ChannelLimitsError)?;
            let known = match name.trim() {
                "message-bytes" => &mut limits.message_bytes,
                "entries" => &mut limits.entries,
                "requests" => &mut limits.requests,
                _ => continue,
            };
            *known =
                value.trim().parse().ok().filter(|value| *value > 0).ok_or(ChannelLimitsError)?;
        }
        Ok(limits)
    }
}

/// The body of a client's frame, for [`Route::MessageChannel`](crate::Route::MessageChannel).
#[derive(Debug, PartialEq, Eq)]
pub struct ChannelFrame<'a> {
    /// The number of the first entry. Entries are counted from 0 over the whole channel.
    pub first: u64,
    /// The client has received the refusal of all entries from this number on, for want of room,
    /// and begins again with it.
    pub resume: Option<u64>,
    /// The entries, in order. A malformed one does not affect the others.
    pub entries: Vec<ChannelEntryResult<'a>>,
}

/// Appends the body of a client's frame. `write_entries` appends the entries, each with
/// [`write_channel_entry`](crate::write_channel_entry), and commas between them.
pub fn write_channel_frame(
    buffer: &mut Vec<u8>,
    first: u64,
    resume: Option<u64>,
    write_entries: impl FnOnce(&mut Vec<u8>),
) {
    buffer.extend_from_slice(br#"{"first":"#);
    write_number(buffer, first);
    if let Some(resume) = resume {
        buffer.extend_from_slice(br#","resume":"#);
        write_number(buffer, resume);
    }
    buffer.extend_from_slice(br#","entries":["#);
    write_entries(buffer);
    buffer.extend_from_slice(b"]}");
}

/// Whether a body has few enough levels for an entry of a channel or of a batch. The body is a JSON
/// object as text, made by [`to_body`](crate::to_body). A deeper body goes by POST, where fewer
/// levels enclose it.
pub fn fits_an_entry(body: &str) -> bool {
    const LEVELS_MAX: usize = DEPTH_MAX - LEVELS_AROUND;
    let openings = body.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    openings <= LEVELS_MAX || levels(body) <= LEVELS_MAX
}

/// The number of nested levels of a JSON text.
fn levels(text: &str) -> usize {
    let (mut level, mut deepest, mut in_string) = (0_usize, 0, false);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => drop(bytes.next()),
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !in_string => level = level.saturating_sub(1),
            _ => (),
        }
    }
    deepest
}

/// Why the body of a frame is not one that a channel's client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelFrameError {
    NotAnObject,
    Member(&'static str),
    UnknownMember,
    TooManyEntries,
}

/// The members of a client's frame, as text.
#[derive(Default)]
struct FrameMembers<'a> {
    first: Option<&'a str>,
    resume: Option<&'a str>,
    /// The elements of `entries` if it is an array, up to the limit.
    entries: Option<Vec<ChannelEntryResult<'a>>>,
    has_too_many_entries: bool,
    has_others: bool,
}

/// Reads the value that begins here as the body of a client's frame.
///
/// # Errors
/// The value breaks a rule for JSON. A value that is not such a body is no error of this function:
/// the inner result reports it.
pub(crate) fn read_frame<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
    entries_max: usize,
) -> Result<Result<ChannelFrame<'a>, ChannelFrameError>, JsonError> {
    if scanner.peek() != Some(b'{') {
        scanner.value(depth)?;
        return Ok(Err(ChannelFrameError::NotAnObject));
    }
    let mut members = FrameMembers::default();
    scanner.object(depth, |scanner, name| {
        match name {
            "first" => members.first = Some(scanner.text(depth + 1)?),
            "resume" => members.resume = Some(scanner.text(depth + 1)?),
            "entries" if scanner.peek() == Some(b'[') => {
                let entries = members.entries.insert(Vec::new());
                scanner.array(depth + 1, |scanner| {
                    let entry = entry::read(scanner, depth + 2)?;
                    if entries.len() < entries_max {
                        entries.push(entry);
                    } else {
                        members.has_too_many_entries = true;
                    }
                    Ok(())
                })?;
            }
            "entries" => scanner.value(depth + 1)?,
            _ => {
                members.has_others = true;
                scanner.value(depth + 1)?;
            }
        }
        Ok(())
    })?;
    Ok(members.frame())
}

impl<'a> FrameMembers<'a> {
    fn frame(self) -> Result<ChannelFrame<'a>, ChannelFrameError> {
        if self.has_others {
            return Err(ChannelFrameError::UnknownMember);
        }
        let number = |text: &str, name| text.parse().map_err(|_| ChannelFrameError::Member(name));
        let first = number(self.first.unwrap_or_default(), "first")?;
        let resume = self.resume.map(|resume| number(resume, "resume")).transpose()?;
        let entries = self.entries.ok_or(ChannelFrameError::Member("entries"))?;
        if self.has_too_many_entries {
            return Err(ChannelFrameError::TooManyEntries);
        }
        Ok(ChannelFrame { first, resume, entries })
    }
}

/// The body of a server's frame, for [`REPLY_ADDRESS`](crate::REPLY_ADDRESS) on a channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChannelAnswer<'a> {
    /// The outcomes of entries, in no particular order. Each entry of a channel gets one, here or
    /// in `replies`.
    pub settled: Vec<Settled<'a>>,
    /// Why requests among `settled` have no reply, as far as the application says so. No more than
    /// there are entries in `settled`.
    pub reasons: Vec<ChannelReason<'a>>,
    /// The refusal of all entries from a number on, for want of room.
    pub refused: Option<RefusedFrom<'a>>,
    /// The replies to requests, in the order in which the application gave them.
    pub replies: Vec<ChannelReply<'a>>,
}

/// The common outcome of entries with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled<'a> {
    /// The number of the first of them.
    pub first: u64,
    /// The number of the last of them.
    pub last: u64,
    /// [`ACCEPTED`](Settled::ACCEPTED), [`DUPLICATE`](Settled::DUPLICATE), or the code of a
    /// [`ProblemCode`].
    pub code: &'a str,
}

impl Settled<'_> {
    /// The code of messages that are newly in the inbox.
    pub const ACCEPTED: &'static str = "accepted";
    /// The code of messages that were accepted before, with the same body.
    pub const DUPLICATE: &'static str = "duplicate";
}

/// Why a request has no reply, as its application says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelReason<'a> {
    /// The number of the request's entry, which is settled as
    /// [`NotAnswered`](ProblemCode::NotAnswered).
    pub entry: u64,
    /// The reason, of at most [`REASON_BYTES_MAX`] bytes.
    pub reason: Cow<'a, str>,
}

/// The refusal of all entries from `from` on that have no other answer, those still on their way
/// included. The server takes no entry until a frame has `resume` with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedFrom<'a> {
    /// The number of the first refused entry.
    pub from: u64,
    /// The code of a [`ProblemCode`] that says why.
    pub code: &'a str,
}

/// The reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelReply<'a> {
    /// The number of the request's entry.
    pub entry: u64,
    /// The request was accepted before: this is its first reply.
    pub is_duplicate: bool,
    /// The JSON object as text, exactly as the application gave it.
    pub body: &'a str,
}

/// Appends the body of a server's frame.
pub fn write_channel_answer(buffer: &mut Vec<u8>, answer: &ChannelAnswer<'_>) {
    let mut separator: &[u8] = b"{";
    if !answer.settled.is_empty() {
        buffer.extend_from_slice(br#"{"settled":["#);
        for (index, Settled { first, last, code }) in answer.settled.iter().enumerate() {
            buffer.extend_from_slice(if index > 0 { b",[" } else { b"[" });
            write_number(buffer, *first);
            buffer.push(b',');
            write_number(buffer, *last);
            buffer.extend_from_slice(b",\"");
            buffer.extend_from_slice(code.as_bytes());
            buffer.extend_from_slice(b"\"]");
        }
        buffer.push(b']');
        separator = b",";
    }
    if !answer.reasons.is_empty() {
        buffer.extend_from_slice(separator);
        buffer.extend_from_slice(br#""reasons":["#);
        for (index, ChannelReason { entry, reason }) in answer.reasons.iter().enumerate() {
            buffer.extend_from_slice(if index > 0 { br#",{"entry":"# } else { br#"{"entry":"# });
            write_number(buffer, *entry);
            buffer.extend_from_slice(br#","reason":"#);
            serde_json::to_writer(&mut *buffer, reason).expect("text is JSON, and memory takes it");
            buffer.push(b'}');
        }
        buffer.push(b']');
        separator = b",";
    }
    if let Some(RefusedFrom { from, code }) = answer.refused {
        buffer.extend_from_slice(separator);
        buffer.extend_from_slice(br#""refused":{"from":"#);
        write_number(buffer, from);
        buffer.extend_from_slice(br#","code":""#);
        buffer.extend_from_slice(code.as_bytes());
        buffer.extend_from_slice(b"\"}");
        separator = b",";
    }
    if !answer.replies.is_empty() {
        buffer.extend_from_slice(separator);
        buffer.extend_from_slice(br#""replies":["#);
        for (index, ChannelReply { entry, is_duplicate, body }) in answer.replies.iter().enumerate()
        {
            buffer.extend_from_slice(if index > 0 { br#",{"entry":"# } else { br#"{"entry":"# });
            write_number(buffer, *entry);
            if *is_duplicate {
                buffer.extend_from_slice(br#","duplicate":true"#);
            }
            buffer.extend_from_slice(br#","body":"#);
            buffer.extend_from_slice(body.as_bytes());
            buffer.push(b'}');
        }
        buffer.push(b']');
        separator = b",";
    }
    buffer.extend_from_slice(if separator == b"{" { b"{}" } else { b"}" });
}

/// Reads the value that begins here as the body of a server's frame. Returns `None` if it is not
/// one. Unknown members are skipped: a later server may send more.
///
/// # Errors
/// The value breaks a rule for JSON.
pub(crate) fn read_answer<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
) -> Result<Option<ChannelAnswer<'a>>, JsonError> {
    let mut answer = ChannelAnswer::default();
    let mut is_good = scanner.peek() == Some(b'{');
    if !is_good {
        scanner.value(depth)?;
        return Ok(None);
    }
    scanner.object(depth, |scanner, name| {
        is_good &= match name {
            "settled" => read_list(scanner, depth + 1, &mut answer.settled, read_settled)?,
            "reasons" => read_list(scanner, depth + 1, &mut answer.reasons, read_reason)?,
            "replies" => read_list(scanner, depth + 1, &mut answer.replies, read_reply)?,
            "refused" => {
                answer.refused = read_refused(scanner, depth + 1)?;
                answer.refused.is_some()
            }
            _ => {
                scanner.value(depth + 1)?;
                true
            }
        };
        Ok(())
    })?;
    let is_good = is_good && answer.reasons.len() as u64 <= entries_in(&answer.settled);
    Ok(is_good.then_some(answer))
}

/// The number of entries in ranges.
fn entries_in(ranges: &[Settled<'_>]) -> u64 {
    let counts = ranges.iter().map(|range| (range.last - range.first).saturating_add(1));
    counts.fold(0, u64::saturating_add)
}

/// Reads the value that begins here as an array, whose elements `read` reads. Returns false if the
/// value is not an array or `read` rejects an element.
fn read_list<'a, T>(
    scanner: &mut Scanner<'a>,
    depth: usize,
    list: &mut Vec<T>,
    read: impl Fn(&mut Scanner<'a>, usize) -> Result<Option<T>, JsonError>,
) -> Result<bool, JsonError> {
    if scanner.peek() != Some(b'[') {
        scanner.value(depth)?;
        return Ok(false);
    }
    let mut are_good = true;
    scanner.array(depth, |scanner| {
        match read(scanner, depth + 1)? {
            Some(element) if are_good => list.push(element),
            _ => are_good = false,
        }
        Ok(())
    })?;
    Ok(are_good)
}

fn read_settled<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
) -> Result<Option<Settled<'a>>, JsonError> {
    if scanner.peek() != Some(b'[') {
        scanner.value(depth)?;
        return Ok(None);
    }
    let (mut parts, mut count) = ([""; 3], 0);
    scanner.array(depth, |scanner| {
        let part = scanner.text(depth + 1)?;
        if let Some(place) = parts.get_mut(count) {
            *place = part;
        }
        count += 1;
        Ok(())
    })?;
    let [first, last, code] = parts;
    let (Ok(first), Ok(last), Some(code), 3) = (first.parse(), last.parse(), as_code(code), count)
    else {
        return Ok(None);
    };
    Ok((first <= last).then_some(Settled { first, last, code }))
}

fn read_refused<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
) -> Result<Option<RefusedFrom<'a>>, JsonError> {
    if scanner.peek() != Some(b'{') {
        scanner.value(depth)?;
        return Ok(None);
    }
    let (mut from, mut code) = (None, None);
    scanner.object(depth, |scanner, name| {
        let value = scanner.text(depth + 1)?;
        match name {
            "from" => from = value.parse().ok(),
            "code" => code = as_code(value),
            _ => (),
        }
        Ok(())
    })?;
    Ok(from.zip(code).map(|(from, code)| RefusedFrom { from, code }))
}

fn read_reason<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
) -> Result<Option<ChannelReason<'a>>, JsonError> {
    if scanner.peek() != Some(b'{') {
        scanner.value(depth)?;
        return Ok(None);
    }
    let (mut entry, mut reason) = (None, None);
    scanner.object(depth, |scanner, name| {
        let value = scanner.text(depth + 1)?;
        match name {
            "entry" => entry = value.parse().ok(),
            "reason" => reason = serde_json::from_str::<String>(value).ok(),
            _ => (),
        }
        Ok(())
    })?;
    let reason = reason.filter(|reason| reason.len() <= REASON_BYTES_MAX).map(Cow::Owned);
    Ok(entry.zip(reason).map(|(entry, reason)| ChannelReason { entry, reason }))
}

fn read_reply<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
) -> Result<Option<ChannelReply<'a>>, JsonError> {
    if scanner.peek() != Some(b'{') {
        scanner.value(depth)?;
        return Ok(None);
    }
    let (mut entry, mut duplicate, mut body) = (None, Some(false), None);
    scanner.object(depth, |scanner, name| {
        let value = scanner.text(depth + 1)?;
        match name {
            "entry" => entry = value.parse().ok(),
            "duplicate" => duplicate = value.parse().ok(),
            "body" => body = Some(value).filter(|body| body.starts_with('{')),
            _ => (),
        }
        Ok(())
    })?;
    let (Some(entry), Some(is_duplicate), Some(body)) = (entry, duplicate, body) else {
        return Ok(None);
    };
    Ok(Some(ChannelReply { entry, is_duplicate, body }))
}

/// The code in a JSON string. Codes have no escapes.
fn as_code(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"').filter(|code| !code.contains('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{ChannelEntry, write_channel_entry};
    use crate::message_id::MessageId;

    const ID: &str = "00112233-4455-4677-8899-aabbccddeeff";

    fn id() -> MessageId {
        ID.parse().unwrap()
    }

    fn frame(text: &str, entries_max: usize) -> Result<ChannelFrame<'_>, ChannelFrameError> {
        read_frame(&mut Scanner::new(text), 2, entries_max).unwrap()
    }

    fn answer(text: &str) -> Option<ChannelAnswer<'_>> {
        read_answer(&mut Scanner::new(text), 2).unwrap()
    }

    #[test]
    fn the_wire_form_of_a_clients_frame_is_stable() {
        let mut body = Vec::new();
        write_channel_frame(&mut body, 7, Some(5), |body| {
            write_channel_entry(body, id(), r#"{"a":1}"#, None);
            body.push(b',');
            write_channel_entry(body, id(), "{}", Some(Duration::from_millis(1500)));
        });
        let text = String::from_utf8(body).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"first":7,"resume":5,"entries":[{{"id":"{ID}","body":{{"a":1}}}},{{"id":"{ID}","body":{{}},"reply_wait_ms":1500}}]}}"#
            )
        );
        let entries = vec![
            Ok(ChannelEntry { id: id(), body: r#"{"a":1}"#, reply_wait: None }),
            Ok(ChannelEntry {
                id: id(),
                body: "{}",
                reply_wait: Some(Duration::from_millis(1500)),
            }),
        ];
        assert_eq!(frame(&text, 2), Ok(ChannelFrame { first: 7, resume: Some(5), entries }));
        assert_eq!(frame(&text, 1), Err(ChannelFrameError::TooManyEntries));
    }

    #[test]
    fn a_bad_entry_does_not_spoil_the_others_and_a_bad_frame_is_none() {
        let text = format!(
            r#"{{"first": 0, "entries": [1, {{"id":"{ID}","body":[]}}, {{"id":"{ID}","body":{{}},"reply_wait_ms":-1}}, {{"id":"{ID}","body":{{}},"x":1}}, {{"body":{{}}}}, {{"body":{{}},"id":"{ID}"}}]}}"#
        );
        let malformed = Err(ProblemCode::MalformedFrame);
        let good = Ok(ChannelEntry { id: id(), body: "{}", reply_wait: None });
        assert_eq!(
            frame(&text, 6).unwrap().entries,
            [malformed, Err(ProblemCode::NotAnObject), malformed, malformed, malformed, good]
        );
        for (text, error) in [
            (r#"{"entries":[]}"#, ChannelFrameError::Member("first")),
            (r#"{"first":-1,"entries":[]}"#, ChannelFrameError::Member("first")),
            (r#"{"first":"0","entries":[]}"#, ChannelFrameError::Member("first")),
            (r#"{"first":0.5,"entries":[]}"#, ChannelFrameError::Member("first")),
            (r#"{"first":0}"#, ChannelFrameError::Member("entries")),
            (r#"{"first":0,"entries":{}}"#, ChannelFrameError::Member("entries")),
            (r#"{"first":0,"entries":[],"resume":null}"#, ChannelFrameError::Member("resume")),
            (r#"{"first":0,"entries":[],"more":1}"#, ChannelFrameError::UnknownMember),
            ("[]", ChannelFrameError::NotAnObject),
        ] {
            assert_eq!(frame(text, 10), Err(error), "{text}");
        }
        assert_eq!(frame(r#"{"first":0,"entries":[]}"#, 0).unwrap().entries, []);
    }

    #[test]
    fn the_wire_form_of_a_servers_frame_is_stable() {
        let full = ChannelAnswer {
            settled: vec![
                Settled { first: 0, last: 9, code: Settled::ACCEPTED },
                Settled { first: 10, last: 10, code: "id_reused" },
            ],
            reasons: vec![ChannelReason { entry: 10, reason: "a\"b\\ é".into() }],
            refused: Some(RefusedFrom { from: 11, code: "inbox_full" }),
            replies: vec![
                ChannelReply { entry: 3, is_duplicate: false, body: r#"{"n":1}"# },
                ChannelReply { entry: 2, is_duplicate: true, body: "{}" },
            ],
        };
        let settled =
            || ChannelAnswer { settled: full.settled.clone(), ..ChannelAnswer::default() };
        let replies =
            || ChannelAnswer { replies: full.replies.clone(), ..ChannelAnswer::default() };
        for (answer, text) in [
            (ChannelAnswer::default(), "{}"),
            (settled(), r#"{"settled":[[0,9,"accepted"],[10,10,"id_reused"]]}"#),
            (
                ChannelAnswer { reasons: full.reasons.clone(), ..settled() },
                r#"{"settled":[[0,9,"accepted"],[10,10,"id_reused"]],"reasons":[{"entry":10,"reason":"a\"b\\ é"}]}"#,
            ),
            (
                ChannelAnswer { refused: full.refused, ..ChannelAnswer::default() },
                r#"{"refused":{"from":11,"code":"inbox_full"}}"#,
            ),
            (
                replies(),
                r#"{"replies":[{"entry":3,"body":{"n":1}},{"entry":2,"duplicate":true,"body":{}}]}"#,
            ),
        ] {
            let mut body = Vec::new();
            write_channel_answer(&mut body, &answer);
            assert_eq!(String::from_utf8(body).unwrap(), text);
            assert_eq!(self::answer(text), Some(answer));
        }
        let mut body = Vec::new();
        write_channel_answer(&mut body, &full);
        assert_eq!(self::answer(std::str::from_utf8(&body).unwrap()), Some(full));
    }

    #[test]
    fn an_answer_may_have_space_and_say_more_and_may_not_be_of_another_form() {
        let spaced = r#"{ "settled" : [ [ 0 , 1 , "accepted" ] , [2,2,"x"] ] , "more": [1] }"#;
        assert_eq!(answer(spaced).unwrap().settled.len(), 2);
        assert_eq!(answer(r#"{"settled":[ ]}"#), Some(ChannelAnswer::default()));
        for text in [
            r#"{"settled":{}}"#,
            r#"{"settled":[0]}"#,
            r#"{"settled":[[0,1]]}"#,
            r#"{"settled":[[1,0,"accepted"]]}"#,
            r#"{"settled":[[0,1,2]]}"#,
            r#"{"settled":[[0,1,"a",3]]}"#,
            r#"{"settled":[[-1,1,"a"]]}"#,
            r#"{"settled":[[0,1,"a\u0062"]]}"#,
            r#"{"refused":[]}"#,
            r#"{"refused":{"from":1}}"#,
            r#"{"refused":{"from":1,"code":2}}"#,
            r#"{"replies":{}}"#,
            r#"{"replies":[1]}"#,
            r#"{"replies":[{"entry":1}]}"#,
            r#"{"replies":[{"entry":1,"body":[]}]}"#,
        ] {
            assert_eq!(answer(text), None, "{text}");
        }
    }

    #[test]
    fn reasons_are_bounded_in_number_and_in_length_whatever_their_escapes() {
        let with = |reasons: &str| format!(r#"{{"reasons":[{reasons}],"settled":[[3,4,"x"]]}}"#);
        let of = |reason: &str| with(&format!(r#"{{"entry":3,"reason":"{reason}","more":1}}"#));
        let longest = "é".repeat(REASON_BYTES_MAX / 2);
        for reason in [longest.as_str(), &"\\u00e9".repeat(REASON_BYTES_MAX / 2)] {
            let text = of(reason);
            let read = ChannelReason { entry: 3, reason: longest.as_str().into() };
            assert_eq!(answer(&text).unwrap().reasons, [read]);
        }
        let one = r#"{"entry":3,"reason":""}"#;
        assert_eq!(answer(&with(&[one; 2].join(","))).unwrap().reasons.len(), 2);
        for text in [
            of(&format!("{longest}a")),
            of(&"\\n".repeat(REASON_BYTES_MAX + 1)),
            with(&[one; 3].join(",")),
            with(r#"{"entry":3}"#),
            with(r#"{"reason":"a"}"#),
            with(r#"{"entry":3,"reason":null}"#),
            with(r#"{"entry":-1,"reason":"a"}"#),
            with("3"),
            format!(r#"{{"reasons":{one}}}"#),
            format!(r#"{{"reasons":[{one}]}}"#),
        ] {
            assert_eq!(answer(&text), None, "{text}");
        }
        let all = r#"{"settled":[[0,18446744073709551615,"x"],[0,1,"x"]],"reasons":[]}"#;
        assert!(answer(all).is_some());
    }

    #[test]
    fn limits_are_read_as_they_are_written_and_others_are_passed_over() {
        let limits = ChannelLimits { message_bytes: 1, entries: 2, requests: 3 };
        assert_eq!(limits.to_string(), "message-bytes=1, entries=2, requests=3");
        assert_eq!(limits.to_string().parse(), Ok(limits));
        assert_eq!(
            "entries=5,later=1".parse(),
            Ok(ChannelLimits { entries: 5, ..ChannelLimits::default() })
        );
        for text in ["", "entries", "entries=0", "entries=-1", "entries=x"] {
            assert_eq!(text.parse::<ChannelLimits>(), Err(ChannelLimitsError), "{text}");
        }
    }

    #[test]
    fn every_refusal_has_a_close_code_of_the_range_for_private_use() {
        for code in ProblemCode::ALL {
            assert!((4400..4600).contains(&close_code_of(code)));
            assert!(
                code.as_str().len() <= 123,
                "a close reason has at most 123 bytes (RFC 6455, section 5.5)"
            );
        }
    }
}
