//! Reads any plaintext as a frame of a POST route: a message, a login, a batch. The result must be
//! that of serde_json by the rules of `docs/protocol.md`.

#![cfg_attr(fuzzing, no_main)]

use ipc_fuzz::{frame_of_serde_json, has_only, is_id, refused_as_serde_json_does};
use ipc_protocol::{
    AuthRequest, Frame, FrameError, FrameHead, MessageId, REPLY_ADDRESS, Route, check_json,
    write_batch, write_frame,
};
use serde_json::{Value, json};

ipc_fuzz::target!(frame);

/// How many messages a batch may have here. The limit is low, so that short inputs exceed it.
const MESSAGES_MAX: usize = 8;

fn frame(plaintext: &[u8]) -> bool {
    let head = FrameHead::parse(plaintext);
    let frame = match Frame::parse(plaintext) {
        Ok(frame) => frame,
        Err(error) => {
            // The head alone may be accepted, since it does not check the body. Reading the rest
            // must then fail.
            if let Ok(head) = head {
                assert!(head.frame().is_err());
            }
            refused_as_serde_json_does(plaintext, &error);
            return false;
        }
    };
    let head = head.expect("it is the head of a good frame");
    assert_eq!(head.session(), frame.session());
    let in_two_steps = head.frame().expect("it is a good frame");
    assert_eq!((in_two_steps.id(), in_two_steps.object()), (frame.id(), frame.object()));

    let address = address(plaintext);
    let batch = frame.batch(MESSAGES_MAX);
    if let Some(theirs) = frame_of_serde_json(plaintext) {
        let id = theirs["id"].as_str().expect("an id is a string");
        assert_eq!(frame.id().to_string(), id.to_lowercase());
        assert_eq!(frame.session(), theirs.get("session").and_then(Value::as_str));
        let to = theirs["to"].as_str();
        assert_eq!(address.as_deref(), to.filter(|to| is_known(to)));
        assert_eq!(
            frame.object().ok().map(parsed),
            Some(&theirs["body"]).filter(|body| body.is_object()).cloned()
        );
        assert_eq!(batch.as_ref().ok().map(as_value), batch_of_serde_json(&theirs["body"]));
        login(&frame, &theirs["body"]);
    }
    if let Ok(object) = frame.object() {
        let mut again = Vec::new();
        write_frame(&mut again, Route::MessageSubmit.path(), frame.id(), frame.session(), object);
        let again = Frame::parse(&again).expect("what was written is a frame");
        assert_eq!(
            (again.id(), again.session(), again.object()),
            (frame.id(), frame.session(), Ok(object))
        );
        assert_eq!(check_json(object.as_bytes()), Ok(object));
    }
    if let Ok(batch) = batch {
        written_again(batch.into_iter().flatten().collect());
    }
    true
}

/// The address of a frame: the path of a route, or `reply`.
fn address(plaintext: &[u8]) -> Option<String> {
    let frame = || Frame::parse(plaintext).expect("it was read before");
    let routes = Route::ALL.into_iter().filter(|route| frame().addressed_to(*route).is_ok());
    let is_reply = frame().reply_to(frame().id()).is_ok();
    let mut found = routes.map(Route::path).chain(is_reply.then_some(REPLY_ADDRESS));
    let address = found.next().map(str::to_owned);
    assert_eq!(found.next(), None, "a frame is for one route");
    address
}

fn is_known(to: &str) -> bool {
    to == REPLY_ADDRESS || Route::ALL.iter().any(|route| route.path() == to)
}

/// Reads the frame's body as a login. That must succeed exactly if the body has the members of a
/// login, and must give their values.
fn login(frame: &Frame<'_>, theirs: &Value) {
    let Ok(object) = frame.object() else { return };
    let members = theirs.as_object().expect("the body is an object");
    let is_login = has_only(members, &["username", "password"])
        && theirs["username"].is_string()
        && theirs["password"].is_string();
    let ours = serde_json::from_str::<AuthRequest>(object);
    assert_eq!(ours.is_ok(), is_login);
    if let Ok(ours) = ours {
        assert_eq!(Some(ours.username.as_str()), theirs["username"].as_str());
        assert_eq!(Some(ours.password.as_str()), theirs["password"].as_str());
    }
}

fn as_value(batch: &Vec<ipc_protocol::BatchEntry<'_>>) -> Value {
    let entries = batch.iter().map(|entry| match entry {
        Ok((id, body)) => json!([id.to_string(), parsed(body)]),
        Err(code) => json!(code.as_str()),
    });
    Value::Array(entries.collect())
}

/// Reads a batch by the rules of `docs/protocol.md`. Returns `None` if the body is not a batch or
/// is too long.
fn batch_of_serde_json(body: &Value) -> Option<Value> {
    let entries = body.as_array().filter(|entries| entries.len() <= MESSAGES_MAX)?;
    let entries = entries.iter().map(|entry| {
        // With `reply_wait_ms` the entry would be a request, and a batch has no requests.
        let Some(members) = entry.as_object().filter(|members| {
            has_only(members, &["id", "body"])
                && members.get("id").is_some_and(is_id)
                && members.contains_key("body")
        }) else {
            return json!(code_of_a_bad_entry(entry));
        };
        if !members["body"].is_object() {
            return json!("not_an_object");
        }
        json!([members["id"].as_str().expect("it is an id").to_lowercase(), members["body"]])
    });
    Some(Value::Array(entries.collect()))
}

/// The code for a malformed entry of a batch. An entry with `reply_wait_ms` is read as an entry of
/// a channel first, and then refused.
fn code_of_a_bad_entry(entry: &Value) -> &'static str {
    let is_request = entry.as_object().is_some_and(|members| {
        has_only(members, &["id", "body", "reply_wait_ms"])
            && members.get("id").is_some_and(is_id)
            && members.get("reply_wait_ms").is_some_and(Value::is_u64)
            && members.get("body").is_some_and(|body| !body.is_object())
    });
    if is_request { "not_an_object" } else { "malformed_frame" }
}

fn written_again(messages: Vec<(MessageId, &str)>) {
    let mut body = Vec::new();
    write_batch(&mut body, messages.iter().copied());
    let body = String::from_utf8(body).expect("JSON is UTF-8");
    let mut plaintext = Vec::new();
    let id = MessageId::from_bytes([7; 16]);
    write_frame(&mut plaintext, Route::MessageBatch.path(), id, None, &body);
    let again = Frame::parse(&plaintext).and_then(|frame| frame.batch(MESSAGES_MAX));
    let expected: Result<Vec<_>, FrameError> = Ok(messages.into_iter().map(Ok).collect());
    assert_eq!(again, expected);
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("a part of what serde_json has read")
}
