//! What the tests of the inboxes share: messages, and a file for each test of the durable inbox.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ipc_inbox::{
    DeadLetter, DeadLetterId, DurableOptions, Inbox, InboxSender, Message, NoReply, OpenError,
    Pending, Put, PutError, StorageError,
};
use ipc_protocol::{Fingerprint, MessageId};

/// Both sides of an inbox, for a test that plays the server and the application.
#[derive(Clone, Debug)]
pub(crate) struct Both {
    pub(crate) sender: InboxSender,
    pub(crate) inbox: Inbox,
}

impl From<(InboxSender, Inbox)> for Both {
    fn from((sender, inbox): (InboxSender, Inbox)) -> Self {
        Both { sender, inbox }
    }
}

/// The application's side.
impl std::ops::Deref for Both {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

/// The server's side.
impl Both {
    pub(crate) fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, Result<Put, PutError>> {
        self.sender.put(message, wait)
    }

    pub(crate) fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, Vec<Result<Put, PutError>>> {
        self.sender.put_all(messages, wait)
    }

    pub(crate) fn reply_to(
        &self,
        user: &str,
        id: MessageId,
    ) -> Pending<'_, Result<std::sync::Arc<str>, NoReply>> {
        self.sender.reply_to(user, id)
    }

    /// The inbox is closed when this returns.
    pub(crate) fn close(&self) {
        drop(self.sender.close());
    }

    pub(crate) async fn finish(&self) -> u64 {
        self.sender.finish().await
    }

    /// The first dead letters.
    pub(crate) async fn dead(&self, count_max: usize) -> Result<Vec<DeadLetter>, StorageError> {
        self.inbox.dead_letters(None, count_max).await
    }
}

pub(crate) fn dead_letter_ids(numbers: &[u64]) -> Vec<DeadLetterId> {
    numbers.iter().copied().map(DeadLetterId::new).collect()
}

pub(crate) const NO_WAIT: Duration = Duration::ZERO;

pub(crate) fn id(number: u8) -> MessageId {
    MessageId::from_random([number; 16])
}

pub(crate) fn message(number: u8, body: &str) -> Message {
    Message {
        id: id(number),
        user: "müller".into(),
        certificate: Some(Fingerprint::from_bytes([number; 32])),
        peer: Some(format!("worker{}", number / 2).into()),
        received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        body: body.into(),
        wants_reply: false,
    }
}

/// A message for larger numbers than [`message`] takes.
pub(crate) fn numbered(number: u32) -> Message {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let id = MessageId::from_random(id);
    Message { id, body: format!(r#"{{"n":{number}}}"#).into(), ..message(0, "") }
}

pub(crate) struct File {
    pub(crate) directory: tempfile::TempDir,
}

impl File {
    pub(crate) fn new() -> Self {
        File { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("inbox.db")
    }

    pub(crate) async fn open(&self) -> Both {
        self.open_with(DurableOptions::default()).await
    }

    /// Opens the file as soon as the previous inbox has released it.
    pub(crate) async fn open_with(&self, options: DurableOptions) -> Both {
        loop {
            match options.clone().open(self.path()).await {
                Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap().into(),
            }
        }
    }

    /// The database file alone, copied by someone who does not know the files beside it.
    pub(crate) fn bare_copy(&self) -> File {
        let copy = File::new();
        std::fs::copy(self.path(), copy.path()).unwrap();
        copy
    }

    /// The files that a process leaves if it is killed now.
    pub(crate) fn crashed(&self) -> File {
        let copy = self.bare_copy();
        std::fs::copy(self.log(), copy.log()).unwrap();
        copy
    }

    /// SQLite's write-ahead log beside the file.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("inbox.db-wal")
    }
}
