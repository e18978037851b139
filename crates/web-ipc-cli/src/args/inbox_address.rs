//! Parses the address of an inbox that several servers share.
//!
//! `args.rs` comes here with the value of `--inbox`, and the configuration with that of its key.

use super::invocation::InboxKind;

/// The inbox with this address. No error repeats it, as it may have a password.
pub(super) fn inbox_at(address: &str) -> Result<InboxKind, (String, Option<&'static str>)> {
    let wrong = |what| format!("invalid value for '--inbox <KIND>': {what}");
    match address.split_once("://") {
        Some(("nats" | "tls", _)) => jetstream(address),
        Some(("postgres" | "postgresql", _)) => {
            let tip = "PostgreSQL keeps the users: give this address to '--usersDb <URL>'";
            Err((wrong("messages are not kept in PostgreSQL"), Some(tip)))
        }
        _ => Err((wrong("it is neither a kind nor nats://HOST:PORT/NAME"), None)),
    }
}

#[cfg(feature = "jetstream")]
fn jetstream(address: &str) -> Result<InboxKind, (String, Option<&'static str>)> {
    ipc_inbox_jetstream::JetStreamOptions::of_address(address)
        .map(|options| InboxKind::JetStream(Box::new(options)))
        .map_err(|error| (format!("invalid address for '--inbox <KIND>': {error}"), None))
}

#[cfg(not(feature = "jetstream"))]
fn jetstream(_address: &str) -> Result<InboxKind, (String, Option<&'static str>)> {
    let what = "this web-ipc was built without NATS JetStream".to_owned();
    Err((what, Some("build it with --features jetstream")))
}
