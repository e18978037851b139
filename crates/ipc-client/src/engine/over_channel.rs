//! The way over the channel: opens it, writes frames, reads answers, and handles its end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::ws::CloseCode;
use ipc_protocol::{
    CHANNEL_RETRY_AFTER, ChannelAnswer, ProblemCode, RefusedFrom, Route, Settled, close_code_of,
    detail_of_reason,
};
use tokio::time::Instant;

use crate::call::EntryStatus;
use crate::channel::in_flight::InFlight;
use crate::channel::{Channel, End, Event};
use crate::engine::active_call::Chunk;
use crate::engine::dispatch::Engine;
use crate::engine::queue::{FrameLimits, REPLY_WAIT_BYTES};
use crate::engine::state::{Link, SAY_EVERY, State};
use crate::error::SendError;
use crate::exchange::AttemptLimits;
use crate::exchange::refusal::{AttemptError, Recovery, give_up, of_code, printable};
use crate::sealer::NOT_OURS;
use crate::transport::attempt::Attempt;
use crate::transport::http::{OpenError, WebSocket};

/// How long no channel is requested after the server, or a proxy in front of it, has refused to
/// open one.
const NO_CHANNEL_FOR: Duration = Duration::from_secs(60);

/// After this many upgrade requests in a row without any response, none is sent for
/// [`NO_CHANNEL_FOR`] either.
const OPENINGS_WITHOUT_ANSWER_MAX: u32 = 3;

/// Close codes with which a server refuses a frame because of its content.
const REFUSALS_OF_A_FRAME: [u16; 2] =
    [close_code_of(ProblemCode::MalformedFrame), close_code_of(ProblemCode::TooLarge)];

impl Engine {
    /// Opens a channel for the waiting entries.
    pub(super) async fn open_channel(self: &Rc<Self>) {
        let epoch = self.exchange.epoch();
        let (token, generation) = self.exchange.current_session();
        if token.is_none() {
            self.state.borrow_mut().is_logging_in = true;
            if !self.renew(generation).await {
                self.state.borrow_mut().link = Link::Closed;
                return;
            }
        }
        let result = self.try_open().await;
        let state = &mut *self.state.borrow_mut();
        state.link = Link::Closed;
        match result {
            // It was opened with what there was before.
            Ok(Ok(_)) if epoch != self.exchange.epoch() => (),
            Ok(Ok(channel)) => {
                state.in_flight = InFlight::default();
                state.unanswered.clear();
                state.has_begun = true;
                state.openings_without_answer = 0;
                state.has_other_address = self.exchange.http().connector().has_others();
                state.link = Link::Open(Box::new(channel));
            }
            Ok(Err(why)) => self.no_channel(state, &why),
            Err(error) => {
                self.exchange.http().connector().go_to_next();
                self.attempt_failed(state, &error, epoch);
            }
        }
        self.wake();
    }

    async fn try_open(&self) -> Result<Result<Channel, String>, AttemptError> {
        let attempt = Rc::new(Attempt::default());
        let now = Instant::now();
        let limits = AttemptLimits::until(self.state.borrow().last_end(now + self.config.timeout));
        let bytes_max =
            self.config.plaintext_bytes_max.saturating_add(ipc_envelope::OVERHEAD_BYTES_MAX);
        let opened = async {
            match self.exchange.http().open_channel(bytes_max, &attempt).await {
                Ok(socket) => Ok(Ok(socket)),
                Err(OpenError::NotOpened(why)) => Ok(Err(why)),
                Err(OpenError::NoAnswer(error)) => Err(error),
            }
        };
        let route = Route::MessageChannel;
        let attempt_max = self.exchange.attempt_max(route, 0);
        let opened: Result<Result<WebSocket, String>, _> =
            self.exchange.in_time(opened, route, attempt_max, limits, &attempt).await;
        let socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => return Ok(Err(why)),
            Err(error) => {
                if attempt.writing.get() {
                    self.opening_has_no_answer();
                }
                let error = self.exchange.explain(error, &attempt, limits.ends_at).await;
                // No message was sent yet, so none is in doubt.
                return Err(AttemptError::without_answer(match error {
                    SendError::NoAnswer { address, source } => {
                        SendError::Unreachable { address, source }
                    }
                    error => error,
                }));
            }
        };
        let sealer = self.exchange.sealer();
        let id = sealer.draw_id().map_err(give_up)?;
        Ok(Ok(Channel::new(socket, sealer, id, bytes_max)))
    }

    /// Notes an upgrade request without a response. The next entry goes by POST, since a server or
    /// proxy that does not answer upgrades may answer a POST.
    fn opening_has_no_answer(&self) {
        let state = &mut *self.state.borrow_mut();
        state.post_next = true;
        state.openings_without_answer += 1;
        if state.openings_without_answer == OPENINGS_WITHOUT_ANSWER_MAX {
            self.no_channel(state, "no answer");
        }
    }

    /// Stops requests for a channel for [`NO_CHANNEL_FOR`].
    fn no_channel(&self, state: &mut State, why: &str) {
        let level = match std::mem::replace(&mut state.has_told_no_channel, true) {
            false => log::Level::Info,
            true => log::Level::Debug,
        };
        let http = self.exchange.http();
        let address = http.connector().address();
        log::log!(level, "the server at {address} opens no channel ({why}): messages go by POST");
        state.no_channel_until = Some(Instant::now() + NO_CHANNEL_FOR);
        state.openings_without_answer = 0;
    }

    /// Writes frames as long as the connection takes them.
    pub(super) fn write_frames(&self, state: &mut State, now: Instant, cx: &mut Context<'_>) {
        if !state.may_write(now) {
            return;
        }
        let Link::Open(channel) = &mut state.link else { return };
        // Flush first. If the connection does not take everything, the driver is woken once there
        // is room for the next frame.
        while channel.poll_flush(cx).is_ready() && channel.is_writable() {
            let (token, generation) = self.exchange.current_session();
            let token = token.filter(|_| state.session_sent != Some(generation));
            let session = token.as_ref().map(|token| token.as_str());
            let entries_max = channel.limits().entries;
            let limits = FrameLimits {
                entries: match state.in_flight.is_empty() {
                    // A first frame with half of the entries: from then on one end handles one half
                    // while the other end handles the other.
                    true => {
                        state.queue.half_of_many().map_or(entries_max, |half| half.min(entries_max))
                    }
                    false => entries_max,
                },
                bytes: channel.entries_bytes_max(session.map_or(0, str::len)),
                requests: channel.limits().requests.saturating_sub(state.requests),
            };
            let mut frame = Vec::new();
            state.queue.take_frame(limits, &mut frame);
            if frame.is_empty() {
                return;
            }
            let bytes: usize = frame.iter().map(|chunk| chunk.bytes() + REPLY_WAIT_BYTES).sum();
            let written =
                channel.write(state.in_flight.next(), state.resume, session, bytes, |buffer| {
                    for (index, chunk) in frame.iter().enumerate() {
                        if index > 0 {
                            buffer.push(b',');
                        }
                        write_entries(buffer, chunk, now);
                    }
                });
            if let Err(error) = written {
                frame.iter().for_each(|chunk| chunk.call.fail(error.clone(), false));
                continue;
            }
            state.session_sent = Some(generation);
            state.resume = None;
            state.leaves_address = false;
            let mut last_message = None;
            for mut chunk in frame {
                chunk.sent_at = now;
                chunk.call.note_sent();
                let is_request = chunk.call.is_request();
                if is_request {
                    state.requests += 1;
                    chunk.call.reply_wait_begins(now);
                }
                state.in_flight.push(chunk);
                if !is_request {
                    last_message = Some(state.in_flight.next() - 1);
                }
            }
            state.unanswered.extend(last_message.map(|last| (last, now)));
            // To log the wait if no answer comes.
            let look_at = now + SAY_EVERY;
            state.look_at = Some(state.look_at.map_or(look_at, |at| at.min(look_at)));
        }
    }

    /// Reads what has arrived over the channel.
    pub(super) fn read_channel(self: &Rc<Self>, cx: &mut Context<'_>) {
        loop {
            let state = &mut *self.state.borrow_mut();
            let Link::Open(channel) = &mut state.link else { return };
            match channel.poll_event(cx) {
                Poll::Pending => return,
                Poll::Ready(Event::Answer(envelope)) => {
                    if let Err(why) = self.take_answer(state, &envelope) {
                        if why == NOT_OURS {
                            // The server may have another key by now, and so may the home.
                            self.look_at_home(state);
                        }
                        if let Link::Open(channel) = &mut state.link {
                            channel.close(CloseCode::Policy, "invalid answer");
                            let _ = channel.poll_flush(cx);
                        }
                        let error = io::Error::new(io::ErrorKind::InvalidData, why);
                        self.channel_ended(state, End::Broken(error));
                    }
                }
                Poll::Ready(Event::Ended(end)) => {
                    if let Link::Open(channel) = &mut state.link {
                        // Sends the answer to a close frame.
                        let _ = channel.poll_flush(cx);
                    }
                    self.channel_ended(state, end);
                }
            }
        }
    }

    /// Processes an answer. The error says what is wrong with it.
    fn take_answer(self: &Rc<Self>, state: &mut State, envelope: &[u8]) -> Result<(), String> {
        let now = Instant::now();
        let Link::Open(channel) = &state.link else { return Ok(()) };
        let (in_flight, requests) = (&mut state.in_flight, &mut state.requests);
        let mut again = Vec::new();
        let mut refused = None;
        let mut answered_to = 0;
        let read = channel.read(envelope, |answer: &ChannelAnswer<'_>| {
            let mut take = |settled: &Settled<'_>, reason: Option<&str>| {
                settle(in_flight, requests, settled, reason, now, &mut again)?;
                answered_to = answered_to.max(settled.last.saturating_add(1));
                Some(())
            };
            match answer.reasons.is_empty() {
                true => answer.settled.iter().try_for_each(|settled| take(settled, None))?,
                false => {
                    with_reasons(answer).try_for_each(|(settled, reason)| take(&settled, reason))?
                }
            }
            for reply in &answer.replies {
                let tell = |chunk: &Chunk, _| {
                    let is_one =
                        chunk.call.is_request() && chunk.reply(reply.is_duplicate, reply.body);
                    *requests -= usize::from(is_one);
                    is_one
                };
                in_flight.settle(reply.entry, reply.entry, tell).ok()?;
                answered_to = answered_to.max(reply.entry.saturating_add(1));
            }
            if let Some(RefusedFrom { from, code }) = answer.refused {
                if from >= in_flight.next() {
                    return None;
                }
                refused = Some((from, of_code(code, Some(CHANNEL_RETRY_AFTER))));
            }
            Some(())
        });
        if let Err(why) = read {
            // The channel ends now. These entries are sent again together with all others without
            // an answer.
            again.into_iter().for_each(|(chunk, _)| state.in_flight.push(chunk));
            return Err(why);
        }
        state.has_answer();
        // The server handles frames in order. So earlier frames are answered too, or will be at
        // once.
        state.unanswered.retain(|(last, _)| *last >= answered_to);
        for (chunk, error) in again {
            self.retry(state, chunk, &error, now);
        }
        if let Some((from, error)) = refused {
            let taken = state.in_flight.take_from(from);
            state.unanswered.retain(|(last, _)| *last < from);
            taken.iter().for_each(|chunk| chunk.call.was_not_taken());
            state.count_requests();
            state.resume = Some(from);
            state.leaves_address = error.error.code() == Some(ProblemCode::Unavailable)
                && self.exchange.http().connector().has_others();
            self.requeue(state, taken, &error, false, now);
        }
        Ok(())
    }

    /// Handles the end of the channel. Entries without an answer are sent again.
    pub(super) fn channel_ended(self: &Rc<Self>, state: &mut State, end: End) {
        let now = Instant::now();
        state.link = Link::Closed;
        let used = state.session_sent.take();
        state.resume = None;
        state.leaves_address = false;
        let chunks = state.in_flight.take_from(0);
        let was_used = state.in_flight.next() > 0;
        state.in_flight = InFlight::default();
        state.unanswered.clear();
        state.requests = 0;
        let is_idle = chunks.iter().all(|chunk| chunk.call.is_over());
        let address = self.exchange.http().connector().address().to_string();
        let end = match end {
            End::Closed { code, reason } => End::Closed { code, reason: printable(&reason) },
            end => end,
        };
        let (error, may_be_there) = match end {
            End::Broken(error) => {
                log::debug!("the channel to {address} broke: {}", ipc_base::chain(&error));
                // Most likely a reply was too long. A POST gets the error of that request.
                state.post_next |= error.kind() == io::ErrorKind::FileTooLarge;
                let attempt = Attempt::default();
                attempt.writing.set(true);
                (
                    AttemptError::without_answer(self.exchange.http().error_of(&error, &attempt)),
                    true,
                )
            }
            End::Closed { code, reason } if code == close_code_of(ProblemCode::SessionExpired) => {
                log::debug!("the channel to {address} was closed: {code} {reason}");
                // The server also checks users while it stores messages, so some may be stored.
                (of_code(ProblemCode::SessionExpired.as_str(), None), true)
            }
            End::Closed { code: code @ 4000.., reason } => {
                let error = of_code(&reason, None);
                // The response to a POST has more detail, and says which message is at fault.
                state.post_next = true;
                // These codes are about the frame itself. The server took nothing from it, and has
                // answered all frames before it.
                let is_of_the_frame = REFUSALS_OF_A_FRAME.contains(&code);
                (AttemptError { recovery: Recovery::Wait(None), ..error }, !is_of_the_frame)
            }
            End::Closed { code, reason } => {
                if code > 1001 {
                    log::warn!("the server at {address} closed the channel: {code} {reason}");
                    state.post_next = true;
                } else {
                    log::debug!("the server at {address} closed the channel: {code} {reason}");
                }
                let error = io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    format!("the server closed the channel: {code} {reason}"),
                );
                let error = SendError::NoAnswer { address, source: Arc::new(error) };
                (AttemptError::without_answer(error), true)
            }
        };
        if is_idle {
            if !was_used && !state.queue.is_empty() {
                // The waiting entries gained nothing from this channel, so the next address is
                // tried after a pause.
                let why = io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    ipc_base::chain(&error.error).to_string(),
                );
                let http = self.exchange.http();
                let connector = http.connector();
                let address = connector.all_addresses();
                connector.go_to_next();
                let error = SendError::Unreachable { address, source: Arc::new(why) };
                let error = AttemptError::without_answer(error);
                self.attempt_failed(state, &error, self.exchange.epoch());
            }
            return;
        }
        if error.recovery == Recovery::LogIn {
            for chunk in &chunks {
                chunk.call.note_failure(&chunk.range, &error.error, may_be_there);
                state.queue.requeue(chunk);
            }
            self.log_in(state, used.unwrap_or_default(), error);
            return;
        }
        if matches!(error.error, SendError::NoAnswer { .. }) {
            self.exchange.http().connector().go_to_next();
        }
        if error.recovery == Recovery::GiveUp {
            for chunk in &chunks {
                chunk.call.fail(error.error.clone(), true);
            }
            return;
        }
        let (requests, sends): (Vec<_>, Vec<_>) =
            chunks.into_iter().partition(|chunk| chunk.call.is_request());
        self.requeue(state, requests, &error, true, now);
        self.requeue(state, sends, &error, may_be_there, now);
    }
}

/// Appends the entries of a chunk. The entry of a request also says how long the server waits for
/// its reply.
fn write_entries(buffer: &mut Vec<u8>, chunk: &Chunk, now: Instant) {
    use std::io::Write as _;
    let text = chunk.call.messages.text(chunk.range.clone());
    match chunk.call.reply_wait(now) {
        None => buffer.extend_from_slice(text),
        Some(wait) => {
            // The new member replaces the closing brace.
            buffer.extend_from_slice(&text[..text.len() - 1]);
            write!(buffer, r#","reply_wait_ms":{}}}"#, wait.as_millis()).expect("memory takes all");
        }
    }
}

/// The ranges of an answer. An entry with a reason for which it has no reply is one of its own.
fn with_reasons<'a>(
    answer: &'a ChannelAnswer<'_>,
) -> impl Iterator<Item = (Settled<'a>, Option<&'a str>)> {
    // The first reason of an entry counts.
    let mut reasons: Vec<_> = answer.reasons.iter().collect();
    reasons.sort_by_key(|reason| reason.entry);
    reasons.dedup_by_key(|reason| reason.entry);
    answer.settled.iter().flat_map(move |settled| {
        let Settled { first, last, code } = *settled;
        if reasons.is_empty() || code != ProblemCode::NotAnswered.as_str() {
            return vec![(*settled, None)];
        }
        let (mut ranges, mut next) = (Vec::new(), Some(first));
        let here = &reasons[reasons.partition_point(|one| one.entry < first)..];
        for reason in here.iter().take_while(|one| one.entry <= last) {
            let entry = reason.entry;
            if let Some(first) = next.filter(|next| *next < entry) {
                ranges.push((Settled { first, last: entry - 1, code }, None));
            }
            ranges.push((Settled { first: entry, last: entry, code }, Some(&*reason.reason)));
            next = entry.checked_add(1);
        }
        let rest = next.filter(|next| *next <= last);
        ranges.extend(rest.map(|first| (Settled { first, last, code }, None)));
        ranges
    })
}

/// Sets the status of entries. `reason` says why a request has no reply. Returns `None` if one of
/// them is not in flight. Entries that are to be sent again go into `again`.
fn settle(
    in_flight: &mut InFlight<Chunk>,
    requests: &mut usize,
    Settled { first, last, code }: &Settled<'_>,
    reason: Option<&str>,
    now: Instant,
    again: &mut Vec<(Chunk, AttemptError)>,
) -> Option<()> {
    let status = match *code {
        Settled::ACCEPTED => EntryStatus::Accepted,
        Settled::DUPLICATE => EntryStatus::Duplicate,
        code => {
            let error = of_code(code, None);
            let is_late = error.error.code() == Some(ProblemCode::NoReplyInTime);
            if is_late || matches!(error.recovery, Recovery::Wait(_)) {
                let taken = in_flight.take(*first, *last);
                let mut entries = 0;
                for chunk in taken {
                    entries += chunk.len() as u64;
                    *requests -= usize::from(chunk.call.is_request());
                    again.push((chunk, error.clone()));
                }
                return (entries == (last - first).saturating_add(1)).then_some(());
            }
            EntryStatus::Refused(match (error.error, reason) {
                (SendError::Refused { status, code, .. }, Some(reason)) => {
                    SendError::Refused { status, code, detail: detail_of_reason(Some(reason)) }
                }
                (error, _) => error,
            })
        }
    };
    let settled = in_flight.settle(*first, *last, |chunk, positions| {
        *requests -= usize::from(chunk.call.is_request());
        match &status {
            EntryStatus::Refused(error) => {
                let error = chunk.call.no_reply(error).unwrap_or_else(|| error.clone());
                chunk.settle(positions, &EntryStatus::Refused(error), now)
            }
            status => chunk.settle(positions, status, now),
        }
    });
    settled.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::ChannelReason;

    #[test]
    fn a_range_is_parted_by_the_entries_that_have_a_reason() {
        let ranges = |settled: &[(u64, u64, &'static str)], reasons: &[(u64, &'static str)]| {
            let settled = settled.iter().map(|&(first, last, code)| Settled { first, last, code });
            let reasons = reasons
                .iter()
                .map(|&(entry, reason)| ChannelReason { entry, reason: reason.into() });
            let answer = ChannelAnswer {
                settled: settled.collect(),
                reasons: reasons.collect(),
                ..ChannelAnswer::default()
            };
            let ranges = with_reasons(&answer)
                .map(|(settled, reason)| (settled.first, settled.last, reason.map(str::to_owned)));
            ranges.collect::<Vec<_>>()
        };
        let of = |reason: &str| Some(reason.to_owned());
        const CODE: &str = "not_answered";
        assert_eq!(ranges(&[(0, 9, CODE)], &[]), [(0, 9, None)]);
        assert_eq!(
            ranges(
                &[(0, 2, CODE), (5, 9, CODE)],
                &[(9, "d"), (1, "b"), (5, "c"), (1, "x"), (3, "y")]
            ),
            [
                (0, 0, None),
                (1, 1, of("b")),
                (2, 2, None),
                (5, 5, of("c")),
                (6, 8, None),
                (9, 9, of("d"))
            ]
        );
        assert_eq!(ranges(&[(0, 1, "accepted")], &[(1, "a")]), [(0, 1, None)], "of no such code");
        let last = u64::MAX;
        assert_eq!(ranges(&[(last, last, CODE)], &[(last, "e")]), [(last, last, of("e"))]);
    }
}
