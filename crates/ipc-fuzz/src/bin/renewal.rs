//! Reads any bytes as a reply to `POST /client/renew`, and as a request. What is accepted must be
//! what serde_json reads of the members, must survive being written again, and must not show a key.

#![cfg_attr(fuzzing, no_main)]

use ipc_fuzz::has_only;
use ipc_protocol::{RenewalReply, RenewalRequest};
use serde_json::Value;

ipc_fuzz::target!(renewal);

fn renewal(input: &[u8]) -> bool {
    let is_reply = reply(input);
    request(input) || is_reply
}

fn reply(input: &[u8]) -> bool {
    let Ok(reply) = serde_json::from_slice::<RenewalReply>(input) else { return false };
    // A reply is an object, whose members have the values that a tree of it has. An array with the
    // same values in their order is read as well, by serde's rules for structures. There is no tree
    // where an unknown member, which is skipped, has a string with half of a surrogate pair.
    let tree = serde_json::from_slice::<Value>(input).ok().filter(Value::is_object);
    if let Some(tree) = tree {
        assert_eq!(tree["certificate"].as_str(), reply.certificate.as_deref());
        assert_eq!(tree["authorities"], reply.authorities.as_str());
        assert_eq!(tree["server"], reply.server.as_str());
        assert_eq!(tree["addresses"], Value::from(reply.addresses.clone()));
        let keys: Vec<_> = reply.envelope_keys.iter().map(|key| key.to_string()).collect();
        assert_eq!(tree["envelope_keys"], Value::from(keys));
    }
    let written = serde_json::to_vec(&reply).expect("strings always serialise");
    assert_eq!(serde_json::from_slice::<RenewalReply>(&written).expect("our own"), reply);
    shows_no_key(reply);
    true
}

/// Two replies that differ in their keys alone look the same.
fn shows_no_key(mut reply: RenewalReply) {
    let shown = format!("{reply:?}");
    for key in &mut reply.envelope_keys {
        key.push_str("more");
    }
    reply.authorities.push_str("more");
    assert_eq!(format!("{reply:?}"), shown);
}

fn request(input: &[u8]) -> bool {
    let Ok(request) = serde_json::from_slice::<RenewalRequest>(input) else { return false };
    let tree: Value = serde_json::from_slice(input).expect("the same bytes are JSON");
    if let Some(members) = tree.as_object() {
        assert!(has_only(members, &["csr"]));
        assert_eq!(tree["csr"].as_str(), request.csr.as_deref());
    }
    let written = serde_json::to_vec(&request).expect("a string always serialises");
    assert_eq!(serde_json::from_slice::<RenewalRequest>(&written).expect("our own"), request);
    true
}
