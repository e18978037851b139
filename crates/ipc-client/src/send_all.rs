//! Many messages, in order: taken from an iterator or a stream, cut into batches, and told what became of each.
//!
//! Whoever has more than a few messages comes here. One batch is on its way at a time, since of two the later might
//! arrive first. The next is filled meanwhile, then stands behind it, and goes out as soon as all of that is answered. How a batch is
//! sent and answered is not decided here.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use ipc_protocol::{BATCH_MESSAGES_MAX_DEFAULT, MessageId};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::batch::{Batch, Before, ENTRY_BYTES, Fate, Turn};
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

/// Many messages on their way: made by [`Client::send_all`] and [`Client::send_all_stream`], sent by `.await`, or by
/// [`wait`](SendAll::wait) where there is no async.
#[must_use = "nothing is sent before it is awaited or waited for"]
pub struct SendAll<'a, S> {
    shared: Arc<Shared>,
    messages: S,
    batch_messages: usize,
    batch_bytes: usize,
    on_answer: Option<OnAnswer<'a>>,
}

type OnAnswer<'a> = Box<dyn FnMut(&Answered<'_>) + Send + 'a>;

/// An iterator as a stream that always has its next item ready.
#[derive(Debug)]
pub struct Items<I>(I);

/// What became of the messages of a [`SendAll`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// How many messages are in the server's inbox.
    pub sent: u64,
    /// How many of those were there already from an earlier attempt, whose answer was lost. Each is there once.
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
    /// Why. Its [`outcome`](SendError::outcome) is [`Outcome::NotKnown`] where an attempt before the refused one got no
    /// answer.
    pub error: SendError,
}

/// Messages that follow each other, of which it is now known what became of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered<'a> {
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
    /// The first message that was certainly not sent. What became of those between, [`outcome`](Self::outcome) says.
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

    /// What a user can do about it: [`SendError::remedy`].
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        self.source.remedy()
    }
}

impl Client {
    /// Sends all messages of an iterator, in its order, many at a time: one seal, one request and one commit of the
    /// server carry a whole batch.
    ///
    /// What is accepted is accepted in order: a batch goes out when all of the one before it is answered, and what of that
    /// found no room goes first. Each message has an id of its own and is in the inbox once, however often it was sent.
    /// One that is no JSON object, is too large or is refused by the server is reported with its index, and the
    /// rest goes on. While the server is full, down or out of reach this waits as [`send`](Client::send) does, up to the
    /// [deadline](crate::ClientBuilder::deadline) without any progress.
    ///
    /// The iterator is asked for no more than two batches ahead, so any number of messages takes the same memory.
    /// It is asked until a batch is full, and what asks it waits with it: for a source that comes slowly take
    /// [`send_all_stream`](Client::send_all_stream).
    ///
    /// Dropping the future gives up as that of `send` does; the batch on its way may still arrive.
    ///
    /// # Errors
    /// `.await` gives a [`SendAllError`] that says from which message on, if the deadline passes without progress, or
    /// the server refuses more than single messages.
    pub fn send_all<'a, I>(&self, messages: I) -> SendAll<'a, Items<I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        self.send_all_stream(Items(messages.into_iter()))
    }

    /// Sends all messages of a stream, as [`send_all`](Client::send_all) does those of an iterator.
    ///
    /// Where the stream has nothing ready and no batch is on its way, what is there goes out: nothing waits for a batch
    /// to fill up.
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
            on_answer: None,
        }
    }
}

impl<'a, S> SendAll<'a, S> {
    /// How many messages go into a batch at most: 1 to [`BATCH_MESSAGES_MAX_DEFAULT`], what a server takes unless set
    /// otherwise; numbers beyond are taken as these. Default 500.
    ///
    /// To a server that is set to take fewer, fewer go out at once.
    pub fn batch_messages(mut self, messages: usize) -> Self {
        self.batch_messages = messages.clamp(1, BATCH_MESSAGES_MAX_DEFAULT);
        self
    }

    /// How many bytes of JSON text go into a batch at most, a single message that is longer excepted. Default 1 MiB. It
    /// never exceeds [`plaintext_bytes_max`](crate::ClientBuilder::plaintext_bytes_max).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Has `tell` called whenever it becomes known what became of some messages: in order, each message once. What comes after
    /// them may be on its way by then. It is called in between, by whoever waits for the end, and should be quick.
    pub fn on_answer(mut self, tell: impl FnMut(&Answered<'_>) + Send + 'a) -> Self {
        self.on_answer = Some(Box::new(tell));
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
        let SendAll { shared, messages, batch_messages, batch_bytes, on_answer } = self;
        let mut messages = pin!(messages);
        let around = shared.facts.plaintext_bytes_max.saturating_sub(AROUND_BYTES);
        let mut packer = Packer {
            shared: shared.clone(),
            messages_max: batch_messages,
            bytes_max: batch_bytes.min(around),
            batch: Batch::default(),
            carried: None,
            randomness: Pool::new(),
            end: None,
        };
        let mut ledger = Ledger { report: Report::default(), told: 0, on_answer };
        let mut line = Line { shared, flights: VecDeque::new(), end: 0 };
        loop {
            let event = poll_fn(|cx| {
                if let Some(Flight { answer, .. }) = line.flights.front_mut()
                    && let Poll::Ready(answer) = Pin::new(answer).poll(cx)
                {
                    return Poll::Ready(Event::Answer(answer));
                }
                let ahead = line.flights.len();
                if ahead < FLIGHTS_MAX {
                    packer.fill(messages.as_mut(), cx);
                }
                let is_ready = match ahead {
                    // Nothing waits for a batch to fill up where none is on its way.
                    0 => packer.batch.len() > 0,
                    1..FLIGHTS_MAX => packer.batch.len() > 0 && packer.is_full(),
                    _ => false,
                };
                match is_ready {
                    true => Poll::Ready(Event::Ready(packer.take())),
                    false if ahead == 0 => {
                        packer.end.take().map_or(Poll::Pending, |end| Poll::Ready(Event::End(end)))
                    }
                    false => Poll::Pending,
                }
            });
            match event.await {
                Event::Ready(mut batch) => {
                    let (first, end) = (line.end, line.end + batch.len() as u64);
                    if line.flights.is_empty() {
                        // What cannot be sent is known already.
                        ledger.enter(first, &mut batch);
                    }
                    if let Err(error) = line.send(first, end, batch) {
                        let until = first.max(ledger.told);
                        return Err(ledger.close(until, error));
                    }
                }
                Event::Answer(answer) => {
                    let Some(Flight { first, end, .. }) = line.flights.pop_front() else { continue };
                    let Ok((mut batch, result)) = answer else {
                        return Err(ledger.close(end, SendError::Stopped));
                    };
                    ledger.enter(first, &mut batch);
                    if let Err(error) = result {
                        return Err(ledger.close(end, error));
                    }
                    if batch.is_answered() {
                        packer.batch.learn(batch.learned());
                    } else if let Err(error) = line.send_first(first, end, batch).await {
                        return Err(ledger.close(end, error));
                    }
                }
                Event::End(Ok(())) => return Ok(ledger.report),
                Event::End(Err(error)) => {
                    let until = ledger.told;
                    return Err(ledger.close(until, error));
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

/// How many batches the client's thread has at most: one on its way, and one that goes next.
const FLIGHTS_MAX: usize = 2;

/// The batches that the client's thread has, in order: each goes out when all of the one before it is answered.
struct Line {
    shared: Arc<Shared>,
    flights: VecDeque<Flight>,
    /// Behind the last message of them.
    end: u64,
}

/// A batch of them: the indexes of its messages, where it comes back, and what the next one waits for.
struct Flight {
    first: u64,
    end: u64,
    answer: oneshot::Receiver<Returned>,
    before_next: Option<Before>,
}

impl Line {
    /// Hands the client's thread a batch, behind the others.
    fn send(&mut self, first: u64, end: u64, batch: Batch) -> Result<(), SendError> {
        let before = self.flights.back_mut().and_then(|last| last.before_next.take());
        let (turn, before_next) = Turn::after(before);
        let (done, answer) = oneshot::channel();
        self.shared.jobs.send(Job::Batch { batch, turn, done }).map_err(|_| SendError::Stopped)?;
        self.flights.push_back(Flight { first, end, answer, before_next: Some(before_next) });
        self.end = end;
        Ok(())
    }

    /// Hands it a batch again that has come back, before all others. These come back by themselves, since not all of that one
    /// was answered.
    async fn send_first(&mut self, first: u64, end: u64, batch: Batch) -> Result<(), SendError> {
        let others = std::mem::take(&mut self.flights);
        let mut before = batch.learned();
        self.send(first, end, batch)?;
        for Flight { first, end, answer, .. } in others {
            let (mut batch, result) = answer.await.map_err(|_| SendError::Stopped)?;
            result?;
            batch.learn(before);
            before = batch.learned();
            self.send(first, end, batch)?;
        }
        Ok(())
    }
}

/// A batch as it comes back, and whether it can go on.
type Returned = (Batch, Result<(), SendError>);

enum Event {
    /// A batch can go out.
    Ready(Batch),
    /// One has come back.
    Answer(Result<Returned, oneshot::error::RecvError>),
    /// There are no more messages.
    End(Result<(), SendError>),
}

/// Makes batches of messages.
struct Packer {
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

impl Packer {
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
                Poll::Ready(Some(message)) => self.pack(&message),
            }
        }
    }

    fn pack<T: Serialize>(&mut self, message: &T) {
        let body = match self.shared.body(message) {
            Ok(body) => body,
            Err(error) => return self.batch.push_refused(error),
        };
        let id = match self.randomness.draw_id() {
            Ok(id) => id,
            Err(error) => {
                self.end = Some(Err(error));
                return;
            }
        };
        let bytes = self.batch.bytes() + body.len() + ENTRY_BYTES;
        if bytes > self.bytes_max && self.batch.len() > 0 {
            self.carried = Some((id, body));
        } else {
            self.batch.push(id, body);
        }
    }

    /// Whether no further message goes into the batch.
    fn is_full(&self) -> bool {
        self.end.is_some() || self.carried.is_some() || self.batch.len() >= self.messages_max
    }

    /// The batch as far as it is made; the next begins.
    fn take(&mut self) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        if let Some((id, body)) = self.carried.take() {
            self.batch.push(id, body);
        }
        batch
    }
}

/// What is known so far.
struct Ledger<'a> {
    report: Report,
    /// How many messages are in the report: all up to here, none from here on.
    told: u64,
    on_answer: Option<OnAnswer<'a>>,
}

impl Ledger<'_> {
    /// Takes in what became known of a batch whose first message has the index `first`.
    fn enter(&mut self, first: u64, batch: &mut Batch) {
        let before = self.told;
        let position = usize::try_from(before - first).expect("a position within a batch");
        let mut refusals = Vec::new();
        let mut duplicates = 0;
        for fate in batch.take_fates(position) {
            match fate {
                Fate::Sent => {}
                Fate::Duplicate => duplicates += 1,
                Fate::Refused(error) => refusals.push(Refusal { index: self.told, error }),
            }
            self.told += 1;
        }
        if self.told == before {
            return;
        }
        self.report.sent += self.told - before - refusals.len() as u64;
        self.report.duplicates += duplicates;
        self.report.refused += refusals.len() as u64;
        if let Some(tell) = &mut self.on_answer {
            tell(&Answered { first: before, end: self.told, duplicates, refusals: &refusals });
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
