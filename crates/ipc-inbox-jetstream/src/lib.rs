//! An inbox on NATS JetStream, which several servers share.
//!
//! [`JetStreamOptions`] names the inbox and opens it. What comes out are the two sides of an
//! inbox, as of any other, so a program changes one line:
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use ipc_inbox_jetstream::JetStreamOptions;
//!
//! let options = JetStreamOptions::of_address("nats://n1:4222,n2:4222,n3:4222/JOBS?replicas=3")?;
//! let (sender, inbox) = options.open().await?;
//! // Server::builder(&home).inbox((sender, inbox))
//! # drop((sender, inbox)); Ok(()) }
//! ```
//!
//! Three streams hold the inbox `NAME`: `NAME` has the messages, `NAME-dead` the dead letters,
//! `NAME-replies` the replies to requests. One durable consumer, `web-ipc`, delivers the messages
//! to all servers. `docs/delivery.md` says what is promised, `docs/jetstream.md` how to run it.

mod backend;
mod connection;
mod dead;
mod error;
mod ids;
mod leaders;
mod local;
mod options;
mod pruning;
mod pulling;
mod put;
mod replies;
mod room;
mod settling;
mod shared;
mod waits;
mod wire;

pub use error::JetStreamError;
pub use options::{AddressError, JetStreamOptions};
