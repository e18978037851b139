//! Reads any bytes as an enrolment bundle: as its text, as the bytes within the armour, and as the
//! content that the code opens. The code and Argon2id in between are left out.

#![cfg_attr(fuzzing, no_main)]

use ipc_base::PeerName;
use ipc_setup::fuzzing::{Head, armoured, check_content, parse};
use ipc_setup::{BUNDLE_END, BundleError};
use serde_json::Value;

// Public keys are checked for each input, which takes long.
ipc_fuzz::target!(bundle, 3_000);

/// Magic, cost and salt.
const HEAD_BYTES: usize = 32;

/// The most memory in KiB, passes and lanes that a bundle may ask for.
const COST_MAX: [u32; 3] = [256 * 1024, 12, 4];

fn bundle(input: &[u8]) -> bool {
    let is_text = std::str::from_utf8(input).is_ok_and(text);
    let is_bytes = bytes(input);
    content(input) || is_text || is_bytes
}

/// The text of a bundle. What is read of it must make the same bundle again.
fn text(text: &str) -> bool {
    let Ok(head) = parse(text) else { return false };
    assert!(is_allowed(&head.cost));
    let again = armoured(joined(&head));
    assert_eq!(parse(&again).as_ref(), Ok(&head));
    one_character_changed(&again);
    true
}

/// The bytes within the armour, with a good check behind them.
fn bytes(bytes: &[u8]) -> bool {
    let text = armoured(bytes.to_vec());
    let parsed = parse(&text);
    let around = format!("a greeting\r\n{}more", text.replace('\n', "\r\n"));
    assert_eq!(parse(&around), parsed);
    if bytes.len() < HEAD_BYTES || !bytes.starts_with(b"WIE") {
        assert_eq!(parsed, Err(BundleError::NotABundle));
        return false;
    }
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let cost = [number(4), number(8), number(12)];
    if bytes[3] != b'1' || !is_allowed(&cost) {
        assert_eq!(parsed, Err(BundleError::Unsupported));
        return false;
    }
    assert_eq!(joined(&parsed.expect("all of it is allowed")), bytes);
    true
}

/// The content. What is accepted has the members of a tree of it, and names by the rules.
fn content(json: &[u8]) -> bool {
    let Ok(names) = check_content(json, 0) else { return false };
    for name in [&names.name, &names.server] {
        assert_eq!(PeerName::parse(name.as_str()).as_ref(), Ok(name));
    }
    assert!(!names.addresses.is_empty());
    let tree: Value = serde_json::from_slice(json).expect("the same bytes are JSON");
    if !tree.is_object() {
        return true;
    }
    assert_eq!(tree["version"], 1);
    assert_eq!(tree["kind"], "client");
    assert_eq!(tree["name"], names.name.as_str());
    assert_eq!(tree["server"], names.server.as_str());
    assert_eq!(tree["username"], names.username.as_str());
    assert_eq!(tree["addresses"], Value::from(names.addresses.clone()));
    let expires_at_secs = tree["expires_at"].as_u64().expect("a time");
    assert_eq!(check_content(json, expires_at_secs).as_ref(), Ok(&names));
    if let Some(later_secs) = expires_at_secs.checked_add(1) {
        assert_eq!(check_content(json, later_secs), Err(BundleError::Expired));
    }
    true
}

fn is_allowed(cost: &[u32; 3]) -> bool {
    cost.iter().zip(COST_MAX).all(|(asked, most)| *asked <= most)
}

/// The bytes of a bundle without their check.
fn joined(head: &Head) -> Vec<u8> {
    let cost: Vec<u8> = head.cost.iter().flat_map(|number| number.to_be_bytes()).collect();
    [b"WIE1", &cost[..], &head.salt, &head.token].concat()
}

/// No bundle is read with one character of its body exchanged for another.
fn one_character_changed(text: &str) {
    let body =
        text.find('\n').expect("the first line") + 1..text.find(BUNDLE_END).expect("the last");
    let sum = text.bytes().fold(7_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
    let at = body.start + sum % body.len();
    let mut changed = text.as_bytes().to_vec();
    if changed[at].is_ascii_alphanumeric() {
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(parse(&changed).is_err());
    }
}
