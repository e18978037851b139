//! Reads any plaintext as a frame that a client receives on a channel. Reading it in one pass, in
//! two passes, and with serde_json by the rules of `docs/protocol.md` must give the same.

#![cfg_attr(fuzzing, no_main)]

use ipc_fuzz::{frame_of_serde_json, refused_as_serde_json_does};
use ipc_protocol::{
    ChannelAnswer, Frame, MessageId, REASON_BYTES_MAX, REPLY_ADDRESS, write_channel_answer,
    write_frame_around,
};
use serde_json::{Value, json};

ipc_fuzz::target!(server_frame);

fn server_frame(plaintext: &[u8]) -> bool {
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
        // A code must have no escapes, and serde_json does not show whether a string had some.
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

fn server_as_value(answer: &ChannelAnswer<'_>) -> Value {
    let settled =
        answer.settled.iter().map(|settled| json!([settled.first, settled.last, settled.code]));
    let reasons = answer.reasons.iter().map(|one| json!([one.entry, one.reason]));
    let replies = answer
        .replies
        .iter()
        .map(|reply| json!([reply.entry, reply.is_duplicate, parsed(reply.body)]));
    json!([
        settled.collect::<Vec<_>>(),
        reasons.collect::<Vec<_>>(),
        answer.refused.map(|refused| (refused.from, refused.code)),
        replies.collect::<Vec<_>>()
    ])
}

/// Reads the body of a server's frame by the rules of `docs/protocol.md`.
fn server_of_serde_json(body: &Value) -> Option<Value> {
    let members = body.as_object()?;
    let list = |name| {
        members.get(name).map_or(Some([].as_slice()), |list| list.as_array().map(Vec::as_slice))
    };
    let settled: Option<Vec<Value>> = list("settled")?.iter().map(settled_of_serde_json).collect();
    let replies: Option<Vec<Value>> = list("replies")?.iter().map(reply_of_serde_json).collect();
    let reasons: Option<Vec<Value>> = list("reasons")?.iter().map(reason_of_serde_json).collect();
    let refused = match members.get("refused") {
        Some(refused) => Some((refused.get("from")?.as_u64()?, refused.get("code")?.as_str()?)),
        None => None,
    };
    let (settled, reasons) = (settled?, reasons?);
    let entries = settled.iter().fold(0, |entries: u64, range| {
        let [first, last] = [0, 1].map(|end| range[end].as_u64().unwrap_or_default());
        entries.saturating_add((last - first).saturating_add(1))
    });
    let replies = replies?;
    (reasons.len() as u64 <= entries).then(|| json!([settled, reasons, refused, replies]))
}

fn settled_of_serde_json(settled: &Value) -> Option<Value> {
    let [first, last, code] = settled.as_array()?.as_slice() else { return None };
    let is_range = first.as_u64()? <= last.as_u64()?;
    (is_range && code.is_string()).then(|| settled.clone())
}

fn reason_of_serde_json(reason: &Value) -> Option<Value> {
    let text = reason.get("reason")?.as_str().filter(|text| text.len() <= REASON_BYTES_MAX)?;
    Some(json!([reason.get("entry")?.as_u64()?, text]))
}

fn reply_of_serde_json(reply: &Value) -> Option<Value> {
    let entry = reply.get("entry")?.as_u64()?;
    let is_duplicate = reply.get("duplicate").map_or(Some(false), Value::as_bool)?;
    let body = reply.get("body").filter(|body| body.is_object())?;
    Some(json!([entry, is_duplicate, body]))
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("a part of what serde_json has read")
}
