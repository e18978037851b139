//! A backend of one's own: messages in a `VecDeque`, with the required methods and replies.
//!
//! It takes no messages back and has no dead letters; a backend need not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_inbox::{
    AckError, Inbox, InboxBackend, Message, NoReply, NotifyGuard, Pending, Put, PutError, Replies,
    Taken,
};
use ipc_protocol::MessageId;
use tokio::sync::Notify;

pub(crate) struct VecDequeInbox {
    messages_max: usize,
    state: Mutex<State>,
    /// A message was put or taken, or the inbox was closed.
    changed: Notify,
    replies: Replies,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Message>,
    /// The accepted messages. A real inbox forgets an id after 10 minutes, or when it has too many.
    bodies: HashMap<(Arc<str>, MessageId), Box<str>>,
    is_closed: bool,
}

impl State {
    /// `None` if there is no room.
    fn put(&mut self, message: &Message, messages_max: usize) -> Option<Result<Put, PutError>> {
        let key = (Arc::clone(&message.user), message.id);
        Some(match self.bodies.get(&key) {
            _ if self.is_closed => Err(PutError::Closed),
            Some(body) if *body == message.body => Ok(Put::Duplicate),
            Some(_) => Err(PutError::IdReused),
            None if self.waiting.len() >= messages_max => return None,
            None => {
                self.bodies.insert(key, message.body.clone());
                self.waiting.push_back(message.clone());
                Ok(Put::Accepted)
            }
        })
    }
}

impl VecDequeInbox {
    pub(crate) fn new(messages_max: usize) -> Self {
        let replies = Replies::new(Duration::from_secs(600), 64 * 1024 * 1024);
        VecDequeInbox { messages_max, state: Mutex::default(), changed: Notify::new(), replies }
    }

    /// Changes the state, and wakes those who wait for a change.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state.lock().expect("nothing panics under the lock"));
        self.changed.notify_waiters();
        done
    }

    /// Waits until `attempt` succeeds.
    async fn when<T>(&self, mut attempt: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            let done = attempt(&mut self.state.lock().expect("nothing panics under the lock"));
            match done {
                Some(done) => return self.change(|_| done),
                None => changed.await,
            }
        }
    }
}

impl InboxBackend for VecDequeInbox {
    fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        Pending::later(async move {
            let put = self.when(|state| state.put(&message, self.messages_max));
            let put = tokio::time::timeout(wait, put).await.unwrap_or(Err(PutError::Full));
            if put == Ok(Put::Accepted) && message.wants_reply {
                self.replies.expect(&message.user, message.id);
            }
            (put, NotifyGuard::none())
        })
    }

    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>> {
        Pending::later(self.when(move |state| {
            let count = state.waiting.len().min(count_max.max(1));
            let taken = state.waiting.drain(..count).map(|message| Taken::new(message, 0));
            let taken: Vec<_> = taken.collect();
            (count > 0 || state.is_closed).then_some(taken)
        }))
    }

    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>> {
        self.dropped(taken);
        Pending::ready(Ok(()))
    }

    fn dropped(&self, Taken { message, .. }: &Taken) {
        if message.wants_reply {
            let no_reply = Err(NoReply::NotGiven);
            self.replies.settle(&message.user, message.id, no_reply, Instant::now());
        }
    }

    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.replies.settle(&taken.message.user, taken.message.id, Ok(body), Instant::now());
        Pending::ready(Ok(()))
    }

    fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        self.replies.wait(user, id)
    }

    fn is_awaited(&self, taken: &Taken) -> bool {
        self.replies.is_awaited(&taken.message.user, taken.message.id)
    }

    fn close(&self) -> Pending<'_, ()> {
        self.change(|state| state.is_closed = true);
        Pending::ready(())
    }

    fn waiting(&self) -> Pending<'_, u64> {
        Pending::ready(self.change(|state| state.waiting.len() as u64))
    }

    fn finish(&self) -> Pending<'_, u64> {
        let left = self.change(|state| {
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        });
        self.replies.end_all_waits(NoReply::NotGiven);
        Pending::ready(left.len() as u64)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A server takes both sides: `Server::builder(&home).inbox(Inbox::with_backend(…))`.
    let (sender, inbox) = Inbox::with_backend(VecDequeInbox::new(100));
    let message = Message {
        id: MessageId::from_random([1; 16]),
        user: "sensor".into(),
        certificate: None,
        peer: None,
        received_at: std::time::SystemTime::now(),
        body: r#"{"test":1}"#.into(),
        wants_reply: false,
    };
    sender.put(message, Duration::ZERO).await?;
    let delivery = inbox.recv().await.ok_or("the inbox was closed")?;
    assert_eq!(delivery.body(), r#"{"test":1}"#);
    Ok(delivery.ack().await?)
}
