//! What is measured beside exchanges, by the names under which the figures are kept.
//!
//! The rounds come here for what to run, tables and charts for what to look for.

use super::exchange::size;

/// Whole commands, from their start to their end, in milliseconds.
pub(crate) const COMMANDS: [&str; 4] = [
    "web-ipc --send '{\"a\":1}'",
    "web-ipc --users --list",
    "web-ipc --init --run",
    "web-ipc --test --run --qty 1000",
];

/// A process that sends one message and ends, where a channel could be opened and where none can,
/// in milliseconds. No message that is alone opens one, so that both should take as long.
pub(crate) const ONCE: [(&str, &str); 2] =
    [("one message, with channels allowed", "any"), ("one message, by POST alone", "post")];

/// Memory of `web-ipc --serve` that has had one message and waits for more, in bytes.
pub(crate) const IDLE: &str = "idle server";

/// Memory of a server for each open channel on which nothing goes, in bytes, and of a `LocalClient`
/// that has one.
pub(crate) const CHANNELS: [&str; 2] = ["idle channel", "idle channel, its client"];

/// From waking a process that waits until it runs, in microseconds, and the processor that it is
/// on: the one of the process that wakes it, and another one.
pub(crate) const WAKE: [(&str, &str); 2] = [("wake, same core", "1"), ("wake, other core", "0")];

/// What the memory inbox pays for remembered ids: bytes for each, nanoseconds for a put with no ids
/// and with all of them. For ids of version 7, which tell their time, and of version 4.
pub(crate) const REMEMBERED: [(&str, [&str; 3]); 2] = [
    ("timed", ["timed ids, bytes", "timed ids, first put", "timed ids, last put"]),
    ("random", ["random ids, bytes", "random ids, first put", "random ids, last put"]),
];

/// How many ids are remembered.
pub(crate) const REMEMBERED_IDS: u64 = 10_000_000;

/// Operations that are timed by size.
pub(crate) const SEALING: [&str; 7] = [
    "seal",
    "open",
    "fernet seal",
    "fernet open",
    "aes-128-cbc encrypt",
    "aes-128-cbc decrypt",
    "sha-256",
];

/// The name of an operation's figures, in nanoseconds.
pub(crate) fn sealing(what: &str, bytes: usize) -> String {
    format!("{what}, {}", size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_known_by_their_size() {
        assert_eq!(sealing("open", 65536), "open, 64 KiB");
    }
}
