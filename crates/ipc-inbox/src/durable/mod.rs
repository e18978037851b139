//! The durable inbox: a message is in a file before its sender is told that it was accepted, and
//! stays there until it is acknowledged.
//!
//! One thread writes. Everything that comes while a commit runs goes into the next commit. So many
//! senders share a commit, and a lone sender waits only for its own.

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
mod user_ids;
mod writer;

pub use options::{DurableOptions, OpenError, remedy_of_file};
pub use reader::{InboxReader, WaitingMessage, check_integrity, copy};
