//! What all parts of an open inbox share: the connection, and what this process knows.
//!
//! Everything that talks to the NATS server runs on the inbox's own thread, so that an application
//! may use any async runtime or none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::client::Request;
use async_nats::jetstream::Context;
use async_nats::{Client, Message};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::ids::Ids;
use crate::leaders::{Leaders, Led};
use crate::local::Local;
use crate::options::JetStreamOptions;
use crate::room::Room;
use crate::waits::Waits;
use crate::wire::{Delivered, Names};

/// How long the NATS server may take to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long the consumer's count may take. It is asked for every second, so that a process that
/// does nothing finds out too that it hears no leader.
const COUNT_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct Shared {
    pub(crate) options: JetStreamOptions,
    pub(crate) names: Names,
    /// This process, among those that share the inbox.
    pub(crate) origin: String,
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    pub(crate) is_connected: watch::Receiver<bool>,
    /// After which time without a word the NATS server delivers a message again.
    pub(crate) ack_wait: Duration,
    pub(crate) room: Arc<Room>,
    pub(crate) ids: Ids,
    pub(crate) local: Local,
    pub(crate) waits: Waits,
    pub(crate) leaders: Leaders,
    /// Receivers have to look again.
    pub(crate) changed: Notify,
    /// More messages may have to be asked for.
    pub(crate) pull: Notify,
    /// The consumer's count is wanted now.
    pub(crate) count: Notify,
    pub(crate) is_closed: AtomicBool,
    pub(crate) runtime: Handle,
    /// Whether messages that the NATS server delivers are still taken in.
    pub(crate) is_pulling: watch::Sender<bool>,
    pub(crate) trouble: Trouble,
    /// How many calls of the application are being carried out.
    pub(crate) calls: watch::Sender<usize>,
}

/// The NATS server gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// The connection is, or was, interrupted.
    #[error("the connection to the NATS server is interrupted")]
    Connection,
    /// It answers, but not for this inbox: its stream or consumer is missing, or has no leader now.
    #[error("the NATS server has no leader for the inbox")]
    NoLeader,
    /// No answer came in time.
    #[error("the NATS server did not answer in time")]
    Timeout,
    /// It answers that it cannot.
    #[error("the NATS server cannot do it")]
    Refused,
}

impl Shared {
    pub(crate) fn is_connected(&self) -> bool {
        *self.is_connected.borrow()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Waits until the connection is interrupted.
    pub(crate) async fn interrupted(&self) {
        let mut state = self.is_connected.clone();
        // Without a sender the inbox ends.
        let _ended = state.wait_for(|is_connected| !is_connected).await;
    }

    /// The leader of something has answered.
    pub(crate) fn answers(&self, led: Led) {
        self.leaders.answers(led, Instant::now());
    }

    /// The leader of something has not answered what was asked at `asked_at`. If that lasts, this
    /// process goes to another NATS server, which may reach it.
    pub(crate) async fn is_silent(&self, led: Led, asked_at: Instant) {
        let has_others = self.is_connected()
            && (self.options.servers.len() > 1 || self.client.server_info().connect_urls.len() > 1);
        if has_others && self.leaders.is_silent(led, asked_at, Instant::now()) {
            log::info!(
                "another NATS server is tried, since this one reaches no leader of the inbox"
            );
            // Otherwise the client has ended.
            let _ended = self.client.force_reconnect().await;
        }
    }

    /// Asks the consumer's leader, and waits for the answer, no longer than the connection holds.
    pub(crate) async fn ask(&self, subject: String, payload: Vec<u8>) -> Result<Message, Lost> {
        self.ask_within(ANSWER_WITHIN, subject, payload).await
    }

    async fn ask_within(
        &self,
        time: Duration,
        subject: String,
        payload: Vec<u8>,
    ) -> Result<Message, Lost> {
        if !self.is_connected() {
            return Err(Lost::Connection);
        }
        let asked_at = Instant::now();
        let request = Request::new().payload(payload.into()).timeout(Some(time));
        let answer = tokio::select! {
            answer = self.client.send_request(subject, request) => answer.map_err(|error| {
                match error.kind() {
                    async_nats::RequestErrorKind::NoResponders => Lost::NoLeader,
                    async_nats::RequestErrorKind::TimedOut => Lost::Timeout,
                    _ => Lost::Refused,
                }
            }),
            () = self.interrupted() => Err(Lost::Connection),
        };
        match &answer {
            Ok(_) => self.answers(Led::Consumer),
            Err(Lost::NoLeader | Lost::Timeout) => self.is_silent(Led::Consumer, asked_at).await,
            Err(_) => (),
        }
        answer
    }

    /// Carries out a call of the application on the inbox's thread.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.calls.send_modify(|count| *count += 1);
        let calls = EndOfCall(self.calls.clone());
        self.runtime.spawn(async move {
            let _calls = calls;
            call.await
        })
    }

    /// Waits until every call that was begun is carried out.
    pub(crate) async fn calls_are_done(&self) {
        let mut calls = self.calls.subscribe();
        let _ended = calls.wait_for(|count| *count == 0).await;
    }

    /// Looks at the consumer.
    pub(crate) async fn consumer(&self) -> Result<Counts, Lost> {
        let subject =
            format!("$JS.API.CONSUMER.INFO.{}.{}", self.names.stream, crate::wire::CONSUMER);
        let answer = self.ask_within(COUNT_WITHIN, subject, Vec::new()).await?;
        serde_json::from_slice(&answer.payload).map_err(|_| Lost::Refused)
    }
}

/// What the consumer says of the messages that are not acknowledged.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub(crate) struct Counts {
    num_pending: u64,
    num_ack_pending: u64,
    delivered: Position,
    ack_floor: Position,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
struct Position {
    stream_seq: u64,
}

impl Counts {
    /// Messages that were not delivered yet.
    pub(crate) fn pending(&self) -> u64 {
        self.num_pending
    }

    /// Messages that were delivered and not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.num_ack_pending
    }

    /// All messages in the inbox.
    pub(crate) fn outstanding(&self) -> u64 {
        self.num_pending + self.num_ack_pending
    }

    /// The greatest number that was delivered.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.stream_seq
    }

    /// Every message up to this number is acknowledged.
    pub(crate) fn floor(&self) -> u64 {
        self.ack_floor.stream_seq
    }
}

/// How often trouble is logged at most.
const TROUBLE_EVERY: Duration = Duration::from_secs(10);

/// Logs what goes wrong with the NATS server, which senders cause over and over, now and then.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<Instant>>);

impl Trouble {
    pub(crate) fn report(&self, what: std::fmt::Arguments<'_>) {
        let now = Instant::now();
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|at| now.duration_since(at) >= TROUBLE_EVERY) {
            *reported = Some(now);
            log::warn!("{what}");
        }
    }
}

struct EndOfCall(watch::Sender<usize>);

impl Drop for EndOfCall {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The numbers of a delivered message, of the subject on which it is acknowledged.
pub(crate) fn delivered(message: &Message) -> Option<(String, Delivered)> {
    let subject = message.reply.as_ref()?;
    Some((subject.to_string(), Delivered::of_reply_subject(subject)?))
}
