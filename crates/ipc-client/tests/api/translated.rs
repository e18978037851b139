//! Answers the entries of a channel by the script for POSTs, so that a test has one script for
//! both.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ipc_protocol::{Frame, Problem, ProblemCode, reason_of_detail};

use crate::keys::ring;
use crate::script::{Answer, Log, Script, Seen};
use crate::wire::{Entry, Peer, Said, Speaker};

/// What a server does about an entry on a channel, for each answer to a POST.
enum Verdict {
    Settled(String),
    Declined(String),
    Reply { duplicate: bool, body: String },
    Refused(String),
    Close(u16, String),
    Cut,
    Silence,
}

/// Passes each entry to the script as if it were a POST.
pub(crate) fn translated(script: Arc<Script>, log: Arc<Log>) -> Peer {
    let mut session = None;
    let mut refused = None;
    Box::new(move |said, speaker| {
        if let Some(token) = &said.session {
            session = Some(token.clone());
        }
        if said.resume.is_some() {
            assert_eq!(said.resume, refused, "the client must resume at the refusal in force");
            refused = None;
        }
        if refused.is_none() {
            refused = answer(said, speaker, session.as_ref(), &script, &log);
        }
    })
}

/// Answers the entries of a frame. Returns the number from which on entries are refused.
fn answer(
    said: &Said,
    speaker: &Speaker,
    session: Option<&String>,
    script: &Arc<Script>,
    log: &Arc<Log>,
) -> Option<u64> {
    for entry in &said.entries {
        let number = entry.number;
        let seen = log.note(as_post(said, entry, session));
        match verdict(&seen, script(&seen)) {
            Verdict::Declined(reason) => speaker.decline(number, number, &[(number, &reason)]),
            Verdict::Settled(code) => speaker.settle(number, number, &code),
            Verdict::Reply { duplicate, body } => speaker.answer(&format!(
                r#"{{"replies":[{{"entry":{number},"duplicate":{duplicate},"body":{body}}}]}}"#
            )),
            Verdict::Refused(code) => {
                speaker.refuse(number, &code);
                return Some(number);
            }
            Verdict::Close(code, reason) => {
                speaker.close(code, &reason);
                // The server accepts nothing after the close frame.
                return Some(u64::MAX);
            }
            Verdict::Cut => {
                speaker.cut();
                return Some(u64::MAX);
            }
            Verdict::Silence => (),
        }
    }
    None
}

fn as_post(said: &Said, entry: &Entry, session: Option<&String>) -> Seen {
    let path = match entry.reply_wait_ms {
        None => "/message/submit",
        Some(_) => "/message/request",
    };
    let wait = entry.reply_wait_ms.map(|ms| format!("prefer: wait={}\r\n", ms.div_ceil(1000)));
    Seen {
        path: path.to_owned(),
        head: wait.unwrap_or_default(),
        envelope: said.envelope.clone(),
        to: path.to_owned(),
        id: entry.id.clone(),
        session: session.cloned(),
        body: entry.body.clone(),
        entries: Vec::new(),
        turn: 0,
        websocket_key: String::new(),
    }
}

fn verdict(seen: &Seen, answer: Answer) -> Verdict {
    let bytes = match answer {
        Answer::Send(bytes) => bytes,
        // Half a response counts as none.
        Answer::SendAndClose(_) | Answer::Close => return Verdict::Cut,
        Answer::Hang => return Verdict::Silence,
    };
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let (head, body) = (std::str::from_utf8(&bytes[..end]).unwrap(), &bytes[end + 4..]);
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let duplicate = head.to_ascii_lowercase().contains("web-ipc-duplicate: true");
    let is_request = seen.path == "/message/request";
    match status {
        200 if is_request => {
            let plaintext = ring().open(body, None).unwrap();
            let body = Frame::parse(&plaintext).unwrap().object().unwrap().to_owned();
            Verdict::Reply { duplicate, body }
        }
        200 => Verdict::Settled(if duplicate { "duplicate" } else { "accepted" }.to_owned()),
        _ => refusal(status, body, is_request),
    }
}

/// The form that a refusal has on a channel.
fn refusal(status: u16, body: &[u8], is_request: bool) -> Verdict {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let reason = problem.as_ref().and_then(|problem| reason_of_detail(&problem.detail));
    if let Some(reason) = reason {
        return Verdict::Declined(reason);
    }
    let code = problem.and_then(|problem| ProblemCode::from_code(&problem.code));
    let Some(code) = code else { return Verdict::Close(4000 + status, "not a code".to_owned()) };
    let name = code.as_str().to_owned();
    match code {
        ProblemCode::InboxFull | ProblemCode::IdsFull | ProblemCode::Unavailable => {
            Verdict::Refused(name)
        }
        ProblemCode::IdReused
        | ProblemCode::NotAnObject
        | ProblemCode::MalformedFrame
        | ProblemCode::NotAnswered
        | ProblemCode::NoReplyInTime
        | ProblemCode::ReplyForgotten => Verdict::Settled(name),
        ProblemCode::ShuttingDown if is_request => Verdict::Settled(name),
        ProblemCode::ShuttingDown => Verdict::Close(1001, "the server is stopping".to_owned()),
        _ => Verdict::Close(4000 + status, name),
    }
}
