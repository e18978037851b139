//! The events of a run, reported by its processes and its proxy.
//!
//! `receiver`, `sender` and `proxy` report them. A run waits for all events in one place.

/// An event of a run.
pub(super) enum Event {
    /// The receiver is listening, and can be told to stop.
    Listening,
    /// The receiver printed the line of a message.
    Line(String),
    /// The receiver's output ended. A last line that a kill cut off is not reported.
    ReceiverClosed,
    /// A sender's output ended: the sender's index, and its output.
    SenderClosed(usize, String),
    /// The proxy cut a connection.
    Cut(String),
}
