//! Frames: the JSON inside an envelope. A frame is read in a single pass, which leaves the body as
//! text.

use std::borrow::Cow;

use crate::batch::{self, BatchEntry};
use crate::channel::{self, ChannelAnswer, ChannelFrame, ChannelFrameError};
use crate::json_error::{JsonError, JsonErrorKind};
use crate::message_id::MessageId;
use crate::route::Route;
use crate::scanner::{Scanner, as_utf8, unescape};

/// The value of `v` in every frame.
pub const PROTOCOL_VERSION: u32 = 1;

/// The value of `to` in a reply. It is not a route, so the server refuses a reply that is sent back
/// to it.
pub const REPLY_ADDRESS: &str = "reply";

/// A frame that has been checked: a JSON object with exactly the members `v`, `to`, `id`, `body`
/// and, in some, `session`. Its body may be any JSON value; [`object`](Frame::object) checks that
/// it is an object.
///
/// The whole text obeys the rules of [`check_json`](crate::check_json). Further members are
/// refused, since a receiver must not ignore what it does not understand. A later version, with
/// another `v`, may add members.
///
/// `B` is the type of the body: text, or the parsed body of a channel's frame, which is read in the
/// same pass over the plaintext.
#[derive(Debug)]
pub struct Frame<'a, B = &'a str> {
    to: Cow<'a, str>,
    id: MessageId,
    session: Option<Cow<'a, str>>,
    body: B,
}

/// A frame of a channel. Its body is what one end says, or the error that makes the body invalid.
pub type ChannelMessage<'a, T> = Frame<'a, Result<T, FrameError>>;

/// The plaintext is not a frame, or not the frame that the caller expects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The plaintext breaks the rules for JSON text.
    #[error("the frame breaks the rules for JSON")]
    Json(#[from] JsonError),
    /// The plaintext is JSON, but not an object.
    #[error("the frame is not a JSON object")]
    NotAnObject,
    /// A member is missing, or its value has the wrong form.
    #[error("the frame's member `{0}` is missing or malformed")]
    Member(&'static str),
    /// There is a member that version 1 does not have.
    #[error("the frame has a member that version 1 does not have")]
    UnknownMember,
    /// The frame's `to` is not the route that it arrived at.
    #[error("the frame's member `to` does not match the route that it was sent to")]
    WrongAddress,
    /// The body is not a JSON object.
    #[error("the frame's body is not a JSON object")]
    BodyNotAnObject,
    /// The body of a batch is not a JSON array.
    #[error("the frame's body is not a JSON array")]
    BodyNotAnArray,
    /// A batch has more messages, or a frame of a channel more entries, than the receiver accepts.
    #[error("more than {messages_max} messages in one frame")]
    TooManyMessages {
        /// How many the receiver accepts.
        messages_max: usize,
    },
}

impl<'a> Frame<'a> {
    /// Reads a plaintext.
    ///
    /// # Errors
    /// All of [`FrameError`] except [`WrongAddress`](FrameError::WrongAddress),
    /// [`BodyNotAnObject`](FrameError::BodyNotAnObject),
    /// [`BodyNotAnArray`](FrameError::BodyNotAnArray) and
    /// [`TooManyMessages`](FrameError::TooManyMessages), for which other methods check.
    pub fn parse(plaintext: &'a [u8]) -> Result<Self, FrameError> {
        FrameHead::read(plaintext)?.frame()
    }

    /// The body as JSON text, if it is an object.
    ///
    /// # Errors
    /// [`FrameError::BodyNotAnObject`].
    pub fn object(&self) -> Result<&'a str, FrameError> {
        if self.body.starts_with('{') { Ok(self.body) } else { Err(FrameError::BodyNotAnObject) }
    }

    /// The messages of a batch, in order. A malformed one does not affect the others.
    ///
    /// # Errors
    /// [`FrameError::BodyNotAnArray`], or [`FrameError::TooManyMessages`] if there are more than
    /// `messages_max`.
    pub fn batch(&self, messages_max: usize) -> Result<Vec<BatchEntry<'a>>, FrameError> {
        if !self.body.starts_with('[') {
            return Err(FrameError::BodyNotAnArray);
        }
        let entries = batch::read(&mut Scanner::new(self.body), 2, messages_max)?;
        entries.ok_or(FrameError::TooManyMessages { messages_max })
    }

    /// What a client says on a channel. [`parse_channel_frame`](Frame::parse_channel_frame) reads
    /// it in one pass.
    ///
    /// # Errors
    /// Those of [`into_body`](ChannelMessage::into_body).
    pub fn channel(&self, entries_max: usize) -> Result<ChannelFrame<'a>, FrameError> {
        frame_of(channel::read_frame(&mut Scanner::new(self.body), 2, entries_max)?, entries_max)
    }

    /// What a server says on a channel. [`parse_channel_answer`](Frame::parse_channel_answer) reads
    /// it in one pass.
    ///
    /// # Errors
    /// Those of [`into_body`](ChannelMessage::into_body).
    pub fn channel_answer(&self) -> Result<ChannelAnswer<'a>, FrameError> {
        answer_of(channel::read_answer(&mut Scanner::new(self.body), 2)?)
    }
}

impl<'a> ChannelMessage<'a, ChannelFrame<'a>> {
    /// Reads a plaintext that a client sent on a channel. It may have `entries_max` entries.
    ///
    /// # Errors
    /// Those of [`Frame::parse`].
    pub fn parse_channel_frame(
        plaintext: &'a [u8],
        entries_max: usize,
    ) -> Result<Self, FrameError> {
        FrameHead::read(plaintext)?.channel_frame(entries_max)
    }
}

impl<'a> ChannelMessage<'a, ChannelAnswer<'a>> {
    /// Reads a plaintext that a server sent on a channel.
    ///
    /// # Errors
    /// Those of [`Frame::parse`].
    pub fn parse_channel_answer(plaintext: &'a [u8]) -> Result<Self, FrameError> {
        let read = |scanner: &mut Scanner<'a>| channel::read_answer(scanner, 2);
        Ok(FrameHead::read(plaintext)?.finish(read)?.map(answer_of))
    }
}

impl<T> ChannelMessage<'_, T> {
    /// What the other end says.
    ///
    /// # Errors
    /// [`FrameError::BodyNotAnObject`], [`FrameError::Member`] or [`FrameError::UnknownMember`] if
    /// the body is not that of a channel's frame, and [`FrameError::TooManyMessages`] if it has too
    /// many entries.
    pub fn into_body(self) -> Result<T, FrameError> {
        self.body
    }
}

impl<'a, B> Frame<'a, B> {
    /// The frame, if it is for `route`.
    ///
    /// # Errors
    /// [`FrameError::WrongAddress`].
    pub fn addressed_to(self, route: Route) -> Result<Self, FrameError> {
        if self.to == route.path() { Ok(self) } else { Err(FrameError::WrongAddress) }
    }

    /// The frame, if it is the reply to the request `id`.
    ///
    /// # Errors
    /// [`FrameError::WrongAddress`] if it is not a reply, or a reply to another request.
    pub fn reply_to(self, id: MessageId) -> Result<Self, FrameError> {
        if self.to == REPLY_ADDRESS && self.id == id {
            Ok(self)
        } else {
            Err(FrameError::WrongAddress)
        }
    }

    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The session token, if there is one.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    fn map<C>(self, change: impl FnOnce(B) -> C) -> Frame<'a, C> {
        let Frame { to, id, session, body } = self;
        Frame { to, id, session, body: change(body) }
    }
}

fn frame_of(
    body: Result<ChannelFrame<'_>, ChannelFrameError>,
    entries_max: usize,
) -> Result<ChannelFrame<'_>, FrameError> {
    body.map_err(|error| match error {
        ChannelFrameError::NotAnObject => FrameError::BodyNotAnObject,
        ChannelFrameError::Member(name) => FrameError::Member(name),
        ChannelFrameError::UnknownMember => FrameError::UnknownMember,
        ChannelFrameError::TooManyEntries => {
            FrameError::TooManyMessages { messages_max: entries_max }
        }
    })
}

fn answer_of(body: Option<ChannelAnswer<'_>>) -> Result<ChannelAnswer<'_>, FrameError> {
    body.ok_or(FrameError::Member("body"))
}

/// The members around the body of a frame. A receiver reads these first, to authenticate the
/// sender. It then reads the body, which may be long and hostile, with [`frame`](FrameHead::frame).
#[derive(Debug)]
pub struct FrameHead<'a> {
    /// The members that were read so far.
    members: Members<'a>,
    /// The scanner, in front of the body's value.
    rest: Scanner<'a>,
    /// The checked members, if all were read already.
    around: Option<Around<'a>>,
}

/// The members of a frame without its body, checked.
#[derive(Debug)]
struct Around<'a> {
    to: Cow<'a, str>,
    id: MessageId,
    session: Option<Cow<'a, str>>,
}

impl<'a> FrameHead<'a> {
    /// Reads the members of a plaintext without checking its body. If a member is missing before
    /// the body, the members behind the body are read too.
    ///
    /// # Errors
    /// Those of [`Frame::parse`] that concern the members around the body.
    pub fn parse(plaintext: &'a [u8]) -> Result<Self, FrameError> {
        let mut head = Self::read(plaintext)?;
        let mut members = head.members;
        if !members.are_complete() {
            members.look_behind(&head.rest)?;
        }
        head.around = Some(members.checked()?);
        Ok(head)
    }

    fn read(plaintext: &'a [u8]) -> Result<Self, FrameError> {
        let text = as_utf8(plaintext)?;
        let mut rest = Scanner::new(text);
        rest.skip_space();
        if rest.peek() != Some(b'{') {
            return Err(FrameError::NotAnObject);
        }
        rest.enter(1)?;
        let mut members = Members::default();
        let mut more = !rest.take(b'}');
        while more {
            let name = rest.name()?;
            if name == "body" {
                return Ok(FrameHead { members, rest, around: None });
            }
            members.read(&name, &mut rest)?;
            more = rest.another(b'}')?;
        }
        rest.end()?;
        members.checked()?;
        Err(FrameError::Member("body"))
    }

    /// The head, if the frame is for `route`.
    ///
    /// # Errors
    /// [`FrameError::WrongAddress`].
    pub fn addressed_to(self, route: Route) -> Result<Self, FrameError> {
        let is_for = |around: &Around<'_>| around.to == route.path();
        if self.around.as_ref().is_some_and(is_for) {
            Ok(self)
        } else {
            Err(FrameError::WrongAddress)
        }
    }

    /// The session token, if there is one.
    pub fn session(&self) -> Option<&str> {
        self.around.as_ref()?.session.as_deref()
    }

    /// Checks what has not been read yet: the body and the members behind it.
    ///
    /// # Errors
    /// Those of [`Frame::parse`].
    pub fn frame(self) -> Result<Frame<'a>, FrameError> {
        self.finish(|scanner| scanner.text(2))
    }

    /// Reads the body as what a client says on a channel, and checks the rest, in one pass.
    ///
    /// # Errors
    /// Those of [`Frame::parse`].
    pub fn channel_frame(
        self,
        entries_max: usize,
    ) -> Result<ChannelMessage<'a, ChannelFrame<'a>>, FrameError> {
        let frame = self.finish(|scanner| channel::read_frame(scanner, 2, entries_max))?;
        Ok(frame.map(|body| frame_of(body, entries_max)))
    }

    /// Reads the body with `read_body`, and checks the members behind it.
    fn finish<B>(
        self,
        read_body: impl FnOnce(&mut Scanner<'a>) -> Result<B, JsonError>,
    ) -> Result<Frame<'a, B>, FrameError> {
        let FrameHead { mut members, mut rest, around } = self;
        let body = read_body(&mut rest)?;
        while rest.another(b'}')? {
            let name = rest.name()?;
            if name == "body" {
                return Err(rest.error(JsonErrorKind::DuplicateName).into());
            }
            members.read(&name, &mut rest)?;
        }
        rest.end()?;
        let Around { to, id, session } = match around {
            Some(around) => around,
            None => members.checked()?,
        };
        Ok(Frame { to, id, session, body })
    }
}

/// The members of a frame without its body, as text.
#[derive(Clone, Copy, Debug, Default)]
struct Members<'a> {
    version: Option<&'a str>,
    to: Option<&'a str>,
    id: Option<&'a str>,
    session: Option<&'a str>,
}

impl<'a> Members<'a> {
    /// Steps over the value of a member and keeps it. An unknown member, or a value that is an
    /// object or an array, is refused before its content is scanned: it may be long and hostile.
    fn read(&mut self, name: &str, scanner: &mut Scanner<'a>) -> Result<(), FrameError> {
        let (member, name) = match name {
            "v" => (&mut self.version, "v"),
            "to" => (&mut self.to, "to"),
            "id" => (&mut self.id, "id"),
            "session" => (&mut self.session, "session"),
            _ => return Err(FrameError::UnknownMember),
        };
        if let Some(b'{' | b'[') = scanner.peek() {
            return Err(FrameError::Member(name));
        }
        let value = scanner.text(2)?;
        if member.replace(value).is_some() {
            return Err(scanner.error(JsonErrorKind::DuplicateName).into());
        }
        Ok(())
    }

    /// Reads the members behind the body. The body is stepped over, not checked.
    fn look_behind(&mut self, body: &Scanner<'a>) -> Result<(), FrameError> {
        let mut behind = body.behind_the_value()?;
        while behind.another(b'}')? {
            let name = behind.name()?;
            if name == "body" {
                return Err(behind.error(JsonErrorKind::DuplicateName).into());
            }
            self.read(&name, &mut behind)?;
        }
        Ok(())
    }

    fn are_complete(&self) -> bool {
        self.version.and(self.to).and(self.id).and(self.session).is_some()
    }

    fn checked(self) -> Result<Around<'a>, FrameError> {
        let string = |value: &'a str| value.starts_with('"').then(|| unescape(value));
        if self.version.and_then(|value| value.parse().ok()) != Some(PROTOCOL_VERSION) {
            return Err(FrameError::Member("v"));
        }
        Ok(Around {
            to: self.to.and_then(string).ok_or(FrameError::Member("to"))?,
            id: self
                .id
                .and_then(string)
                .and_then(|id| id.parse().ok())
                .ok_or(FrameError::Member("id"))?,
            session: match self.session {
                None => None,
                Some(session) => Some(string(session).ok_or(FrameError::Member("session"))?),
            },
        })
    }
}

/// Appends a frame to `buffer`. `to` is a route's path or [`REPLY_ADDRESS`]; `body` is JSON text.
pub fn write_frame(
    buffer: &mut Vec<u8>,
    to: &str,
    id: MessageId,
    session: Option<&str>,
    body: &str,
) {
    buffer.reserve(body.len() + session.map_or(0, str::len) + to.len() + 96);
    write_frame_around(buffer, to, id, session, |buffer| buffer.extend_from_slice(body.as_bytes()));
}

/// Appends a frame to `buffer`, like [`write_frame`]. `write_body` appends the body's JSON text, so
/// that a long body needs no buffer of its own.
pub fn write_frame_around(
    buffer: &mut Vec<u8>,
    to: &str,
    id: MessageId,
    session: Option<&str>,
    write_body: impl FnOnce(&mut Vec<u8>),
) {
    buffer.extend_from_slice(br#"{"v":1,"to":"#);
    write_string(buffer, to);
    buffer.extend_from_slice(br#","id":""#);
    id.write_text(buffer);
    buffer.push(b'"');
    if let Some(session) = session {
        buffer.extend_from_slice(br#","session":"#);
        write_string(buffer, session);
    }
    buffer.extend_from_slice(br#","body":"#);
    write_body(buffer);
    buffer.push(b'}');
}

fn write_string(buffer: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(buffer, text).expect("writing a string into memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{fits_an_entry, write_channel_frame};
    use crate::entry::write_channel_entry;

    const ID: &str = "00112233-4455-4677-8899-aabbccddeeff";

    fn written(session: Option<&str>, body: &str) -> String {
        let mut buffer = Vec::new();
        write_frame(&mut buffer, "/message/submit", ID.parse().unwrap(), session, body);
        String::from_utf8(buffer).unwrap()
    }

    fn refusal(text: &str) -> FrameError {
        Frame::parse(text.as_bytes()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn the_wire_form_is_stable() {
        assert_eq!(
            written(Some("tok"), r#"{"test":1}"#),
            r#"{"v":1,"to":"/message/submit","id":"00112233-4455-4677-8899-aabbccddeeff","session":"tok","body":{"test":1}}"#
        );
        assert_eq!(
            written(None, "{}"),
            r#"{"v":1,"to":"/message/submit","id":"00112233-4455-4677-8899-aabbccddeeff","body":{}}"#
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let text = written(Some("tok\"en"), r#"{"a": [1, 2]}"#);
        let frame =
            Frame::parse(text.as_bytes()).unwrap().addressed_to(Route::MessageSubmit).unwrap();
        assert_eq!(frame.id().to_string(), ID);
        assert_eq!(frame.session(), Some("tok\"en"));
        assert_eq!(frame.object(), Ok(r#"{"a": [1, 2]}"#), "the body is the text that was sent");
    }

    #[test]
    fn members_may_come_in_any_order_with_space_and_escapes() {
        let text = format!(
            " {{ \"body\" : {{}} ,\n\"i\\u0064\":\"{ID}\",\"to\":\"\\/message\\/submit\",\"v\":1 }} "
        );
        let frame =
            Frame::parse(text.as_bytes()).unwrap().addressed_to(Route::MessageSubmit).unwrap();
        assert_eq!(frame.object(), Ok("{}"));
        assert_eq!(frame.session(), None);
    }

    #[test]
    fn an_empty_object_is_a_body() {
        assert_eq!(Frame::parse(written(None, "{}").as_bytes()).unwrap().object(), Ok("{}"));
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_as_such() {
        for body in ["[]", "1", "\"x\"", "null", "true"] {
            let text = written(None, body);
            assert_eq!(
                Frame::parse(text.as_bytes()).unwrap().object(),
                Err(FrameError::BodyNotAnObject),
                "{body}"
            );
        }
    }

    #[test]
    fn a_frame_for_another_route_is_refused() {
        let text = written(None, "{}");
        let frame = Frame::parse(text.as_bytes()).unwrap();
        assert_eq!(
            frame.addressed_to(Route::ClientAuth).map(|_| ()),
            Err(FrameError::WrongAddress)
        );
    }

    #[test]
    fn a_reply_belongs_to_one_request_and_is_no_request() {
        let id: MessageId = ID.parse().unwrap();
        let mut buffer = Vec::new();
        write_frame(&mut buffer, REPLY_ADDRESS, id, None, "{}");
        let parse = || Frame::parse(&buffer).unwrap();
        assert!(parse().reply_to(id).is_ok());
        assert!(parse().reply_to(MessageId::from_random([0; 16])).is_err());
        assert!(Route::ALL.into_iter().all(|route| parse().addressed_to(route).is_err()));
        assert!(Frame::parse(written(None, "{}").as_bytes()).unwrap().reply_to(id).is_err());
    }

    #[test]
    fn missing_and_malformed_members_are_named() {
        let id = format!(r#""id":"{ID}""#);
        for (text, member) in [
            (format!(r#"{{"to":"x",{id},"body":{{}}}}"#), "v"),
            (format!(r#"{{"v":2,"to":"x",{id},"body":{{}}}}"#), "v"),
            (format!(r#"{{"v":"1","to":"x",{id},"body":{{}}}}"#), "v"),
            (format!(r#"{{"v":1.0,"to":"x",{id},"body":{{}}}}"#), "v"),
            (format!(r#"{{"v":1,{id},"body":{{}}}}"#), "to"),
            (format!(r#"{{"v":1,"to":null,{id},"body":{{}}}}"#), "to"),
            (r#"{"v":1,"to":"x","body":{}}"#.to_owned(), "id"),
            (r#"{"v":1,"to":"x","id":"1","body":{}}"#.to_owned(), "id"),
            (r#"{"v":1,"to":"x","id":7,"body":{}}"#.to_owned(), "id"),
            (format!(r#"{{"v":1,"to":"x",{id}}}"#), "body"),
            (format!(r#"{{"v":1,"to":"x",{id},"session":null,"body":{{}}}}"#), "session"),
        ] {
            assert_eq!(refusal(&text), FrameError::Member(member), "{text}");
        }
    }

    #[test]
    fn a_member_of_no_known_name_is_refused() {
        assert_eq!(
            refusal(&format!(r#"{{"v":1,"to":"x","id":"{ID}","body":{{}},"more":1}}"#)),
            FrameError::UnknownMember
        );
    }

    #[test]
    fn a_plaintext_that_is_no_object_is_refused() {
        for text in ["[]", "1", "\"v\"", "null", "", "hello", "\u{80}\u{4}pickle"] {
            assert_eq!(refusal(text), FrameError::NotAnObject, "{text}");
        }
        assert!(matches!(refusal("{"), FrameError::Json(_)));
    }

    #[test]
    fn what_json_leaves_open_is_refused_inside_the_body() {
        for (body, kind) in [
            (r#"{"a":1,"a":2}"#, JsonErrorKind::DuplicateName),
            (r#"{"a":18446744073709551616}"#, JsonErrorKind::IntegerTooLarge),
            (r#"{"a":NaN}"#, JsonErrorKind::Syntax),
            (r#"{"a":"\ud800"}"#, JsonErrorKind::LoneSurrogate),
        ] {
            let FrameError::Json(error) = refusal(&written(None, body)) else {
                panic!("{body} passed")
            };
            assert_eq!(error.kind, kind, "{body}");
        }
    }

    #[test]
    fn a_second_body_is_refused() {
        let text = format!(r#"{{"v":1,"to":"x","id":"{ID}","body":{{}},"b\u006fdy":{{"x":1}}}}"#);
        assert!(
            matches!(refusal(&text), FrameError::Json(error) if error.kind == JsonErrorKind::DuplicateName)
        );
    }

    /// Frames with this body and valid other members: before the body, behind it, and on both
    /// sides.
    fn around(body: &str) -> [String; 3] {
        let (v, id) = (r#""v":1"#, format!(r#""id":"{ID}""#));
        let (to, session) = (r#""to":"/message/submit""#, r#""session":"tok\u0065n""#);
        [
            format!(r#"{{{v},{to},{id},{session},"body":{body}}}"#),
            format!(r#"{{"body":{body} , {session},{id},{to},{v}}}"#),
            format!(r#"{{{to},"body":{body},{v},{session} ,{id}}}"#),
        ]
    }

    #[test]
    fn what_stands_around_a_body_is_known_before_the_body_is_gone_through() {
        for body in ["{}", r#"{"a":"}\"]{","b":[[],{"c":1}]}"#, "[1,2]", "1.5", "\"x,y\""] {
            for text in around(body) {
                let head = FrameHead::parse(text.as_bytes()).unwrap();
                assert_eq!(head.session(), Some("token"));
                let frame = head.addressed_to(Route::MessageSubmit).unwrap().frame().unwrap();
                assert_eq!(
                    (frame.body, frame.session(), frame.id().to_string().as_str()),
                    (body, Some("token"), ID)
                );
            }
        }
        for body in [r#"{"a":1,"a":2}"#, r#"{"a":NaN}"#, "{]", "nul"] {
            for text in around(body) {
                let head = FrameHead::parse(text.as_bytes()).unwrap();
                assert_eq!(head.session(), Some("token"), "{text}");
                assert!(matches!(head.frame(), Err(FrameError::Json(_))), "{text}");
            }
        }
    }

    #[test]
    fn a_head_without_a_session_has_none_wherever_it_was_looked_for() {
        let text = written(None, r#"{"session":"inner"}"#);
        assert_eq!(FrameHead::parse(text.as_bytes()).unwrap().session(), None);
        let behind = format!(r#"{{"body":{{"session":"inner"}},"v":1,"to":"x","id":"{ID}"}}"#);
        let head = FrameHead::parse(behind.as_bytes()).unwrap();
        assert_eq!(head.session(), None);
        assert!(matches!(head.addressed_to(Route::MessageSubmit), Err(FrameError::WrongAddress)));
    }

    #[test]
    fn an_object_where_none_belongs_is_refused_before_it_is_gone_through() {
        let hostile = r#"{"a":1,"a":NaN"#;
        for (text, error) in [
            (format!(r#"{{"more":{hostile}"#), FrameError::UnknownMember),
            (format!(r#"{{"v":{hostile}"#), FrameError::Member("v")),
            (format!(r#"{{"body":{{}},"more":{hostile}"#), FrameError::UnknownMember),
            (format!(r#"{{"body":{{}},"session":{hostile}"#), FrameError::Member("session")),
            (format!(r#"[{hostile}"#), FrameError::NotAnObject),
        ] {
            assert_eq!(FrameHead::parse(text.as_bytes()).map(drop), Err(error.clone()), "{text}");
            assert_eq!(refusal(&text), error, "{text}");
        }
    }

    #[test]
    fn a_member_that_comes_twice_is_refused_on_either_side_of_the_body() {
        for text in [
            format!(r#"{{"v":1,"v":1,"to":"x","id":"{ID}","body":{{}}}}"#),
            format!(r#"{{"v":1,"to":"x","id":"{ID}","session":"a","body":{{}},"session":"b"}}"#),
            format!(
                r#"{{"v":1,"to":"x","id":"{ID}","body":{{}},"session":"a","s\u0065ssion":"b"}}"#
            ),
            format!(r#"{{"body":{{}},"v":1,"to":"x","id":"{ID}","body":{{}}}}"#),
        ] {
            let whole = FrameHead::parse(text.as_bytes()).and_then(FrameHead::frame).map(drop);
            for error in [refusal(&text), whole.unwrap_err()] {
                let FrameError::Json(error) = error else { panic!("{error}: {text}") };
                assert_eq!(error.kind, JsonErrorKind::DuplicateName, "{text}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_frame_read_in_two_steps_is_the_one_read_in_one(text in frame_like()) {
            let (one, two) = (
                Frame::parse(text.as_bytes()),
                FrameHead::parse(text.as_bytes()).and_then(FrameHead::frame),
            );
            match (one, two) {
                (Ok(one), Ok(two)) => proptest::prop_assert_eq!(format!("{one:?}"), format!("{two:?}")),
                (one, two) => proptest::prop_assert!(one.is_err() && two.is_err(), "{:?}", text),
            }
        }
    }

    /// Texts that are frames, or almost.
    fn frame_like() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let member = prop_oneof![
            Just(r#""v":1"#.to_owned()),
            Just(r#""to":"x""#.to_owned()),
            Just(format!(r#""id":"{ID}""#)),
            Just(r#""session":"s""#.to_owned()),
            Just(r#""body":{"a":[{"b":"}"}]}"#.to_owned()),
            Just(r#""body":[1,2]"#.to_owned()),
            Just(r#""body":{"a":1"#.to_owned()),
            Just("\"".to_owned()),
        ];
        proptest::collection::vec(member, 3..7)
            .prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    #[test]
    fn a_body_fits_an_entry_as_long_as_the_frame_around_it_is_taken() {
        let nested = |levels: usize| {
            format!("{}{{}}{}", r#"{"a":"#.repeat(levels - 1), "}".repeat(levels - 1))
        };
        let is_taken = |body: &str| {
            let (mut plaintext, id) = (Vec::new(), MessageId::from_random([1; 16]));
            write_frame_around(&mut plaintext, Route::MessageChannel.path(), id, None, |buffer| {
                write_channel_frame(buffer, 0, None, |buffer| {
                    write_channel_entry(buffer, id, body, None)
                });
            });
            Frame::parse(&plaintext).is_ok()
        };
        for levels in [1, 2, 123, 124, 125, 126, 127] {
            let body = nested(levels);
            assert_eq!(
                (fits_an_entry(&body), is_taken(&body)),
                (levels <= 124, levels <= 124),
                "{levels}"
            );
        }
        let wide = format!(r#"{{"a":["[[[[\\\"{{",{}{{}}]}}"#, "[1],".repeat(200));
        assert!(fits_an_entry(&wide) && is_taken(&wide));
    }

    #[test]
    fn the_deepest_body_that_passes_is_one_that_serde_json_reads() {
        let body = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let text = written(None, &body(127));
        let deepest = Frame::parse(text.as_bytes()).unwrap().object().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(deepest).is_ok());
        assert!(
            matches!(refusal(&written(None, &body(128))), FrameError::Json(error) if error.kind == JsonErrorKind::TooDeep)
        );
    }
}
