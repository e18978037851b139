//! An open inbox: the thread with its tasks, and the trait that the two sides of an inbox use.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipc_inbox::{
    AckError, DeadLetter, DeadLetterId, DeadReason, Inbox, InboxBackend, InboxSender, InboxStatus,
    Message, NoReply, NotifyGuard, Pending, Put, PutError, StorageError, Taken,
};
use ipc_protocol::MessageId;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::connection::{self, Connected};
use crate::error::JetStreamError;
use crate::ids::Ids;
use crate::leaders::Leaders;
use crate::local::{Arrived, Handed, Local};
use crate::options::JetStreamOptions;
use crate::room::Room;
use crate::shared::{Counts, Shared, Trouble};
use crate::waits::Waits;
use crate::wire::{KeptReply, Key, Names, reply_bytes_max};
use crate::{dead, pruning, pulling, put, replies, settling};

/// How often the consumer is asked how many messages there are, while this process puts or waits.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether a closed inbox is empty.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

/// How often that is looked at once it was.
const DRAINED_EVERY: Duration = Duration::from_millis(100);

/// For how long no message may come before a closed inbox counts as empty, while other servers, or
/// a delay, have messages of it.
const DRAINED_AFTER: Duration = Duration::from_millis(500);

/// How long a receiver waits for messages that are on their way, rather than take fewer.
const CATCH_UP: Duration = Duration::from_millis(250);

/// How long the end of an inbox waits for what was begun.
const END_WITHIN: Duration = Duration::from_secs(12);

impl JetStreamOptions {
    /// Connects, makes the inbox if it does not exist, and opens it. Returns the server's side of
    /// the inbox and the application's side.
    ///
    /// Any number of processes may have the same inbox open. Each message goes to one of them.
    /// [`InboxSender::finish`] closes the inbox for this process, and so does dropping the last
    /// handle and the last delivery. From then on another process gets what this one had.
    ///
    /// # Errors
    /// [`JetStreamError`].
    pub async fn open(self) -> Result<(InboxSender, Inbox), JetStreamError> {
        let (opened, answer) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name("web-ipc-nats".into())
            .spawn(move || run(self, opened, stopped))
            .map_err(|source| JetStreamError::Thread { source })?;
        let ended = || std::io::Error::other("the inbox's thread ended");
        let shared = answer.await.map_err(|_| JetStreamError::Thread { source: ended() })??;
        Ok(Inbox::with_backend(JetStream {
            shared,
            stop: Mutex::new(Some(stop)),
            has_ended: AtomicBool::new(false),
        }))
    }
}

/// The inbox's thread: everything that talks to the NATS server runs here.
fn run(
    options: JetStreamOptions,
    opened: oneshot::Sender<Result<Arc<Shared>, JetStreamError>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(source) => {
            let _gone = opened.send(Err(JetStreamError::Thread { source }));
            return;
        }
    };
    runtime.block_on(async {
        let shared = match start(options).await {
            Ok(shared) => shared,
            Err(error) => {
                let _gone = opened.send(Err(error));
                return;
            }
        };
        tokio::spawn(pulling::run(Arc::clone(&shared)));
        tokio::spawn(replies::listen(Arc::clone(&shared)));
        tokio::spawn(settling::keep_leases(Arc::clone(&shared)));
        tokio::spawn(pruning::run(Arc::clone(&shared)));
        tokio::spawn(count(Arc::clone(&shared)));
        if opened.send(Ok(Arc::clone(&shared))).is_err() {
            return;
        }
        // The backend is dropped, or has ended.
        let _dropped = stopped.await;
        let released = settling::release_all(&shared);
        let _in_time = tokio::time::timeout(Duration::from_secs(2), released).await;
    });
}

async fn start(options: JetStreamOptions) -> Result<Arc<Shared>, JetStreamError> {
    let connected = connection::connect(&options).await?;
    let Connected { client, jetstream, is_connected, denied } = connected;
    let names = Names::of(&options.name);
    let ensured = connection::ensure(&jetstream, &options, &names).await;
    let ack_wait = ensured.map_err(|error| denied.explains(error, &options))?;
    denied.is_open();
    let mut origin = [0; 8];
    getrandom::fill(&mut origin).map_err(|error| JetStreamError::Thread {
        source: std::io::Error::other(error.to_string()),
    })?;
    let shared = Arc::new(Shared {
        names,
        origin: format!("{:016x}", u64::from_ne_bytes(origin)),
        client,
        jetstream,
        is_connected,
        ack_wait,
        room: Arc::new(Room::new(options.messages_max)),
        ids: Ids::new(options.remembered_for, Instant::now()),
        local: Local::new(options.visibility_timeout, options.max_deliveries, options.prefetch),
        waits: Waits::default(),
        leaders: Leaders::default(),
        changed: Notify::new(),
        pull: Notify::new(),
        count: Notify::new(),
        is_closed: AtomicBool::new(false),
        runtime: tokio::runtime::Handle::current(),
        is_pulling: watch::Sender::new(true),
        trouble: Trouble::default(),
        calls: watch::Sender::new(0),
        options,
    });
    correct_room(&shared).await;
    Ok(shared)
}

/// Takes over from the consumer how many messages there are.
async fn correct_room(shared: &Shared) {
    let snapshot = shared.room.snapshot();
    if let Ok(counts) = shared.consumer().await {
        shared.room.correct(counts.outstanding(), snapshot);
    }
}

/// Counts the messages now and then, as other servers put and acknowledge too.
async fn count(shared: Arc<Shared>) {
    loop {
        let is_wanted = tokio::time::timeout(COUNT_EVERY, shared.count.notified()).await.is_ok();
        if shared.is_connected() {
            correct_room(&shared).await;
        }
        if is_wanted {
            // However many calls want it, a count is a request.
            tokio::time::sleep(DRAIN_EVERY).await;
        }
    }
}

/// Watches a closed inbox, and says when it is empty: when everything was delivered that was put
/// before it was closed.
async fn drain(shared: Arc<Shared>) {
    let mut last = None;
    let mut quiet_since = Instant::now();
    let mut limit = None;
    loop {
        let mut pause = DRAIN_EVERY;
        let (here, changes) = shared.local.here();
        if last != Some(changes) {
            (last, quiet_since) = (Some(changes), Instant::now());
        }
        if !shared.local.has_ready()
            && let Ok(counts) = shared.consumer().await
        {
            // What other servers put from now on is theirs.
            let limit = *limit.get_or_insert(counts.delivered() + counts.pending());
            let is_delivered = counts.pending() == 0 || counts.delivered() >= limit;
            let is_ours = counts.unacknowledged() <= here as u64;
            if is_delivered && (is_ours || quiet_since.elapsed() >= DRAINED_AFTER) {
                shared.local.is_drained(changes);
                shared.changed.notify_waiters();
                // A message that is given back comes again.
                pause = DRAINED_EVERY;
            }
        } else if !shared.is_connected() && quiet_since.elapsed() >= DRAINED_AFTER {
            // Nothing can be delivered; it stays for the next server.
            shared.local.is_drained(changes);
            shared.changed.notify_waiters();
        }
        tokio::time::sleep(pause).await;
    }
}

/// The inbox, as handles and deliveries have it.
struct JetStream {
    shared: Arc<Shared>,
    /// Ends the thread.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    has_ended: AtomicBool,
}

/// Without a handle nothing is put or taken any more.
impl Drop for JetStream {
    fn drop(&mut self) {
        self.stop_thread();
    }
}

impl JetStream {
    fn stop_thread(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Ends a lease and carries out what becomes of its message.
    fn end<F>(
        &self,
        taken: &Taken,
        what: impl FnOnce(Arc<Shared>, Arrived) -> F,
    ) -> Pending<'static, Result<(), AckError>>
    where
        F: Future<Output = Result<(), AckError>> + Send + 'static,
    {
        match self.shared.local.end_lease(taken.lease, Instant::now()) {
            Some(arrived) => {
                let done = self.shared.call(what(Arc::clone(&self.shared), arrived));
                Pending::later(async { done.await.unwrap_or(Err(AckError::TooLate)) })
            }
            None => Pending::ready(Err(AckError::TooLate)),
        }
    }

    fn storage<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, StorageError>> + Send + 'static,
    ) -> Pending<'static, Result<T, StorageError>> {
        let done = self.shared.call(call);
        Pending::later(async {
            done.await.unwrap_or_else(|_| Err(StorageError::new("the inbox has ended")))
        })
    }

    async fn take(&self, count_max: usize) -> Vec<Taken> {
        let shared = &self.shared;
        let catch_up_until = Instant::now() + CATCH_UP;
        let mut wanting = None;
        let mut _timer = None;
        loop {
            let changed = shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            match shared.local.take(count_max, catch_up_until, Instant::now()) {
                Handed::Messages(taken) => {
                    // There may be room to prefetch more.
                    shared.pull.notify_one();
                    return taken;
                }
                Handed::End => return Vec::new(),
                Handed::Wait(until) => {
                    if wanting.is_none() {
                        wanting = Some(Wanting::new(shared, count_max));
                    }
                    if let Some(until) = until {
                        // The receiver may have no timer, and the inbox's thread has.
                        let waker = Arc::clone(shared);
                        _timer = Some(Timer(shared.runtime.spawn(async move {
                            tokio::time::sleep_until(until.into()).await;
                            waker.changed.notify_waiters();
                        })));
                    }
                }
            }
            changed.await;
        }
    }
}

/// A receiver that waits for messages.
struct Wanting<'a> {
    shared: &'a Shared,
    count: usize,
}

impl<'a> Wanting<'a> {
    fn new(shared: &'a Shared, count: usize) -> Self {
        shared.local.want(count);
        shared.pull.notify_one();
        Wanting { shared, count }
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.shared.local.no_longer_want(self.count);
    }
}

struct Timer(JoinHandle<()>);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl InboxBackend for JetStream {
    fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        self.put_all(vec![message], wait)
            .map(|(mut puts, notify)| (puts.pop().unwrap_or(Err(PutError::Unavailable)), notify))
    }

    fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, NotifyGuard)> {
        // Receivers hear of a message from the NATS server.
        Pending::later(async move {
            (put::put_all(&self.shared, messages, wait).await, NotifyGuard::none())
        })
    }

    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>> {
        Pending::later(self.take(count_max.max(1)))
    }

    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>> {
        self.acknowledge_all(&[taken])
            .map(|mut results| results.pop().unwrap_or(Err(AckError::TooLate)))
    }

    fn acknowledge_all(&self, taken: &[&Taken]) -> Pending<'_, Vec<Result<(), AckError>>> {
        let now = Instant::now();
        let ended: Vec<Option<Arrived>> =
            taken.iter().map(|one| self.shared.local.end_lease(one.lease, now)).collect();
        let is_live: Vec<bool> = ended.iter().map(Option::is_some).collect();
        let live: Vec<Arrived> = ended.into_iter().flatten().collect();
        let done = match live.is_empty() {
            true => None,
            false => Some(self.shared.call(settling::acknowledge(Arc::clone(&self.shared), live))),
        };
        Pending::later(async move {
            let results = match done {
                Some(done) => done.await.unwrap_or_default(),
                None => Vec::new(),
            };
            let mut results = results.into_iter();
            let result = |is_live| match is_live {
                true => results.next().unwrap_or(Err(AckError::TooLate)),
                false => Err(AckError::TooLate),
            };
            is_live.into_iter().map(result).collect()
        })
    }

    fn dropped(&self, taken: &Taken) {
        let done = match taken.message.wants_reply {
            // Its sender is told at once.
            true => self.acknowledge(taken),
            false => self.nack(taken, self.shared.options.nack_delay),
        };
        // It goes on without anyone who waits.
        drop(done);
    }

    fn nack(&self, taken: &Taken, delay: Duration) -> Pending<'_, Result<(), AckError>> {
        if taken.is_last_delivery {
            let deliveries = taken.redeliveries.saturating_add(1);
            return self.end(taken, |shared, arrived| {
                settling::bury(shared, arrived, deliveries, DeadReason::MaxDeliveries)
            });
        }
        self.end(taken, |shared, arrived| settling::give_back(shared, arrived, delay))
    }

    fn extend(&self, taken: &Taken, time: Duration) -> Pending<'_, Result<(), AckError>> {
        // The lease at the NATS server is renewed as long as this one lasts.
        Pending::ready(match self.shared.local.extend(taken.lease, time, Instant::now()) {
            true => Ok(()),
            false => Err(AckError::TooLate),
        })
    }

    fn reject(&self, taken: &Taken, reason: Box<str>) -> Pending<'_, Result<(), AckError>> {
        let deliveries = taken.redeliveries.saturating_add(1);
        self.end(taken, |shared, arrived| {
            settling::bury(shared, arrived, deliveries, DeadReason::Rejected(reason))
        })
    }

    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.end(taken, |shared, arrived| settling::reply(shared, arrived, KeptReply::Given(body)))
    }

    fn decline(&self, taken: &Taken, reason: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.end(taken, |shared, arrived| {
            settling::reply(shared, arrived, KeptReply::Declined(reason))
        })
    }

    fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        Pending::later(replies::wait(Arc::clone(&self.shared), user.to_owned(), id))
    }

    fn is_awaited(&self, taken: &Taken) -> bool {
        // Whoever waits at another server may not have been heard of.
        let key = Key::of(&taken.message.user, taken.message.id);
        self.shared.ids.get(key).is_none() || self.shared.waits.is_awaited(key)
    }

    fn reply_bytes_max(&self) -> usize {
        self.shared.options.reply_bytes_max.min(reply_bytes_max(self.shared.client.max_payload()))
    }

    fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Pending<'_, Result<Vec<DeadLetter>, StorageError>> {
        self.storage(dead::list(Arc::clone(&self.shared), after, count_max))
    }

    fn requeue(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        self.storage(dead::requeue(Arc::clone(&self.shared), ids.to_vec()))
    }

    fn discard(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        self.storage(dead::discard(Arc::clone(&self.shared), ids.to_vec()))
    }

    fn close(&self) -> Pending<'_, ()> {
        let was_closed = self.shared.is_closed.swap(true, Ordering::AcqRel);
        self.shared.room.close();
        if !was_closed {
            drop(self.shared.runtime.spawn(drain(Arc::clone(&self.shared))));
        }
        Pending::ready(())
    }

    fn waiting(&self) -> Pending<'_, u64> {
        if self.has_ended.load(Ordering::Acquire) {
            return Pending::ready(0);
        }
        let shared = Arc::clone(&self.shared);
        let count = self.shared.runtime.spawn(async move { waiting(&shared).await });
        Pending::later(async { count.await.unwrap_or(0) })
    }

    fn status(&self) -> Pending<'_, InboxStatus> {
        let ended = || InboxStatus::of_problem("the inbox has ended");
        if self.has_ended.load(Ordering::Acquire) {
            return Pending::ready(ended());
        }
        let shared = Arc::clone(&self.shared);
        let status = self.shared.runtime.spawn(async move {
            match shared.consumer().await {
                Ok(counts) => InboxStatus::of_waiting(not_held(&counts, &shared)),
                Err(_lost) => InboxStatus::of_problem(
                    "the NATS server does not answer for the inbox's consumer",
                ),
            }
        });
        Pending::later(async move { status.await.unwrap_or_else(|_| ended()) })
    }

    fn finish(&self) -> Pending<'_, u64> {
        drop(self.close());
        if self.has_ended.swap(true, Ordering::AcqRel) {
            return Pending::ready(0);
        }
        let shared = Arc::clone(&self.shared);
        let left = self.shared.runtime.spawn(async move {
            let done = shared.calls_are_done();
            if tokio::time::timeout(END_WITHIN, done).await.is_err() {
                log::warn!("the NATS server was not told of everything before the inbox's end");
            }
            let left = waiting(&shared).await;
            settling::release_all(&shared).await;
            shared.waits.end_all();
            shared.changed.notify_waiters();
            left
        });
        Pending::later(async move {
            let left = left.await.unwrap_or(0);
            self.stop_thread();
            left
        })
    }
}

/// How many messages wait: of those that are not acknowledged, all that the application does not
/// have.
async fn waiting(shared: &Shared) -> u64 {
    shared.consumer().await.map_or(0, |counts| not_held(&counts, shared))
}

fn not_held(counts: &Counts, shared: &Shared) -> u64 {
    counts.outstanding().saturating_sub(shared.local.held() as u64)
}

impl fmt::Debug for JetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStream").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
