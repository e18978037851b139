//! Decides about messages that are put: store them, answer them as known, or refuse them for lack
//! of room.
//!
//! The writer calls this code with the waiting puts and, if it has asked the file, with the ids
//! that the file knows. Only the writer changes the file, so the decision holds until the commit.
//! Nothing here touches the file.

use tokio::time::Instant;

use super::statements::{self, Accepted, KnownIds};
use super::user_ids::UserRoom;
use crate::backend::{Put, PutError};
use crate::message::Message;

/// What the file can still take.
#[derive(Debug)]
pub(super) struct Available<'u> {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// How many more ids may be remembered.
    pub(super) ids: u64,
    /// How many more ids of each user may be remembered.
    pub(super) users: UserRoom<'u>,
    /// The file has no message.
    pub(super) is_empty: bool,
}

impl Available<'_> {
    /// Takes the room for a message, if there is enough. One message always fits into an empty
    /// inbox.
    fn take(&mut self, bytes: u64) -> Result<(), PutError> {
        if self.messages == 0 || (bytes > self.bytes && !self.is_empty) {
            return Err(PutError::Full);
        }
        self.ids = self.ids.checked_sub(1).ok_or(PutError::RememberedFull)?;
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_empty = false;
        Ok(())
    }
}

/// How many of the new messages may be prefetched: stored as delivered and kept in memory, so that
/// they need not be read again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prefetch {
    pub(super) messages: usize,
    /// How many bytes of bodies.
    pub(super) bytes: u64,
    /// The first message may have more bytes than that.
    pub(super) any_first: bool,
}

impl Prefetch {
    /// Whether a message may be prefetched. After one that may not, no later one may: the order
    /// would break.
    fn take(&mut self, bytes: u64) -> bool {
        if self.messages == 0 || (bytes > self.bytes && !self.any_first) {
            self.messages = 0;
            return false;
        }
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.any_first = false;
        true
    }
}

/// Messages that were put together, and how long they may wait for room.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) messages: &'a [Message],
    pub(super) until: Instant,
}

/// The decision, before it is committed.
#[derive(Debug, Default)]
pub(super) struct Admission<'a> {
    /// The messages to store, in order.
    pub(super) accepted: Vec<Accepted<'a>>,
    /// The answers to each put, at the same index; `None` for a put that keeps waiting.
    pub(super) answers: Vec<Option<Vec<Result<Put, PutError>>>>,
}

/// Decides about all waiting puts, in order: no message overtakes one that waits for room. A
/// message of a user with as many ids as one may have is refused at once: others do not wait behind
/// it.
///
/// `known` maps the keys of earlier messages to the hashes of their bodies. `next_seq` is the
/// number of the next message.
pub(super) fn admit<'a>(
    waiting: impl Iterator<Item = Waiting<'a>>,
    mut known: KnownIds,
    mut room: Available<'_>,
    mut next_seq: i64,
    mut prefetch: Prefetch,
    now: Instant,
) -> Admission<'a> {
    let mut admission = Admission::default();
    let mut lack = None;
    for Waiting { messages, until } in waiting {
        let accepted_before = admission.accepted.len();
        let (mut own_lack, mut found_no_room) = (lack, false);
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            let (key, body_hash) =
                (statements::key_of(message), statements::body_hash(&message.body));
            let bytes = message.body.len() as u64;
            let found = match known.get(&key) {
                Some(first) if *first == body_hash => Ok(Some(Put::Duplicate)),
                Some(_) => Err(PutError::IdReused),
                None if room.users.is_full(&message.user) => {
                    answers.push(Err(PutError::RememberedFull));
                    continue;
                }
                // Keeps the order: no message overtakes one that found no room.
                None => match own_lack {
                    Some(lack) => Err(lack),
                    None => room.take(bytes).map(|()| None),
                },
            };
            answers.push(match found {
                Ok(Some(put)) => Ok(put),
                Err(PutError::IdReused) => Err(PutError::IdReused),
                Err(error) => {
                    (own_lack, found_no_room) = (Some(error), true);
                    Err(error)
                }
                Ok(None) => {
                    room.users.take(&message.user);
                    known.insert(key, body_hash);
                    let deliveries = u32::from(prefetch.take(bytes));
                    admission.accepted.push(Accepted {
                        seq: next_seq,
                        message,
                        body_hash,
                        deliveries,
                    });
                    next_seq += 1;
                    Ok(Put::Accepted)
                }
            });
        }
        let found_nothing = found_no_room && admission.accepted.len() == accepted_before;
        lack = lack.or(own_lack);
        admission.answers.push((!found_nothing || now >= until).then_some(answers));
    }
    admission
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;
    use std::time::{Duration, SystemTime};

    use ipc_protocol::MessageId;

    use super::super::user_ids::{IdsOfEach, UserIds};

    fn message(number: u8, body: &str) -> Message {
        Message {
            id: MessageId::from_random([number; 16]),
            user: "u".into(),
            certificate: None,
            peer: None,
            received_at: SystemTime::UNIX_EPOCH,
            body: body.into(),
            wants_reply: false,
        }
    }

    fn room(messages: u64, bytes: u64) -> Available<'static> {
        static USERS: LazyLock<UserIds> = LazyLock::new(|| UserIds::new(IdsOfEach::default(), 100));
        Available { messages, bytes, ids: 100, users: UserRoom::new(&USERS), is_empty: false }
    }

    fn decide<'a>(
        puts: &'a [Vec<Message>],
        known: &[&Message],
        room: Available<'_>,
        is_due: bool,
    ) -> Admission<'a> {
        let prefetch = Prefetch { messages: 1, bytes: 99, any_first: true };
        let now = Instant::now();
        let until = if is_due { now } else { now + Duration::from_secs(1) };
        let known = known
            .iter()
            .map(|message| (statements::key_of(message), statements::body_hash(&message.body)))
            .collect();
        admit(
            puts.iter().map(|messages| Waiting { messages, until }),
            known,
            room,
            7,
            prefetch,
            now,
        )
    }

    #[test]
    fn what_is_accepted_is_numbered_in_order_and_the_first_goes_out_at_once() {
        let puts = [vec![message(1, "{}"), message(2, "{}")], vec![message(3, "{}")]];
        let admission = decide(&puts, &[], room(9, 99), false);
        let stored: Vec<_> =
            admission.accepted.iter().map(|one| (one.seq, one.deliveries)).collect();
        assert_eq!(stored, [(7, 1), (8, 0), (9, 0)]);
        assert_eq!(
            admission.answers,
            [Some(vec![Ok(Put::Accepted); 2]), Some(vec![Ok(Put::Accepted)])]
        );
    }

    #[test]
    fn a_message_that_is_known_needs_no_room_whether_from_the_file_or_from_beside() {
        let (first, other) = (message(1, "{}"), message(1, r#"{"a":1}"#));
        let twice = message(2, "{}");
        let puts = [vec![twice.clone(), twice], vec![first.clone(), other]];
        let admission = decide(&puts, &[&first], room(1, 99), false);
        assert_eq!(
            admission.answers,
            [
                Some(vec![Ok(Put::Accepted), Ok(Put::Duplicate)]),
                Some(vec![Ok(Put::Duplicate), Err(PutError::IdReused)])
            ]
        );
        assert_eq!(admission.accepted.len(), 1);
    }

    #[test]
    fn none_overtakes_one_that_waits_for_room() {
        let puts =
            [vec![message(1, "{}")], vec![message(2, "{\"long\":true}")], vec![message(3, "{}")]];
        let admission = decide(&puts, &[], room(9, 5), false);
        assert_eq!(admission.accepted.len(), 1, "the third would fit");
        assert_eq!(admission.answers, [Some(vec![Ok(Put::Accepted)]), None, None]);
        let admission = decide(&puts, &[], room(9, 5), true);
        let full = || Some(vec![Err(PutError::Full)]);
        assert_eq!(
            admission.answers,
            [Some(vec![Ok(Put::Accepted)]), full(), full()],
            "time is over"
        );
    }

    #[test]
    fn who_needs_no_room_does_not_wait_behind_who_does() {
        let known = message(1, "{}");
        let puts = [vec![message(2, "{}")], vec![known.clone()], vec![message(1, "[]")]];
        let admission = decide(&puts, &[&known], room(0, 99), false);
        let reused = Some(vec![Err(PutError::IdReused)]);
        assert_eq!(admission.answers, [None, Some(vec![Ok(Put::Duplicate)]), reused]);
    }

    #[test]
    fn a_batch_that_finds_room_in_part_waits_no_longer() {
        let puts = [vec![message(1, "{}"), message(2, "{}")]];
        let admission = decide(&puts, &[], room(1, 99), false);
        assert_eq!(admission.answers, [Some(vec![Ok(Put::Accepted), Err(PutError::Full)])]);
    }

    #[test]
    fn no_more_ids_are_remembered_than_may_be() {
        let room = Available { ids: 1, ..room(9, 99) };
        let puts = [vec![message(1, "{}"), message(2, "{}")]];
        let admission = decide(&puts, &[], room, false);
        assert_eq!(
            admission.answers,
            [Some(vec![Ok(Put::Accepted), Err(PutError::RememberedFull)])]
        );
    }

    #[test]
    fn a_user_with_as_many_ids_as_one_may_have_is_refused_at_once_and_nobody_waits_behind() {
        let users = UserIds::new(IdsOfEach::from_iter([("u".into(), 1)]), 2);
        let room = Available { users: UserRoom::new(&users), ..room(9, 99) };
        let known = message(1, "{}");
        let other = Message { user: "other".into(), ..message(4, "{}") };
        let puts = [
            vec![message(2, "{}"), message(3, "{}"), known.clone()],
            vec![message(5, "{}")],
            vec![other],
        ];
        let admission = decide(&puts, &[&known], room, false);
        let refused = || Err(PutError::RememberedFull);
        assert_eq!(
            admission.answers,
            [
                Some(vec![Ok(Put::Accepted), refused(), Ok(Put::Duplicate)]),
                Some(vec![refused()]),
                Some(vec![Ok(Put::Accepted)]),
            ]
        );
    }

    #[test]
    fn one_message_fits_into_an_empty_inbox_however_long() {
        let empty = || Available { is_empty: true, ..room(9, 1) };
        let puts = [vec![message(1, "{\"a\":1}"), message(2, "{}")]];
        let admission = decide(&puts, &[], empty(), false);
        assert_eq!(admission.answers, [Some(vec![Ok(Put::Accepted), Err(PutError::Full)])]);
    }

    #[test]
    fn as_many_go_out_at_once_as_may_and_none_behind_one_that_may_not() {
        let taken = |mut prefetch: Prefetch, lengths: &[u64]| -> Vec<bool> {
            lengths.iter().map(|bytes| prefetch.take(*bytes)).collect()
        };
        let prefetch = Prefetch { messages: 2, bytes: 10, any_first: false };
        assert_eq!(taken(prefetch, &[5, 5, 0]), [true, true, false]);
        assert_eq!(taken(prefetch, &[5, 6, 1]), [true, false, false]);
        assert_eq!(taken(prefetch, &[11, 1]), [false, false]);
        assert_eq!(
            taken(Prefetch { any_first: true, ..prefetch }, &[11, 0, 0]),
            [true, true, false]
        );
        assert_eq!(taken(Prefetch::default(), &[0]), [false]);
    }
}
