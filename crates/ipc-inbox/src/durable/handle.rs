//! The handle of a durable inbox, which server and application share: it sends commands to the
//! inbox's thread and waits for the answers.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipc_protocol::MessageId;
use tokio::sync::oneshot;

use super::commands::{Acked, Command, Commands, Handed};
use super::options::{DurableOptions, OpenError};
use super::thread::{self, Start};
use crate::backend::{AckError, InboxBackend, NoReply, NotifyGuard, Pending, Put, PutError, Taken};
use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::inbox::{Inbox, InboxSender, both_sides};
use crate::message::Message;
use crate::replies::{Replies, Reply};
use crate::status::InboxStatus;

/// How long replies are also kept in memory. The file keeps them as long as ids.
const REPLIES_IN_MEMORY_FOR: Duration = Duration::from_secs(60);

impl DurableOptions {
    /// Opens the file at `path`, or creates it (mode 0600). Returns the server's side of the inbox
    /// and the application's side.
    ///
    /// Only one process at a time may have the file open: a lock on a file beside it, with `.lock`
    /// appended to the name, ensures that. [`InboxSender::finish`] closes the inbox; so does
    /// dropping the last handle and the last delivery.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(self, path: impl AsRef<Path>) -> Result<(InboxSender, Inbox), OpenError> {
        let path = path.as_ref().to_owned();
        let (opened, answer) = oneshot::channel();
        let commands = Arc::new(Commands::default());
        let replies = Arc::new(Replies::new(
            REPLIES_IN_MEMORY_FOR,
            usize::try_from(self.replies_bytes_max).unwrap_or(usize::MAX),
        ));
        let reply_bytes_max = self.reply_bytes_max;
        let start = Start {
            path,
            options: self,
            commands: Arc::clone(&commands),
            replies: Arc::clone(&replies),
            opened,
        };
        std::thread::Builder::new()
            .name("web-ipc-inbox".into())
            .spawn(move || thread::run(start))
            .map_err(|source| OpenError::Thread { source })?;
        answer.await.map_err(|_| OpenError::Thread {
            source: io::Error::other("the inbox's thread ended"),
        })??;
        Ok(both_sides(Arc::new(Durable { commands, replies, reply_bytes_max })))
    }
}

/// What all handles and deliveries share.
struct Durable {
    commands: Arc<Commands>,
    replies: Arc<Replies>,
    reply_bytes_max: usize,
}

/// Without a handle no command can come, and the thread ends.
impl Drop for Durable {
    fn drop(&mut self) {
        self.commands.nothing_comes();
    }
}

impl Durable {
    /// Sends a command and waits for the answer; `None` if the thread has ended.
    fn send<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Answer<T> {
        let (done, answer) = oneshot::channel();
        // If the thread has ended, the command is dropped with its `done`, and the answer is
        // `None`.
        let _gone = self.commands.send(command(done));
        Answer(answer)
    }

    /// Sends a command about dead letters.
    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StorageError>>) -> Command,
    ) -> Pending<'static, Result<T, StorageError>> {
        let answer = self.send(command);
        let gone = || Err(StorageError::new("the inbox has ended"));
        Pending::later(async move { answer.await.unwrap_or_else(gone) })
    }

    /// Sends a command about a message that was taken.
    fn ask_of_lease(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), AckError>>) -> Command,
    ) -> Pending<'static, Result<(), AckError>> {
        let answer = self.send(command);
        Pending::later(async move { answer.await.unwrap_or(Err(AckError::TooLate)) })
    }

    fn ack(
        &self,
        acked: Vec<Acked>,
    ) -> impl Future<Output = Vec<Result<(), AckError>>> + Send + use<> {
        let count = acked.len();
        let answer = self.send(|done| Command::Ack { acked, done });
        async move {
            let late = || std::iter::repeat_with(|| Err(AckError::TooLate)).take(count).collect();
            answer.await.unwrap_or_else(late)
        }
    }

    fn ack_one(&self, acked: Acked) -> Pending<'static, Result<(), AckError>> {
        let answers = self.ack(vec![acked]);
        Pending::later(async { answers.await.pop().unwrap_or(Err(AckError::TooLate)) })
    }
}

/// An acknowledged message, with what its sender hears if it waits for a reply.
fn acked(taken: &Taken, reply: Reply) -> Acked {
    Acked { lease: taken.lease, key: request_of(taken), reply }
}

/// The answer to a command.
struct Answer<T>(oneshot::Receiver<T>);

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

/// The request that gets the reply, if its sender waits for one.
fn request_of(taken: &Taken) -> Option<(Arc<str>, MessageId)> {
    taken.message.wants_reply.then(|| (Arc::clone(&taken.message.user), taken.message.id))
}

impl InboxBackend for Durable {
    fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        let answers = self.put_all(vec![message], wait);
        answers.map(|(mut puts, notify)| (puts.pop().unwrap_or(Err(PutError::Unavailable)), notify))
    }

    fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, NotifyGuard)> {
        // The thread itself notifies the takers, so the guard has nothing to do.
        if messages.is_empty() {
            return Pending::ready((Vec::new(), NotifyGuard::none()));
        }
        let count = messages.len();
        let answer = self.send(|done| Command::Put { messages, wait, done });
        Pending::later(async move {
            let puts = answer.await.unwrap_or_else(|| vec![Err(PutError::Closed); count]);
            (puts, NotifyGuard::none())
        })
    }

    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>> {
        let answer = self.send(|done| Command::Take { count_max: count_max.max(1), done });
        Pending::later(async { answer.await.map(Handed::accept).unwrap_or_default() })
    }

    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>> {
        self.ack_one(acked(taken, Err(NoReply::NotGiven)))
    }

    fn acknowledge_all(&self, taken: &[&Taken]) -> Pending<'_, Vec<Result<(), AckError>>> {
        if taken.is_empty() {
            return Pending::ready(Vec::new());
        }
        let acked = |taken: &&Taken| acked(taken, Err(NoReply::NotGiven));
        Pending::later(self.ack(taken.iter().map(acked).collect()))
    }

    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.ack_one(acked(taken, Ok(body)))
    }

    fn decline(&self, taken: &Taken, reason: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.ack_one(acked(taken, Err(NoReply::Declined(reason))))
    }

    fn nack(&self, taken: &Taken, delay: Duration) -> Pending<'_, Result<(), AckError>> {
        let lease = taken.lease;
        self.ask_of_lease(|done| Command::Nack { lease, delay: Some(delay), done: Some(done) })
    }

    fn extend(&self, taken: &Taken, time: Duration) -> Pending<'_, Result<(), AckError>> {
        self.ask_of_lease(|done| Command::Extend { lease: taken.lease, time, done })
    }

    fn reject(&self, taken: &Taken, reason: Box<str>) -> Pending<'_, Result<(), AckError>> {
        self.ask_of_lease(|done| Command::Reject { lease: taken.lease, reason, done })
    }

    fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Pending<'_, Result<Vec<DeadLetter>, StorageError>> {
        self.ask(|done| Command::DeadLetters { after, count_max, done })
    }

    fn requeue(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        let ids = ids.to_vec();
        self.ask(|done| Command::Requeue { ids, done })
    }

    fn discard(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        let ids = ids.to_vec();
        self.ask(|done| Command::Discard { ids, done })
    }

    fn dropped(&self, taken: &Taken) {
        // A dropped message is delivered again soon. A dropped request is acknowledged instead, so
        // that its sender is told at once.
        let command = if taken.message.wants_reply {
            let (done, _nobody_waits) = oneshot::channel();
            Command::Ack { acked: vec![acked(taken, Err(NoReply::NotGiven))], done }
        } else {
            Command::Nack { lease: taken.lease, delay: None, done: None }
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
                // The reply is still to come, and `replies` knows the request now.
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
        // Without the thread the inbox is closed already.
        Pending::later(async { answer.await.unwrap_or(()) })
    }

    fn waiting(&self) -> Pending<'_, u64> {
        let answer = self.send(|done| Command::Waiting { done });
        Pending::later(async { answer.await.unwrap_or(0) })
    }

    fn status(&self) -> Pending<'_, InboxStatus> {
        let answer = self.send(|done| Command::Status { done });
        let ended = || InboxStatus::of_problem("the inbox has ended");
        Pending::later(async move { answer.await.unwrap_or_else(ended) })
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
