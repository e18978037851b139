//! Shared by the tests of the durable inbox: messages, and a file for each test.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ipc_inbox::{DurableInbox, DurableOptions, Message, OpenError};
use ipc_protocol::{Fingerprint, MessageId};

pub(crate) const NO_WAIT: Duration = Duration::ZERO;

pub(crate) fn id(number: u8) -> MessageId {
    MessageId::from_random([number; 16])
}

pub(crate) fn message(number: u8, body: &str) -> Message {
    Message {
        id: id(number),
        user: "müller".into(),
        certificate: Some(Fingerprint::from_bytes([number; 32])),
        received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        body: body.into(),
        wants_reply: false,
    }
}

/// One of more than there are numbers for [`message`].
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

    pub(crate) async fn open(&self) -> DurableInbox {
        self.open_with(DurableOptions::default()).await
    }

    /// Opens the file as soon as the one who had it has let go of it.
    pub(crate) async fn open_with(&self, options: DurableOptions) -> DurableInbox {
        loop {
            match options.clone().open(self.path()).await {
                Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    }

    /// The file alone as it is now, as somebody copies it who does not know of what lies beside.
    pub(crate) fn bare_copy(&self) -> File {
        let copy = File::new();
        std::fs::copy(self.path(), copy.path()).unwrap();
        copy
    }

    /// What a process that is killed now would leave.
    pub(crate) fn crashed(&self) -> File {
        let copy = self.bare_copy();
        std::fs::copy(self.log(), copy.log()).unwrap();
        copy
    }

    /// What SQLite keeps beside it.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join("inbox.db-wal")
    }
}
