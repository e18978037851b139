//! The durable inbox: what was accepted is in a file before its sender hears of it, and stays there
//! until it is acknowledged.
//!
//! One thread writes. Whatever waits for it while one commit runs goes into the next, so that many
//! senders share a commit and one alone waits for nothing but his own.

mod admission;
mod commands;
mod commit;
mod dead;
mod dead_letter_rows;
mod handle;
mod lock;
pub(crate) mod options;
mod prefetch;
mod prune;
mod queue;
mod reader;
mod statements;
mod thread;
mod trouble;
mod writer;

pub use options::{DurableOptions, OpenError, remedy_of_file};
pub use reader::{InboxReader, copy};
