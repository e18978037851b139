//! Drives a channel from its opening to its close. It is one future, polled as the body of the
//! response 101 within the connection's own task.
//!
//! Each poll reads what has arrived, puts it into the inbox, and writes answers. Answers that are
//! known in the same poll go out in one frame; if nothing is being sent, an answer goes out at
//! once. The other files have the single steps; this file has their order.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime};

use actix_web::dev::Payload;
use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use ipc_envelope::{HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX};
use ipc_inbox::{NoReply, Put, PutError};
use ipc_protocol::{MessageId, ProblemCode};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::answers::Answers;
use super::closing::{Closed, Closing};
use super::frame::{self, PendingEntry, Putting, Sealed};
use super::outgoing::Outgoing;
use super::parsed::ReadFrame;
use super::registry::{ChannelPeer, Registration};
use super::sequence::Sequence;
use super::settings::ChannelSettings;
use super::wire::{self, Decoder, Event};
use crate::admit::on_a_thread;
use crate::authenticate::{self, NoSession};
use crate::clock::unix_secs;
use crate::inbox_refusal::{no_reply, not_put};
use crate::memory_budget::Reservation;
use crate::peer::Peer;
use crate::refusal::{Refusal, internal};
use crate::reply_body::REPLY_FREE_BYTES;
use crate::sealed_body::FREE_BYTES;
use crate::spans;
use crate::state::{State, random_iv};
use crate::timeouts::ConnectionState;

/// Everything that a channel consists of.
pub(super) struct Parts {
    pub(super) state: web::Data<State>,
    pub(super) registration: Registration,
    pub(super) connection: Rc<ConnectionState>,
    pub(super) payload: Payload,
    pub(super) outgoing: Rc<RefCell<Outgoing>>,
}

/// Runs a channel. Ends when nothing more is to be sent. The last bytes may still be in `outgoing`.
pub(super) async fn drive(parts: Parts) {
    let Parts { state, registration, connection, payload, outgoing } = parts;
    let mut closed = Closed::new(Arc::clone(&state.log), registration.channel_peer.address());
    let wait = |request: Request| {
        let state = &state;
        async move {
            let reply =
                timeout(request.wait, state.inbox.reply_to(&request.user, request.id)).await;
            Replied { entry: request.entry, is_duplicate: request.is_duplicate, reply }
        }
    };
    let mut driver = Driver::new(
        &state,
        Rc::clone(&registration.channel_peer),
        connection,
        payload,
        outgoing,
        wait,
    );
    let open = state.statistics.channel_opened();
    poll_fn(|context| driver.poll(context)).await;
    drop(open);
    if let Some(code) = driver.ending.as_ref().and_then(|closing| closing.refusal) {
        driver.count_refusal(code);
    }
    spans::channel_closed(driver.ending.as_ref().map(|closing| closing.code));
    closed.note(driver.ending.take());
}

/// A request that was accepted and waits for its reply.
struct Request {
    entry: u64,
    user: Arc<str>,
    id: MessageId,
    is_duplicate: bool,
    wait: Duration,
}

/// The result of a request.
struct Replied {
    entry: u64,
    is_duplicate: bool,
    reply: Result<Result<Arc<str>, NoReply>, Elapsed>,
}

/// What was read and is not processed yet.
enum Next {
    Message(Sealed),
    /// The channel ends after everything before it was processed.
    End(Closing),
}

struct Driver<'s, F, W> {
    state: &'s State,
    settings: ChannelSettings,
    channel_peer: Rc<ChannelPeer>,
    connection: Rc<ConnectionState>,
    /// The peer's keys, as of the last frame.
    envelope_keys: Arc<KeyRing>,
    /// Which of them sealed that frame, and seals the answers.
    key_index: usize,

    // Input.
    payload: Payload,
    decoder: Decoder,
    /// The memory for bytes beyond those that each channel may have.
    reservation: Reservation,
    /// Nothing more is read, because bytes after the last ones have no meaning.
    is_read: bool,
    next: Option<Next>,
    /// The channel's id, once the first frame has arrived.
    id: Option<MessageId>,
    sequence: Sequence,
    /// A running query of the user store.
    checking: Option<LocalBoxFuture<'s, Result<Arc<str>, Refusal>>>,
    /// The peer has to be checked again although no frame arrived.
    is_in_doubt: bool,
    /// A long message that is gone through on a thread that may block.
    finding: Option<LocalBoxFuture<'s, Result<Sealed, Closing>>>,
    pending_entries: Vec<PendingEntry>,
    putting: Option<Putting<'s>>,
    /// The frame whose entries are being put. Entries without room are put again from it.
    current: Option<Sealed>,

    // Requests.
    wait: F,
    replies: FuturesUnordered<W>,
    /// The numbers of the entries whose replies are in `replies`.
    waiting: BTreeSet<u64>,

    // Output.
    answers: Answers,
    pong: Option<Bytes>,
    ping_is_due: bool,
    outgoing: Rc<RefCell<Outgoing>>,
    scratch: Vec<u8>,
    ending: Option<Closing>,
    /// The close frame is among the bytes to be handed out.
    has_ended: bool,

    // Time.
    heard_at: Instant,
    has_pinged: bool,
    /// When there was last something to wait for.
    active_at: Instant,
    /// How many bytes have to be written in total by this moment.
    mark: Option<(u64, Instant)>,
    stops_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires. `None` once it has.
    timer_at: Option<Instant>,
}

impl<'s, F, W> Driver<'s, F, W>
where
    F: Fn(Request) -> W,
    W: Future<Output = Replied>,
{
    fn new(
        state: &'s State,
        channel_peer: Rc<ChannelPeer>,
        connection: Rc<ConnectionState>,
        payload: Payload,
        outgoing: Rc<RefCell<Outgoing>>,
        wait: F,
    ) -> Self {
        let (now, settings) = (Instant::now(), state.channel);
        let first = now + settings.silence_max / 2;
        Driver {
            state,
            settings,
            channel_peer,
            connection,
            envelope_keys: Arc::clone(&state.trust().envelope_keys),
            key_index: 0,
            payload,
            decoder: Decoder::new(&settings, now),
            reservation: Reservation::none(&state.budget),
            is_read: false,
            next: None,
            id: None,
            sequence: Sequence::default(),
            checking: None,
            is_in_doubt: false,
            finding: None,
            pending_entries: Vec::new(),
            putting: None,
            current: None,
            wait,
            replies: FuturesUnordered::new(),
            waiting: BTreeSet::new(),
            answers: Answers::default(),
            pong: None,
            ping_is_due: false,
            outgoing,
            scratch: Vec::new(),
            ending: None,
            has_ended: false,
            heard_at: now,
            has_pinged: false,
            active_at: now,
            mark: None,
            stops_at: None,
            timer: Box::pin(sleep_until(first)),
            timer_at: Some(first),
        }
    }

    /// Does everything that can be done now. Ready when the channel is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.ending.is_none() {
            self.look_around(context, now);
        }
        if self.ending.is_none() && self.work(context, now).is_ready() {
            // The peer is gone.
            return Poll::Ready(());
        }
        if self.ending.is_none() && self.state.is_stopping() {
            self.stop(now);
        }
        self.fill(context);
        if self.look_at_what_is_taken(now).is_ready() {
            return Poll::Ready(());
        }
        if self.has_ended && self.outgoing.borrow().is_empty() {
            return Poll::Ready(());
        }
        self.connection.channel_is_idle((!self.is_waited_for()).then_some(self.active_at));
        self.set_timer(context, now);
        Poll::Pending
    }

    /// Handles everything that may end the channel although no frame arrives.
    fn look_around(&mut self, context: &mut Context<'_>, now: Instant) {
        if self.connection.makes_room() {
            return self.end(Closing::away("another connection needs its place"));
        }
        self.is_in_doubt |= self.channel_peer.is_in_doubt(context);
        if self.is_in_doubt {
            match self.poll_user(context) {
                Poll::Pending => (),
                Poll::Ready(Ok(_)) => self.is_in_doubt = false,
                Poll::Ready(Err(refusal)) => return self.end(refusal.into()),
            }
        }
        if !self.reads() {
            // A peer from which nothing is read does not count as silent.
            self.heard_at = now;
        }
    }

    /// Reads, puts and collects replies as far as possible. Ready if the peer is gone.
    fn work(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<()> {
        while self.ending.is_none() {
            if self.poll_put(context, now).is_pending() && self.next.is_some() {
                break;
            }
            match self.next.take() {
                // In order: not before everything that was read earlier is put and answered.
                Some(next) if self.putting.is_some() || !self.answers.is_empty() => {
                    self.next = Some(next);
                    break;
                }
                Some(Next::End(closing)) => self.end(closing),
                Some(Next::Message(_)) if self.state.is_stopping() => self.reservation.release(),
                // The answers to the frame before go out first, so that the client can work
                // meanwhile.
                Some(next @ Next::Message(_)) if self.connection.written().on_the_way() > 0 => {
                    self.connection.written().wait(context);
                    self.next = Some(next);
                    break;
                }
                Some(Next::Message(mut message)) => match self.handle(&mut message, context, now) {
                    Poll::Pending => {
                        self.next = Some(Next::Message(message));
                        break;
                    }
                    Poll::Ready(Ok(())) if self.putting.is_some() => self.current = Some(message),
                    Poll::Ready(Ok(())) => self.reservation.release(),
                    Poll::Ready(Err(closing)) => self.end(closing),
                },
                None if !self.reads() => break,
                None => match self.read(now) {
                    Read::Something => (),
                    Read::Nothing => break,
                    Read::Gone => return Poll::Ready(()),
                },
            }
        }
        while self.answers.len() < self.settings.answers_bytes_max {
            match self.replies.poll_next_unpin(context) {
                Poll::Ready(Some(replied)) => self.note_reply(replied, now),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Whether more is read now.
    fn reads(&self) -> bool {
        self.next.is_none() && !self.is_read && self.answers.len() < self.settings.answers_bytes_max
    }

    fn read(&mut self, now: Instant) -> Read {
        match self.decoder.next(now) {
            Ok(None) => (),
            Ok(Some(Event::Message(bytes))) => {
                self.next = Some(Next::Message(Sealed::new(bytes)));
                return Read::Something;
            }
            Ok(Some(Event::Ping(payload))) => {
                // One pong, to the last ping, answers all of them (RFC 6455, section 5.5.3).
                self.pong = Some(payload);
                return Read::Something;
            }
            Ok(Some(Event::Pong)) => return Read::Something,
            Ok(Some(Event::Close(reason))) => {
                self.connection.peer_is_done();
                self.ends_with(Closing::answer_to(reason.map(|reason| reason.code)));
                return Read::Something;
            }
            Err(closing) => {
                self.ends_with(closing);
                return Read::Something;
            }
        }
        // The connection's task polls the body whenever it has fed the payload. A real waker would
        // only wake that task again.
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.payload).poll_next(&mut context) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Some(Ok(bytes))) => {
                (self.heard_at, self.has_pinged) = (now, false);
                self.decoder.extend(&bytes);
                if !self.reservation.grow_to(self.decoder.len().saturating_sub(FREE_BYTES)) {
                    let detail =
                        "the server has no memory for a message of this length at the moment";
                    self.ends_with(Refusal::new(ProblemCode::Unavailable, detail).into());
                }
                Read::Something
            }
            Poll::Ready(Some(Err(_)) | None) => Read::Gone,
        }
    }

    /// Ends the channel once everything that was read before is processed.
    fn ends_with(&mut self, closing: Closing) {
        self.is_read = true;
        self.next = Some(Next::End(closing));
    }

    /// Ends the channel, but not before it is known whether the entries being put are in the inbox.
    fn end(&mut self, closing: Closing) {
        if self.putting.is_some() {
            return self.ends_with(closing);
        }
        if closing.refusal.is_some() {
            self.answers.drop_replies();
        }
        self.ending = Some(closing);
        (self.next, self.current, self.checking, self.finding) = (None, None, None, None);
        self.replies.clear();
        self.waiting.clear();
    }

    /// Opens a message and begins to put its entries.
    fn handle(
        &mut self,
        message: &mut Sealed,
        context: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<(), Closing>> {
        let received_at = SystemTime::now();
        let now_secs = unix_secs(received_at);
        let state = self.state;
        let peer = self.channel_peer.peer(state, now_secs)?;
        if self.finding.is_some() || message.is_long() {
            ready!(self.find(message, &peer, now_secs, context))?;
        }
        message.open(&peer.envelope_keys, now_secs)?;
        if let Some((ring, key_index)) = message.opened_by() {
            if !Arc::ptr_eq(&self.envelope_keys, ring) {
                self.envelope_keys = Arc::clone(ring);
            }
            self.key_index = *key_index;
        }
        let frame = if message.has_frame() || self.channel_peer.session().is_some() {
            let frame = if message.has_frame() {
                message.frame()
            } else {
                let plaintext = message.open(&peer.envelope_keys, now_secs)?;
                frame::parse(plaintext, self.settings.announced.entries).map(ReadFrame::Now)
            };
            match frame {
                Ok(frame) => frame,
                Err(error) => {
                    let closing = frame::malformed(error);
                    return self
                        .poll_user(context)
                        .map(|user| Err(user.err().map_or(closing, Closing::from)));
                }
            }
        } else {
            let plaintext = message.open(&peer.envelope_keys, now_secs)?;
            // The body may be hostile, so it is parsed only after the sender is known.
            let head = frame::parse_head(plaintext)?;
            self.take_session(head.session(), &peer, now_secs)?;
            ready!(self.poll_user(context))?;
            let frame = head.channel_frame(self.settings.announced.entries);
            ReadFrame::Now(frame.map_err(frame::malformed)?)
        };
        if *self.id.get_or_insert(frame.id()) != frame.id() {
            return Poll::Ready(Err(Closing::policy("a frame of another channel")));
        }
        if frame.session().is_some() {
            self.take_session(frame.session(), &peer, now_secs)?;
        }
        let user = ready!(self.poll_user(context))?;
        let frame = frame.into_body().map_err(frame::malformed)?;
        let is_taken = self.sequence.frame(frame.first, frame.resume, frame.entries.len())?;
        if !frame.entries.is_empty() {
            self.active_at = now;
        }
        if is_taken && !frame.entries.is_empty() {
            let requests = frame::requests(&frame);
            if self.waiting.len() + requests > self.settings.announced.requests {
                return Poll::Ready(Err(Closing::policy("too many requests wait for their reply")));
            }
            spans::frame(&user, frame.entries.len(), requests);
            let sender = authenticate::Sender::new(user, &peer, received_at, self.key_index, state);
            self.putting = Some(Putting::begin(frame, sender, &mut self.pending_entries, state));
        }
        Poll::Ready(Ok(()))
    }

    /// Has a long message opened, and its JSON checked once the sender is known, on a thread that
    /// may block. Ready when `message` has its frame; until then it is empty.
    fn find(
        &mut self,
        message: &mut Sealed,
        peer: &Peer,
        now_secs: u64,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Closing>> {
        loop {
            if let Some(finding) = &mut self.finding {
                let found = ready!(finding.as_mut().poll(context));
                self.finding = None;
                *message = found?;
            }
            if message.has_frame() {
                return Poll::Ready(Ok(()));
            }
            if let Some(session) = message.head_session() {
                let session = session.as_ref().map(|token| token.as_str());
                self.take_session(session, peer, now_secs)?;
                ready!(self.poll_user(context))?;
            }
            let known = (self.channel_peer.session().is_some(), self.settings.announced.entries);
            let (state, keys) = (self.state, Arc::clone(&peer.envelope_keys));
            let long = std::mem::replace(message, Sealed::new(BytesMut::new()));
            self.finding = Some(Box::pin(async move {
                on_a_thread(state, move || Ok(frame::find(long, &keys, now_secs, known))).await?
            }));
        }
    }

    /// Opens the session token in a frame and makes it the channel's session.
    fn take_session(
        &mut self,
        token: Option<&str>,
        peer: &Peer,
        now_secs: u64,
    ) -> Result<(), Closing> {
        let session = authenticate::session(
            token,
            (Some(self.channel_peer.last_session()), peer),
            self.state,
            now_secs,
        )?;
        if self.channel_peer.set_session(session)? {
            self.checking = None;
        }
        Ok(())
    }

    /// The user, if the credentials are still those of the login.
    fn poll_user(&mut self, context: &mut Context<'_>) -> Poll<Result<Arc<str>, Refusal>> {
        if self.checking.is_none() {
            let now_secs = unix_secs(SystemTime::now());
            match self.channel_peer.user(self.state, now_secs) {
                Ok(Some(user)) => return Poll::Ready(Ok(user)),
                Err(refusal) => return Poll::Ready(Err(refusal)),
                Ok(None) => (),
            }
        }
        let (state, channel_peer) = (self.state, &self.channel_peer);
        let checking = self.checking.get_or_insert_with(|| {
            let (session, channel_peer) = (channel_peer.session(), Rc::clone(channel_peer));
            Box::pin(async move {
                let session = session.ok_or_else(|| authenticate::expired(NoSession::NotSent))?;
                let peer = channel_peer.peer(state, unix_secs(SystemTime::now()))?;
                authenticate::user(&session, &peer, state).await
            })
        });
        let user = ready!(checking.as_mut().poll(context));
        self.checking = None;
        Poll::Ready(user)
    }

    /// Records the results of the entries that are being put, once they are known. Ready if none
    /// are being put.
    fn poll_put(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(putting) = &mut self.putting else { return Poll::Ready(()) };
        let (puts, notify) = ready!(putting.poll(context));
        let (first, user) = (putting.first, Arc::clone(&putting.sender.user));
        let sender = self.putting.take().map(|putting| putting.sender);
        self.active_at = now;
        self.connection.written().notify_behind(notify);
        let mut puts = puts.into_iter();
        let (mut refused, mut is_closed, mut is_in_doubt) = (None, false, false);
        let (mut has_taken, mut again, goes_on) = (false, None, self.goes_on());
        for (entry, pending_entry) in (first..).zip(self.pending_entries.drain(..)) {
            let (put, request) = match pending_entry {
                PendingEntry::Bad(code) => {
                    count_refusal(self.state, &self.channel_peer, code);
                    self.answers.settle(entry, code.as_str());
                    continue;
                }
                PendingEntry::Message => (puts.next(), None),
                PendingEntry::Request(id, wait) => (puts.next(), Some((id, wait))),
            };
            has_taken |= put == Some(Ok(Put::Accepted));
            match (put, request) {
                // The application is taking messages, so there will be more room soon. The client
                // waits meanwhile.
                (Some(Err(PutError::Full | PutError::RememberedFull)), _)
                    if has_taken && goes_on =>
                {
                    again = Some(entry);
                    break;
                }
                (Some(Ok(put)), None) => self.answers.settle(entry, frame::code_of(put)),
                // The client has taken the entry back, because it is behind a refusal. It sends the
                // request again under another number.
                (Some(Ok(_)), Some(_)) if refused.is_some() => (),
                (Some(Ok(put)), Some((id, wait))) => {
                    let wait = wait.min(self.state.reply_wait_max);
                    let is_duplicate = put == Put::Duplicate;
                    let user = Arc::clone(&user);
                    self.replies.push((self.wait)(Request { entry, user, id, is_duplicate, wait }));
                    self.waiting.insert(entry);
                }
                (Some(Err(error @ (PutError::IdReused | PutError::TooLarge))), _) => {
                    let code = not_put(error).code();
                    count_refusal(self.state, &self.channel_peer, code);
                    self.answers.settle(entry, code.as_str());
                }
                (Some(Err(PutError::Closed)), _) => is_closed = true,
                (Some(Err(PutError::Unknown)), _) => is_in_doubt = true,
                (Some(Err(PutError::Unavailable)), _) => {
                    refused.get_or_insert((entry, ProblemCode::Unavailable));
                }
                (Some(Err(PutError::RememberedFull)), _) => {
                    refused.get_or_insert((entry, ProblemCode::IdsFull));
                }
                (Some(Err(_)) | None, _) => {
                    refused.get_or_insert((entry, ProblemCode::InboxFull));
                }
            }
        }
        if let (Some(from), Some(sender), Some(message)) = (again, sender, &mut self.current) {
            let entries_max = self.settings.announced.entries;
            match Putting::begin_again(
                message,
                &self.envelope_keys,
                from,
                sender,
                &mut self.pending_entries,
                self.state,
                entries_max,
            ) {
                Ok(putting) => {
                    self.putting = Some(putting);
                    // The entries that were accepted are answered before the others wait for room.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(closing) => self.ends_with(closing),
            }
        }
        self.current = None;
        self.reservation.release();
        if let Some((from, code)) = refused {
            self.sequence.refuse(from);
            self.count_refusal(code);
            self.answers.refuse(from, code);
        }
        if is_closed {
            self.ends_with(crate::refusal::shutting_down().into());
        } else if is_in_doubt {
            // What is not answered is in doubt for the client too, which sends it again.
            self.ends_with(Closing::away("the inbox lost its engine"));
        }
        Poll::Ready(())
    }

    fn refuse_entry(&mut self, entry: u64, code: ProblemCode) {
        self.count_refusal(code);
        self.answers.settle(entry, code.as_str());
    }

    fn count_refusal(&self, code: ProblemCode) {
        count_refusal(self.state, &self.channel_peer, code);
    }

    /// Whether the channel is not about to end.
    fn goes_on(&self) -> bool {
        !self.is_read && !self.state.is_stopping()
    }

    fn note_reply(&mut self, replied: Replied, now: Instant) {
        let Replied { entry, is_duplicate, reply } = replied;
        self.active_at = now;
        self.waiting.remove(&entry);
        match reply {
            Ok(Ok(body)) => self.answers.reply(entry, is_duplicate, body),
            Ok(Err(NoReply::Declined(reason))) => {
                self.count_refusal(ProblemCode::NotAnswered);
                self.answers.decline(entry, &reason);
            }
            Ok(Err(error)) => {
                let refusal = no_reply(error, self.state.is_stopping());
                self.refuse_entry(entry, refusal.code());
            }
            Err(_elapsed) => self.refuse_entry(entry, ProblemCode::NoReplyInTime),
        }
    }

    /// Acts on the server's stop: no further message is accepted, and requests that wait for a
    /// reply are waited for.
    fn stop(&mut self, now: Instant) {
        let stops_at = *self.stops_at.get_or_insert(now + self.settings.stop);
        if now >= stops_at {
            for entry in std::mem::take(&mut self.waiting) {
                self.refuse_entry(entry, ProblemCode::ShuttingDown);
            }
        }
        if now >= stops_at || (self.waiting.is_empty() && self.putting.is_none()) {
            self.end(Closing::away("the server is stopping"));
        }
    }

    /// Writes what goes out next, if nothing else is being sent.
    fn fill(&mut self, context: &mut Context<'_>) {
        let outgoing = Rc::clone(&self.outgoing);
        let mut outgoing = outgoing.borrow_mut();
        if !outgoing.is_empty() || self.has_ended {
            return;
        }
        if let Some(payload) = self.pong.take() {
            wire::write_pong(outgoing.bytes(), &payload);
        }
        if std::mem::take(&mut self.ping_is_due) {
            wire::write_ping(outgoing.bytes());
        }
        if self.answers.has_replies() {
            match self.poll_user(context) {
                Poll::Ready(Ok(_)) => (),
                Poll::Pending => return,
                // The channel ends anyway, and this peer may no longer get replies.
                Poll::Ready(Err(_)) if self.ending.is_some() => self.answers.drop_replies(),
                Poll::Ready(Err(refusal)) => self.end(refusal.into()),
            }
        }
        if !self.answers.is_empty()
            && let Err(refusal) = self.seal(&mut outgoing)
        {
            self.answers.clear();
            self.end(refusal.into());
        }
        if self.answers.is_empty()
            && let Some(closing) = &self.ending
        {
            wire::write_close(outgoing.bytes(), closing);
            self.has_ended = true;
        }
    }

    /// Seals one frame of answers.
    fn seal(&mut self, outgoing: &mut Outgoing) -> Result<(), Refusal> {
        let Some(id) = self.id else { return Ok(()) };
        let bytes_max = self.settings.announced.message_bytes.saturating_sub(OVERHEAD_BYTES_MAX);
        let mut reservation = None;
        if let Some(bytes) =
            self.answers.long_reply(bytes_max).filter(|bytes| *bytes > REPLY_FREE_BYTES)
        {
            // Until the peer has taken it, a long reply takes memory like a body.
            let mut memory = Reservation::none(&self.state.budget);
            if memory.grow_to(bytes) {
                reservation = Some(memory);
            } else {
                self.answers.settle_first_reply(ProblemCode::Unavailable);
            }
        }
        let iv = random_iv().map_err(|error| internal("getting random bytes", error))?;
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.resize(HEADER_BYTES, 0);
        self.answers.write_frame(&mut buffer, id, bytes_max);
        let now_secs = unix_secs(SystemTime::now());
        // With the key that the peer has shown to have, as it was then.
        self.envelope_keys.seal_in_place_with(self.key_index, &mut buffer, now_secs, iv);
        wire::write_header(outgoing.bytes(), buffer.len());
        self.scratch = outgoing.push(buffer, reservation);
        Ok(())
    }

    /// Checks that the peer takes what is sent. Ready if it does not even take the close frame.
    fn look_at_what_is_taken(&mut self, now: Instant) -> Poll<()> {
        let written = self.connection.written();
        if self.mark.is_some_and(|(target, _)| written.total() >= target) {
            self.mark = None;
        }
        let on_the_way = written.on_the_way();
        if on_the_way == 0 {
            return Poll::Pending;
        }
        let (_, until) =
            *self.mark.get_or_insert((written.total() + on_the_way, now + self.settings.answer));
        if now < until {
            return Poll::Pending;
        }
        if self.ending.is_some() {
            return Poll::Ready(());
        }
        self.mark = None;
        self.answers.clear();
        self.end(Closing::policy("the peer did not take the answers"));
        Poll::Pending
    }

    /// Whether the server, not the peer, has something to do.
    fn is_waited_for(&self) -> bool {
        self.putting.is_some()
            || self.next.is_some()
            || !self.waiting.is_empty()
            || !self.answers.is_empty()
    }

    /// Arranges that the task is woken when the next limit passes.
    fn set_timer(&mut self, context: &mut Context<'_>, now: Instant) {
        let ChannelSettings { silence_max, idle, answer, .. } = self.settings;
        let mut next = self.mark.map(|(_, until)| until);
        let mut at =
            |deadline: Instant| next = Some(next.map_or(deadline, |next| next.min(deadline)));
        if self.ending.is_none() && !self.is_read {
            let silent_at = self.heard_at + silence_max;
            let ping_at = self.heard_at + silence_max / 2;
            // A peer that has not authenticated itself yet gets less time.
            let idle_at = self.active_at + if self.id.is_some() { idle } else { idle.min(answer) };
            if now >= silent_at {
                self.end(Closing::policy("the peer was silent too long"));
                return context.waker().wake_by_ref();
            }
            if now >= idle_at && !self.is_waited_for() {
                self.end(Closing::away("the channel was idle too long"));
                return context.waker().wake_by_ref();
            }
            if now >= ping_at && !self.has_pinged {
                (self.has_pinged, self.ping_is_due) = (true, true);
                self.shrink();
                return context.waker().wake_by_ref();
            }
            at(if self.has_pinged { silent_at } else { ping_at });
            if !self.is_waited_for() {
                at(idle_at);
            }
            if let Some(stops_at) = self.stops_at {
                at(stops_at);
            }
        }
        let Some(next) = next else { return };
        if self.timer_at.is_none_or(|timer_at| next < timer_at) {
            self.timer.as_mut().reset(next);
            self.timer_at = Some(next);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            // The timer was set for a limit that has moved, or that has just passed.
            self.timer_at = None;
            context.waker().wake_by_ref();
        }
    }

    /// Frees memory that was needed only while the channel was busy.
    fn shrink(&mut self) {
        self.decoder.shrink();
        self.outgoing.borrow_mut().shrink();
        (self.scratch, self.pending_entries) = (Vec::new(), Vec::new());
    }
}

/// A function of its own, for places where a part of the driver is borrowed.
fn count_refusal(state: &State, channel_peer: &ChannelPeer, code: ProblemCode) {
    state.statistics.refused(code, channel_peer.address(), channel_peer.name());
}

/// The result of a read.
enum Read {
    Something,
    Nothing,
    /// The connection has ended.
    Gone,
}
