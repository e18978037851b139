//! Frames: the JSON inside an envelope. Reading one is a single pass that leaves the body as the text it is.

use std::borrow::Cow;

use crate::json::{JsonError, check_members, unescape};
use crate::{BatchEntry, MessageId, PROTOCOL_VERSION, Route, batch};

/// What a reply has in `to`. It is no route, so that a reply sent back to the server is refused there.
pub const REPLY_ADDRESS: &str = "reply";

/// A frame that has been checked: a JSON object with exactly the members `v`, `to`, `id`, `body` and, in some,
/// `session`. Its body is any JSON value until [`object`](Frame::object) has looked.
///
/// The whole text obeys the rules of [`check_json`](crate::check_json). Further members are refused: what a
/// receiver does not understand must not go unnoticed, and `v` is there to add some.
#[derive(Debug)]
pub struct Frame<'a> {
    to: Cow<'a, str>,
    id: MessageId,
    session: Option<Cow<'a, str>>,
    body: &'a str,
}

/// A plaintext that is no frame, or not the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The plaintext breaks the rules for JSON text.
    #[error("the frame holds {0}")]
    Json(#[from] JsonError),
    /// The plaintext is JSON but no object.
    #[error("the frame is not a JSON object")]
    NotAnObject,
    /// A member is missing, or has a value of the wrong form.
    #[error("the frame's member `{0}` is missing or malformed")]
    Member(&'static str),
    /// There is a member that version 1 does not have.
    #[error("the frame has a member that version 1 does not have")]
    UnknownMember,
    /// The frame names another route than the one it arrived at.
    #[error("the frame is for another route than the one it was sent to")]
    WrongAddress,
    /// The body is not a JSON object.
    #[error("the frame's body is not a JSON object")]
    BodyNotAnObject,
    /// The body of a batch is not a JSON array.
    #[error("the frame's body is not a JSON array")]
    BodyNotAnArray,
}

impl<'a> Frame<'a> {
    /// Reads a plaintext.
    ///
    /// # Errors
    /// All of [`FrameError`] but [`WrongAddress`](FrameError::WrongAddress),
    /// [`BodyNotAnObject`](FrameError::BodyNotAnObject) and [`BodyNotAnArray`](FrameError::BodyNotAnArray), which have
    /// methods of their own.
    pub fn parse(plaintext: &'a [u8]) -> Result<Self, FrameError> {
        let (mut version, mut to, mut id, mut session, mut body) = (None, None, None, None, None);
        let mut unknown_member = false;
        let text = check_members(plaintext, |name, value| match name.as_ref() {
            "v" => version = Some(value),
            "to" => to = Some(value),
            "id" => id = Some(value),
            "session" => session = Some(value),
            "body" => body = Some(value),
            _ => unknown_member = true,
        })?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(FrameError::NotAnObject);
        }
        if unknown_member {
            return Err(FrameError::UnknownMember);
        }
        let string = |value: Option<&'a str>| value.filter(|value| value.starts_with('"')).map(unescape);
        if version.and_then(|value| value.parse().ok()) != Some(PROTOCOL_VERSION) {
            return Err(FrameError::Member("v"));
        }
        Ok(Frame {
            to: string(to).ok_or(FrameError::Member("to"))?,
            id: string(id).and_then(|id| id.parse().ok()).ok_or(FrameError::Member("id"))?,
            session: match session {
                None => None,
                present => Some(string(present).ok_or(FrameError::Member("session"))?),
            },
            body: body.ok_or(FrameError::Member("body"))?,
        })
    }

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
    /// [`FrameError::WrongAddress`] if it is no reply, or one to another request.
    pub fn reply_to(self, id: MessageId) -> Result<Self, FrameError> {
        if self.to == REPLY_ADDRESS && self.id == id { Ok(self) } else { Err(FrameError::WrongAddress) }
    }

    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The session token, if there is one.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The body as JSON text, if it is an object.
    ///
    /// # Errors
    /// [`FrameError::BodyNotAnObject`].
    pub fn object(&self) -> Result<&'a str, FrameError> {
        if self.body.starts_with('{') { Ok(self.body) } else { Err(FrameError::BodyNotAnObject) }
    }

    /// The messages of a batch, in order; each good or bad for itself.
    ///
    /// # Errors
    /// [`FrameError::BodyNotAnArray`].
    pub fn batch(&self) -> Result<Vec<BatchEntry<'a>>, FrameError> {
        if self.body.starts_with('[') {
            Ok(batch::entries(self.body))
        } else {
            Err(FrameError::BodyNotAnArray)
        }
    }
}

/// Appends a frame to `buffer`. `to` is a route's path or [`REPLY_ADDRESS`]; `body` is JSON text.
pub fn write_frame(buffer: &mut Vec<u8>, to: &str, id: MessageId, session: Option<&str>, body: &str) {
    buffer.reserve(body.len() + session.map_or(0, str::len) + to.len() + 96);
    write_frame_around(buffer, to, id, session, |buffer| buffer.extend_from_slice(body.as_bytes()));
}

/// Appends a frame to `buffer`, like [`write_frame`], whose body is the JSON text that `write_body` appends: a long one need
/// not be put together elsewhere first.
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
    use crate::JsonErrorKind;

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
        let frame = Frame::parse(text.as_bytes()).unwrap().addressed_to(Route::MessageSubmit).unwrap();
        assert_eq!(frame.id().to_string(), ID);
        assert_eq!(frame.session(), Some("tok\"en"));
        assert_eq!(frame.object(), Ok(r#"{"a": [1, 2]}"#), "the body is the text that was sent");
    }

    #[test]
    fn members_may_come_in_any_order_with_space_and_escapes() {
        let text = format!(
            " {{ \"body\" : {{}} ,\n\"i\\u0064\":\"{ID}\",\"to\":\"\\/message\\/submit\",\"v\":1 }} "
        );
        let frame = Frame::parse(text.as_bytes()).unwrap().addressed_to(Route::MessageSubmit).unwrap();
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
        assert_eq!(frame.addressed_to(Route::ClientAuth).map(|_| ()), Err(FrameError::WrongAddress));
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
        for text in ["[]", "1", "\"v\"", "null"] {
            assert_eq!(refusal(text), FrameError::NotAnObject, "{text}");
        }
        assert!(matches!(refusal("\u{80}\u{4}pickle"), FrameError::Json(_)));
    }

    #[test]
    fn what_json_leaves_open_is_refused_inside_the_body() {
        for (body, kind) in [
            (r#"{"a":1,"a":2}"#, JsonErrorKind::DuplicateName),
            (r#"{"a":18446744073709551616}"#, JsonErrorKind::IntegerTooLarge),
            (r#"{"a":NaN}"#, JsonErrorKind::Syntax),
            (r#"{"a":"\ud800"}"#, JsonErrorKind::LoneSurrogate),
        ] {
            let FrameError::Json(error) = refusal(&written(None, body)) else { panic!("{body} passed") };
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
