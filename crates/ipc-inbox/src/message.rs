//! A message as the server hands it to an inbox.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use ipc_protocol::{Fingerprint, MessageId};

/// A message that the server has accepted for an inbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The id that the sender gave the message.
    pub id: MessageId,
    /// The user who sent the message.
    pub user: Arc<str>,
    /// The certificate of the sender's connection; `None` over plain HTTP.
    pub certificate: Option<Fingerprint>,
    /// The peer name in that certificate; `None` over plain HTTP, or if the certificate has none.
    /// The server gives all messages of a connection the same allocation.
    pub peer: Option<Arc<str>>,
    /// When the server received the message.
    pub received_at: SystemTime,
    /// The JSON object as text, as it was sent.
    pub body: Box<str>,
    /// Whether the sender waits for a reply.
    pub wants_reply: bool,
}

impl fmt::Debug for Message {
    /// Leaves out the body, which may be long and confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
