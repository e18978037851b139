//! The durable inbox: what was accepted is in a file before its sender hears of it, and stays there until it is
//! acknowledged.
//!
//! One thread writes. Whatever waits for it while one commit runs goes into the next, so that many senders share a
//! commit and one alone waits for nothing but his own.

mod commands;
mod dead;
mod plan;
mod prune;
mod queue;
mod reader;
mod tables;
mod trouble;
mod writer;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_protocol::{MessageId, PLAINTEXT_BYTES_MAX_DEFAULT};
use ipc_sqlite::DatabaseError;
use tokio::sync::{mpsc, oneshot};

use crate::replies::Replies;
use crate::{AckError, Arrivals, Inbox, InboxBackend, Message, NoReply, Pending, Put, PutError, Taken};
use commands::{Command, Handed, Settled};
pub use reader::{InboxReader, copy};

/// What a frame has around the body of a reply, and more.
const FRAME_BYTES: usize = 1024;

/// How long replies are kept in memory too; the file has them for as long as ids are remembered.
const REPLIES_IN_MEMORY_FOR: Duration = Duration::from_secs(60);

/// Ids are never remembered for a shorter time: so long clients may retry.
const REMEMBERED_MIN: Duration = Duration::from_secs(ipc_protocol::REMEMBERED_SECS);

/// What a durable inbox may grow to, and when it hands a message out again.
///
/// # Defaults
/// 1,000,000 messages and 4 GiB of bodies, dead ones included; ids remembered for 24 hours, 20 million of them; a message that is not
/// acknowledged comes again after 5 minutes, one that is dropped after 10 s, and is dead after 10 times; 64 MiB of replies, each 16 MiB at most (less a
/// kibibyte for the frame).
#[derive(Clone, Debug)]
pub struct DurableOptions {
    messages_max: u64,
    bytes_max: u64,
    remembered_for: Duration,
    remembered_ids_max: u64,
    visibility_timeout: Duration,
    dropped_again_after: Duration,
    tries_max: u32,
    replies_bytes_max: u64,
    reply_bytes_max: usize,
}

impl Default for DurableOptions {
    fn default() -> Self {
        DurableOptions {
            messages_max: 1_000_000,
            bytes_max: 4 * 1024 * 1024 * 1024,
            remembered_for: Duration::from_secs(24 * 60 * 60),
            remembered_ids_max: 20_000_000,
            visibility_timeout: Duration::from_secs(5 * 60),
            dropped_again_after: Duration::from_secs(10),
            tries_max: 10,
            replies_bytes_max: 64 * 1024 * 1024,
            reply_bytes_max: PLAINTEXT_BYTES_MAX_DEFAULT - FRAME_BYTES,
        }
    }
}

impl DurableOptions {
    /// How many messages are kept at most, those handed out and dead ones included; at least 1.
    pub fn messages_max(mut self, messages: u64) -> Self {
        self.messages_max = messages.max(1);
        self
    }

    /// How many bytes of bodies are kept at most. One message is taken into an empty inbox whatever its length.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How long an accepted id is remembered, at least; never shorter than clients may retry (10 minutes).
    pub fn remembered_for(mut self, time: Duration) -> Self {
        self.remembered_for = time.max(REMEMBERED_MIN);
        self
    }

    /// How many accepted ids are remembered at most. Where there are more than three quarters of that, those older than
    /// clients may retry (10 minutes) are forgotten before their time, the oldest first. Where none is as old, a further
    /// message is refused, since an id forgotten earlier could be accepted twice.
    pub fn remembered_ids_max(mut self, ids: u64) -> Self {
        self.remembered_ids_max = ids.max(1);
        self
    }

    /// After which time a message that was handed out and not acknowledged is handed out again.
    pub fn visibility_timeout(mut self, time: Duration) -> Self {
        self.visibility_timeout = time;
        self
    }

    /// After which time a message whose delivery was dropped is handed out again, if that is sooner.
    pub fn dropped_again_after(mut self, time: Duration) -> Self {
        self.dropped_again_after = time;
        self
    }

    /// How often a message is handed out before it is dead; at least 1.
    pub fn tries_max(mut self, tries: u32) -> Self {
        self.tries_max = tries.max(1);
        self
    }

    /// How many bytes of replies are kept, for requests that are sent again; the oldest go first.
    pub fn replies_bytes_max(mut self, bytes: u64) -> Self {
        self.replies_bytes_max = bytes;
        self
    }

    /// How long one reply may be, in bytes of JSON text.
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }

    /// Opens the file at `path`, making it (0600) if there is none. One process at a time may have it open: beside it
    /// there is a file with `.lock` behind its name that says so.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(self, path: impl AsRef<Path>) -> Result<DurableInbox, OpenError> {
        let path = path.as_ref().to_owned();
        let (opened, answer) = oneshot::channel();
        let (commands, received) = mpsc::unbounded_channel();
        let replies = Arc::new(Replies::new(
            REPLIES_IN_MEMORY_FOR,
            usize::try_from(self.replies_bytes_max).unwrap_or(usize::MAX),
        ));
        let reply_bytes_max = self.reply_bytes_max;
        let thread = writer::Start {
            path,
            options: self,
            commands: received,
            // Not a reason for the thread to live on.
            returns: commands.downgrade(),
            replies: Arc::clone(&replies),
            opened,
        };
        std::thread::Builder::new()
            .name("web-ipc-inbox".into())
            .spawn(move || writer::run(thread))
            .map_err(|source| OpenError::Thread { source })?;
        answer
            .await
            .map_err(|_| OpenError::Thread { source: io::Error::other("the inbox's thread ended") })??;
        let durable = Arc::new(Durable { commands, replies, reply_bytes_max });
        Ok(DurableInbox { inbox: Inbox::shared(durable.clone()), durable })
    }
}

/// Why a durable inbox was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is missing its directory, damaged, read-only, of another kind …
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Another process, or another server of this one, has it open.
    #[error("the inbox {} is in use by another server", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The lock beside the file cannot be made.
    #[error("the inbox {} cannot be locked: {source}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its thread cannot be started.
    #[error("the inbox's thread cannot be started: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

/// A durable inbox that is open: an [`Inbox`], and what only a durable one has.
#[derive(Clone, Debug)]
pub struct DurableInbox {
    inbox: Inbox,
    durable: Arc<Durable>,
}

/// A message that was handed out too often without being acknowledged.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// What [`DurableInbox::put_back`] knows it by.
    pub number: u64,
    /// Its message.
    pub message: Message,
    /// How often it was handed out.
    pub deliveries: u32,
}

/// A question or a wish that the inbox could not see to.
#[derive(Debug, thiserror::Error)]
#[error("the inbox cannot be used: {0}")]
pub struct StorageError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl DurableInbox {
    /// The inbox, as a server takes it.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The messages that were handed out too often, oldest first, no more than `count`.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn dead_letters(&self, count: u32) -> Result<Vec<DeadLetter>, StorageError> {
        self.dead_letters_after(0, count).await
    }

    /// The dead letters behind the one with that number, oldest first, no more than `count`: the next page of a list.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn dead_letters_after(&self, number: u64, count: u32) -> Result<Vec<DeadLetter>, StorageError> {
        self.durable.ask(|done| Command::DeadLetters { after: number, count, done }).await
    }

    /// Removes dead letters for good. Returns how many there were. Their ids stay remembered.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn discard(&self, numbers: Vec<u64>) -> Result<usize, StorageError> {
        self.durable.ask(|done| Command::Discard { numbers, done }).await
    }

    /// Lets dead letters be handed out again, as if they never had been. Returns how many there were.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn put_back(&self, numbers: Vec<u64>) -> Result<usize, StorageError> {
        self.durable.ask(|done| Command::PutBack { numbers, done }).await
    }
}

/// The side of the channel that everybody else holds.
struct Durable {
    commands: mpsc::UnboundedSender<Command>,
    replies: Arc<Replies>,
    reply_bytes_max: usize,
}

impl Durable {
    /// Sends a command and waits for what comes of it; `None` if the thread has gone.
    fn send<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Pin<Box<dyn Future<Output = Option<T>> + Send>> {
        let (done, answer) = oneshot::channel();
        let is_sent = self.commands.send(command(done)).is_ok();
        Box::pin(async move { if is_sent { answer.await.ok() } else { None } })
    }

    async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StorageError>>) -> Command,
    ) -> Result<T, StorageError> {
        let gone = || Err(StorageError("its thread has ended".into()));
        self.send(command).await.unwrap_or_else(gone)
    }

    fn settle(&self, taken: &Taken, reply: Option<Arc<str>>) -> Pending<'static, Result<(), AckError>> {
        let (ticket, key) = (taken.ticket, request_of(taken));
        let answer = self.send(|done| Command::Settle(Settled { ticket, key, reply, done }));
        Pending::later(async { answer.await.unwrap_or(Err(AckError::TooLate)) })
    }
}

/// Whose reply it is, if one is waited for.
fn request_of(taken: &Taken) -> Option<(Arc<str>, MessageId)> {
    taken.message.wants_reply.then(|| (Arc::clone(&taken.message.user), taken.message.id))
}

impl InboxBackend for Durable {
    fn put(&self, message: Message, wait: Duration) -> Pending<'_, (Result<Put, PutError>, Arrivals)> {
        let answers = self.put_all(vec![message], wait);
        answers.map(|(mut puts, arrivals)| (puts.pop().unwrap_or(Err(PutError::Unavailable)), arrivals))
    }

    fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, Arrivals)> {
        // Its thread tells whoever waits.
        if messages.is_empty() {
            return Pending::ready((Vec::new(), Arrivals::none()));
        }
        let count = messages.len();
        let answer = self.send(|done| Command::Put { messages, wait, done });
        Pending::later(async move {
            let puts = answer.await.unwrap_or_else(|| vec![Err(PutError::Closed); count]);
            (puts, Arrivals::none())
        })
    }

    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>> {
        let answer = self.send(|done| Command::Take { count_max: count_max.max(1), done });
        Pending::later(async { answer.await.map(Handed::accept).unwrap_or_default() })
    }

    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>> {
        self.settle(taken, None)
    }

    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.settle(taken, Some(body))
    }

    fn abandon(&self, taken: &Taken) {
        // A message that nobody waits for comes again soon. A request is settled: its sender is told.
        let command = match request_of(taken) {
            None => Command::Drop { ticket: taken.ticket },
            key => {
                let (done, _nobody_waits) = oneshot::channel();
                Command::Settle(Settled { ticket: taken.ticket, key, reply: None, done })
            }
        };
        // Without the thread there is nobody to tell.
        let _gone = self.commands.send(command);
    }

    fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        if let Some(waiting) = self.replies.wait_if_known(user, id) {
            return waiting;
        }
        let key: (Arc<str>, _) = (user.into(), id);
        let known = self.send(|done| Command::FindReply { key, done });
        let replies = Arc::clone(&self.replies);
        let user = user.to_owned();
        Pending::later(async move {
            match known.await {
                Some(Some(reply)) => reply,
                // It is still to be given, and now noted as waited for.
                Some(None) => replies.wait(&user, id).await,
                None => Err(NoReply::Unavailable),
            }
        })
    }

    fn is_awaited(&self, taken: &Taken) -> bool {
        self.replies.is_awaited(&taken.message.user, taken.message.id)
    }

    fn reply_bytes_max(&self) -> usize {
        self.reply_bytes_max
    }

    fn close(&self) -> Pending<'_, ()> {
        let answer = self.send(|done| Command::Close { done });
        // Without the thread it is closed already.
        Pending::later(async { answer.await.unwrap_or(()) })
    }

    fn waiting(&self) -> Pending<'_, u64> {
        let answer = self.send(|done| Command::Waiting { done });
        Pending::later(async { answer.await.unwrap_or(0) })
    }

    fn finish(&self) -> Pending<'_, u64> {
        let answer = self.send(|done| Command::Finish { done });
        Pending::later(async { answer.await.unwrap_or(0) })
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").finish_non_exhaustive()
    }
}

/// Keeps others from opening the same inbox: two servers would hand out the same messages. The lock goes with the
/// process, however it ends; the file stays.
fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Lock { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// When an id was accepted at the earliest that is still remembered after such a time.
fn remembered_since(now: SystemTime, time: Duration) -> SystemTime {
    now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)
}
