//! The commands for the inbox's thread, their queue, and messages that come back undelivered.
//!
//! The handle sends commands, and the thread carries them out. Nothing here knows what a command
//! does, only whether it must wake the thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::statements::Key;
use crate::backend::{AckError, Put, PutError, Taken};
use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::message::Message;
use crate::replies::Reply;
use crate::status::InboxStatus;

/// A command for the thread.
pub(super) enum Command {
    Put {
        messages: Vec<Message>,
        wait: Duration,
        done: oneshot::Sender<Vec<Result<Put, PutError>>>,
    },
    Take {
        count_max: usize,
        done: oneshot::Sender<Handed>,
    },
    /// Acknowledges messages. With `key` it also notes a reply, or that there is none. Each message
    /// has an answer at the same index.
    Ack {
        acked: Vec<Acked>,
        done: oneshot::Sender<Vec<Result<(), AckError>>>,
    },
    /// Gives a message back, to be delivered again after `delay`, or after the time of the options
    /// if it is `None`. `done` is `None` for a delivery that was dropped: nobody waits for an
    /// answer.
    Nack {
        lease: u64,
        delay: Option<Duration>,
        done: Option<oneshot::Sender<Result<(), AckError>>>,
    },
    Extend {
        lease: u64,
        time: Duration,
        done: oneshot::Sender<Result<(), AckError>>,
    },
    Reject {
        lease: u64,
        reason: Box<str>,
        done: oneshot::Sender<Result<(), AckError>>,
    },
    /// Brings back messages whose taker was gone when they were handed over.
    Return(Vec<Taken>),
    /// The answer is `None` if the reply is still to come; it is waited for in memory then.
    FindReply {
        key: Key,
        done: oneshot::Sender<Option<Reply>>,
    },
    DeadLetters {
        after: Option<DeadLetterId>,
        count_max: usize,
        done: oneshot::Sender<Result<Vec<DeadLetter>, StorageError>>,
    },
    Requeue {
        ids: Vec<DeadLetterId>,
        done: oneshot::Sender<Result<usize, StorageError>>,
    },
    Discard {
        ids: Vec<DeadLetterId>,
        done: oneshot::Sender<Result<usize, StorageError>>,
    },
    /// The answer comes when everything is in the database file.
    Close {
        done: oneshot::Sender<()>,
    },
    Waiting {
        done: oneshot::Sender<u64>,
    },
    Status {
        done: oneshot::Sender<InboxStatus>,
    },
    /// The last command that is carried out. The answer comes when the file is closed: how many
    /// messages wait in it.
    Finish {
        done: oneshot::Sender<u64>,
    },
}

impl Command {
    /// How many messages the command puts or acknowledges.
    pub(super) fn messages(&self) -> usize {
        match self {
            Command::Put { messages, .. } => messages.len(),
            Command::Ack { acked, .. } => acked.len(),
            _ => 0,
        }
    }
}

/// A message that has been acknowledged.
pub(super) struct Acked {
    pub(super) lease: u64,
    /// The request that gets the reply, if its sender waits for one.
    pub(super) key: Option<Key>,
    /// The reply, or why there is none.
    pub(super) reply: Reply,
}

/// The queue of commands for the thread, in order.
#[derive(Default)]
pub(super) struct Commands {
    state: Mutex<State>,
    has_come: Notify,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    /// The commands that need not wake the sleeping thread.
    patience: Patience,
    /// No handle is left that could send a command.
    nothing_comes: bool,
    /// The thread has ended: it carries out no more commands.
    has_ended: bool,
}

/// How many commands may wait without waking the thread. The limit bounds the memory: an
/// application may start to wait for a message and give up, again and again.
const PATIENT_MAX: usize = 1024;

/// Which commands can wait until the sleeping thread wakes up for another reason. Waking it takes
/// the processor from another thread, twice, and would not change the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// Acknowledgements without a reply. The writer holds them back for a time, and wakes up at its
    /// end.
    pub(super) for_acknowledgements: bool,
    /// Requests for messages: there is none, and the command that brings one wakes the thread.
    pub(super) for_takers: bool,
}

impl Patience {
    fn has_for(self, command: &Command) -> bool {
        match command {
            Command::Ack { acked, .. } => {
                self.for_acknowledgements && acked.iter().all(|one| one.key.is_none())
            }
            Command::Take { .. } => self.for_takers,
            _ => false,
        }
    }
}

impl Commands {
    /// Sends a command. Returns it if the thread has ended.
    pub(super) fn send(&self, command: Command) -> Result<(), Command> {
        let mut state = self.state();
        if state.has_ended {
            return Err(command);
        }
        let can_wait = state.commands.len() < PATIENT_MAX && state.patience.has_for(&command);
        state.commands.push_back(command);
        drop(state);
        if !can_wait {
            self.has_come.notify_one();
        }
        Ok(())
    }

    /// Takes the next command, if there is one.
    pub(super) fn next(&self) -> Option<Command> {
        self.state().commands.pop_front()
    }

    /// Waits until there is a command that cannot wait. Returns at once if there is any command.
    /// Returns `false` if no command can come any more.
    pub(super) async fn wait(&self, patience: Patience) -> bool {
        loop {
            {
                let mut state = self.state();
                if !state.commands.is_empty() && state.patience == Patience::default() {
                    return true;
                }
                if state.nothing_comes {
                    return !state.commands.is_empty();
                }
                state.patience = patience;
            }
            self.has_come.notified().await;
            self.be_awake();
        }
    }

    /// Notes that the thread is awake. Once it sleeps again, every command wakes it.
    pub(super) fn be_awake(&self) {
        self.state().patience = Patience::default();
    }

    /// Notes that the last handle is gone: the thread ends once it has carried out the remaining
    /// commands.
    pub(super) fn nothing_comes(&self) {
        self.state().nothing_comes = true;
        self.has_come.notify_one();
    }

    /// Ends the queue, and drops the remaining commands, which tells their callers.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let left = std::mem::take(&mut state.commands);
        drop(state);
        // Dropping a command may send another one, so the lock must not be held.
        drop(left);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages on their way to a taker. They go back to the queue if the taker is gone.
pub(super) struct Handed {
    taken: Vec<Taken>,
    returns: Arc<Commands>,
}

impl Handed {
    pub(super) fn new(taken: Vec<Taken>, returns: Arc<Commands>) -> Self {
        Handed { taken, returns }
    }

    /// Takes the messages: they have reached the taker.
    pub(super) fn accept(mut self) -> Vec<Taken> {
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if !taken.is_empty() {
            // Without the thread the messages are delivered after the next opening.
            let _gone = self.returns.send(Command::Return(taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::NoReply;
    use futures_executor::block_on;
    use ipc_protocol::MessageId;
    use std::task::Poll;

    const ALL: Patience = Patience { for_acknowledgements: true, for_takers: true };

    fn take() -> Command {
        Command::Take { count_max: 1, done: oneshot::channel().0 }
    }

    fn settle(reply: bool) -> Command {
        let key = reply.then(|| ("u".into(), MessageId::from_random([1; 16])));
        Command::Ack {
            acked: vec![Acked { lease: 1, key, reply: Err(NoReply::NotGiven) }],
            done: oneshot::channel().0,
        }
    }

    /// Whether these commands wake a thread that sleeps with this patience.
    fn wakes(patience: Patience, come: impl IntoIterator<Item = Command>) -> bool {
        let commands = Commands::default();
        let mut sleep = Box::pin(commands.wait(patience));
        let mut poll =
            || block_on(std::future::poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context))));
        assert!(poll().is_pending());
        for command in come {
            assert!(commands.send(command).is_ok());
        }
        poll() == Poll::Ready(true)
    }

    #[test]
    fn the_thread_sleeps_on_for_what_can_wait_and_for_nothing_else() {
        let impatient = Patience::default();
        for (patience, command, is_woken) in [
            (ALL, take(), false),
            (ALL, settle(false), false),
            (ALL, settle(true), true),
            (ALL, Command::Nack { lease: 1, delay: None, done: None }, true),
            (impatient, take(), true),
            (impatient, settle(false), true),
            (Patience { for_takers: false, ..ALL }, take(), true),
            (Patience { for_acknowledgements: false, ..ALL }, settle(false), true),
        ] {
            assert_eq!(wakes(patience, [command]), is_woken, "{patience:?}");
        }
        assert!(wakes(ALL, [take(), settle(false), settle(true)]), "for the last of them");
    }

    #[test]
    fn what_waits_without_a_word_has_a_limit() {
        assert!(!wakes(ALL, std::iter::repeat_with(take).take(PATIENT_MAX)));
        assert!(wakes(ALL, std::iter::repeat_with(take).take(PATIENT_MAX + 1)));
    }

    #[test]
    fn what_came_while_the_thread_was_at_work_is_not_slept_over() {
        let commands = Commands::default();
        assert!(commands.send(take()).is_ok());
        assert!(block_on(commands.wait(ALL)));
        // The queue is empty again: the first wake-up was for a command that has been carried out.
        assert!(commands.next().is_some());
        let mut sleep = Box::pin(commands.wait(ALL));
        let polled =
            block_on(std::future::poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context))));
        assert!(polled.is_pending());
    }

    #[test]
    fn the_thread_ends_once_it_has_done_what_came_before_the_last_handle_went() {
        let commands = Commands::default();
        assert!(commands.send(take()).is_ok());
        commands.nothing_comes();
        assert!(block_on(commands.wait(ALL)));
        assert!(commands.next().is_some());
        assert!(!block_on(commands.wait(ALL)));
        commands.end();
        assert!(commands.send(take()).is_err());
    }
}
