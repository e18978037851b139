//! What happens in a run, as its processes and its proxy tell it.
//!
//! `receiver`, `sender` and the proxy tell; a run waits for all of them in one place.

/// One thing that happens.
pub(super) enum Event {
    /// The receiver listens, and can be told to stop.
    Listening,
    /// The receiver printed the line of a message.
    Line(String),
    /// The receiver's output ended. A line without an end, which a kill cut off, was not read by
    /// anybody.
    ReceiverClosed,
    /// A sender's output ended; its place and what it printed.
    SenderClosed(usize, String),
    /// The proxy cut a connection.
    Cut(String),
}
