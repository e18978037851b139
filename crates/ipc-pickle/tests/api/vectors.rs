//! The pickles of `tests/vectors/pickles.json`, which Python made, each with its verdict.

use ipc_pickle::{DecodeError, Limits, Unrepresentable, from_json, to_json};
use ipc_protocol::check_body;
use serde_json::Value;

/// The verdict as the vectors name it.
fn verdict(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::Executes { .. } => "executes",
        DecodeError::NotADict => "not_a_dict",
        DecodeError::TooDeep => "too_deep",
        DecodeError::TooLong => "too_long",
        DecodeError::Unrepresentable(what) => match what {
            Unrepresentable::Bytes => "bytes",
            Unrepresentable::ByteArray => "bytearray",
            Unrepresentable::Set => "set",
            Unrepresentable::FrozenSet => "frozenset",
            Unrepresentable::Key => "key",
            Unrepresentable::LargeInt => "large_int",
            Unrepresentable::NotFinite => "not_finite",
            Unrepresentable::LoneSurrogate => "lone_surrogate",
            Unrepresentable::Recursive => "recursive",
            _ => "another value",
        },
        _ => "another error",
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn each_pickle_of_python_becomes_what_its_vector_says() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../vectors/pickles.json")).unwrap();
    let (mut good, mut bad) = (0, 0);
    for vector in &vectors {
        let name = format!("{}, protocol {}", vector["name"], vector["protocol"]);
        let pickle = unhex(vector["pickle"].as_str().unwrap());
        let read = to_json(&pickle, &Limits::default());
        if let Some(refused) = vector["refused"].as_str() {
            assert_eq!(read.as_ref().map_err(verdict), Err(refused), "{name}");
            bad += 1;
            continue;
        }
        let text = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        let theirs = vector["json"].as_str().unwrap();
        // Only the form of an exponent differs: `1e+16` and `1e16`.
        assert_eq!(
            text.replace("e+", "e"),
            theirs.replace("e+", "e").replace("e-0", "e-"),
            "{name}"
        );
        assert_eq!(check_body(&text), Ok(()), "{name}");
        let again = from_json(&text).unwrap();
        assert_eq!(to_json(&again, &Limits::default()).as_deref(), Ok(&*text), "{name}");
        good += 1;
    }
    assert!(good >= 6 * 14 && bad >= 6 * 30, "{good} good ones, {bad} bad ones");
}
