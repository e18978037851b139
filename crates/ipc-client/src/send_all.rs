//! `send_all`: takes many messages, in order, from an iterator or a stream, cuts them into batches,
//! and reports what became of each.
//!
//! A few batches are passed to the client's thread at a time, each with an answer of its own, while
//! the next one is filled. The engine decides how a batch is sent, and keeps the order.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use ipc_base::Remedy;
use ipc_protocol::{BATCH_MESSAGES_MAX_DEFAULT, MessageId, fits_an_entry};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::call::{self, BatchEvent, BatchSender, Call, ENTRY_BYTES, EntryStatus, Kind, Messages};
use crate::client::{Client, Shared};
use crate::error::{Outcome, SendError};
use crate::random::Pool;
use crate::worker::Job;

/// The default for the most messages in a batch.
pub const BATCH_MESSAGES_DEFAULT: usize = 500;

/// The default for the most bytes of messages in a batch: 1 MiB.
pub const BATCH_BYTES_DEFAULT: usize = 1024 * 1024;

/// How many refusals a [`Report`] lists. Further ones are only counted.
pub const REFUSALS_KEPT_MAX: usize = 1000;

/// An upper bound for the bytes of a batch's frame beside its messages. Most of them are the
/// session token.
const AROUND_BYTES: usize = 2048;

/// A call that sends many messages. [`Client::send_all`] and [`Client::send_all_stream`] make it,
/// `.await` runs it, and so does [`wait`](SendAll::wait) in code that is not async.
#[must_use = "nothing is sent until it is awaited, or `wait` is called"]
pub struct SendAll<'a, S> {
    shared: Arc<Shared>,
    messages: S,
    batch_messages: usize,
    batch_bytes: usize,
    ids: Option<Ids<'a>>,
    on_progress: Option<OnProgress<'a>>,
}

type Ids<'a> = Box<dyn FnMut(u64) -> Option<MessageId> + Send + 'a>;

type OnProgress<'a> = Box<dyn FnMut(&Progress<'_>) + Send + 'a>;

/// An iterator as a stream whose next item is always ready.
#[derive(Debug)]
pub struct Items<I>(I);

/// The result of a [`SendAll`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// How many messages the server's inbox has accepted, duplicates included.
    pub sent: u64,
    /// How many of `sent` the inbox had already from an earlier attempt whose answer was lost. Each
    /// is in the inbox once.
    pub duplicates: u64,
    /// How many messages were refused.
    pub refused: u64,
    /// The first [`REFUSALS_KEPT_MAX`] refused messages, with the reasons.
    pub refusals: Vec<Refusal>,
}

/// A message that was refused. The other messages were sent nevertheless.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The index of the message, counted from 0.
    pub index: u64,
    /// The reason. Its [`outcome`](SendError::outcome) is [`Outcome::NotKnown`] if an attempt
    /// before the refused one had no answer.
    pub error: SendError,
}

/// A contiguous run of messages that have been accepted or refused.
#[derive(Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The index of the first of them, counted from 0.
    pub first: u64,
    /// The index after the last of them.
    pub end: u64,
    /// How many of them the inbox had already from an earlier attempt.
    pub duplicates: u64,
    /// The refused ones. All others are in the inbox.
    pub refusals: &'a [Refusal],
}

/// Sending ended before all messages had an answer.
#[derive(Debug, thiserror::Error)]
#[error("not all messages were sent: those before number {from} (counted from 0) have an answer")]
#[non_exhaustive]
pub struct SendAllError {
    /// What became of the messages before `from`.
    pub report: Report,
    /// The index of the first message that was neither accepted nor refused, counted from 0.
    pub from: u64,
    /// The index of the first message that was certainly not sent. [`outcome`](Self::outcome) says
    /// what became of those from `from` to here.
    pub until: u64,
    /// Why it ended.
    #[source]
    pub source: Box<SendError>,
}

impl SendAllError {
    /// What became of the messages from `from` to `until`, as [`SendError::outcome`].
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.source.outcome()
    }

    /// What a person can do about it, as [`SendError::remedy`].
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        self.source.remedy()
    }
}

impl Client {
    /// Sends all messages of an iterator, in order, many at a time: a batch shares one seal, one
    /// request and one commit of the server.
    ///
    /// The inbox accepts the messages in order. A message that found no room, or had no answer when
    /// a connection broke, is sent again before all later ones. Each message has an id of its own
    /// and is in the inbox once, however often it was sent. A message that is not a JSON object, is
    /// too large or is refused by the server is reported with its index, and the others are sent.
    /// While the server is full, down or unreachable, this call waits as [`send`](Client::send)
    /// does, up to the [timeout](crate::ClientBuilder::timeout) without progress.
    ///
    /// The client takes at most four batches ahead from the iterator, so memory does not grow with
    /// the number of messages. It polls the iterator until a batch is full, and waits for slow
    /// items meanwhile. For a slow source use [`send_all_stream`](Client::send_all_stream).
    ///
    /// Dropping the future gives up, as for `send`. Batches in flight may still arrive.
    ///
    /// # Errors
    /// A [`SendAllError`] with the index of the first message without an answer, if the timeout
    /// passes without progress, or if the server refuses more than single messages.
    pub fn send_all<'a, I>(&self, messages: I) -> SendAll<'a, Items<I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        self.send_all_stream(Items(messages.into_iter()))
    }

    /// Sends all messages of a stream, as [`send_all`](Client::send_all) does those of an iterator.
    ///
    /// If the stream has no item ready and no batch is in flight, a batch that is not full is sent.
    /// So a message does not wait for a batch to fill up.
    ///
    /// # Errors
    /// As `send_all`.
    pub fn send_all_stream<'a, S>(&self, messages: S) -> SendAll<'a, S>
    where
        S: Stream,
        S::Item: Serialize,
    {
        SendAll {
            shared: self.shared.clone(),
            messages,
            batch_messages: BATCH_MESSAGES_DEFAULT,
            batch_bytes: BATCH_BYTES_DEFAULT,
            ids: None,
            on_progress: None,
        }
    }
}

impl<'a, S> SendAll<'a, S> {
    /// The most messages in a batch, 1 to [`BATCH_MESSAGES_MAX_DEFAULT`], which is the default
    /// limit of a server. Values outside are clamped. Default 500.
    ///
    /// A server with a lower limit refuses larger batches. The client then sends smaller ones.
    pub fn batch_messages(mut self, messages: usize) -> Self {
        self.batch_messages = messages.clamp(1, BATCH_MESSAGES_MAX_DEFAULT);
        self
    }

    /// The most bytes of JSON text in a batch. A longer message is a batch of its own. Default 1
    /// MiB. The limit never exceeds
    /// [`plaintext_bytes_max`](crate::ClientBuilder::plaintext_bytes_max).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sends messages under these ids instead of new ones, as [`SendCall::id`](crate::SendCall::id)
    /// does one. `id` is called once for each message, in order, with its index, which counts from
    /// 0. A message for which it returns `None` gets a new id.
    ///
    /// A program that derives the ids from its messages can repeat all of them after a failure, and
    /// each is in the inbox once.
    pub fn ids(mut self, id: impl FnMut(u64) -> Option<MessageId> + Send + 'a) -> Self {
        self.ids = Some(Box::new(id));
        self
    }

    /// Calls `tell` whenever some messages have been accepted or refused: in order, each message
    /// once. Later messages may be in flight at that time. The task that awaits the result makes
    /// the call, so `tell` should be quick.
    pub fn on_progress(mut self, tell: impl FnMut(&Progress<'_>) + Send + 'a) -> Self {
        self.on_progress = Some(Box::new(tell));
        self
    }
}

impl<S> SendAll<'_, S>
where
    S: Stream,
    S::Item: Serialize,
{
    /// Sends the messages and waits for the result, in code that is not async.
    ///
    /// # Errors
    /// [`SendAllError`], if some messages were neither accepted nor refused one by one.
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn wait(self) -> Result<Report, SendAllError> {
        futures_executor::block_on(self.run())
    }

    async fn run(self) -> Result<Report, SendAllError> {
        let SendAll { shared, messages, batch_messages, batch_bytes, ids, on_progress } = self;
        let mut messages = pin!(messages);
        let around = shared.config.plaintext_bytes_max.saturating_sub(AROUND_BYTES);
        let mut batcher = Batcher {
            shared: Arc::clone(&shared),
            messages_max: batch_messages,
            bytes_max: batch_bytes.min(around),
            batch: Batch::default(),
            carried: None,
            ids,
            taken: 0,
            randomness: Pool::new(),
            end: None,
        };
        let mut progress = Tally { report: Report::default(), told: 0, on_progress };
        let (events, mut received) = mpsc::unbounded_channel();
        let mut pipeline = Pipeline {
            shared,
            events,
            stream: Arc::default(),
            batches: VecDeque::new(),
            first: 0,
            next: 0,
        };
        loop {
            let step = poll_fn(|cx| {
                if let Poll::Ready(Some(event)) = received.poll_recv(cx) {
                    return Poll::Ready(Step::Event(event));
                }
                let ahead = pipeline.batches.len();
                if ahead < BATCHES_AHEAD {
                    batcher.fill(messages.as_mut(), cx);
                    // With no batch in flight, a batch goes out before it is full.
                    let is_ready = batcher.batch.len() > 0 && (ahead == 0 || batcher.is_full());
                    if is_ready {
                        return Poll::Ready(Step::Batch(batcher.take()));
                    }
                }
                match ahead {
                    0 => {
                        batcher.end.take().map_or(Poll::Pending, |end| Poll::Ready(Step::End(end)))
                    }
                    _ => Poll::Pending,
                }
            });
            match step.await {
                Step::Batch(batch) => {
                    if let Err(error) = pipeline.send(batch) {
                        let until = progress.told;
                        return Err(progress.close(until, error));
                    }
                    // Messages that cannot be sent have their result already.
                    progress.enter(&mut pipeline);
                }
                Step::Event(BatchEvent::Settled { batch, statuses }) => {
                    pipeline.settled(batch, statuses);
                    progress.enter(&mut pipeline);
                }
                Step::Event(BatchEvent::Failed(error)) => {
                    let until = progress.told + pipeline.sent();
                    return Err(progress.close(until, error));
                }
                Step::End(Ok(())) => return Ok(progress.report),
                Step::End(Err(error)) => {
                    let until = progress.told;
                    return Err(progress.close(until, error));
                }
            }
        }
    }
}

impl<'a, S> IntoFuture for SendAll<'a, S>
where
    S: Stream + Send + 'a,
    S::Item: Serialize,
{
    type Output = Result<Report, SendAllError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// The most batches that the client's thread holds: one is sent while another is answered and a
/// third is filled.
const BATCHES_AHEAD: usize = 3;

/// The next step of the loop.
enum Step {
    /// A batch can be sent.
    Batch(Batch),
    /// Messages of a batch have an answer.
    Event(BatchEvent),
    /// There are no more messages.
    End(Result<(), SendError>),
}

/// Contiguous messages, some of which cannot be sent.
#[derive(Debug, Default)]
struct Batch {
    messages: Messages,
    /// Whether a message has too many levels for a channel.
    is_deep: bool,
    /// The positions of the messages that cannot be sent, and the reasons.
    unsendable: VecDeque<(usize, SendError)>,
}

impl Batch {
    /// The number of messages, including those that cannot be sent.
    fn len(&self) -> usize {
        self.messages.len() + self.unsendable.len()
    }
}

/// The batches that the client's thread holds, in order.
struct Pipeline {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<BatchEvent>,
    stream: Arc<call::Stream>,
    batches: VecDeque<InFlight>,
    /// The number of the first batch in `batches`, and of the next one to send.
    first: u64,
    next: u64,
}

/// A batch that the client's thread holds.
struct InFlight {
    unsendable: VecDeque<(usize, SendError)>,
    /// The answers for the next messages, without those that cannot be sent.
    statuses: VecDeque<EntryStatus>,
    /// How many messages the batch has, and how many of them are reported.
    len: usize,
    told: usize,
    /// Dropping it tells the engine that the caller has stopped waiting.
    _wanted: oneshot::Receiver<Infallible>,
}

impl Pipeline {
    /// Passes a batch to the client's thread, after the others.
    fn send(&mut self, batch: Batch) -> Result<(), SendError> {
        let Batch { messages, is_deep, unsendable } = batch;
        let len = messages.len() + unsendable.len();
        let sendable = messages.len();
        let (events, stream) = (self.events.clone(), Arc::clone(&self.stream));
        let (is_wanted, wanted) = oneshot::channel();
        let call = Call {
            messages,
            begun_at: Instant::now(),
            timeout: self.shared.config.timeout,
            is_deep,
            kind: Kind::Batch(BatchSender { number: self.next, events, stream, is_wanted }),
        };
        if sendable > 0 {
            self.shared.jobs.send(Job::Call(call)).map_err(|_| SendError::Stopped)?;
        }
        self.batches.push_back(InFlight {
            unsendable,
            statuses: VecDeque::new(),
            len,
            told: 0,
            _wanted: wanted,
        });
        self.next += 1;
        Ok(())
    }

    /// Adds the answers for the next messages of a batch.
    fn settled(&mut self, number: u64, statuses: Vec<EntryStatus>) {
        let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some(batch) = self.batches.get_mut(at) {
            batch.statuses.extend(statuses);
        }
    }

    /// The answer for the next message of all. `None` if there is none yet.
    fn next_status(&mut self) -> Option<EntryStatus> {
        let batch = self.batches.front_mut()?;
        let status = match batch.unsendable.pop_front_if(|(position, _)| *position == batch.told) {
            Some((_, error)) => EntryStatus::Refused(error),
            None => batch.statuses.pop_front()?,
        };
        batch.told += 1;
        if batch.told == batch.len {
            self.batches.pop_front();
            self.first += 1;
        }
        Some(status)
    }

    /// How many of the messages that are not reported yet may have been sent.
    fn sent(&self) -> u64 {
        let batches =
            usize::try_from(self.stream.sent().saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.batches.iter().take(batches).map(|batch| (batch.len - batch.told) as u64).sum()
    }
}

/// Collects messages into batches.
struct Batcher<'a> {
    shared: Arc<Shared>,
    messages_max: usize,
    bytes_max: usize,
    /// The batch that is being filled.
    batch: Batch,
    /// A message that did not fit into the previous batch.
    carried: Option<(MessageId, String)>,
    /// The caller's ids.
    ids: Option<Ids<'a>>,
    /// How many messages were taken from the source.
    taken: u64,
    randomness: Pool,
    /// Set when the source has ended, or has failed.
    end: Option<Result<(), SendError>>,
}

impl Batcher<'_> {
    /// Takes messages until the batch is full or the source has none ready.
    fn fill<S>(&mut self, mut messages: Pin<&mut S>, cx: &mut Context<'_>)
    where
        S: Stream,
        S::Item: Serialize,
    {
        while self.end.is_none() && self.carried.is_none() && self.batch.len() < self.messages_max {
            match messages.as_mut().poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(message)) => self.add(&message),
            }
        }
    }

    fn add<T: Serialize>(&mut self, message: &T) {
        let index = self.taken;
        self.taken += 1;
        // Also asked for a message that cannot be sent: the caller may count.
        let given = self.ids.as_mut().and_then(|id| id(index));
        let body = match self.shared.body(message) {
            Ok(body) => body,
            Err(error) => {
                let position = self.batch.len();
                self.batch.unsendable.push_back((position, error));
                return;
            }
        };
        let id = match given.map_or_else(|| self.randomness.draw_id(), Ok) {
            Ok(id) => id,
            Err(error) => {
                self.end = Some(Err(error));
                return;
            }
        };
        // Messages with many levels get batches of their own, since they go by POST.
        let is_other = self.batch.is_deep == fits_an_entry(&body);
        let bytes = self.batch.messages.bytes() + body.len() + ENTRY_BYTES;
        if self.batch.len() > 0 && (is_other || bytes > self.bytes_max) {
            self.carried = Some((id, body));
        } else {
            self.push(id, &body);
        }
    }

    fn push(&mut self, id: MessageId, body: &str) {
        self.batch.is_deep = !fits_an_entry(body);
        self.batch.messages.push(id, body);
    }

    /// Whether the batch takes no further message.
    fn is_full(&self) -> bool {
        self.end.is_some() || self.carried.is_some() || self.batch.len() >= self.messages_max
    }

    /// Returns the batch and begins the next one.
    fn take(&mut self) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        self.batch.messages =
            Messages::with_capacity(batch.messages.len() + 1, batch.messages.bytes());
        if let Some((id, body)) = self.carried.take() {
            self.push(id, &body);
        }
        batch
    }
}

/// The report so far.
struct Tally<'a> {
    report: Report,
    /// The number of messages in the report: all messages below this index.
    told: u64,
    on_progress: Option<OnProgress<'a>>,
}

impl Tally<'_> {
    /// Enters the answers for the next messages into the report.
    fn enter(&mut self, pipeline: &mut Pipeline) {
        let before = self.told;
        let mut refusals = Vec::new();
        let mut duplicates = 0;
        while let Some(status) = pipeline.next_status() {
            match status {
                EntryStatus::Accepted => {}
                EntryStatus::Duplicate => duplicates += 1,
                EntryStatus::Refused(error) => refusals.push(Refusal { index: self.told, error }),
            }
            self.told += 1;
        }
        if self.told == before {
            return;
        }
        self.report.sent += self.told - before - refusals.len() as u64;
        self.report.duplicates += duplicates;
        self.report.refused += refusals.len() as u64;
        if let Some(tell) = &mut self.on_progress {
            tell(&Progress { first: before, end: self.told, duplicates, refusals: &refusals });
        }
        refusals.truncate(REFUSALS_KEPT_MAX - self.report.refusals.len());
        self.report.refusals.append(&mut refusals);
    }

    fn close(self, until: u64, source: SendError) -> SendAllError {
        SendAllError { report: self.report, from: self.told, until, source: Box::new(source) }
    }
}

impl<I: Iterator> Stream for Items<I> {
    type Item = I::Item;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.get_mut().0.next())
    }
}

/// The iterator is never pinned.
impl<I> Unpin for Items<I> {}

impl<S> fmt::Debug for SendAll<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendAll")
            .field("batch_messages", &self.batch_messages)
            .field("batch_bytes", &self.batch_bytes)
            .finish_non_exhaustive()
    }
}
