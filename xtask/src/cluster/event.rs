//! The events of a run, reported by its processes.
//!
//! `servers` and `clients` report them. A run waits for all events in one place.

/// An event of a run.
#[derive(Debug)]
pub(super) enum Event {
    /// This server is listening.
    Listening(usize),
    /// The command of this start of a server was given a message.
    Delivered(u32, String),
    /// NATS acknowledged to a server that it has stored a message: its sequence and its id.
    Stored(u64, String),
    /// The output of this start of a server ended.
    ServerEnded(usize, u32),
    /// A client had an answer: its line.
    Answered(usize, String),
    /// The output of a client ended.
    ClientEnded(usize),
}
