//! Where accepted messages wait until the application takes them.
//!
//! The server puts messages in, the application takes them out. Neither needs to know the kind of
//! inbox. Nothing here knows HTTP, TLS or envelopes.
//!
//! * [`Inbox`] is the application's side, from which it takes messages
//! * [`InboxSender`] is the server's side, into which it puts them; both are made together
//! * [`Delivery`] is a message in the application's hands
//! * [`DeadLetter`] is a message that is no longer delivered, with its reason
//! * [`InboxStatistics`] counts what went through it, [`InboxStatus`] says what it holds
//! * [`MemoryOptions`] sets up an inbox in memory, [`DurableOptions`] one in a file
//! * [`InboxReader`] and [`copy`] look at the file of a durable inbox beside the server that has it
//! * [`InboxBackend`] is what a kind of inbox implements, and [`Replies`] helps it with requests
//!
//! Every inbox remembers the ids that it has accepted, for each user, so that a message that is
//! sent again is accepted once. Remembering an id and storing its message are one step, which is
//! why the inbox does both.
//!
//! ```
//! use ipc_inbox::{Inbox, Message, Put};
//! # use ipc_protocol::MessageId;
//!
//! let (sender, inbox) = Inbox::memory().build();
//! let message = || Message {
//!     id: MessageId::from_random([1; 16]),
//!     user: "sensor".into(),
//!     certificate: None,
//!     peer: None,
//!     received_at: std::time::SystemTime::now(),
//!     body: r#"{"test":1}"#.into(),
//!     wants_reply: false,
//! };
//! let wait = std::time::Duration::from_millis(100);
//! # futures_executor::block_on(async {
//! assert_eq!(sender.put(message(), wait).await, Ok(Put::Accepted));
//! assert_eq!(sender.put(message(), wait).await, Ok(Put::Duplicate));
//! sender.close();
//! while let Some(delivery) = inbox.recv().await {
//!     println!("{} from {}", delivery.body(), delivery.user());
//!     delivery.ack().await?;
//! }
//! # Ok::<(), ipc_inbox::AckError>(()) }).unwrap();
//! ```

mod backend;
mod capacity;
mod counted;
mod dead_letter;
mod dedup;
mod delivery;
mod durable;
mod inbox;
mod memory;
mod message;
mod replies;
mod statistics;
mod status;

pub use backend::{AckError, InboxBackend, NoReply, NotifyGuard, Pending, Put, PutError, Taken};
pub use dead_letter::{DeadLetter, DeadLetterId, DeadReason, StorageError};
pub use delivery::{Delivery, ParseError, ReplyError};
pub use durable::{
    DurableOptions, InboxReader, OpenError, WaitingMessage, check_integrity, copy, remedy_of_file,
};
pub use inbox::{Inbox, InboxChoice, InboxSender};
pub use ipc_base::{ModeChange, Place, Remedy};
pub use memory::MemoryOptions;
pub use message::Message;
pub use replies::Replies;
pub use statistics::{Histogram, InboxStatistics};
pub use status::InboxStatus;
