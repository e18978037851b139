//! A message as the server hands it to an inbox.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use ipc_protocol::{Fingerprint, MessageId};

/// A message that the server has admitted.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The id its sender gave it.
    pub id: MessageId,
    /// The user who sent it.
    pub user: Arc<str>,
    /// The certificate it came with; `None` over plain http.
    pub certificate: Option<Fingerprint>,
    /// When the server had it.
    pub received_at: SystemTime,
    /// The JSON object as text, as it was sent.
    pub body: Box<str>,
    /// Whether its sender waits for a reply.
    pub wants_reply: bool,
}

impl fmt::Debug for Message {
    /// Leaves the body out: it may be long, and it is not ours to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
