//! What serde_json says of a frame: another reader, by which ours is judged.
//!
//! The targets of frames come here. Nothing here knows a fuzzer.

use ipc_protocol::{FrameError, JsonErrorKind};
use serde_json::{Map, Value};

/// Holds a refusal against serde_json: what is no JSON to us is none to serde_json. Some of what is
/// JSON to it breaks a rule that it does not have.
///
/// # Panics
/// If serde_json reads it.
pub fn refused_as_serde_json_does(plaintext: &[u8], error: &FrameError) {
    let FrameError::Json(error) = error else { return };
    if let JsonErrorKind::NotUtf8 | JsonErrorKind::Syntax | JsonErrorKind::Truncated = error.kind {
        assert!(
            serde_json::from_slice::<Value>(plaintext).is_err(),
            "we refuse what serde_json takes"
        );
    }
}

/// Reads a frame that we have accepted; `None` if it has more levels than serde_json goes down.
///
/// # Panics
/// If serde_json refuses it, or if it is none by the rules of `docs/protocol.md`.
pub fn frame_of_serde_json(plaintext: &[u8]) -> Option<Value> {
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

/// Whether an object has no members but these.
pub fn has_only(members: &Map<String, Value>, names: &[&str]) -> bool {
    members.keys().all(|name| names.contains(&name.as_str()))
}

/// Whether a value is an id in its text form.
pub fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok())
}
