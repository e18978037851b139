//! Reads any bytes as a pickle of the Python tool. What is accepted is a message by the rules of
//! the protocol, within the limits, and means the same when it is pickled and read again.

#![cfg_attr(fuzzing, no_main)]

use ipc_pickle::{DecodeError, Limits, from_json, to_json};
use ipc_protocol::check_body;

ipc_fuzz::target!(pickle);

/// Low, so that inputs reach them.
const LIMITS: Limits = Limits { text_bytes_max: 4096, values_max: 1000 };

/// The instructions that import, call, build or ask for an object.
const EXECUTING: &[u8] = b"c\x93ioRb\x81\x92\x82\x83\x84PQ\x97\x98";

fn pickle(input: &[u8]) -> bool {
    let text = match to_json(input, &LIMITS) {
        Ok(text) => text,
        Err(DecodeError::Executes { offset, .. }) => {
            assert!(EXECUTING.contains(&input[offset]));
            return false;
        }
        Err(DecodeError::Malformed { offset }) => {
            assert!(offset <= input.len());
            return false;
        }
        Err(_) => return false,
    };
    assert!(text.len() <= LIMITS.text_bytes_max);
    assert!(text.starts_with('{'));
    assert_eq!(check_body(&text), Ok(()));
    let again = from_json(&text).expect("what was read is a message");
    assert_eq!(to_json(&again, &Limits::default()).as_deref(), Ok(&*text));
    // A pickle that is cut off is none.
    let cut_off = to_json(&input[..input.len() - 1], &LIMITS);
    assert!(matches!(cut_off, Err(DecodeError::Malformed { .. })));
    true
}
