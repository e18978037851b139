//! Reads frames with serde_json, to compare the results with those of `ipc-protocol`.
//!
//! The targets for frames come here. Nothing here knows a fuzzer.

use ipc_protocol::{FrameError, JsonErrorKind};
use serde_json::{Map, Value};

/// Checks that serde_json refuses a text too that `ipc-protocol` refuses for its syntax. The rules
/// of the protocol that go beyond JSON are not compared.
///
/// # Panics
/// If serde_json reads the text.
pub fn refused_as_serde_json_does(plaintext: &[u8], error: &FrameError) {
    let FrameError::Json(error) = error else { return };
    if let JsonErrorKind::NotUtf8 | JsonErrorKind::Syntax | JsonErrorKind::Truncated = error.kind {
        assert!(
            serde_json::from_slice::<Value>(plaintext).is_err(),
            "ipc-protocol refuses a text that serde_json accepts"
        );
    }
}

/// Reads a frame that `ipc-protocol` accepted. Returns `None` if the frame is deeper than
/// serde_json allows.
///
/// # Panics
/// If serde_json refuses the text, or if it is not a frame by the rules of `docs/protocol.md`.
pub fn frame_of_serde_json(plaintext: &[u8]) -> Option<Value> {
    match serde_json::from_slice::<Value>(plaintext) {
        Err(error) if error.to_string().starts_with("recursion limit") => None,
        theirs => {
            let theirs = theirs.expect("serde_json reads every frame that ipc-protocol accepts");
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

/// Whether an object has no other members than these.
pub fn has_only(members: &Map<String, Value>, names: &[&str]) -> bool {
    members.keys().all(|name| names.contains(&name.as_str()))
}

/// Whether a value is an id in its text form.
pub fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok())
}
