//! Messages that go out together: which of them are still open, how many are sent at once, and what an answer says of
//! each.
//!
//! `send_all` makes batches and hands them to the worker's thread; there they come here. What `send` is asked at the same
//! moment comes from `combine`. How often one is sent is decided in `errand`.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::Poll;

use ipc_protocol::{BatchOutcome, BatchReply, MessageId, ProblemCode, Route, write_batch};
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep};

use crate::errand::{Errand, Fault, Next, give_up};
use crate::error::{Outcome, SendError};
use crate::random::random;
use crate::retry::Pauses;
use crate::send::{Sealed, Sender, printable};
use crate::session::Generation;

/// What a message costs in a batch beside its body: its id and the members around it.
pub(crate) const ENTRY_BYTES: usize = 60;

/// Messages that follow each other. All stay until all are answered, so that each is known by its position.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    /// Bytes of the bodies and of what a batch has around each.
    bytes: usize,
    /// How many are sent at once, at most, where the server has refused more.
    piece_max: Option<usize>,
    /// The position behind the last message that some attempt without an answer may have brought there.
    doubt_end: usize,
    /// The inbox had no room for the rest a moment ago.
    is_refused_for_room: bool,
    /// Sealed while the batch before it was on its way.
    ready: Option<Box<Ready>>,
}

/// When one of many batches has its turn: once all of the one before it is answered.
pub(crate) struct Turn {
    before: Option<Before>,
    next: oneshot::Sender<Learned>,
}

/// What the next batch waits for. It hears nothing if not all was answered.
pub(crate) struct Before(oneshot::Receiver<Learned>);

/// How many messages the server takes at once, where it has refused more.
pub(crate) type Learned = Option<usize>;

impl Turn {
    /// The turn after another one's, or at once, and what the next one waits for.
    pub(crate) fn after(before: Option<Before>) -> (Self, Before) {
        let (next, waits) = oneshot::channel();
        (Turn { before, next }, Before(waits))
    }
}

/// The envelope of a whole batch.
struct Ready {
    id: MessageId,
    sealed: Sealed,
    /// The session that is in it.
    session: Generation,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A batch is sealed ahead if its messages have no more bytes: longer ones would hold up the thread, and are sealed while they
/// are sent.
const READY_BYTES_MAX: usize = 64 * 1024;

/// A message, and what became of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: MessageId,
    /// Empty once there is a fate.
    pub(crate) body: String,
    /// `None` as long as nothing is known.
    pub(crate) fate: Option<Fate>,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Fate {
    Sent,
    Duplicate,
    Refused(SendError),
}

impl Batch {
    /// With room for so many messages.
    pub(crate) fn with_capacity(messages: usize) -> Self {
        Batch { entries: Vec::with_capacity(messages), ..Batch::default() }
    }

    /// The messages, in order.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_iter()
    }

    /// How many messages the server takes at once, as far as this batch has met with it.
    pub(crate) fn learned(&self) -> Learned {
        self.piece_max
    }

    /// Is sent in pieces no larger than the server took of the one before.
    pub(crate) fn learn(&mut self, learned: Learned) {
        self.piece_max = learned;
    }

    /// Adds a message.
    pub(crate) fn push(&mut self, id: MessageId, body: String) {
        self.bytes += body.len() + ENTRY_BYTES;
        self.entries.push(Entry { id, body, fate: None });
    }

    /// Adds one that cannot be sent: it has its place among the others.
    pub(crate) fn push_refused(&mut self, error: SendError) {
        let id = MessageId::from_bytes([0; 16]);
        self.entries.push(Entry { id, body: String::new(), fate: Some(Fate::Refused(error)) });
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_answered(&self) -> bool {
        self.entries.iter().all(|entry| entry.fate.is_some())
    }

    /// What became of the messages from position `from` up to the first that is still open.
    pub(crate) fn take_fates(&mut self, from: usize) -> Vec<Fate> {
        let answered = self.entries[from..].iter_mut().map_while(|entry| {
            // One that was told is told once; it stays answered.
            entry.fate.as_mut().map(|fate| mem::replace(fate, Fate::Sent))
        });
        answered.collect()
    }

    /// The positions to send next.
    fn piece(&self) -> Vec<usize> {
        let open = self.entries.iter().enumerate().filter(|(_, entry)| entry.fate.is_none());
        open.map(|(position, _)| position).take(self.piece_max.unwrap_or(usize::MAX)).collect()
    }

    /// Appends the body of a frame with these messages, at most two bytes more than [`bytes`](Batch::bytes).
    fn write(&self, piece: &[usize], buffer: &mut Vec<u8>) {
        let entries = piece.iter().map(|&position| &self.entries[position]);
        write_batch(buffer, entries.map(|entry| (entry.id, entry.body.as_str())));
    }

    fn settle(&mut self, position: usize, fate: Fate) {
        let entry = &mut self.entries[position];
        entry.body = String::new();
        entry.fate = Some(fate);
    }

    /// An attempt at `piece` got no answer.
    fn doubt(&mut self, piece: &[usize]) {
        self.doubt_end = self.doubt_end.max(piece.last().map_or(0, |last| last + 1));
    }

    /// An answer at `piece` has told what it knows.
    fn end_doubt(&mut self, piece: &[usize]) {
        if piece.last().is_some_and(|last| self.doubt_end <= last + 1) {
            self.doubt_end = 0;
        }
    }

    /// Whether a message that is still open may be in the inbox.
    fn is_in_doubt(&self) -> bool {
        self.entries.iter().position(|entry| entry.fate.is_none()).is_some_and(|open| open < self.doubt_end)
    }

    /// Takes in the answer to `piece`; `false` if it tells nothing new of any message.
    fn apply(&mut self, piece: &[usize], reply: &BatchReply) -> Result<bool, &'static str> {
        let full_from = reply.full_from.map_or(piece.len(), |index| index as usize);
        let mut others: Vec<Option<&str>> = vec![None; piece.len()];
        for BatchOutcome { index, code } in &reply.others {
            let other =
                others.get_mut(*index as usize).ok_or("the reply names a message that was not sent")?;
            if other.replace(code).is_some() {
                return Err("the reply names a message twice");
            }
        }
        let accepted = others.iter().take(full_from).filter(|other| other.is_none()).count();
        if full_from > piece.len() || accepted != reply.accepted as usize {
            return Err("the reply does not count as many messages as were sent");
        }
        self.end_doubt(piece);
        let mut told = false;
        for (index, (&position, other)) in piece.iter().zip(&others).enumerate() {
            let fate = match other {
                None if index >= full_from => continue,
                None => Fate::Sent,
                Some(BatchOutcome::DUPLICATE) => Fate::Duplicate,
                Some(code) => Fate::Refused(refused(code)),
            };
            self.settle(position, fate);
            told = true;
            if index >= full_from {
                // A later one is there and an earlier one is not: an attempt without an answer is still at work.
                self.doubt(&piece[..=index]);
            }
        }
        self.is_refused_for_room = full_from < piece.len();
        Ok(told || piece.is_empty())
    }
}

/// Why one message of a batch was refused.
fn refused(code: &str) -> SendError {
    match ProblemCode::from_code(code) {
        Some(code) => SendError::Refused { status: code.status(), code: Some(code), detail: String::new() },
        None => SendError::Unexpected {
            status: 200,
            detail: format!("it says `{}` of the message", printable(code)),
        },
    }
}

/// Whether a refusal is for what was sent, so that less of it, or another message, may pass.
fn is_for_the_content(error: &SendError) -> bool {
    match error {
        SendError::TooLarge { .. } => true,
        SendError::Refused { status, code, .. } => match code {
            Some(code) => matches!(
                code,
                ProblemCode::TooLarge
                    | ProblemCode::MalformedFrame
                    | ProblemCode::NotAnObject
                    | ProblemCode::IdReused
            ),
            None => *status == ProblemCode::TooLarge.status(),
        },
        _ => false,
    }
}

/// What a message of a batch meets that found no room.
pub(crate) fn no_room() -> Fault {
    let code = ProblemCode::InboxFull;
    let error = SendError::Refused {
        status: code.status(),
        code: Some(code),
        detail: "no message of the batch found room".to_owned(),
    };
    Fault { error, next: Next::Wait(None) }
}

impl Sender {
    /// Sends what of a batch is open, when it has its turn, until something becomes known of some of it. Where its turn does not
    /// come, nothing becomes known.
    pub(crate) async fn submit_in_turn<T>(
        &self,
        batch: &mut Batch,
        turn: Turn,
        done: &mut oneshot::Sender<T>,
    ) -> Result<(), SendError> {
        if let Some(Before(mut before)) = turn.before {
            self.make_ready(batch);
            let learned = poll_fn(|cx| match done.poll_closed(cx) {
                // Nobody waits for it any more.
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => Pin::new(&mut before).poll(cx).map(Result::ok),
            });
            match learned.await {
                Some(learned) => batch.learn(learned),
                None => return Ok(()),
            }
        }
        if !batch.is_answered() {
            let errand = Errand::new(Instant::now() + self.deadline, self.deadline, done);
            self.submit_batch(batch, &errand).await?;
        }
        if batch.is_answered() {
            // Where none stands behind it, nobody needs to know.
            let _ = turn.next.send(batch.learned());
        }
        Ok(())
    }

    /// Sends what of a batch is open, until something becomes known of some of it.
    async fn submit_batch(&self, batch: &mut Batch, errand: &Errand<'_>) -> Result<(), SendError> {
        if mem::take(&mut batch.is_refused_for_room) {
            let left = errand.deadline_at.saturating_duration_since(Instant::now());
            let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
            if let Some(pause) = Pauses::new().next(None, left, random) {
                errand.unless_given_up(sleep(pause)).await.map_err(|fault| fault.error)?;
            }
        }
        let result =
            self.persist(errand, async |used| self.batch_once(&mut *batch, errand, used).await).await;
        result.map_err(|error| if batch.is_in_doubt() { error.in_doubt() } else { error })
    }

    /// Makes one attempt at all of a batch, in as many pieces as it takes. What is still open afterwards, if that went well,
    /// found no room.
    pub(crate) async fn submit_whole(
        &self,
        batch: &mut Batch,
        errand: &Errand<'_>,
        used: &mut Generation,
        permit: &SemaphorePermit<'_>,
    ) -> Result<(), Fault> {
        while !batch.is_answered() && !batch.is_refused_for_room {
            self.pieces_once(batch, errand, used, permit).await?;
        }
        Ok(())
    }

    async fn batch_once(
        &self,
        batch: &mut Batch,
        errand: &Errand<'_>,
        used: &mut Generation,
    ) -> Result<(), Fault> {
        let permit = self.permit(&self.permits, errand).await?;
        self.pieces_once(batch, errand, used, &permit).await
    }

    /// Sends pieces of a batch, smaller ones where the server takes no larger ones, until something becomes known of a message.
    async fn pieces_once(
        &self,
        batch: &mut Batch,
        errand: &Errand<'_>,
        used: &mut Generation,
        permit: &SemaphorePermit<'_>,
    ) -> Result<(), Fault> {
        loop {
            let piece = batch.piece();
            let fault = match self.piece_once(batch, &piece, errand, used, permit).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(no_room()),
                Err(fault) => fault,
            };
            if !is_for_the_content(&fault.error) {
                if fault.error.outcome() == Outcome::NotKnown {
                    batch.doubt(&piece);
                }
                return Err(fault);
            }
            match piece[..] {
                [position] => {
                    let error = if position < batch.doubt_end { fault.error.in_doubt() } else { fault.error };
                    batch.settle(position, Fate::Refused(error));
                    // It was this message; the others need not go in small pieces for it.
                    batch.piece_max = None;
                    return Ok(());
                }
                // Which message it was, or how many are too many, shows in halves.
                _ => {
                    log::debug!("{} messages at once were refused: {}", piece.len(), fault.error);
                    batch.piece_max = Some((piece.len() / 2).max(1));
                }
            }
        }
    }

    /// Seals all of a batch ahead, where it is short.
    fn make_ready(&self, batch: &mut Batch) {
        let piece = batch.piece();
        let is_whole = piece.len() == batch.len() && piece.len() > 1;
        if is_whole && batch.bytes <= READY_BYTES_MAX && !self.is_ready(batch, &piece) {
            // What fails here fails again, or not, when it is its turn.
            batch.ready = self.seal_piece(batch, &piece).ok().map(Box::new);
            if let Some(ready) = &mut batch.ready {
                ready.sealed.finish();
            }
        }
    }

    /// Whether what is sealed of a batch is this piece of it, with the session of now and a time that is near.
    fn is_ready(&self, batch: &Batch, piece: &[usize]) -> bool {
        batch.ready.as_ref().is_some_and(|ready| {
            piece.len() == batch.len()
                && ready.session == self.session.generation()
                && ready.sealed.is_fresh()
        })
    }

    /// Seals messages, as far as they are not sealed while they are sent.
    fn seal_piece(&self, batch: &Batch, piece: &[usize]) -> Result<Ready, Fault> {
        let id = self.draw_id().map_err(give_up)?;
        let write = |buffer: &mut Vec<u8>| batch.write(piece, buffer);
        let mut session = 0;
        let sealed =
            self.seal_with_session(Route::MessageBatch, id, (batch.bytes + 2, write), &mut session)?;
        Ok(Ready { id, sealed, session })
    }

    /// Sends these messages once; `false` if the answer tells nothing of any of them.
    async fn piece_once(
        &self,
        batch: &mut Batch,
        piece: &[usize],
        errand: &Errand<'_>,
        used: &mut Generation,
        permit: &SemaphorePermit<'_>,
    ) -> Result<bool, Fault> {
        // One alone is a send: that has the fewest bytes and levels around it.
        if let [position] = *piece {
            let Entry { id, body, .. } = &batch.entries[position];
            let sent = self.submit_once(*id, body, errand, used, permit).await?;
            batch.end_doubt(piece);
            batch.settle(position, if sent.duplicate { Fate::Duplicate } else { Fate::Sent });
            return Ok(true);
        }
        let ready = if self.is_ready(batch, piece) { batch.ready.take() } else { None };
        let Ready { id, sealed, session } = match ready {
            Some(ready) => *ready,
            None => self.seal_piece(batch, piece)?,
        };
        *used = session;
        let answer = self.post(Route::MessageBatch, sealed, errand, permit).await?;
        if answer.status != 200 {
            return Err(self.refusal(&answer));
        }
        let reply: BatchReply = self.read_reply(id, &answer, |body| serde_json::from_str(body).ok())?;
        batch
            .apply(piece, &reply)
            .map_err(|detail| give_up(SendError::Unexpected { status: 200, detail: detail.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(messages: u8) -> Batch {
        let mut batch = Batch::default();
        for n in 0..messages {
            batch.push(MessageId::from_bytes([n; 16]), format!(r#"{{"n":{n}}}"#));
        }
        batch
    }

    fn reply(accepted: u32, full_from: Option<u32>, others: &[(u32, &str)]) -> BatchReply {
        let others =
            others.iter().map(|(index, code)| BatchOutcome { index: *index, code: (*code).to_owned() });
        BatchReply { accepted, full_from, others: others.collect() }
    }

    /// `s`ent, `d`uplicate, `r`efused, from a position on.
    fn fates(batch: &mut Batch, from: usize) -> String {
        let letter = |fate| match fate {
            Fate::Sent => 's',
            Fate::Duplicate => 'd',
            Fate::Refused(_) => 'r',
        };
        batch.take_fates(from).into_iter().map(letter).collect()
    }

    #[test]
    fn an_answer_is_told_of_each_message() {
        let mut batch = batch(4);
        let piece = batch.piece();
        assert_eq!(batch.apply(&piece, &reply(2, None, &[(1, "duplicate"), (3, "id_reused")])), Ok(true));
        assert!(batch.is_answered());
        assert_eq!(fates(&mut batch, 0), "sdsr");
    }

    #[test]
    fn what_found_no_room_stays_open_and_goes_first() {
        let mut batch = batch(5);
        let piece = batch.piece();
        assert_eq!(batch.apply(&piece, &reply(2, Some(2), &[])), Ok(true));
        assert!(batch.is_refused_for_room);
        assert_eq!((fates(&mut batch, 0).as_str(), batch.piece()), ("ss", vec![2, 3, 4]));
        let piece = batch.piece();
        assert_eq!(batch.apply(&piece, &reply(0, Some(0), &[])), Ok(false));
        assert_eq!(batch.apply(&piece, &reply(3, None, &[])), Ok(true));
        assert_eq!(fates(&mut batch, 2), "sss");
        assert!(!batch.is_refused_for_room);
    }

    #[test]
    fn a_later_message_that_is_answered_is_not_sent_again_and_casts_doubt_on_the_earlier() {
        let mut batch = batch(4);
        let piece = batch.piece();
        assert_eq!(batch.apply(&piece, &reply(1, Some(1), &[(3, "duplicate")])), Ok(true));
        assert_eq!(batch.piece(), [1, 2]);
        assert!(batch.is_in_doubt());
        assert_eq!(fates(&mut batch, 0), "s", "told in order");
        let piece = batch.piece();
        assert_eq!(batch.apply(&piece, &reply(2, None, &[])), Ok(true));
        assert_eq!(fates(&mut batch, 1), "ssd");
    }

    #[test]
    fn doubt_ends_with_an_answer_to_all_that_it_was_about() {
        let mut batch = batch(4);
        let piece = batch.piece();
        batch.doubt(&piece);
        assert!(batch.is_in_doubt());
        batch.piece_max = Some(2);
        let half = batch.piece();
        assert_eq!(half, [0, 1]);
        assert_eq!(batch.apply(&half, &reply(2, None, &[])), Ok(true));
        assert!(batch.is_in_doubt(), "the other half was not answered");
        let half = batch.piece();
        assert_eq!(batch.apply(&half, &reply(0, Some(0), &[])), Ok(false));
        assert!(!batch.is_in_doubt());
    }

    #[test]
    fn an_answer_that_does_not_add_up_is_none() {
        for wrong in [
            reply(3, None, &[]),
            reply(5, None, &[]),
            reply(4, None, &[(1, "duplicate")]),
            reply(3, None, &[(4, "duplicate")]),
            reply(3, None, &[(1, "duplicate"), (1, "duplicate")]),
            reply(4, Some(5), &[]),
            reply(4, Some(2), &[]),
            reply(u32::MAX, Some(u32::MAX), &[]),
        ] {
            let mut batch = batch(4);
            let piece = batch.piece();
            assert!(batch.apply(&piece, &wrong).is_err(), "{wrong:?}");
            assert_eq!(batch.piece().len(), 4, "nothing is believed of it");
        }
    }

    #[test]
    fn a_message_that_cannot_be_sent_has_its_place_and_is_not_sent() {
        let mut batch = batch(1);
        batch.push_refused(SendError::TooLarge { bytes: 2, bytes_max: 1 });
        batch.push(MessageId::from_bytes([7; 16]), "{}".to_owned());
        assert_eq!((batch.len(), batch.piece()), (3, vec![0, 2]));
        let mut text = Vec::new();
        batch.write(&batch.piece(), &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(r#"[{"id":"00000000-"#) && text.ends_with(r#","body":{}}]"#), "{text}");
        assert!(text.len() <= batch.bytes() + 2);
        let piece = batch.piece();
        assert_eq!(batch.apply(&piece, &reply(2, None, &[])), Ok(true));
        assert_eq!(fates(&mut batch, 0), "srs");
    }

    #[test]
    fn a_code_of_a_later_version_is_told_as_it_is() {
        assert!(matches!(refused("id_reused"), SendError::Refused { status: 422, .. }));
        let unknown = refused("new_\u{1b}fangled");
        assert!(unknown.to_string().ends_with("`new_fangled` of the message"), "{unknown}");
    }

    #[test]
    fn only_what_another_content_would_mend_is_for_the_content() {
        let refused = |code: ProblemCode| SendError::Refused {
            status: code.status(),
            code: Some(code),
            detail: String::new(),
        };
        assert!(is_for_the_content(&refused(ProblemCode::TooLarge)));
        assert!(is_for_the_content(&SendError::Refused { status: 413, code: None, detail: String::new() }));
        for code in [ProblemCode::WrongCertificate, ProblemCode::InboxFull, ProblemCode::MalformedEnvelope] {
            assert!(!is_for_the_content(&refused(code)), "{code}");
        }
        assert!(!is_for_the_content(&SendError::BadCredentials { username: "a".into(), from_home: false }));
    }
}
