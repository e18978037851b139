//! Many messages, in order: taken from an iterator or a stream, cut into batches, and told what
//! became of each.
//!
//! Whoever has more than a few messages comes here. A few batches are handed on at a time, each
//! with an answer of its own, while the next is filled. How a batch is sent and answered, and that
//! none overtakes another, is not decided here.

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

/// How many messages go into a batch, unless set otherwise.
pub const BATCH_MESSAGES_DEFAULT: usize = 500;

/// How many bytes of messages go into a batch, unless set otherwise: 1 MiB.
pub const BATCH_BYTES_DEFAULT: usize = 1024 * 1024;

/// How many refusals a [`Report`] keeps; more are counted.
pub const REFUSALS_KEPT_MAX: usize = 1000;

/// What the frame of a batch has beside its messages, the session token above all, and more.
const AROUND_BYTES: usize = 2048;

/// Many messages on their way: made by [`Client::send_all`] and [`Client::send_all_stream`], sent
/// by `.await`, or by [`wait`](SendAll::wait) where there is no async.
#[must_use = "nothing is sent before it is awaited or waited for"]
pub struct SendAll<'a, S> {
    shared: Arc<Shared>,
    messages: S,
    batch_messages: usize,
    batch_bytes: usize,
    on_progress: Option<OnProgress<'a>>,
}

type OnProgress<'a> = Box<dyn FnMut(&Progress<'_>) + Send + 'a>;

/// An iterator as a stream that always has its next item ready.
#[derive(Debug)]
pub struct Items<I>(I);

/// What became of the messages of a [`SendAll`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// How many messages are in the server's inbox.
    pub sent: u64,
    /// How many of those were there already from an earlier attempt, whose answer was lost. Each is
    /// there once.
    pub duplicates: u64,
    /// How many messages were refused.
    pub refused: u64,
    /// Which, and why: the first [`REFUSALS_KEPT_MAX`] of them.
    pub refusals: Vec<Refusal>,
}

/// A message that was refused. The others were sent all the same.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// Which message, counted from 0.
    pub index: u64,
    /// Why. Its [`outcome`](SendError::outcome) is [`Outcome::NotKnown`] where an attempt before
    /// the refused one got no answer.
    pub error: SendError,
}

/// Messages that follow each other, of which it is now known what became of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The first of them, counted from 0.
    pub first: u64,
    /// Behind the last of them.
    pub end: u64,
    /// How many were in the inbox already from an earlier attempt.
    pub duplicates: u64,
    /// Those of them that were refused; all others are in the inbox.
    pub refusals: &'a [Refusal],
}

/// Sending ended before all messages were sent.
#[derive(Debug, thiserror::Error)]
#[error("the messages from number {from} on (counted from 0) were not sent")]
#[non_exhaustive]
pub struct SendAllError {
    /// What became of the messages before `from`.
    pub report: Report,
    /// The first message of which it is not known that it was sent or refused, counted from 0.
    pub from: u64,
    /// The first message that was certainly not sent. What became of those between,
    /// [`outcome`](Self::outcome) says.
    pub until: u64,
    /// Why it ended.
    #[source]
    pub source: Box<SendError>,
}

impl SendAllError {
    /// What became of the messages from `from` to `until`: [`SendError::outcome`].
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.source.outcome()
    }

    /// What a person can do about it: [`SendError::remedy`].
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        self.source.remedy()
    }
}

impl Client {
    /// Sends all messages of an iterator, in its order, many at a time: one seal, one request and
    /// one commit of the server carry a whole batch.
    ///
    /// What is accepted is accepted in order: what found no room, or had no answer when a
    /// connection broke, goes before everything behind it. Each message has an id of its own and is
    /// in the inbox once, however often it was sent. One that is no JSON object, is too large or is
    /// refused by the server is reported with its index, and the rest goes on. While the server is
    /// full, down or out of reach this waits as [`send`](Client::send) does, up to the
    /// [timeout](crate::ClientBuilder::timeout) without any progress.
    ///
    /// The iterator is asked for no more than four batches ahead, so any number of messages takes
    /// the same memory. It is asked until a batch is full, and what asks it waits with it: for a
    /// source that comes slowly take [`send_all_stream`](Client::send_all_stream).
    ///
    /// Dropping the future gives up as that of `send` does; the batch on its way may still arrive.
    ///
    /// # Errors
    /// `.await` gives a [`SendAllError`] that says from which message on, if the time runs out
    /// without progress, or the server refuses more than single messages.
    pub fn send_all<'a, I>(&self, messages: I) -> SendAll<'a, Items<I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        self.send_all_stream(Items(messages.into_iter()))
    }

    /// Sends all messages of a stream, as [`send_all`](Client::send_all) does those of an iterator.
    ///
    /// Where the stream has nothing ready and no batch is on its way, what is there goes out:
    /// nothing waits for a batch to fill up.
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
            on_progress: None,
        }
    }
}

impl<'a, S> SendAll<'a, S> {
    /// How many messages go into a batch at most: 1 to [`BATCH_MESSAGES_MAX_DEFAULT`], what a
    /// server takes unless set otherwise; numbers beyond are taken as these. Default 500.
    ///
    /// To a server that is set to take fewer, fewer go out at once.
    pub fn batch_messages(mut self, messages: usize) -> Self {
        self.batch_messages = messages.clamp(1, BATCH_MESSAGES_MAX_DEFAULT);
        self
    }

    /// How many bytes of JSON text go into a batch at most, a single message that is longer
    /// excepted. Default 1 MiB. It never exceeds
    /// [`plaintext_bytes_max`](crate::ClientBuilder::plaintext_bytes_max).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Has `tell` called whenever it becomes known what became of some messages: in order, each
    /// message once. What comes after them may be on its way by then. It is called in between, by
    /// whoever waits for the end, and should be quick.
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
    /// Sends, and waits for the end, in code that is not async.
    ///
    /// # Errors
    /// [`SendAllError`], if not all messages were sent or refused one by one.
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn wait(self) -> Result<Report, SendAllError> {
        futures_executor::block_on(self.run())
    }

    async fn run(self) -> Result<Report, SendAllError> {
        let SendAll { shared, messages, batch_messages, batch_bytes, on_progress } = self;
        let mut messages = pin!(messages);
        let around = shared.config.plaintext_bytes_max.saturating_sub(AROUND_BYTES);
        let mut batcher = Batcher {
            shared: Arc::clone(&shared),
            messages_max: batch_messages,
            bytes_max: batch_bytes.min(around),
            batch: Batch::default(),
            carried: None,
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
                    // Nothing waits for a batch to fill up where none is on its way.
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
                    // What cannot be sent is known already.
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

/// How many batches the client's thread has at most: one goes out while another is answered and a
/// third is filled.
const BATCHES_AHEAD: usize = 3;

/// What happens next.
enum Step {
    /// A batch can go out.
    Batch(Batch),
    /// Something became known of one.
    Event(BatchEvent),
    /// There are no more messages.
    End(Result<(), SendError>),
}

/// Messages that follow each other, with those among them that cannot be sent.
#[derive(Debug, Default)]
struct Batch {
    messages: Messages,
    /// Some message has too many levels for a channel.
    is_deep: bool,
    /// Positions of those that cannot be sent, and why.
    unsendable: VecDeque<(usize, SendError)>,
}

impl Batch {
    /// How many messages there are, those that cannot be sent included.
    fn len(&self) -> usize {
        self.messages.len() + self.unsendable.len()
    }
}

/// The batches that the client's thread has, in order.
struct Pipeline {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<BatchEvent>,
    stream: Arc<call::Stream>,
    batches: VecDeque<InFlight>,
    /// The number of the first of them, and of the next.
    first: u64,
    next: u64,
}

/// A batch of them, as far as it is not told.
struct InFlight {
    unsendable: VecDeque<(usize, SendError)>,
    /// What became of the next messages, those that cannot be sent left out.
    statuses: VecDeque<EntryStatus>,
    /// How many messages it has, and how many were told.
    len: usize,
    told: usize,
    /// Dropped when nobody waits any more.
    _wanted: oneshot::Receiver<Infallible>,
}

impl Pipeline {
    /// Hands the client's thread a batch, behind the others.
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

    /// Takes in what became of the next messages of a batch.
    fn settled(&mut self, number: u64, statuses: Vec<EntryStatus>) {
        let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some(batch) = self.batches.get_mut(at) {
            batch.statuses.extend(statuses);
        }
    }

    /// What became of the next message of all; `None` if that is not known.
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

    /// How many of the messages that were not told may have been sent.
    fn sent(&self) -> u64 {
        let batches =
            usize::try_from(self.stream.sent().saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.batches.iter().take(batches).map(|batch| (batch.len - batch.told) as u64).sum()
    }
}

/// Makes batches of messages.
struct Batcher {
    shared: Arc<Shared>,
    messages_max: usize,
    bytes_max: usize,
    /// The one being made.
    batch: Batch,
    /// A message that the batch before had no room for.
    carried: Option<(MessageId, String)>,
    randomness: Pool,
    /// There will be no more messages, or there can be none.
    end: Option<Result<(), SendError>>,
}

impl Batcher {
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
        let body = match self.shared.body(message) {
            Ok(body) => body,
            Err(error) => {
                let position = self.batch.len();
                self.batch.unsendable.push_back((position, error));
                return;
            }
        };
        let id = match self.randomness.draw_id() {
            Ok(id) => id,
            Err(error) => {
                self.end = Some(Err(error));
                return;
            }
        };
        // Those with many levels go by themselves, since they go by POST.
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

    /// Whether no further message goes into the batch.
    fn is_full(&self) -> bool {
        self.end.is_some() || self.carried.is_some() || self.batch.len() >= self.messages_max
    }

    /// The batch as far as it is made; the next begins.
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

/// What is known so far.
struct Tally<'a> {
    report: Report,
    /// How many messages are in the report: all up to here, none from here on.
    told: u64,
    on_progress: Option<OnProgress<'a>>,
}

impl Tally<'_> {
    /// Takes in what became known of the next messages.
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

/// Nothing in it is ever pinned.
impl<I> Unpin for Items<I> {}

impl<S> fmt::Debug for SendAll<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendAll")
            .field("batch_messages", &self.batch_messages)
            .field("batch_bytes", &self.batch_bytes)
            .finish_non_exhaustive()
    }
}
