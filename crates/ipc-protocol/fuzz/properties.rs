//! What holds for whatever plaintext an end of a channel is sent. A fuzzer comes here
//! (`fuzz/targets`), and so do the tests (`tests/fuzz.rs`).
//!
//! Each function panics where something does not hold: the frame that is read in one pass is the
//! one that is read in two; what is taken is what serde_json reads, by the rules of
//! `docs/protocol.md`, and what is not taken breaks one of them; what is written of it reads the
//! same.

use ipc_protocol::{
    ChannelAnswer, ChannelFrame, Frame, FrameError, JsonErrorKind, MessageId, REPLY_ADDRESS, Route,
    write_channel_answer, write_channel_entry, write_channel_frame, write_frame_around,
};
use serde_json::{Map, Value, json};

/// How many entries a frame may have here. Few, so that short inputs have too many.
const ENTRIES_MAX: usize = 16;

/// What a client may say. Returns whether it is taken.
pub fn client_frame(plaintext: &[u8]) -> bool {
    let frame = match (Frame::parse_channel_frame(plaintext, ENTRIES_MAX), Frame::parse(plaintext))
    {
        (Ok(frame), Ok(in_two_passes)) => {
            assert_eq!(frame.id(), in_two_passes.id());
            assert_eq!(frame.session(), in_two_passes.session());
            let body_in_two_passes = in_two_passes.channel(ENTRIES_MAX);
            let is_addressed = frame_is_addressed(plaintext);
            assert_eq!(is_addressed, in_two_passes.addressed_to(Route::MessageChannel).is_ok());
            let body = frame.into_body();
            assert_eq!(body, body_in_two_passes);
            body
        }
        (Err(one), Err(two)) => {
            assert_eq!(one, two);
            refused_as_serde_json_does(plaintext, &one);
            return false;
        }
        (one, two) => panic!("one pass: {one:?}; two: {two:?}"),
    };
    if let Some(theirs) = frame_of_serde_json(plaintext) {
        assert_eq!(frame.as_ref().ok().map(client_as_value), client_of_serde_json(&theirs["body"]));
    }
    let Ok(frame) = frame else { return false };
    assert!(frame.entries.len() <= ENTRIES_MAX);
    read_again_as_written(&frame);
    true
}

/// What a server may say. Returns whether it is taken.
pub fn server_frame(plaintext: &[u8]) -> bool {
    let answer = match (Frame::parse_channel_answer(plaintext), Frame::parse(plaintext)) {
        (Ok(frame), Ok(in_two_passes)) => {
            assert_eq!(frame.id(), in_two_passes.id());
            assert_eq!(frame.session(), in_two_passes.session());
            let answer = frame.into_body();
            assert_eq!(answer, in_two_passes.channel_answer());
            answer
        }
        (Err(one), Err(two)) => {
            assert_eq!(one, two);
            refused_as_serde_json_does(plaintext, &one);
            return false;
        }
        (one, two) => panic!("one pass: {one:?}; two: {two:?}"),
    };
    if let Some(theirs) = frame_of_serde_json(plaintext) {
        let ours = answer.as_ref().ok().map(server_as_value);
        // A code has no escapes, which serde_json does not tell.
        if ours.is_some() || !plaintext.contains(&b'\\') {
            assert_eq!(ours, server_of_serde_json(&theirs["body"]));
        }
    }
    let Ok(answer) = answer else { return false };
    let mut again = Vec::new();
    write_frame_around(&mut again, REPLY_ADDRESS, id(), None, |body| {
        write_channel_answer(body, &answer)
    });
    assert_eq!(Frame::parse_channel_answer(&again).and_then(Frame::into_body), Ok(answer));
    true
}

fn id() -> MessageId {
    MessageId::from_bytes([7; 16])
}

fn frame_is_addressed(plaintext: &[u8]) -> bool {
    let frame = Frame::parse_channel_frame(plaintext, ENTRIES_MAX).expect("it was read before");
    frame.addressed_to(Route::MessageChannel).is_ok()
}

/// Writes what was read, but for bad entries, and reads it again.
fn read_again_as_written(frame: &ChannelFrame<'_>) {
    let good: Vec<_> = frame.entries.iter().flatten().collect();
    let mut again = Vec::new();
    write_frame_around(&mut again, Route::MessageChannel.path(), id(), None, |body| {
        write_channel_frame(body, frame.first, frame.resume, |body| {
            for (index, entry) in good.iter().enumerate() {
                body.extend_from_slice(if index > 0 { b"," } else { b"" });
                write_channel_entry(body, entry.id, entry.body, entry.reply_wait);
            }
        });
    });
    let again = Frame::parse_channel_frame(&again, ENTRIES_MAX).and_then(Frame::into_body);
    let again = again.expect("what was written is a frame");
    assert_eq!((again.first, again.resume), (frame.first, frame.resume));
    assert_eq!(again.entries.iter().flatten().collect::<Vec<_>>(), good);
    assert_eq!(again.entries.len(), good.len());
}

/// What is no JSON to us is none to serde_json. Some of what is JSON to it breaks a rule that it
/// does not have.
fn refused_as_serde_json_does(plaintext: &[u8], error: &FrameError) {
    let FrameError::Json(error) = error else { return };
    if let JsonErrorKind::NotUtf8 | JsonErrorKind::Syntax | JsonErrorKind::Truncated = error.kind {
        assert!(
            serde_json::from_slice::<Value>(plaintext).is_err(),
            "we refuse what serde_json takes"
        );
    }
}

/// A frame that we have taken; `None` where it has a level more than serde_json goes down.
fn frame_of_serde_json(plaintext: &[u8]) -> Option<Value> {
    match serde_json::from_slice::<Value>(plaintext) {
        Err(error) if error.to_string().starts_with("recursion limit") => None,
        theirs => {
            let theirs = theirs.expect("we take what serde_json takes");
            let members = theirs.as_object().expect("a frame is an object");
            assert!(has_only(members, &["v", "to", "id", "session", "body"]));
            assert!(
                theirs["v"].as_u64() == Some(1) && theirs["to"].is_string() && is_id(&theirs["id"])
            );
            assert!(
                members.get("session").is_none_or(Value::is_string) && members.contains_key("body")
            );
            Some(theirs)
        }
    }
}

fn has_only(members: &Map<String, Value>, names: &[&str]) -> bool {
    members.keys().all(|name| names.contains(&name.as_str()))
}

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok())
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("a part of what serde_json has read")
}

fn client_as_value(frame: &ChannelFrame<'_>) -> Value {
    let entries = frame.entries.iter().map(|entry| match entry {
        Ok(entry) => {
            let wait =
                entry.reply_wait.map(|wait| u64::try_from(wait.as_millis()).expect("64 bits"));
            json!([entry.id.to_string(), parsed(entry.body), wait])
        }
        Err(code) => json!(code.as_str()),
    });
    json!([frame.first, frame.resume, entries.collect::<Vec<_>>()])
}

/// The page's rules for the body of a client's frame.
fn client_of_serde_json(body: &Value) -> Option<Value> {
    let members =
        body.as_object().filter(|members| has_only(members, &["first", "resume", "entries"]))?;
    let first = members.get("first")?.as_u64()?;
    let resume = match members.get("resume") {
        Some(resume) => Some(resume.as_u64()?),
        None => None,
    };
    let entries =
        members.get("entries")?.as_array().filter(|entries| entries.len() <= ENTRIES_MAX)?;
    let entries: Vec<Value> = entries.iter().map(entry_of_serde_json).collect();
    Some(json!([first, resume, entries]))
}

fn entry_of_serde_json(entry: &Value) -> Value {
    let is_good = |members: &&Map<String, Value>| {
        has_only(members, &["id", "body", "reply_wait_ms"])
            && members.get("id").is_some_and(is_id)
            && members.contains_key("body")
            && members.get("reply_wait_ms").is_none_or(Value::is_u64)
    };
    match entry.as_object().filter(is_good) {
        None => json!("malformed_frame"),
        Some(members) if !members["body"].is_object() => json!("not_an_object"),
        Some(members) => {
            let id = members["id"].as_str().expect("an id is a string").to_lowercase();
            json!([id, members["body"], members.get("reply_wait_ms")])
        }
    }
}

fn server_as_value(answer: &ChannelAnswer<'_>) -> Value {
    let settled =
        answer.settled.iter().map(|settled| json!([settled.first, settled.last, settled.code]));
    let replies = answer
        .replies
        .iter()
        .map(|reply| json!([reply.entry, reply.is_duplicate, parsed(reply.body)]));
    json!([
        settled.collect::<Vec<_>>(),
        answer.refused.map(|refused| (refused.from, refused.code)),
        replies.collect::<Vec<_>>()
    ])
}

/// The page's rules for the body of a server's frame.
fn server_of_serde_json(body: &Value) -> Option<Value> {
    let members = body.as_object()?;
    let list = |name| {
        members.get(name).map_or(Some([].as_slice()), |list| list.as_array().map(Vec::as_slice))
    };
    let settled: Option<Vec<Value>> = list("settled")?.iter().map(settled_of_serde_json).collect();
    let replies: Option<Vec<Value>> = list("replies")?.iter().map(reply_of_serde_json).collect();
    let refused = match members.get("refused") {
        Some(refused) => Some((refused.get("from")?.as_u64()?, refused.get("code")?.as_str()?)),
        None => None,
    };
    Some(json!([settled?, refused, replies?]))
}

fn settled_of_serde_json(settled: &Value) -> Option<Value> {
    let [first, last, code] = settled.as_array()?.as_slice() else { return None };
    let is_range = first.as_u64()? <= last.as_u64()?;
    (is_range && code.is_string()).then(|| settled.clone())
}

fn reply_of_serde_json(reply: &Value) -> Option<Value> {
    let entry = reply.get("entry")?.as_u64()?;
    let is_duplicate = reply.get("duplicate").map_or(Some(false), Value::as_bool)?;
    let body = reply.get("body").filter(|body| body.is_object())?;
    Some(json!([entry, is_duplicate, body]))
}
