//! Other measurements than exchanges, by the names of their figures.
//!
//! The rounds run them; tables and charts look them up.

use super::exchange::size;

/// Whole commands, from their start to their end, in milliseconds.
pub(crate) const COMMANDS: [&str; 4] = [
    "web-ipc --send '{\"a\":1}'",
    "web-ipc --users --list",
    "web-ipc --init --run",
    "web-ipc --test --run --qty 1000",
];

/// A process that sends one message and ends, with channels allowed and without, in milliseconds. A
/// lone message opens no channel, so both should take equally long.
pub(crate) const ONCE: [(&str, &str); 2] =
    [("one message, with channels allowed", "any"), ("one message, by POST alone", "post")];

/// The memory of `web-ipc --serve` after one message, waiting for more, in bytes.
pub(crate) const IDLE: &str = "idle server";

/// The memory for each open, idle channel, in bytes: in a server, and in a `LocalClient`.
pub(crate) const CHANNELS: [&str; 2] = ["idle channel", "idle channel, its client"];

/// The time from waking a waiting process until it runs, in microseconds, on the processor of the
/// waking process and on another one.
pub(crate) const WAKE: [(&str, &str); 2] = [("wake, same core", "1"), ("wake, other core", "0")];

/// The cost of remembered ids in the memory inbox: bytes for each, and nanoseconds for a put with
/// none and with all of them. For ids of version 7, which contain their time, and of version 4.
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
