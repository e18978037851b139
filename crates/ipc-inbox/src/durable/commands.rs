//! What the inbox's thread is asked to do, and messages on their way back.
//!
//! The handle sends commands, the thread carries them out. Nothing here decides anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::tables::Key;
use super::{DeadLetter, StorageError};
use crate::replies::Reply;
use crate::{AckError, Message, Put, PutError, Taken};

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
    /// Acknowledged, or with `key` also replied to or let go.
    Settle(Settled),
    /// Let go without an acknowledgement.
    Drop {
        ticket: u64,
    },
    /// Messages that were on their way to a taker who had gone.
    Return(Vec<Taken>),
    /// `None`: the reply is still to be given, and is waited for from now on.
    FindReply {
        key: Key,
        done: oneshot::Sender<Option<Reply>>,
    },
    DeadLetters {
        after: u64,
        count: u32,
        done: oneshot::Sender<Result<Vec<DeadLetter>, StorageError>>,
    },
    PutBack {
        numbers: Vec<u64>,
        done: oneshot::Sender<Result<usize, StorageError>>,
    },
    Discard {
        numbers: Vec<u64>,
        done: oneshot::Sender<Result<usize, StorageError>>,
    },
    /// Answered when everything is in the file.
    Close {
        done: oneshot::Sender<()>,
    },
    Waiting {
        done: oneshot::Sender<u64>,
    },
    /// The last one that is carried out. Answered when the file is closed, with how many messages wait in it.
    Finish {
        done: oneshot::Sender<u64>,
    },
}

impl Command {
    /// How many messages it puts.
    pub(super) fn messages(&self) -> usize {
        match self {
            Command::Put { messages, .. } => messages.len(),
            _ => 0,
        }
    }
}

/// A message that has been dealt with.
pub(super) struct Settled {
    pub(super) ticket: u64,
    /// Whose reply it is, if one is waited for.
    pub(super) key: Option<Key>,
    pub(super) reply: Option<Arc<str>>,
    pub(super) done: oneshot::Sender<Result<(), AckError>>,
}

/// Messages on their way to whoever takes them. Dropped on the way, they go back.
pub(super) struct Handed {
    taken: Vec<Taken>,
    returns: mpsc::WeakUnboundedSender<Command>,
}

impl Handed {
    pub(super) fn new(taken: Vec<Taken>, returns: mpsc::WeakUnboundedSender<Command>) -> Self {
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
        if !taken.is_empty()
            && let Some(returns) = self.returns.upgrade()
        {
            // Without the thread they come again with the next opening.
            let _gone = returns.send(Command::Return(taken));
        }
    }
}
