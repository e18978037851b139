//! Holds the test vectors of `docs/protocol.md` against the code, so that whoever writes a client from that page
//! writes one that works.

use ipc_envelope::{Freshness, KeyRing, OpenError};
use ipc_protocol::{Frame, FrameError, ProblemCode, REPLY_ADDRESS, Route};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The list in the block behind the comment `<!-- vectors: NAME -->`.
fn vectors(name: &str) -> Vec<Value> {
    let (_, rest) =
        PAGE.split_once(&format!("<!-- vectors: {name} -->\n```json\n")).expect("the page has it");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let list: Vec<Value> = serde_json::from_str(block).expect("the block is a JSON list");
    assert!(!list.is_empty(), "{name}");
    list
}

fn text<'a>(vector: &'a Value, member: &str) -> &'a str {
    vector[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {vector}"))
}

/// What all envelopes of the page are made with.
struct Made {
    ring: KeyRing,
    time_secs: u64,
    iv: [u8; 16],
}

fn made() -> Made {
    let with = &vectors("made with")[0];
    let hex = text(with, "iv");
    Made {
        ring: KeyRing::from_text(text(with, "key")).expect("a key"),
        time_secs: with["time"].as_u64().expect("seconds"),
        iv: std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")),
    }
}

fn route(path: &str) -> Route {
    Route::ALL.into_iter().find(|route| route.path() == path).expect("a route")
}

#[test]
fn every_good_envelope_of_the_page_is_made_to_the_byte_and_opens_for_a_minute() {
    let Made { ring, time_secs, iv } = made();
    for vector in vectors("good envelopes") {
        let (token, plaintext) = (text(&vector, "token"), text(&vector, "plaintext"));
        assert_eq!(ring.seal_base64url(plaintext.as_bytes(), time_secs, iv), token, "{vector}");
        for now_secs in [time_secs - 60, time_secs, time_secs + 60] {
            let opened = ring.open_base64url(token.as_bytes(), Some(Freshness::at(now_secs)));
            assert_eq!(opened.expect("it is fresh").as_slice(), plaintext.as_bytes(), "{vector}");
        }
        let frame = Frame::parse(plaintext.as_bytes()).unwrap_or_else(|error| panic!("{error}: {vector}"));
        let id = frame.id();
        let frame = match text(&vector, "to") {
            REPLY_ADDRESS => frame.reply_to(id),
            path => frame.addressed_to(route(path)),
        };
        assert!(frame.and_then(|frame| frame.object()).is_ok(), "{vector}");
    }
}

#[test]
fn every_bad_envelope_of_the_page_is_refused_as_it_says() {
    let Made { ring, .. } = made();
    for vector in vectors("bad envelopes") {
        let now_secs = vector["now"].as_u64().expect("seconds");
        let opened = ring.open_base64url(text(&vector, "token").as_bytes(), Some(Freshness::at(now_secs)));
        let problem = match opened {
            Ok(_) => panic!("it opens: {vector}"),
            Err(OpenError::Stale { .. }) => ProblemCode::StaleEnvelope,
            Err(_) => ProblemCode::MalformedEnvelope,
        };
        assert_eq!(problem.as_str(), text(&vector, "problem"), "{vector}");
    }
}

#[test]
fn every_bad_frame_of_the_page_is_refused_as_it_says() {
    for vector in vectors("bad frames") {
        let refused = Frame::parse(text(&vector, "plaintext").as_bytes())
            .and_then(|frame| frame.addressed_to(Route::MessageSubmit))
            .and_then(|frame| frame.object());
        let problem = match refused {
            Ok(_) => panic!("it passes: {vector}"),
            Err(FrameError::BodyNotAnObject) => ProblemCode::NotAnObject,
            Err(_) => ProblemCode::MalformedFrame,
        };
        assert_eq!(problem.as_str(), text(&vector, "problem"), "{vector}");
    }
}

#[test]
fn the_page_has_every_route_and_every_code_with_its_status() {
    for route in Route::ALL {
        assert!(PAGE.contains(&format!("`{} {}`", route.method(), route.path())), "{route:?}");
    }
    for code in ProblemCode::ALL {
        let row = format!("| {} | `{}` |", code.status(), code.as_str());
        assert!(PAGE.contains(&row), "no row begins with {row}");
    }
}
