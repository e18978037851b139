//! Reads any plaintext as a frame that a server receives on a channel. Reading it in one pass, in
//! two passes, and with serde_json by the rules of `docs/protocol.md` must give the same.

#![cfg_attr(fuzzing, no_main)]

use ipc_fuzz::{frame_of_serde_json, has_only, is_id, refused_as_serde_json_does};
use ipc_protocol::{
    ChannelFrame, Frame, MessageId, Route, write_channel_entry, write_channel_frame,
    write_frame_around,
};
use serde_json::{Map, Value, json};

ipc_fuzz::target!(client_frame);

/// How many entries a frame may have here. The limit is low, so that short inputs exceed it.
const ENTRIES_MAX: usize = 16;

fn client_frame(plaintext: &[u8]) -> bool {
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

fn id() -> MessageId {
    MessageId::from_bytes([7; 16])
}

fn frame_is_addressed(plaintext: &[u8]) -> bool {
    let frame = Frame::parse_channel_frame(plaintext, ENTRIES_MAX).expect("it was read before");
    frame.addressed_to(Route::MessageChannel).is_ok()
}

/// Writes a frame without its malformed entries, and reads it again.
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

/// Reads the body of a client's frame by the rules of `docs/protocol.md`.
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

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("a part of what serde_json has read")
}
