//! What the inbox's thread is asked to do, how it gets there, and messages on their way back.
//!
//! The handle sends commands, the thread carries them out. Nothing here decides what comes of one,
//! only whether the thread need be woken for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::statements::Key;
use crate::backend::{AckError, Put, PutError, Taken};
use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::message::Message;
use crate::replies::Reply;

/// What the thread is asked to do.
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
    /// Acknowledged, or with `key` also replied to or let go; an answer for each, at the same
    /// index.
    Ack {
        acked: Vec<Acked>,
        done: oneshot::Sender<Vec<Result<(), AckError>>>,
    },
    /// To be delivered again, after the time of the options where there is no `delay`. Nobody
    /// waits for the answer to a delivery that was dropped.
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
    /// Messages that were on their way to a taker who had gone.
    Return(Vec<Taken>),
    /// `None`: the reply is still to be given, and is waited for from now on.
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
    /// Answered when everything is in the file.
    Close {
        done: oneshot::Sender<()>,
    },
    Waiting {
        done: oneshot::Sender<u64>,
    },
    /// The last one that is carried out. Answered when the file is closed, with how many messages
    /// wait in it.
    Finish {
        done: oneshot::Sender<u64>,
    },
}

impl Command {
    /// How many messages it puts or settles.
    pub(super) fn messages(&self) -> usize {
        match self {
            Command::Put { messages, .. } => messages.len(),
            Command::Ack { acked, .. } => acked.len(),
            _ => 0,
        }
    }
}

/// A message that has been dealt with.
pub(super) struct Acked {
    pub(super) lease: u64,
    /// Whose reply it is, if one is waited for.
    pub(super) key: Option<Key>,
    pub(super) reply: Option<Arc<str>>,
}

/// Commands on their way to the thread, in order.
#[derive(Default)]
pub(super) struct Commands {
    state: Mutex<State>,
    has_come: Notify,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    /// What the thread, which sleeps, need not be woken for.
    patience: Patience,
    /// Nobody can send one any more.
    nothing_comes: bool,
    /// Nobody carries them out any more.
    has_ended: bool,
}

/// Commands that wait without a word at most. Whoever asks for messages and thinks better of it,
/// again and again, fills no memory.
const PATIENT_MAX: usize = 1024;

/// What can wait until the thread, which sleeps, wakes up for something else. To wake it takes the
/// processor from somebody, twice, and what comes of it is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// Acknowledgements that are no replies: they are kept back for so long that the thread wakes
    /// up by itself before.
    pub(super) for_acknowledgements: bool,
    /// Those who ask for messages: there is none, and whatever brings one wakes the thread.
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
    /// Sends one. Gives it back if nobody carries it out any more.
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

    /// The next one that is there.
    pub(super) fn next(&self) -> Option<Command> {
        self.state().commands.pop_front()
    }

    /// Waits until there is one that cannot wait. Returns at once if there is any. `false` if none
    /// comes any more.
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

    /// The thread is at work, and wakes up for anything once it sleeps again.
    pub(super) fn be_awake(&self) {
        self.state().patience = Patience::default();
    }

    /// Nobody can send one any more: the thread ends once it has done what is there.
    pub(super) fn nothing_comes(&self) {
        self.state().nothing_comes = true;
        self.has_come.notify_one();
    }

    /// Nobody carries them out any more: those who wait are told so.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let left = std::mem::take(&mut state.commands);
        drop(state);
        // Some send others when they are dropped.
        drop(left);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages on their way to whoever takes them. Dropped on the way, they go back.
pub(super) struct Handed {
    taken: Vec<Taken>,
    returns: Arc<Commands>,
}

impl Handed {
    pub(super) fn new(taken: Vec<Taken>, returns: Arc<Commands>) -> Self {
        Handed { taken, returns }
    }

    /// They have arrived.
    pub(super) fn accept(mut self) -> Vec<Taken> {
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if !taken.is_empty() {
            // Without the thread they come again with the next opening.
            let _gone = self.returns.send(Command::Return(taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            acked: vec![Acked { lease: 1, key, reply: None }],
            done: oneshot::channel().0,
        }
    }

    /// Whether the thread, which sleeps with such patience, is woken for what comes then.
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
        // Without one there is nothing to do: the first wake-up was for one that has been dealt
        // with.
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
